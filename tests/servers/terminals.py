"""Commands in a terminal of 80 columns, or with their output in a file."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COLUMNS = 80


@dataclass(frozen=True, slots=True)
class Output:
    """What a command printed, and its exit code."""

    text: str
    code: int | None
    seconds: float = 0.0
    """Seconds until the text that `until` finds was printed."""


def in_terminal(arguments: list[str], folder: Path, environ: Mapping[str, str], until: str = "") -> Output:
    """Run a command in a terminal of 80 columns, to its end or `until` a pattern is printed."""
    began = time.monotonic()
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(
        arguments, cwd=folder, env={"TERM": "xterm-256color", **environ}, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    data = b""
    try:
        while part := os.read(controller, 65_536):
            data += part
            if until and (found := re.search(until, plain(data), re.DOTALL)):
                process.kill()
                process.wait()
                return Output(plain(data)[: found.end()], None, time.monotonic() - began)
    except OSError as error:
        if error.errno != errno.EIO:  # the last process has closed the terminal
            raise
    finally:
        os.close(controller)
    return Output(plain(data), process.wait())


def plain(data: bytes) -> str:
    """Return what a terminal printed as text."""
    return data.decode(errors="replace").replace("\r\n", "\n")


def in_file(arguments: list[str], folder: Path, environ: Mapping[str, str], until: str = "") -> Output:
    """Run a command with both streams in one file, to its end or `until` a pattern is printed."""
    began = time.monotonic()
    with (
        tempfile.NamedTemporaryFile() as file,
        subprocess.Popen(
            arguments, cwd=folder, env=dict(environ), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        ) as process,
    ):
        printed = Path(file.name)
        while until and process.poll() is None:
            if found := re.search(until, printed.read_text(), re.DOTALL):
                process.kill()
                return Output(printed.read_text()[: found.end()], None, time.monotonic() - began)
            time.sleep(0.05)
        code = process.wait()
        return Output(printed.read_text(), code)
