"""The server's process: `server.py` runs this file by its path.

It reads from standard input what to serve, and keeps reading: the end of that stream means that the process which
started it is gone, however it went, and then it ends too. Standard output and error are its log.
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
"""Seconds that open sessions get to be torn down before the process ends anyway."""

EXIT_CONFIGURATION = 78
"""The exit code where what was asked cannot be served, and the log's end says why."""

MAX_REASON = 16_384
"""Bytes of a reason, few enough for a pipe that nobody reads yet."""

_PARENT_CHECK_S = 0.5


class Lifeline:
    """Ends this process when the one that started it is gone, or lets go of it."""

    def __init__(self, stream: RawIOBase, parent: int) -> None:
        self.server: Any = None
        self._parent = parent
        self._let_go = threading.Event()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        threading.Thread(target=self._wait, daemon=True).start()

    def _read(self, stream: RawIOBase) -> None:
        with contextlib.suppress(OSError, ValueError):
            while stream.read(1):
                pass
        self._let_go.set()

    def _wait(self) -> None:
        # A process forked by the parent holds the other end of the stream as well: so the parent's id is watched too.
        while not self._let_go.wait(_PARENT_CHECK_S) and os.getppid() == self._parent:
            pass
        if self.server is not None:
            self.server.should_exit = True
            time.sleep(GRACE_S)
        # Still here: not up yet, or a tool or a teardown does not return. What they started goes with us.
        with contextlib.suppress(OSError):
            if os.getpgrp() == os.getpid():
                os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)


def _read(stream: RawIOBase, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = stream.read(length - len(data))
        if not part:
            sys.exit("the process that started this server ended before it said what to serve")
        data += part
    return data


def main() -> None:
    """Serves what standard input says, until it ends."""
    # Out of reach of the environments and of what they start: they find an empty standard input.
    stream = os.fdopen(os.dup(0), "rb", buffering=0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    (length,) = struct.unpack("!Q", _read(stream, 8))
    request = pickle.loads(_read(stream, length))
    lifeline = Lifeline(stream, request["parent"])
    sys.path[:] = [*request["sys_path"], ""]
    listener = socket.socket(fileno=request["listener"])
    listener.set_inheritable(False)

    from openreward_gym.errors import ConfigurationError
    from openreward_gym.serve.asgi import build
    from openreward_gym.serve.environments import unpack

    skip_package_init("openreward")
    try:
        application = build(unpack(request["environments"]))
    except ConfigurationError as error:
        _give_up(error, f"{error}\n", EXIT_CONFIGURATION, request.get("reason"))
    except (Exception, SystemExit) as error:
        _give_up(error, _told(error), 1, request.get("reason"))
    if request.get("reason") is not None:
        os.close(request["reason"])

    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            application, log_level="warning", access_log=False, timeout_keep_alive=60, timeout_graceful_shutdown=int(GRACE_S / 2)
        )
    )
    lifeline.server = server
    if request.get("ready") is not None:
        os.write(request["ready"], b"ready")
        os.close(request["ready"])
    server.run(sockets=[listener])


def _give_up(error: BaseException, told: str, code: int, reason: int | None) -> NoReturn:
    """Ends with `code`: what went wrong goes to the log, or to the file `reason` in few lines and as `told`."""
    if reason is None:
        sys.stderr.write(told)
    else:
        from openreward_gym.user_traceback import describe_error

        both = f"{describe_error(error, with_class=code != EXIT_CONFIGURATION)}\0{told}"
        os.write(reason, both.encode("utf-8", "backslashreplace")[:MAX_REASON])
    sys.exit(code)


def _told(error: BaseException) -> str:
    """What went wrong in an environment's module, without how this file came to import it."""
    from openreward_gym.user_traceback import user_frames

    told = traceback.TracebackException.from_exception(error)
    theirs = user_frames(error)
    if theirs or isinstance(error, SyntaxError):
        told.stack = traceback.StackSummary.from_list(theirs)
    return "".join(told.format())


def skip_package_init(name: str) -> None:
    """Lets submodules of the package `name` be imported without running its `__init__`.

    The SDK's imports the clients of three model providers: seconds that a server of environments has no use for. The first
    access to anything that the package itself defines runs it after all.
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
