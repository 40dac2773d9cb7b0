"""A read-only shell over in-memory files.

It parses a useful part of bash (quotes, globs, `|`, `&&`, `||`, `;`, `2>/dev/null`) and prints what the real programs would.
It never touches the machine's own files and programs.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openreward_gym.serve.examples.shell_programs import PROGRAMS, FileTree, Result, ShellError

MAX_OUTPUT_CHARS = 10_000
"""Maximum output per command line; longer output is cut, and a note says so."""

_WILDCARD = re.compile(r"[*?[]")
_OPERATORS = ("&&", "||", "|", ";", "\n")
_REDIRECTION = re.compile(r"2>\s*(/dev/null|&1)")
_WORD = re.compile(r"""(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|\\\Z|[^ \t\r\n|;<>&`()'"\\])*""", re.DOTALL)
_PART_OF_WORD = re.compile(r"""'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)|(.)""", re.DOTALL)
# Markers for `2>&1` and `2>/dev/null` among the words of a command. `run` removes NULs from the input, so words contain none.
_REDIRECTIONS = _MERGE, _DISCARD = ("\0merge", "\0discard")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The output and the exit code of a command line."""

    output: str
    exit_code: int = 0


@dataclass(slots=True)
class Shell:
    """A shell session over the files of `tree`.

    Example:
        >>> shell = Shell(FileTree({"/home/notes.txt": b"one\\ntwo\\n"}, home="/home"))
        >>> shell.run("cat notes.txt | wc -l").output
        '2\\n'
    """

    tree: FileTree

    def run(self, line: str) -> Outcome:
        """Run a command line and return what a terminal would show."""
        try:
            output, code = self._run_list(line.replace("\0", ""))
        except ShellError as error:
            output, code = f"bash: {error}\n", 2
        if len(output) > MAX_OUTPUT_CHARS:
            output = f"{output[:MAX_OUTPUT_CHARS]}\n[output cut after {MAX_OUTPUT_CHARS} of {len(output)} characters]\n"
        return Outcome(output, code)

    def _run_list(self, line: str) -> tuple[str, int]:
        output: list[str] = []
        code = 0
        operator = ";"
        pipeline: list[list[str]] = [[]]
        for text, is_word in [*_tokens(line), (";", False)]:
            if is_word:
                pipeline[-1] += self._expand(text)
            elif text == "|":
                pipeline.append([])
            else:
                condition = {"&&": code == 0, "||": code != 0}.get(operator, True)
                if condition and pipeline != [[]]:
                    printed, code = self._run_pipeline(pipeline)
                    output.append(printed)
                operator, pipeline = text, [[]]
        return "".join(output), code

    def _run_pipeline(self, pipeline: Sequence[Sequence[str]]) -> tuple[str, int]:
        data, errors, code = b"", "", 0
        for position, words in enumerate(pipeline):
            if not words:
                raise ShellError("syntax error near unexpected token `|'")
            name, *arguments = words
            arguments, redirections = [w for w in arguments if w not in _REDIRECTIONS], {*arguments} & {*_REDIRECTIONS}
            result = self._run_command(name, arguments, data if position else None)
            data, code = result.stdout, result.code
            if _MERGE in redirections:
                data += result.stderr.encode("utf-8", "replace")
            elif _DISCARD not in redirections:
                errors += result.stderr
        return data.decode("utf-8", "replace") + errors, code

    def _run_command(self, name: str, arguments: Sequence[str], stdin: bytes | None) -> Result:
        command = PROGRAMS.get(posixpath.basename(name))
        if command is None:
            return Result(stderr=f"bash: {name}: command not found (there are: {', '.join(sorted(PROGRAMS))})\n", code=127)
        try:
            return command(self.tree, arguments, stdin)
        except ShellError as error:
            return Result(stderr=f"{error}\n", code=2)

    def _expand(self, word: str) -> list[str]:
        """Return the word without quotes, or the paths that match it if it has an unquoted `*`, `?` or `[`."""
        plain, pattern = _unquote(word)
        if pattern is None:
            return [plain]
        matches = [path for path in self._glob_paths(plain) if fnmatch.fnmatchcase(path, pattern)]
        return sorted(matches) or [plain]

    def _glob_paths(self, word: str) -> Iterator[str]:
        depth = word.count("/")
        for full in (self.tree.directories | self.tree.files.keys()) - {"/"}:
            path = full if word.startswith("/") else posixpath.relpath(full, self.tree.cwd)
            parts = zip(path.split("/"), word.split("/"), strict=False)
            hidden = any(part.startswith(".") and not pattern.startswith(".") for part, pattern in parts)
            if path.count("/") == depth and not hidden:
                yield path


def _tokens(line: str) -> Iterator[tuple[str, bool]]:
    """Yield the words (still quoted) and operators of a command line, as `(text, is_word)`."""
    position = 0
    while position < len(line):
        if redirection := _REDIRECTION.match(line, position):
            yield _REDIRECTIONS[redirection[1] == "/dev/null"], True
            position = redirection.end()
        elif operator := next((op for op in _OPERATORS if line.startswith(op, position)), None):
            yield operator, False
            position += len(operator)
        elif line[position] in " \t\r":
            position += 1
        elif line[position] == "#":
            position = line.find("\n", position) if "\n" in line[position:] else len(line)
        elif line[position] in "<>&`$()":
            raise ShellError(f"'{line[position]}' is not supported: this shell only reads, with pipes, &&, || and ;")
        else:
            word = _WORD.match(line, position)
            position = word.end() if word else len(line)
            if line[position : position + 1] in ("'", '"'):
                raise ShellError(f"unexpected EOF while looking for matching `{line[position]}'")
            yield word[0] if word else "", True


def _unquote(word: str) -> tuple[str, str | None]:
    """Return the word without quotes and its fnmatch pattern; the pattern is None for a word without wildcards."""
    plain, pattern, is_glob = "", "", False
    for part in _PART_OF_WORD.finditer(word):
        single, double, escaped, bare = part.groups()
        if bare is not None:
            plain, pattern, is_glob = plain + bare, pattern + bare, is_glob or bool(_WILDCARD.match(bare))
            continue
        text = re.sub(r'\\(["\\$`])', r"\1", double) if double is not None else single or escaped or ""
        plain, pattern = plain + text, pattern + _WILDCARD.sub(r"[\g<0>]", text)
    return plain, pattern if is_glob else None
