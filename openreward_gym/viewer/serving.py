"""The viewer served: an address for people, a token where others could reach it."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING

from openreward_gym.errors import ConfigurationError, MissingExtraError
from openreward_gym.viewer.index import RunIndex

if TYPE_CHECKING:
    from openreward_gym.viewer.powers import Powers


def serve(
    index: RunIndex,
    host: str,
    port: int,
    *,
    browse: bool,
    announce: Callable[[str], None],
    warn: Callable[[str], None],
    powers: Powers | None = None,
) -> None:
    """Serve the runs of `index` until this process is interrupted.

    Args:
        index: The runs.
        host: The address to listen on; other than this machine's own, the page needs a token.
        port: The port; 0 takes a free one.
        browse: Open the browser.
        announce: Is told where the viewer is.
        warn: Is told what to mind, where others can reach it.
        powers: Export lens and replay check; None for neither.

    Raises:
        MissingExtraError: The extra `viewer` is not installed.
        ConfigurationError: The port is taken, or the host is none of this machine.
    """
    try:
        import uvicorn

        from openreward_gym.viewer.guard import is_loopback
        from openreward_gym.viewer.server import create_app
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the viewer needs {error.name}: pip install 'openreward-gym[viewer]'") from None
    token = None if is_loopback(host) else secrets.token_urlsafe(24)
    listening = _listen(host, port)
    place = f"[{host}]" if ":" in host else host
    address = f"http://{place}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else "")
    announce(f"The viewer is at {address} (Ctrl-C ends it)")
    if token:
        warn("Who has this address can read the runs and write labels; without TLS, so can who listens.")
    if browse:
        webbrowser.open(address)
    app = create_app(index, token=token, powers=powers)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=2)).run([listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # who comes to the announced address before the server is ready waits, and is not refused
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"nothing can be served at {host}:{port}: {error.strerror or error}; try --port 0") from None
    return listening
