"""Environment variables of the official SDK that have an effect here: their names, and what a value means.

The addresses (`OPENREWARD_URL`, `OPENREWARD_API_URL`, `OPENREWARD_SESSION_URL`) are read in `protocol.addresses`, and
`OPENREWARD_STARTING_RIDE_OUT_S` in `options.RetryLimits`. docs/reference/environment-variables.md lists them all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias, get_args

from openreward_gym.errors import ConfigurationError

__all__ = [
    "API_KEY",
    "ENVIRON",
    "LOGGING_FORMAT",
    "LoggingFormat",
    "build_sha",
    "log_level",
    "rollout_logging_format",
    "use_structured_logs",
]

API_KEY = "OPENREWARD_API_KEY"


class _Environ(Mapping[str, str]):
    """The environment variables, without their values in its repr: a traceback that shows local variables shows no key."""

    def __getitem__(self, name: str) -> str:
        return os.environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter(os.environ)

    def __len__(self) -> int:
        return len(os.environ)

    def __repr__(self) -> str:
        return "<environment variables>"


ENVIRON: Mapping[str, str] = _Environ()
"""`os.environ` for functions that take a mapping of variables as a parameter."""
LOGGING_FORMAT = "OPENREWARD_ROLLOUT_LOGGING_FORMAT"

LoggingFormat: TypeAlias = Literal["pretty", "structured"]


def rollout_logging_format() -> LoggingFormat:
    """Return the format of printed messages, from `OPENREWARD_ROLLOUT_LOGGING_FORMAT`; "pretty" if it is not set or empty.

    Raises:
        ConfigurationError: There is no format of that name.
    """
    value = os.environ.get(LOGGING_FORMAT, "")
    for known in get_args(LoggingFormat):
        if value.strip().lower() == known:
            return known  # type: ignore[no-any-return]
    if value.strip():
        known = " or ".join(get_args(LoggingFormat))
        raise ConfigurationError(f"{LOGGING_FORMAT}={value[:100]!r} is not a format of printed messages. Set it to {known}.")
    return "pretty"


def use_structured_logs() -> bool:
    """Return whether log lines are JSON on the standard output (`OPENREWARD_USE_STRUCTURED_LOGS` has any value)."""
    return bool(os.environ.get("OPENREWARD_USE_STRUCTURED_LOGS"))


def build_sha() -> str | None:
    """Return the build that structured log lines name, from `OPENREWARD_BUILD_SHA`."""
    return os.environ.get("OPENREWARD_BUILD_SHA") or None


def log_level() -> int | None:
    """Return the level of `OPENREWARD_LOG_LEVEL`, else of `LOG_LEVEL`. None if neither is set; INFO for an unknown name.

    Example:
        >>> os.environ["OPENREWARD_LOG_LEVEL"] = "debug"
        >>> log_level() == logging.DEBUG
        True
        >>> del os.environ["OPENREWARD_LOG_LEVEL"]
    """
    name = os.environ.get("OPENREWARD_LOG_LEVEL") or os.environ.get("LOG_LEVEL")
    return logging.getLevelNamesMapping().get(name.upper(), logging.INFO) if name else None
