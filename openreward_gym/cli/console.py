"""Output of the commands: consoles, tables that fit the terminal, and error messages."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from openreward_gym.terminal import has_control_codes, without_control_codes

PROGRAM = "openreward-gym"

_COMMAND = re.compile(r"`[^`]+`")
_BLANK = "\0"
"""Stands for a blank at which a line must not end."""


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that writes control codes only where `has_control_codes` allows them."""
    coloured = has_control_codes(sys.stderr if stderr else sys.stdout)
    return Console(
        stderr=stderr,
        color_system="auto" if coloured else None,
        force_terminal=coloured,
        legacy_windows=False,
        highlight=False,
        soft_wrap=False,
    )


def make_table(*columns: str, title: str | None = None) -> Table:
    """Return a table whose long cells wrap, so that it is never wider than the terminal.

    A column whose name ends in "#" has numbers: it is aligned to the right and never wrapped.
    """
    table = Table(title=title, title_justify="left", title_style="", box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        is_number = name.endswith("#")
        table.add_column(name.removesuffix("#"), justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return table


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON that every parser reads: not-a-number and infinities become null."""
    print(json.dumps(_finite(value), indent=indent, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def output_width() -> int:
    """Return the number of columns for text on stdout: those of the terminal or of COLUMNS, and 80 in a log or a pipe."""
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def print_error(message: str) -> None:
    """Print an error to stderr: one line in a log or a pipe, wrapped between words on a terminal."""
    text = f"{PROGRAM}: {message}"
    if not has_control_codes(sys.stderr):
        text = without_control_codes(text)
    print(wrapped(text) if sys.stderr.isatty() else text, file=sys.stderr)


def print_text(text: str, *, stderr: bool = False) -> None:
    """Print a text whose long lines wrap between words on a terminal, and stay whole in a log or a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    width = output_width()
    if stream.isatty():
        text = "\n".join(wrapped(line, width=width) if len(line) > width else line for line in text.splitlines())
    print(text, file=stream)


def wrapped(text: str, indent: str = "  ", width: int | None = None) -> str:
    """Return a text whose lines end between words, at the width of the terminal or at `width`.

    Addresses, paths and commands in backticks stay whole, so that they can be copied.
    """
    width = width or output_width()
    lines = [_COMMAND.sub(lambda match: match[0].replace(" ", _BLANK), line) for line in text.splitlines()]
    filled = (
        textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) for line in lines
    )
    return "\n".join(filled).replace(_BLANK, " ")


def make_libraries_quiet() -> None:
    """Set the variables that stop libraries from drawing bars, colours and advice into the output. The user's own values stay."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not has_control_codes(sys.stderr):
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
        os.environ.setdefault("TQDM_DISABLE", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
