"""Control codes: whether a stream gets them, and how to remove them from text."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import TextIO

# CSI sequences (colours, cursor), OSC sequences (titles, links), and escapes of one character.
_CONTROL_CODE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def has_control_codes(stream: TextIO) -> bool:
    """Return True if colours and cursor movements may be written to a stream.

    `NO_COLOR` forbids them, `FORCE_COLOR` and `CLICOLOR_FORCE` (unless "0") demand them, and without these variables a terminal
    gets them unless `TERM` is "dumb". An empty variable counts as unset.

    Example:
        >>> import io
        >>> has_control_codes(io.StringIO())
        False
    """
    if os.environ.get("NO_COLOR"):
        return False
    if any(os.environ.get(name) not in (None, "", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    if os.environ.get("TERM") in ("dumb", "unknown") or os.environ.get("CLICOLOR") == "0":
        return False
    try:
        return stream.isatty()
    except ValueError:  # the stream is closed
        return False


def without_control_codes(text: str) -> str:
    r"""Return text without the codes that control a terminal.

    >>> without_control_codes("\x1b[31mred\x1b[0m")
    'red'
    """
    return _CONTROL_CODE.sub("", text) if "\x1b" in text else text


class PlainStream(io.TextIOWrapper):
    r"""A text stream that removes control codes from what is written to it.

    Example:
        >>> import io
        >>> stream = PlainStream(io.BytesIO(), encoding="utf-8", write_through=True)
        >>> _ = stream.write("\x1b[1mbold\x1b[0m")
        >>> stream.buffer.getvalue()
        b'bold'
    """

    def write(self, text: str, /) -> int:
        """Write text without its control codes, and return the length of the whole text."""
        super().write(without_control_codes(text))
        return len(text)


def make_output_plain() -> None:
    """Remove control codes from everything that this process writes to `sys.stdout` and `sys.stderr` from now on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, PlainStream):
            encoding, errors = stream.encoding, stream.errors
            plain = PlainStream(stream.detach(), encoding=encoding, errors=errors, write_through=True)
            setattr(sys, name, plain)
            setattr(sys, f"__{name}__", plain)
