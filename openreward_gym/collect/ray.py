"""The same engine with its episodes played in Ray's actors: on the cores of one machine, or on a cluster.

The driver holds the run's lock, hands out attempts one by one as others finish, and decides what follows from each. A worker
plays, and writes its rollouts to a shard of its own in the run's folder, which every machine has to see under the same path.
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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openreward_gym.collect.engine import PlayerOf
from openreward_gym.collect.inventory import Unit
from openreward_gym.collect.lock import RunLock, writing_for
from openreward_gym.collect.plan import Plan
from openreward_gym.collect.playing import LocalPlayer, Played, Player
from openreward_gym.errors import ConfigurationError, MissingExtraError, OpenRewardGymError
from openreward_gym.policies import resolve
from openreward_gym.store.failure import Failure
from openreward_gym.store.folder import LocalFolder
from openreward_gym.store.index import ShardIndex
from openreward_gym.store.store import RolloutStore
from openreward_gym.types.rollout import Rollout

LEAVE_S = 15.0
"""Seconds that a worker has for closing its sessions when a run is stopped."""
_PACES = ("requests_per_minute", "tokens_per_minute")
# A worker waits for others nearly all the time, so it takes no CPU of Ray's count unless the user says so.
_OPTIONS: Mapping[str, Any] = {"num_cpus": 0, "scheduling_strategy": "SPREAD"}


class Worker:
    """What runs in an actor.

    Args:
        path: Where Python looks for modules.
        job: The plan, pickled.
        folder, run: Where rollouts go, and the run's name.
        holder: The collector they are written for.
    """

    def __init__(self, path: list[str], job: bytes, folder: str, run: str, holder: Mapping[str, Any]) -> None:
        sys.path[:] = list(dict.fromkeys([*path, *sys.path]))
        plan: Plan = _ray().cloudpickle.loads(job)
        assert plan.given_policy is not None
        policy, url, options = plan.given_policy
        self._plan = dataclasses.replace(plan, policy=resolve(policy, url=url, **options))
        self._store = RolloutStore(folder, run=run)
        self._holder = holder
        self._player: LocalPlayer | None = None
        self._playing: set[asyncio.Task[Any]] = set()

    async def describe(self) -> tuple[str, int]:
        """(host, process id), once it is up."""
        self._player = LocalPlayer(self._plan, self._store.run, self._keep)
        return socket.gethostname(), os.getpid()

    async def play(self, unit: Unit, attempt: int) -> Played:
        """See `Player`; what goes wrong is in the answer."""
        task = asyncio.current_task()
        assert self._player is not None
        assert task is not None
        self._playing.add(task)
        try:
            played = await self._player.play(unit, attempt)
        except OpenRewardGymError as error:
            return Played(mistake=error)
        finally:
            self._playing.discard(task)
        return played if played.rollout is None else dataclasses.replace(played, rollout=_slim(played.rollout))

    def _keep(self, rollout: Rollout) -> None:
        with writing_for(Path(self._store.path), self._holder):
            self._store.append(rollout)

    async def leave(self) -> None:
        """Leave what is under way and close what is open."""
        playing = list(self._playing)
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)
        if self._player is not None:
            await self._player.aclose()
        self._store.close()


@dataclasses.dataclass(slots=True)
class _Hand:
    """A worker as the driver knows it. `left` is what it had written when it was lost; None until that was looked up."""

    actor: Any
    host: str
    pid: int
    in_flight: int = 0
    lost: bool = False
    left: dict[tuple[str | None, int | None, int | None], Rollout] | None = None


class RayPlayer:
    """Plays in actors; one that dies is replaced, and what it was playing is a failure of kind "worker_lost"."""

    def __init__(self, plan: Plan, job: bytes, store: RolloutStore, lock: RunLock) -> None:
        self._plan = plan
        self._folder = Path(store.path).absolute()
        self._arguments = ([os.getcwd(), *filter(None, sys.path)], job, str(self._folder), store.run, dict(lock.holder))
        self._ray = _ray()
        self._count = _workers(plan)
        self._hands: list[_Hand] = []
        self._replacing = asyncio.Lock()
        self._began_ray = False

    async def start(self) -> None:
        """Bring up Ray, where nobody has, and the workers.

        Raises:
            ConfigurationError: A worker cannot be made; the message says why.
        """
        if not self._ray.is_initialized():
            await asyncio.to_thread(_begin_ray, self._ray)
            self._began_ray = True
        self._hands = list(await asyncio.gather(*(self._hire() for _ in range(self._count))))

    async def _hire(self) -> _Hand:
        actor_class = self._ray.remote(Worker)
        most = self._plan.concurrency + self._plan.prefetch + 8
        try:
            options = {**_OPTIONS, "max_concurrency": most, **(self._plan.ray_options or {})}
            actor = actor_class.options(**options).remote(*self._arguments)
            return _Hand(actor, *await actor.describe.remote())
        except (self._ray.exceptions.RayError, ValueError, TypeError) as error:
            cause = getattr(error, "cause", None) or error
            raise ConfigurationError(f"a Ray worker could not be made: {_last_words(cause)}") from None

    async def play(self, unit: Unit, attempt: int) -> Played:
        """See `Player`."""
        while not (living := [hand for hand in self._hands if not hand.lost]):
            async with self._replacing:
                pass
        hand = min(living, key=lambda one: one.in_flight)
        hand.in_flight += 1
        try:
            played: Played = await hand.actor.play.remote(unit, attempt)
        except self._ray.exceptions.RayActorError:
            return await self._lost(hand, unit, attempt)
        except self._ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        finally:
            hand.in_flight -= 1
        return played

    async def _lost(self, hand: _Hand, unit: Unit, attempt: int) -> Played:
        """What an attempt of a dead worker came to: it may have written the rollout and died before it said so."""
        hand.lost = True
        async with self._replacing:
            if hand.left is None:
                hand.left = await asyncio.to_thread(_written_by, self._folder, hand.pid)
                self._hands[self._hands.index(hand)] = await self._hire()
        rollout = hand.left.get((unit.group, unit.sample, attempt))
        if rollout is not None:
            return Played(rollout)
        where = f"worker process {hand.pid} on {hand.host}"
        return Played(
            failure=Failure(
                source="client",
                kind="worker_lost",
                stage="play",
                attempt=attempt,
                message=f"{where} died while it played this (killed, out of memory, or its machine is gone)",
                task=unit.group,
                sample=unit.sample,
            )
        )

    async def aclose(self) -> None:
        """See `Player`."""
        leaving = [asyncio.ensure_future(_left(hand.actor)) for hand in self._hands]
        if leaving:
            await asyncio.wait(leaving, timeout=LEAVE_S)
        for hand, left in zip(self._hands, leaving, strict=True):
            left.cancel()
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(hand.actor)
        self._hands = []
        if self._began_ray:
            await asyncio.to_thread(self._ray.shutdown)


async def _left(actor: Any) -> None:
    with contextlib.suppress(Exception):  # a worker that cannot leave is killed
        await actor.leave.remote()


def player_of(plan: Plan) -> PlayerOf:
    """What makes the player of `engine="ray"` once the run's folder is held.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigurationError: The plan is nothing that can be sent to workers.
    """
    job = _job(plan)

    async def make(plan: Plan, store: RolloutStore, lock: RunLock) -> Player:
        player = RayPlayer(plan, job, store, lock)
        try:
            await player.start()
        except BaseException:
            await player.aclose()
            raise
        return player

    return make


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtraError(f"engine='ray' needs Ray ({error}): pip install 'openreward-gym[ray]'") from None


def _begin_ray(ray: Any) -> None:
    """Join the cluster that RAY_ADDRESS names, else begin one on this machine, quietly."""
    address = os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": "error"}
    if address:
        ray.init(address=address, **quiet)
    else:
        ray.init(include_dashboard=False, **quiet)


def _workers(plan: Plan) -> int:
    return plan.workers or os.cpu_count() or 1


def _job(plan: Plan) -> bytes:
    """The plan for a worker, with its share of the concurrency and of the provider's limits."""
    assert plan.given_policy is not None
    policy, url, options = plan.given_policy
    workers = _workers(plan)
    shares = {name: options[name] / workers for name in _PACES if options.get(name)}
    mine = dataclasses.replace(
        plan,
        policy=None,  # type: ignore[arg-type]  # each worker makes its own
        given_policy=(policy, url, {**options, **shares}),
        concurrency=math.ceil(plan.concurrency / workers),
        opening=math.ceil(plan.opening / workers),
        tasks=None,
        ray_options=None,
    )
    try:
        pickled: bytes = _ray().cloudpickle.dumps(mine)
    except MissingExtraError:
        raise
    except Exception as error:  # pickling runs anybody's code
        raise ConfigurationError(
            f"the policy, the transport or an argument cannot be sent to Ray's workers ({_last_words(error)}): name the policy "
            "('module:callable'), and give what can be pickled"
        ) from None
    return pickled


def _slim(rollout: Rollout) -> Rollout:
    """The rollout as the driver needs it; the rest is on disk."""
    return rollout.model_copy(update={"messages": [], "tools": None})


def _written_by(folder: Path, pid: int) -> dict[tuple[str | None, int | None, int | None], Rollout]:
    """The whole lines of a dead worker's shards, by (group, sample, attempt)."""
    index = ShardIndex(LocalFolder(folder), "rollouts")
    index.refresh()
    found: dict[tuple[str | None, int | None, int | None], Rollout] = {}
    for stem, count in index.counts():
        if _pid_of(stem) == pid:
            for _, line in index.lines(stem, count):
                rollout = _slim(Rollout.from_line(line))
                found[rollout.group, rollout.sample, rollout.attempt] = rollout
    return found


def _pid_of(stem: str) -> int:
    """The process id in a shard's name, `<time>-<host>-<pid>-<rand>`."""
    parts = stem.rsplit("-", 2)
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else -1


def _last_words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}".rstrip(": ")
