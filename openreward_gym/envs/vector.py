"""Many sessions of an OpenReward environment as a `gymnasium.vector.VectorEnv`, on one event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from copy import deepcopy
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack, cast

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from openreward_gym.checks import integer
from openreward_gym.envs.batches import Batch, InFlight, Job, batch_of, merged_infos
from openreward_gym.envs.clients import SharedClient, resolve_host
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.episode import as_message
from openreward_gym.envs.registration import shown_spec
from openreward_gym.envs.slots import SessionPrefetcher, VectorSlot
from openreward_gym.envs.spaces import ToolCallSpace
from openreward_gym.envs.typed_dicts import InfoDict, VectorInfo
from openreward_gym.errors import ConfigurationError, ResetNeededError
from openreward_gym.options import EnvKeywords, EnvOptions, signature_from
from openreward_gym.processes import RESERVED_FILES, ProcessBound, free_file_count, open_file_limit
from openreward_gym.protocol import loop
from openreward_gym.protocol.transport import TransportLike

FILES_PER_REQUEST = 2
"""Open files per reset or step in flight: its connection, and one for a session that is pinged or closed."""
log = logging.getLogger("openreward_gym")

PER_ENV_OPTIONS = ("task_index", "task_spec")
"""Options of `reset` that may be lists with one element per env."""


class OpenRewardVectorEnv(ProcessBound, VectorEnv[tuple[Any, ...], Any, npt.NDArray[Any]]):
    """`num_envs` sessions played at once in this process.

    `reset` and `step` play all envs, in order; a step takes as long as its slowest call. If durations vary much, use `send`
    and `recv`, which return the envs that are done. A failure at the server is a truncated row with `info["error"]` and
    `info["stop_reason"]`. Observations are tuples with one element per env. All envs share one client. The environment belongs
    to the process that made it: in a forked child its methods raise ConfigurationError, and closing it there changes nothing.

    Args:
        num_envs: Number of sessions to play at once.
        environment: Name of the environment, or a class: see `OpenRewardEnv`. Required.
        autoreset_mode: What follows an episode's end. With NEXT_STEP the env's next action is ignored and the env is reset.
            With SAME_STEP it is reset at once, and the end is in `infos["final_obs"]` and `infos["final_info"]`. With DISABLED
            it waits for `reset(options={"reset_mask": ...})`, so that only requested sessions are opened.
        prefetch: Number of sessions on the next tasks to open ahead, in all. The server holds them. 0 opens none.
        share_tasks: True lets the envs take the next tasks of one order, so that each task is played once. False gives each
            env its own order from its own seed, as Gymnasium's vector environments do.
        max_inflight: Largest number of resets, steps and prefetched openings at once. None sets no limit, unless this process
            may open too few files for the connections of all (`ulimit -n`): then as many as it can, with a warning in the log.
        max_episode_steps: Gymnasium's name for `max_steps`; the smaller one applies. None sets no further limit.
        wrap: Function that wraps each env, e.g. `lambda env: RecordRollouts(env, store)`. None wraps nothing.

    The other arguments are those of `OpenRewardEnv`.

    Raises:
        ConfigurationError: An argument is unknown or has a wrong value.

    Example:
        >>> envs = OpenRewardVectorEnv(2, environment="weather", base_url="http://127.0.0.1:8080", autoreset_mode="DISABLED")
        >>> envs.num_envs, envs.single_observation_space
        (2, UnicodeText())
        >>> envs.close()
    """

    _noun = "vector environment"

    closed = True
    """False between a construction without an error and `close`."""

    @signature_from(EnvOptions)
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
        base_url: str | None = None,
        transport: TransportLike = "fast",
        **options: Unpack[EnvKeywords],
    ) -> None:
        self.closed = True  # until there is something to close
        self._spec: EnvSpec | None = None
        self.num_envs = integer(1)("num_envs", num_envs)
        integer(0)("prefetch", prefetch)
        integer(1, optional=True)("max_inflight", max_inflight)
        step_limits = {"max_steps": options.get("max_steps"), "max_episode_steps": max_episode_steps}
        limits = [integer(1, optional=True)(name, limit) for name, limit in step_limits.items()]
        own = {"environment": environment, "base_url": base_url, "transport": transport}
        keywords = {**own, **options, "max_steps": min((limit for limit in limits if limit is not None), default=None)}
        self.options = resolve_host(EnvOptions.from_keywords(keywords, OpenRewardVectorEnv))
        self.autoreset_mode = autoreset_mode_of(autoreset_mode)
        self.metadata = {**OpenRewardEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = self.options.render_mode
        if max_inflight is None:
            max_inflight = _limit_of_open_files(self.num_envs + prefetch)
        self._make_slots(prefetch, share_tasks, max_inflight, wrap)
        self.closed = False

    @property
    def spec(self) -> EnvSpec | None:
        """The spec that `gymnasium.make_vec` made the envs from, or None. It shows no credentials; see `openreward_gym.spec`."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = shown_spec(spec)

    def _make_slots(
        self,
        prefetch: int,
        share_tasks: bool,
        max_inflight: int | None,
        wrap: Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]] | None,
    ) -> None:
        client = SharedClient(self.options)
        bases = [OpenRewardEnv.from_options(self.options, client) for _ in range(self.num_envs)]
        self.single_observation_space = bases[0].observation_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._action_space: gymnasium.Space[Any] | None = None
        self._shares_tasks = share_tasks
        limit: AbstractAsyncContextManager[Any] = nullcontext() if max_inflight is None else asyncio.Semaphore(max_inflight)
        sources = [OpenRewardEnv.from_options(self.options, client)] if share_tasks else bases
        depth, remainder = divmod(prefetch, len(sources))
        self._prefetchers = [SessionPrefetcher(source, depth + (i < remainder), limit) for i, source in enumerate(sources)]
        same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        self._slots = []
        for i, base in enumerate(bases):
            env = base if wrap is None else wrap(base)
            prefetcher = self._prefetchers[0 if share_tasks else i]
            self._slots.append(VectorSlot(i, env, prefetcher, limit, same_step=same_step))
        self._in_flight = InFlight([slot.row_of for slot in self._slots])

    @property
    def single_action_space(self) -> ToolCallSpace:  # type: ignore[override]
        """The environment's shared tools as a space. The server is asked at the first use."""
        return self._slots[0].base.action_space

    @property
    def action_space(self) -> gymnasium.Space[Any]:  # type: ignore[override]
        """The single action space, batched `num_envs` times."""
        if self._action_space is None:
            self._action_space = batch_space(self.single_action_space, self.num_envs)
        return self._action_space

    @property
    def envs(self) -> tuple[gymnasium.Env[Any, Any], ...]:
        """The envs, wrapped by `wrap`, for inspection only: the vector environment plays them."""
        return tuple(slot.env for slot in self._slots)

    def stats(self) -> dict[str, float]:
        """Return counts and mean durations since the start.

        `steps`, `resets`, `episodes` (ended) and `failures` (rows that a failed connection or server ended); `in_flight` (sent,
        no result yet), `waiting` (result not received yet), `ready_ahead` (sessions held ready), `ready_share` (share of the
        resets on a next task that found its session open); `reset_s` and `step_s` (mean seconds).
        """
        slots, taken = self._slots, sum(prefetcher.taken for prefetcher in self._prefetchers)
        resets, steps = sum(slot.resets for slot in slots), sum(slot.steps for slot in slots)
        return {
            "steps": steps,
            "episodes": sum(slot.episodes for slot in slots),
            "resets": resets,
            "failures": sum(slot.failures for slot in slots),
            "in_flight": len(self._in_flight.busy) - self._in_flight.waiting,
            "waiting": self._in_flight.waiting,
            "ready_ahead": sum(prefetcher.ready for prefetcher in self._prefetchers),
            "ready_share": sum(prefetcher.taken_ready for prefetcher in self._prefetchers) / taken if taken else 0.0,
            "reset_s": sum(slot.reset_s for slot in slots) / resets if resets else 0.0,
            "step_s": sum(slot.step_s for slot in slots) / steps if steps else 0.0,
        }

    def reset(  # type: ignore[override]
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], VectorInfo]:
        """Begin an episode in all envs at once. Resets and steps in flight are cancelled.

        Args:
            seed: An integer gives env i the seed `seed + i`; a list has one seed per env. None takes the next tasks.
            options: `{"reset_mask": bool array}` resets only some envs; the others return their last observation. Also the
                options of `OpenRewardEnv.reset`, where `task_index` and `task_spec` may be lists with one element per env.

        Returns:
            Observations and infos. An env whose session could not be opened has an empty observation and
            `infos["error"]`; its next step is a truncated row.

        Raises:
            ConfigurationError: `seed` or an option is wrong.
            OpenRewardGymError: All envs were reset, and no session could be opened.
        """
        self._check_open()
        if not isinstance(options, Mapping | None):
            raise ConfigurationError(f"the options of reset() must be a dict like {{'task_index': 3}}, not {options!r:.200}")
        env_options = dict(options or {})
        ids = masked(env_options.pop("reset_mask", None), self.num_envs)
        self._in_flight.abandon(ids)
        self._begin(ids, seeds_of(seed, self.num_envs), env_options)
        rows = {row.env_id: row for row in self._in_flight.take(ids, len(ids))}
        failure = self._slots[0].reset_failure
        if failure is not None and len(ids) == self.num_envs and all(row.failed for row in rows.values()):
            raise failure
        observations = tuple(
            rows[i].observation if i in rows else deepcopy(slot.observation) for i, slot in enumerate(self._slots)
        )
        infos: dict[int, InfoDict] = {i: {"env_id": i, **row.info} for i, row in sorted(rows.items())}
        return observations, cast(VectorInfo, merged_infos(infos, self.num_envs))

    def step(self, actions: Sequence[Any]) -> Batch:  # type: ignore[override]
        """Play one action in each env and wait for all of them.

        Args:
            actions: One action per env, in the forms that `OpenRewardEnv.step` takes.

        Raises:
            ConfigurationError: An object is not an action, or their number is wrong. Nothing was sent.
            ResetNeededError: An env was not reset, or (with DISABLED) its episode has ended.
        """
        ids = range(self.num_envs)
        self.send(actions, ids)
        return batch_of(sorted(self._in_flight.take(ids, self.num_envs), key=lambda row: row.env_id))

    def render(self) -> tuple[Any, ...] | None:
        self._check_process()
        return None if self.render_mode is None else tuple(slot.env.render() for slot in self._slots)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Cancel resets and steps in flight, and close all sessions concurrently.

        Args:
            timeout: Seconds to wait for the server. None waits as long as each session's own limit.
            terminate: Close the sessions in the background, without waiting.
        """
        if self._is_foreign:
            return
        self._in_flight.busy.clear()
        closing = self._aclose()
        if terminate:
            asyncio.run_coroutine_threadsafe(closing, loop.background_loop())
        else:
            try:
                loop.run(closing, timeout)
            except TimeoutError:
                log.warning("not all sessions were closed within %s s", timeout)

    def __repr__(self) -> str:
        if "_slots" not in vars(self):
            return f"{type(self).__name__}(not made)"
        env = self._slots[0].base
        return f"{type(self).__name__}({env.environment!r}, num_envs={self.num_envs}, split={env.split!r}{env.shown_address})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if not self.closed:
            self.close(terminate=True)

    def send(self, actions: Sequence[Any], env_ids: Sequence[int] | npt.NDArray[Any] | None = None) -> None:
        """Begin one action in each of some envs, without waiting. `recv` returns the results.

        Args:
            actions: One action per env id.
            env_ids: Indices of the envs. None means all.

        Raises:
            ConfigurationError: An action or an id is wrong, or an env is still busy. Nothing was sent.
            PolicyError: An action is the error that a provider sent in place of an answer. Nothing was sent.
            ResetNeededError: As for `step`.
        """
        ids = self._checked(env_ids)
        is_single = isinstance(actions, str | Mapping)  # easily mistaken for a list of actions
        if is_single or len(actions) != len(ids):
            count = f"one ({type(actions).__name__})" if is_single else len(actions)
            raise ConfigurationError(f"send() needs one action per env, {len(ids)} in all, not {count}")
        ignored = self.autoreset_mode is not AutoresetMode.DISABLED
        jobs: dict[int, Job] = {}
        for i, action in zip(ids, actions, strict=True):
            slot = self._slots[i]
            if not slot.was_reset or (slot.ended and slot.unreported_failure is None and not ignored):
                raise ResetNeededError(f"env {i} has no episode: reset() it first, with options={{'reset_mask': ...}} it alone")
            # Under autoreset the action after an episode's end is ignored, whatever it is.
            message = None if slot.ended else as_message(action)
            jobs[i] = partial(slot.play, message)
        self._in_flight.begin(jobs)

    def recv(self, min_envs: int = 1, timeout_s: float | None = None, max_envs: int | None = None) -> Batch:
        """Wait for the results of actions and resets that were sent, and take them in the order of arrival.

        Args:
            min_envs: Number of rows to wait for; all rows in flight if these are fewer.
            timeout_s: Seconds after which fewer rows are returned, or none. None waits without limit.
            max_envs: Largest number of rows to return. None returns all that have arrived.

        Returns:
            A batch of these rows; `infos["env_id"]` has their envs. Each row is returned once.

        Raises:
            ConfigurationError: Nothing is in flight, or a number is not positive.
        """
        self._check_open()
        if min_envs < 1 or (max_envs is not None and max_envs < min_envs):
            raise ConfigurationError(f"recv() takes 1 <= min_envs <= max_envs, not {min_envs} and {max_envs}")
        busy = tuple(self._in_flight.busy)
        if not busy:
            raise ConfigurationError("nothing is in flight: call send() or async_reset() before recv()")
        return batch_of(self._in_flight.take(busy, min(min_envs, len(busy)), max_envs, timeout_s))

    def async_reset(
        self,
        env_ids: Sequence[int] | npt.NDArray[Any] | None = None,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Reset without waiting. `recv` returns the first observations, with reward 0. Jobs in flight are cancelled.

        Args:
            env_ids: Indices of the envs. None means all.
            seed: Seeds as in `reset`.
            options: Options as in `reset`, without a mask.
        """
        ids = self._checked(env_ids, busy=True)
        self._in_flight.abandon(ids)
        self._begin(ids, seeds_of(seed, self.num_envs), dict(options or {}))

    def step_subset(self, actions: Mapping[int, Any]) -> dict[int, tuple[Any, float, bool, bool, InfoDict]]:
        """Play actions (env id -> action), and return env id -> the tuple that `OpenRewardEnv.step` returns."""
        ids = tuple(actions)
        self.send(list(actions.values()), ids)
        return {
            row.env_id: (row.observation, row.reward, row.terminated, row.truncated, row.info)
            for row in self._in_flight.take(ids, len(ids))
        }

    def cancel(self, env_ids: Sequence[int] | npt.NDArray[Any] | None = None) -> tuple[int, ...]:
        """Cancel resets and steps in flight. Their rows arrive at once, truncated, with the stop reason "cancelled".

        Args:
            env_ids: Indices of the envs. None means all.

        Returns:
            The envs that had something in flight. The others are not changed.
        """
        ids = [i for i in self._checked(env_ids, busy=True) if i in self._in_flight.busy]
        self._in_flight.cancel(ids)
        return tuple(ids)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return the attribute `name` of each env, or the result of calling it if it is a method."""
        self._check_process()
        attributes = [slot.env.get_wrapper_attr(name) for slot in self._slots]
        return tuple(value(*args, **kwargs) if callable(value) else value for value in attributes)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return the attribute `name` of each env."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set the attribute `name` of each env to one value, or to one value per env from a list or tuple."""
        each = values if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(each) != self.num_envs:
            raise ConfigurationError(f"set_attr() takes one value or {self.num_envs}, got {len(each)}")
        for slot, value in zip(self._slots, each, strict=True):
            slot.env.set_wrapper_attr(name, value)

    def _begin(self, ids: Sequence[int], seeds: list[int | None], options: dict[str, Any]) -> None:
        jobs: dict[int, Job] = {}
        for position, i in enumerate(ids):
            # A shared task order restarts once for all envs.
            order_seed = seeds[i] if not self._shares_tasks or position == 0 else None
            jobs[i] = partial(self._slots[i].begin, seeds[i], order_seed, options_of(options, i, self.num_envs))
        self._in_flight.begin(jobs)

    def _checked(self, env_ids: Sequence[int] | npt.NDArray[Any] | None, *, busy: bool = False) -> list[int]:
        """Return `env_ids` as a list of distinct valid ids. Busy envs are refused unless `busy` is True."""
        self._check_open()
        ids = list(range(self.num_envs)) if env_ids is None else [int(i) for i in env_ids]
        if len(set(ids)) != len(ids) or not all(0 <= i < self.num_envs for i in ids):
            raise ConfigurationError(f"env_ids must be distinct integers from 0 to {self.num_envs - 1}, not {ids}")
        if not busy and not self._in_flight.busy.isdisjoint(ids):
            late = sorted(self._in_flight.busy.intersection(ids))
            raise ConfigurationError(f"envs {late} are still busy: recv() their rows, or cancel() them, first")
        return ids

    def _check_open(self) -> None:
        self._check_process()
        if self.closed:
            raise ConfigurationError("this vector environment was closed: make another one")

    async def _aclose(self) -> None:
        await self._in_flight.stop()
        closing = [*(prefetcher.close() for prefetcher in self._prefetchers), *(slot.close() for slot in self._slots)]
        await asyncio.gather(*closing, return_exceptions=True)
        if self._shares_tasks:
            await self._prefetchers[0].source.aclose()


def autoreset_mode_of(mode: AutoresetMode | str) -> AutoresetMode:
    """Return a mode by its name ("NEXT_STEP") or its value in Gymnasium ("NextStep")."""
    for known in AutoresetMode:
        if mode in (known, known.name, known.value):
            return known
    raise ConfigurationError(f"autoreset_mode must be one of {', '.join(known.name for known in AutoresetMode)}, not {mode!r}")


def masked(mask: Any, num_envs: int) -> list[int]:
    """Return the envs that a reset mask selects. A mask of None selects all."""
    if mask is None:
        return list(range(num_envs))
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (num_envs,) or not mask.any():
        raise ConfigurationError(
            f"options['reset_mask'] must be a bool array of shape ({num_envs},) with at least one True, not {mask!r}"
        )
    return [int(i) for i in np.flatnonzero(mask)]


def seeds_of(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """Return one seed per env: `seed + i`, or the elements of a list. None means no seed."""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int | np.integer):
        return [int(seed) + i for i in range(num_envs)]
    if not isinstance(seed, list | tuple | np.ndarray):
        raise ConfigurationError(f"seed must be an integer or a list of {num_envs}, not {seed!r:.200}")
    if len(seed) != num_envs:
        raise ConfigurationError(f"seed must be an integer or a list of {num_envs}, not of {len(seed)}")
    return [None if one is None else int(one) for one in seed]


def options_of(options: Mapping[str, Any], env_id: int, num_envs: int) -> dict[str, Any]:
    """Return the options of one env's reset, with the env's own element of each list. An element of None is left out."""
    own = dict(options)
    for name in PER_ENV_OPTIONS:
        if isinstance(own.get(name), list | tuple | np.ndarray):
            if len(own[name]) != num_envs:
                raise ConfigurationError(f"options[{name!r}] must have {num_envs} elements, got {len(own[name])}")
            own[name] = own[name][env_id]
        if name in own and own[name] is None:
            del own[name]
    return own


def _limit_of_open_files(wanted: int) -> int | None:
    """Return how many requests at once this process can open connections for. None if it can for all that are wanted."""
    free = free_file_count()
    if free is None or free >= RESERVED_FILES + FILES_PER_REQUEST * wanted:
        return None
    fitting = max((free - RESERVED_FILES) // FILES_PER_REQUEST, 1)
    log.warning(
        "at most %d of %d envs reset and step at once, because this process may open only %d further files (ulimit -n is %s)",
        fitting,
        wanted,
        free,
        open_file_limit(),
    )
    return fitting
