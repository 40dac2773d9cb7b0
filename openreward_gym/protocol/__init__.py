"""The Open Reward Standard: clients, environments and sessions over HTTP and server-sent events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openreward_gym.lazy import lazy_names

if TYPE_CHECKING:
    from openreward_gym.protocol.client import Client
    from openreward_gym.protocol.environment import RemoteEnvironment
    from openreward_gym.protocol.fast import FastTransport
    from openreward_gym.protocol.request import Request, Response, Transport
    from openreward_gym.protocol.session import Session
    from openreward_gym.protocol.transport import HttpxTransport
    from openreward_gym.protocol.wire import GroupCandidate, GroupScore

# The transports import httpx.
if not TYPE_CHECKING:  # a checker would take every name for one that `__getattr__` makes
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "client": "Client",
            "environment": "RemoteEnvironment",
            "fast": "FastTransport",
            "request": "Request Response Transport",
            "session": "Session",
            "transport": "HttpxTransport",
            "wire": "GroupCandidate GroupScore",
        },
    )

__all__ = [
    "Client",
    "FastTransport",
    "GroupCandidate",
    "GroupScore",
    "HttpxTransport",
    "RemoteEnvironment",
    "Request",
    "Response",
    "Session",
    "Transport",
]
