"""Environments served over the Open Reward Standard on this machine.

    with serve.local(["weather", "ctf", MyEnvironment]) as base_url:
        env = gym.make("OpenReward-v0", environment="weather", base_url=base_url)

An environment to serve is one of:

- a built-in environment: "weather", "ctf", "bandit", "reasoning";
- a subclass of the SDK's `openreward.environments.Environment`, from a module, a script or a notebook;
- a "module:Class" or "file.py:Class" string;
- a Gymnasium environment: its id ("FrozenLake-v1"), or `bridge(...)` with options.

Serving needs the extra `server`: pip install 'openreward-gym[server]'.
"""

from __future__ import annotations

from collections.abc import Iterable

from openreward_gym.serve.asgi import app
from openreward_gym.serve.bridge import bridge
from openreward_gym.serve.environments import Servable
from openreward_gym.serve.inprocess import InProcess, in_process
from openreward_gym.serve.reload import run
from openreward_gym.serve.server import LocalServer
from openreward_gym.serve.values import decode, encode
from openreward_gym.suggestions import suggests_options

__all__ = ["InProcess", "LocalServer", "app", "bridge", "decode", "encode", "in_process", "local", "run"]


@suggests_options
def local(
    environments: Servable | Iterable[Servable],
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    start_timeout_s: float = 120.0,
) -> LocalServer:
    """Return a server of `environments` in a subprocess, as a context manager that returns its base URL.

    Args:
        environments: The environments to serve. Requests without an environment's name go to the first one.
        port: The port; None takes a free one.
        host: The address to listen on. The default is reachable from this machine only. Requests are not authenticated.
        start_timeout_s: Seconds until the server must answer.

    Raises:
        ConfigurationError: `environments` is empty, or one of them cannot be served.
        MissingExtraError: The extra `server` is not installed.

    Example:
        with serve.local(["weather"]) as base_url:
            env = gym.make("OpenReward-v0", environment="weather", base_url=base_url)
    """
    return LocalServer(environments, port=port, host=host, start_timeout_s=start_timeout_s)
