"""A reader: types the blocks of a page, from top to bottom and unchanged, into one bash.

A shell block is typed command by command, and each command has to succeed. Jobs that end in `&` stay until the shell ends.
A Python block is pasted into `python -`, or saved if it has a title. A text block that follows a block shows what it prints.

The shell runs in a network of its own where the system allows it, so that the ports of the pages are free. It has no internet.

From a shell: `python tests/docs/typed_shell.py PAGE [FOLDER]` types a page and prints what a reader sees.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from documents import ROOT, Block, blocks_of, missing_lines, where
from filelock import FileLock

LOCK = "openreward-gym-typed-pages.lock"
_CODE = re.compile(r"^\x1e(\d+)\x1e$", re.M)
_READER = "READER_PASTES_UNTIL_HERE"
# Bring up the loopback device of the new network (an ioctl, for machines without the command `ip`), and become the command.
_NETWORK = """
import fcntl, os, socket, struct, sys
with socket.socket() as device:
    fcntl.ioctl(device, 0x8914, struct.pack("16sh22x", b"lo", 0x41))
os.execvp(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Answer:
    """What a command printed to the terminal, and its exit code."""

    command: str
    output: str
    code: int


class TypedShell:
    """A bash in a folder, which is fed through its standard input.

    Args:
        folder: The folder in which the shell begins.
        variables: Environment variables, beside those of this process.
        private_network: Whether to give the shell a network of its own, if the system allows it.
        timeout_s: Longest time of one command. A command that takes longer hangs.
    """

    def __init__(
        self, folder: Path, variables: Mapping[str, str], *, private_network: bool = True, timeout_s: float = 240.0
    ) -> None:
        self.folder = folder
        self._timeout_s = timeout_s
        command = ["bash", "--norc", "--noprofile"]
        if private_network and can_make_networks():
            command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", _NETWORK, *command]
        # What the tests set for themselves, or a terminal for its programs, is not what a reader has.
        mine = {"COLUMNS", "LINES", "FORCE_COLOR", "PYTEST_CURRENT_TEST", "VIRTUAL_ENV", "OPENAI_API_KEY", "OPENAI_BASE_URL"}
        inherited = {name: value for name, value in os.environ.items() if name not in mine}
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**inherited, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )
        self._printed: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.answers: list[Answer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def type(self, command: str) -> Answer:
        """Type a command, wait until the shell takes the next one, and return what was printed meanwhile.

        Raises:
            AssertionError: The command does not end.
        """
        self._send(command)
        self._send("printf '\\n\\036%s\\036\\n' $?")
        printed = b""
        ends = time.monotonic() + self._timeout_s
        while (code := _CODE.search(text := printed.decode(errors="replace"))) is None:
            try:
                printed += self._printed.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{command!r} has not ended after {self._timeout_s:.0f} s. It printed:\n{text}") from None
        answer = Answer(command, text[: code.start()].removesuffix("\n"), int(code[1]))
        self.answers.append(answer)
        return answer

    def jobs(self) -> list[str]:
        """Return the lines of `jobs`: the jobs that run, and those that ended since the last look."""
        return self.type("jobs").output.splitlines()

    def close(self) -> None:
        """Close the terminal: end the shell and its jobs."""
        if self._process.poll() is None:
            with suppress(OSError, subprocess.TimeoutExpired):
                self._send("jobs -p | xargs -r kill; wait; exit")
                self._process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(20)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()

    def _send(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())

    def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := self._process.stdout.read(65536):
            self._printed.put(chunk)
        self._printed.put(b"\n\x1e255\x1e\n")  # the shell is gone


def commands_of(code: str) -> Iterator[str]:
    """Yield the commands of a shell block. A command of several lines, such as a here-document, is one."""
    command = ""
    for line in code.splitlines():
        command += ("\n" if command else "") + line
        if not command.strip():
            command = ""
            continue
        parsed = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        if not command.endswith("\\") and not parsed.returncode and not parsed.stderr:
            yield command
            command = ""
    assert not command, f"the block ends in the middle of a command: {command!r}"


def type_block(shell: TypedShell, block: Block) -> str:
    """Type a block, and return what it printed.

    Raises:
        AssertionError: A command failed, did not end, printed a traceback, or not what the page shows.
    """
    if block.title:
        (shell.folder / block.title).write_text(block.code, encoding="utf-8")
        return ""
    if block.language == "python":
        commands: list[str] = [f"python - <<'{_READER}'\n{block.code}{_READER}"]
    else:
        commands = list(commands_of(block.code))
    printed = ""
    for command in commands:
        answer = shell.type(command)
        printed += f"{answer.output}\n"
        shown = f"{where(block)}: {command}\nprinted:\n{answer.output}"
        assert answer.code == 0, f"exit code {answer.code} of {shown}"
        assert "Traceback (most recent call last)" not in answer.output, shown
    if block.output is not None:
        missing = missing_lines(block.output, printed)
        assert not missing, f"{where(block)} shows lines that it did not print: {missing}\nprinted:\n{printed}"
    return printed


def type_page(page: Path, shell: TypedShell) -> str:
    """Type all blocks of a page, and return what was printed. The jobs that it started must still run, unless it ended them."""
    printed = "\n".join(type_block(shell, block) for block in blocks_of(page))
    broken = [line for line in shell.jobs() if re.search(r"\bExit \d", line)]
    assert not broken, f"{page.name}: jobs ended by themselves: {broken}\nprinted:\n{printed}"
    return printed


def can_make_networks() -> bool:
    """Return whether the system lets a process have a network of its own."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", _NETWORK, "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def clone(folder: Path) -> Path:
    """Copy the files of the repository into a new folder, as `git clone` would; return it."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    names = [name.strip("/").rpartition("/")[2] for name in ignored]
    return Path(shutil.copytree(ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(".git", *names)))


def installed_environment(folder: Path) -> Path:
    """Make a virtual environment as after `make demo`, with the packages that these tests run with; return it.

    It is separate from the environment of the tests: what a page installs stays in it.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    outer = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    # addsitedir reads the .pth files there, such as that of an editable installation.
    (site / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in outer), encoding="utf-8")
    commands = {
        "openreward-gym": "openreward_gym.cli:main",
        "orwd": "openreward.cli:main",
        "inspect": "inspect_ai._cli.main:main",
    }
    for name, function in commands.items():
        module, _, function = function.partition(":")
        program = folder / "bin" / name
        lines = (f"#!{folder}/bin/python", "import sys", f"from {module} import {function}", f"sys.exit({function}())", "")
        program.write_text("\n".join(lines), encoding="utf-8")
        program.chmod(0o755)
    (folder / ".demo-is-installed").touch()
    return folder


@contextmanager
def reader(
    folder: Path,
    programs: Path,
    variables: Mapping[str, str] | None = None,
    *,
    private_network: bool = True,
    timeout_s: float = 240.0,
) -> Iterator[TypedShell]:
    """Yield a `TypedShell` in `folder` that finds the programs of the folder `programs` first."""
    home = folder / ".home"
    home.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "HF_HOME": str(home / "huggingface"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
        **(variables or {}),
    }
    # Shells that share a network share its ports, and take turns.
    alone = nullcontext() if private_network and can_make_networks() else FileLock(Path(tempfile.gettempdir()) / LOCK)
    with alone, TypedShell(folder, environment, private_network=private_network, timeout_s=timeout_s) as shell:
        yield shell


def main(page: str, folder: str = "") -> None:
    """Type a page in a folder, or in a new one, and print what a reader sees."""
    place = Path(folder) if folder else Path(tempfile.mkdtemp())
    with reader(place, Path(sys.executable).parent) as shell:
        try:
            type_page(Path(page), shell)
        finally:
            for answer in shell.answers:
                print(f"$ {answer.command}\n{answer.output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
