"""The SDK's dispatch made fit for a process that also trains: quiet, and without asking twice what cannot change."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

from openreward.environments import environment as _environment
from openreward.environments import session as _session

__all__ = ["prepare"]

log = logging.getLogger("openreward_gym.environments")

Introspected = tuple[Any, dict[str, Any], list[Any]]


def prepare() -> None:
    """Prepare the SDK for calls in this process; again does nothing."""
    if not getattr(_environment._introspect_tool, "remembers", False):
        _environment._introspect_tool = _remembering(_environment._introspect_tool)
    # The SDK prints three lines a call on standard output. Whoever chose a level for it gets what he chose.
    if not os.environ.get("OPENREWARD_LOG_LEVEL"):
        for module in (_environment, _session):
            module.logger = _Log()


class _Log:
    """Takes what the SDK logs: routine is left out, a tool that raised is a warning of Python's own logging."""

    def debug(self, event: str, **fields: Any) -> None:
        """Left out."""

    info = debug

    def warning(self, event: str, **fields: Any) -> None:
        # A model's wrong call: data, and in the result.
        log.debug("%s %s", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        log.warning("%s %s", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        log.warning("%s %s", event, fields, exc_info=True)


def _remembering(introspect: Callable[[Any], Introspected]) -> Callable[[Any], Introspected]:
    """`introspect` with a memory: it evaluates a tool's type hints and signature, twice a call, which is most of a call."""
    known: WeakKeyDictionary[FunctionType, dict[bool, tuple[dict[str, Any], list[Any]]]] = WeakKeyDictionary()

    def remembered(fn: Any) -> Introspected:
        is_bound = isinstance(fn, MethodType)
        function = fn.__func__ if is_bound else fn
        if not isinstance(function, FunctionType):
            return introspect(fn)
        # A method bound to an object has one parameter less than its function.
        of_function = known.setdefault(function, {})
        if is_bound not in of_function:
            of_function[is_bound] = introspect(fn)[1:]
        return (inspect.unwrap(fn), *of_function[is_bound])

    remembered.remembers = True  # type: ignore[attr-defined]
    return remembered
