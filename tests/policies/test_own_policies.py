"""Policies of one's own: any callable works or is refused before anything is played; mistakes are shown with their place."""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import openreward_gym
from openreward_gym import collect
from openreward_gym.errors import ConfigurationError, PolicyError
from openreward_gym.policies import resolve
from openreward_gym.policies.baselines import RandomPolicy
from openreward_gym.policies.policy import policy_of_episode, policy_settings
from openreward_gym.store.records import Failure
from openreward_gym.types import AssistantMessage, Message, Task, ToolCall, ToolMessage, ToolSet, ToolSpec, UserMessage
from openreward_gym.user_traceback import traceback_text

RIGHT = AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"})])
DICT = {"name": "finish", "arguments": {"text": "right"}}


def plain(transcript: Any, tools: ToolSet) -> AssistantMessage:
    assert threading.current_thread().name == "openreward-gym policy"
    return RIGHT


async def coroutine(transcript: Any, tools: ToolSet) -> AssistantMessage:
    return RIGHT


def awaitable(transcript: Any, tools: ToolSet) -> Any:
    return coroutine(transcript, tools)


def with_extra(extra: str, transcript: Any, tools: ToolSet) -> AssistantMessage:
    return RIGHT


def as_dict(transcript: Any, tools: ToolSet) -> Any:
    return DICT


class Callable_:
    def __call__(self, transcript: Any, tools: ToolSet) -> AssistantMessage:
        return RIGHT

    def play(self, transcript: Any, tools: ToolSet) -> AssistantMessage:
        return RIGHT


class AsyncCallable:
    async def __call__(self, transcript: Any, tools: ToolSet) -> AssistantMessage:
        return RIGHT


class Episodic:
    def begin(self, task: Task, sample: int, seed: int) -> Any:
        return plain


def play(server_url: str, output: Path, policy: Any, **arguments: Any) -> Any:
    return collect("echo", policy, base_url=server_url, output=output, **{"tasks": "0:2", "progress": False, **arguments})


@pytest.mark.parametrize(
    "policy",
    [
        plain,
        coroutine,
        awaitable,
        as_dict,
        functools.partial(with_extra, "x"),
        lambda transcript, tools: RIGHT,
        Callable_(),
        Callable_,
        Callable_().play,
        AsyncCallable(),
        AsyncCallable,
        Episodic(),
        Episodic,
    ],
)
def test_any_callable_plays(server_url: str, tmp_path: Path, policy: Any) -> None:
    result = play(server_url, tmp_path / "run", policy)
    assert [rollout.reward for rollout in result.store] == [1.0, 1.0]


def test_plain_functions_may_block_without_holding_others_up(server_url: str, tmp_path: Path) -> None:
    barrier = threading.Barrier(40, timeout=30)  # more than a thread pool of this machine has

    def blocks(transcript: Any, tools: ToolSet) -> AssistantMessage:
        barrier.wait()
        return RIGHT

    assert play(server_url, tmp_path / "run", blocks, repeats=20, concurrency=40, fail_on_error=0).coverage.complete


def generator(transcript: Any, tools: ToolSet) -> Iterator[AssistantMessage]:
    yield RIGHT


async def async_generator(transcript: Any, tools: ToolSet) -> Any:
    yield RIGHT


class AsyncBegin:
    async def begin(self, task: Task, sample: int, seed: int) -> Any:
        return plain


class ShortBegin:
    def begin(self, task: Task) -> Any:
        return plain


class NeedsArguments:
    def __init__(self, path: str) -> None:
        pass

    def __call__(self, transcript: Any, tools: ToolSet) -> AssistantMessage:
        return RIGHT


class Unreadable(Callable_):
    def __getattribute__(self, name: str) -> Any:
        if name == "begin":
            raise KeyError(name)
        return super().__getattribute__(name)


class WithSettings(Callable_):
    def __init__(self, settings: Any) -> None:
        self.settings = settings


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (generator, "is a generator: write `async def"),
        (async_generator, "is a generator: write `async def"),
        (lambda transcript: RIGHT, r"is called with \(transcript, tools\), and takes \(transcript\)"),
        (lambda: RIGHT, r"is called with \(transcript, tools\), and takes \(\)"),
        (with_extra, "missing a required argument: 'tools'"),
        (AsyncBegin(), "is async: write a plain"),
        (ShortBegin(), r"is called with \(task, sample, seed\), and takes \(task: "),
        (NeedsArguments, "is a class that cannot be made: .*path"),
        (object(), "a policy must be a callable"),
        (int, "the policy int is no policy but 0"),
        (Unreadable(), "the policy Unreadable: KeyError: 'begin'"),
        (WithSettings([1]), "the settings of the policy WithSettings must be a dict"),
        (WithSettings({1: 2}), "the settings of the policy WithSettings must be a dict"),
    ],
)
def test_what_cannot_play_is_refused_before_anything_is_played(tmp_path: Path, policy: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as raised:
        play("http://127.0.0.1:9", tmp_path / "run", policy)
    assert not (tmp_path / "run").exists()
    if policy in (generator, with_extra):
        assert f'File "{__file__}", line ' in str(raised.value)


def helper(table: dict[str, int]) -> int:
    return table["no_such_key"]


def raises_in_helper(transcript: Any, tools: ToolSet) -> Any:
    return helper({})


async def raises_without_words(transcript: Any, tools: ToolSet) -> Any:
    raise AssertionError


async def raises_in_a_group(transcript: Any, tools: ToolSet) -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(raises_without_words(transcript, tools))


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


async def raises_without_text(transcript: Any, tools: ToolSet) -> Any:
    raise Unprintable


class Panic(BaseException):
    """As libraries in Rust raise."""


def panics(transcript: Any, tools: ToolSet) -> Any:
    raise Panic("index out of bounds")


class Begins:
    def __init__(self, play: Any) -> None:
        self._play = play

    def begin(self, task: Task, sample: int, seed: int) -> Any:
        return self._play


async def exits(transcript: Any, tools: ToolSet) -> Any:
    sys.exit("no more")


async def cancels_itself(transcript: Any, tools: ToolSet) -> Any:
    raise asyncio.CancelledError


def stops_iterating(transcript: Any, tools: ToolSet) -> Any:
    return next(iter(()))


def nothing(transcript: Any, tools: ToolSet) -> Any:
    return None


async def number(transcript: Any, tools: ToolSet) -> Any:
    return 42


@pytest.mark.parametrize(
    ("policy", "words", "frame"),
    [
        (raises_in_helper, "KeyError: 'no_such_key'", "in helper"),
        (raises_without_words, "AssertionError", "in raises_without_words"),
        (raises_in_a_group, "AssertionError", "in raises_without_words"),
        (exits, "SystemExit: no more", ""),
        (cancels_itself, "was cancelled by itself", ""),
        (stops_iterating, "StopIteration", ""),
        (raises_without_text, "Unprintable: (its text cannot be shown: RuntimeError)", "in raises_without_text"),
        (panics, "Panic: index out of bounds", ""),
        (nothing, "returned None, which is not an action. A policy returns", ""),
        (number, "returned 42, which is not an action. A policy returns", ""),
    ],
)
def test_a_mistake_of_a_policy_names_its_type_and_place(
    server_url: str, tmp_path: Path, policy: Any, words: str, frame: str
) -> None:
    result = play(server_url, tmp_path / "run", policy, tasks="0")
    (failure,) = result.store.failures()
    assert (failure.source, failure.kind, failure.stage) == ("policy", "policy_failed", "policy")
    assert words in failure.message
    if policy is not cancels_itself and policy is not stops_iterating:
        assert Path(__file__).name in failure.message
    if frame:
        text = failure.extra["traceback"]
        assert isinstance(text, str)
        assert frame in text
        assert "openreward_gym" + "/collect" not in text


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "what Begins.begin returned is no policy but None"),
        ("random", "what Begins.begin returned is no policy but 'random'"),
        (Callable_, "is called with (transcript, tools), and takes ()"),
        (generator, "is a generator"),
    ],
)
def test_what_begin_returns_has_to_play(server_url: str, tmp_path: Path, returned: Any, words: str) -> None:
    result = play(server_url, tmp_path / "run", Begins(returned), tasks="0")
    (failure,) = result.store.failures()
    assert failure.kind == "policy_failed"
    assert words in failure.message


class BeginsItself:
    def begin(self, task: Task, sample: int, seed: int) -> Any:
        return self


def test_begin_may_return_its_object_only_if_that_plays() -> None:
    with pytest.raises(PolicyError, match=r"what BeginsItself\.begin returned is no policy but <"):
        policy_of_episode(resolve(BeginsItself()), Task("train", 0, {}), 0, 0)


class OddError(Exception):
    """Has attributes of this package's errors with other meanings, as `status` of Google's SDK."""

    status = "RESOURCE_EXHAUSTED"
    retry_after_s = "soon"

    @property
    def delivery(self) -> str:
        raise RuntimeError


def test_attributes_of_other_errors_are_left_alone(server_url: str, tmp_path: Path) -> None:
    class Odd:
        name = "odd"

        def begin(self, task: Task, sample: int, seed: int) -> Any:
            return raises_oddly if sample else coroutine

    async def raises_oddly(transcript: Any, tools: ToolSet) -> Any:
        raise OddError("no quota")

    result = play(server_url, tmp_path / "run", Odd(), tasks="0", repeats=2)
    (failure,) = result.store.failures()
    assert (failure.kind, failure.http_status, failure.delivery) == ("policy_failed", None, None)
    assert "no quota" in failure.message
    assert result.coverage.successful == 1


async def cancels_its_task(transcript: Any, tools: ToolSet) -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


def test_a_policy_that_cancels_the_collection_is_told(server_url: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="the policy cancelled the task in which it is played"):
        play(server_url, tmp_path / "run", cancels_its_task, tasks="0")


def test_a_policy_that_cancels_the_collection_among_others_is_told(server_url: str, tmp_path: Path) -> None:
    class CancelsOnce:
        name = "cancels-once"

        def begin(self, task: Task, sample: int, seed: int) -> Any:
            return cancels_its_task if sample == 1 else coroutine

    # The workers of other units wait for the one of this unit to end.
    with pytest.raises(PolicyError, match="the policy cancelled the task in which it is played"):
        play(server_url, tmp_path / "run", CancelsOnce(), tasks="0", repeats=4, concurrency=4, run_timeout_s=10.0)


def test_settings_are_recorded_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key-0123")
    policy: Any = WithSettings({"api_key": "swordfish", "url": "https://h/?key=secret-key-0123", "size": 3})
    settings = policy_settings(policy)
    assert settings == {"api_key": "***", "url": "https://h/?key=***", "size": 3}
    policy = resolve("openai:m", extra_headers={"X-Gateway": "swordfish"}, temperature=0.5)
    assert policy_settings(policy)["sampling"] == {"extra_headers": {"X-Gateway": "***"}, "temperature": 0.5}
    assert policy.sampling["extra_headers"] == {"X-Gateway": "swordfish"}


def test_a_traceback_has_no_secrets_and_an_end(server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_API_KEY", "very-secret-value")

    def recurses(depth: int) -> int:
        return returns(depth + 1)

    def returns(depth: int) -> int:
        return recurses(depth - 1)

    async def leaks(transcript: Any, tools: ToolSet) -> Any:
        try:
            recurses(0)
        except RecursionError as error:
            raise ValueError("the key very-secret-value was refused" + "!" * 100_000) from error

    result = play(server_url, tmp_path / "run", leaks, tasks="0")
    (failure,) = result.store.failures()
    line = Failure.to_line(failure)
    assert "very-secret-value" not in line
    assert "more frames" in line
    assert len(line) < 12_000


def test_the_traceback_of_libraries_alone_is_kept() -> None:
    with pytest.raises(ValueError, match="Expecting") as raised:
        json.loads("{")
    assert f'File "{__file__}"' in traceback_text(raised.value)


def test_the_traceback_of_a_plugin_whose_name_begins_like_ours_is_kept() -> None:
    path = f"{Path(openreward_gym.__file__).parent}_plugin/policy.py"
    namespace: dict[str, Any] = {}
    exec(compile("def play():\n    raise ValueError('no such city')", path, "exec"), namespace)
    with pytest.raises(ValueError, match="no such city") as raised:
        namespace["play"]()
    assert f'File "{path}", line 2, in play' in traceback_text(raised.value)


def test_the_traceback_of_a_group_shows_its_first_error() -> None:
    async def looks_up() -> None:
        helper({})

    async def several() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(looks_up())
            group.create_task(looks_up())
            await asyncio.sleep(60)

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(several())
    text = traceback_text(raised.value)
    assert "in helper" in text
    assert text.endswith("ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions)")


SOURCE = """
def look_up(table):
    return table["missing"]


def policy(transcript, tools):
    return look_up({})
"""


def test_a_traceback_is_shown_where_it_is_asked_for(server_url: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    command = [sys.executable, "-m", "openreward_gym.cli", "collect", "echo", "--policy", "mine:policy", "--output", "run"]
    command += ["--base-url", server_url, "--tasks", "0", "--debug"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    for words in ("KeyError: 'missing'", "mine.py", "Traceback (most recent call last):", ", in policy", "would fail again"):
        assert words in ran.stderr


# The random policy ---------------------------------------------------------------------------------------------------------


def episode(policy: RandomPolicy, seed: int) -> list[AssistantMessage]:
    """Play an environment that never ends an episode, until the policy says that it is done."""
    tools = ToolSet((ToolSpec("say", "", {"type": "object", "properties": {"text": {"type": "string"}}}),))
    play_turn = policy_of_episode(policy, Task("train", 0, {}), 0, seed)
    transcript: list[Message] = [UserMessage("Go.")]
    while True:
        message: AssistantMessage = asyncio.run(play_turn(tuple(transcript), tools))  # type: ignore[arg-type]
        transcript.append(message)
        if not message.tool_calls:
            return [turn for turn in transcript if isinstance(turn, AssistantMessage)]
        transcript.append(ToolMessage("ok", message.tool_calls[0].call_id))


@pytest.mark.parametrize(("name", "calls"), [("random", 16), ("random:3", 3), ("random:1", 1)])
def test_the_random_policy_ends(name: str, calls: int) -> None:
    policy: Any = resolve(name)
    turns = episode(policy, 7)
    assert [len(turn.tool_calls) for turn in turns] == [1] * calls + [0]
    assert turns[-1].text == "I am done."
    assert turns == episode(policy, 7) != episode(policy, 8)
    assert policy.settings == {"calls": calls}


@pytest.mark.parametrize("script", [False, True])
def test_what_is_done_ends_where_a_message_ends_nothing(server_url: str, tmp_path: Path, script: bool) -> None:
    (tmp_path / "script.jsonl").write_text('{"steps": [{"name": "echo", "arguments": {"text": "x"}}]}\n')
    policy = f"scripted:{tmp_path / 'script.jsonl'}" if script else "random:2"
    result = collect(
        "large" if not script else "echo",
        policy,
        base_url=server_url,
        output=tmp_path / "run",
        tasks="0",
        on_message="nudge",
        progress=False,
        run_timeout_s=60,
    )
    (rollout,) = result.store
    assert (rollout.status, rollout.stop_reason) in [("truncated", "message"), ("completed", "finished")]
    assert rollout.num_turns <= 5


@pytest.mark.parametrize("name", ["random:0", "random:x", "random:-1", "random:²"])
def test_a_number_of_random_calls_is_a_number(name: str) -> None:
    with pytest.raises(ConfigurationError, match="random"):
        resolve(name)
