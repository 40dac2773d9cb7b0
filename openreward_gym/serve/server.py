"""A server of environments in a subprocess that never outlives its owner."""

from __future__ import annotations

import contextlib
import errno
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
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from openreward_gym.errors import ConfigurationError, TransportTimeoutError
from openreward_gym.serve import child
from openreward_gym.serve.asgi import quiet
from openreward_gym.serve.child import EXIT_CONFIGURATION, GRACE_S, MAX_REASON
from openreward_gym.serve.environments import Servable, check, display_name, pack
from openreward_gym.terminal import has_control_codes

_LOG_TAIL_LINES = 30
_STDERR = 2


class LocalServer:
    """A server of environments on this machine, run by the official SDK in a subprocess.

    `start` returns when the server is ready, `stop` when it is gone. The server also ends when the object is garbage
    collected, when the interpreter exits and when this process is killed. As a context manager it returns its base URL.

    The arguments are those of `local`. With `show_log` the log goes to this process's standard error instead of `log`.

    Raises:
        ConfigurationError: `environments` is empty, or one of them cannot be served.
        MissingExtraError: The extra `server` is not installed.

    Example:
        >>> import gymnasium as gym
        >>> with LocalServer(["weather"]) as base_url:
        ...     env = gym.make("OpenReward-v0", environment="weather", base_url=base_url)
        ...     env.close()
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
        self._reason: int | None = None  # the pipe with the reason if the process cannot serve and its log is shown

    @property
    def base_url(self) -> str:
        """The server's base URL.

        Raises:
            ConfigurationError: The server is not running.
        """
        if not self._base_url:
            raise ConfigurationError("the server is not running: call start(), or use it in a `with` block")
        return self._base_url

    @property
    def pid(self) -> int | None:
        """The id of the server's process; None if it is not running."""
        return self._process.pid if self._process is not None else None

    @property
    def log(self) -> str:
        """The output of the server and its environments, also after `stop`. Empty with `show_log`."""
        if self._log_path is not None:
            self._log_text = self._log_path.read_text("utf-8", "replace")
        return self._log_text

    def start(self) -> str:
        """Start the server, wait until it answers, and return its base URL. Does nothing if the server is running.

        Raises:
            ConfigurationError: The port is taken, or the server ended before it was ready (with the end of its log).
            TransportTimeoutError: The server did not answer within `start_timeout_s`.
        """
        if self._process is not None and self._process.poll() is None:
            return self.base_url
        self.stop()
        packed = pack(self.environments)
        with listen(self.host, self.port or 0) as listener:
            port = listener.getsockname()[1]
            try:
                self._spawn(listener, packed)
                listener.close()  # now a refused connection means that the server is gone
                self._wait_until_healthy(port)
            except BaseException:
                self.stop()
                raise
            finally:
                if self._reason is not None:
                    os.close(self._reason)
                    self._reason = None
        self._base_url = base_url_of(self.host, port)
        return self._base_url

    def stop(self) -> None:
        """End the server. Open sessions are torn down; a process that does not end within seconds is killed."""
        self._base_url = ""
        if self._process is None or self._finalizer is None or self._finalizer.detach() is None:
            return
        if self._owner == os.getpid():
            end_process(self._process)
            _ = self.log  # reads the last lines before the file is removed
            if self._log_path is not None:
                self._log_path.unlink(missing_ok=True)
        self._process = self._finalizer = self._log_path = None

    def wait(self) -> int:
        """Wait until the server ends by itself, and return its exit code."""
        if self._process is None:
            raise ConfigurationError("the server is not running: call start() first")
        return self._process.wait()

    def __enter__(self) -> str:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        names = [display_name(environment) for environment in self.environments]
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
            self._process = start_process(listener, packed, log=log, reason=reason)
        finally:
            for file in (log, reason):
                if file is not None:
                    os.close(file)
        self._owner = os.getpid()
        self._finalizer = weakref.finalize(self, _end_and_remove, self._process, self._log_path, self._owner)

    def _wait_until_healthy(self, port: int) -> None:
        # The listener accepts connections from the start, so one request waits exactly until the server is up.
        connection = http.client.HTTPConnection(_reachable(self.host), port, timeout=self.start_timeout_s)
        try:
            connection.request("GET", "/health")
            with connection.getresponse() as response:
                if response.status == 200:
                    return
        except TimeoutError:
            hint = f"increase start_timeout_s=, or see what it waits for.\n{self._log_tail()}"
            raise TransportTimeoutError(f"the server did not answer within {self.start_timeout_s:g} s: {hint}") from None
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
            f"the server ended before it was ready (exit code {code}). Import the environments in a new Python process to "
            f"see whether they load.\n{self._log_tail()}"
        )

    def _raise_reason(self, reason: int, *, named: bool) -> None:
        """Raise the error that the process reported, if it reported one."""
        os.set_blocking(reason, False)  # a subprocess of it may hold the other end open
        with contextlib.suppress(BlockingIOError):
            line, _, text = os.read(reason, MAX_REASON).decode("utf-8", "replace").partition("\0")
            if line:
                names = ", ".join(display_name(environment) for environment in self.environments)
                error = ConfigurationError(f"cannot serve {names}: {line}" if named else line)
                error.add_note(text)  # a traceback of this error then includes theirs
                raise error

    def _log_tail(self, title: str = "The end of its log:\n") -> str:
        if self._show_log:
            return "Its log is above."
        return title + ("\n".join(self.log.splitlines()[-_LOG_TAIL_LINES:]) or "(empty)")


def start_process(
    listener: socket.socket,
    packed: bytes,
    *,
    log: int | None = None,
    ready: int | None = None,
    reason: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server's process, which inherits `listener`, and send it the environments, packed by `pack`.

    It writes its log to the file `log` (None for standard error), a byte string to the file `ready` when it is about to serve,
    and to the file `reason` why it cannot serve (None for the log).
    """
    output = _STDERR if log is None else log
    # A log that is kept in a file is read as text; FORCE_COLOR is about what a person sees.
    plain = {"NO_COLOR": "1"} if log is not None or not has_control_codes(sys.stderr) else {}
    process = subprocess.Popen(
        [sys.executable, "-P", "-u", str(Path(child.__file__).resolve())],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        pass_fds=[file for file in (listener.fileno(), ready, reason) if file is not None],
        env={**quiet(os.environ), **os.environ, **plain, **(environ or {})},
        # Ctrl-C is for the owner to handle, and the process group can be killed as one.
        start_new_session=True,
    )
    request = {"parent": os.getpid(), "sys_path": sys.path, "listener": listener.fileno(), "ready": ready, "reason": reason}
    data = pickle.dumps({**request, "environments": packed})
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it is gone, which its caller will notice
            process.stdin.write(struct.pack("!Q", len(data)) + data)
            process.stdin.flush()
    except BaseException:
        end_process(process)
        raise
    return process


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, which holds the port until the server is up, or raise a ConfigurationError."""
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"{port} is not a port: use 1 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = "stop the program that uses it, or choose another port (port=None or --port 0 take a free one)"
            raise ConfigurationError(f"port {port} on {host} is in use: {hint}", port_in_use=True) from None
        raise ConfigurationError(f"cannot listen on {host}, port {port}: {error}") from None


def base_url_of(host: str, port: int) -> str:
    """Return the base URL of a server that listens there."""
    host = _reachable(host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reachable(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on `host`."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End the server's process: terminate it, wait, then kill it."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    # A process forked from this one may hold the stream open, so closing it is not always enough.
    process.terminate()
    try:
        process.wait(GRACE_S + 1.0)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _end_and_remove(process: subprocess.Popen[bytes], log_path: Path | None, owner: int) -> None:
    """End a server that was not stopped. A forked process has a copy of the object but does not own the server."""
    if os.getpid() == owner:
        end_process(process)
        if log_path is not None:
            log_path.unlink(missing_ok=True)
