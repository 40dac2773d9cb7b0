"""The viewer's app on a real socket, with an index beside the runs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openreward_gym.viewer.app import create_app, start
from openreward_gym.viewer.index import RunIndex


@contextmanager
def viewing(runs: Path, **options: Any) -> Iterator[str]:
    """Serve the viewer of these runs on a free loopback port; yield its URL."""
    index = RunIndex([runs], runs.parent / "index.sqlite")
    index.refresh()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread, stop = start(create_app(index, **options), listener)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop()
            thread.join(20)
            index.close()
