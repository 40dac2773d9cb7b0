"""The server's process: `server.py` runs this file by its path.

It reads the environments from standard input and keeps reading. The stream ends when the process that started the server is
gone for any reason, and then the server ends too. Standard output and standard error are its log.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from io import RawIOBase
from types import ModuleType
from typing import Any, NoReturn

GRACE_S = 10.0
"""Seconds for the teardown of open sessions; after that the process ends anyway."""

EXIT_CONFIGURATION = 78
"""The exit code for environments that cannot be served. The end of the log has the reason."""

MAX_REASON = 16_384
"""Bytes of a reason; few enough to fit into a pipe before it is read."""

_PARENT_CHECK_S = 0.5


class ParentMonitor:
    """Ends this process when its parent is gone or closes the stream."""

    def __init__(self, stream: RawIOBase, parent: int) -> None:
        self.server: Any = None
        self._parent = parent
        self._released = threading.Event()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        threading.Thread(target=self._wait, daemon=True).start()

    def _read(self, stream: RawIOBase) -> None:
        with contextlib.suppress(OSError, ValueError):
            while stream.read(1):
                pass
        self._released.set()

    def _wait(self) -> None:
        # A process forked by the parent also holds the other end of the stream, so the parent's id is watched too.
        while not self._released.wait(_PARENT_CHECK_S) and os.getppid() == self._parent:
            pass
        if self.server is not None:
            self.server.should_exit = True
            time.sleep(GRACE_S)
        # The server is not up yet, or a tool or a teardown does not return. End its subprocesses too.
        with contextlib.suppress(OSError):
            if os.getpgrp() == os.getpid():
                os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)


def _read(stream: RawIOBase, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = stream.read(length - len(data))
        if not part:
            sys.exit("the process that started this server ended before it sent the environments")
        data += part
    return data


def main() -> None:
    """Serve the environments that standard input names, until that stream ends."""
    # Keep the stream away from the environments and their subprocesses: they get an empty standard input.
    stream = os.fdopen(os.dup(0), "rb", buffering=0)
    with open(os.devnull, "rb") as empty:
        os.dup2(empty.fileno(), 0)
    (length,) = struct.unpack("!Q", _read(stream, 8))
    request = pickle.loads(_read(stream, length))
    ready, reason = request["ready"], request["reason"]
    monitor = ParentMonitor(stream, request["parent"])
    sys.path[:] = [*request["sys_path"], ""]
    listener = socket.socket(fileno=request["listener"])
    listener.set_inheritable(False)

    from openreward_gym.errors import ConfigurationError
    from openreward_gym.serve.asgi import application_of
    from openreward_gym.terminal import has_control_codes, make_output_plain

    coloured = has_control_codes(sys.stderr)
    if not coloured:
        # The SDK's loggers write colours to every stream; they keep the stream that they find when they are imported.
        make_output_plain()
    skip_package_init("openreward")
    try:
        application = application_of(pickle.loads(request["environments"]))
    except ConfigurationError as error:
        _give_up(error, f"{error}\n", EXIT_CONFIGURATION, reason)
    except (Exception, SystemExit) as error:
        _give_up(error, _traceback_of(error), 1, reason)
    if reason is not None:
        os.close(reason)

    import uvicorn

    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        use_colors=coloured,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=int(GRACE_S / 2),
    )
    monitor.server = server = uvicorn.Server(config)
    if ready is not None:
        os.write(ready, b"ready")
        os.close(ready)
    server.run(sockets=[listener])


def _give_up(error: BaseException, text: str, code: int, reason: int | None) -> NoReturn:
    """Exit with `code`. Write a summary of the error and `text` to the file `reason`, or `text` to the log if it is None."""
    if reason is None:
        sys.stderr.write(text)
    else:
        from openreward_gym.user_traceback import describe_error

        both = f"{describe_error(error, with_class=code != EXIT_CONFIGURATION)}\0{text}"
        os.write(reason, both.encode("utf-8", "backslashreplace")[:MAX_REASON])
    sys.exit(code)


def _traceback_of(error: BaseException) -> str:
    """Return an error's traceback without the frames that imported the environment's module."""
    from openreward_gym.user_traceback import user_frames

    report = traceback.TracebackException.from_exception(error)
    frames = user_frames(error)
    if frames or isinstance(error, SyntaxError):
        report.stack = traceback.StackSummary.from_list(frames)
    return "".join(report.format())


def skip_package_init(name: str) -> None:
    """Let submodules of the package `name` be imported without running its `__init__`.

    The SDK's `__init__` imports the clients of three model providers, which takes seconds. The first access to an attribute of
    the package runs it after all.
    """
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    lock = threading.RLock()

    def run_init_then_get(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        with lock:
            if module.__dict__.pop("__getattr__", None) is not None and spec.loader is not None:
                spec.loader.exec_module(module)
        return ModuleType.__getattribute__(module, attribute)

    module.__dict__["__getattr__"] = run_init_then_get
    sys.modules[name] = module


if __name__ == "__main__":
    main()
