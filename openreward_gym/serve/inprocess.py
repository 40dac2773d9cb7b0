"""Environments played in this process: no socket, no HTTP, no server.

    env = gym.make("OpenReward-v0", environment=MyEnvironment)

`InProcess` is a transport of the client like any other: the session above it is the same as for a server, with its deadlines,
its errors and its cleanup. Below it there is a `Host` instead of a network.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import threading
from collections.abc import Awaitable, Callable, Iterable
from importlib import metadata
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from openreward_gym.protocol.request import Request, Response
from openreward_gym.protocol.wire import Secret
from openreward_gym.serve.asgi import quiet_imports, serving
from openreward_gym.serve.environments import Servable, check, load_all

if TYPE_CHECKING:
    from openreward_gym.serve.hosting import Host

__all__ = ["InProcess", "hosted", "in_process"]

_JSON = {"content-type": "application/json"}
_EVENTS = {"content-type": "text/event-stream"}
_LINE_BREAK = re.compile(rb"\r\n|\r|\n")
_serials = itertools.count(1)


class InProcess:
    """Environments of this process, where a client expects a server. Made by `in_process`.

    Attributes:
        base_url: Its address, for the client: no one else finds it.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.base_url = f"http://in-process/{next(_serials)}"

    def __repr__(self) -> str:
        return f"InProcess({list(self.host.classes)})"

    @property
    def names(self) -> list[str]:
        """The environments' names, the default one first."""
        return list(self.host.classes)

    async def send(self, request: Request) -> Response:
        """What the SDK's server would answer."""
        from openreward_gym.serve.hosting import RefusedError

        try:
            return await self._answer(request)
        except RefusedError as refused:
            return _json({"detail": refused.detail}, refused.status)
        except Exception as error:
            return _json({"detail": f"{type(error).__name__}: {error}"}, 500)

    async def aclose(self) -> None:
        """Nothing: sessions belong to those who opened them."""

    async def _answer(self, request: Request) -> Response:
        path = request.url[len(self.base_url) + 1 :]
        name, _, question = path.rpartition("/")
        body = json.loads(request.body) if request.body else None
        session_id = str(request.headers.get("X-Session-ID", "")).strip()
        host = self.host
        if question == "call":
            return await _streamed(request, host.call, *await host.caller(session_id, body))
        if question == "score_group":
            return await _streamed(request, host.compare, *await host.comparer(session_id, body))
        if name:
            return _json(await self._ask(name, question, session_id, body))
        return await self._manage(request, question, session_id, body)

    async def _ask(self, name: str, question: str, session_id: str, body: Any) -> Any:
        """What an environment or a session of one answers."""
        from openreward_gym.serve.hosting import RefusedError

        host = self.host
        of_session = {"prompt": host.prompt, "messages": host.messages, "task_tools": host.task_tools}
        if question in of_session:
            return await of_session[question](session_id)
        cls = host.environment(name)
        if question in ("tools", "splits"):
            return host.tools(cls) if question == "tools" else host.splits(cls)
        of_class = {"tasks": host.tasks, "num_tasks": host.num_tasks, "task": host.task, "task_range": host.task_range}
        if question not in of_class:
            raise RefusedError(404, "Not Found")
        return await of_class[question](cls, body)

    async def _manage(self, request: Request, question: str, session_id: str, body: Any) -> Response:
        """What a server answers whatever its environments are."""
        from openreward_gym.serve.hosting import RefusedError, new_session_id

        if question == "create_session":
            return _events(request, [("task_id", new_session_id().encode()), ("end", b"")])
        if question == "create":
            await self.host.create(session_id, body, _secrets(request))
        elif question == "ping":
            self.host.hosted(session_id)
        elif question == "delete":
            await self.host.delete(session_id)
        elif question == "list_environments":
            return _json(self.names)
        elif question == "version":
            return _json({"version": metadata.version("openreward"), "build_sha": None})
        elif question not in ("health", "delete_session"):
            raise RefusedError(404, "Not Found")
        return _json({"status": "ok"} if question in ("health", "ping") else {"sid": session_id})


def in_process(environments: Servable | Iterable[Servable]) -> InProcess:
    """`environments` to be played in this process: a transport, whose `base_url` goes with it.

    Imports the `openreward` SDK. Async tools and the constructor's like run on the caller's event loop or in its threads, so
    one that blocks blocks all others; there is no isolation.

        host = serve.in_process([MyEnvironment])
        async with Client(host.base_url, transport=host) as client: ...

    Args:
        environments: What `serve.app` takes.

    Raises:
        ConfigurationError: One of them cannot be served.
        MissingExtraError: The extra `server` is not installed.
    """
    wanted = check(environments)
    with quiet_imports():
        from openreward_gym.serve.dispatch import prepare
        from openreward_gym.serve.hosting import Host

        classes = load_all(wanted)
        serving(classes)  # refuses what the server would refuse
    prepare()
    return InProcess(Host(classes))


_lock = threading.Lock()
_of_class: WeakKeyDictionary[type[Any], tuple[int, InProcess]] = WeakKeyDictionary()
_of_name: dict[str, tuple[int, InProcess]] = {}


def hosted(environment: str | type[Any]) -> InProcess:
    """The one host of `environment` in this process: envs of one class share what is asked once.

    Raises:
        ConfigurationError, MissingExtraError: As `in_process`.
    """
    known: Any = _of_name if isinstance(environment, str) else _of_class
    with _lock:
        try:
            pid, found = known[environment]
        except (KeyError, TypeError):
            pid, found = -1, None
        if found is None or pid != os.getpid():
            # A forked process has copies of its parent's sessions, which are the parent's to tear down.
            known[environment] = (os.getpid(), in_process(environment))
        host: InProcess = known[environment][1]
        return host


def _forget_the_parents_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_lock)


async def _streamed(request: Request, run: Callable[..., Awaitable[bytes]], *arguments: Any) -> Response:
    """The events of a run: its result, or what it raised."""
    try:
        result = await run(*arguments)
    except Exception as error:
        return _events(request, [("task_id", b"in-process"), ("error", str(error).encode("utf-8", "backslashreplace"))])
    return _events(request, [("task_id", b"in-process"), ("end", result)])


def _events(request: Request, events: list[tuple[str, bytes]]) -> Response:
    lines = b""
    for kind, data in events:
        lines += b"event: %b\n" % kind.encode()
        # A line break in the data begins another line of it. The results are JSON, which has none.
        lines += b"".join(b"data: %b\n" % line for line in _LINE_BREAK.split(data)) + b"\n"
    if request.sink is not None:
        request.sink(lines)
        return Response(200, _EVENTS)
    return Response(200, _EVENTS, lines)


def _json(value: Any, status: int = 200) -> Response:
    return Response(status, _JSON, json.dumps(value, allow_nan=False, ensure_ascii=False).encode())


def _secrets(request: Request) -> dict[str, str]:
    header = request.headers.get("X-Secrets")
    if not header:
        return {}
    text = header.reveal() if isinstance(header, Secret) else header
    return {name: entry["value"] for name, entry in json.loads(base64.b64decode(text)).items()}
