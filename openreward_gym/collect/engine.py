"""The collection engine: it plays every unit of a run, retries failures, and stores what counts."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import shlex
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, TypeAlias

from openreward_gym.collect.failure_limit import SAME_FAILURES, FailureLimit, SlowStart, is_lasting
from openreward_gym.collect.groups import GroupComparer, check_score_groups
from openreward_gym.collect.inventory import Inventory, Unit
from openreward_gym.collect.outcomes import FAILED, REFUSED_TIMES, SUCCESSFUL, Coverage, Outcomes
from openreward_gym.collect.plan import RunPlan
from openreward_gym.collect.player import AttemptResult, LocalPlayer, Player, Servers
from openreward_gym.collect.progress import Reporter, reporter
from openreward_gym.collect.retries import RetryTracker, UnitQueue
from openreward_gym.collect.row_checks import notes_on_rows
from openreward_gym.collect.rows_file import RowsFile, check_rows_file
from openreward_gym.collect.run_folder import RunLock, RunLog, check_resumed, describe_run, write_json, write_run
from openreward_gym.collect.silence import News, merge_news
from openreward_gym.envs.turns import TurnKind
from openreward_gym.errors import (
    AuthenticationError,
    ConfigurationError,
    OpenRewardGymError,
    PolicyError,
    ServerError,
    StoreError,
)
from openreward_gym.options import RunOptions
from openreward_gym.platform import Uploader, UploadReport
from openreward_gym.processes import ProcessBound, process_id
from openreward_gym.protocol import loop
from openreward_gym.reports.summary import Summary, summarize
from openreward_gym.retrying import retries_heard_by
from openreward_gym.store import Failure, RolloutStore
from openreward_gym.store.running import remove_abandoned
from openreward_gym.types import Rollout
from openreward_gym.types.rollout import now_iso
from openreward_gym.urls import hide_credentials

TICK_S = 1.0
STOP_GRACE_S = 3.0
"""Seconds that a stopped collection waits for the list of tasks."""
UPLOAD_PATIENCE_S = 60.0
"""Seconds without success after which an upload pauses until the next rollout."""
UPLOAD_POLL_S = 0.2

StopMode: TypeAlias = Literal["", "drain", "now"]


@dataclass(frozen=True, slots=True)
class CollectionResult:
    """A run after a collection.

    Attributes:
        store: The run's rollouts.
        metrics: Their rewards, turns, tokens, durations and stop reasons.
        coverage: The outcomes of all units, counted.
        interrupted: True if the collection was stopped (Ctrl-C, SIGTERM, SIGHUP, `run_timeout_s`) before its end.
        uploaded: State of the upload to the platform. None if the run was not uploaded.
        resumable: True if the run is not complete, and continuing it (`resume=True`) plays units that may succeed. False if
            nothing has succeeded and every failure would come again, or if `given_up` units are all that is left.
        given_up: Number of failed units that are not played again, because the policy's model refused them several times while
            it played others. `allow_changed=True` plays them.
        groups_failed: Number of groups that are complete and could not be compared. `resume=True` tries again.
        groups_incomplete: Number of groups that are not compared, because a unit of them failed or was omitted.
        rows_path: The file of NeMo Gym rows that `output` named. None if it named none.

    Example:
        >>> from openreward_gym import collect, serve  # doctest: +SKIP
        >>> with serve.local(["weather"]) as base_url:  # doctest: +SKIP
        ...     result = collect("weather", "random", base_url=base_url, max_steps=3)
        >>> result.coverage.complete  # doctest: +SKIP
        True
    """

    store: RolloutStore
    metrics: Summary
    coverage: Coverage
    interrupted: bool = False
    uploaded: UploadReport | None = None
    resumable: bool = False
    given_up: int = 0
    groups_failed: int = 0
    groups_incomplete: int = 0
    rows_path: Path | None = None

    def __repr__(self) -> str:
        units = f"{self.coverage.successful} of {self.coverage.expected} units successful"
        mean = "no reward" if self.metrics.mean_reward is None else f"mean reward {self.metrics.mean_reward:.3g}"
        return f"<CollectionResult {hide_credentials(self.path)}: {units}, {mean}{', interrupted' if self.interrupted else ''}>"

    @property
    def path(self) -> str:
        """The run's folder."""
        return self.store.path


class StopSignal(ProcessBound):
    """Stops a collection from any thread of the process that made it, also before the collection starts.

    Example:
        >>> stop = StopSignal()
        >>> stop.drain()
        >>> stop.mode
        'drain'
    """

    _noun = "stop signal"
    _instead = "stop the collection in its own process, for example with SIGTERM"

    def __init__(self) -> None:
        self.mode: StopMode = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callback: Callable[[StopMode], None] = lambda mode: None

    def listen(self, callback: Callable[[StopMode], None]) -> None:
        """Call `callback` on the running event loop for each change of `mode`, and now if it is set already."""
        self._loop, self._callback = asyncio.get_running_loop(), callback
        if self.mode:
            callback(self.mode)

    def drain(self) -> None:
        """Start no further attempts, and finish those in flight."""
        self._set("drain")

    def now(self) -> None:
        """Abandon the attempts in flight."""
        self._set("now")

    def _set(self, mode: StopMode) -> None:
        self._check_process()
        if self.mode == "now":
            return
        self.mode = mode
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._callback, mode)


def collect_run(options: RunOptions, stop: StopSignal | None = None) -> CollectionResult:
    """Collect a run from code that is not async; see `collect`.

    In the main thread, the first SIGINT (Ctrl-C) drains the collection, and a second one, SIGTERM or SIGHUP stops it at once.
    A SIGHUP that is ignored, as under `nohup`, stays ignored.
    """
    stop = stop or StopSignal()
    with _stopped_by_signals(stop):
        return loop.run(acollect_run(options, stop))


async def acollect_run(options: RunOptions, stop: StopSignal | None = None) -> CollectionResult:
    """Collect a run: lock its folder, write its inventory, and play the missing units; see `acollect`."""
    stop = stop or StopSignal()
    plan = RunPlan.of(options)
    # Imported by name, because only this engine needs Ray.
    ray: Any = importlib.import_module("openreward_gym.collect.ray") if options.engine == "ray" else None
    job = None if ray is None else ray.pickle_options(plan.options)
    if options.resume:
        check_resumed(options.run_folder)
    if options.rows_path is not None and options.run_folder is not None:
        check_rows_file(options.rows_path, options.run_folder)
    report = reporter(options.progress)
    if ray is None:
        plan = plan.within_open_files(report.say)
    inventory = await _inventory(plan, report, stop)
    for note in notes_on_rows(inventory.tasks, options):
        report.say(note)
    folder = _RunFolder(options.run_folder, plan.environment)
    path = folder.path
    with folder, RunLock(path) as lock:
        run = describe_run(plan.behaviour(), inventory.digest, plan.circumstances())
        write_run(path, run, resume=options.resume, allow_changed=options.allow_changed)
        inventory.write(path)
        remove_abandoned(path)  # the lock is held: what a dead collector left is played again
        store = RolloutStore(path, redactor=plan.redactor)
        rows = None if options.rows_path is None else RowsFile(options.rows_path, store, inventory)
        if rows is not None:
            rows.begin()
        upload_url = options.upload if isinstance(options.upload, str) else None
        uploader = Uploader(store, base_url=upload_url, patience_s=UPLOAD_PATIENCE_S) if options.upload else None
        try:
            player: Player
            if ray is None:
                player = LocalPlayer(plan, store.run, store.append, store.recording)
            else:
                player = await ray.RayPlayer.start(plan.options, job, store, lock, report.say, stop)
            try:
                collection = Collection(plan, inventory, store, report, player, uploader, rows)
                interrupted = await collection.run(stop)
            finally:
                await player.aclose()
                remove_abandoned(path)  # of workers that died
            if interrupted and ray is not None:
                # A worker may have written a rollout after its attempt was abandoned here.
                collection.outcomes.read(path)
                write_json(path / "coverage.json", asdict(collection.outcomes.coverage()))
            coverage = collection.outcomes.coverage()
            metrics = summarize(store, unplayed=coverage.failed + coverage.missing)
            write_json(path / "metrics.json", metrics.to_dict())
            uploaded = None if uploader is None else await _finish_upload(uploader, path, report, stop)
        except BaseException as error:
            if uploader is not None:
                uploader.close(0.0)
            if isinstance(error, OpenRewardGymError):
                with contextlib.suppress(OpenRewardGymError, OSError):  # the first error counts
                    write_json(path / "metrics.json", summarize(store).to_dict())
            raise
        return _result_of(collection, metrics, interrupted=interrupted, uploaded=uploaded)


def _result_of(collection: Collection, metrics: Summary, *, interrupted: bool, uploaded: UploadReport | None) -> CollectionResult:
    outcomes, groups = collection.outcomes, collection.groups
    return CollectionResult(
        collection.store,
        metrics,
        outcomes.coverage(),
        interrupted,
        uploaded,
        resumable=collection.resumable(),
        given_up=outcomes.given_up,
        groups_failed=len(groups.uncompared),
        groups_incomplete=groups.count_incomplete(outcomes.states),
        rows_path=collection.options.rows_path,
    )


class Collection:
    """A run during its collection. The uploader is woken after each stored rollout; None if the run is not uploaded."""

    def __init__(
        self,
        plan: RunPlan,
        inventory: Inventory,
        store: RolloutStore,
        report: Reporter,
        player: Player,
        uploader: Uploader | None,
        rows: RowsFile | None = None,
    ) -> None:
        self.options = options = plan.options
        self.store = store
        self.report = report
        self.player = player
        self.uploader = uploader
        self.rows = rows
        self.path = Path(store.path)
        self.outcomes = Outcomes(inventory)
        self.outcomes.read(self.path)
        if options.allow_changed:
            self.outcomes.retry_all()
        if options.limit is not None:
            self.outcomes.omit_beyond(options.limit)
        self.attempts = RunLog(self.path, "attempts")
        self.retries = RetryTracker(options.retries)
        self.groups = GroupComparer(plan, inventory, store)
        self.queue = UnitQueue(self.outcomes.pending())
        self._uncompared = iter(self.groups.recall())
        self._workers: list[asyncio.Task[None]] = []
        self._stopped: StopMode = ""
        self.limit = FailureLimit(options.fail_on_error)
        self._may_pass = False
        # In a run with rollouts, what failed before may fail again: that says nothing about the other units.
        self._failed_before = bytes(self.outcomes.states) if SUCCESSFUL in self.outcomes.states else b""
        # Workers beyond these would only meet the same refusal.
        self._start = SlowStart(2 * SAME_FAILURES, is_open=options.fail_on_error == 0)

    async def run(self, stop: StopSignal) -> bool:
        """Play the pending units. Return True if the collection was stopped before its end."""
        coverage = self.outcomes.coverage()
        pending = coverage.missing + coverage.failed - self.outcomes.given_up
        self.report.started(coverage.expected - coverage.omitted - self.outcomes.given_up, coverage.successful)
        if self.outcomes.given_up:
            units, them = ("unit is", "it") if self.outcomes.given_up == 1 else ("units are", "them")
            self.report.say(
                f"{self.outcomes.given_up} {units} not played again, because the policy's model refused {them} "
                f"{REFUSED_TIMES} times; allow_changed=True (--allow-changed) plays {them}"
            )
        count = min(self.options.concurrency + self.options.prefetch, max(pending, 1))
        self._workers = [asyncio.create_task(self._work()) for _ in range(count)]
        ticker = asyncio.create_task(self._tick())
        stop.listen(self._stop)
        if self.options.run_timeout_s is not None:
            asyncio.get_running_loop().call_later(self.options.run_timeout_s, self._stop, "now")
        try:
            left = set(self._workers)
            while left:
                # FIRST_EXCEPTION does not count a cancelled worker, for whose unit the others would wait for ever.
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for worker in done:
                    if not worker.cancelled():
                        worker.result()  # raises the worker's error, which ends the collection
                    elif self._stopped != "now":
                        raise PolicyError(
                            "the policy cancelled the task in which it is played, and with it the collection; it may cancel "
                            "tasks of its own only"
                        )
        finally:
            ticker.cancel()
            self._cancel_workers()
            await asyncio.gather(*self._workers, return_exceptions=True)
            await self._hear()
            await self._close()
        return bool(self._stopped) and not self.outcomes.coverage().complete

    def resumable(self) -> bool:
        """Return True if another collection of this run plays units that may succeed."""
        coverage = self.outcomes.coverage()
        hopeless = not coverage.successful and not self._may_pass
        return coverage.missing > 0 or (coverage.failed > self.outcomes.given_up and not hopeless)

    def _cancel_workers(self) -> None:
        for worker in self._workers:
            worker.cancel()

    def _stop(self, mode: StopMode) -> None:
        self._stopped = mode
        self.queue.drain()
        if mode == "drain":
            self.report.say("stopping: episodes in flight are played to their end; interrupt again to abandon them")
        else:
            self._cancel_workers()

    async def _close(self) -> None:
        """Close the files and write the coverage. Errors are shown, so that they do not replace an exception."""
        coverage = self.outcomes.coverage()
        self.report.stopped()
        try:
            await self.groups.aclose()
            self.attempts.close()
            self.store.close()
            if self.rows is not None:
                self.rows.finish()
            write_json(self.path / "coverage.json", asdict(coverage))
        except OSError as error:
            self.report.say(str(error))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.report.tick()
            await self._hear()

    async def _hear(self) -> None:
        """Record and show requests that were sent again, and servers that do not answer."""
        news = await self.player.news()
        for failure in news.retried:
            # A full disk ends the collection with the next outcome; until then the rest is shown.
            with contextlib.suppress(StoreError):
                self.store.append_failure(failure)
            self.report.retried(failure)
        self.report.servers(merge_news([news, News(servers=[self.groups.server.state()])]).servers)

    async def _work(self) -> None:
        """Play one unit after the other until the queue is empty."""
        for group in self._uncompared:
            if self._stopped:
                return
            await self._compare(group)
        while True:
            async with self._start.slot():
                unit = await self.queue.take()
                if unit is None:
                    return
                await self._attempt(unit)

    async def _attempt(self, unit: Unit) -> None:
        """Play one attempt at a unit: it ends in a rollout, a retry, or a final failure."""
        number = self.outcomes.next_attempt(unit)
        # Written before the attempt starts, so that a killed collector leaves a trace of it.
        self.attempts.append({"group": unit.group, "sample": unit.sample, "attempt": number, "time": now_iso()})
        self.report.dispatched()
        try:
            result = await self.player.play(unit, number)
        except BaseException:
            self.report.left()
            raise
        if result.rollout is not None:
            await self._succeeded(unit, result.rollout, result.step_seconds, result.turns)
        else:
            self._failed(unit, result)

    async def _succeeded(self, unit: Unit, rollout: Rollout, step_seconds: list[float], turns: frozenset[TurnKind]) -> None:
        self.limit.succeeded()
        self._start.open()
        if self.uploader is not None:
            self.uploader.wake()
        self.outcomes.states[unit.number] = SUCCESSFUL
        self.retries.forget(unit.number)
        if self.rows is not None:
            self.rows.add(unit.number, rollout.id)
        self.report.finished(rollout, step_seconds)
        self.report.hint(turns)
        if self.groups.add(unit, rollout):
            await self._compare(unit.group)
        self.queue.settle()

    def _failed(self, unit: Unit, result: AttemptResult) -> None:
        """Record a failed attempt, and retry it if its budget allows. An error that would come again is raised."""
        failure, mistake = result.failure, result.mistake
        known = bool(self._failed_before) and self._failed_before[unit.number] == FAILED
        # A key is refused (401) for every unit; what is forbidden (403) may be one unit's prompt.
        of_key = isinstance(mistake, AuthenticationError) and mistake.status != 403
        ends = mistake is not None and (failure is None or (self.limit.stops_at_mistakes and (of_key or not known)))
        # A wrong option is no outcome: nothing was played.
        if failure is not None and not (ends and isinstance(mistake, ConfigurationError)):
            self.store.append_failure(failure)
            self.outcomes.states[unit.number] = FAILED
        if failure is None or (ends and mistake is not None):
            self.report.left()
            raise mistake or StoreError(f"attempt at {unit.id} ended without an outcome")
        lasting = is_lasting(failure)
        self._may_pass |= not lasting
        self._start.failed(lasting=lasting)
        wait_s = None if self._stopped else self.retries.wait_s(unit.number, result.budget or failure.kind, result.retry_after_s)
        self.report.failed(failure, wait_s)
        if wait_s is None:
            self.queue.settle()
        else:
            self.queue.retry(unit, wait_s)
        inventory = self.outcomes.inventory
        task = unit.number // inventory.repeats if len(inventory.tasks) > 1 else unit.number
        if reason := self.limit.reached(task, failure, final=wait_s is None, known=known):
            raise _stopped_by(result, reason, self.path)

    async def _compare(self, group: str) -> None:
        """Compare a complete group. An environment's failure is recorded, and the next collection tries again."""
        try:
            await self.groups.compare(group)
        except OpenRewardGymError as error:
            if isinstance(error, StoreError) or (isinstance(error, ConfigurationError) and not self.groups.proven):
                raise
            failure = Failure(
                source="environment",
                kind="score_group_failed",
                stage="score_group",
                exception=f"{type(error).__module__}.{type(error).__qualname__}",
                message=str(error),
                task=group,
            ).redacted(self.groups.plan.redactor)
            self.store.append_failure(failure)
            self.report.not_compared(group, failure.message)


async def _inventory(plan: RunPlan, report: Reporter, stop: StopSignal) -> Inventory:
    """Return the run's inventory. A server that does not answer is shown, as during the collection, and does not hold a stop."""
    watch = Servers(plan).environment

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK_S)
            report.servers([watch.state()])

    async def ask() -> Inventory:
        with retries_heard_by(lambda error, wait_s: watch.note_error(str(error))):
            inventory = await plan.inventory()
            await check_score_groups(plan)
            return inventory

    watch.begin()
    ticker, question = asyncio.create_task(tick()), asyncio.create_task(ask())

    def give_up(mode: StopMode) -> None:
        asyncio.get_running_loop().call_later(STOP_GRACE_S, question.cancel)

    stop.listen(give_up)
    try:
        await asyncio.wait([question])
    finally:
        ticker.cancel()
        question.cancel()
        await asyncio.wait([question])
    if question.cancelled():
        server = watch.state().address
        raise OpenRewardGymError(
            f"the collection was stopped before {server} had listed the tasks of {plan.environment!r}: nothing was played"
        )
    return question.result()


def _stopped_by(result: AttemptResult, reason: str, path: Path) -> OpenRewardGymError:
    """Return the error that ends a collection for the failures that it had."""
    failure, error = result.failure, result.error
    assert failure is not None
    if error is None:
        error = (PolicyError if failure.source == "policy" else ServerError)(failure.message)
    error.args = (
        f"{error}\nThe collection stopped: {reason}. When the cause is mended, continue {path} with resume=True (--resume). "
        "fail_on_error=0 (--fail-on-error 0) plays on in spite of failures.",
    )
    return error


class _RunFolder:
    """Context manager for the run's folder. Nothing is left of a new run that a wrong option ended before anything was played."""

    def __init__(self, output: str | os.PathLike[str] | None, environment: str) -> None:
        first = Path("runs") if output is None else Path(output)
        missing = [folder for folder in (first, *first.parents) if not folder.exists()]
        self.path = first if output is not None else _new_folder(environment)
        self._is_new = output is None or bool(missing) or (first.is_dir() and not any(first.iterdir()))
        # The innermost one first.
        self._made = missing if output is not None else [self.path, *missing]

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        played = any(self.path.glob("rollouts/*")) or any(self.path.glob("failures/*"))
        if self._is_new and isinstance(error, ConfigurationError) and not played:
            for entry in self.path.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            for folder in self._made:
                with contextlib.suppress(OSError):  # another process uses it
                    folder.rmdir()


async def _finish_upload(uploader: Uploader, path: Path, report: Reporter, stop: StopSignal) -> UploadReport:
    """Wait until everything is sent, the uploader gives up or `stop` stops at once, then report the state."""
    uploader.wake()
    while stop.mode != "now" and not await asyncio.to_thread(uploader.wait_settled, UPLOAD_POLL_S):
        pass
    state = await asyncio.to_thread(uploader.close, 0.0)
    report.say(f"upload: {state}")
    if not state.complete:
        report.say(f"the run keeps what was not sent; send it with: openreward-gym upload {shlex.quote(str(path))}")
    return state


@contextlib.contextmanager
def _stopped_by_signals(stop: StopSignal) -> Iterator[None]:
    """Let signals stop a collection, as `collect_run` says. Only the main thread can handle signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    owner = process_id()

    def handle(number: int, frame: FrameType | None) -> None:
        if process_id() != owner:
            # A forked child of a policy has inherited this handler. The signal ends it as if there were none.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif number == signal.SIGINT and not stop.mode:
            stop.drain()
        else:
            stop.now()

    # `nohup` and background jobs of some shells start a program with an ignored signal, which stays ignored.
    heeded = [number for number in (signal.SIGINT, *loop.ENDING_SIGNALS) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _new_folder(environment: str) -> Path:
    """Make a new folder under `runs/`, named after the environment and the time."""
    name = re.sub(r"[^\w.-]+", "-", environment).strip("-")
    stem = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    path, number = Path("runs", stem), 0
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1
            path = path.with_name(f"{stem}-{number}")
        except OSError as error:
            raise StoreError(f"cannot make {path}: {error.strerror or error}") from None
