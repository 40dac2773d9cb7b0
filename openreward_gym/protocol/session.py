"""One episode on a server: opened, read, called, and deleted in any case."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

from openreward_gym.errors import (
    CallTimeoutError,
    ConfigurationError,
    OpenRewardGymError,
    OutcomeUnknownError,
    ServerError,
    SessionLostError,
    ToolFailedError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.hiding import LONGEST_MESSAGE, Secret
from openreward_gym.options import SessionOptions
from openreward_gym.processes import ProcessBound
from openreward_gym.protocol import wire
from openreward_gym.protocol.api import ApiCall
from openreward_gym.protocol.concurrency import CallTimeout, SharedTask, TimeoutClock
from openreward_gym.protocol.context import EnvironmentContext
from openreward_gym.protocol.keepalive import KeepAlive
from openreward_gym.protocol.leases import Lease
from openreward_gym.protocol.request import Headers
from openreward_gym.protocol.retry import Effect
from openreward_gym.protocol.secrets import allowed_domains, read_secrets, secrets_header
from openreward_gym.protocol.sse import CallStream
from openreward_gym.protocol.wire import GroupCandidate, GroupScore
from openreward_gym.types import Block, Json, Message, TextBlock, ToolOutput, ToolSet

T = TypeVar("T")


class Session(ProcessBound):
    """A session of one task, made by `RemoteEnvironment.session`. `async with` opens and closes it.

    It belongs to the event loop that opened it and to the process that made it: in a forked child its methods raise
    ConfigurationError, and closing it there changes nothing.

    Attributes:
        environment_name: The name of the environment.
        options: The session's options.
        session_id: The server's id of the session. None before it is open.
        lost: True if the server is known to have lost the session.

    Example:
        >>> from openreward_gym import Client
        >>> session = Client("http://127.0.0.1:8080").environment("weather").session(split="train", index=0)
        >>> session
        <Session of 'weather', not open>
    """

    _noun = "session"
    _instead = "open another in this process"

    def __init__(
        self,
        environment: EnvironmentContext,
        task: Mapping[str, Json],
        options: SessionOptions,
        secrets: Mapping[str, Secret] = MappingProxyType({}),
    ) -> None:
        # `task` holds fields of the request that creates it: `split` and `index`, or `task_spec`. `secrets` are sent beside
        # those of the options.
        self.environment_name = environment.name
        self.options = options
        self.session_id: str | None = None
        self.lost = False
        self._environment = environment
        self._task = task
        self._own_secrets = secrets
        self._client = environment.client
        self._api = environment.client.api
        self._keep_alive: KeepAlive | None = None
        self._clock = TimeoutClock()
        self._lease: Lease | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._headers = Headers({})
        self._tool_call: ApiCall | None = None
        self._secrets: tuple[Secret, ...] = ()
        self._closed = False
        self._lost_reason = ""
        self._tool_failure: str | None = None
        self._episode_ends: float | None = None
        self._answers: dict[str, SharedTask[Any]] = {}
        self._calls: set[CallTimeout] = set()
        self._set_up = False
        self._set_up_by = 0.0

    def __repr__(self) -> str:
        state = "closed" if self._closed else "lost" if self.lost else "open" if self.session_id else "not open"
        return f"<Session{f' {self.session_id}' if self.session_id else ''} of {self.environment_name!r}, {state}>"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Create the session on the server. If opening fails or is cancelled, the session is deleted there.

        Raises:
            EnvironmentNotFoundError, SplitNotFoundError, TaskNotFoundError: The task is unknown.
            ConfigurationError: The server refuses the options, a secret's variable is not set, or the session was opened
                before.
            ServerError: The server could not create the environment.
            TransportTimeoutError: Opening took longer than `open_timeout_s`.
            TransportError: The server did not answer.
        """
        self._check_process()
        if self._lease is not None:
            raise ConfigurationError("a session can be opened once. Make another with environment.session().")
        self._loop = asyncio.get_running_loop()
        self._clock = self._client.clock()
        self._lease = Lease(self._client.leases, self._environment.headers)
        limit_s = self.options.open_timeout_s
        self._set_up_by = time.monotonic() + limit_s
        weakref.finalize(self, self._lease.abandon).atexit = False
        creation = SharedTask(self._create(self._lease))
        problem: BaseException
        try:
            async with asyncio.timeout(limit_s):
                self.session_id = await creation.result()
            self._headers = self._lease.headers_of(self.session_id)
            if self.options.episode_timeout_s is not None:
                self._episode_ends = time.monotonic() + self.options.episode_timeout_s
            self._keep_alive = self._client.keep_alive()
            self._keep_alive.add(self)
            return
        except TimeoutError as error:
            late = f"opening a session of {self.environment_name!r} took longer than {limit_s} s"
            problem = error if isinstance(error, OpenRewardGymError) else TransportTimeoutError(late)
        except BaseException as error:
            # The frames of its causes hold requests.
            problem = self._api.redactor(self._secrets).clean(error) if isinstance(error, OpenRewardGymError) else error
        self._closed = True
        if self._lease.creating is None:
            creation.task.cancel()
        # A request in flight may still create something. The deletion waits for it.
        await self._lease.release(creation=creation.task)
        raise problem

    async def _create(self, lease: Lease) -> str:
        """Create a session on the server, with exactly one environment in it, and return its id."""
        options, client = self.options, self._client
        secrets = {**read_secrets(options.secrets_env or {}, self._api.api_key()), **self._own_secrets}
        self._secrets = tuple(secrets.values())
        self._api.remember(self._secrets)
        address = await self._environment.path()
        headers: Mapping[str, str | Secret] = self._environment.headers
        body = dict(self._task)
        if address.env_name is not None:
            body["env_name"] = address.env_name
        if options.toolset is not None:
            body["toolset_name"] = options.toolset
        if secrets:
            domains = allowed_domains(list(secrets), options.secret_domains or {}, client.addresses)
            headers = {**headers, "X-Secrets": secrets_header(secrets, domains)}
            if await client.takes_secrets_in_body():
                body["secrets"] = secrets
        overrides = wire.encode_body({"env": dict(options.env_overrides)} if options.env_overrides else {}, "env_overrides")
        for _ in range(self._api.limits.attempts):
            session_id = await self._environment.create_session(lease, headers, overrides, options.open_timeout_s, self._secrets)
            lease.creating = session_id
            try:
                await self._create_environment(lease.headers_of(session_id), headers, body)
                return session_id
            except OutcomeUnknownError as error:
                problem = error
            finally:
                lease.creating = None
            if self._closed:
                break
            # The answer was lost, and a second request could create a second environment in the session. A ping tells whether
            # the first one arrived. If it did not, a new session is safe.
            try:
                await self._api.send(self._ping_call(lease.headers_of(session_id)))
                return session_id
            except (SessionLostError, ServerError):
                pass
        raise problem

    async def _create_environment(self, own: Headers, shared: Mapping[str, str | Secret], body: Mapping[str, Json]) -> None:
        try:
            await self._api.send(
                ApiCall(
                    "POST",
                    "/create",
                    body=wire.encode_body(body, "the task"),
                    headers={**shared, **own} if self._secrets else own,
                    effect=Effect.ONCE,
                    # Opening has its own limit. An environment that is created after this request gave up would have no owner.
                    first_byte_timeout_s=None,
                    secrets=self._secrets,
                )
            )
        except ServerError as error:
            refusal = error
        else:
            return
        raise await self._environment.explain(refusal, body)

    async def close(self) -> None:
        """Delete the session. It takes a bounded time, does not raise if the server is gone, and may be called again.

        Any thread's event loop may close it. An environment that takes longer than eight seconds to tear down loses its machine.
        """
        self._closed = True
        if self._lease is None or self._is_foreign:
            return
        if self._keep_alive is not None:
            self._keep_alive.discard(self)
        if self._loop is asyncio.get_running_loop():
            self._end_requests()
        elif self._loop is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._end_requests)
        await self._lease.release()

    def _end_requests(self) -> None:
        for answer in self._answers.values():
            answer.task.cancel()
        self._expire_calls()

    async def ping(self) -> None:
        """Ping the server, so that it keeps the session. The client does so every few seconds.

        Raises:
            SessionLostError: The server no longer has the session.
        """
        self._check_process()
        await self._api.send(self._ping_call(self._headers))

    def _ping_call(self, headers: Headers) -> ApiCall:
        timeout_s = self._client.options.request_timeout_s
        return ApiCall("POST", "/ping", headers=headers, session=True, first_byte_timeout_s=timeout_s)

    def mark_lost(self, reason: str) -> None:
        """Record that the server lost the session, and end the calls in flight. Any thread may call it."""
        self.lost = True
        self._lost_reason = reason
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._expire_calls)

    def _expire_calls(self) -> None:
        for call in self._calls:
            call.expire()

    async def prompt(self) -> tuple[Block, ...]:
        """Return the task's prompt. It is requested once per session, because environments may initialise in it."""
        return await self._once("prompt", self._read_prompt)

    async def messages(self) -> tuple[Message, ...]:
        """Return the task as a conversation. Servers without conversations give the prompt as one user message."""
        return await self._once("messages", self._read_messages)

    async def tools(self) -> ToolSet:
        """Return the session's tools: the environment's, the task's and the toolset's."""
        return await self._once("tools", self._read_tools)

    async def call(self, name: str, arguments: Mapping[str, Json] | None = None, *, timeout_s: float | None = None) -> ToolOutput:
        """Call a tool, at most once even if the connection fails.

        Args:
            name: The tool's name.
            arguments: The tool's arguments. None passes none.
            timeout_s: Seconds that the call may take. None uses the session's `step_timeout_s`.

        Returns:
            The tool's output. A wrong call (an unknown tool, invalid arguments) is an output with `error` and `error_kind`.

        Raises:
            SessionLostError: The server no longer has the session.
            ToolFailedError: The tool raised an exception. The episode is over.
            OutcomeUnknownError: The call may have run, and its result is lost.
            TransportTimeoutError: The call took too long.
            TransportError: The call did not run.
        """
        self._ensure_usable()
        body, problem = _call_body(name, {} if arguments is None else arguments)
        if problem:
            return ToolOutput((TextBlock(problem),), error=problem, error_kind="malformed")
        limit_s = self._limit(name, timeout_s)
        stream = CallStream()
        # One coroutine from here to the retrying client: with a thousand sessions each waiting frame costs.
        timeout = CallTimeout(limit_s, self._clock)
        self._calls.add(timeout)
        failure: OpenRewardGymError | None = None
        try:
            await self._api.stream(self._tool_call or await self._make_tool_call(), stream, body)
        except asyncio.CancelledError:
            if not timeout.stop():
                raise
            failure = self._expired(name, limit_s, stream)
        except SessionLostError as error:
            self.lost, self._lost_reason = True, str(error)
            raise
        except ServerError as error:
            if error.status != 500:
                raise
            failure = self._failed("the environment raised an exception on the server: ", error.detail or str(error))
            failure.status = error.status
        finally:
            timeout.stop()
            self._calls.discard(timeout)
        if failure is None and stream.error is not None:
            failure = self._failed(f"the tool {name!r} raised an exception on the server: ", stream.error or "no reason given")
        if failure is not None:
            stream.clear()
            raise failure
        self._set_up = True
        return self._api.read_result(stream, self._secrets, self._api.read_output)

    async def call_terminal(self, text: str) -> ToolOutput:
        """Pass the assistant's message to the terminal tool, which ends the episode. Without one, the output has an error."""
        terminal = (await self.tools()).terminal
        if terminal is None:
            problem = f"{self.environment_name} has no terminal tool: a tool call ends the episode, not a message"
            return ToolOutput((TextBlock(problem),), error=problem, error_kind="not_found")
        return await self.call(terminal.name, {} if terminal.arg is None else {terminal.arg: text})

    async def score_group(self, candidates: Sequence[GroupCandidate | Sequence[Message]]) -> list[GroupScore]:
        """Return the comparative rewards of several rollouts of this task, one per candidate, in their order.

        Raises:
            ConfigurationError: The environment does not compare rollouts, or does not accept one of the blocks.
            ServerError: The comparison failed. The session remains usable.
            CallTimeoutError: It took longer than `step_timeout_s`.
        """
        self._ensure_usable()
        group = [entry if isinstance(entry, GroupCandidate) else GroupCandidate(entry) for entry in candidates]
        if unsupported := wire.unsupported_blocks(group, await self.tools()):
            types = ", ".join(sorted(unsupported))
            raise ConfigurationError(f"{self.environment_name} does not accept {types} blocks in a group")
        call = await self._make_call("POST", "/score_group", wire.encode_group(group), optional=True)
        stream = CallStream()
        limit_s = self._limit("score_group", None)
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                await self._api.stream(call, stream)
        except TimeoutError:
            if not limit.expired():
                raise
            raise CallTimeoutError(f"comparing the group took longer than {limit_s} s, the limit of a call") from None
        except ServerError as error:
            if error.status == 404:
                raise ConfigurationError(f"{self.environment_name} does not compare groups of rollouts") from None
            raise
        if stream.error is not None:
            reason = self._api.redactor(self._secrets).quote(stream.error, LONGEST_MESSAGE)
            stream.clear()
            raise ServerError(f"{self.environment_name} could not compare the group: {reason}", detail=reason)
        return self._api.read_result(stream, self._secrets, partial(wire.read_scores, count=len(group)))

    async def _make_tool_call(self) -> ApiCall:
        call = await self._make_call("POST", "/call")
        if self._set_up:
            # From now on all tool calls differ only in their bodies.
            self._tool_call = call
        return call

    def _limit(self, name: str, timeout_s: float | None) -> float | None:
        """Return the seconds that a call may take. None for no limit."""
        limit_s = self.options.step_timeout_s if timeout_s is None else timeout_s
        if self._episode_ends is not None:
            left_s = self._episode_ends - time.monotonic()
            limit_s = left_s if limit_s is None else min(limit_s, left_s)
        if limit_s is not None and limit_s <= 0:
            raise TransportTimeoutError(f"no time is left to call {name!r}: it was not sent", delivery="not_sent")
        return limit_s

    def _expired(self, name: str, limit_s: float | None, stream: CallStream) -> OpenRewardGymError:
        """Return the error for a call that its time limit ended."""
        if self.lost or self._closed:
            return SessionLostError(f"the session was lost while {name!r} ran: {self._lost_reason or 'it was closed'}")
        if not stream.may_run:
            return TransportTimeoutError(f"{name!r} could not be called within {limit_s} s: it did not run", delivery="not_sent")
        return CallTimeoutError(
            f"the call of {name!r} took longer than {limit_s} s. It may have run, or may still be running: end this episode.",
            delivery="possibly_delivered" if stream.task_id is None else "delivered",
        )

    def _failed(self, problem: str, words: str) -> ToolFailedError:
        """Return the error for an exception on the server, with its words. It ends the episode."""
        error = ToolFailedError(problem + words, detail=words)
        self._tool_failure = str(self._api.redactor(self._secrets).clean(error))
        return error

    async def _read_prompt(self) -> tuple[Block, ...]:
        messages = self._answers.get("messages")
        if messages is not None and messages.task is not asyncio.current_task():
            # The environment gave its task as messages. A request for the other form would initialise it again.
            return wire.flatten_messages(await messages.result())
        return await self._api.read(await self._make_call("GET", "/prompt"), self._api.read_blocks)

    async def _read_messages(self) -> tuple[Message, ...]:
        if "prompt" not in self._answers:
            try:
                return await self._api.read(await self._make_call("GET", "/messages", optional=True), self._api.read_messages)
            except ServerError as error:
                if error.status != 404:
                    raise
            return (Message("user", await self._api.read(await self._make_call("GET", "/prompt"), self._api.read_blocks)),)
        return (Message("user", await self.prompt()),)

    async def _read_tools(self) -> ToolSet:
        for path in ("/task_tools", "/tools"):
            try:
                call = await self._make_call("GET", path, effect=Effect.NONE, optional=path == "/task_tools")
                return await self._api.read(call, wire.read_tools)
            except ServerError as error:
                if error.status != 404:
                    raise
                missing = error
        raise missing

    async def _make_call(
        self, method: str, path: str, body: bytes | None = None, *, effect: Effect = Effect.ONCE, optional: bool = False
    ) -> ApiCall:
        address = await self._environment.path()
        # Some servers delay the first answer, without a heartbeat, until the environment is set up. So the first request may
        # wait for as long as opening may take.
        timeout_s = self._client.options.request_timeout_s
        if not self._set_up:
            timeout_s = max(timeout_s, self._set_up_by - time.monotonic())
        return ApiCall(
            method,
            path,
            address,
            body,
            self._headers,
            effect,
            session=True,
            optional=optional,
            first_byte_timeout_s=timeout_s,
            secrets=self._secrets,
        )

    async def _once(self, name: str, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the answer of a request that is sent once, for all callers, and continues if a caller is cancelled."""
        self._ensure_usable()
        answer: SharedTask[T] | None = self._answers.get(name)
        if answer is None:
            answer = self._answers[name] = SharedTask(read())
        try:
            return await answer.result()
        except TransportError as error:
            if error.delivery == "not_sent":
                self._answers.pop(name, None)
            raise

    def _ensure_usable(self) -> None:
        self._check_process()
        if self._closed or self.session_id is None:
            raise ConfigurationError(f"this session is {'closed' if self._closed else 'not open'}. Open another.")
        if self._tool_failure is not None:
            raise ToolFailedError(self._tool_failure)
        if self.lost:
            raise SessionLostError(self._lost_reason)


def _call_body(name: object, arguments: object) -> tuple[bytes, str]:
    """Return the body of a call, and the reason for which it cannot be sent or an empty string."""
    if not isinstance(name, str) or not name:
        return b"", f"the name of a tool must be a string, not {name!r}"
    if not isinstance(arguments, Mapping):
        return b"", f"the arguments of {name!r} must be a JSON object, not {type(arguments).__name__}"
    if not all(isinstance(key, str) for key in arguments):
        return b"", f"the arguments of {name!r} have names that are not strings"
    try:
        body = wire.dumps_call(name, arguments)
    except (ValueError, TypeError) as error:
        return b"", f"the arguments of {name!r} are not JSON: {error}"
    if b"\\ud" in body and (problem := wire.surrogate_problem(body)):
        return b"", problem
    return body, ""
