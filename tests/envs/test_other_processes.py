"""Objects of one process in another one: refused at once under fork, fresh or refused by name under forkserver and spawn."""

from __future__ import annotations

import asyncio
import gc
import importlib
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from fault_server import FaultServer, running

from openreward_gym import Client, OpenRewardEnv, OpenRewardVectorEnv, Recorder, RolloutStore, UserMessage
from openreward_gym.collect import StopSignal
from openreward_gym.errors import ConfigurationError, SessionLostError
from openreward_gym.platform import Uploader
from openreward_gym.protocol.loop import run
from openreward_gym.wrappers import RecordRollouts

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]

CALL = {"name": "step", "arguments": {}}
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Subject:
    """An object of the parent, ways to use it that a child must not have, and its end."""

    make: Callable[[str, Path], Any]
    uses: dict[str, Callable[[Any], object]]
    close: Callable[[Any], object]


def _env(url: str, path: Path) -> Any:
    env = OpenRewardEnv("fault", base_url=url, render_mode="ansi")
    env.reset(seed=0)
    return env


def _vector(url: str, path: Path) -> Any:
    envs = OpenRewardVectorEnv(2, environment="fault", base_url=url)
    envs.reset(seed=0)
    return envs


def _busy_vector(url: str, path: Path) -> Any:
    envs = _vector(url, path)
    envs.send([{"name": "slow", "arguments": {"seconds": 1}}] * 2)
    return envs


CLIENTS: list[Client] = []


def _made(url: str) -> Client:
    CLIENTS.append(Client(url))
    return CLIENTS[-1]


async def _opened(url: str) -> Any:
    session = _made(url).environment("fault").session(split="train", index=0)
    await session.open()
    return session


def _client(url: str, path: Path) -> Any:
    client = _made(url)
    run(client.list_environments())
    return client


def _log(url: str, path: Path) -> Any:
    log = Recorder(path / "run").create(rollout_name="parent")
    log.log(UserMessage("x"))
    return log


SUBJECTS = {
    "env": Subject(
        _env,
        {
            "step": lambda env: env.step(CALL),
            "reset": lambda env: env.reset(seed=1),
            "render": lambda env: env.render(),
            "end_session": lambda env: run(env.end_session()),
        },
        lambda env: env.close(),
    ),
    "wrapped env": Subject(
        lambda url, path: RecordRollouts(_env(url, path), path / "run"),
        {"step": lambda env: env.step(CALL), "reset": lambda env: env.reset(seed=1)},
        lambda env: env.close(),
    ),
    "closing env": Subject(_env, {}, lambda env: run(env.aclose())),
    "vector env": Subject(
        _vector,
        {
            "reset": lambda envs: envs.reset(seed=1),
            "step": lambda envs: envs.step([CALL, CALL]),
            "async_reset": lambda envs: envs.async_reset(),
            "cancel": lambda envs: envs.cancel(),
            "call": lambda envs: envs.get_attr("session_id"),
        },
        lambda envs: envs.close(),
    ),
    "busy vector env": Subject(_busy_vector, {"recv": lambda envs: envs.recv(2)}, lambda envs: envs.close()),
    "client": Subject(
        _client,
        {
            "health": lambda client: run(client.health()),
            "list_environments": lambda client: run(client.list_environments()),
            "environment": lambda client: client.environment("fault"),
        },
        lambda client: run(client.aclose()),
    ),
    "environment of a client": Subject(
        lambda url, path: _client(url, path).environment("fault"),
        {
            "splits": lambda environment: run(environment.splits()),
            "session": lambda environment: environment.session(split="train", index=0),
        },
        lambda environment: None,
    ),
    "session": Subject(
        lambda url, path: run(_opened(url)),
        {
            "call": lambda session: run(session.call("step")),
            "prompt": lambda session: run(session.prompt()),
            "tools": lambda session: run(session.tools()),
            "ping": lambda session: run(session.ping()),
        },
        lambda session: run(session.close()),
    ),
    "session that is not open": Subject(
        lambda url, path: _client(url, path).environment("fault").session(split="train", index=0),
        {"open": lambda session: run(session.open())},
        lambda session: run(session.close()),
    ),
    "recorder": Subject(
        lambda url, path: Recorder(path / "run"),
        {"create": lambda recorder: recorder.create(), "flush": lambda recorder: recorder.flush()},
        lambda recorder: recorder.close(),
    ),
    "rollout log": Subject(_log, {"log": lambda log: log.log(UserMessage("y"))}, lambda log: log.close()),
    "uploader": Subject(
        lambda url, path: Uploader(path / "run", base_url=url),
        {"wake": lambda uploader: uploader.wake(), "flush": lambda uploader: uploader.flush(1.0)},
        lambda uploader: uploader.close(),
    ),
    "stop signal": Subject(lambda url, path: StopSignal(), {"now": lambda stop: stop.now()}, lambda stop: None),
}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with running() as server:
        yield server
        while CLIENTS:
            run(CLIENTS.pop().aclose())


def _report(pipe: Connection, use: Callable[[Any], object], subject: Any) -> None:
    try:
        answer = f"gave {use(subject)!r}"
    except BaseException as error:
        answer = f"{type(error).__name__}: {error}"
    pipe.send(answer)


def in_child(method: str, use: Callable[[Any], object], subject: Any) -> str:
    """Use an object in a child; return what came of it."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    if method == "os.fork":
        child = os.fork()
        if child == 0:
            try:
                _report(sender, use, subject)
            finally:
                os._exit(0)
        answer = receiver.recv() if receiver.poll(PATIENCE_S) else "hung"
        os.kill(child, 9)
        os.waitpid(child, 0)
        return answer
    process = multiprocessing.get_context("fork").Process(target=_report, args=(sender, use, subject))
    process.start()
    answer = receiver.recv() if receiver.poll(PATIENCE_S) else "hung"
    process.kill()
    process.join()
    return answer


@pytest.mark.parametrize("method", ["os.fork", "multiprocessing"])
@pytest.mark.parametrize("name", SUBJECTS)
def test_a_forked_child_is_refused_at_once(server: FaultServer, tmp_path: Path, name: str, method: str) -> None:
    subject = SUBJECTS[name]
    made = subject.make(server.url, tmp_path)
    before = set(server.sessions)
    for use, way in subject.uses.items():
        answer = in_child(method, way, made)
        assert answer.startswith("ConfigurationError: this "), (use, answer)
        assert f"belongs to process {os.getpid()}, and this is another process" in answer, (use, answer)
    assert in_child(method, subject.close, made).startswith("gave "), "closing is silent"
    assert server.executed["delete"] == 0
    assert set(server.sessions) == before
    subject.close(made)


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_pickle_is_a_fresh_object_or_a_named_error(server: FaultServer, tmp_path: Path, name: str) -> None:
    made = SUBJECTS[name].make(server.url, tmp_path)
    if "env" in name.split() and "vector" not in name:
        copy = pickle.loads(pickle.dumps(made))
        assert copy.unwrapped.session_id is None
        assert copy.reset(seed=0)[0]
        assert copy.unwrapped.session_id != made.unwrapped.session_id
        copy.close()
    else:
        with pytest.raises(ConfigurationError, match=r"cannot be pickled .* make another|cannot be pickled .* (open|stop) "):
            pickle.dumps(made)
    SUBJECTS[name].close(made)


def _play(pipe: Connection, env: gymnasium.Env[Any, Any]) -> None:
    env.reset(seed=0)
    reward = env.step(CALL)[1]
    env.close()
    pipe.send(reward)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("used", [False, True])
def test_an_env_that_is_passed_to_a_child(server: FaultServer, tmp_path: Path, method: str, used: bool) -> None:
    env = RecordRollouts(OpenRewardEnv("fault", base_url=server.url), tmp_path / "run")
    if used and method != "fork":
        env.reset(seed=0)
        env.step(CALL)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=_play, args=(sender, env))
    process.start()
    assert receiver.poll(60), "no answer of the child"
    assert receiver.recv() == 1.0
    process.join()
    # The child's unfinished episode is in a shard of its own.
    assert [rollout.status for rollout in RolloutStore(tmp_path / "run")] == ["cancelled"]
    if used and method != "fork":
        assert env.step(CALL)[1] == 1.0
    env.close()
    assert not server.sessions


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_client_is_not_passed_to_a_child(server: FaultServer, method: str) -> None:
    client = _client(server.url, Path())
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=print, args=(client,))
    with pytest.raises(ConfigurationError, match="a client cannot be pickled"):
        process.start()


@pytest.mark.parametrize("name", ["recorder", "rollout log"])
def test_a_lock_that_another_thread_holds_at_the_fork(tmp_path: Path, name: str) -> None:
    subject = SUBJECTS[name]
    made = subject.make("", tmp_path)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with made._lock:
            held.set()
            release.wait(PATIENCE_S)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(PATIENCE_S)
    for use in subject.uses.values():
        assert in_child("os.fork", use, made).startswith("ConfigurationError")
    assert in_child("os.fork", subject.close, made).startswith("gave ")
    release.set()
    thread.join()


PROGRAM = """
import gc, os, sys
from openreward_gym import Client, OpenRewardEnv, OpenRewardVectorEnv, Recorder, UserMessage
from openreward_gym.protocol.loop import run
from openreward_gym.wrappers import RecordRollouts

url, folder = sys.argv[1:]
CALL = {"name": "step", "arguments": {}}
env = RecordRollouts(OpenRewardEnv("fault", base_url=url), folder)
env.reset(seed=0)
env.step(CALL)
envs = OpenRewardVectorEnv(2, environment="fault", base_url=url)
envs.reset(seed=0)
recorder = Recorder(folder)
log = recorder.create(rollout_name="logged")
log.log(UserMessage("x"))

async def opened():
    session = Client(url).environment("fault").session(split="train", index=0)
    await session.open()
    return session

session = run(opened())
child = os.fork()
if child == 0:
    del env, envs, recorder, log, session
    gc.collect()
    own = OpenRewardEnv("fault", base_url=url)
    own.reset(seed=0)
    print("own", own.step(CALL)[1], flush=True)
    own.close()
    sys.exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print("child", code, "parent", env.step(CALL)[1], run(session.call("step")).reward, flush=True)
envs.close()
"""


def test_garbage_and_the_exit_of_a_child_delete_and_write_nothing(server: FaultServer, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, str(script), server.url, str(tmp_path / "run")], capture_output=True, text=True, timeout=90
    )
    assert "own 1.0" in ran.stdout, ran.stderr
    assert "child 0 parent 1.0 1.0" in ran.stdout, ran.stderr
    assert not server.sessions
    assert server.executed["delete"] == server.executed["create"] == 5
    assert sorted(rollout.name or "" for rollout in RolloutStore(tmp_path / "run")) == ["", "logged"]


def test_a_copy_of_a_run_outlives_a_child_that_read_it(tmp_path: Path) -> None:
    fsspec: Any = importlib.import_module("fsspec")
    fsspec.filesystem("memory").pipe_file("/copied/rollouts/a.jsonl", b"")
    store = RolloutStore("memory://copied")
    assert len(store) == 0
    cache = store._folders[0]._cache
    assert cache is not None

    def forget(store: RolloutStore) -> None:
        folder = store._folders.pop()
        del folder
        store._indexes.clear()
        gc.collect()

    assert in_child("os.fork", forget, store) == "gave None"
    assert cache.is_dir()


def test_a_session_that_another_event_loop_closes(server: FaultServer) -> None:
    session = run(_opened(server.url))

    def play() -> None:
        with pytest.raises(SessionLostError):
            run(session.call("slow", {"seconds": 30}))

    call = threading.Thread(target=play)
    call.start()
    deadline = time.monotonic() + PATIENCE_S
    while server.executed["slow"] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    async def end() -> None:
        await session.close()
        # The client has a connection of this event loop, too, which ends here.
        await CLIENTS.pop().aclose()

    asyncio.run(end())
    call.join(PATIENCE_S)
    assert not call.is_alive()
    assert not server.sessions
