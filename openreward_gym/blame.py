"""Where in a user's own files an error came from: what a message says in place of a traceback."""

from __future__ import annotations

import importlib
import sysconfig
import traceback
from pathlib import Path

__all__ = ["brief", "frames_of"]


def brief(error: BaseException, *, named: bool = True) -> str:
    """`error` in a line, and where it came from in the user's own files in another.

    Args:
        error: What was raised.
        named: Whether its class is said, too.
    """
    source = error if named else error.__cause__ or error
    cut = str(error.msg if isinstance(error, SyntaxError) else error)
    line = f"{type(error).__name__}: {cut}".removesuffix(": ") if named else cut
    if isinstance(source, SyntaxError) and source.filename:
        return f'{line}\n  File "{source.filename}", line {source.lineno}: {(source.text or "").strip()}'.removesuffix(": ")
    frames = frames_of(source)
    installed = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    own = [frame for frame in frames if not frame.filename.startswith(installed)]
    frames = own or (frames if named else [])  # a refusal that says it all comes from others' files, too
    if not frames:
        return line
    last = frames[-1]
    return f'{line}\n  File "{last.filename}", line {last.lineno}, in {last.name}: {last.line}'


def frames_of(error: BaseException) -> list[traceback.FrameSummary]:
    """Where `error` went through, but for this package and the machinery of imports."""
    ours = (str(Path(__file__).resolve().parent), str(Path(importlib.__file__).parent), "<frozen ")
    return [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
