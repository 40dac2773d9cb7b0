"""The viewer's ASGI application: the page, and a JSON API that lists rollouts, returns them one by one and writes labels."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import logging
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import unquote

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openreward_gym.errors import ConfigurationError, OpenRewardGymError, StoreError
from openreward_gym.images import mime_type_of
from openreward_gym.store import LabelChange, images
from openreward_gym.store.folder import LocalFolder
from openreward_gym.terminal import has_control_codes
from openreward_gym.types.rollout import Rollout
from openreward_gym.viewer.addresses import is_loopback
from openreward_gym.viewer.answers import bulk, charts, comparing, completing, lists, opening, pieces
from openreward_gym.viewer.answers.discards import discards
from openreward_gym.viewer.answers.pieces import LargeRecords
from openreward_gym.viewer.answers.searching import hits_of, search
from openreward_gym.viewer.answers.selecting import Steps, check_filter
from openreward_gym.viewer.answers.tokens import tokens
from openreward_gym.viewer.index import NotFoundError, RunIndex
from openreward_gym.viewer.page import load_page

logger = logging.getLogger("openreward_gym.viewer")

REFRESH_S = 0.7
"""Seconds between two looks at the runs' folders."""

_LISTS = {"steps", "list", "position", "ids", "group", "group_steps", "discards", "series", "histogram", "chart_metrics"}
"""Endpoints that list what is in a run."""

COOKIE = "openreward_gym_viewer"
MAX_BODY = 64 * 1024
MAX_BULK = 4 * 1024 * 1024
"""The largest body of a request that names many rollouts."""

_BULK = {"/api/labels", "/api/share", "/api/export"}

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_FRAME_ANCESTORS = "http://localhost:* http://127.0.0.1:* https://localhost:* https://127.0.0.1:* vscode-webview:"
"""Pages that may show an embeddable viewer in a frame: those of this machine's notebook servers and of VS Code."""

Others: TypeAlias = Callable[[], Sequence[Rollout]]
Lens: TypeAlias = Callable[[Rollout, Others, str], Mapping[str, Any]]
"""Maps (rollout, the other rollouts of its group, format) to the export's rows; see `viewer.lens.ExportLens`."""
Replay: TypeAlias = Callable[[Rollout], Mapping[str, Any]]
"""Makes a rollout's calls again; see `viewer.replay.ReplayCheck`."""
Decode: TypeAlias = Callable[[list[int]], str]
"""Maps token ids to their text, special tokens included."""


@dataclass(frozen=True, slots=True)
class ViewerExtensions:
    """Optional functions of the viewer; None leaves a function out.

    Attributes:
        lens: The export lens.
        lens_formats: The (name, description) of each of its formats.
        replay: The replay check.
        replay_url: The environment server of the replay check, for display.
        decode: The tokenizer that shows recorded token ids as text.
    """

    lens: Lens | None = None
    lens_formats: tuple[tuple[str, str], ...] = ()
    replay: Replay | None = None
    replay_url: str = ""
    decode: Decode | None = None


_STATUSES = {NotFoundError: 404, ConfigurationError: 400, OpenRewardGymError: 422}
"""HTTP statuses of errors; a subclass without an entry has the status of its base class."""


def create_app(
    index: RunIndex, *, token: str | None = None, extensions: ViewerExtensions | None = None, embeddable: bool = False,
    allow_export: bool = False,
) -> Starlette:  # fmt: skip
    """Create the viewer's ASGI app, which keeps `index` up to date while it runs.

    Args:
        index: The runs to show.
        token: The token that every request must carry; None for a server that only this machine can reach.
        extensions: The export lens and the replay check; None leaves both out.
        embeddable: Whether notebooks on this machine may show the page in a frame.
        allow_export: Whether the page may run exports, which write into the runs' folders.
    """
    api = _Api(index, extensions or ViewerExtensions(), allow_export)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=_refresh, args=(index, stop), name="viewer-index", daemon=True)
        thread.start()
        yield
        stop.set()
        thread.join(10.0)  # not on another thread: at the interpreter's exit there are no thread pools any more

    routes = [
        Route("/", functools.partial(_page, _FRAME_ANCESTORS if embeddable else "'none'"), methods=["GET"]),
        Route("/favicon.ico", lambda request: Response(status_code=204), methods=["GET"]),
        *(
            Route(f"/api/{name}", _get_endpoint(index, answer, api.stamps().get(name)), methods=["GET"])
            for name, answer in api.answers().items()
        ),
        Route("/api/image", api.image, methods=["GET"]),
        Route("/api/label", _post_endpoint(api.label), methods=["POST"]),
        Route("/api/labels", _post_endpoint(functools.partial(bulk.label, index)), methods=["POST"]),
        Route("/api/share", _post_endpoint(functools.partial(bulk.share, index), "text/html; charset=utf-8"), methods=["POST"]),
        Route("/api/export", _post_endpoint(api.export), methods=["POST"]),
        Route("/api/replay", _post_endpoint(api.replay), methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(AuthMiddleware, token=token, embeddable=embeddable)],
        exception_handlers={kind: functools.partial(_error, status) for kind, status in _STATUSES.items()},
        lifespan=lifespan,
    )


def start(app: Starlette, listener: socket.socket) -> tuple[threading.Thread, Callable[[], None]]:
    """Serve `app` from a daemon thread; return the thread and a function that ends it, once the app's startup is complete."""
    coloured = has_control_codes(sys.stderr)
    server = _Server(uvicorn.Config(app, log_level="warning", use_colors=coloured, lifespan="on", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([listener],), name="viewer-server", daemon=True)
    thread.start()
    # uvicorn skips the app's shutdown if it is told to exit before its startup is complete, and a program that ends during
    # the startup ends with an error: what the startup imports cannot be imported at the interpreter's exit.
    server.startup_done.wait()

    def request_stop() -> None:
        server.should_exit = True

    return thread, request_stop


class _Server(uvicorn.Server):
    """A uvicorn server with an event that is set once its startup is complete, or has failed."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.startup_done = threading.Event()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run(sockets)
        finally:
            self.startup_done.set()

    async def main_loop(self) -> None:
        self.startup_done.set()
        await super().main_loop()


def _refresh(index: RunIndex, stop: threading.Event) -> None:
    last_error = ""
    while not stop.is_set():
        try:
            index.refresh(stop)
            last_error = ""
        except Exception as error:  # a run that is being moved or removed: the next refresh may succeed
            if str(error) != last_error:
                last_error = str(error)
                logger.warning("The index could not be refreshed: %s", error)
        stop.wait(REFRESH_S)


class _Query(dict[str, str]):
    """The parameters of a request, with methods that validate them."""

    def text(self, name: str, default: str | None = None) -> str:
        value = self.get(name, default)
        if value is None:
            raise ConfigurationError(f"the parameter {name!r} is missing")
        return value

    def integer(self, name: str) -> int | None:
        """Return the parameter as an integer; None if it is missing or empty."""
        text = self.get(name)
        if not text:
            return None
        try:
            value = int(text[:30])
        except ValueError:
            raise ConfigurationError(f"the parameter {name!r} must be an integer, not {text[:30]!r}") from None
        if abs(value) >= 1 << 62:
            raise ConfigurationError(f"the parameter {name!r} is too large")
        return value

    def natural(self, name: str) -> int:
        """Return the parameter as an integer from 0 on; 0 if it is missing or negative."""
        return max(0, self.integer(name) or 0)

    def flag(self, name: str) -> bool:
        return self.get(name) == "1"

    def names(self, name: str) -> list[str]:
        """Return the parameter's names, which are percent-encoded and separated by commas."""
        return [unquote(each) for each in self.get(name, "").split(",") if each]

    @property
    def filter(self) -> str:
        return self.get("filter", "")

    @property
    def steps(self) -> Steps:
        """The step of a list; `...` with `every=1`."""
        return ... if self.flag("every") else self.integer("step")


Answer: TypeAlias = Callable[[_Query], "bytes | dict[str, Any] | list[Any]"]
StateOf: TypeAlias = Callable[[_Query], str]
"""Returns a text that changes when an answer does."""


class _Api:
    """The answers of the endpoints."""

    def __init__(self, index: RunIndex, extensions: ViewerExtensions, allow_export: bool) -> None:
        self._index, self._extensions, self._allow_export = index, extensions, allow_export
        self._large = LargeRecords()

    def stamps(self) -> dict[str, StateOf]:
        """Return the function that tells whether an answer changed, of endpoints whose answers stay while the index grows."""
        index = self._index

        def state(query: _Query) -> str:
            with contextlib.suppress(NotFoundError):
                return opening.stamp(index, query.text("run"), query.text("id"))
            return str(index.generation)

        def state_of_about(query: _Query) -> str:
            run, rollout_id = query.text("run"), query.text("id")
            return f"{index.generation} {index.problem_of(run, rollout_id)}"

        return {**dict.fromkeys(("rollout", "messages", "text"), state), "about": state_of_about}

    def answers(self) -> dict[str, Answer]:
        """Return the function that answers each GET endpoint."""
        return {**self._answers_of_lists(), **self._answers_of_rollouts(), **self._answers_over_runs()}

    def _answers_of_lists(self) -> dict[str, Answer]:
        index = self._index
        return {
            "runs": lambda query: lists.runs(index),
            "intervals": lambda query: lists.intervals(index),
            "steps": lambda query: lists.steps(index, query.text("run"), query.flag("discarded"), query.filter),
            "list": lambda query: lists.listing(
                index, query.text("run"), query.steps, query.flag("discarded"), query.filter, query.natural("offset"),
                sort=query.text("sort", ""), flat=query.flag("flat"), limit=query.natural("limit") or None,
            ),
            "position": lambda query: lists.position(
                index, query.text("run"), query.steps, query.flag("discarded"), query.filter,
                sort=query.text("sort", ""), flat=query.flag("flat"), rollout_id=query.text("id"),
            ),
            "ids": lambda query: lists.ids(
                index, query.text("run"), query.steps, query.flag("discarded"), query.filter,
                sort=query.text("sort", ""), flat=query.flag("flat"),
            ),
            "discards": lambda query: discards(index, query.text("run"), query.integer("step"), query.filter),
            "group_steps": lambda query: lists.steps_of_group(index, query.text("run"), query.text("group")),
            "group": lambda query: lists.group(
                index, query.text("run"), query.text("group"), query.integer("step"), query.flag("discarded")
            ),
            "complete": lambda query: completing.completion(
                index, query.text("run", ""), query.text("text", "")[:2000], query.natural("cursor")
            ),
        }  # fmt: skip

    def _answers_of_rollouts(self) -> dict[str, Answer]:
        index = self._index
        return {
            "rollout": self.rollout,
            "messages": lambda query: opening.messages(
                index, self._large, query.text("run"), query.text("id"), query.natural("from"), tokens=query.flag("tokens")
            ),
            "text": self.text,
            "place": lambda query: {"place": opening.place(index, query.text("run"), query.text("id"))},
            "about": lambda query: opening.about(index, query.text("run"), query.text("id")),
            "extensions": self.extensions,
            "lens": self.lens,
            "line": lambda query: index.read(index.find(query.text("run"), query.text("id"))),
            "tokens": lambda query: tokens(
                index, self._large, self._extensions.decode, query.text("run"), query.text("id"), query.integer("message"),
                prompt=query.flag("prompt"),
            ),
        }  # fmt: skip

    def _answers_over_runs(self) -> dict[str, Answer]:
        index = self._index
        figures = charts.Answers(index)

        @functools.lru_cache(maxsize=8)
        def compare(generation: int, runs: str, filter_: str) -> dict[str, Any]:
            return comparing.comparison(index, [unquote(key) for key in runs.split(",") if key], filter_)

        return {
            "task": lambda query: lists.task(index, query.text("task")),
            "series": lambda query: figures.series(
                query.text("run"), query.names("metrics") or [query.text("metric")], query.filter, query.get("which") or "all",
                several="metrics" in query,
            ),
            "histogram": lambda query: figures.histograms(
                query.names("runs") or [query.text("run")], query.text("metric"), query.filter, query.integer("step"),
                query.flag("every"), query.names("which") or ["all"],
            ),
            "chart_metrics": lambda query: figures.catalogue(query.names("runs")),
            "search": lambda query: search(
                index, query.text("query"), regex=query.flag("regex"), run=query.text("run", "") or None, filter_=query.filter,
                after=query.natural("after"),
            ),
            "hits": lambda query: hits_of(
                index, query.text("query"), regex=query.flag("regex"), run=query.text("run"), rollout=query.text("id")
            ),
            "compare": lambda query: compare(index.generation, query.text("runs"), query.filter),
            "attempts": lambda query: comparing.attempts(index, query.text("task")),
        }  # fmt: skip

    def rollout(self, query: _Query) -> bytes | dict[str, Any]:
        """Return a rollout; one that is not there yet is waited for where the request says so."""
        run, rollout_id = query.text("run"), query.text("id")
        try:
            return opening.rollout(self._index, run, rollout_id, self._large)
        except NotFoundError:
            if not query.flag("waiting"):
                raise
            return {"waiting": True, "problem": self._index.why_gone(run, rollout_id)}

    def text(self, query: _Query) -> dict[str, Any]:
        place = self._index.find(query.text("run"), query.text("id"))
        record = pieces.record_at(self._index, self._large, place, query.text("id"))
        numbers = query.natural("message"), query.natural("block")
        return pieces.text(record, *numbers, query.text("field"), query.natural("from"), query.natural("length"))

    def extensions(self, query: _Query) -> dict[str, Any]:
        extensions = self._extensions
        return {
            "lens": extensions.lens_formats if extensions.lens else (),
            "replay": extensions.replay_url if extensions.replay else None,
            "tokens": extensions.decode is not None,
            **({"export": True} if self._allow_export else {}),
        }

    def lens(self, query: _Query) -> dict[str, Any]:
        if self._extensions.lens is None:
            raise NotFoundError("This viewer was started without the export lens.")
        run, rollout_id = query.text("run"), query.text("id")

        def others() -> list[Rollout]:
            return [self._load(run, other) for other in lists.others_of(self._index, run, rollout_id)]

        return dict(self._extensions.lens(self._load(run, rollout_id), others, query.text("format")))

    def replay(self, body: Any) -> dict[str, Any]:
        if self._extensions.replay is None:
            raise NotFoundError("This viewer was started without an environment to replay in.")
        if not isinstance(body, dict) or not isinstance(body.get("run"), str) or not isinstance(body.get("id"), str):
            raise ConfigurationError('the request must name the "run" and the "id" of a rollout')
        return dict(self._extensions.replay(self._load(body["run"], body["id"])))

    def _load(self, run: str, rollout_id: str) -> Rollout:
        """Return the rollout with its images inside."""
        place = self._index.find(run, rollout_id)
        record = Rollout.from_line(self._index.read(place)).to_dict()
        # The lens and the replay leave out what an image without data needs, and say so.
        images.move_in(record, functools.partial(self._index.image, place.folder), lambda error: None)
        return Rollout.from_dict(record)

    def label(self, body: Any) -> dict[str, Any]:
        if not isinstance(body, dict) or not isinstance(body.get("run"), str):
            raise ConfigurationError('a label must name the "run" of its rollout')
        change = LabelChange.from_dict({key: value for key, value in body.items() if key != "time"})
        self._index.label(body["run"], change)
        return opening.about(self._index, body["run"], change.rollout)

    def export(self, body: Any) -> dict[str, Any]:
        if not self._allow_export:
            raise NotFoundError("This viewer may not run exports: run the command that the page shows.")
        return bulk.export(self._index, body, [name for name, _ in self._extensions.lens_formats])

    def image(self, request: Request) -> Response:
        query = _Query(request.query_params)
        folder = self._index.folder(query.text("run", ""))
        try:
            content = images.read(LocalFolder(folder), query.text("sha256", ""))
        except StoreError:
            raise NotFoundError("There is no such image.") from None
        # The type comes from the bytes, whatever the record claims: other content must not be shown as a page. An <img>
        # runs nothing inside an SVG, and opened as a page it is sandboxed by the middleware's policy.
        media_type = mime_type_of(content) or "application/octet-stream"
        return Response(content, media_type=media_type, headers={"Cache-Control": "private, max-age=31536000, immutable"})


def _get_endpoint(index: RunIndex, answer: Answer, state_of: StateOf | None = None) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        query = _Query(request.query_params)
        run = query.get("run", "")
        if run and state_of is None and request.url.path.rpartition("/")[2] in _LISTS and index.is_gone(run):
            return Response(status_code=204, headers={"Cache-Control": "private, no-cache"})  # what the page has is all there is
        if state_of is not None:
            state = f"{state_of(query)} {request.url.query}"
        else:
            state = f"{index.file} {index.generation} {index.progress} {index.unreadable} {request.url.query}"
        etag = f'W/"{hashlib.sha256(state.encode("utf-8", "replace")).hexdigest()[:24]}"'
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        check_filter(index, query.get("run") or None, query.filter)
        return _json(answer(query), headers)

    return endpoint


def _post_endpoint(
    answer: Callable[[Any], dict[str, Any] | bytes], media_type: str = "application/json"
) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            body = orjson.loads(await request.body())
        except ValueError as error:
            raise ConfigurationError(f"not JSON: {error}") from None
        value = await run_in_threadpool(answer, body)
        return Response(value, media_type=media_type) if isinstance(value, bytes) else _json(value)

    return endpoint


def _json(value: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    body = value if isinstance(value, bytes) else orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, status, headers, media_type="application/json")


def _error(status: int, request: Request, error: Exception) -> Response:
    return _json({"error": str(error).encode("utf-8", "replace").decode()}, status=status)


def _page(frame_ancestors: str, request: Request) -> Response:
    page = load_page()
    policy = f"{page.policy}; frame-ancestors {frame_ancestors}"
    return HTMLResponse(page.html, headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})


class AuthMiddleware:
    """Refuses requests that do not come from the viewer's own page.

    Without a token, only loopback names are accepted as Host, against DNS rebinding. With one, every request must carry it
    as a cookie, which `/?token=...` sets, or as `Authorization: Bearer ...`.
    """

    def __init__(self, app: ASGIApp, token: str | None = None, embeddable: bool = False) -> None:
        self.app = app
        self._token = token
        # Browsers that know `frame-ancestors` ignore X-Frame-Options, but it cannot name more than one site.
        self._headers = _HEADERS if embeddable else {**_HEADERS, "X-Frame-Options": "DENY"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        host = headers.get("host", "")
        name = host.partition("]" if host.startswith("[") else ":")[0]
        if self._token is None and not is_loopback(name):
            return PlainTextResponse(f"Host {host[:80]!r} is not this viewer. Open it at 127.0.0.1 or localhost.", 403)
        if self._token is not None and (response := self._authenticate(request, self._token)) is not None:
            return response
        if request.scope["path"] != "/" and headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return PlainTextResponse("Requests from other sites are refused.", 403)
        origin = headers.get("origin")
        if origin is not None and origin != f"{request.scope['scheme']}://{host}":
            return PlainTextResponse(f"Origin {origin[:80]!r} is not this viewer.", 403)
        if request.method not in {"GET", "HEAD"}:
            if origin is None:
                return PlainTextResponse("A request that writes must have an Origin header.", 403)
            if headers.get("content-type", "").split(";")[0].strip() != "application/json":
                return PlainTextResponse("The Content-Type must be application/json.", 415)
            largest = MAX_BULK if request.scope["path"] in _BULK else MAX_BODY
            if not headers.get("content-length", "").isdecimal() or int(headers["content-length"]) > largest:
                return PlainTextResponse(f"The Content-Length must be at most {largest}.", 413)
        return None

    def _authenticate(self, request: Request, token: str) -> Response | None:
        """Return a redirect that sets the cookie, a refusal, or None for a request with a valid token."""
        at_page = request.scope["path"] == "/" and request.method == "GET"
        if at_page and _equal(request.query_params.get("token", ""), token):
            response = RedirectResponse("/", status_code=303)
            secure = request.scope["scheme"] == "https"
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
            return response
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if (scheme.lower() == "bearer" and _equal(bearer, token)) or _equal(_cookie(request), token):
            return None
        return PlainTextResponse("Open the URL with ?token=... that the viewer printed when it started.", 401)


def _cookie(request: Request) -> str:
    """Return our cookie, the first one of several: browsers send the one of the longest path first."""
    pairs = (part.strip().partition("=") for part in request.headers.get("cookie", "").split(";"))
    return next((value for name, _, value in pairs if name == COOKIE), "")


def _equal(candidate: str, token: str) -> bool:
    return hmac.compare_digest(candidate.encode("utf-8", "replace"), token.encode())
