"""Environments played in this process: no socket, no HTTP, no server.

    env = gym.make("OpenReward-v0", environment=MyEnvironment)

`InProcess` is a client's transport like the others, with a `Host` instead of a network below it.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Iterable
from importlib import metadata
from typing import TYPE_CHECKING, Any

from openreward_gym.hiding import Secret
from openreward_gym.protocol.request import Request, Response
from openreward_gym.serve.asgi import quiet_imports
from openreward_gym.serve.environments import Servable, check, load

if TYPE_CHECKING:
    from openreward_gym.serve.host import Host


_JSON = {"content-type": "application/json"}
_EVENTS = {"content-type": "text/event-stream"}
_LINE_BREAK = re.compile(rb"\r\n|\r|\n")
_STREAM_START = b"event: task_id\ndata: in-process\n\n"


class InProcess:
    """A transport to environments in this process, made by `in_process`.

    Attributes:
        base_url: The address to pass to the client together with this transport. It is unique per transport.

    Example:
        >>> from openreward_gym import Client
        >>> transport = in_process("weather")
        >>> client = Client(transport.base_url, transport=transport)
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.base_url = f"http://in-process/{uuid.uuid4().hex}"

    def __repr__(self) -> str:
        return f"InProcess({self.names})"

    @property
    def names(self) -> list[str]:
        """The environments' names, the default one first."""
        return list(self.host.classes)

    async def send(self, request: Request) -> Response:
        """Return the response that the SDK's server would send."""
        try:
            return await self._answer(request)
        except Exception as error:
            from openreward_gym.serve.host import RefusedError

            if isinstance(error, RefusedError):
                return _json({"detail": error.detail}, error.status)
            return _json({"detail": f"{type(error).__name__}: {error}"}, 500)

    async def aclose(self) -> None:
        """Do nothing. Each session is closed by the client that opened it."""

    async def _answer(self, request: Request) -> Response:
        name, _, route = request.url[len(self.base_url) + 1 :].rpartition("/")
        body = json.loads(request.body) if request.body else None
        session_id = str(request.headers.get("X-Session-ID", "")).strip()
        if route in ("call", "score_group"):
            # Errors before the run are responses; errors of the run are events of its stream.
            prepare = self.host.prepare_call if route == "call" else self.host.prepare_scoring
            run = await prepare(session_id, body)
            try:
                result = await run
            except Exception as error:
                return _stream(request, _event(b"error", str(error).encode("utf-8", "backslashreplace")))
            # The result is JSON on one line.
            return _stream(request, b"event: end\ndata: " + result + b"\n\n")
        if name:
            return _json(await self.host.answer(name, route, session_id, body))
        return await self._manage(request, route, session_id, body)

    async def _manage(self, request: Request, route: str, session_id: str, body: Any) -> Response:
        """Answer the requests that belong to the server instead of one environment."""
        from openreward_gym.serve.host import RefusedError

        if route == "create_session":
            return _stream(request, _event(b"end", b""), start=_event(b"task_id", str(uuid.uuid4()).encode()))
        if route == "create":
            await self.host.create(session_id, body, _secrets(request))
        elif route == "ping":
            self.host.session(session_id)
        elif route == "delete":
            await self.host.delete(session_id)
        elif route == "list_environments":
            return _json(self.names)
        elif route == "version":
            return _json({"version": metadata.version("openreward"), "build_sha": None})
        elif route not in ("health", "delete_session"):
            raise RefusedError(404, "Not Found")
        return _json({"status": "ok"} if route in ("health", "ping") else {"sid": session_id})


def in_process(environments: Servable | Iterable[Servable]) -> InProcess:
    """Return a transport that plays `environments` in this process. Pass its `base_url` along with it.

    Imports the `openreward` SDK. Async tools run on the caller's event loop, sync tools and constructors in its threads: an
    async tool that blocks stops everything else. The environments are not isolated from this process.

    Args:
        environments: As for `serve.app`.

    Raises:
        ConfigurationError: One of the environments cannot be served.
        MissingExtraError: The extra `server` is not installed.

    Example:
        host = serve.in_process([MyEnvironment])
        async with Client(host.base_url, transport=host) as client:
            await client.list_environments()
    """
    checked = check(environments)
    with quiet_imports():
        from openreward_gym.serve.host import Host

        classes = [load(environment) for environment in checked]
    return InProcess(Host(classes))


def _stream(request: Request, events: bytes, start: bytes = _STREAM_START) -> Response:
    if request.sink is not None:
        request.sink(start + events)
        return Response(200, _EVENTS)
    return Response(200, _EVENTS, start + events)


def _event(kind: bytes, data: bytes) -> bytes:
    # Each line of the data is a `data` field of its own.
    return b"event: %b\n" % kind + b"".join(b"data: %b\n" % line for line in _LINE_BREAK.split(data)) + b"\n"


def _json(value: Any, status: int = 200) -> Response:
    return Response(status, _JSON, json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def _secrets(request: Request) -> dict[str, str]:
    header = request.headers.get("X-Secrets")
    if not header:
        return {}
    text = header.reveal() if isinstance(header, Secret) else header
    return {name: entry["value"] for name, entry in json.loads(base64.b64decode(text)).items()}
