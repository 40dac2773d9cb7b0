"""The command `orwd`: the official SDK's command line, with all its arguments."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand

from openreward_gym.errors import MissingExtraError


class _PassedThrough(TyperCommand):
    """A command whose arguments, `--help` included, are not looked at."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep all words for the command."""
        ctx.args = list(args)
        return []


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("orwd", cls=_PassedThrough, short_help=(orwd.__doc__ or "").partition("\n")[0])(orwd)


def orwd(context: typer.Context) -> None:
    """Run the official SDK's command line.

    It manages environments, deployments and runs of the platform.

    Example: openreward-gym orwd --help
    """
    raise typer.Exit(run_official(context.args))


def run_official(arguments: Sequence[str]) -> int:
    """Run the SDK's command line in a process of its own, and return its exit code.

    Raises:
        MissingExtraError: The SDK is not installed.
    """
    if importlib.util.find_spec("openreward") is None:
        raise MissingExtraError(
            "orwd is the command line of the official SDK, which is not installed: pip install 'openreward-gym[server]'"
        )
    sys.stdout.flush()
    with _interrupts_left_to_the_child():
        code = subprocess.Popen([sys.executable, "-m", "openreward.cli", *arguments]).wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _interrupts_left_to_the_child() -> Iterator[None]:
    """Do nothing at Ctrl-C, which reaches both processes: the other one decides what it means.

    A KeyboardInterrupt could come between the end of the other process and the reading of its exit code, which would be lost.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
