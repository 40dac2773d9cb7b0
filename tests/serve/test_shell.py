"""The in-memory shell prints the same as bash for the same files and command lines."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openreward_gym.serve.examples.shell import MAX_OUTPUT_CHARS, Shell
from openreward_gym.serve.examples.shell_programs import FileTree

HOME = "/home/ctf"
FILES: Mapping[str, bytes] = {
    "a.txt": b"one\ntwo\nthree\n",
    "b.txt": b"four\nfive",
    "empty": b"",
    ".hidden": b"secret\n",
    "sub/c.txt": b"Two words\nflag{x}\nflag{yy}\n",
    "sub/deep/d.log": b"10\n9\n9\n-3\n",
    "sub/deep/.e": b"e\n",
    "we ird/it's.txt": b"quoted\n",
    "code.b64": b"aGVs\nbG8=\n",
    "binary": b"\x00\x01ab\x00abcd\x00\xffabcdefg\nhij kl\x00",
    "long": b"".join(b"%d\n" % number for number in range(30)),
}

AS_IN_BASH = [
    "ls",
    "ls -a",
    "ls -A sub",
    "ls -1 sub/deep a.txt",
    "ls -R",
    "ls *.txt",
    "ls nothing",
    "cat a.txt b.txt",
    "cat a.txt nothing",
    "cat sub",
    "cat -n a.txt",
    "cat 'we ird/it'\\''s.txt'",
    'cat "we ird/it\'s.txt"',
    "cat we\\ ird/it\\'s.txt",
    "cat sub/*",
    "cat *.t?t",
    "cat [ab].txt",
    "cat '*.txt'",
    "cat .h*",
    "echo * sub/*",
    "echo nothing*",
    "echo a'b'\"c\" 'd  e'",
    'echo "a\\nb" "\\"" "$"',
    "cd sub && pwd | rev | rev",
    "cd sub; ls; cd ..; ls sub/deep",
    "cd nothing || echo no",
    "cd nothing && echo yes; echo after",
    "cat nothing 2>/dev/null; echo done",
    "cat nothing 2>&1 | wc -l",
    "head a.txt",
    "head -n 2 a.txt",
    "head -2 long",
    "head -n2 b.txt",
    "head -c 5 a.txt",
    "tail -n 1 a.txt",
    "tail -3 long",
    "tail -n +28 long",
    "tail -c 4 a.txt",
    "tail -c +4 a.txt",
    "tail long | head -n 1",
    "head nothing",
    "grep two a.txt",
    "grep -i TWO a.txt sub/c.txt",
    "grep -n t a.txt",
    "grep -v t a.txt",
    "grep -c t a.txt b.txt",
    "grep -l t a.txt b.txt sub/c.txt",
    "grep -o 'flag{[a-z]*}' sub/c.txt",
    "grep -h flag sub/c.txt a.txt",
    "grep -H one a.txt",
    "grep -w tw a.txt",
    "grep -E 'one|three' a.txt",
    "grep 'one\\|three' a.txt",
    "grep 'one|three' a.txt",
    "grep -F 'flag{x}' sub/c.txt",
    "grep -e t -n a.txt",
    "grep '^t' a.txt",
    "grep 'e$' a.txt",
    "grep -rh flag sub",
    "grep -rc flag sub/deep/d.log",
    "grep nothing a.txt",
    "cat a.txt | grep o | wc -l",
    "find sub -type f -name '*.log'",
    "find sub -type d -name deep",
    "find sub -iname 'C*'",
    "find nothing",
    "find . -name '.*' -type f | sort",
    "find sub a.txt | sort",
    "base64 -d code.b64",
    "cat code.b64 | base64 -d",
    "echo hello | base64",
    "nothing 2>/dev/null || echo none",
    "head -n x a.txt 2>/dev/null || echo bad",
    "ls nothing a.txt sub",
    "find nothing sub -name c.txt 2>&1 | sort",
    "strings binary",
    "strings -n 6 binary",
    "strings binary | grep abcd",
    "cat a.txt | tr a-z A-Z",
    "cat a.txt | tr 'a-zA-Z' 'n-za-mN-ZA-M'",
    "cat a.txt | tr -d '\\n'",
    "cat a.txt | tr abc x",
    "sort a.txt",
    "sort -r a.txt",
    "sort -n sub/deep/d.log",
    "sort -u sub/deep/d.log",
    "uniq sub/deep/d.log",
    "rev a.txt",
    "wc -l a.txt | tr -d ' ' | head -c 1",
    "cat a.txt | wc -w",
    "# a remark\necho after",
    "echo one # a remark",
    "echo a;echo b",
    "echo a && echo b || echo c",
]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("real")
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def shell() -> Shell:
    return Shell(FileTree({f"{HOME}/{name}": content for name, content in FILES.items()}, home=HOME))


@pytest.mark.parametrize("line", AS_IN_BASH)
def test_answers_as_bash_does(real: Path, line: str) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(real), "LC_ALL": "C"}
    expected = subprocess.run(["bash", "-c", line], cwd=real, env=environment, capture_output=True, check=False)
    outcome = shell().run(line)
    printed = expected.stdout.decode("utf-8", "replace").replace(str(real), HOME)
    lines = outcome.output.splitlines(keepends=True)
    for error in expected.stderr.decode().splitlines():
        program, reason = error.split(": ")[0], error.split(": ")[-1]
        lines.remove(next(text for text in lines if text.startswith(program) and text.endswith(f"{reason}\n")))
    assert "".join(lines) == printed
    assert (outcome.exit_code == 0) == (expected.returncode == 0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("python3 -c 1", "python3: command not found"),
        ("rm -rf /", "rm: command not found"),
        ("echo x > file", "only reads"),
        ("cat < a.txt", "only reads"),
        ("$(ls)", "only reads"),
        ("ls &", "only reads"),
        ("echo 'open", "matching `'"),
        ("| ls", "unexpected token"),
        ("ls |", "unexpected token"),
        ("ls --color", "options known here"),
        ("find . -exec cat {} +", "unknown predicate"),
        ("find -name", "missing argument"),
        ("grep", "a pattern is missing"),
        ("grep -E '(' a.txt", "invalid pattern"),
        ("grep -E '(a+)+$' a.txt", "cannot repeat a group"),
        ("head -n x a.txt", "invalid number"),
        ("tr a", "two sets"),
        ("tr a ''", "empty"),
    ],
)
def test_unsupported_commands_are_refused(line: str, words: str) -> None:
    outcome = shell().run(line)
    assert words in outcome.output
    assert outcome.exit_code != 0


def test_a_pattern_cannot_stop_the_server() -> None:
    tree = FileTree({"/long": b"a" * 100_000 + b"\n", "/short": b"aaaaaaaaaa\n" * 3})
    for pattern in ("a*b", ".*.*.*b", "a*a*a*a*b", "a*a*a*a*a*a*a*a*a*b"):
        assert Shell(tree).run(f"grep '{pattern}' /short").exit_code == 1
        assert "too much work" in Shell(tree).run(f"grep '{pattern}' /long").output
    assert Shell(tree).run("grep -c a /long").output == "1\n"


def test_long_output_is_cut_and_says_so() -> None:
    outcome = Shell(FileTree({"/a": b"x" * 50_000})).run("cat /a")
    assert outcome.output.startswith("x" * MAX_OUTPUT_CHARS + "\n[output cut after 10000 of 50000 characters]")


def test_nothing_is_read_from_the_machine() -> None:
    outcome = shell().run("cat /etc/passwd; cat ../../../etc/passwd; ls /; find / -name passwd; cd /usr")
    assert "root" not in outcome.output
    assert outcome.output.count("No such file") == 3
    assert "home\n" in outcome.output


@given(st.text(alphabet="ab*?[]'\"\\ |&;~/.-$#2>{}\n\x00é", max_size=30))
@settings(max_examples=3_000 if os.environ.get("OPENREWARD_GYM_LONG") else 300, deadline=None)
def test_any_text_can_be_run(text: str) -> None:
    outcome = shell().run(text)
    assert isinstance(outcome.output, str)
    assert outcome == shell().run(text)


ARGUMENTS = ["-n", "-r", "-a", "-d", "-c", "-type", "-name", "-5", "--", "-"]
ARGUMENTS += ["x", "a.txt", "sub", ".", "'['", "'a{9999999999}'", "'\\'"]


@given(st.sampled_from(["ls", "cat", "find", "grep", "head", "tail", "tr", "sort", "base64", "strings", "wc", "cd"]), st.data())
@settings(max_examples=3_000 if os.environ.get("OPENREWARD_GYM_LONG") else 300, deadline=None)
def test_any_arguments_are_answered(name: str, data: st.DataObject) -> None:
    words = data.draw(st.lists(st.sampled_from(ARGUMENTS)))
    outcome = shell().run(" ".join([name, *words]))
    assert isinstance(outcome.exit_code, int)
