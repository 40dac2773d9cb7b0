"""Many sessions of an OpenReward environment as a `gymnasium.vector.VectorEnv`: one event loop, nobody waits for the slowest."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from copy import deepcopy
from functools import partial
from types import TracebackType
from typing import Any, Self

import gymnasium
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from openreward_gym.envs.actions import as_message
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.players import Player
from openreward_gym.envs.rows import Batch, batch_of, merged_infos
from openreward_gym.envs.spaces import ToolCallSpace
from openreward_gym.envs.task_line import TaskLine
from openreward_gym.envs.under_way import Job, UnderWay
from openreward_gym.envs.vector_arguments import (
    autoreset_mode_of,
    check_number,
    count_of,
    ids_of,
    masked,
    options_of,
    seeds_of,
)
from openreward_gym.errors import ConfigurationError, ResetNeededError
from openreward_gym.protocol import loop

log = logging.getLogger("openreward_gym")


class OpenRewardVectorEnv(VectorEnv[tuple[Any, ...], Any, npt.NDArray[Any]]):
    """`num_envs` sessions played at once in this process.

    `reset` and `step` are Gymnasium's: all envs, in their order. A step takes as long as its slowest call, so where times
    vary much use `send` and `recv`, which take and give whatever envs are free. What fails at the server is a truncated
    row with `info["error"]` and `info["stop_reason"]`, never an exception for the batch. Observations are tuples, one
    element an env.

    Args:
        num_envs: How many sessions are played at once.
        environment: The environment's name, or a class: see `OpenRewardEnv`. Required.
        autoreset_mode: What follows an episode's end: with NEXT_STEP the env's next action is ignored and it is reset;
            with SAME_STEP it is reset at once, the end being in `infos["final_obs"]` and `infos["final_info"]`; with
            DISABLED it waits for `reset(options={"reset_mask": ...})`, and no session is opened that nobody asked for.
        prefetch: How many sessions on the next tasks are opened ahead, in all. They are held at the server: 0 for none.
        share_tasks: Whether the envs take the next tasks of one order, so that each is played once, rather than each env
            those of its own order from its own seed on (as Gymnasium's vector environments do).
        max_inflight: At most so many resets, steps and openings ahead are under way at once; None for no limit.
        max_episode_steps: Gymnasium's name for `max_steps`; None for no other limit.
        wrap: Put around each env, e.g. `lambda env: RecordRollouts(env, store)`; None for nothing.
        **arguments: Those of `OpenRewardEnv`.

    Raises:
        ConfigurationError: An argument cannot be.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        environment: str | type[Any] = "",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        prefetch: int = 0,
        share_tasks: bool = False,
        max_inflight: int | None = None,
        max_episode_steps: int | None = None,
        wrap: Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]] | None = None,
        **arguments: Any,
    ) -> None:
        self.closed = True  # until there is something to close
        check_number("num_envs", num_envs, least=1)
        check_number("prefetch", prefetch, least=0)
        if max_inflight is not None:
            check_number("max_inflight", max_inflight, least=1)
        if max_episode_steps is not None:
            arguments["max_steps"] = min(max_episode_steps, arguments.get("max_steps") or max_episode_steps)
        self.num_envs = int(num_envs)
        self.autoreset_mode = autoreset_mode_of(autoreset_mode)
        self.metadata = {**OpenRewardEnv.metadata, "autoreset_mode": self.autoreset_mode}
        bases = [OpenRewardEnv(environment, **arguments) for _ in range(self.num_envs)]
        self.render_mode = bases[0].render_mode
        self.single_observation_space = bases[0].observation_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._action_space: gymnasium.Space[Any] | None = None
        limit: AbstractAsyncContextManager[Any] = nullcontext() if max_inflight is None else asyncio.Semaphore(max_inflight)
        if share_tasks:
            self._lines = [TaskLine(OpenRewardEnv(environment, **arguments), prefetch, limit)]
        else:
            share, rest = divmod(prefetch, self.num_envs)
            self._lines = [TaskLine(base, share + (i < rest), limit) for i, base in enumerate(bases)]
        same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        self._players = [
            Player(i, base if wrap is None else wrap(base), self._lines[0 if share_tasks else i], limit, same_step=same_step)
            for i, base in enumerate(bases)
        ]
        self._shared = share_tasks
        self._under_way = UnderWay(self._players)
        self._pid = os.getpid()
        self.closed = False

    # Spaces and what else can be known ----------------------------------------------------------------------------

    @property
    def single_action_space(self) -> ToolCallSpace:  # type: ignore[override]
        """The environment's shared tools as a space; asked from the server at first use."""
        return self._players[0].base.action_space

    @property
    def action_space(self) -> gymnasium.Space[Any]:  # type: ignore[override]
        """`num_envs` times the single action space."""
        if self._action_space is None:
            self._action_space = batch_space(self.single_action_space, self.num_envs)
        return self._action_space

    @property
    def envs(self) -> tuple[gymnasium.Env[Any, Any], ...]:
        """The envs, in the wrapper that `wrap` put around them. To be looked at: the vector environment plays them."""
        return tuple(player.env for player in self._players)

    def stats(self) -> dict[str, float]:
        """What has happened since the start.

        `steps`, `episodes` (ended), `resets`, `failures` (rows that infrastructure ended); `in_flight` (sent, not yet
        answered), `waiting` (answered, not yet received), `ready_ahead` (sessions held ready), `ready_share` (of the resets
        that took the next task, how many found its session open); `reset_s` and `step_s` (mean seconds).
        """
        players, taken = self._players, sum(line.taken for line in self._lines)
        resets, steps = sum(p.resets for p in players), sum(p.steps for p in players)
        return {
            "steps": steps,
            "episodes": sum(p.episodes for p in players),
            "resets": resets,
            "failures": sum(p.failures for p in players),
            "in_flight": len(self._under_way.busy) - self._under_way.waiting,
            "waiting": self._under_way.waiting,
            "ready_ahead": sum(line.ready for line in self._lines),
            "ready_share": sum(line.taken_ready for line in self._lines) / taken if taken else 0.0,
            "reset_s": sum(p.reset_s for p in players) / resets if resets else 0.0,
            "step_s": sum(p.step_s for p in players) / steps if steps else 0.0,
        }

    # Gymnasium's face ---------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Begin an episode in all envs at once; what was under way in them is cancelled.

        Args:
            seed: `seed + i` for env i, or one each. None goes on to the next tasks.
            options: `{"reset_mask": bool array}` resets only some, and the others' observations are those they had. Also
                those of `OpenRewardEnv.reset`, where `task_index` and `task_spec` may be lists, one element an env.

        Returns:
            Observations and infos. An env whose session could not be opened has an empty observation and
            `infos["error"]`; its next step is a truncated row.

        Raises:
            ConfigurationError: `seed` or an option is wrong.
            OpenRewardGymError: No session at all could be opened.
        """
        given = dict(options or {})
        ids = masked(given.pop("reset_mask", None), self.num_envs)
        self._under_way.abandon(ids)
        self._begin(ids, seeds_of(seed, self.num_envs), given)
        rows = {row.env_id: row for row in self._under_way.take(ids, len(ids))}
        failure = self._players[0].reset_failure
        if failure is not None and len(ids) == self.num_envs and all(row.failed for row in rows.values()):
            raise failure
        observations = tuple(
            rows[i].observation if i in rows else deepcopy(player.observation) for i, player in enumerate(self._players)
        )
        infos = {i: {"env_id": i, **row.info} for i, row in sorted(rows.items())}
        return observations, merged_infos(infos, self.num_envs)

    def step(self, actions: Sequence[Any]) -> Batch:
        """Play one action in each env and wait for all of them.

        Args:
            actions: One action an env, as `OpenRewardEnv.step` takes them.

        Raises:
            ConfigurationError: An action is none, or their number is wrong; nothing was sent.
            ResetNeededError: An env was not reset, or (with DISABLED) its episode has ended.
        """
        ids = range(self.num_envs)
        self.send(actions, ids)
        return batch_of(sorted(self._under_way.take(ids, self.num_envs), key=lambda row: row.env_id))

    def render(self) -> tuple[Any, ...] | None:
        return None if self.render_mode is None else tuple(player.env.render() for player in self._players)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Cancel what is under way and close all sessions at once.

        Args:
            timeout: Seconds to wait for the server; None for as long as each session's own bound.
            terminate: Do not wait; the sessions are closed in the background.
        """
        if os.getpid() != self._pid:  # after a fork the sessions are the parent's
            return
        self._under_way.busy.clear()
        closing = self._aclose()
        if terminate:
            asyncio.run_coroutine_threadsafe(closing, loop.background_loop())
        else:
            try:
                loop.run(closing, timeout)
            except TimeoutError:
                log.warning("not all sessions were closed within %s s", timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "closed", True):
            self.close(terminate=True)

    # Partial batches ------------------------------------------------------------------------------------------------

    def send(self, actions: Sequence[Any], env_ids: Sequence[int] | npt.NDArray[Any] | None = None) -> None:
        """Begin one action in each of some envs, without waiting. `recv` brings what follows.

        Args:
            actions: As many as `env_ids`.
            env_ids: Which envs; None for all.

        Raises:
            ConfigurationError: An action or an id cannot be, or the env is still busy with the one before; nothing was sent.
            ResetNeededError: As for `step`.
        """
        ids = self._checked(env_ids)
        if isinstance(actions, str | Mapping) or len(actions) != len(ids):
            raise ConfigurationError(f"one action an env is needed, {len(ids)} in all, got {count_of(actions)}")
        ignored = self.autoreset_mode is not AutoresetMode.DISABLED
        jobs: dict[int, Job] = {}
        for i, action in zip(ids, actions, strict=True):
            player = self._players[i]
            if not player.was_reset or (player.ended and not player.owes_row and not ignored):
                raise ResetNeededError(f"env {i} has no episode: reset() it first, with options={{'reset_mask': ...}} it alone")
            # Under autoreset the action that follows an end is ignored: it need not even be one.
            message = None if player.ended else as_message(action)
            jobs[i] = partial(player.play, message)
        self._under_way.begin(jobs)

    def recv(self, min_envs: int = 1, timeout_s: float | None = None, max_envs: int | None = None) -> Batch:
        """Wait for envs that were sent an action (or a reset) and take what they brought, in the order of arrival.

        Args:
            min_envs: How many rows to wait for; where fewer are under way, all of these.
            timeout_s: Seconds after which fewer rows are taken, perhaps none; None waits.
            max_envs: Take no more than so many; None for all that are there.

        Returns:
            A batch of as many rows; `infos["env_id"]` says which envs they are. Each row comes once.

        Raises:
            ConfigurationError: Nothing is under way, or a number is not positive.
        """
        if min_envs < 1 or (max_envs is not None and max_envs < min_envs):
            raise ConfigurationError(f"recv() takes 1 <= min_envs <= max_envs, not {min_envs} and {max_envs}")
        busy = tuple(self._under_way.busy)
        if not busy:
            raise ConfigurationError("nothing is under way: send() actions, or async_reset(), before recv()")
        return batch_of(self._under_way.take(busy, min(min_envs, len(busy)), max_envs, timeout_s))

    def async_reset(
        self,
        env_ids: Sequence[int] | npt.NDArray[Any] | None = None,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`reset` without waiting: the first observations come with `recv`, with reward 0. What is under way is cancelled.

        Args:
            env_ids: Which envs; None for all.
            seed: As in `reset`.
            options: As in `reset`, without a mask.
        """
        ids = self._checked(env_ids, busy=True)
        self._under_way.abandon(ids)
        self._begin(ids, seeds_of(seed, self.num_envs), dict(options or {}))

    def step_subset(self, actions: Mapping[int, Any]) -> dict[int, tuple[Any, float, bool, bool, dict[str, Any]]]:
        """Play actions in some envs and wait for these.

        Args:
            actions: env id -> action.

        Returns:
            env id -> what `OpenRewardEnv.step` returns.
        """
        ids = tuple(actions)
        self.send(list(actions.values()), ids)
        return {
            row.env_id: (row.observation, row.reward, row.terminated, row.truncated, row.info)
            for row in self._under_way.take(ids, len(ids))
        }

    def cancel(self, env_ids: Sequence[int] | npt.NDArray[Any] | None = None) -> tuple[int, ...]:
        """Give up what is under way in some envs: their rows come at once, truncated, with the stop reason "cancelled".

        Args:
            env_ids: Which envs; None for all. Those that have nothing under way are left alone.

        Returns:
            The envs that had something under way.
        """
        ids = [i for i in self._checked(env_ids, busy=True) if i in self._under_way.busy]
        self._under_way.cancel(ids)
        return tuple(ids)

    # Each env's own -------------------------------------------------------------------------------------------------

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """What the method or attribute `name` of each env gives."""
        found = [player.env.get_wrapper_attr(name) for player in self._players]
        return tuple(value(*args, **kwargs) if callable(value) else value for value in found)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """The attribute `name` of each env."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set the attribute `name` in each env, to one value or (a list or tuple) to one each."""
        each = values if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(each) != self.num_envs:
            raise ConfigurationError(f"set_attr() takes one value or {self.num_envs}, got {len(each)}")
        for player, value in zip(self._players, each, strict=True):
            player.env.set_wrapper_attr(name, value)

    # Behind them ----------------------------------------------------------------------------------------------------

    def _begin(self, ids: Sequence[int], seeds: list[int | None], options: dict[str, Any]) -> None:
        jobs: dict[int, Job] = {}
        for place, i in enumerate(ids):
            # Where tasks are shared the order starts anew once, for all.
            of_line = seeds[i] if not self._shared or place == 0 else None
            jobs[i] = partial(self._players[i].begin, seeds[i], of_line, options_of(options, i, self.num_envs))
        self._under_way.begin(jobs)

    def _checked(self, env_ids: Sequence[int] | npt.NDArray[Any] | None, *, busy: bool = False) -> list[int]:
        """`env_ids` as a list: known, each once, and (unless `busy` ones may be) free."""
        ids = ids_of(env_ids, self.num_envs)
        if not busy and not self._under_way.busy.isdisjoint(ids):
            late = sorted(self._under_way.busy.intersection(ids))
            raise ConfigurationError(f"envs {late} are still busy: recv() their rows, or cancel() them, first")
        return ids

    async def _aclose(self) -> None:
        await self._under_way.stop()
        await asyncio.gather(*(line.close() for line in self._lines), *(p.close() for p in self._players), return_exceptions=True)
        if self._shared:
            await self._lines[0].source.aclose()
