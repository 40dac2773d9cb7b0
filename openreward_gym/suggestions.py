"""Suggestions for misspelt names: of options, environments, splits, formats and policies."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from itertools import islice
from typing import ParamSpec, TypeVar

from openreward_gym.errors import ConfigurationError

P = ParamSpec("P")
R = TypeVar("R")

_LONGEST = 100
"""Characters of a name that are compared: the time grows with the square of the length."""
_MOST = 2000
"""Number of known names that are compared."""


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name that is closest to a misspelt one; None if none is close.

    Letter case and the difference of `-`, `_` and a space do not count. The beginning of one known name alone is close to it.

    Example:
        >>> nearest("trian", ["train", "test"]), nearest("Train", ["train"]), nearest("val", ["train", "validation"])
        ('train', 'train', 'validation')
        >>> nearest("dev", ["train", "test"]) is None
        True
    """
    if not isinstance(name, str) or not name.strip():
        return None
    folded: dict[str, str] = {}
    for one in islice(known, _MOST):
        folded.setdefault(_folded(one), one)
    wanted = _folded(name)
    if wanted in folded:
        return folded[wanted]
    close = difflib.get_close_matches(wanted, folded, n=1)
    if close:
        return folded[close[0]]
    beginnings = [one for text, one in folded.items() if len(wanted) > 1 and text.startswith(wanted)]
    return beginnings[0] if len(beginnings) == 1 else None


def _folded(name: str) -> str:
    return name[:_LONGEST].casefold().replace("-", "_").replace(" ", "_")


def did_you_mean(name: object, known: Iterable[str], plural: str) -> str:
    """Return the end of a message about an unknown name: the closest known name, and all of them.

    Example:
        >>> did_you_mean("trian", ["train", "test"], "splits")
        "did you mean 'train'? The splits are train, test"
        >>> did_you_mean("dev", ["train", "test"], "splits")
        'the splits are train, test'
    """
    names = list(known)
    near = nearest(name, names)
    the = "the" if near is None else f"did you mean {near!r}? The"
    return f"{the} {plural} are {', '.join(names)}"


def unknown_option(owner: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown option: it suggests the nearest known name, or lists all.

    Example:
        >>> unknown_option("Recorder", "uplod", ["path", "upload"])
        "Recorder has no option 'uplod'. Did you mean 'upload'?"
    """
    names = list(known)
    near = nearest(name, names)
    advice = f"Did you mean {near!r}?" if near else f"Its options are {', '.join(names)}."
    return f"{owner} has no option {name!r}. {advice}"


def suggests_options(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function or a constructor: an unknown keyword is a ConfigurationError that suggests the nearest one.

    Example:
        >>> @suggests_options
        ... def write(path: str, *, compression: str = "") -> str:
        ...     return path
        >>> write("a", compresion="zstd")
        Traceback (most recent call last):
        openreward_gym.errors.ConfigurationError: write() has no option 'compresion'. Did you mean 'compression'?
    """
    parameters = inspect.signature(function).parameters.values()
    positional_only = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
    known = [one.name for one in parameters if one.kind not in positional_only and one.name != "self"]
    owner = function.__qualname__.rpartition("<locals>.")[2]
    owner = owner.removesuffix(".__init__") if owner.endswith(".__init__") else f"{owner}()"

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                raise ConfigurationError(unknown_option(owner, name, known))
        return function(*args, **kwargs)

    return checked
