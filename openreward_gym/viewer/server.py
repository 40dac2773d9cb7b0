"""The viewer's server: the page, lists without text, one rollout at a time, and labels. Read-only but for these."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import unquote

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from openreward_gym.errors import ConfigurationError, OpenRewardGymError, StoreError
from openreward_gym.store import images
from openreward_gym.store.folder import LocalFolder
from openreward_gym.store.labels import Label
from openreward_gym.types.rollout import Rollout
from openreward_gym.viewer import queries
from openreward_gym.viewer.comparing import comparison
from openreward_gym.viewer.guard import Guard
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.page import page
from openreward_gym.viewer.powers import Powers
from openreward_gym.viewer.search import search

logger = logging.getLogger("openreward_gym.viewer")

REFRESH_S = 0.7


def create_app(index: RunIndex, *, token: str | None = None, powers: Powers | None = None) -> Starlette:
    """The viewer as an ASGI app; it keeps `index` up to date while it runs.

    Args:
        index: The runs to show.
        token: What every request must have; None for a server that only this machine reaches.
        powers: Export lens and replay check.
    """
    api = _Api(index, powers or Powers())

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=_keep_up, args=(index, stop), name="viewer-index", daemon=True)
        thread.start()
        yield
        stop.set()
        await asyncio.to_thread(thread.join, 10.0)

    get: dict[str, Answer] = {
        "runs": api.runs, "steps": api.steps, "list": api.listing, "group": api.group, "rollout": api.rollout,
        "task": api.task, "series": api.series, "histogram": api.histogram, "complete": api.complete, "search": api.search,
        "powers": api.powers_given, "lens": api.lens, "compare": api.compare,
    }  # fmt: skip
    routes = [
        Route("/", _page, methods=["GET"]),
        Route("/favicon.ico", _nothing, methods=["GET"]),
        *(Route(f"/api/{name}", _answering(index, answer), methods=["GET"]) for name, answer in get.items()),
        Route("/api/image", api.image, methods=["GET"]),
        Route("/api/label", _posting(api.label), methods=["POST"]),
        Route("/api/replay", _posting(api.replay), methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan, middleware=[Middleware(Guard, token=token)])


def _keep_up(index: RunIndex, stop: threading.Event) -> None:
    said = ""
    while not stop.is_set():
        try:
            index.refresh()
            said = ""
        except Exception as error:  # a run that is being moved or removed: the next look may be better
            if str(error) != said:
                said = str(error)
                logger.warning("the index was not brought up to date: %s", error)
        stop.wait(REFRESH_S)


Answer: TypeAlias = Callable[["_Asked"], "bytes | dict[str, Any] | list[Any]"]


class _Asked:
    """The parameters of a request, read with care."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str, default: str | None = None) -> str:
        value = self._values.get(name, default)
        if value is None:
            raise ConfigurationError(f"the parameter {name!r} is missing")
        return value

    def whole(self, name: str, default: int = 0) -> int:
        return self._whole(name) if self._values.get(name) else default

    def whole_or_none(self, name: str) -> int | None:
        return self._whole(name) if self._values.get(name) else None

    def flag(self, name: str) -> bool:
        return self._values.get(name) == "1"

    def _whole(self, name: str) -> int:
        text = self._values[name]
        try:
            value = int(text[:30])
        except ValueError:
            raise ConfigurationError(f"the parameter {name!r} is a whole number, not {text[:30]!r}") from None
        if abs(value) >= 1 << 62:
            raise ConfigurationError(f"the parameter {name!r} is too large")
        return value


class NotFoundError(OpenRewardGymError, LookupError):
    """There is no such run, rollout or image."""


class _Api:
    def __init__(self, index: RunIndex, powers: Powers) -> None:
        self._index = index
        self._powers = powers
        self._remembered = functools.lru_cache(maxsize=256)(self._figures)

    def runs(self, asked: _Asked) -> dict[str, Any]:
        return queries.runs(self._index)

    def steps(self, asked: _Asked) -> list[Any]:
        return queries.steps(self._index, asked.text("run"), asked.flag("discarded"), asked.text("filter", ""))

    def listing(self, asked: _Asked) -> bytes:
        return queries.listing(
            self._index, asked.text("run"), asked.whole_or_none("step"), asked.flag("discarded"), asked.text("filter", ""),
            max(0, asked.whole("offset")),
        )  # fmt: skip

    def group(self, asked: _Asked) -> list[Any]:
        return queries.group(
            self._index, asked.text("run"), asked.text("group"), asked.whole_or_none("step"), asked.flag("discarded")
        )

    def rollout(self, asked: _Asked) -> bytes:
        found = queries.rollout(self._index, asked.text("run"), asked.text("id"))
        if found is None:
            raise NotFoundError("There is no such rollout in this run yet.")
        return found

    def task(self, asked: _Asked) -> list[Any]:
        return queries.task(self._index, asked.text("task"))

    def series(self, asked: _Asked) -> dict[str, Any]:
        what = ("series", asked.text("run"), asked.text("metric"), asked.text("filter", ""), None, False)
        return self._remembered(self._index.generation, *what)

    def histogram(self, asked: _Asked) -> dict[str, Any]:
        step = asked.whole_or_none("step")
        what = ("histogram", asked.text("run"), asked.text("metric"), asked.text("filter", ""), step, asked.flag("every"))
        return self._remembered(self._index.generation, *what)

    def _figures(
        self, generation: int, kind: str, run: str, metric: str, filter_: str, step: int | None, every: bool
    ) -> dict[str, Any]:
        if kind == "series":
            return queries.series(self._index, run, metric, filter_)
        return queries.histogram(self._index, run, metric, filter_, step, every)

    def compare(self, asked: _Asked) -> dict[str, Any]:
        return comparison(self._index, [unquote(key) for key in asked.text("runs").split(",") if key])

    def complete(self, asked: _Asked) -> dict[str, Any]:
        text = asked.text("text", "")[:2000]
        return queries.completion(self._index, asked.text("run", ""), text, min(max(0, asked.whole("cursor")), len(text)))

    def search(self, asked: _Asked) -> dict[str, Any]:
        return search(
            self._index, asked.text("query"), regex=asked.flag("regex"), run=asked.text("run", "") or None,
            filter_=asked.text("filter", ""), after=asked.whole("after"),
        )  # fmt: skip

    def powers_given(self, asked: _Asked) -> dict[str, Any]:
        replay_at = self._powers.replay_at if self._powers.replay else None
        return {"lens": list(self._powers.lens_formats) if self._powers.lens else [], "replay": replay_at}

    def lens(self, asked: _Asked) -> dict[str, Any]:
        if self._powers.lens is None:
            raise NotFoundError("This viewer was started without the export lens.")
        run, identity = asked.text("run"), asked.text("id")

        def others() -> list[Rollout]:
            ids = queries.others_of(self._index, run, identity)
            return [self._record(run, other) for other in ids]

        return dict(self._powers.lens(self._record(run, identity), others, asked.text("format")))

    def replay(self, given: Any) -> dict[str, Any]:
        if self._powers.replay is None:
            raise NotFoundError("This viewer was started without an environment to replay in.")
        if not isinstance(given, dict) or not isinstance(given.get("run"), str) or not isinstance(given.get("id"), str):
            raise ConfigurationError('give the "run" and the "id" of a rollout')
        return dict(self._powers.replay(self._record(given["run"], given["id"])))

    def _record(self, run: str, identity: str) -> Rollout:
        """The rollout with its images in it."""
        found = self._index.find(run, identity)
        if found is None:
            raise NotFoundError("There is no such rollout in this run.")
        record = Rollout.from_line(self._index.read(found)).to_dict()
        images.move_in(record, functools.partial(self._index.image, found.folder))
        return Rollout.from_dict(record)

    def label(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict) or not isinstance(given.get("run"), str):
            raise ConfigurationError('a label names the "run" its rollout is in')
        label = Label.from_dict({key: value for key, value in given.items() if key != "time"})
        self._index.label(given["run"], label)
        return label.to_dict()

    def image(self, request: Request) -> Response:
        asked = _Asked(request.query_params)
        try:
            folder = self._index.folder(asked.text("run"))
            if folder is None:
                return _error(404, "There is no such run.")
            content = images.read(LocalFolder(folder), asked.text("sha256"))
        except (StoreError, ConfigurationError) as error:
            return _error(404, str(error) if isinstance(error, ConfigurationError) else "There is no such image.")
        return Response(
            content, media_type=image_type(content), headers={"Cache-Control": "private, max-age=31536000, immutable"}
        )


def image_type(content: bytes) -> str:
    """What an image's bytes say it is, whatever its name; what is no image must not be shown as a page."""
    for beginning, kind in (
        (b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"BM", "bmp")):  # fmt: skip
        if content.startswith(beginning):
            return f"image/{kind}"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    # An <img> runs nothing inside an SVG, and opened as a page it is sandboxed by the guard's policy.
    return "image/svg+xml" if b"<svg" in content[:1000] else "application/octet-stream"


def _answering(index: RunIndex, answer: Answer) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        state = f"{index.file} {index.generation} {index.progress} {request.url.query}"
        etag = f'W/"{hashlib.sha256(state.encode("utf-8", "replace")).hexdigest()[:24]}"'
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return _answered(lambda: answer(_Asked(request.query_params)), headers)

    return endpoint


def _posting(answer: Callable[[Any], dict[str, Any]]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            given = orjson.loads(await request.body())
        except ValueError as error:
            return _error(400, f"not JSON: {error}")
        return await run_in_threadpool(_answered, lambda: answer(given), {})

    return endpoint


def _answered(answer: Callable[[], Any], headers: Mapping[str, str]) -> Response:
    try:
        found = answer()
    except NotFoundError as error:
        return _error(404, str(error))
    except ConfigurationError as error:
        return _error(400, str(error))
    except OpenRewardGymError as error:
        return _error(422, str(error))
    body = found if isinstance(found, bytes) else orjson.dumps(found, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, media_type="application/json", headers=dict(headers))


def _error(status: int, message: str) -> Response:
    body = orjson.dumps({"error": message.encode("utf-8", "replace").decode()})
    return Response(body, status_code=status, media_type="application/json")


def _page(request: Request) -> Response:
    found = page()
    return HTMLResponse(found.html, headers={"Content-Security-Policy": found.policy, "Cache-Control": "no-cache"})


def _nothing(request: Request) -> Response:
    return Response(status_code=204)
