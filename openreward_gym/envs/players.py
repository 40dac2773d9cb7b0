"""One env of a vector environment, played on the event loop: whatever happens to it becomes a row."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import gymnasium
from gymnasium.wrappers.utils import create_zero_array

from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.episode import Episode, Step
from openreward_gym.envs.observations import reset_info, step_info
from openreward_gym.envs.rows import Row
from openreward_gym.envs.stepping import FAILURES, stop_reason_of
from openreward_gym.envs.task_line import TaskLine
from openreward_gym.errors import ConfigurationError, OpenRewardGymError
from openreward_gym.types import AssistantMessage, StopReason, Task, ToolSet

log = logging.getLogger("openreward_gym")


class Player:
    """Resets and steps one env, and survives what happens to it.

    Args:
        env_id: Its place in the vector environment.
        env: An `OpenRewardEnv` or what is around it. Without `areset` and `astep` it is played in a thread of its own.
        line: Where its next task comes from.
        limit: Entered for each request.
        same_step: Whether the next episode begins in the step that ended one.

    Attributes:
        was_reset: Whether there ever was an episode, or an attempt at one.
        ended: Whether none is running.
        observation: The last one.
        reset_failure: What the last reset failed with.
    """

    def __init__(
        self,
        env_id: int,
        env: gymnasium.Env[Any, Any],
        line: TaskLine,
        limit: AbstractAsyncContextManager[object],
        *,
        same_step: bool,
    ) -> None:
        if not isinstance(env, gymnasium.Env) or not isinstance(env.unwrapped, OpenRewardEnv):
            raise ConfigurationError(f"wrap(env) must return the env with something around it, not {env!r}")
        self.env = env
        self.base = env.unwrapped
        self.was_reset = False
        self.ended = True
        self.observation: Any = create_zero_array(self.base.observation_space)
        self.reset_failure: OpenRewardGymError | None = None
        self.steps = self.episodes = self.resets = self.failures = 0
        self.step_s = self.reset_s = 0.0
        self._env_id = env_id
        self._line = line
        self._limit = limit
        self._same_step = same_step
        self._owed: Row | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def owes_row(self) -> bool:
        """Whether the last reset failed and no step has said so yet."""
        return self._owed is not None

    async def begin(self, seed: int | None, line_seed: int | None, options: dict[str, Any]) -> Row:
        """Begin an episode because the caller asked.

        Args:
            seed: The env's seed; None for none.
            line_seed: Starts the order of tasks anew; None goes on.
            options: Those of `OpenRewardEnv.reset`; empty takes the next task.

        Raises:
            ConfigurationError: The caller's mistake.
        """
        row = await self._reset(seed, line_seed, options)
        # `reset` has no way to say that an env failed: its first step says so.
        self._owed = row if row.failed else None
        return row

    async def play(self, message: AssistantMessage | None) -> Row:
        """Play `message`, or begin the next episode where none is running."""
        if self._owed is not None:
            row, self._owed = self._owed, None
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
        """The row of `begin` or `play`, also where it is cancelled or goes wrong."""
        try:
            row = await playing
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            row = await self._cancelled()
        except ConfigurationError as error:
            self.ended = True
            row = self._failed(error, "policy_failed")
            row.problem = error
        except Exception as error:
            # A mistake of ours, or of a wrapper: the other envs go on, and the log has the traceback.
            log.exception("env %d of a vector environment failed", self._env_id)
            row = self._failed(error, "session_lost")
        self.observation = row.observation
        return row

    async def close(self) -> None:
        """Close the session first, so that nothing can wait for it, then what is around."""
        await self.base.aclose()
        if self.env is not self.base:
            await self._call("aclose", self.env.close)
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    async def _reset(self, seed: int | None, line_seed: int | None, options: dict[str, Any]) -> Row:
        self.was_reset, self.ended, self._owed = True, True, None
        self.resets += 1
        begun = time.perf_counter()
        try:
            if options:
                await self._make_room()
                async with self._limit:
                    observation, info = await self._call("areset", self.env.reset, seed=seed, options=options)
            else:
                self.base.adopt(*await self._line.take(line_seed, self._make_room))
                # An order of its own is drawn with the env's own generator, which must not start anew.
                own = self._line.source is self.base
                observation, info = await self._call("areset", self.env.reset, seed=None if own else seed)
        except FAILURES as error:
            self.reset_failure = error
            return self._failed(error, stop_reason_of(error), has_episode=False)
        finally:
            self.reset_s += time.perf_counter() - begun
        self.ended = False
        return Row(self._env_id, observation, 0.0, False, False, info)

    async def _make_room(self) -> None:
        """Close the session of an episode that a reset cuts short: the server may have no room for it and the next one."""
        if self.base.session_id is not None:
            await self.base.aclose()

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

    async def _cancelled(self) -> Row:
        await self.close()
        self.episodes += not self.ended
        return self._failed("cancelled by the caller", "cancelled")

    def _failed(self, error: Exception | str, stop_reason: StopReason, *, has_episode: bool = True) -> Row:
        """A row that says why there is no episode, with the keys of any other."""
        self.ended = True
        self.failures += stop_reason != "cancelled"
        base = self.base
        episode = base.episode if has_episode else None
        episode = episode or Episode(base.environment, base.variant, None, Task(base.split), ToolSet(), ())
        step = Step(AssistantMessage(), truncated=True, stop_reason=stop_reason, error=str(error) or type(error).__name__)
        info = {**reset_info(episode), **step_info(episode, step)}
        observation = create_zero_array(cast(Any, base.observation_space))
        return Row(self._env_id, observation, 0.0, False, True, info, failed=True)
