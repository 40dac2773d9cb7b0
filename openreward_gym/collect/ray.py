"""Playing a run's attempts in Ray actors, on the cores of one machine or on a cluster.

The driver holds the run's lock, hands out attempts as others finish, and decides on retries. Each worker plays attempts and
writes their rollouts to its own shard in the run's folder, which every machine must see under the same path.

Ray notices a dead node late, and its own calls may block for minutes when its head is gone. So the driver pings its workers and
asks for the nodes itself, waits for no call of Ray without a limit, and makes those that may block in threads of their own.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import importlib
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from openreward_gym.collect.inventory import Unit
from openreward_gym.collect.player import AttemptResult
from openreward_gym.collect.ray_worker import RayWorker, last_line, pickle_options, ray_module, without_messages, worker_count
from openreward_gym.collect.run_folder import RunLock, exclude_worker
from openreward_gym.collect.silence import News, merge_news
from openreward_gym.credentials import sealing_key
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import RunOptions
from openreward_gym.store import Failure, RolloutStore
from openreward_gym.store.folder import LocalFolder
from openreward_gym.store.index import ShardIndex
from openreward_gym.types import Rollout

__all__ = ["RayPlayer", "pickle_options"]

T = TypeVar("T")

AttemptKey: TypeAlias = tuple[str | None, int | None, int | None]
"""The (group, sample, attempt) of a rollout."""

NEWS_S = 2.0
"""Seconds that a worker has to report on its attempts in flight."""
POLL_S = 1.0
"""Seconds between two looks at the workers."""
QUIET_S = 4.0
"""Seconds without an answer after which a worker of this machine is looked up among its processes."""
SILENT_S = 10.0
"""Seconds without an answer after which the progress says so."""
LOST_S = 60.0
"""Seconds without an answer after which a worker counts as lost, whatever Ray says of its node."""
NO_WORKER_S = 60.0
"""Seconds without any worker after which the run stops."""
HEAD_S = 40.0
"""Seconds without an answer of Ray's head after which the run stops. After 60, Ray ends this process."""
CLOSE_S = 5.0
"""Seconds that the workers have to close their sessions."""
KILL_S = 2.0
SHUTDOWN_S = 8.0
REPLACE_S = 10.0
"""Seconds that the attempts of a dead process wait for the process in its place."""
RETIRE_S = 10.0
"""Seconds to read what a lost worker wrote."""

# A Ray that this module starts notices a dead node within seconds, and does not end this process when its head is gone.
SYSTEM_CONFIG: Mapping[str, int] = {
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 2000,
    "health_check_failure_threshold": 3,
    "gcs_rpc_server_reconnect_timeout_s": 600,
}


class Stop(Protocol):
    """The part of a collection's `StopSignal` that this module uses."""

    @property
    def mode(self) -> str: ...

    def now(self) -> None: ...


@dataclasses.dataclass(slots=True, eq=False)
class _WorkerHandle:
    """The driver's view of a worker."""

    actor: Any
    host: str
    pid: int
    node: str
    identity: str
    lost: asyncio.Future[Loss]
    """Settled when the worker is lost."""
    in_flight: int = 0
    """Number of attempts that it plays now."""
    answered_at: float = dataclasses.field(default_factory=time.monotonic)
    ping: asyncio.Future[None] | None = None
    is_silent: bool = False
    """True if the progress says that it does not answer."""
    written: asyncio.Task[dict[AttemptKey, Rollout]] | None = None
    """Reads the rollouts that a lost worker wrote. None while it lives."""
    replacing: asyncio.Task[None] | None = None
    """Starts the worker in the place of a lost one. None while it lives."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a worker. With `of_node`, all workers of its node are lost, and no attempt of theirs is the cause."""

    message: str
    of_node: bool = False


class RayPlayer:
    """Plays attempts in actors. An actor that is lost is replaced, and its attempts fail with the kind "worker_lost".

    If no worker can be had, or Ray's head is gone, `say` gets the reason, and `stop` stops the collection.
    """

    def __init__(
        self, options: RunOptions, job: bytes, store: RolloutStore, lock: RunLock, say: Callable[[str], None], stop: Stop
    ) -> None:
        self._options = options
        self._folder = Path(store.path).absolute()
        path = [os.getcwd(), *filter(None, sys.path)]
        self._arguments = (path, sealing_key(), job, str(self._folder), store.run, dict(lock.holder))
        self._say = say
        self._stop = stop
        self._ray = ray_module()
        self._workers: list[_WorkerHandle] = []
        self._starting: list[Any] = []
        self._ready = 0
        self._replacing: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._nodes: asyncio.Task[Mapping[str, bool]] | None = None
        self._node_requested_at = 0.0
        self._is_head_silent = False
        self._own_node = ""
        self._changed = asyncio.Event()
        self._error: ConfigurationError | None = None
        self._empty_since: float | None = None
        self._is_over = False
        self._started_ray = threading.Event()
        self._ended_ray = threading.Event()

    @classmethod
    async def start(
        cls, options: RunOptions, job: bytes, store: RolloutStore, lock: RunLock, say: Callable[[str], None], stop: Stop
    ) -> RayPlayer:
        """Start Ray, unless it runs already, and the workers, which get the options as `pickle_options` returns them (`job`).

        If `stop` is set meanwhile, a player without workers is returned: nothing is played any more.
        """
        player = cls(options, job, store, lock, say, stop)
        starting = asyncio.ensure_future(player._start())
        try:
            began = time.monotonic()
            while not starting.done() and not stop.mode:
                await asyncio.wait({starting}, timeout=0.25)
                if time.monotonic() - began >= SILENT_S and not starting.done():
                    began = math.inf
                    count = f"{player._ready} of {worker_count(options)}"
                    say(f"waiting for Ray: {count} workers have started (does the cluster have the resources that they request?)")
            if starting.done():
                starting.result()
        except BaseException:
            await player.aclose()
            raise
        finally:
            starting.cancel()
            await asyncio.wait({starting})
        return player

    async def _start(self) -> None:
        if not self._ray.is_initialized():
            # Join the cluster that RAY_ADDRESS names, or start one on this machine, without log output.
            address = os.environ.get("RAY_ADDRESS")
            local = {"address": "local", "_system_config": dict(SYSTEM_CONFIG)}
            cluster: dict[str, Any] = {"address": address} if address else local
            options = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False, **cluster}
            if address:
                del options["include_dashboard"]
            self._started_ray.set()
            try:
                # Linux ends the processes of Ray with the thread that started them.
                await _in_thread(lambda: self._ray.init(**options), hold=self._ended_ray)
            except (self._ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
                where = f"at RAY_ADDRESS={address}" if address else "on this machine"
                raise ConfigurationError(f"Ray could not be started {where}: {last_line(error)}") from None
            _stop_messages()
        self._own_node = str(self._ray.get_runtime_context().get_node_id())
        for worker in await asyncio.gather(*(self._start_worker() for _ in range(worker_count(self._options)))):
            self._add(worker)
        self._watching = asyncio.create_task(self._watch())

    async def _start_worker(self) -> _WorkerHandle:
        max_concurrency = self._options.concurrency + self._options.prefetch + 8
        # A worker waits for servers nearly all the time, so it reserves no CPU unless the user asks for one.
        options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": "SPREAD", "max_concurrency": max_concurrency}
        options |= self._options.ray_options or {}
        actor: Any = None
        try:
            actor_class = self._ray.remote(concurrency_groups={"health": 1})(RayWorker)
            actor = await _in_thread(lambda: actor_class.options(**options).remote(*self._arguments))
            self._starting.append(actor)
            host, pid, node, identity = await actor.describe.remote()
            self._ready += 1
            return _WorkerHandle(actor, host, pid, node, identity, asyncio.get_running_loop().create_future())
        except (self._ray.exceptions.RayError, ValueError, TypeError) as error:
            cause = getattr(error, "cause", None) or error
            raise ConfigurationError(f"a Ray worker could not be started: {last_line(cause)}") from None
        finally:
            if actor in self._starting and not asyncio.current_task().cancelling():  # type: ignore[union-attr]
                self._starting.remove(actor)

    def _add(self, worker: _WorkerHandle) -> None:
        worker.answered_at = time.monotonic()
        self._workers.append(worker)
        self._empty_since = None
        self._changed.set()

    async def play(self, unit: Unit, attempt: int) -> AttemptResult:
        """Play an attempt on the least busy worker; see `Player`."""
        while not self._workers:
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        worker = min(self._workers, key=lambda one: (one.is_silent, one.in_flight))
        worker.in_flight += 1
        call = asyncio.ensure_future(_result(worker.actor.play.remote(unit, attempt)))
        try:
            await asyncio.wait({call, worker.lost}, return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                result: AttemptResult = call.result()
                return result
        except self._ray.exceptions.RayActorError:
            await self._died(worker)
        except self._ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        finally:
            call.cancel()
            worker.in_flight -= 1
        return await self._lost(worker, unit, attempt)

    async def _died(self, worker: _WorkerHandle) -> None:
        """Note the loss of a worker that Ray says is dead: its process alone, or its node."""
        with contextlib.suppress(Exception):  # without an answer, the process alone is taken for dead
            self._compare_nodes(await _in_thread(self._node_states, KILL_S))
        self._lose(worker, Loss(f"worker process {worker.pid} on {worker.host} died (killed, or out of memory)"))

    async def _lost(self, worker: _WorkerHandle, unit: Unit, attempt: int) -> AttemptResult:
        """Return the result of a lost worker's attempt. It may have written the rollout before it was lost."""
        assert worker.written is not None
        loss = worker.lost.result()
        if worker.replacing is not None and not loss.of_node:
            # Played again before there is a replacement, the attempts would crowd the other workers.
            await asyncio.wait({worker.replacing}, timeout=REPLACE_S)
        rollout = (await asyncio.shield(worker.written)).get((unit.group, unit.sample, attempt))
        if rollout is not None:
            return AttemptResult(rollout)
        failure = Failure(
            source="client",
            kind="worker_lost",
            stage="play",
            attempt=attempt,
            message=loss.message,
            task=unit.group,
            sample=unit.sample,
        )
        return AttemptResult(failure=failure, budget="node_lost" if loss.of_node else None)

    def _lose(self, worker: _WorkerHandle, loss: Loss) -> None:
        """Take a worker out of use: nothing that it writes from now on counts, and another one replaces it."""
        if worker.lost.done():
            return
        worker.lost.set_result(loss)
        if worker.ping is not None and worker.ping is not asyncio.current_task():
            worker.ping.cancel()
        self._workers.remove(worker)
        worker.written = asyncio.create_task(self._retire(worker))
        if self._is_over:
            return
        if not self._workers:
            self._empty_since = time.monotonic()
        worker.replacing = asyncio.create_task(self._replace())
        self._replacing.add(worker.replacing)
        worker.replacing.add_done_callback(self._replacing.discard)

    async def _retire(self, worker: _WorkerHandle) -> dict[AttemptKey, Rollout]:
        """Exclude a worker from writing, and return what it wrote before."""

        def retire() -> dict[AttemptKey, Rollout]:
            exclude_worker(self._folder, worker.identity)
            with contextlib.suppress(Exception):  # it is gone already, or Ray is
                threading.Thread(target=self._ray.kill, args=(worker.actor,), daemon=True).start()
            return _written_by(self._folder, worker.pid)

        try:
            return await _in_thread(retire, RETIRE_S)
        except TimeoutError:
            return {}

    async def _replace(self) -> None:
        """Start a worker in the place of a lost one; after three failures, go on without."""
        for pause_s in (1.0, 5.0, 0.0):
            try:
                worker = await self._start_worker()
            except ConfigurationError as error:
                problem = error
                await asyncio.sleep(pause_s)
                continue
            self._add(worker)
            return
        self._say(f"a lost Ray worker was not replaced: {problem}")
        if not self._workers and len(self._replacing) == 1:
            self._error = problem
            self._changed.set()

    async def _watch(self) -> None:
        """Ping the workers and ask for the nodes, until the player is closed."""
        while True:
            await asyncio.sleep(POLL_S)
            now = time.monotonic()
            for worker in list(self._workers):
                self._check(worker, now)
            reason = self._head_problem(now)
            if reason is None and self._empty_since is not None and now - self._empty_since >= NO_WORKER_S:
                reason = f"no Ray worker could be started for {NO_WORKER_S:.0f} s"
            if reason is not None:
                await self._give_up(reason)
                return

    def _check(self, worker: _WorkerHandle, now: float) -> None:
        """Take in a worker's answer to the last ping, and ping it again; lose it after a long silence."""
        answer = worker.ping
        if answer is None or answer.done():
            if answer is not None and not answer.cancelled():
                if answer.exception() is None:
                    worker.answered_at, worker.is_silent = now, False
                elif isinstance(answer.exception(), self._ray.exceptions.RayActorError):
                    # It plays nothing now, or `play` learns of it, too.
                    worker.ping = asyncio.create_task(self._died(worker))
                    return
            ping = worker.actor.ping.options(concurrency_group="health").remote()
            worker.ping = asyncio.ensure_future(_result(ping))
        silence_s = now - worker.answered_at
        name = f"Ray worker {worker.pid} on {worker.host}"
        if silence_s >= QUIET_S and worker.host == socket.gethostname() and not _exists(worker.pid):
            # Of a process that died alone, its node had told Ray before.
            self._say(f"{name} is gone, probably with its node")
            self._lose(worker, Loss(f"{name} is gone, probably with its node", of_node=True))
        elif silence_s >= LOST_S:
            self._say(f"{name} does not answer for {silence_s:.0f} s: its attempts are played again")
            self._lose(worker, Loss(f"{name} did not answer for {silence_s:.0f} s", of_node=True))
        elif silence_s >= SILENT_S and not worker.is_silent:
            worker.is_silent = True
            self._say(f"{name} does not answer for {silence_s:.0f} s")

    def _node_states(self) -> dict[str, bool]:
        """Return whether each node lives, by its id."""
        return {node["NodeID"]: bool(node["Alive"]) for node in self._ray.nodes()}

    def _head_problem(self, now: float) -> str | None:
        """Compare the workers with the nodes that Ray names. Return why the run cannot go on; None if it can."""
        if self._nodes is None:
            self._node_requested_at = now
            self._nodes = asyncio.ensure_future(_in_thread(self._node_states))
        if self._nodes.done():
            request, self._nodes = self._nodes, None
            if request.exception() is None:
                self._is_head_silent = False
                return self._compare_nodes(request.result())
            # The time of the first request that failed stays.
            self._nodes = asyncio.ensure_future(_in_thread(self._node_states))
        silence_s = now - self._node_requested_at
        if silence_s >= HEAD_S:
            return f"the head of the Ray cluster does not answer for {silence_s:.0f} s"
        if silence_s >= SILENT_S and not self._is_head_silent:
            self._is_head_silent = True
            self._say(f"the head of the Ray cluster does not answer for {silence_s:.0f} s")
        return None

    def _compare_nodes(self, living: Mapping[str, bool]) -> str | None:
        """Lose the workers of dead nodes. Return why the run cannot go on; None if it can."""
        for worker in list(self._workers):
            if not living.get(worker.node, False) and worker in self._workers:
                self._lose_node(worker.node, f"Ray node {worker.node[:8]} on {worker.host} is gone")
        if not living.get(self._own_node, False):
            # Ray ends all workers of a driver whose own node is dead.
            return f"the Ray node of this process, {self._own_node[:8]}, is gone"
        return None

    def _lose_node(self, node: str, message: str) -> None:
        workers = [worker for worker in self._workers if worker.node == node]
        in_flight = sum(worker.in_flight for worker in workers)
        self._say(f"{message}; attempts in flight on it: {in_flight}")
        for worker in workers:
            self._lose(worker, Loss(f"{message}; worker process {worker.pid} was lost with it", of_node=True))

    async def _give_up(self, reason: str) -> None:
        """Stop the collection. Attempts in flight fail first, so that the run's files say what became of them."""
        self._is_over = True
        self._say(f"the collection stops: {reason}. Continue it with --resume when Ray works again")
        for worker in list(self._workers):
            self._lose(worker, Loss(f"{reason}; worker process {worker.pid} on {worker.host} was lost", of_node=True))
        await asyncio.sleep(POLL_S)
        self._stop.now()

    async def news(self) -> News:
        """Return the news of all workers that answer in time; see `Player`."""
        asking = [asyncio.ensure_future(_news_of(worker.actor)) for worker in self._workers]
        if not asking:
            return News()
        done, late = await asyncio.wait(asking, timeout=NEWS_S)
        for task in late:
            task.cancel()
        return merge_news(task.result() for task in done)

    async def aclose(self) -> None:
        """Close the workers, and kill those that take too long; see `Player`."""
        self._is_over = True
        tasks: list[asyncio.Future[Any]] = [task for task in (self._watching, self._nodes, *self._replacing) if task is not None]
        tasks += [worker.ping for worker in self._workers if worker.ping is not None]
        for task in tasks:
            task.cancel()
        answering = [worker for worker in self._workers if time.monotonic() - worker.answered_at < QUIET_S]
        closing = [asyncio.ensure_future(_close(worker.actor)) for worker in answering]
        if closing:
            _, tasks_left = await asyncio.wait(closing, timeout=CLOSE_S)
            tasks += tasks_left
            for task in tasks_left:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        actors = [*self._starting, *(worker.actor for worker in self._workers)]
        self._workers, self._starting = [], []
        with contextlib.suppress(TimeoutError):
            await _in_thread(lambda: self._kill(actors), KILL_S)
        if self._started_ray.is_set():
            try:
                await _in_thread(self._ray.shutdown, SHUTDOWN_S)
            except TimeoutError:
                # It would hang at the end of the process, too.
                atexit.unregister(self._ray.shutdown)
            self._ended_ray.set()

    def _kill(self, actors: Iterable[Any]) -> None:
        for actor in actors:
            with contextlib.suppress(Exception):  # it is dead already, or Ray is
                self._ray.kill(actor)


async def _in_thread(function: Callable[[], T], limit_s: float | None = None, hold: threading.Event | None = None) -> T:
    """Run a call that may block for ever in a daemon thread, which does not delay the end of the process.

    Args:
        function: The call.
        limit_s: Seconds until TimeoutError is raised here; the thread goes on. None waits.
        hold: The thread lives on until this event. None lets it end with the call.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def run() -> None:
        value: T | None = None
        problem: BaseException | None = None
        try:
            value = function()
        except BaseException as error:
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, value, problem)
        if hold is not None:
            hold.wait()

    threading.Thread(target=run, name="openreward-gym-ray", daemon=True).start()
    async with asyncio.timeout(limit_s):
        return await future


async def _result(reference: Any) -> Any:
    return await reference


async def _news_of(actor: Any) -> News:
    try:
        news: News = await actor.news.remote()
    except Exception:  # a worker that is dead has none; `play` notices it
        return News()
    return news


async def _close(actor: Any) -> None:
    with contextlib.suppress(Exception):  # a worker that cannot close is killed
        await actor.close.remote()


def _stop_messages() -> None:
    """Let Ray print no messages of its nodes to this process's standard output, where they break lines of JSON events.

    Ray has no option for it. Where this does not work, the messages are printed.
    """
    with contextlib.suppress(Exception):  # private parts of Ray, which another version may not have
        worker = importlib.import_module("ray._private.worker").global_worker
        worker.threads_stopped.set()
        worker.gcs_error_subscriber.close()


def _exists(pid: int) -> bool:
    """Return whether this machine has a process of that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _written_by(folder: Path, pid: int) -> dict[AttemptKey, Rollout]:
    """Read the complete lines of a dead worker's shards, which are named `<time>-<host>-<pid>-<rand>`."""
    index = ShardIndex(LocalFolder(folder), "rollouts")
    index.refresh()
    rollouts: dict[AttemptKey, Rollout] = {}
    for stem, count in index.counts():
        if stem.split("-")[-2:-1] == [str(pid)]:
            for _, line in index.lines(stem, count):
                rollout = without_messages(Rollout.from_line(line))
                rollouts[rollout.group, rollout.sample, rollout.attempt] = rollout
    return rollouts
