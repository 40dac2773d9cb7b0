"""Playing a run's attempts in Ray actors, on the cores of one machine or on a cluster.

The driver holds the run's lock, hands out attempts as others finish, and decides on retries. Each worker plays attempts and
writes their rollouts to its own shard in the run's folder, which every machine must see under the same path.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import math
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from openreward_gym.collect.inventory import Unit
from openreward_gym.collect.plan import RunPlan
from openreward_gym.collect.player import AttemptResult, LocalPlayer
from openreward_gym.collect.run_folder import RunLock, writing_for
from openreward_gym.collect.silence import News, merge_news
from openreward_gym.errors import ConfigurationError, MissingExtraError, OpenRewardGymError
from openreward_gym.options import RunOptions
from openreward_gym.policies.policy import resolve
from openreward_gym.store import Failure, RolloutStore
from openreward_gym.store.folder import LocalFolder
from openreward_gym.store.index import ShardIndex
from openreward_gym.types import Rollout

AttemptKey: TypeAlias = tuple[str | None, int | None, int | None]
"""The (group, sample, attempt) of a rollout."""

CLOSE_S = 15.0
"""Seconds that a worker has to close its sessions when a run is stopped."""
NEWS_S = 2.0
"""Seconds that a worker has to report on its attempts in flight."""


class RayWorker:
    """The class of the actors: a local player, and a store that writes its own shard while `holder` holds the run's lock."""

    def __init__(self, driver_path: list[str], job: bytes, folder: str, run: str, holder: Mapping[str, Any]) -> None:
        sys.path[:] = list(dict.fromkeys([*driver_path, *sys.path]))
        options: RunOptions = _ray().cloudpickle.loads(job)
        self._plan = RunPlan(options, resolve(options.policy, url=options.policy_url, **(options.policy_options or {})))
        self._store = RolloutStore(folder, run=run)
        self._holder = holder
        self._player: LocalPlayer | None = None
        self._playing: set[asyncio.Task[Any]] = set()

    async def describe(self) -> tuple[str, int]:
        """Return the host and the process id, when the worker is ready."""
        self._player = LocalPlayer(self._plan, self._store.run, self._append)
        return socket.gethostname(), os.getpid()

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
        return result if result.rollout is None else dataclasses.replace(result, rollout=_without_messages(result.rollout))

    def _append(self, rollout: Rollout) -> None:
        with writing_for(Path(self._store.path), self._holder):
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


@dataclasses.dataclass(slots=True)
class _WorkerHandle:
    """The driver's view of a worker."""

    actor: Any
    host: str
    pid: int
    in_flight: int = 0
    """Number of attempts that it plays now."""
    lost: bool = False
    """True if its process died."""
    written: dict[AttemptKey, Rollout] | None = None
    """Rollouts that a lost worker wrote. None until they are read from its shard."""


class RayPlayer:
    """Plays attempts in actors. An actor that dies is replaced, and its attempts fail with the kind "worker_lost"."""

    def __init__(self, options: RunOptions, job: bytes, store: RolloutStore, lock: RunLock) -> None:
        self._options = options
        self._folder = Path(store.path).absolute()
        self._arguments = ([os.getcwd(), *filter(None, sys.path)], job, str(self._folder), store.run, dict(lock.holder))
        self._ray = _ray()
        self._workers: list[_WorkerHandle] = []
        self._replacing = asyncio.Lock()
        self._started_ray = False

    @classmethod
    async def start(cls, options: RunOptions, job: bytes, store: RolloutStore, lock: RunLock) -> RayPlayer:
        """Start Ray, unless it runs already, and the workers, which get the options as `pickle_options` returns them (`job`)."""
        player = cls(options, job, store, lock)
        try:
            if not player._ray.is_initialized():
                # Join the cluster that RAY_ADDRESS names, or start one on this machine, without log output.
                address = os.environ.get("RAY_ADDRESS")
                cluster: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
                await asyncio.to_thread(player._ray.init, log_to_driver=False, logging_level="error", **cluster)
                player._started_ray = True
            count = _worker_count(options)
            player._workers = list(await asyncio.gather(*(player._start_worker() for _ in range(count))))
        except BaseException:
            await player.aclose()
            raise
        return player

    async def _start_worker(self) -> _WorkerHandle:
        max_concurrency = self._options.concurrency + self._options.prefetch + 8
        # A worker waits for servers nearly all the time, so it reserves no CPU unless the user asks for one.
        options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": "SPREAD", "max_concurrency": max_concurrency}
        options |= self._options.ray_options or {}
        try:
            actor = self._ray.remote(RayWorker).options(**options).remote(*self._arguments)
            return _WorkerHandle(actor, *await actor.describe.remote())
        except (self._ray.exceptions.RayError, ValueError, TypeError) as error:
            cause = getattr(error, "cause", None) or error
            raise ConfigurationError(f"a Ray worker could not be started: {_last_line(cause)}") from None

    async def play(self, unit: Unit, attempt: int) -> AttemptResult:
        """Play an attempt on the least busy worker; see `Player`."""
        while not (living := [worker for worker in self._workers if not worker.lost]):
            async with self._replacing:
                pass
        worker = min(living, key=lambda one: one.in_flight)
        worker.in_flight += 1
        try:
            result: AttemptResult = await worker.actor.play.remote(unit, attempt)
        except self._ray.exceptions.RayActorError:
            return await self._lost(worker, unit, attempt)
        except self._ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        finally:
            worker.in_flight -= 1
        return result

    async def _lost(self, worker: _WorkerHandle, unit: Unit, attempt: int) -> AttemptResult:
        """Return the result of a dead worker's attempt. It may have written the rollout and died before it returned."""
        worker.lost = True
        async with self._replacing:
            if worker.written is None:
                worker.written = await asyncio.to_thread(_written_by, self._folder, worker.pid)
                self._workers[self._workers.index(worker)] = await self._start_worker()
        rollout = worker.written.get((unit.group, unit.sample, attempt))
        if rollout is not None:
            return AttemptResult(rollout)
        failure = Failure(
            source="client",
            kind="worker_lost",
            stage="play",
            attempt=attempt,
            message=f"worker process {worker.pid} on {worker.host} died during this attempt (killed, out of memory, or its "
            "machine is gone)",
            task=unit.group,
            sample=unit.sample,
        )
        return AttemptResult(failure=failure)

    async def news(self) -> News:
        """Return the news of all workers that answer in time; see `Player`."""
        asking = [asyncio.ensure_future(_news_of(worker.actor)) for worker in self._workers if not worker.lost]
        if not asking:
            return News()
        done, late = await asyncio.wait(asking, timeout=NEWS_S)
        for task in late:
            task.cancel()
        return merge_news(task.result() for task in done)

    async def aclose(self) -> None:
        """Close the workers, and kill those that take too long; see `Player`."""
        closing = [asyncio.ensure_future(_close(worker.actor)) for worker in self._workers]
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_S)
        for worker, task in zip(self._workers, closing, strict=True):
            task.cancel()
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(worker.actor)
        self._workers = []
        if self._started_ray:
            await asyncio.to_thread(self._ray.shutdown)


async def _news_of(actor: Any) -> News:
    try:
        news: News = await actor.news.remote()
    except Exception:  # a worker that is dead has none; `play` notices it
        return News()
    return news


async def _close(actor: Any) -> None:
    with contextlib.suppress(Exception):  # a worker that cannot close is killed
        await actor.close.remote()


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtraError(f"engine='ray' needs Ray ({error}): pip install 'openreward-gym[ray]'") from None


def _worker_count(options: RunOptions) -> int:
    return options.workers or os.cpu_count() or 1


def pickle_options(options: RunOptions) -> bytes:
    """Pickle a worker's options: those of the run, with its share of the concurrency and of the provider's rate limits."""
    workers = _worker_count(options)
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
    dumps: Callable[[RunOptions], bytes] = _ray().cloudpickle.dumps
    try:
        return dumps(share)
    except Exception as error:  # pickling runs foreign code, which may raise anything
        raise ConfigurationError(
            f"the policy, the transport or another option cannot be sent to Ray workers ({_last_line(error)}): pass the policy "
            "by name ('module:callable'), and only options that can be pickled"
        ) from None


def _without_messages(rollout: Rollout) -> Rollout:
    """Return the part of a rollout that the driver needs. The messages are on disk."""
    return dataclasses.replace(rollout, messages=[], tools=None)


def _written_by(folder: Path, pid: int) -> dict[AttemptKey, Rollout]:
    """Read the complete lines of a dead worker's shards, which are named `<time>-<host>-<pid>-<rand>`."""
    index = ShardIndex(LocalFolder(folder), "rollouts")
    index.refresh()
    rollouts: dict[AttemptKey, Rollout] = {}
    for stem, count in index.counts():
        if stem.split("-")[-2:-1] == [str(pid)]:
            for _, line in index.lines(stem, count):
                rollout = _without_messages(Rollout.from_line(line))
                rollouts[rollout.group, rollout.sample, rollout.attempt] = rollout
    return rollouts


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}".rstrip(": ")
