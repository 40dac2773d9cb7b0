"""The tasks that an env plays one after the other, with sessions on the next ones opened ahead."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import gymnasium

from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.episode import Episode
from openreward_gym.envs.tasks import TaskRequest, task_request
from openreward_gym.errors import OpenRewardGymError
from openreward_gym.protocol.session import Session

Opened = tuple[Session, Episode]


class _Ahead(NamedTuple):
    request: TaskRequest
    opening: asyncio.Task[Opened]


class TaskLine:
    """Sessions on the tasks that an env's task order gives, in that order.

    Bringing a session up takes minutes where an environment has a machine of its own, and its episode may take seconds:
    up to `depth` sessions on the next tasks are opened while others are played. All methods run on one event loop.

    Args:
        source: The env whose task order, server and arguments these are.
        depth: How many sessions to hold ready.
        limit: Entered for each opening.
    """

    def __init__(self, source: OpenRewardEnv, depth: int, limit: AbstractAsyncContextManager[object]) -> None:
        self.source = source
        self.depth = depth
        self.taken = 0
        self.taken_ready = 0
        self._limit = limit
        self._choosing = asyncio.Lock()
        self._ahead: deque[_Ahead] = deque()
        self._filling: asyncio.Task[None] | None = None
        self._discarding: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> int:
        """How many sessions are open and wait to be taken."""
        return sum(ahead.opening.done() for ahead in self._ahead)

    async def take(self, seed: int | None, make_room: Callable[[], Awaitable[object]]) -> Opened:
        """The session on the next task, opened ahead where there is one. Who asks first gets the earlier task.

        Args:
            seed: Starts the order anew; None goes on.
            make_room: Awaited when the task is chosen and before a session is opened.

        Raises:
            OpenRewardGymError: It could not be opened.
        """
        self.taken += 1
        async with self._choosing:
            if seed is not None:
                self._discard()
                gymnasium.Env.reset(self.source, seed=seed)
            ahead = self._ahead.popleft() if self._ahead else None
            request = ahead.request if ahead else await self._next(seed)
        await make_room()
        opened = None if ahead is None else await self._opened_ahead(ahead.opening)
        if opened is None:
            opened = await self._open(request, seed)
        self._fill()
        return opened

    async def close(self) -> None:
        """Close what nobody took."""
        self._discard()
        while self._discarding:
            await asyncio.gather(*self._discarding, return_exceptions=True)

    async def _next(self, seed: int | None) -> TaskRequest:
        own = task_request(None, self.source.split, self.source.task_index)
        return await self.source.choose_task(own, seed)

    async def _open(self, request: TaskRequest, seed: int | None) -> Opened:
        async with self._limit:
            return await self.source.open_session(request, seed)

    async def _opened_ahead(self, opening: asyncio.Task[Opened]) -> Opened | None:
        """What `opening` opened; None where it failed, or the server has lost the session since."""
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
            self._filling = asyncio.create_task(self._open_ahead())

    async def _open_ahead(self) -> None:
        while len(self._ahead) < self.depth:
            async with self._choosing:
                try:
                    request = await self._next(None)
                except OpenRewardGymError:
                    return  # whoever takes the next one is told
                self._ahead.append(_Ahead(request, asyncio.create_task(self._open(request, None))))

    def _discard(self) -> None:
        """Give up what was opened ahead: the order starts anew, or ends."""
        if self._filling is not None:
            self._filling.cancel()
            self._filling = None
        while self._ahead:
            closing = asyncio.create_task(_close(self._ahead.popleft().opening))
            self._discarding.add(closing)
            closing.add_done_callback(self._discarding.discard)


async def _close(opening: asyncio.Task[Opened]) -> None:
    opening.cancel()  # an opening that is cancelled deletes what it created
    try:
        session, _ = await opening
    except (asyncio.CancelledError, OpenRewardGymError):
        return
    await session.close()
