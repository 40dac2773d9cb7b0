"""Environments as an ASGI application: the official SDK's `Server`, quiet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.environments import Servable, check, load_all

QUIET: Mapping[str, str] = {"OPENREWARD_DISABLE_UPDATE_CHECK": "1", "OPENREWARD_LOG_LEVEL": "WARNING"}
"""What keeps the SDK from asking a package index for news and from logging three lines a call."""


def app(environments: Servable | Iterable[Servable]) -> Any:
    """`environments` as an ASGI application, in this process: for tests, or to mount in a server of your own.

    Imports the `openreward` SDK (seconds). The first environment is the one that answers where none is named.

    Args:
        environments: Built-in names ("weather", "ctf", "reasoning"), `openreward.environments.Environment` classes,
            "module:Class" texts.

    Raises:
        ConfigurationError: One of them cannot be served.
        MissingExtraError: The extra `server` is not installed.
    """
    wanted = check(environments)
    with quiet_imports():
        return build(wanted)


def build(environments: list[Servable]) -> Any:
    """The application for environments that were checked before.

    Raises:
        ConfigurationError: One cannot be loaded, or the SDK refuses it (no tools, no splits, two of one name).
    """
    return serving(load_all(environments)).app


def serving(classes: list[type[Any]]) -> Any:
    """The SDK's `Server` of `classes`.

    Raises:
        ConfigurationError: The SDK refuses one (no tools, no splits, two of one name).
    """
    from openreward.environments import Server

    try:
        for cls in classes:
            # The SDK remembers these on the class: a subclass would be served its parent's.
            cls._splits_cache, cls._tasks_cache, cls._tasks_cache_locks = cls.list_splits(), {}, {}
        return Server(classes)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the openreward SDK does not serve {[cls.__name__ for cls in classes]}: {error}") from error


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Imports of the SDK in here make loggers that say only what went wrong."""
    # The SDK's loggers take their level from the environment, once, when they are imported.
    before = {name: os.environ.get(name) for name in QUIET}
    os.environ.update({**QUIET, **{name: value for name, value in before.items() if value is not None}})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
