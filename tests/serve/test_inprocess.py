"""An environment in this process gives the same results, errors, toolsets, ends and infos as on a server."""

# mypy: disable-error-code="misc,untyped-decorator"
# (the SDK has no types)

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import environments as served_environments
import gymnasium as gym
import pytest
from environments import Broken, Dialogue, Echo, Guarded, Large, SlowStart
from openreward.environments import Environment, TextBlock, ToolOutput, Toolset, tool
from pydantic import BaseModel

import openreward_gym  # noqa: F401  (registers OpenReward-v0)
from openreward_gym import serve
from openreward_gym.collect import collect, estimate
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.vector import OpenRewardVectorEnv
from openreward_gym.errors import (
    CallTimeoutError,
    ConfigurationError,
    OpenRewardGymError,
    SplitNotFoundError,
    TaskNotFoundError,
    ToolFailedError,
)
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.session import Session
from openreward_gym.serve.examples import solution
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import AssistantMessage, Message, ToolSet
from openreward_gym.types import TextBlock as Text
from openreward_gym.wrappers import RecordRollouts

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Hide the warnings that log the errors of tools."""
    with caplog.at_level(logging.CRITICAL):
        yield


@pytest.fixture(scope="module")
def host() -> serve.InProcess:
    return serve.in_process([Echo, Large, Dialogue, SlowStart, Broken, Guarded])


@asynccontextmanager
async def both(server_url: str, host: serve.InProcess, name: str, **task: Any) -> AsyncIterator[tuple[Session, Session]]:
    """Open the same session over HTTP and in this process."""
    async with (
        Client(server_url) as far,
        Client(host.base_url, transport=host) as near,
        far.environment(name).session(**task) as there,
        near.environment(name).session(**task) as here,
    ):
        yield there, here


async def outcome(request: Awaitable[Any]) -> Any:
    """Return the result of a request, or the type and the message of its error."""
    try:
        return await request
    except OpenRewardGymError as error:
        return type(error), str(error)


CALLS: list[tuple[str, Any]] = [
    ("echo", {"text": "hi"}),
    ("echo", {"text": "a\nb\r\u2028\x00\U0001f98a  "}),
    ("echo", {"text": 7}),
    ("echo", {}),
    ("echo", {"text": "x", "more": 1}),
    ("echo", None),
    ("no_such_tool", {}),
    ("__init__", {}),
    ("get_prompt", {}),
    ("value", {"value": [1, 2.5, None, True, {"k": ["v"]}, 2**70, -0.0, 1e300]}),
    ("value", {"value": {"": {"deep": [[[]]]}}}),
    ("texts", {"count": 5, "seed": 3}),
    ("image", {}),
    ("nothing", {}),
    ("count", {"ignored": 1}),
    ("secret", {"text": "token"}),
    ("finish", {"text": "right"}),
    ("echo", {"text": "after the end"}),
]


def test_every_kind_of_call(server_url: str, host: serve.InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "seven77")

    async def run() -> None:
        task = {"split": "train", "index": 2, "secrets_env": {"token": "MY_TOKEN"}}
        async with both(server_url, host, "echo", **task) as (there, here):
            assert await there.messages() == await here.messages()
            assert await there.prompt() == await here.prompt()
            assert await there.tools() == await here.tools()
            for name, arguments in CALLS:
                assert await outcome(there.call(name, arguments)) == await outcome(here.call(name, arguments)), name

    asyncio.run(run())


def test_a_tool_that_raises_ends_the_session(server_url: str, host: serve.InProcess) -> None:
    async def run() -> None:
        for text in ("boom", "two\nlines\n", ""):
            async with both(server_url, host, "echo", split="train", index=0) as (there, here):
                results = [await outcome(session.call("fail", {"text": text})) for session in (there, here)]
                assert results[0] == results[1]
                again = [await outcome(session.call("echo", {"text": "x"})) for session in (there, here)]
                assert again[0] == again[1]
                assert again[0][0] is ToolFailedError

    asyncio.run(run())


def test_conversations_terminal_tools_task_tools_and_groups(server_url: str, host: serve.InProcess) -> None:
    group = [[Message("assistant", (Text(text),))] for text in ("a", "abc")]

    async def run() -> None:
        async with both(server_url, host, "dialogue", split="test", index=1) as (there, here):
            assert await there.messages() == await here.messages()
            tools = await here.tools()
            assert await there.tools() == tools
            assert "only_in_1" in [one.name for one in tools]
            assert await there.score_group(group) == await here.score_group(group)
            refusing = [[Message("assistant", (Text("refuse"),))]]
            assert await outcome(there.score_group(refusing)) == await outcome(here.score_group(refusing))
            for session in (there, here):
                assert (await session.call("look", {})).text == "1"
            assert await there.call_terminal("1") == await here.call_terminal("1")
        async with both(server_url, host, "echo", split="train", index=0) as (there, here):
            assert await outcome(there.score_group(group)) == await outcome(here.score_group(group))

    asyncio.run(run())


def test_splits_tasks_and_missing_ones(server_url: str, host: serve.InProcess) -> None:
    async def answers(client: Client) -> list[Any]:
        echo, large = client.environment("echo"), client.environment("large")
        results = [await client.list_environments(), await client.health(), await client.version(), await echo.splits()]
        results += [await echo.tools(), await echo.tasks("test"), await echo.num_tasks("train"), await large.num_tasks("train")]
        results += [
            await large.task("train", 9_999),
            await echo.task_range("train", 3, 99),
            await large.task_range("train", 5, 7),
        ]
        questions = [echo.num_tasks("nope"), echo.task("train", 5), large.tasks("train"), client.environment("nope").tools()]
        for question in questions:
            results.append((await outcome(question))[0])
        for task in ({"split": "no", "index": 0}, {"split": "train", "index": 99}, {"task_spec": {}, "toolset": "nope"}):
            results.append((await outcome(echo.session(**task).open()))[0])
        assert {SplitNotFoundError, TaskNotFoundError, ConfigurationError} <= set(results[-7:])
        return results

    async def run() -> None:
        async with Client(server_url) as far, Client(host.base_url, transport=host) as near:
            assert await answers(far) == await answers(near)

    asyncio.run(run())
    assert len(host.host) == 0


def test_a_slow_setup_and_a_failing_one(server_url: str, host: serve.InProcess) -> None:
    async def run() -> None:
        async with both(server_url, host, "slowstart", task_spec={"setup_s": 0.2}) as (there, here):
            assert await there.prompt() == await here.prompt()
            assert await there.call("ready") == await here.call("ready")
        async with both(server_url, host, "broken", split="train", index=0) as (there, here):
            results = [await outcome(session.prompt()) for session in (there, here)]
            assert results[0] == results[1]
            assert "no disk left" in results[0][1]
            # A session that is closed during its setup: the setup is cancelled.
        async with Client(host.base_url, transport=host) as client:
            await client.environment("slowstart").session(task_spec={"setup_s": 300}).open()

    asyncio.run(run())
    assert len(host.host) == 0


def test_the_built_in_environments(examples: str) -> None:
    host = serve.in_process(["weather", "ctf", "reasoning"])

    async def run() -> None:
        for name in ("weather", "ctf"):
            async with Client(host.base_url, transport=host) as client:
                spec = (await client.environment(name).task("train", 1)).spec
            assert spec is not None
            async with both(examples, host, name, split="train", index=1) as (there, here):
                assert await there.messages() == await here.messages()
                assert await there.tools() == await here.tools()
                for step in solution(name, spec):
                    played = [
                        await session.call_terminal(step)
                        if isinstance(step, str)
                        else await session.call(str(step["name"]), step["arguments"])
                        for session in (there, here)
                    ]
                    assert played[0] == played[1]
                assert played[0].reward == 1.0
        async with both(examples, host, "reasoning", split="train", index=5) as (there, here):
            assert await there.messages() == await here.messages()
            assert await there.call_terminal("?") == await here.call_terminal("?")

    asyncio.run(run())


class Word(BaseModel):
    word: str


class Shouting(Toolset):
    def __init__(self, env: Any) -> None:
        self.env = env

    @tool
    async def shout(self, params: Word) -> ToolOutput:
        """Shout it."""
        self.env.shouted += 1
        return ToolOutput(blocks=[TextBlock(text=params.word.upper())], reward=float(self.env.shouted))

    @tool
    def twice(self) -> ToolOutput:
        """Do nothing."""
        return ToolOutput(blocks=[])


class Loud(Environment):
    """A class with a toolset and a sync tool, without a sandbox for the SDK's own toolsets."""

    toolsets = (Shouting,)
    threads: list[int] = []  # noqa: RUF012
    torn_down = 0

    def __init__(self, task_spec: Any = {}, secrets: Any = {}) -> None:  # noqa: B006
        super().__init__(task_spec)
        self.shouted = 0
        self.sandbox = None

    @classmethod
    def list_splits(cls) -> list[str]:
        return ["train", "dev"]

    @classmethod
    def list_tasks(cls, split: str) -> list[Any]:
        return [{"n": n} for n in range(3)]

    def get_prompt(self) -> list[TextBlock]:
        return [TextBlock(text=f"task {self.task_spec['n']}")]

    def teardown(self) -> None:
        Loud.torn_down += 1

    @tool
    def sync(self, params: Word) -> ToolOutput:
        """Runs in a thread."""
        Loud.threads.append(threading.get_ident())
        return ToolOutput(blocks=[TextBlock(text=params.word)], metadata={"set": (1, 2)}, reward=float("nan"))

    @tool
    async def end(self) -> ToolOutput:
        """The end."""
        return ToolOutput(blocks=[TextBlock(text="over")], reward=1.0, finished=True)

    @tool
    async def wrong(self) -> ToolOutput:
        """Return a string instead of a ToolOutput."""
        return "text"


def test_toolsets_sync_tools_and_invalid_outputs() -> None:
    host = serve.in_process(Loud)
    calls: list[tuple[str, Any]] = [("shout", {"word": "a"}), ("shout", {"word": "b"}), ("sync", {"word": "c"})]
    calls += [("shout", {}), ("end", {}), ("shout", {"word": "d"})]

    async def run() -> None:
        with serve.local(Loud) as base_url:
            async with both(base_url, host, "loud", split="dev", index=1) as (there, here):
                assert await there.tools() == await here.tools()
                for name, arguments in calls:
                    assert await outcome(there.call(name, arguments)) == await outcome(here.call(name, arguments)), name
            async with both(base_url, host, "loud", split="dev", index=1) as (there, here):
                assert await outcome(there.call("wrong")) == await outcome(here.call("wrong"))
            async with Client(base_url) as far, Client(host.base_url, transport=host) as near:
                opened = [c.environment("loud").session(split="dev", index=0, toolset="claude_code") for c in (far, near)]
                results = [await outcome(session.open()) for session in opened]
                assert results[0] == results[1]
                assert results[0][0] is ConfigurationError

    asyncio.run(run())
    assert Loud.threads
    assert threading.get_ident() not in Loud.threads
    assert Loud.torn_down == 2


def test_a_call_times_out(host: serve.InProcess) -> None:
    async def run() -> None:
        async with (
            Client(host.base_url, transport=host) as client,
            client.environment("echo").session(split="train", index=0) as session,
        ):
            with pytest.raises(CallTimeoutError):
                await session.call("slow", {"seconds": 300}, timeout_s=0.05)

    asyncio.run(run())
    assert len(host.host) == 0


def played(env: gym.Env[Any, Any], steps: list[Any]) -> list[Any]:
    results: list[Any] = []
    for seed in (0, 3):
        results.append(env.reset(seed=seed))
        for step in steps:
            results.append(env.step(step))
            if results[-1][2] or results[-1][3]:
                break
    env.close()
    return results


STEPS: list[Any] = [
    {"name": "echo", "arguments": {"text": "a"}},
    [{"name": "echo", "arguments": {"text": "b"}}, {"name": "image", "arguments": {}}],
    {"name": "echo", "arguments": {"wrong": 1}},
    {"name": "value", "arguments": {"value": [1, None]}},
    {"name": "finish", "arguments": {"text": "right"}},
]


@pytest.mark.parametrize("last", [{"name": "fail", "arguments": {"text": "boom"}}, "a plain message"])
def test_an_env_of_a_class(server_url: str, last: Any) -> None:
    for steps in (STEPS, [*STEPS[:2], last]):
        for obs_mode in ("text", "blocks", "messages"):
            far = gym.make("OpenReward-v0", environment="echo", base_url=server_url, obs_mode=obs_mode)
            near = gym.make("OpenReward-v0", environment=Echo, obs_mode=obs_mode)
            assert played(far, steps) == played(near, steps)
            assert near.action_space == far.action_space
    assert near.spec is not None
    assert played(near.spec.make(), STEPS) == played(near, STEPS)
    with pytest.raises(TypeError, match="JSON"):
        near.spec.to_json()


def test_a_name_in_process_has_a_spec_in_json(examples: str) -> None:
    far = gym.make("OpenReward-v0", environment="weather", base_url=examples)
    near = gym.make("OpenReward-v0", environment="weather", transport="in-process")
    assert near.spec is not None
    near = gym.make(type(near.spec).from_json(near.spec.to_json()))
    steps = [{"name": "get_weather", "arguments": {"city": "Seattle"}}, "no idea"]
    assert played(far, steps) == played(near, steps)


def test_a_vector_env_of_a_class(server_url: str) -> None:
    def run(**where: Any) -> list[Any]:
        envs = gym.make_vec("OpenReward-v0", num_envs=3, vectorization_mode="vector_entry_point", prefetch=2, **where)
        results: list[Any] = [envs.reset(seed=0)]
        results.extend(envs.step([step] * 3) for step in (*STEPS, STEPS[0], STEPS[0]))
        envs.close()
        return results

    far, near = run(environment="echo", base_url=server_url), run(environment=Echo)
    assert json.dumps(far, default=_plain) == json.dumps(near, default=_plain)
    host = serve.in_process(Echo)
    run(environment="echo", base_url=host.base_url, transport=host)
    assert len(host.host) == 0
    with OpenRewardVectorEnv(2, environment=Loud) as envs:
        assert envs.reset(seed=1)[0] == ("task 1", "task 2")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def test_recording_and_collecting(tmp_path: Path) -> None:
    env = RecordRollouts(gym.make("OpenReward-v0", environment=Echo), RolloutStore(tmp_path / "recorded"))
    played(env, STEPS)
    recorded = RolloutStore(tmp_path / "recorded")
    assert [rollout.reward for rollout in recorded] == [2.0, 2.0]
    assert {rollout.environment.name for rollout in recorded} == {"echo"}

    async def policy(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        return AssistantMessage("0")

    host = serve.in_process(Dialogue)
    result = collect(
        "dialogue", policy, base_url=host.base_url, transport=host, repeats=2, output=tmp_path / "run", progress=False
    )
    assert len(result.store) == 10
    assert sorted(rollout.reward or 0.0 for rollout in result.store) == [0.0] * 8 + [1.0] * 2
    assert len(host.host) == 0


def test_invalid_combinations_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="leave out base_url"):
        OpenRewardEnv(Echo, base_url="http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="leave out transport"):
        OpenRewardEnv(Echo, transport=serve.in_process(Echo))
    with pytest.raises(ConfigurationError, match=r"environment must be a name .* or an openreward Environment class"):
        OpenRewardEnv(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cannot serve"):
        OpenRewardEnv(dict)
    with pytest.raises(ConfigurationError, match="no environment 'nope' to serve"):
        OpenRewardEnv("nope", transport="in-process")
    for variant in ("nope", None):
        env = OpenRewardEnv(Echo, variant=variant, task_index=None if variant else 99)
        with pytest.raises(ConfigurationError):
            env.reset()


def test_nothing_is_printed_to_standard_output() -> None:
    code = "\n".join(
        [
            f"import sys; sys.path.insert(0, {str(Path(served_environments.__file__).parent)!r})",
            "from environments import Echo",
            "import gymnasium as gym, openreward_gym",
            "env = gym.make('OpenReward-v0', environment=Echo); env.reset()",
            "env.step({'name': 'echo', 'arguments': {'text': 'a'}}); env.step({'name': 'echo', 'arguments': {}})",
            "env.step({'name': 'fail', 'arguments': {'text': 'boom'}}); print('done')",
        ]
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "done\n", ran.stderr
    assert "RuntimeError: boom" in ran.stderr
    assert ran.returncode == 0


def test_a_class_is_collected_and_resumed(tmp_path: Path) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text('{"steps": [{"name": "echo", "arguments": {"text": "hi"}}]}')
    policy = f"scripted:{script}"
    assert estimate(Echo, policy, tasks="0:2").to_play == 2
    first = collect(Echo, policy, tasks="0:2", max_steps=2, output=tmp_path / "run", progress=False)
    assert first.coverage.successful == 2
    again = collect(Echo, policy, tasks="0:2", max_steps=2, output=tmp_path / "run", resume=True, progress=False)
    assert len(again.store) == len(first.store) == 2
    with pytest.raises(ConfigurationError, match="in this process"):
        collect(Echo, "random", engine="ray")
