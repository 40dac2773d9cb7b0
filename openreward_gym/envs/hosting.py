"""Environments of this process in place of a server's: a class, or a name with `transport="in-process"`.

What hosts them knows the SDK and stands floors above, so it is found by its address, as Gymnasium finds an entry point.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from openreward_gym.errors import ConfigurationError

HOST = "openreward_gym.serve.inprocess:in_process"
IN_PROCESS = "in-process"


class Place(NamedTuple):
    """What is played and where: an environment's name, its server's address, and the way there."""

    environment: str
    base_url: str | None
    transport: Any


def resolve(environment: str | type[Any], base_url: str | None, transport: Any) -> Place:
    """The place of `environment`; that of a server's is what was given.

    Raises:
        ConfigurationError: An environment of this process was given a server as well, or cannot be hosted.
        MissingExtraError: It takes the extra `server`.
    """
    named = isinstance(transport, str) and transport == IN_PROCESS
    if isinstance(environment, str) and not named:
        return Place(environment, base_url, transport)
    if base_url is not None or not isinstance(transport, str):
        asked = f"base_url={base_url!r}" if base_url is not None else f"transport={transport!r}"
        raise ConfigurationError(f"{environment!r} is played in this process: leave out {asked}")
    module, _, name = HOST.partition(":")
    host = getattr(importlib.import_module(module), name)(environment)
    return Place(host.names[0], host.base_url, host)
