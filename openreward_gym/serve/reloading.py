"""A server in development: files change, and the environments with them.

What changed is loaded in a process of its own beside the running server. Where it loads, it takes the server's place; where it
does not, its error is shown and the old server goes on. Both have the same listening socket, so nobody who connects is turned
away in between. Sessions that are open end with the server that had them.
"""

from __future__ import annotations

import os
import select
import socket
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path

from openreward_gym.serve.environments import Servable, check, pack
from openreward_gym.serve.server import address, begin, end, listen, order
from openreward_gym.serve.watching import Snapshot, changed, folders_of, snapshot

__all__ = ["run_reloading"]

LOOK_S = 0.3
"""Seconds between two looks at the files."""


def run_reloading(
    environments: Servable | Iterable[Servable],
    *,
    host: str,
    port: int | None,
    announce: Callable[[str], None],
    started: Callable[[str], None],
) -> None:
    """Serves `environments` until this process is interrupted, loading them anew whenever their files change.

    Args:
        environments: What to serve, as for `LocalServer`.
        host: The address to listen on.
        port: The port; None takes a free one.
        announce: Is told what happens, line by line.
        started: Is told the base URL once the first server is there.

    Raises:
        ConfigurationError: The port is taken, or there is nothing to watch.
    """
    wanted = check(environments)
    folders = folders_of(wanted)
    with listen(host, port or 0) as listener:
        base_url = address(host, listener.getsockname()[1])
        serving: _Generation | None = None
        announced = False
        try:
            while True:
                seen = snapshot(folders)
                fresh = _Generation(listener, pack(wanted))
                if fresh.is_ready():
                    if serving is not None:
                        serving.stop()
                        announce("Reloaded.")
                    serving = fresh
                    if not announced:
                        started(base_url)
                        announced = True
                else:
                    fresh.stop()
                    still = "the server goes on as it was" if serving is not None else "nothing is served"
                    announce(f"That does not load (see above): {still} until a file changes.")
                names = _wait_for_a_change(folders, seen, serving, announce)
                announce(f"{', '.join(names)} changed.")
        except KeyboardInterrupt:
            announce("Stopping.")
        finally:
            if serving is not None:
                serving.stop()


def _wait_for_a_change(
    folders: list[Path], seen: Snapshot, serving: _Generation | None, announce: Callable[[str], None]
) -> list[str]:
    """Names of the files that changed since `seen`, once some have and no more do."""
    told = False
    while not (names := changed(seen, now := snapshot(folders))):
        if serving is not None and serving.has_ended() and not told:
            announce("The server ended by itself (see above); a change of a file starts it again.")
            told = True
        time.sleep(LOOK_S)
    # An editor writes in several steps, and a checkout many files.
    while now != (now := _later(folders)):
        pass
    return sorted({os.path.relpath(name) for name in names})


def _later(folders: list[Path]) -> Snapshot:
    time.sleep(LOOK_S / 3)
    return snapshot(folders)


class _Generation:
    """One process that serves the environments as their files were when it began."""

    def __init__(self, listener: socket.socket, packed: bytes) -> None:
        self._told, tell = os.pipe()
        try:
            # A compiled file counts as fresh by its source's second and size, which a quick edit may keep.
            self._process = begin(listener, None, fds=[tell], environ={"PYTHONDONTWRITEBYTECODE": "1"})
            self._finalizer = weakref.finalize(self, end, self._process)
            order(self._process, listener, packed, ready=tell)
        finally:
            os.close(tell)

    def is_ready(self) -> bool:
        """Waits until it serves, or has ended because it cannot; whether it serves."""
        try:
            select.select([self._told], [], [])
            return bool(os.read(self._told, 16))
        finally:
            os.close(self._told)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """Ends it: open sessions are torn down."""
        self._finalizer()
        self._process.wait()
