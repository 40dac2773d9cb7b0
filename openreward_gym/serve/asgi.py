"""Environments as an ASGI application: the official SDK's `Server`, without its routine log lines."""

from __future__ import annotations

import os
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.environments import Servable, check, load

if TYPE_CHECKING:
    from starlette.types import ASGIApp


QUIET: Mapping[str, str] = {"OPENREWARD_DISABLE_UPDATE_CHECK": "1", "OPENREWARD_LOG_LEVEL": "WARNING"}
"""Environment variables that stop the SDK from querying a package index and from logging three lines per call."""


def quiet(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `QUIET` that `environ` does not decide: `LOG_LEVEL` sets the level as well.

    Example:
        >>> quiet({"LOG_LEVEL": "INFO"})
        {'OPENREWARD_DISABLE_UPDATE_CHECK': '1'}
    """
    return {name: value for name, value in QUIET.items() if name != "OPENREWARD_LOG_LEVEL" or not environ.get("LOG_LEVEL")}


def app(environments: Servable | Iterable[Servable]) -> ASGIApp:
    """Return `environments` as an ASGI application in this process, for tests or to mount in another server.

    Imports the `openreward` SDK, which takes seconds. Requests that name no environment go to the first one.

    Args:
        environments: Built-in names ("weather", "ctf", "bandit", "reasoning"), `openreward.environments.Environment` classes,
            "module:Class" strings, Gymnasium ids.

    Raises:
        ConfigurationError: One of the environments cannot be served.
        MissingExtraError: The extra `server` is not installed.

    Example:
        transport = httpx.ASGITransport(serve.app(["weather"]))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.get("/list_environments")
    """
    checked = check(environments)
    with quiet_imports():
        return application_of(checked)


def application_of(environments: Iterable[Servable]) -> ASGIApp:
    """Return the application for environments that `check` returned, or raise a ConfigurationError."""
    from openreward.environments import Server

    classes = [load(environment) for environment in environments]
    try:
        separate_caches(classes)
        return typing.cast("ASGIApp", Server(classes).app)
    except (TypeError, ValueError) as error:
        names = ", ".join(cls.__name__ for cls in classes)
        raise ConfigurationError(f"the openreward SDK cannot serve {names}: {error}") from error


def separate_caches(classes: Sequence[type[Any]]) -> None:
    """Give each class its own caches of splits and tasks.

    The SDK keeps them in class attributes, which a subclass inherits: it would get the splits and tasks of its parent.
    `tests/serve/test_sdk.py` fails if the SDK changes this.
    """
    for cls in classes:
        cls._splits_cache, cls._tasks_cache, cls._tasks_cache_locks = cls.list_splits(), {}, {}


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Set `QUIET` while the SDK is imported, so that its loggers report problems only. User settings take precedence."""
    # The SDK's loggers read their level from the environment once, when they are imported.
    unset = {name: value for name, value in quiet(os.environ).items() if name not in os.environ}
    os.environ.update(unset)
    try:
        yield
    finally:
        for name in unset:
            del os.environ[name]
