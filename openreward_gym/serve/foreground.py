"""`openreward-gym serve`: a server until Ctrl-C."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterable

from openreward_gym.errors import OpenRewardGymError
from openreward_gym.serve.environments import Servable
from openreward_gym.serve.reloading import run_reloading
from openreward_gym.serve.server import LocalServer


def run(
    environments: Servable | Iterable[Servable],
    *,
    host: str = "127.0.0.1",
    port: int | None = 8080,
    reload: bool = False,
    announce: Callable[[str], None],
) -> None:
    """Serves `environments` until this process is interrupted; their log goes to standard error.

    Args:
        environments: What to serve, as for `LocalServer`.
        host: The address to listen on.
        port: The port; None takes a free one.
        reload: Whether to load the environments anew when their files change.
        announce: Is told, line by line, where the server is and what to do with it, and when it stops.

    Raises:
        ConfigurationError: The port is taken, or something cannot be served.
        OpenRewardGymError: The server ended by itself.
    """

    def started(base_url: str) -> None:
        names = _names(base_url)
        announce(f"Serving {', '.join(names)} at {base_url}  (Ctrl-C stops)")
        announce(f"  openreward-gym tasks {names[0]} --base-url {base_url}")
        announce(f"  openreward-gym collect {names[0]} --base-url {base_url} --policy random")

    if reload:
        run_reloading(environments, host=host, port=port, announce=announce, started=started)
        return
    server = LocalServer(environments, host=host, port=port, show_log=True)
    try:
        started(server.start())
        code = server.wait()
    except KeyboardInterrupt:
        announce("Stopping.")
        return
    finally:
        server.stop()
    raise OpenRewardGymError(f"the server ended by itself (exit code {code}); its log is above")


def _names(base_url: str) -> list[str]:
    # No proxy: the server is on this machine, whatever the environment's proxy settings are.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{base_url}/list_environments", timeout=30) as response:
        return [str(name) for name in json.load(response)]
