"""The worker's side of a collection on Ray: the class of the actors, and what they are sent."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import math
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openreward_gym.collect.inventory import Unit
from openreward_gym.collect.plan import RunPlan
from openreward_gym.collect.player import AttemptResult, LocalPlayer
from openreward_gym.collect.run_folder import writing_for
from openreward_gym.collect.silence import News
from openreward_gym.credentials import use_sealing_key
from openreward_gym.errors import ConfigurationError, MissingExtraError, OpenRewardGymError
from openreward_gym.options import RunOptions
from openreward_gym.store import RolloutStore
from openreward_gym.types import Rollout


class RayWorker:
    """The class of the actors: a local player, and a store that writes its own shard while `holder` holds the run's lock."""

    def __init__(self, driver_path: list[str], key: bytes, job: bytes, folder: str, run: str, holder: Mapping[str, Any]) -> None:
        sys.path[:] = list(dict.fromkeys([*driver_path, *sys.path]))
        use_sealing_key(key)
        options: RunOptions = ray_module().cloudpickle.loads(job)
        self._plan = RunPlan.of_resolved(options).within_open_files(lambda text: None)
        self._store = RolloutStore(folder, run=run, redactor=self._plan.redactor)
        self._holder = holder
        self._player: LocalPlayer | None = None
        self._playing: set[asyncio.Task[Any]] = set()
        self._id = str(ray_module().get_runtime_context().get_actor_id())

    async def describe(self) -> tuple[str, int, str, str]:
        """Return the host, the process id, the node's id and the worker's own, when the worker is ready."""
        self._player = LocalPlayer(self._plan, self._store.run, self._append, self._store.recording)
        return socket.gethostname(), os.getpid(), str(ray_module().get_runtime_context().get_node_id()), self._id

    async def ping(self) -> None:
        """Answer. Called in a concurrency group of its own, so that a policy that computes does not delay the answer."""

    async def play(self, unit: Unit, attempt: int) -> AttemptResult:
        """Play an attempt; see `Player`. Errors of this package are returned in the result."""
        task = asyncio.current_task()
        assert self._player is not None
        assert task is not None
        self._playing.add(task)
        try:
            result = await self._player.play(unit, attempt)
        except OpenRewardGymError as error:
            return AttemptResult(mistake=error)
        finally:
            self._playing.discard(task)
        return result if result.rollout is None else dataclasses.replace(result, rollout=without_messages(result.rollout))

    def _append(self, rollout: Rollout) -> None:
        with writing_for(Path(self._store.path), self._holder, self._id):
            self._store.append(rollout)

    async def news(self) -> News:
        """Return what happened in this worker's attempts in flight."""
        return News() if self._player is None else await self._player.news()

    async def close(self) -> None:
        """Abandon the attempts in flight, and close the sessions and the store."""
        for task in self._playing:
            task.cancel()
        await asyncio.gather(*self._playing, return_exceptions=True)
        if self._player is not None:
            await self._player.aclose()
        self._store.close()


def ray_module() -> Any:
    """Import Ray; raise MissingExtraError if it is not installed."""
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtraError(f"engine='ray' needs Ray ({error}): pip install 'openreward-gym[ray]'") from None


def worker_count(options: RunOptions) -> int:
    """Return the number of workers: that of the options, or the processors of this machine."""
    return options.workers or os.cpu_count() or 1


def pickle_options(options: RunOptions) -> bytes:
    """Pickle a worker's options: those of the run, with its share of the concurrency and of the provider's rate limits."""
    workers = worker_count(options)
    policy_options = options.policy_options or {}
    limits = ("requests_per_minute", "tokens_per_minute")
    shares = {name: policy_options[name] / workers for name in limits if policy_options.get(name)}
    share = dataclasses.replace(
        options,
        policy_options={**policy_options, **shares},
        concurrency=math.ceil(options.concurrency / workers),
        opening=math.ceil(options.opening / workers),
        tasks=None,
        progress=False,
        ray_options=None,
    )
    dumps: Callable[[RunOptions], bytes] = ray_module().cloudpickle.dumps
    try:
        return dumps(share)
    except Exception as error:  # pickling runs foreign code, which may raise anything
        raise ConfigurationError(
            f"the policy, the transport or another option cannot be sent to Ray workers ({last_line(error)}): pass the policy "
            "by name ('module:callable'), and only options that can be pickled"
        ) from None


def without_messages(rollout: Rollout) -> Rollout:
    """Return the part of a rollout that the driver needs. The messages are on disk."""
    return dataclasses.replace(rollout, messages=[], tools=None)


def last_line(error: BaseException) -> str:
    """Return the type of an error and the last line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}".rstrip(": ")
