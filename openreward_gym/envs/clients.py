"""One protocol client for all envs of an event loop that speak to the same server.

Envs share connections that way, and 256 of them cost one pool. A client lives as long as an env holds it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

from openreward_gym.protocol.client import Client


@dataclass(slots=True)
class _Shared:
    client: Client
    loop: asyncio.AbstractEventLoop
    holders: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)


_lock = threading.Lock()
_shared: dict[tuple[Any, ...], _Shared] = {}


def acquire(holder: object, base_url: str | None, api_key_env: str, transport: Any) -> Client:
    """The client of the running loop for this server; `release` it with the same `holder`."""
    loop = asyncio.get_running_loop()
    named = transport if isinstance(transport, str) else id(transport)
    key = (os.getpid(), id(loop), base_url, api_key_env, named)
    with _lock:
        for old in [k for k, shared in _shared.items() if shared.loop.is_closed() or k[0] != os.getpid()]:
            del _shared[old]
        shared = _shared.get(key)
        if shared is None:
            shared = _shared[key] = _Shared(Client(base_url, api_key_env=api_key_env, transport=transport), loop)
        shared.holders.add(holder)
        return shared.client


async def release(holder: object, client: Client) -> None:
    """Give the client back; the last holder closes it."""
    with _lock:
        for key, shared in list(_shared.items()):
            if shared.client is client:
                shared.holders.discard(holder)
                if shared.holders:
                    return
                del _shared[key]
    await client.aclose()
