"""The command `serve`: environments on this machine."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Annotated

import typer

from openreward_gym.cli.completion import complete_environment
from openreward_gym.cli.parameters import AsJson
from openreward_gym.errors import ConfigurationError
from openreward_gym.processes import raise_open_file_limit

SERVED_CONNECTIONS = 8192
"""Number of open files that `serve` requests from the system: a connection per session, and what environments open."""
_LOOK_S = 1.0
"""Seconds to wait for the server that already uses a port to say what it serves."""


def serve(
    environments: Annotated[
        list[str],
        typer.Argument(
            metavar="ENVIRONMENT",
            help="weather, ctf, bandit, reasoning; module:Class or file.py:Class; or a Gymnasium id.",
            autocompletion=complete_environment,
        ),
    ],
    port: Annotated[int, typer.Option(metavar="N", help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8080,
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    reload: Annotated[bool, typer.Option("--reload", help="Reload environments when their files change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Serve environments on this machine until Ctrl-C.

    The log of the environments goes to stderr. Exit code 1: the port is in use, or the server ended by itself.

    Example: openreward-gym serve weather FrozenLake-v1 my_env.py:MyEnvironment --reload
    """
    from openreward_gym.serve import run
    from openreward_gym.serve.environments import check
    from openreward_gym.serve.server import base_url_of, listen

    check(environments)
    if port:
        try:
            listen(host, port).close()
        except ConfigurationError as error:
            if getattr(error, "port_in_use", False):
                raise _port_in_use(base_url_of(host, port)) from None
            raise
    raise_open_file_limit(SERVED_CONNECTIONS)

    def announce(line: str) -> None:
        print(json.dumps({"event": "message", "message": line}) if as_json else line, flush=True)

    def on_ready(base_url: str, names: Sequence[str], commands: Sequence[str]) -> None:
        event = {"event": "ready", "base_url": base_url, "environments": list(names), "next": list(commands)}
        print(json.dumps(event), flush=True)

    run(environments, host=host, port=port or None, reload=reload, announce=announce, on_ready=on_ready if as_json else None)


def _port_in_use(base_url: str) -> ConfigurationError:
    """Return the error that says what uses a port, if it is a server of environments."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    user = "another program listens there"
    try:
        with opener.open(f"{base_url}/list_environments", timeout=_LOOK_S) as response:
            names = json.loads(response.read(65_536))
        if isinstance(names, list) and names:
            shown = ", ".join(repr(str(name))[1:-1][:60] for name in names[:5])
            user = f"another server, of {shown}{', ...' if len(names) > 5 else ''}, answers there"
    except (OSError, ValueError, urllib.error.URLError):
        pass
    return ConfigurationError(
        f"nothing is served: {base_url} is in use, {user}; stop it, or choose another port (--port 0 takes a free one)",
        port_in_use=True,
    )
