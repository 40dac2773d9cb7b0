"""The collection engine: workers play every unit of a run, and what counts goes into its store."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from openreward_gym.collect.attempts import FAILED, SUCCESSFUL, Coverage, Outcomes, Reservations
from openreward_gym.collect.budgets import Patience
from openreward_gym.collect.configuration import describe_run, keep_run, write_json
from openreward_gym.collect.groups import Groups
from openreward_gym.collect.inventory import Inventory, Unit
from openreward_gym.collect.lock import RunLock
from openreward_gym.collect.plan import Plan
from openreward_gym.collect.playing import LocalPlayer, Player
from openreward_gym.collect.progress import Reporter
from openreward_gym.collect.schedule import Schedule
from openreward_gym.collect.stopping import Stop
from openreward_gym.collect.uploading import Uploading
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, StoreError
from openreward_gym.platform import UploadReport
from openreward_gym.reports.summary import Summary, summarize
from openreward_gym.store.failure import Failure
from openreward_gym.store.store import RolloutStore

TICK_S = 1.0

PlayerOf: TypeAlias = Callable[[Plan, RolloutStore, RunLock], Awaitable[Player]]
"""Makes who plays a run, of what is to do, where it goes and the lock that is held."""


@dataclass(frozen=True, slots=True)
class CollectionResult:
    """A run as it stands after `collect`.

    Attributes:
        store: Its rollouts.
        metrics: Rewards, turns, tokens, durations and endings of them.
        coverage: What became of all units.
        interrupted: Whether it was stopped (Ctrl-C, SIGTERM, `run_timeout_s`) before its end.
        uploaded: What the platform has of it; None where it was not uploaded.
    """

    store: RolloutStore
    metrics: Summary
    coverage: Coverage
    interrupted: bool = False
    uploaded: UploadReport | None = None

    @property
    def path(self) -> str:
        return self.store.path


async def run_collection(
    plan: Plan, inventory: Inventory, report: Reporter, stop: Stop, player_of: PlayerOf | None = None
) -> CollectionResult:
    """Collect a run: its folder is locked, its inventory written, and what is missing played.

    Args:
        plan, inventory: What to do.
        report: Who is told how it goes.
        stop: Who may stop it.
        player_of: Makes the one who plays; None plays in this process.
    """
    path = Path(plan.output) if plan.output is not None else new_folder(plan.environment)
    with RunLock(path) as lock:
        run = describe_run(plan.behaviour(), inventory.digest, plan.elsewhere())
        keep_run(path, run, resume=plan.resume, allow_changed=plan.allow_changed)
        inventory.write(path)
        store = RolloutStore(path)
        uploading = Uploading(plan, store)
        try:
            player = LocalPlayer(plan, store.run, store.append) if player_of is None else await player_of(plan, store, lock)
            try:
                collection = Collection(plan, inventory, store, report, player, uploading.wake)
                interrupted = await collection.run(stop)
            finally:
                await player.aclose()
            metrics = summarize(store)
            write_json(path / "metrics.json", metrics.to_dict())
            uploaded = await uploading.finish(report, stop)
        finally:
            uploading.abandon()
        return CollectionResult(store, metrics, collection.outcomes.coverage(), interrupted, uploaded)


class Collection:
    """A run that is being collected.

    Args:
        plan, inventory: What to do.
        store: Where outcomes go.
        report: Who is told.
        player: Who plays.
        kept: Called for each rollout that is there.
    """

    def __init__(
        self,
        plan: Plan,
        inventory: Inventory,
        store: RolloutStore,
        report: Reporter,
        player: Player,
        kept: Callable[[], None],
    ) -> None:
        self.plan = plan
        self.store = store
        self.report = report
        self.player = player
        self._kept = kept
        self.path = Path(store.path)
        self.outcomes = Outcomes(inventory)
        self.outcomes.read(self.path)
        if plan.limit is not None:
            self.outcomes.omit_beyond(plan.limit)
        self.reservations = Reservations(self.path)
        self.patience = Patience(plan.retries)
        self.groups = Groups(inventory, store, plan.score_groups, plan.advantages, plan.make_env)
        self.schedule = Schedule(self.outcomes.owed())
        self._uncompared = iter(self.groups.recall())
        self._workers: list[asyncio.Task[None]] = []
        self._stopped = ""
        # Once a rollout was made, a refusal (401, "no such task") is one unit's trouble and not the caller's mistake.
        self._proven = self.outcomes.coverage().successful > 0

    async def run(self, stop: Stop) -> bool:
        """Play what is owed; returns whether it was stopped before the end.

        Raises:
            ConfigurationError, AuthenticationError: What is the same for every unit.
            StoreError: Outcomes cannot be written.
        """
        coverage = self.outcomes.coverage()
        owed = coverage.missing + coverage.failed
        self.report.started(coverage.expected - coverage.omitted, coverage.successful)
        count = min(self.plan.concurrency + self.plan.prefetch, max(owed, 1))
        self._workers = [asyncio.create_task(self._work()) for _ in range(count)]
        timers = asyncio.create_task(self._tick())
        stop.listen(self._stop)
        if self.plan.run_timeout_s is not None:
            asyncio.get_running_loop().call_later(self.plan.run_timeout_s, self._stop, "now")
        try:
            await self._until_done()
        finally:
            timers.cancel()
            await self._end_workers()
            await self._close()
        return bool(self._stopped) and not self.outcomes.coverage().complete

    async def _until_done(self) -> None:
        """Wait for the workers; the first error ends the collection."""
        pending: set[asyncio.Task[None]] = set(self._workers)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for worker in done:
                if not worker.cancelled() and (error := worker.exception()) is not None:
                    raise error

    async def _end_workers(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def _stop(self, how: str) -> None:
        self._stopped = how
        self.schedule.drain()
        if how == "drain":
            self.report.say("stopping: what is under way is played to its end; interrupt again to leave it")
            return
        for worker in self._workers:
            worker.cancel()

    async def _close(self) -> None:
        """Close the files and write down what became of the units; an error that is on its way out is not replaced."""
        coverage = self.outcomes.coverage()
        self.report.stopped()
        try:
            await self.groups.aclose()
            self.reservations.close()
            self.store.close()
            write_json(self.path / "coverage.json", asdict(coverage))
        except OSError as error:
            self.report.say(f"{error}")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.report.tick()

    async def _work(self) -> None:
        """Play units, one after the other, until none is left."""
        for group in self._uncompared:
            await self._compare(group)
        while (unit := await self.schedule.take()) is not None:
            await self._attempt(unit)

    async def _attempt(self, unit: Unit) -> None:
        """One attempt at a unit and what follows from it: an outcome, another attempt, or a failure that stays."""
        number = self.outcomes.next_attempt(unit)
        self.reservations.reserve(unit, number)
        self.report.dispatched()
        try:
            played = await self.player.play(unit, number)
            if played.mistake is not None and (played.failure is None or not self._proven):
                raise played.mistake
        except BaseException:
            self.report.left()
            raise
        if played.failure is not None:
            self._failed(unit, played.failure, played.retry_after_s)
            return
        rollout = played.rollout
        assert rollout is not None
        self._proven = True
        self._kept()
        self.outcomes.settle(unit, SUCCESSFUL)
        self.patience.forget(unit.number)
        self.report.finished(rollout, played.step_seconds)
        if self.groups.add(unit, rollout):
            await self._compare(unit.group)
        self.schedule.settle()

    def _failed(self, unit: Unit, failure: Failure, retry_after_s: float | None) -> None:
        self.store.append_failure(failure)
        self.outcomes.settle(unit, FAILED)
        wait_s = self.patience.wait_s(unit.number, failure.kind, retry_after_s)
        if self._stopped:
            wait_s = None
        self.report.failed(failure, wait_s)
        if wait_s is None:
            self.schedule.settle()
        else:
            self.schedule.again(unit, wait_s)

    async def _compare(self, group: str) -> None:
        """Compare a complete group. What fails is written down, and owed to the next collection."""
        try:
            await self.groups.compare(group)
        except (StoreError, ConfigurationError):
            raise
        except OpenRewardGymError as error:
            failure = Failure(
                source="environment",
                kind="score_group_failed",
                stage="score_group",
                exception=f"{type(error).__module__}.{type(error).__qualname__}",
                message=str(error),
                task=group,
            )
            self.store.append_failure(failure)
            self.report.say(f"group {group} could not be compared: {error}")


def new_folder(environment: str) -> Path:
    """A new folder under `runs/`."""
    name = re.sub(r"[^\w.-]+", "-", environment).strip("-")
    stem = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    for number in itertools.count():
        path = Path("runs") / (f"{stem}-{number}" if number else stem)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise StoreError(f"cannot make {path}: {error.strerror or error}") from None
        return path
    raise AssertionError("itertools.count ended")
