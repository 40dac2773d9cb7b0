"""A server in the foreground, as `openreward-gym serve` runs it, with or without reloading.

With `reload`, a new process loads changed files beside the running server. If they load, it takes over; if not, their error is
shown and the old server goes on. Both processes share the listening socket, so connections are accepted all the time. Open
sessions end with the server that had them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
import time
import urllib.request
import weakref
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TypeAlias

from openreward_gym.errors import ConfigurationError, OpenRewardGymError
from openreward_gym.serve.environments import Servable, check, pack
from openreward_gym.serve.examples import BUILT_IN
from openreward_gym.serve.server import LocalServer, base_url_of, end_process, listen, start_process

POLL_S = 0.3
"""Seconds between two looks at the files."""

_SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages"})

Snapshot: TypeAlias = Mapping[str, tuple[int, int]]
"""The time of modification (ns) and the size of each file, by path."""


def run(
    environments: Servable | Iterable[Servable],
    *,
    host: str = "127.0.0.1",
    port: int | None = 8080,
    reload: bool = False,
    announce: Callable[[str], None],
    on_ready: Callable[[str, list[str], list[str]], None] | None = None,
) -> None:
    """Serve `environments` until this process is interrupted. Their log goes to standard error.

    Args:
        environments: The environments to serve, as for `local`.
        host: The address to listen on.
        port: The port; None takes a free one.
        reload: If true, load the environments again when their files change.
        announce: A function that gets the messages, line by line: the base URL, commands to try, reloads, the end.
        on_ready: A function that gets the base URL, the names of the environments and the commands to try, in place of the
            lines about them. None announces the lines.

    Raises:
        ConfigurationError: The port is taken, or an environment cannot be served.
        OpenRewardGymError: The server ended by itself.

    Example:
        serve.run(["weather"], announce=print)
    """

    def started(base_url: str) -> None:
        # The server is on this machine, so proxy settings do not apply.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{base_url}/list_environments", timeout=30) as response:
            names = json.load(response)
        first, address = shlex.quote(names[0]), shlex.quote(base_url)
        commands = [
            f"openreward-gym tasks {first} --base-url {address}",
            f"openreward-gym collect {first} --base-url {address} --policy random",
        ]
        if on_ready is not None:
            on_ready(base_url, names, commands)
            return
        announce(f"Serving {', '.join(names)} at {base_url}  (Ctrl-C stops)")
        for command in commands:
            announce(f"  {command}")

    if reload:
        _run_reloading(environments, host=host, port=port, announce=announce, started=started)
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


def _run_reloading(
    environments: Servable | Iterable[Servable],
    *,
    host: str,
    port: int | None,
    announce: Callable[[str], None],
    started: Callable[[str], None],
) -> None:
    """Do as `run` with `reload`. `started` gets the base URL when the first server is up."""
    checked = check(environments)
    folders = folders_of(checked)
    with listen(host, port or 0) as listener:
        current: _ServerProcess | None = None
        try:
            while True:
                before = snapshot(folders)
                new = _ServerProcess(listener, pack(checked))
                if new.is_ready():
                    old, current = current, new
                    if old is None:
                        started(base_url_of(host, listener.getsockname()[1]))
                    else:
                        old.stop()
                        announce("Reloaded.")
                else:
                    new.stop()
                    state = "the server goes on as it was" if current is not None else "nothing is served"
                    announce(f"The files do not load (see above): {state} until a file changes.")
                names = _wait_for_change(folders, before, current, announce)
                announce(f"{', '.join(names)} changed.")
        except KeyboardInterrupt:
            announce("Stopping.")
        finally:
            if current is not None:
                current.stop()


def _wait_for_change(
    folders: list[Path], before: Snapshot, current: _ServerProcess | None, announce: Callable[[str], None]
) -> list[str]:
    """Wait until files have changed since `before` and no more change, and return their names."""
    announced_end = False
    while not (names := changed(before, now := snapshot(folders))):
        if current is not None and current.process.poll() is not None and not announced_end:
            announce("The server ended by itself (see above); a change of a file starts it again.")
            announced_end = True
        time.sleep(POLL_S)
    # An editor writes a file in several steps, and a checkout writes many files.
    time.sleep(POLL_S / 3)
    while now != (now := snapshot(folders)):
        time.sleep(POLL_S / 3)
    return sorted({os.path.relpath(name) for name in names})


class _ServerProcess:
    """A process that serves the environments as their files were at its start."""

    def __init__(self, listener: socket.socket, packed: bytes) -> None:
        self._ready, ready = os.pipe()
        try:
            # Python reuses a compiled file if its source has the same second and size, which a quick edit may keep.
            self.process = start_process(listener, packed, ready=ready, environ={"PYTHONDONTWRITEBYTECODE": "1"})
            self._finalizer = weakref.finalize(self, end_process, self.process)
        finally:
            os.close(ready)

    def is_ready(self) -> bool:
        """Wait until the process serves or has ended, and return True if it serves."""
        try:
            return bool(os.read(self._ready, 16))
        finally:
            os.close(self._ready)

    def stop(self) -> None:
        """End the process. Open sessions are torn down."""
        self._finalizer()
        self.process.wait()


def folders_of(environments: Iterable[Servable]) -> list[Path]:
    """Return the folders to watch: the folder of each environment's file, or of its top-level package."""
    folders: dict[Path, None] = {}
    for environment in environments:
        if not isinstance(environment, str) or environment in BUILT_IN:
            continue
        module = environment.rpartition(":")[0]
        if module.endswith(".py"):
            folders[Path(module).resolve().parent] = None
            continue
        # Find the module without importing it: it may be broken right now.
        spec = PathFinder.find_spec(module.partition(".")[0], [os.getcwd(), *sys.path])
        if spec is not None and spec.origin is not None:
            folders[Path(spec.origin).resolve().parent] = None
        elif spec is not None:
            folders.update(dict.fromkeys(Path(place).resolve() for place in spec.submodule_search_locations or ()))
    if not folders:
        raise ConfigurationError(
            "--reload watches the files of your environments, but none of these has files: name one as module:Class or "
            "file.py:Class"
        )
    return list(folders)


def snapshot(folders: Iterable[Path]) -> Snapshot:
    """Return the state of the Python files below `folders`, except in hidden folders and virtual environments."""
    files_by_path: dict[str, tuple[int, int]] = {}
    for top in folders:
        for folder, below, files in os.walk(top):
            below[:] = [name for name in below if not name.startswith(".") and name not in _SKIPPED_FOLDERS]
            below[:] = [name for name in below if not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))]
            for path in [os.path.join(folder, name) for name in files if name.endswith(".py")]:
                with contextlib.suppress(OSError):  # it was removed after the listing
                    state = os.stat(path)
                    files_by_path[path] = (state.st_mtime_ns, state.st_size)
    return files_by_path


def changed(before: Snapshot, after: Snapshot) -> list[str]:
    """Return the files that were added, removed or modified between two snapshots."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
