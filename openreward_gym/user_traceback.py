"""Short reports of errors that a user's own files raised, in place of a whole traceback."""

from __future__ import annotations

import importlib
import os
import sysconfig
import traceback
from pathlib import Path

_EDGE = 10
"""Number of frames that are kept at each end of a long traceback."""
_LONGEST_CHAIN = 4


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
    error = _only_member(error)
    source = error if with_class else error.__cause__ or error
    text = words_of(error.msg if isinstance(error, SyntaxError) else error)
    message = f"{type(error).__name__}: {text}".removesuffix(": ") if with_class else text
    if isinstance(source, SyntaxError) and source.filename:
        return f'{message}\n  File "{source.filename}", line {source.lineno}: {(source.text or "").strip()}'.removesuffix(": ")
    frames = own_frames(source) or (user_frames(source) if with_class else [])
    if not frames:
        return message
    last = frames[-1]
    return f'{message}\n  File "{last.filename}", line {last.lineno}, in {last.name}: {last.line}'


def words_of(error: object) -> str:
    """Return `str(error)`, also for an error of a class whose `__str__` fails itself."""
    try:
        return str(error)
    except Exception as second:  # it runs the user's code
        return f"(its text cannot be shown: {type(second).__name__})"


def traceback_text(error: BaseException) -> str:
    """Return the traceback of an error that a user's code raised, and of those that caused it, without frames of this package.

    Frames of installed libraries are left out where the user's own files took part. A long traceback loses its middle. Of a
    group of errors the first one is shown.

    Example:
        >>> print(traceback_text(ValueError("no such city")))
        ValueError: no such city
    """
    parts: list[str] = []
    current: BaseException | None = _only_member(error)
    while current is not None and len(parts) < _LONGEST_CHAIN:
        frames = own_frames(current) or user_frames(current)
        lines = traceback.format_list(frames)
        if len(lines) > 2 * _EDGE:
            lines[_EDGE:-_EDGE] = [f"  ... {len(lines) - 2 * _EDGE} more frames ...\n"]
        heading = "Traceback (most recent call last):\n" if lines else ""
        parts.append(heading + "".join(lines) + "".join(traceback.format_exception_only(current)).rstrip())
        current = _cause_of(current)
    return "\n\nwhich led to\n\n".join(reversed(parts))


def _cause_of(error: BaseException) -> BaseException | None:
    """Return the error that led to this one: its cause, the first error of a group, or the one that was being handled."""
    if error.__cause__ is not None:
        return error.__cause__
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return None if error.__suppress_context__ else error.__context__


def _only_member(error: BaseException) -> BaseException:
    """Return the error itself, or the only error of a group, such as `asyncio.TaskGroup` raises."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of the error's traceback that belong to no installed library."""
    installed = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return [frame for frame in user_frames(error) if not frame.filename.startswith(installed)]


def user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the error's traceback without the frames of this package and of Python's import system."""
    # With the separator, so that another package whose name begins like ours is kept.
    skipped = (f"{Path(__file__).resolve().parent}{os.sep}", f"{Path(importlib.__file__).parent}{os.sep}", "<frozen ")
    return [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(skipped)]
