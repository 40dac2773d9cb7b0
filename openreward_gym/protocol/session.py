"""One episode on a server: opened, asked for its prompt once, called, closed for sure."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from openreward_gym.errors import (
    CallTimeoutError,
    ConfigurationError,
    OpenRewardGymError,
    ServerError,
    SessionLostError,
    ToolFailedError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.protocol.body import dumps_call
from openreward_gym.protocol.exchange import Ask
from openreward_gym.protocol.interrupt import Interrupt
from openreward_gym.protocol.keepalive import KeepAlive
from openreward_gym.protocol.lifetime import Lease
from openreward_gym.protocol.loop import background_loop, process_id
from openreward_gym.protocol.opening import Opening, SessionPlan, ping_of
from openreward_gym.protocol.request import Headers
from openreward_gym.protocol.retry import Effect
from openreward_gym.protocol.scoring import GroupCandidate, GroupScore, encode_group, read_scores, refused_blocks
from openreward_gym.protocol.sse import CallStream
from openreward_gym.protocol.steady import Steady
from openreward_gym.protocol.wire import (
    Secret,
    flatten_messages,
    hide,
    loads,
    read_blocks,
    read_messages,
    read_output,
    read_tools,
)
from openreward_gym.types import Block, Json, Message, TextBlock, ToolOutput, ToolSet

if TYPE_CHECKING:
    from openreward_gym.protocol.environment import RemoteEnvironment

__all__ = ["GroupCandidate", "GroupScore", "Session", "SessionPlan"]

T = TypeVar("T")


class Session:
    """A session of one task. `async with` opens and closes it; `open` and `close` do the same by name.

    Made by `RemoteEnvironment.session`. It belongs to the event loop and the process that opened it.

    Attributes:
        session_id: The server's name of it; None before it is open.
        lost: Whether the server is known to have lost it.
    """

    def __init__(self, environment: RemoteEnvironment, plan: SessionPlan) -> None:
        self.environment = environment
        self.plan = plan
        self.session_id: str | None = None
        self.lost = False
        self._exchange = environment.client.exchange
        self._keeper: KeepAlive | None = None
        self._lease: Lease | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._headers = Headers({})
        self._call_ask: Ask | None = None
        self._secrets: tuple[Secret, ...] = ()
        self._closed = False
        self._lost_reason = ""
        self._tool_failure: str | None = None
        self._episode_ends: float | None = None
        self._answered: dict[str, Steady[Any]] = {}
        self._calls: set[Interrupt] = set()
        self._set_up = False
        self._set_up_by = 0.0

    def __repr__(self) -> str:
        state = "closed" if self._closed else "lost" if self.lost else "open" if self.session_id else "not open"
        return f"<Session of {self.environment.name!r} {self.session_id or ''} {state}>"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # Life -----------------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Create the session on the server. What an opening that fails or is cancelled half-way created, is deleted.

        Raises:
            EnvironmentNotFoundError, SplitNotFoundError, TaskNotFoundError: There is no such task.
            ConfigurationError: The server refuses what was asked, a secret's variable is not set, or it was opened before.
            ServerError: The environment could not be made.
            TransportTimeoutError: It took longer than `open_timeout_s`.
            TransportError: The server did not answer.
        """
        if self._lease is not None:
            raise ConfigurationError("a session is opened once: ask the environment for another")
        self._loop = asyncio.get_running_loop()
        self._lease = Lease(self._exchange, self.environment.headers)
        self._set_up_by = time.monotonic() + self.plan.open_timeout_s
        weakref.finalize(self, self._lease.abandon).atexit = False
        opening = Opening(self.environment, self.plan, self._lease)
        work = Steady(opening.run())
        problem: BaseException
        try:
            async with asyncio.timeout(self.plan.open_timeout_s):
                session_id = await work.result()
            self._begin(session_id, opening.secrets)
            return
        except TimeoutError as error:
            late = f"opening a session of {self.environment.name!r} took longer than {self.plan.open_timeout_s} s"
            problem = error if isinstance(error, OpenRewardGymError) else TransportTimeoutError(late)
        except BaseException as error:
            problem = error
        self._closed = opening.abandoned = True
        if self._lease.creating is None:
            work.task.cancel()
        # A request that is on its way creates something when we are gone: it is waited for, so that it can be deleted.
        await self._lease.release(first=work.task)
        raise problem

    def _begin(self, session_id: str, secrets: tuple[Secret, ...]) -> None:
        self.session_id = session_id
        assert self._lease is not None
        self._headers = self._lease.headers_of(session_id)
        self._secrets = secrets
        if self.plan.episode_timeout_s is not None:
            self._episode_ends = time.monotonic() + self.plan.episode_timeout_s
        loop = background_loop() if self._exchange.any_loop else asyncio.get_running_loop()
        self._keeper = KeepAlive.on(loop, self.environment.client.ping_interval_s)
        self._keeper.add(self)

    async def close(self) -> None:
        """Delete the session. Takes a bounded time, never raises because the server is gone, and may be called again."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.discard(self)
        for answer in self._answered.values():
            answer.task.cancel()
        self._end_calls()
        if self._lease is not None:
            await self._lease.release()

    async def ping(self) -> None:
        """Tell the server that the session is held. A task of the process does it every few seconds.

        Raises:
            SessionLostError: The server does not have it.
        """
        await self._exchange.ask(ping_of(self._headers, self.environment.client.request_timeout_s))

    def mark_lost(self, reason: str) -> None:
        """Note that the server does not have the session, and end what waits for it. May be called from any thread."""
        self.lost = True
        self._lost_reason = reason
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end_calls)

    def _end_calls(self) -> None:
        for call in self._calls:
            call.now()

    # What a session is asked ----------------------------------------------------------------------------------------------

    async def prompt(self) -> tuple[Block, ...]:
        """The task, as blocks. The server is asked once per session: environments may begin their state in it."""
        return await self._once("prompt", self._ask_prompt)

    async def messages(self) -> tuple[Message, ...]:
        """The task, as a conversation; the prompt as one user message where the server knows no conversations."""
        return await self._once("messages", self._ask_messages)

    async def tools(self) -> ToolSet:
        """The tools of this session: the environment's, the task's and the toolset's."""
        return await self._once("tools", self._ask_tools)

    async def call(self, name: str, arguments: Mapping[str, Json] | None = None, *, timeout_s: float | None = None) -> ToolOutput:
        """Call a tool, at most once whatever happens on the way.

        Args:
            name: The tool's name.
            arguments: Its arguments; None for none.
            timeout_s: Seconds that the call may take; None for the session's `step_timeout_s`.

        Returns:
            What it did. A wrong call (an unknown tool, arguments that do not fit) is an output with `error` and `error_kind`.

        Raises:
            SessionLostError: The server no longer has the session.
            ToolFailedError: The tool raised: the episode is over.
            OutcomeUnknownError: The call may have run; its result is lost.
            TransportTimeoutError: It took too long.
            TransportError: It did not run.
        """
        self._ensure_usable()
        body, problem = _call_body(name, {} if arguments is None else arguments)
        if problem:
            return ToolOutput((TextBlock(problem),), error=problem, error_kind="malformed")
        limit_s = self._limit(name, timeout_s)
        stream = CallStream()
        # One coroutine from here to the exchange: a thousand sessions at once pay for each frame that waits.
        interrupt = Interrupt(limit_s)
        self._calls.add(interrupt)
        failure: OpenRewardGymError | None = None
        try:
            await self._exchange.follow(self._call_ask or await self._calling(), stream, body)
        except asyncio.CancelledError:
            if not interrupt.over():
                raise
            failure = self._interrupted(name, limit_s, stream)
        except SessionLostError as error:
            self.lost, self._lost_reason = True, str(error)
            raise
        except ServerError as error:
            if error.status != 500:
                raise
            failure = self._failed(f"the environment raised on the server: {error.detail or error}")
        finally:
            interrupt.over()
            self._calls.discard(interrupt)
        if failure is None and stream.error is not None:
            failure = self._failed(f"the tool {name!r} raised on the server: {stream.error or 'no reason given'}")
        if failure is not None:
            raise failure
        self._set_up = True
        return read_output(loads(stream.result()))

    async def call_terminal(self, text: str) -> ToolOutput:
        """Hand the assistant's plain message to the environment's terminal tool, which ends the episode.

        An environment without one gives an output with `error`.
        """
        terminal = (await self.tools()).terminal
        if terminal is None:
            problem = f"{self.environment.name} has no terminal tool: it is ended by a call, not by a message"
            return ToolOutput((TextBlock(problem),), error=problem, error_kind="not_found")
        return await self.call(terminal.name, {} if terminal.arg is None else {terminal.arg: text})

    async def score_group(self, candidates: Sequence[GroupCandidate | Sequence[Message]]) -> list[GroupScore]:
        """Comparative rewards of rollouts of this task, one per candidate, in their order.

        Raises:
            ConfigurationError: The environment does not compare, or does not take one of the blocks.
            ServerError: Comparing failed; the session goes on.
        """
        self._ensure_usable()
        group = [entry if isinstance(entry, GroupCandidate) else GroupCandidate(entry) for entry in candidates]
        if refused := refused_blocks(group, await self.tools()):
            raise ConfigurationError(f"this server takes no {', '.join(sorted(refused))} blocks in messages: leave them out")
        ask = await self._asking("POST", "/score_group", encode_group(group), optional=True)
        stream = CallStream()
        try:
            await self._exchange.follow(ask, stream)
        except ServerError as error:
            if error.status == 404:
                raise ConfigurationError(f"{self.environment.name} does not compare groups of rollouts") from None
            raise
        if stream.error is not None:
            reason = self._hide(stream.error)
            raise ServerError(f"{self.environment.name} could not compare the group: {reason}", detail=reason)
        return read_scores(loads(stream.result()), len(group))

    async def _calling(self) -> Ask:
        ask = await self._asking("POST", "/call")
        if self._set_up:
            # From now on every call is asked in the same way.
            self._call_ask = ask
        return ask

    def _limit(self, name: str, timeout_s: float | None) -> float | None:
        """Seconds that a call may take; None for as long as it takes."""
        limit_s = self.plan.step_timeout_s if timeout_s is None else timeout_s
        if self._episode_ends is not None:
            left_s = self._episode_ends - time.monotonic()
            limit_s = left_s if limit_s is None else min(limit_s, left_s)
        if limit_s is not None and limit_s <= 0:
            raise TransportTimeoutError(f"no time was left to call {name!r}: it was not sent", delivery="not_sent")
        return limit_s

    def _interrupted(self, name: str, limit_s: float | None, stream: CallStream) -> OpenRewardGymError:
        """Why a call was ended from here."""
        if self.lost or self._closed:
            return SessionLostError(f"the session was lost while {name!r} ran: {self._lost_reason or 'it was closed'}")
        if not stream.may_run:
            problem = f"{name!r} could not be called within {limit_s} s: it did not run"
            return TransportTimeoutError(problem, delivery="not_sent")
        return CallTimeoutError(
            f"the call of {name!r} took longer than {limit_s} s. It may have run or still be running: end this episode.",
            delivery="possibly_delivered" if stream.task_id is None else "delivered",
        )

    def _failed(self, problem: str) -> ToolFailedError:
        """The end of the episode: what the server's environment raised, with the secrets hidden."""
        self._tool_failure = self._hide(problem)
        return ToolFailedError(self._tool_failure)

    async def _ask_prompt(self) -> tuple[Block, ...]:
        messages = self._answered.get("messages")
        if messages is not None and messages.task is not asyncio.current_task():
            # The environment was asked for its task already; asking for it in the other form would begin it anew.
            return flatten_messages(await messages.result())
        return read_blocks(await self._exchange.ask(await self._asking("GET", "/prompt")))

    async def _ask_messages(self) -> tuple[Message, ...]:
        if "prompt" not in self._answered:
            try:
                return read_messages(await self._exchange.ask(await self._asking("GET", "/messages", optional=True)))
            except ServerError as error:
                if error.status != 404:
                    raise
            return (Message("user", read_blocks(await self._exchange.ask(await self._asking("GET", "/prompt")))),)
        return (Message("user", await self.prompt()),)

    async def _ask_tools(self) -> ToolSet:
        for path in ("/task_tools", "/tools"):
            try:
                ask = await self._asking("GET", path, effect=Effect.NONE, optional=path == "/task_tools")
                return read_tools(await self._exchange.ask(ask))
            except ServerError as error:
                if error.status != 404:
                    raise
                missing = error
        raise missing

    async def _asking(
        self, method: str, path: str, body: bytes | None = None, *, effect: Effect = Effect.ONCE, optional: bool = False
    ) -> Ask:
        place = await self.environment.place()
        # Some servers hold the first call back until the environment is set up, without a sign of life: until one was
        # answered, silence is bring-up.
        patience_s = self.environment.client.request_timeout_s
        if not self._set_up:
            patience_s = max(patience_s, self._set_up_by - time.monotonic())
        return Ask(
            method,
            path,
            place.prefix,
            body,
            self._headers,
            effect,
            session=True,
            optional=optional,
            first_byte_timeout_s=patience_s,
            secrets=self._secrets,
        )

    def _hide(self, text: str) -> str:
        key = self._exchange.api_key()
        return hide(text, [*self._secrets, *([key] if key else [])])

    async def _once(self, question: str, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to a question that is asked once, whoever asks, and goes on if the asker is cancelled."""
        self._ensure_usable()
        answer: Steady[T] | None = self._answered.get(question)
        if answer is None:
            answer = self._answered[question] = Steady(ask())
        try:
            return await answer.result()
        except TransportError as error:
            if error.delivery == "not_sent":
                self._answered.pop(question, None)
            raise

    def _ensure_usable(self) -> None:
        if self._closed or self.session_id is None:
            raise ConfigurationError(f"this session is {'closed' if self._closed else 'not open'}: open another")
        if self._lease is not None and self._lease.pid != process_id():
            raise ConfigurationError("this session was opened by another process: open one of your own")
        if self._tool_failure is not None:
            raise ToolFailedError(self._tool_failure)
        if self.lost:
            raise SessionLostError(self._lost_reason)


def _call_body(name: object, arguments: object) -> tuple[bytes, str]:
    """The body of a call, and what keeps it from being sent; empty where nothing does."""
    if not isinstance(name, str) or not name:
        return b"", f"a tool is called by its name, not by {name!r}"
    if not isinstance(arguments, Mapping):
        return b"", f"the arguments of {name!r} are not a JSON object but {type(arguments).__name__}"
    if not all(isinstance(key, str) for key in arguments):
        return b"", f"the arguments of {name!r} have names that are not texts"
    try:
        return dumps_call(name, arguments), ""
    except (ValueError, TypeError) as error:
        return b"", f"the arguments of {name!r} are not JSON: {error}"
