"""Environments served over the Open Reward Standard on this machine.

    with serve.local(["weather", "ctf", MyEnvironment]) as base_url:
        env = gym.make("OpenReward-v0", environment="weather", base_url=base_url)

What can be served: the built-in environments ("weather", "ctf", "reasoning"), subclasses of the SDK's
`openreward.environments.Environment` (of a module, a script, a notebook), "module:Class" and "file.py:Class" texts, and
environments of Gymnasium's ("FrozenLake-v1", or `bridge(...)` with more to say). Serving needs the extra `server`:
pip install 'openreward-gym[server]'.
"""

from __future__ import annotations

from collections.abc import Iterable

from openreward_gym.serve.asgi import app
from openreward_gym.serve.bridge import bridge
from openreward_gym.serve.environments import Servable
from openreward_gym.serve.foreground import run
from openreward_gym.serve.inprocess import InProcess, in_process
from openreward_gym.serve.server import LocalServer

__all__ = ["InProcess", "LocalServer", "app", "bridge", "in_process", "local", "run"]


def local(
    environments: Servable | Iterable[Servable],
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    start_timeout_s: float = 120.0,
) -> LocalServer:
    """A server of `environments` in a subprocess: a context manager that gives its address. See `LocalServer`."""
    return LocalServer(environments, port=port, host=host, start_timeout_s=start_timeout_s)
