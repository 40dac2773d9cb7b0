"""The Open Reward Standard: clients, environments and sessions over HTTP and server-sent events."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openreward_gym.protocol.client import Client
    from openreward_gym.protocol.environment import RemoteEnvironment
    from openreward_gym.protocol.fast import FastTransport
    from openreward_gym.protocol.request import Request, Response, Transport
    from openreward_gym.protocol.session import Session
    from openreward_gym.protocol.transport import HttpxTransport
    from openreward_gym.protocol.wire import GroupCandidate, GroupScore

# Loaded on first access: the transports import httpx.
_MODULES = {
    "Client": "protocol.client",
    "FastTransport": "protocol.fast",
    "GroupCandidate": "protocol.wire",
    "GroupScore": "protocol.wire",
    "HttpxTransport": "protocol.transport",
    "RemoteEnvironment": "protocol.environment",
    "Request": "protocol.request",
    "Response": "protocol.request",
    "Session": "protocol.session",
    "Transport": "protocol.request",
}

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


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"openreward_gym.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
