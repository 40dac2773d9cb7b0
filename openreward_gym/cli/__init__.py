"""The command line: `openreward-gym --help`.

Exit codes: 0 done, 1 failed, 2 wrong usage, 75 incomplete. Output goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from openreward_gym.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__, {"application": "app run_command"})

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit. An error is one line on stderr."""
    # The import takes a while. Ctrl-C ends it without a traceback.
    handler = signal.getsignal(signal.SIGINT)
    is_ours = handler is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    if is_ours:
        signal.signal(signal.SIGINT, _end_quietly)
    try:
        from openreward_gym.cli.application import run_command
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, handler)
    run_command(arguments)


def _end_quietly(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
