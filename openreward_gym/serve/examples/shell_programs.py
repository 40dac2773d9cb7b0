"""The in-memory file tree of the shell, and the programs that read it.

A program is a function of the file tree, its arguments and its standard input (None if nothing is piped in).
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import getopt
import itertools
import math
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

# Worst-case number of steps for the regular expressions of one grep: a few seconds.
_GREP_WORK = 500_000_000


class ShellError(Exception):
    """A command line or an option that the shell refuses. The message is what a terminal would show."""


@dataclass(slots=True)
class FileTree:
    """A read-only file tree with a current directory.

    Attributes:
        files: Contents by absolute path. All parent directories of the paths, of `home` and of `cwd` exist.
        home: The home directory (`~`).
        cwd: The current directory; empty means `home`.
    """

    files: Mapping[str, bytes]
    home: str = "/"
    cwd: str = ""
    directories: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.cwd = self.cwd or self.home
        directories = {"/", self.home, self.cwd}
        for path in [*self.files, *directories]:
            while path != "/":
                path = posixpath.dirname(path)
                directories.add(path)
        self.directories = frozenset(directories)

    def resolve(self, path: str) -> str:
        """Return `path` as an absolute, normalised path."""
        if path == "~" or path.startswith("~/"):
            path = self.home + path[1:]
        return "/" + posixpath.normpath(posixpath.join(self.cwd, path)).lstrip("/")

    def is_directory(self, path: str) -> bool:
        return self.resolve(path) in self.directories

    def read(self, path: str) -> bytes:
        """Return the contents of a file, or raise a ShellError."""
        full = self.resolve(path)
        if full in self.directories:
            raise ShellError(f"{path}: Is a directory")
        if full not in self.files:
            raise ShellError(f"{path}: No such file or directory")
        return self.files[full]

    def entries(self, directory: str) -> list[str]:
        """Return the names in a directory, sorted."""
        full = self.resolve(directory)
        paths = {*self.files, *self.directories} - {"/"}
        return sorted(posixpath.basename(path) for path in paths if posixpath.dirname(path) == full)

    def walk(self, path: str) -> Iterator[str]:
        """Yield `path` and everything below it, depth first. Each result starts with `path` as written."""
        yield path
        if self.is_directory(path):
            for name in self.entries(path):
                yield from self.walk(posixpath.join(path, name))


@dataclass(frozen=True, slots=True)
class Result:
    """The output, the errors and the exit code of a program."""

    stdout: bytes = b""
    stderr: str = ""
    code: int = 0


Program: TypeAlias = Callable[[FileTree, Sequence[str], "bytes | None"], Result]


def _options(name: str, arguments: Sequence[str], short: str) -> tuple[dict[str, str], list[str]]:
    """Parse options (with their values) and operands. `short` is in the notation of getopt."""
    try:
        pairs, operands = getopt.gnu_getopt(list(arguments), short)
    except getopt.GetoptError as error:
        raise ShellError(f"{name}: {error.msg} (options known here: {short.replace(':', '')})") from None
    return {flag.lstrip("-"): value for flag, value in pairs}, operands


def _inputs(name: str, tree: FileTree, operands: Sequence[str], stdin: bytes | None) -> tuple[list[tuple[str, bytes]], str]:
    """Return the contents of the named files (of standard input, if none is named) and the error messages."""
    if not operands:
        return [("(standard input)", stdin or b"")], ""
    contents, errors = [], ""
    for path in operands:
        try:
            contents.append((path, (stdin or b"") if path == "-" else tree.read(path)))
        except ShellError as error:
            errors += f"{name}: {error}\n"
    return contents, errors


def _filter(name: str, short: str, change: Callable[[bytes, dict[str, str]], bytes]) -> Program:
    """Return a program that applies `change` to each of its inputs."""

    def program(tree: FileTree, arguments: Sequence[str], stdin: bytes | None) -> Result:
        options, operands = _options(name, arguments, short)
        contents, errors = _inputs(name, tree, operands, stdin)
        return Result(b"".join(change(data, options) for _, data in contents), errors, 1 if errors else 0)

    return program


def _number(name: str, value: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,9}", value):
        raise ShellError(f"{name}: invalid number: '{value}'")
    return int(value)


def _end(name: str, choose: Callable[[int, int, bool], slice]) -> Program:
    """Return `head` or `tail`.

    `choose` maps the total number of lines (or bytes), the requested number, and whether that had a plus sign to a slice.
    """

    def change(data: bytes, options: dict[str, str]) -> bytes:
        number = options.get("c", options.get("n", "10"))
        parts: bytes | list[bytes] = data if "c" in options else data.splitlines(True)
        chosen = parts[choose(len(parts), _number(name, number), number.startswith("+"))]
        return chosen if isinstance(chosen, bytes) else b"".join(chosen)

    base = _filter(name, "n:c:", change)
    return lambda tree, arguments, stdin: base(tree, [re.sub(r"^-(\d+)\Z", r"-n\1", word) for word in arguments], stdin)


def _last(total: int, count: int, plus: bool) -> slice:
    return slice(max(count - 1, 0) if plus else max(total - abs(count), 0), None)


def _ls(tree: FileTree, arguments: Sequence[str], stdin: bytes | None) -> Result:
    options, operands = _options("ls", arguments, "alAR1h")
    files, folders, errors = "", [], ""
    for path in operands or ["."]:
        full = tree.resolve(path)
        if full in tree.files:
            files += _entry(tree, full, path, options)
        elif not tree.is_directory(path):
            errors += f"ls: cannot access '{path}': No such file or directory\n"
        else:
            folders += [p for p in tree.walk(path) if tree.is_directory(p)] if "R" in options else [path]
    titled = "R" in options or len(operands) > 1
    shown = [f"{folder}:\n" * titled + "".join(_listing(tree, folder, options)) for folder in folders]
    return Result("\n".join([files] * bool(files) + shown).encode("utf-8", "replace"), errors, 2 if errors else 0)


def _listing(tree: FileTree, directory: str, options: Mapping[str, str]) -> Iterator[str]:
    everything = "a" in options or "A" in options
    names = [name for name in tree.entries(directory) if everything or not name.startswith(".")]
    for name in [".", "..", *names] if "a" in options else names:
        yield _entry(tree, tree.resolve(posixpath.join(directory, name)), name, options)


def _entry(tree: FileTree, full: str, name: str, options: Mapping[str, str]) -> str:
    if "l" not in options:
        return f"{name}\n"
    mode, size = ("dr-xr-xr-x", 4096) if tree.is_directory(full) else ("-r--r--r--", len(tree.files[full]))
    return f"{mode} 1 ctf ctf {size:>6} Jan  1 00:00 {name}\n"


def _find(tree: FileTree, arguments: Sequence[str], stdin: bytes | None) -> Result:
    words = list(arguments)
    roots: list[str] = []
    while words and not words[0].startswith("-"):
        roots.append(words.pop(0))
    tests: list[Callable[[str], bool]] = []
    while words:
        test = words.pop(0)
        if test in ("-print", "-readable"):
            continue
        if not words:
            raise ShellError(f"find: missing argument to `{test}'")
        tests.append(_find_test(tree, test, words.pop(0)))
    paths, errors = [], ""
    for root in roots or ["."]:
        if tree.resolve(root) not in tree.files and not tree.is_directory(root):
            errors += f"find: '{root}': No such file or directory\n"
            continue
        paths += [path for path in tree.walk(root) if all(test(path) for test in tests)]
    return Result("".join(f"{path}\n" for path in paths).encode("utf-8", "replace"), errors, 1 if errors else 0)


def _find_test(tree: FileTree, test: str, value: str) -> Callable[[str], bool]:
    if test == "-name":
        return lambda path: fnmatch.fnmatchcase(posixpath.basename(path), value)
    if test == "-iname":
        return lambda path: fnmatch.fnmatchcase(posixpath.basename(path).lower(), value.lower())
    if test == "-type" and value in ("f", "d"):
        return lambda path: tree.is_directory(path) == (value == "d")
    raise ShellError(f"find: unknown predicate `{test} {value}' (supported: -name, -iname, -type f, -type d)")


def _grep(tree: FileTree, arguments: Sequence[str], stdin: bytes | None) -> Result:
    options, operands = _options("grep", arguments, "rRinlvcohHEFwe:s")
    if "e" not in options:
        if not operands:
            raise ShellError("grep: a pattern is missing")
        options["e"] = operands.pop(0)
    matches = _line_matcher(options)
    recursive = "r" in options or "R" in options
    several = len(operands) > 1 or (recursive and (not operands or tree.is_directory(operands[0])))
    if recursive:
        operands = [path for root in operands or ["."] for path in tree.walk(root) if not tree.is_directory(path)]
    contents, errors = _inputs("grep", tree, operands, stdin) if operands or not recursive else ([], "")
    titled = "h" not in options and ("H" in options or several)
    printed = [_grep_file(path if titled else "", path, data, matches, options) for path, data in contents]
    output = "".join(text for text, _ in printed).encode("utf-8", "replace")
    return Result(output, "" if "s" in options else errors, 0 if any(matched for _, matched in printed) else 1)


def _grep_file(
    title: str, path: str, data: bytes, matches: Callable[[str], list[str]], options: Mapping[str, str]
) -> tuple[str, bool]:
    """Return the output of grep for one file, and True if a line matched."""
    prefix = f"{title}:" if title else ""
    hits: list[str] = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        parts = matches(line)
        if bool(parts) != ("v" in options):
            where = f"{prefix}{number}:" if "n" in options else prefix
            hits += [f"{where}{part}\n" for part in parts] if "o" in options else [f"{where}{line}\n"]
    if "l" in options:
        return f"{path}\n" if hits else "", bool(hits)
    return f"{prefix}{len(hits)}\n" if "c" in options else "".join(hits), bool(hits)


def _line_matcher(options: Mapping[str, str]) -> Callable[[str], list[str]]:
    """Return a function from a line to its matching parts, if any."""
    pattern = options["e"]
    if "F" in options:
        pattern = re.escape(pattern)
    elif "E" not in options:
        # In basic expressions these characters are plain unless escaped, the opposite of Python.
        pattern = re.sub(r"\\?[+?|(){}]", lambda match: match[0][1:] if match[0].startswith("\\") else f"\\{match[0]}", pattern)
    repetitions = len(re.findall(r"(?<!\\)[*+?{]", re.sub(r"\[[^]]*\]", "x", pattern)))
    if re.search(r"(?<!\\)\)[*+?{]", pattern):
        raise ShellError("grep: this shell cannot repeat a group")
    if "w" in options:
        pattern = rf"\b(?:{pattern})\b"
    try:
        compiled = re.compile(pattern, re.IGNORECASE if "i" in options else 0)
    except (re.error, OverflowError) as error:
        raise ShellError(f"grep: invalid pattern: {error}") from None
    # Python's regular expressions backtrack: the cost of n repetitions grows with the (n + 1)-th power of the line's length.
    work = 0

    def matches(line: str) -> list[str]:
        nonlocal work
        work += len(line) ** (repetitions + 1) // math.factorial(repetitions + 1)
        if work > _GREP_WORK:
            raise ShellError("grep: too much work: use fewer repetitions (* + ? {}), or look in fewer or shorter lines")
        return [match[0] for match in compiled.finditer(line)] if compiled.search(line) else []

    return matches


def _cat(data: bytes, options: Mapping[str, str]) -> bytes:
    if "n" not in options:
        return data
    return b"".join(b"%6d\t%s" % (number, line) for number, line in enumerate(data.splitlines(True), 1))


def _strings(data: bytes, options: Mapping[str, str]) -> bytes:
    shortest = max(_number("strings", options.get("n", "4")), 1)
    return b"".join(text + b"\n" for text in re.findall(rb"[\x20-\x7e\t]{%d,}" % shortest, data))


def _base64(data: bytes, options: Mapping[str, str]) -> bytes:
    if not {"d", "D"} & options.keys():
        return base64.encodebytes(data) if "w" not in options else base64.b64encode(data)
    try:
        return base64.b64decode(b"".join(data.split()), validate="i" not in options)
    except binascii.Error:
        raise ShellError("base64: invalid input") from None


def _tr(tree: FileTree, arguments: Sequence[str], stdin: bytes | None) -> Result:
    options, sets = _options("tr", arguments, "d")
    text = (stdin or b"").decode("utf-8", "replace")
    if len(sets) != (1 if "d" in options else 2):
        raise ShellError("tr: give two sets of characters, or -d and one")
    old = _characters(sets[0])
    if "d" in options:
        return Result("".join(c for c in text if c not in old).encode())
    new = _characters(sets[1])
    if not new:
        raise ShellError("tr: the second set is empty")
    table = {ord(a): new[min(position, len(new) - 1)] for position, a in reversed(list(enumerate(old)))}
    return Result(text.translate(table).encode())


def _characters(notation: str) -> str:
    """Expand the ranges (`a-z`) and escapes (`\\n`) of a set of characters."""
    notation = notation.replace("\\n", "\n").replace("\\t", "\t")
    return re.sub(r"(.)-(.)", lambda m: "".join(chr(c) for c in range(ord(m[1]), min(ord(m[2]), ord(m[1]) + 255) + 1)), notation)


def _wc(data: bytes, options: Mapping[str, str]) -> bytes:
    counts = {"l": data.count(b"\n"), "w": len(data.split()), "c": len(data)}
    return (" ".join(str(count) for flag, count in counts.items() if not options or flag in options) + "\n").encode()


def _sort(data: bytes, options: Mapping[str, str]) -> bytes:
    lines = [line.rstrip(b"\n") + b"\n" for line in data.splitlines(True)]

    def key(line: bytes) -> tuple[float, bytes]:
        number = re.match(rb"\s*(-?\d+)", line) if "n" in options else None
        return (float(number[1]) if number else 0.0, line)

    if "u" in options:
        lines = list(set(lines))
    lines.sort(key=key, reverse="r" in options)
    return b"".join(lines)


def _uniq(data: bytes, options: Mapping[str, str]) -> bytes:
    return b"".join(line for line, _ in itertools.groupby(data.splitlines(True)))


def _rev(data: bytes, options: Mapping[str, str]) -> bytes:
    lines = data.decode("utf-8", "replace").splitlines(True)
    return "".join(line.rstrip("\n")[::-1] + ("\n" if line.endswith("\n") else "") for line in lines).encode()


def _cd(tree: FileTree, arguments: Sequence[str], stdin: bytes | None) -> Result:
    target = arguments[0] if arguments else "~"
    if not tree.is_directory(target):
        return Result(stderr=f"bash: cd: {target}: No such file or directory\n", code=1)
    tree.cwd = tree.resolve(target)
    return Result()


PROGRAMS: Mapping[str, Program] = {
    "base64": _filter("base64", "dDiw:", _base64),
    "cat": _filter("cat", "n", _cat),
    "cd": _cd,
    "echo": lambda tree, arguments, stdin: Result((" ".join(arguments) + "\n").encode("utf-8", "replace")),
    "find": _find,
    "grep": _grep,
    "head": _end("head", lambda total, count, plus: slice(count)),
    "ls": _ls,
    "pwd": lambda tree, arguments, stdin: Result(f"{tree.cwd}\n".encode()),
    "rev": _filter("rev", "", _rev),
    "sort": _filter("sort", "nru", _sort),
    "strings": _filter("strings", "an:", _strings),
    "tail": _end("tail", _last),
    "tr": _tr,
    "uniq": _filter("uniq", "", _uniq),
    "wc": _filter("wc", "lwc", _wc),
}
"""The shell's programs by name."""
