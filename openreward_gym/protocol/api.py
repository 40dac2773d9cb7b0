"""API calls: sent through a transport, retried by the retry rule, their failures turned into errors.

This layer adds the headers with the API key, follows the redirect to a server's default environment, waits between attempts and
turns statuses into errors.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

from openreward_gym.errors import (
    CallTimeoutError,
    OpenRewardGymError,
    OutcomeUnknownError,
    ProtocolError,
    SessionLostError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.hiding import Redactor, Secret, proxy_secrets, read_secret, secrets_of_url, with_evidence
from openreward_gym.options import RetryLimits
from openreward_gym.protocol.request import USER_AGENT, Headers, Request, Response, Transport
from openreward_gym.protocol.retry import Effect, decide_retry, failure_of
from openreward_gym.protocol.sse import CallStream
from openreward_gym.protocol.wire import (
    DEFAULT_LIMITS,
    AnswerLimits,
    dumps,
    loads,
    read_blocks,
    read_messages,
    read_output,
    status_error,
)
from openreward_gym.retrying import note_retry
from openreward_gym.types import Json
from openreward_gym.urls import origin_of, without_credentials

T = TypeVar("T")

ALIVE_AFTER_S = 5.0
"""Seconds that a stream must last to prove that its run is alive, even if it then breaks."""
CONNECT_TIMEOUT_S = 10.0
"""Seconds to connect to the server."""
LONGEST_LOCATION = 8192
"""Longest address of a redirect that is followed, in characters."""
KEY_REFRESH_S = 1.0
"""Seconds after which the API key's environment variable is read again."""
NO_SUCH_SESSION = "Active environment not found"
"""Message of the reference servers' 404 for a session that is gone. Other 404s are missing routes."""


@dataclass(slots=True)
class EnvironmentPath:
    """The address of an environment on its server.

    Attributes:
        prefix: Its path segment, with a leading slash. Empty if it is not known: the server then redirects the first request
            to its default environment, whose segment is stored here.
        env_name: Its name in bodies. None for the server's default environment.
    """

    prefix: str = ""
    env_name: str | None = None


# A tuple for speed, as `Request` is.
class ApiCall(NamedTuple):
    """One call of a server's API.

    Attributes:
        path: The path below the base URL and the environment's prefix, with a leading slash.
        environment: The environment that the path belongs to. None for a path of the server itself.
        body: The body, a JSON object, or None. It may hold secrets, so no repr shows it.
        headers: Headers in addition to the API key's and the user agent's.
        session: True if the call is about a session, so that 410 and 404 mean that the session is gone.
        optional: True if older servers lack the endpoint, so that most 404s mean that.
        first_byte_timeout_s: Seconds until the response must begin. None sets no limit.
        total_timeout_s: Seconds until a streamed response must be complete. None sets no limit. Others have the client's limit.
        secrets: Secrets in the body, which no error may repeat.
    """

    method: str
    path: str
    environment: EnvironmentPath | None = None
    body: bytes | None = None
    headers: Mapping[str, str | Secret] = MappingProxyType({})
    effect: Effect = Effect.NONE
    session: bool = False
    optional: bool = False
    first_byte_timeout_s: float | None = 30.0
    total_timeout_s: float | None = None
    secrets: tuple[Secret, ...] = ()

    def all_secrets(self) -> list[Secret]:
        """Return the secrets in the headers and in the body."""
        return [*(value for value in self.headers.values() if isinstance(value, Secret)), *self.secrets]

    def __repr__(self) -> str:
        return f"ApiCall({self.method!r}, {self.path!r}, headers={list(self.headers)})"


class RetryingClient:
    """Sends API calls to one server, and retries them as the retry rule allows.

    `transport` returns the transport of the running event loop. Retries stay within `limits`. The timeouts and the size are
    those of `ClientOptions`. `api_key` replaces the key of the environment variable.
    """

    def __init__(
        self,
        address: str,
        transport: Callable[[], Transport],
        *,
        api_key_env: str,
        api_key: Secret | None = None,
        limits: RetryLimits,
        request_timeout_s: float,
        idle_timeout_s: float,
        max_answer_bytes: int,
        answer_limits: AnswerLimits = DEFAULT_LIMITS,
    ) -> None:
        self.address = address
        self.limits = limits
        self.answer_limits = answer_limits
        self.read_output = partial(read_output, limits=answer_limits)
        self.read_blocks = partial(read_blocks, limits=answer_limits)
        self.read_messages = partial(read_messages, limits=answer_limits)
        self._transport = transport
        self._api_key_env = api_key_env
        self._given_key = api_key
        self._api_key: Secret | None = None
        self._key: Secret | None = None
        self._key_due = 0.0
        self._sent_secrets: tuple[Secret, ...] = ()
        self._request_timeout_s = request_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._max_answer_bytes = max_answer_bytes

    def __repr__(self) -> str:
        return f"RetryingClient({without_credentials(self.address)!r})"

    async def send(self, call: ApiCall) -> Json:
        """Send a call and return its JSON answer, as `read` does without a reader."""
        return await self.read(call, _as_it_is)

    async def read(self, call: ApiCall, reader: Callable[[Json], T]) -> T:
        """Send a call and return what `reader` makes of its JSON answer.

        Raises:
            ServerError, SessionLostError: The server answered with an error status.
            TransportError: The connection failed.
            ProtocolError: The answer is not JSON, or `reader` refuses it.
        """
        response = await self._respond(call, None, call.body)
        try:
            return reader(loads(response.body, self.answer_limits))
        except ProtocolError as error:
            problem = self.redactor(call.all_secrets()).clean(error)
        # A traceback may show this frame's variables.
        del call, response
        raise problem

    def read_result(self, stream: CallStream, secrets: Iterable[Secret], reader: Callable[[Json], T]) -> T:
        """Return what `reader` makes of the result of a finished stream. Raise ProtocolError if it refuses it."""
        try:
            return reader(loads(stream.result(), self.answer_limits))
        except ProtocolError as error:
            problem = self.redactor(secrets).clean(error)
        stream.clear()
        raise problem

    def stream(self, call: ApiCall, stream: CallStream, body: bytes | None = None) -> Coroutine[Any, Any, Response]:
        """Send a call and decode its event stream to the end, over several connections if necessary.

        Args:
            call: The call.
            stream: Receives the events. Afterwards it holds the result, or `stream.error`.
            body: Replaces the body of `call`, so that one `call` can serve many. None keeps it.

        Raises:
            OutcomeUnknownError: The call may have run, and its result is lost. Other errors are those of `send`.
        """
        return self._respond(call, stream, call.body if body is None else body)

    def api_key(self) -> Secret | None:
        """Return the API key that was given, or else that of the environment variable. None if it is not set.

        It is the same object while it does not change.

        Raises:
            ConfigurationError: No header can carry the key.
        """
        if self._given_key is not None:
            return self._given_key
        key, known = read_secret(self._api_key_env, strip=True), self._api_key
        if key is None or (known is not None and known.reveal() == key.reveal()):
            return None if key is None else known
        self._api_key = key
        return key

    def remember(self, secrets: Iterable[Secret]) -> None:
        """Hide the secrets of a session in all later errors: the server may repeat them in answers to other requests."""
        known = {secret.reveal() for secret in self._sent_secrets}
        self._sent_secrets += tuple(secret for secret in secrets if secret.reveal() not in known)

    def redactor(self, secrets: Iterable[Secret] = ()) -> Redactor:
        """Return what hides the API key, the passwords of the addresses, the secrets of all sessions so far, and `secrets`."""
        variable = Secret(os.environ.get(self._api_key_env, "").strip())
        keys = [key for key in (self._key, self._given_key, variable) if key is not None]
        return Redactor([*keys, *secrets_of_url(self.address), *proxy_secrets(), *self._sent_secrets, *secrets])

    async def _respond(self, call: ApiCall, stream: CallStream | None, body: bytes | None) -> Response:
        """Return the first successful response, after as many attempts as the rule allows."""
        progress_at = attempt_began = time.monotonic()
        attempt = most_received = 0
        while True:
            attempt += 1
            request: Request | None = None
            response: Response | None = None
            result: Response | OpenRewardGymError
            try:
                request = self._request(call, stream, body, attempt_began)
                response = await self._transport().send(request)
                if response.status in (307, 308):
                    response = await self._redirected(call, request, response)
                result = self._checked(response, call, stream)
            except OpenRewardGymError as error:
                result = Response(200, {}) if stream is not None and stream.finished else error
            if isinstance(result, Response):
                return result
            problem = self.redactor(call.all_secrets()).clean(result)
            now = time.monotonic()
            if stream is not None and stream.announced:
                # The run is alive if its stream lasted for a while, or came further than before: the limits count anew.
                if now - attempt_began >= ALIVE_AFTER_S or stream.received > most_received:
                    progress_at, attempt = now, 1
                most_received = max(most_received, stream.received)
            failure = failure_of(problem, task_id_seen=stream is not None and stream.task_id is not None)
            if isinstance(problem, ProtocolError) and stream is not None and stream.received:
                failure = replace(failure, delivery="delivered")
            if stream is not None and not failure.may_have_run:
                stream.may_run = False
            decision = decide_retry(call.effect, failure, attempt=attempt, elapsed_s=now - progress_at, limits=self.limits)
            if decision.action not in ("retry", "resume"):
                break
            note_retry(problem, decision.wait_s)
            await asyncio.sleep(decision.wait_s)
            attempt_began = time.monotonic()
        if decision.action == "outcome_unknown":
            slow = isinstance(problem, TransportTimeoutError) and problem.permanent
            problem = (CallTimeoutError if slow else OutcomeUnknownError)(
                f"{call.path} was sent and its result was lost ({problem}). It may have run, so it is not sent again. "
                "End this episode and start another.",
                delivery="delivered" if failure.task_id_seen else "possibly_delivered",
            )
        if stream is not None:
            stream.clear()
        # The response may repeat a secret, the request holds some, and a traceback may show this frame's variables.
        del call, stream, body, request, response, result
        raise problem

    def _request(self, call: ApiCall, stream: CallStream | None, body: bytes | None, now: float) -> Request:
        """Return the request of one attempt. A stream that an earlier attempt began starts again."""
        first_byte_timeout_s, sink = call.first_byte_timeout_s, None
        total_timeout_s = self._request_timeout_s if stream is None else call.total_timeout_s
        if stream is not None:
            sink = stream.feed
            stream.max_bytes = self._max_answer_bytes
            if stream.received:
                stream.restart()
            stream.may_run = True
            if stream.task_ids:
                body = _with_task_id(body or b"{}", stream.task_ids[-1])
                # The server answers a resumption at once, with the task_id; only the first response may take longer.
                first_byte_timeout_s = self._idle_timeout_s
        environment = call.environment
        url = self.address + call.path if environment is None else self.address + environment.prefix + call.path
        headers = self._headers(call.headers, body is not None, sink is not None, now)
        idle_timeout_s, most = self._idle_timeout_s, self._max_answer_bytes
        return Request(
            call.method, url, headers, body, sink, CONNECT_TIMEOUT_S, first_byte_timeout_s, idle_timeout_s, total_timeout_s, most
        )

    async def _redirected(self, call: ApiCall, request: Request, response: Response) -> Response:
        """Follow one redirect to the server's default environment, and store its path prefix."""
        location = response.headers.get("location", "")
        here = without_credentials(self.address)
        try:
            target = urljoin(request.url, location)
            away = origin_of(target) != origin_of(request.url)
            valid = _is_address(location) and urlsplit(target).path.startswith("/")
        except ValueError:
            # A port above 65535, or half of an IPv6 address.
            target, away, valid = "", False, False
        if not valid:
            problem = ProtocolError(f"{here} redirects {call.path} to what is not an address: ")
            raise with_evidence(problem, repr(location))
        if away:
            advice = "The API key is not sent there. If that is the right address, pass it as base_url."
            problem, shown = ProtocolError(f"{here} redirects to "), repr(without_credentials(location))
            raise with_evidence(problem, shown, f", which is another server. {advice}")
        response = await self._transport().send(request._replace(url=target))
        if response.status in (307, 308):
            raise ProtocolError(f"{here} redirects {call.path} to a redirect")
        moved = urlsplit(target).path.removeprefix(urlsplit(self.address).path)
        if call.environment is not None and not call.environment.prefix and moved.endswith(call.path):
            call.environment.prefix = moved.removesuffix(call.path)
        return response

    def _headers(self, own: Mapping[str, str | Secret], body: bool, stream: bool, now: float) -> Headers:
        """Return all headers of a request. The calls of a session share one object, which the transport encodes once."""
        if now >= self._key_due:
            # Reading an environment variable takes as long as parsing an answer.
            self._key_due = now + KEY_REFRESH_S
            self._key = self.api_key()
        key = self._key
        shared = own.derived if type(own) is Headers else {}
        known = shared.get((body, stream))
        if known is not None and known.key is key:
            return known
        headers: dict[str, str | Secret] = {"User-Agent": USER_AGENT}
        if key:
            headers["X-API-Key"] = key
        headers["Accept"] = "text/event-stream" if stream else "application/json"
        if body:
            headers["Content-Type"] = "application/json"
        headers.update(own)
        complete = Headers(headers, key)
        if type(own) is Headers:
            # Both transports refuse here what no header can carry, once for all requests that share these headers.
            complete.encoded()
            shared[body, stream] = complete
        return complete

    def _checked(self, response: Response, call: ApiCall, stream: CallStream | None) -> Response | OpenRewardGymError:
        """Return the response if it is successful, else its error."""
        if response.status >= 300:
            return _status_error(response, call, self.redactor(call.all_secrets()))
        if stream is None:
            return response
        if call.effect is Effect.ONCE and len(stream.task_ids) > 1:
            return OutcomeUnknownError("the server started a second run instead of continuing the first", delivery="delivered")
        if call.effect is Effect.ONCE and stream.error is not None and stream.task_id is not None and not stream.announced:
            forgotten = OutcomeUnknownError("the server no longer knows the run (", delivery="delivered")
            return with_evidence(forgotten, stream.error, ")")
        if stream.finished:
            return response
        kind = response.headers.get("content-type", "no content type")
        if "event-stream" in kind:
            return TransportError(f"the stream of {call.path} ended before its result", delivery="delivered")
        text = f"expected an event stream from {call.path}, the server sent "
        # A proxy that sent this answer may have forwarded the request: the result of a call is then lost.
        lost = TransportError(text, delivery="delivered")
        problem: OpenRewardGymError = ProtocolError(text) if call.effect is Effect.NONE else lost
        return with_evidence(problem, kind, ". Is this an Open Reward server?", limit=80)


def _is_address(location: str) -> bool:
    """Return True if a redirect's address can be requested, by its letters and its length."""
    return 0 < len(location) <= LONGEST_LOCATION and location.isascii() and location.isprintable() and " " not in location


def _as_it_is(answer: Json) -> Json:
    return answer


def _with_task_id(body: bytes, task_id: str) -> bytes:
    """Return the JSON object `body` with the field `task_id`."""
    fields = body[1:].lstrip()
    return b'{"task_id":' + dumps(task_id) + (b"," if not fields.startswith(b"}") else b"") + fields


def _status_error(response: Response, call: ApiCall, redact: Redactor) -> OpenRewardGymError:
    error = status_error(f"{call.method} {call.path}", response.status, response.body, response.headers, redact)
    gone = response.status == 410 or (response.status == 404 and (not call.optional or NO_SUCH_SESSION in error.detail))
    if call.session and gone:
        message = f"the server no longer has the session: {error.detail or response.status}"
        return SessionLostError(message, status=response.status, detail=error.detail)
    return error
