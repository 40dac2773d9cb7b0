"""The viewer from Python: serve runs over HTTP, show a run or a rollout in a notebook or a browser."""

from __future__ import annotations

import atexit
import contextlib
import html
import os
import secrets
import shutil
import socket
import sys
import tempfile
import weakref
import webbrowser
from collections.abc import Mapping
from pathlib import Path

from openreward_gym.errors import ConfigurationError
from openreward_gym.recording import Recorder
from openreward_gym.recording.log import RolloutLog
from openreward_gym.store import OnDamage, RolloutStore
from openreward_gym.store.store import viewer_address
from openreward_gym.types.rollout import Rollout
from openreward_gym.viewer.addresses import address, is_loopback, reachable_hosts
from openreward_gym.viewer.app import ViewerExtensions, create_app, start
from openreward_gym.viewer.index import RunIndex, Runs
from openreward_gym.viewer.page import MAX_MB, MAX_ROLLOUTS, write_page


class ViewerServer:
    """A running viewer, served from a thread of this process until `stop`, the end of its `with` block or of the process.

    Attributes:
        url: The page's URL; with the token, if the server needs one.
        urls: All URLs of the page. A server that listens on all addresses has one for this machine and one for others.
        token: The token that every request needs; None for a server that only this machine can reach.

    Example:
        >>> from openreward_gym import Rollout
        >>> server = show(Rollout(status="completed"), open_browser=False)
        >>> server
        ViewerServer('http://127.0.0.1:.../#/rollouts?run=...', running)
        >>> server.stop()
    """

    def __init__(
        self,
        index: RunIndex,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        extensions: ViewerExtensions | None = None,
        embeddable: bool = False,
        height: int = 800,
    ) -> None:
        self.token = None if is_loopback(host) else secrets.token_urlsafe(24)
        self._index, self._embeddable, self._height = index, embeddable, height
        app = create_app(index, token=self.token, extensions=extensions, embeddable=embeddable, allow_export=self.token is None)
        listener = _listen(host, port)
        port = listener.getsockname()[1]
        self.urls = [address(name, port, self.token) for name in reachable_hosts(host)]
        self.url = self.urls[0]
        self._thread, self._request_stop = start(app, listener)
        # A thread that is still inside SQLite while the interpreter ends crashes the process.
        atexit.register(self.stop)

    def wait(self) -> None:
        """Serve until the server is stopped: by Ctrl-C, or by another thread."""
        try:
            self._thread.join()
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop the server. Stopping it again has no effect."""
        atexit.unregister(self.stop)
        if self._thread.is_alive():  # it is not in a process that was forked
            self._request_stop()
            self._thread.join()
        self._index.close()

    def __enter__(self) -> str:
        return self.url

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self._thread.is_alive() else "stopped"
        return f"ViewerServer({self.url.partition('?token=')[0]!r}, {state})"

    def _repr_html_(self) -> str:
        if not self._thread.is_alive():
            return "<p>The viewer is stopped.</p>"
        url = html.escape(self.url)
        if not self._embeddable:
            return f'<p><a href="{url}" target="_blank" rel="noopener">Open the viewer</a></p>'
        return f'<iframe src="{url}" title="Rollout viewer" width="100%" height="{self._height}" style="border:0"></iframe>'


def serve(
    runs: Runs | Recorder,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    replay: str | None = None,
    tokenizer: str | None = None,
    secrets_env: Mapping[str, str] | None = None,
) -> ViewerServer:
    """Serve runs from a thread, as a web page that follows them while they are written.

    Use the server as a context manager that gives the URL, or call `wait` to serve until Ctrl-C.

    Args:
        runs: Runs' folders or stores, or folders of runs; one or several. Or a recorder, whose runs are shown while it records.
        host: The address to listen on. If other machines can reach it, every request needs the token in the server's URL,
            which anyone on the network can read without TLS.
        port: The port; 0 takes a free one.
        replay: The URL of an environment server on which the page may make recorded calls again; None for no replay. A URL
            inside a record is never used: records are not trusted.
        tokenizer: The name or folder of a model whose tokenizer shows recorded tokens, and the export lens's rows, as text;
            None shows ids and messages.
        secrets_env: The environment variables of the replay sessions' secrets, by name of the secret.

    Raises:
        MissingExtraError: The extra `viewer` is not installed, or `tokenizer` is given and `transformers` is not.
        ConfigurationError: `runs` is empty, or the port, the host, the URL or the tokenizer cannot be used.
        StoreError: A folder does not exist.

    Example:
        >>> import urllib.request
        >>> from openreward_gym import Rollout, RolloutStore
        >>> RolloutStore("runs/first").append(Rollout(status="completed", reward=1.0))
        >>> with serve("runs/first", port=0) as url:
        ...     urllib.request.urlopen(url).status
        200
    """
    extensions = make_extensions(replay, tokenizer, secrets_env)
    return ViewerServer(RunIndex(_runs_of(runs)), host=host, port=port, extensions=extensions)


def show(target: Rollout | RolloutLog | Recorder | Runs, *, height: int = 800, open_browser: bool | None = None) -> ViewerServer:
    """Show a rollout or runs in the viewer: inside a notebook cell, or else in the browser.

    The page is served on a free loopback port until the returned server is stopped or the process ends; at the end of a
    script, call `wait`. A notebook shows the server as a frame if browser and kernel run on the same machine.

    Args:
        target: A rollout, which is written to a temporary run; a rollout that is being logged, which is followed; or runs, or a
            recorder, as in `serve`.
        height: The height of the frame in a notebook, in pixels.
        open_browser: Whether to open the browser; None opens it outside of notebooks.

    Raises:
        MissingExtraError: The extra `viewer` is not installed.
        ConfigurationError: `target` is empty.
        StoreError: A folder does not exist.

    Example:
        >>> from openreward_gym import Rollout
        >>> server = show(Rollout(status="completed", reward=1.0), open_browser=False)
        >>> server.stop()
    """
    folder = "rollout"
    if isinstance(target, Rollout):
        index = _temporary_index(target)
    elif isinstance(target, RolloutLog):
        index = RunIndex(_made(target.store.path))
        folder = Path(target.store.path).resolve().name
        target = target.rollout
    else:
        index = RunIndex(_runs_of(target))
    server = ViewerServer(index, extensions=make_extensions(), embeddable=True, height=height)
    if isinstance(target, Rollout):
        server.url = viewer_address(folder, target.run or folder, target.id, server.url.rstrip("/"))
    if open_browser or (open_browser is None and not _in_notebook()):
        webbrowser.open(server.url)
    return server


def write_html(
    runs: Runs,
    file: str | os.PathLike[str],
    *,
    filter: str = "",
    limit: int = MAX_ROLLOUTS,
    limit_mb: float = MAX_MB,
    on_damage: OnDamage = lambda damage: None,
) -> int:
    """Write runs to one HTML file that opens without a server; return the number of rollouts in it.

    Args:
        runs: Runs' folders or stores, or folders of runs; one or several.
        file: The file. It is written whole or not at all.
        filter: An expression that selects rollouts, like `reward > 0.5`; empty for all. See `openreward_gym.viewer.filters`.
        limit: The largest number of rollouts that the file may hold.
        limit_mb: The largest size of their records, in megabytes: a browser reads the whole file at once.
        on_damage: Called with what cannot be read, of each file the first 20 lines; the page holds the rest.

    Raises:
        ConfigurationError: No rollout matches, more than `limit` or `limit_mb` match, or the filter cannot be parsed.
        StoreError: A folder does not exist, or the file cannot be written.

    Example:
        >>> from openreward_gym import Rollout, RolloutStore
        >>> RolloutStore("runs/shared").append(Rollout(status="completed", reward=1.0))
        >>> write_html("runs/shared", "shared.html", filter="reward > 0.5")
        1
    """
    with contextlib.closing(RunIndex(runs)) as index:
        return write_page(index, file, filter, limit, on_damage, limit_mb)


def _runs_of(runs: Runs | Recorder) -> Runs:
    return [_made(path) for path in runs.paths] if isinstance(runs, Recorder) else runs


def _made(path: str) -> Path:
    """Return a folder, after making it if nothing has been recorded into it yet."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _temporary_index(rollout: Rollout) -> RunIndex:
    """Write a rollout to a temporary run, which lives as long as its index."""
    folder = tempfile.mkdtemp(prefix="openreward-gym-viewer-")
    with RolloutStore(os.path.join(folder, "rollout")) as store:
        store.append(rollout)
    index = RunIndex([store.path], os.path.join(folder, "index.sqlite"))
    weakref.finalize(index, shutil.rmtree, folder, ignore_errors=True)
    index.refresh()
    return index


def make_extensions(
    replay: str | None = None, tokenizer: str | None = None, secrets_env: Mapping[str, str] | None = None
) -> ViewerExtensions:
    """Return the export lens, and the replay check if there is a server to replay on."""
    from openreward_gym.viewer.lens import ExportLens

    lens = ExportLens(tokenizer)
    if replay is None:
        return ViewerExtensions(lens, lens.formats, decode=lens.decode)
    from openreward_gym.viewer.replay import ReplayCheck

    check = ReplayCheck(replay, secrets_env)
    return ViewerExtensions(lens, lens.formats, check, check.shown_url, lens.decode)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # connections made before the server is ready wait, and are not refused
    except OSError as error:
        listener.close()
        advice = "Try port 0" if port and not isinstance(error, socket.gaierror) else "Check the host"
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}. {advice}.") from None
    return listener


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ != "TerminalInteractiveShell"
