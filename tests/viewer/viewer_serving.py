"""The viewer's server for tests: over a real socket, in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.server import create_app


@contextmanager
def viewing(runs: Path, **options: Any) -> Iterator[str]:
    """The viewer of these runs on a free loopback port; gives its address."""
    index = RunIndex([runs], runs.parent / "index.sqlite")
    index.refresh()
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(index, **options), log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        index.close()
