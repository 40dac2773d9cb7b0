"""A server of environments in a process of its own, that never outlives its owner."""

from __future__ import annotations

import contextlib
import errno
import http
import http.client
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from openreward_gym.errors import ConfigurationError, TransportTimeoutError
from openreward_gym.serve import child
from openreward_gym.serve.asgi import QUIET
from openreward_gym.serve.child import EXIT_CONFIGURATION, GRACE_S, MAX_REASON
from openreward_gym.serve.environments import Servable, check, pack, shown

_LOG_TAIL_LINES = 30
_STDERR = 2


class LocalServer:
    """Environments on this machine, served by the official SDK in a subprocess.

    The server is ready when `start` returns, and gone when `stop` does. It also goes when the object is collected, when
    the interpreter exits, and when this process is killed. A context manager gives its address:

        with LocalServer(["weather"]) as base_url:
            ...

    Args:
        environments: What to serve; the first is the one that answers where none is named.
        port: The port; None takes a free one.
        host: The address to listen on. The default is seen by this machine alone; there is no authentication.
        start_timeout_s: Seconds until the server must answer.
        show_log: Whether its log goes to this process's standard error instead of being kept in `log`.

    Raises:
        ConfigurationError: Nothing to serve, or something that cannot be.
        MissingExtraError: The extra `server` is not installed.
    """

    def __init__(
        self,
        environments: Servable | Iterable[Servable],
        *,
        port: int | None = None,
        host: str = "127.0.0.1",
        start_timeout_s: float = 120.0,
        show_log: bool = False,
    ) -> None:
        self.environments = check(environments)
        self.host = host
        self.port = port
        self.start_timeout_s = start_timeout_s
        self._show_log = show_log
        self._base_url = ""
        self._log_text = ""
        self._log_path: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[..., LocalServer] | None = None
        self._owner = 0
        self._reason: int | None = None  # where the process says why it cannot serve, if its log is shown

    @property
    def base_url(self) -> str:
        """Where the server answers.

        Raises:
            ConfigurationError: It is not running.
        """
        if not self._base_url:
            raise ConfigurationError("the server is not running: call start(), or use it in a `with` block")
        return self._base_url

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return self._process.pid if self._process is not None else None

    @property
    def log(self) -> str:
        """What the server and its environments wrote; kept after `stop`. Empty where it is shown instead."""
        if self._log_path is not None:
            self._log_text = self._log_path.read_text("utf-8", "replace")
        return self._log_text

    def start(self) -> str:
        """Starts the server and waits until it answers; returns its address. A running one is left as it is.

        Raises:
            ConfigurationError: The port is taken, or the server ended before it was ready (with the end of its log).
            TransportTimeoutError: It did not answer within `start_timeout_s`.
        """
        if self._process is not None and self._process.poll() is None:
            return self.base_url
        self.stop()
        packed = pack(self.environments)
        with listen(self.host, self.port or 0) as listener:
            port = listener.getsockname()[1]
            try:
                self._spawn(listener, packed)
                listener.close()  # from here on a refused connection means that the server is gone
                self._wait_until_healthy(port)
            except BaseException:
                self.stop()
                raise
            finally:
                if self._reason is not None:
                    os.close(self._reason)
                    self._reason = None
        self._base_url = address(self.host, port)
        return self._base_url

    def stop(self) -> None:
        """Ends the server: open sessions are torn down, and what does not end within seconds is killed."""
        self._base_url = ""
        if self._process is None or self._finalizer is None or self._finalizer.detach() is None:
            return
        if self._owner == os.getpid():
            end(self._process)
            _ = self.log  # the last lines too, before the file goes
            _remove(self._log_path)
        self._process = self._finalizer = self._log_path = None

    def wait(self) -> int:
        """Waits until the server ends by itself; returns its exit code."""
        if self._process is None:
            raise ConfigurationError("the server is not running: call start() first")
        return self._process.wait()

    def __enter__(self) -> str:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        names = [shown(environment) for environment in self.environments]
        return f"LocalServer({names}, {self._base_url or 'not running'})"

    def _spawn(self, listener: socket.socket, packed: bytes) -> None:
        log: int | None = None
        reason: int | None = None
        if self._show_log:
            self._reason, reason = os.pipe()
        else:
            log, path = tempfile.mkstemp(prefix="openreward-gym-", suffix=".log")
            self._log_path = Path(path)
        try:
            self._process = begin(listener, log, fds=[] if reason is None else [reason])
        finally:
            for file in (log, reason):
                if file is not None:
                    os.close(file)
        self._owner = os.getpid()
        self._finalizer = weakref.finalize(self, _end_and_remove, self._process, self._log_path, self._owner)
        order(self._process, listener, packed, reason=reason)

    def _wait_until_healthy(self, port: int) -> None:
        # The listener takes connections from the start, so one request waits for exactly as long as the server needs.
        connection = http.client.HTTPConnection(reachable(self.host), port, timeout=self.start_timeout_s)
        try:
            connection.request("GET", "/health")
            with connection.getresponse() as response:
                if response.status == http.HTTPStatus.OK:
                    return
        except TimeoutError:
            raise TransportTimeoutError(
                f"the server did not answer within {self.start_timeout_s:g} s: give it longer with start_timeout_s=, "
                f"or see what it waits for.\n{self._log_tail()}"
            ) from None
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        assert self._process is not None
        try:
            code = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            raise ConfigurationError(f"the server runs but is not healthy.\n{self._log_tail()}") from None
        if self._reason is not None:
            self._raise_reason(self._reason, named=code != EXIT_CONFIGURATION)
        elif code == EXIT_CONFIGURATION:
            raise ConfigurationError(self._log_tail(title="").strip())
        raise ConfigurationError(
            f"the server ended before it was ready (exit code {code}). Import the environments in a Python of their own to "
            f"see whether they load by themselves.\n{self._log_tail()}"
        )

    def _raise_reason(self, reason: int, *, named: bool) -> None:
        """Raises what the process said; nothing, where it ended without a word."""
        os.set_blocking(reason, False)  # what it started may hold the other end
        with contextlib.suppress(BlockingIOError):
            line, _, told = os.read(reason, MAX_REASON).decode("utf-8", "replace").partition("\0")
            if line:
                names = ", ".join(shown(environment) for environment in self.environments)
                error = ConfigurationError(f"cannot serve {names}: {line}" if named else line)
                error.add_note(told)  # with a traceback of ours, theirs
                raise error

    def _log_tail(self, title: str = "The end of its log:\n") -> str:
        if self._show_log:
            return "Its log is above."
        return title + ("\n".join(self.log.splitlines()[-_LOG_TAIL_LINES:]) or "(empty)")


def begin(
    listener: socket.socket, log: int | None, *, fds: Sequence[int] = (), environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """A server's process, which waits to be told what to serve.

    Args:
        listener: The listening socket that it gets.
        log: The file that takes its log; None shows it.
        fds: Further files that it gets.
        environ: Further environment variables.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-u", str(Path(child.__file__).resolve())],
        stdin=subprocess.PIPE,
        stdout=_STDERR if log is None else log,
        stderr=_STDERR if log is None else log,
        pass_fds=[listener.fileno(), *fds],
        env={**QUIET, **os.environ, **(environ or {})},
        # Out of reach of Ctrl-C, which is the owner's to handle; and a group that can be killed as one.
        start_new_session=True,
    )


def order(
    process: subprocess.Popen[bytes],
    listener: socket.socket,
    packed: bytes,
    *,
    ready: int | None = None,
    reason: int | None = None,
) -> None:
    """Tells a server's process what to serve.

    Args:
        process: What `begin` gave.
        listener: The listening socket that it got.
        packed: The environments, from `pack`.
        ready: A file of its own that it writes to when it is about to serve; None for none.
        reason: One that it writes to why it cannot; None: it writes that to its log.
    """
    told = {"parent": os.getpid(), "sys_path": sys.path, "listener": listener.fileno(), "environments": packed}
    request = pickle.dumps({**told, "ready": ready, "reason": reason})
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it is gone: whoever waits for it finds out
        process.stdin.write(struct.pack("!Q", len(request)) + request)
        process.stdin.flush()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket: whoever holds it holds the port, so nobody can take it between choosing and serving.

    Raises:
        ConfigurationError: The port is taken, or the address is none of this machine.
    """
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"there is no port {port}: ports go from 1 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"port {port} on {host} is in use: stop the program that has it, or choose another port (a free one: port=None, "
                "--port 0)"
            ) from None
        raise ConfigurationError(f"cannot listen on {host}, port {port}: {error}") from None


def address(host: str, port: int) -> str:
    """The base URL of a server that listens there."""
    host = reachable(host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def reachable(host: str) -> str:
    """The address at which this machine finds a server that listens on `host`."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends the server's process: asks, waits, kills."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    # A process forked from this one may hold the stream open, so closing it does not always tell.
    process.terminate()
    try:
        process.wait(GRACE_S + 1.0)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _end_and_remove(process: subprocess.Popen[bytes], log_path: Path | None, owner: int) -> None:
    """What happens where nobody called `stop`. A forked process has a copy of the object, but not of the server."""
    if os.getpid() == owner:
        end(process)
        _remove(log_path)


def _remove(log_path: Path | None) -> None:
    if log_path is not None:
        log_path.unlink(missing_ok=True)
