"""Short reports of errors that a user's own files raised, in place of a whole traceback."""

from __future__ import annotations

import importlib
import sysconfig
import traceback
from pathlib import Path


def describe_error(error: BaseException, *, with_class: bool = True) -> str:
    """Return the error's message and, on a second line, the line of the user's files that raised it.

    Args:
        error: The error.
        with_class: Begin with the name of the error's class. Without it, the second line is that of the error's cause, and is
            left out if only installed libraries took part.

    Example:
        >>> describe_error(ValueError("no such city"))
        'ValueError: no such city'
    """
    source = error if with_class else error.__cause__ or error
    text = str(error.msg if isinstance(error, SyntaxError) else error)
    message = f"{type(error).__name__}: {text}".removesuffix(": ") if with_class else text
    if isinstance(source, SyntaxError) and source.filename:
        return f'{message}\n  File "{source.filename}", line {source.lineno}: {(source.text or "").strip()}'.removesuffix(": ")
    frames = user_frames(source)
    installed = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    own = [frame for frame in frames if not frame.filename.startswith(installed)]
    frames = own or (frames if with_class else [])
    if not frames:
        return message
    last = frames[-1]
    return f'{message}\n  File "{last.filename}", line {last.lineno}, in {last.name}: {last.line}'


def user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the error's traceback without the frames of this package and of Python's import system."""
    skipped = (str(Path(__file__).resolve().parent), str(Path(importlib.__file__).parent), "<frozen ")
    return [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(skipped)]
