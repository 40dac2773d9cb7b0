"""The envs of a vector environment on the event loop, and the sessions that are prefetched for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, cast

import gymnasium
from gymnasium.wrappers.utils import create_zero_array

from openreward_gym.envs.batches import Row
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.episode import FAILURES, Episode, stop_reason_of
from openreward_gym.envs.tasks import TaskRequest
from openreward_gym.envs.typed_dicts import InfoDict
from openreward_gym.errors import ConfigurationError, OpenRewardGymError
from openreward_gym.protocol.session import Session
from openreward_gym.types import AssistantMessage, StopReason

log = logging.getLogger("openreward_gym")

Opened = tuple[Session, Episode]


class _Prefetched(NamedTuple):
    request: TaskRequest
    opening: asyncio.Task[Opened]


class SessionPrefetcher:
    """Opens sessions on the next tasks of an env's task order while others are played.

    A session may take minutes to start, and its episode seconds. All methods run on one event loop.

    Args:
        source: The env whose task order, server and options are used.
        depth: Number of sessions to hold ready. 0 opens each session when it is taken.
        limit: Context that is entered for each opening.
    """

    def __init__(self, source: OpenRewardEnv, depth: int, limit: AbstractAsyncContextManager[object]) -> None:
        self.source = source
        self.depth = depth
        self.taken = 0
        self.taken_ready = 0  # the taken sessions that were open already
        self._limit = limit
        self._choosing = asyncio.Lock()
        self._prefetched: deque[_Prefetched] = deque()
        self._filling: asyncio.Task[None] | None = None
        self._discarding: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> int:
        """Number of sessions that are open and not yet taken."""
        return sum(prefetched.opening.done() for prefetched in self._prefetched)

    async def take(self, seed: int | None, make_room: Callable[[], Awaitable[object]]) -> Opened:
        """Return a session on the next task, prefetched if possible. Callers get tasks in the order of their calls.

        `seed` restarts the task order (None continues it), and `make_room` is awaited before a session is opened.
        """
        self.taken += 1
        async with self._choosing:
            if seed is not None:
                self._discard()
                gymnasium.Env.reset(self.source, seed=seed)
            prefetched = self._prefetched.popleft() if self._prefetched else None
            request = prefetched.request if prefetched else await self._next(seed)
        await make_room()
        opened = None if prefetched is None else await self._opened(prefetched.opening)
        if opened is None:
            opened = await self._open(request, seed)
        self._fill()
        return opened

    async def close(self) -> None:
        """Close the sessions that were not taken."""
        self._discard()
        while self._discarding:
            await asyncio.gather(*self._discarding, return_exceptions=True)

    async def _next(self, seed: int | None) -> TaskRequest:
        return await self.source.choose_task(TaskRequest(self.source.split, self.source.task_index), seed)

    async def _open(self, request: TaskRequest, seed: int | None) -> Opened:
        async with self._limit:
            return await self.source.open_session(request, seed)

    async def _opened(self, opening: asyncio.Task[Opened]) -> Opened | None:
        """Return what `opening` opened. Return None if it failed, or if the server has lost the session since."""
        self.taken_ready += opening.done()
        try:
            session, episode = await opening
        except OpenRewardGymError:
            return None
        if session.lost:
            await session.close()
            return None
        return session, episode

    def _fill(self) -> None:
        if self.depth and (self._filling is None or self._filling.done()):
            self._filling = asyncio.create_task(self._prefetch())

    async def _prefetch(self) -> None:
        while len(self._prefetched) < self.depth:
            async with self._choosing:
                try:
                    request = await self._next(None)
                except OpenRewardGymError:
                    return  # the next `take` gets the error
                self._prefetched.append(_Prefetched(request, asyncio.create_task(self._open(request, None))))

    def _discard(self) -> None:
        """Give up the prefetched sessions: the task order restarts or ends."""
        if self._filling is not None:
            self._filling.cancel()
            self._filling = None
        while self._prefetched:
            closing = asyncio.create_task(_close(self._prefetched.popleft().opening))
            self._discarding.add(closing)
            closing.add_done_callback(self._discarding.discard)


async def _close(opening: asyncio.Task[Opened]) -> None:
    opening.cancel()  # a cancelled opening deletes what it created
    try:
        session, _ = await opening
    except (asyncio.CancelledError, OpenRewardGymError):
        return
    await session.close()


class VectorSlot:
    """One env of a vector environment. It resets and steps the env, and turns every failure into a row.

    Args:
        env_id: Index of the env in the vector environment.
        env: An `OpenRewardEnv`, wrapped or not. An env without `areset` and `astep` is played in its own thread.
        prefetcher: Source of sessions on the next tasks.
        limit: Context that is entered for each request.
        same_step: Begin the next episode in the step that ends one.
    """

    def __init__(
        self,
        env_id: int,
        env: gymnasium.Env[Any, Any],
        prefetcher: SessionPrefetcher,
        limit: AbstractAsyncContextManager[object],
        *,
        same_step: bool,
    ) -> None:
        if not isinstance(env, gymnasium.Env) or not isinstance(env.unwrapped, OpenRewardEnv):
            raise ConfigurationError(f"wrap(env) must return the env with something around it, not {env!r}")
        self.env = env
        self.base = env.unwrapped
        self.was_reset = False  # True after the first reset, also a failed one
        self.ended = True
        self.observation: Any = create_zero_array(self.base.observation_space)
        self.reset_failure: OpenRewardGymError | None = None
        self.steps = self.episodes = self.resets = self.failures = 0
        self.step_s = self.reset_s = 0.0
        self._env_id = env_id
        self._prefetcher = prefetcher
        self._limit = limit
        self._same_step = same_step
        self.unreported_failure: Row | None = None  # of a reset, until a step returns it
        self._thread: ThreadPoolExecutor | None = None

    async def begin(self, seed: int | None, order_seed: int | None, options: dict[str, Any]) -> Row:
        """Begin an episode in a reset of the caller. `seed` is the env's, `order_seed` restarts the task order."""
        row = await self._reset(seed, order_seed, options)
        # `reset` cannot return that one env failed, so the env's first step does.
        self.unreported_failure = row if row.failed else None
        return row

    async def play(self, message: AssistantMessage | None) -> Row:
        """Play a message, or begin the next episode if none is running."""
        if self.unreported_failure is not None:
            row, self.unreported_failure = self.unreported_failure, None
        elif self.ended:
            return await self._reset(None, None, {})
        else:
            row = await self._step(message)
        if self.ended and self._same_step:
            fresh = await self._reset(None, None, {})
            fresh.info.update(final_obs=row.observation, final_info=row.info)
            row = Row(self._env_id, fresh.observation, row.reward, row.terminated, row.truncated, fresh.info, fresh.failed)
        return row

    async def row_of(self, playing: Coroutine[Any, Any, Row]) -> Row:
        """Return the row of `begin` or `play`, also if that is cancelled or fails."""
        try:
            row = await playing
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            await self.close()
            self.episodes += not self.ended
            row = self._failed("cancelled by the caller", "cancelled")
        except ConfigurationError as error:
            self.ended = True
            row = self._failed(error, "policy_failed")
            row.problem = error
        except Exception as error:
            # An error in this package or in a wrapper: the other envs go on, and the log has the traceback.
            log.exception("env %d of a vector environment failed", self._env_id)
            row = self._failed(error, "session_lost")
        self.observation = row.observation
        return row

    async def close(self) -> None:
        """Close the session first, so that no wrapper waits for it, then the wrappers."""
        await self.base.aclose()
        if self.env is not self.base:
            await self._call("aclose", self.env.close)
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    async def _reset(self, seed: int | None, order_seed: int | None, options: dict[str, Any]) -> Row:
        self.was_reset, self.ended, self.unreported_failure = True, True, None
        self.resets += 1
        begun = time.perf_counter()
        try:
            if options:
                await self.base.end_session()
                async with self._limit:
                    observation, info = await self._call("areset", self.env.reset, seed=seed, options=options)
            else:
                # The server may have no capacity for the next session beside that of an unfinished episode.
                self.base.adopt(*await self._prefetcher.take(order_seed, self.base.end_session))
                # A task order that is not shared uses the env's generator, which must not be seeded a second time.
                has_own_order = self._prefetcher.source is self.base
                observation, info = await self._call("areset", self.env.reset, seed=None if has_own_order else seed)
        except FAILURES as error:
            self.reset_failure = error
            return self._failed(error, stop_reason_of(error), has_episode=False)
        finally:
            self.reset_s += time.perf_counter() - begun
        self.ended = False
        return Row(self._env_id, observation, 0.0, False, False, info)

    async def _step(self, message: AssistantMessage | None) -> Row:
        self.steps += 1
        begun = time.perf_counter()
        try:
            async with self._limit:
                observation, reward, terminated, truncated, info = await self._call("astep", self.env.step, message)
        except FAILURES as error:  # with on_failure="raise"
            row = self._failed(error, stop_reason_of(error))
        else:
            self.ended = bool(terminated or truncated)
            self.failures += info.get("error_kind") == "infrastructure"
            row = Row(self._env_id, observation, float(reward), bool(terminated), bool(truncated), info)
        self.step_s += time.perf_counter() - begun
        self.episodes += self.ended
        return row

    async def _call(self, name: str, sync: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        asynchronous = getattr(self.env, name, None)
        if asynchronous is not None:
            return await asynchronous(*args, **kwargs)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, f"openreward-gym-env-{self._env_id}")
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: sync(*args, **kwargs))

    def _failed(self, error: Exception | str, stop_reason: StopReason, *, has_episode: bool = True) -> Row:
        """Return a row with an error, with the keys of any other row."""
        self.ended = True
        self.failures += stop_reason != "cancelled"
        result = self.base.failed_row(error, stop_reason, episode=self.base.episode if has_episode else None)
        observation, reward, terminated, truncated, info = result
        return Row(self._env_id, observation, reward, terminated, truncated, cast(InfoDict, info), failed=True)
