"""One request and its answer: sent through a transport, sent again by the retry rule, its failure given a name.

Between the session, which knows what it wants, and the transport, which knows how to send: headers with the key, the redirect
to a server's default environment, waiting between attempts, and which error a status is.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from openreward_gym.errors import (
    AuthenticationError,
    OpenRewardGymError,
    OutcomeUnknownError,
    ProtocolError,
    ServerError,
    SessionLostError,
    TransportError,
)
from openreward_gym.protocol.addresses import origin_of, without_credentials
from openreward_gym.protocol.request import Headers, Request, Response, Transport
from openreward_gym.protocol.retry import Effect, Failure, Move, RetryLimits, next_move
from openreward_gym.protocol.sse import CallStream
from openreward_gym.protocol.wire import Secret, dumps, hide, loads, read_detail
from openreward_gym.types import Json

__all__ = ["Ask", "Exchange", "Prefix"]

USER_AGENT = "openreward-gym/0.1.0"
ALIVE_AFTER_S = 5.0
"""Seconds after which a stream that breaks off has still shown that its run is alive."""
CONNECT_TIMEOUT_S = 10.0
"""Seconds to reach the server."""
KEY_LASTS_S = 1.0
"""Seconds for which requests go out with the API key that was found last."""
NO_SUCH_SESSION = "Active environment not found"
"""What the reference servers say with a 404 where the session is gone; other 404s are missing routes."""


@dataclass(slots=True)
class Prefix:
    """The path segment of an environment. Empty where it is not known: the server then redirects to its default environment,
    once, and the segment is learned from that.
    """

    path: str = ""


# A tuple, as a request is: many are made.
class Ask(NamedTuple):
    """What is asked of a server.

    Attributes:
        method: `GET` or `POST`.
        path: The path below the base URL (and below `prefix`), with a leading slash.
        prefix: The environment that the path belongs to; None for a path of the server itself.
        body: The body, a JSON object; None for none. It may hold secrets, so no repr shows it.
        headers: Headers beside the key's and the agent's.
        effect: What running it twice would do.
        session: Whether it is about a session, so that 410 and 404 mean that the session is gone.
        optional: Whether older servers may not have the endpoint, so that most 404s mean that instead.
        first_byte_timeout_s: Seconds until the answer must begin; None waits for as long as it takes.
        secrets: Secrets in the body, which no error may repeat.
    """

    method: str
    path: str
    prefix: Prefix | None = None
    body: bytes | None = None
    headers: Mapping[str, str | Secret] = MappingProxyType({})
    effect: Effect = Effect.NONE
    session: bool = False
    optional: bool = False
    first_byte_timeout_s: float | None = 30.0
    secrets: tuple[Secret, ...] = ()

    def __repr__(self) -> str:
        return f"Ask({self.method!r}, {self.path!r}, headers={list(self.headers)})"


class Exchange:
    """Asks one server.

    Args:
        address: Its base URL.
        transport: Returns the transport of the running event loop.
        api_key_env: The environment variable that holds the API key.
        limits: How long to keep trying.
        idle_timeout_s: Seconds of silence after which a peer is dead (a stream is kept alive every 10 s).
        any_loop: Whether it may be used from every event loop.
    """

    def __init__(
        self,
        address: str,
        transport: Callable[[], Transport],
        *,
        api_key_env: str,
        limits: RetryLimits,
        idle_timeout_s: float,
        any_loop: bool,
    ) -> None:
        self.address = address
        self.limits = limits
        self.any_loop = any_loop
        self._transport = transport
        self._api_key_env = api_key_env
        self._api_key: Secret | None = None
        self._key: Secret | None = None
        self._key_due = 0.0
        self._idle_timeout_s = idle_timeout_s

    def __repr__(self) -> str:
        return f"Exchange({without_credentials(self.address)!r})"

    async def ask(self, ask: Ask) -> Json:
        """The JSON answer to `ask`.

        Raises:
            ServerError, SessionLostError: The server says no.
            TransportError: It did not come through.
            ProtocolError: The answer is not JSON.
        """
        response = await self._sent(ask, None, ask.body)
        try:
            return loads(response.body)
        except ProtocolError as error:
            problem = error
        raise self._hiding(problem, ask)

    def follow(self, ask: Ask, stream: CallStream, body: bytes | None = None) -> Coroutine[Any, Any, Response]:
        """Send `ask` and follow its event stream into `stream`, over as many connections as it takes, to its end.

        Args:
            ask: What is asked.
            stream: Takes what comes. Afterwards it holds the result, or `stream.error`.
            body: The body instead of the one in `ask`, which then serves many calls; None for that one.

        Raises:
            OutcomeUnknownError: It may have run, and its result is lost.
            ServerError, SessionLostError, TransportError, ProtocolError: As `ask`.
        """
        return self._sent(ask, stream, ask.body if body is None else body)

    def api_key(self) -> Secret | None:
        """The key, read anew; None where its environment variable is not set. The same object as long as it does not change."""
        text = os.environ.get(self._api_key_env)
        known = self._api_key
        if not text or not (text := text.strip()):
            return None
        if known is None or known.reveal() != text:
            known = self._api_key = Secret(text)
        return known

    def hide(self, text: str, ask: Ask) -> str:
        """`text` without the secrets that `ask` carries."""
        key = self.api_key()
        carried = [value for value in ask.headers.values() if isinstance(value, Secret)]
        return hide(text, [*carried, *ask.secrets, *([key] if key else [])])

    def _hiding(self, error: OpenRewardGymError, ask: Ask) -> OpenRewardGymError:
        error.args = (self.hide(str(error), ask),)
        if isinstance(error, ServerError):
            error.detail = self.hide(error.detail, ask)
        return error

    async def _sent(self, ask: Ask, stream: CallStream | None, body: bytes | None) -> Response:
        """The first good response, after as many attempts as the rule allows."""
        patience_began = attempt_began = time.monotonic()
        attempt = most_received = 0
        while True:
            attempt += 1
            request = self._request(ask, stream, body, attempt_began)
            response: Response | None = None
            result: Response | OpenRewardGymError
            try:
                response = await self._transport().send(request)
                if response.status in (307, 308):
                    response = await self._redirected(ask, request, response)
                result = _judged(response, ask, stream)
            except (TransportError, ProtocolError) as error:
                result = Response(200, {}) if stream is not None and stream.finished else error
            if isinstance(result, Response):
                return result
            # What a refusal repeats may be a secret, and a traceback shows this frame's variables.
            del response
            problem = self._hiding(result, ask)
            now = time.monotonic()
            if stream is not None and stream.announced:
                # The run is alive where its stream went on for a while, or came further than before: patience begins anew.
                if now - attempt_began >= ALIVE_AFTER_S or stream.received > most_received:
                    patience_began, attempt = now, 1
                most_received = max(most_received, stream.received)
            failure = _failure_of(problem, stream)
            if stream is not None and not failure.may_have_run:
                stream.may_run = False
            move = next_move(ask.effect, failure, attempt=attempt, elapsed_s=now - patience_began, limits=self.limits)
            if move.action not in ("retry", "resume"):
                _raise(move, problem, ask, stream)
            await asyncio.sleep(move.wait_s)
            attempt_began = time.monotonic()

    def _request(self, ask: Ask, stream: CallStream | None, body: bytes | None, now: float) -> Request:
        """The request of one attempt. A stream that an attempt before this one began is expected anew."""
        patience_s = ask.first_byte_timeout_s
        if stream is None:
            sink = None
        else:
            sink = stream.feed
            if stream.received:
                stream.restart()
            stream.may_run = True
            if stream.task_ids:
                body = _with_task_id(body or b"{}", stream.task_ids[-1])
                # A run that is asked for again is answered at once, with its task_id; only a first answer may take its time.
                patience_s = self._idle_timeout_s
        prefix = ask.prefix
        url = self.address + ask.path if prefix is None else self.address + prefix.path + ask.path
        headers = self._headers(ask.headers, body is not None, sink is not None, now)
        return Request(ask.method, url, headers, body, sink, CONNECT_TIMEOUT_S, patience_s, self._idle_timeout_s)

    async def _redirected(self, ask: Ask, request: Request, response: Response) -> Response:
        """Follow one redirect to the server's default environment, and remember where it went."""
        target = self._redirect_target(request.url, response)
        response = await self._transport().send(request._replace(url=target))
        if response.status in (307, 308):
            raise ProtocolError(f"{without_credentials(self.address)} redirects {ask.path} in a circle")
        moved = urlsplit(target).path.removeprefix(urlsplit(self.address).path)
        if ask.prefix is not None and not ask.prefix.path and moved.endswith(ask.path):
            ask.prefix.path = moved.removesuffix(ask.path)
        return response

    def _redirect_target(self, url: str, response: Response) -> str:
        """Where a redirect leads; only this server's own addresses are followed, for the key goes along."""
        location = response.headers.get("location", "")
        target = location
        if location.startswith("/") and not location.startswith("//"):
            parts = urlsplit(url)
            target = f"{parts.scheme}://{parts.netloc}{location}"
        if not location or origin_of(target) != origin_of(url):
            raise ProtocolError(
                f"{without_credentials(self.address)} redirects to {without_credentials(location)!r}, which is another server; "
                "the API key is not sent there. If that is the right address, pass it as base_url."
            )
        return target

    def _headers(self, given: Mapping[str, str | Secret], body: bool, stream: bool, now: float) -> Headers:
        """What is sent with `given`. A session's many calls share one object, whose bytes the transport makes once."""
        if now >= self._key_due:
            # Asking the system's environment costs as much as parsing an answer.
            self._key_due = now + KEY_LASTS_S
            self._key = self.api_key()
        key = self._key
        shared = given.derived if type(given) is Headers else {}
        known = shared.get((body, stream))
        if known is not None and known.key is key:
            return known
        headers: dict[str, str | Secret] = {"User-Agent": USER_AGENT}
        if key:
            headers["X-API-Key"] = key
        headers["Accept"] = "text/event-stream" if stream else "application/json"
        if body:
            headers["Content-Type"] = "application/json"
        headers.update(given)
        made = shared[body, stream] = Headers(headers, key)
        return made


def _judged(response: Response, ask: Ask, stream: CallStream | None) -> Response | OpenRewardGymError:
    """The response where it is good, else the error that it is."""
    if response.status >= 300:
        return _status_error(response, ask)
    if stream is None:
        return response
    if ask.effect is Effect.ONCE and (lost := _lost_run(stream)):
        return lost
    if stream.finished:
        return response
    kind = response.headers.get("content-type", "no content type")
    if "event-stream" in kind:
        return TransportError(f"the stream of {ask.path} broke off before its end", delivery="delivered")
    text = f"expected an event stream from {ask.path}, the server sent {kind}: is this an Open Reward server?"
    # Whoever answered so may have passed the request on: where that matters, it is a lost result.
    return ProtocolError(text) if ask.effect is Effect.NONE else TransportError(text, delivery="delivered")


def _with_task_id(body: bytes, task_id: str) -> bytes:
    """The JSON object `body` with the field `task_id`."""
    rest = body[1:].lstrip()
    return b'{"task_id":' + dumps(task_id) + (b"," if not rest.startswith(b"}") else b"") + rest


def _lost_run(stream: CallStream) -> OutcomeUnknownError | None:
    """What is wrong where a server did not continue the run that it was asked to continue."""
    if len(stream.task_ids) > 1:
        return OutcomeUnknownError("the server started a second run instead of continuing the first", delivery="delivered")
    if stream.error is not None and stream.task_id is not None and not stream.announced:
        return OutcomeUnknownError(f"the server no longer knows the run ({stream.error})", delivery="delivered")
    return None


def _status_error(response: Response, ask: Ask) -> OpenRewardGymError:
    """The error that a status is. Its attributes carry what the retry rule wants to know."""
    detail = read_detail(response.body)
    status = response.status
    if ask.session and (status == 410 or (status == 404 and (not ask.optional or NO_SUCH_SESSION in detail))):
        return SessionLostError(f"the server no longer has the session: {detail or status}", status=status, detail=detail)
    if status in (401, 403):
        return AuthenticationError(
            f"the server refuses {ask.path} with {status}: {detail or 'no reason given'}. Set the API key's environment "
            "variable (OPENREWARD_API_KEY), or check what the key may do.",
            status=status,
            detail=detail,
        )
    return ServerError(
        f"the server answered {ask.method} {ask.path} with {status}: {detail or 'no reason given'}",
        status=status,
        detail=detail,
        retry_after_s=_retry_after(response.headers.get("retry-after")),
        starting=status == 503 and response.headers.get("x-backend-state", "").strip().lower() == "starting",
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header; None where there is none, or where it is a date."""
    try:
        seconds = float(value) if value is not None else -1.0
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _failure_of(error: OpenRewardGymError, stream: CallStream | None) -> Failure:
    seen = stream is not None and stream.task_id is not None
    if isinstance(error, OutcomeUnknownError):
        return Failure("delivered", task_id_seen=seen, task_forgotten=True)
    if isinstance(error, SessionLostError):
        return Failure("delivered", session_gone=True, task_id_seen=seen)
    if isinstance(error, ServerError):
        return Failure(
            "delivered",
            status=error.status,
            starting=getattr(error, "starting", False),
            retry_after_s=error.retry_after_s,
            task_id_seen=seen,
        )
    if isinstance(error, TransportError):
        delivery = error.delivery
        return Failure(
            "not_sent" if delivery == "not_sent" else "possibly_delivered",
            task_id_seen=seen,
            permanent=getattr(error, "permanent", False),
        )
    # The server does not speak the protocol, and will not the next time. Before its stream began, nothing ran.
    if stream is not None and stream.received:
        return Failure("delivered", task_id_seen=seen, permanent=True)
    return Failure("not_sent", task_id_seen=seen, permanent=True)


def _raise(move: Move, error: OpenRewardGymError, ask: Ask, stream: CallStream | None) -> NoReturn:
    if move.action == "outcome_unknown":
        raise OutcomeUnknownError(
            f"{ask.path} was sent and its result was lost ({error}). It may have run, so it is not sent again: "
            "end this episode and start another.",
            delivery="delivered" if stream is not None and stream.task_id is not None else "possibly_delivered",
        )
    raise error
