"""Tests in an environment with the package `openenv`. test_openenv.py runs them there, and some with `openenv-core`."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import uvicorn
from environments import PIXEL
from fastapi import FastAPI, WebSocket
from launch import HERE, Restarted, served
from openenv.core import GenericEnvClient, MCPToolClient

import openreward_gym
from openreward_gym import AssistantMessage, ToolCall, serve
from openreward_gym.errors import ConfigurationError, ProtocolError, ServerError, TransportError
from openreward_gym.integrations import openenv
from openreward_gym.store import RolloutStore

SCRIPT = HERE / "openenv_environments.py"


def is_newest() -> bool:
    """Return whether this is `openenv`, with tasks and MCP sessions, not `openenv-core` of before."""
    try:
        metadata.version("openenv")
    except metadata.PackageNotFoundError:
        return False
    return True


def answer(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


def wait_until_closed(server_url: str) -> None:
    """Wait until the server has no session; the test's own time limit ends a wait that is in vain."""
    while answer(f"{server_url}/health/sessions") != {"sessions": 0}:
        time.sleep(0.02)


# An OpenReward environment, played by OpenEnv's clients -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs") / "echo"


@pytest.fixture(scope="module")
def dying() -> Iterator[Restarted]:
    """A server that is not started."""
    server = Restarted()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def served_by_openenv(server_url: str, output: Path, dying: Restarted) -> Iterator[str]:
    arguments = [server_url, str(output), dying.url, f"{output}_dying"]
    with served(SCRIPT, python=sys.executable, arguments=arguments, deadline_s=180) as url:
        yield url


@pytest.fixture
def echo(served_by_openenv: str) -> str:
    return f"{served_by_openenv}/echo"


@pytest.fixture
def counter(served_by_openenv: str) -> str:
    return f"{served_by_openenv}/counter"


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "call_tool", "tool_name": name, "arguments": arguments}


def test_an_episode_by_openenv_s_client(echo: str, output: Path, server_url: str) -> None:
    async def play() -> None:
        async with GenericEnvClient(base_url=echo) as client:
            tools = (await client.step({"type": "list_tools"})).observation["tools"]
            assert {"echo", "image", "finish"} <= {tool["name"] for tool in tools}
            begun = await client.reset(split="test", index=1, group="g", sample=2, step=7, episode_id="e1")
            assert (begun.reward, begun.done, begun.observation["messages"][0]["role"]) == (None, False, "user")
            assert '"number": 1, "split": "test"' in begun.observation["text"]
            said = await client.step(call("echo", text="hé"))
            assert (said.reward, said.done, said.observation["result"]["data"]) == (0.5, False, "hé")
            shown = await client.step(call("image"))
            picture = shown.observation["result"]["content"][1]
            assert (picture["type"], picture["data"], picture["mimeType"]) == ("image", PIXEL, "image/png")
            wrong = await client.step(call("nowhere"))
            assert (wrong.reward, wrong.done, wrong.observation["result"]["is_error"]) == (None, False, True)
            calls = [
                {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in ("count", "nothing")
            ]
            both = await client.step({"type": "message", "message": {"role": "assistant", "content": "", "tool_calls": calls}})
            assert [message["tool_call_id"] for message in both.observation["messages"]] == ["count", "nothing"]
            ended = await client.step(
                {"type": "message", "message": '<tool_call>{"name": "finish", "arguments": {"text": "right"}}</tool_call>'}
            )
            assert (ended.reward, ended.done) == (1.0, True)
            state = await client.state()
            assert {
                name: state[name] for name in ("episode_id", "step_count", "done", "reward", "stop_reason", "task_index")
            } == {
                "episode_id": "e1",
                "step_count": 5,
                "done": True,
                "reward": 1.5,
                "stop_reason": "finished",
                "task_index": 1,
            }
            with pytest.raises(RuntimeError, match=r"after the episode ended \(finished\).*EXECUTION_ERROR"):
                await client.step(call("count"))

    asyncio.run(play())
    assert answer(f"{server_url}/health/sessions") == {"sessions": 0}
    (rollout,) = [rollout for rollout in RolloutStore(output) if rollout.group == "g"]
    assert (rollout.sample, rollout.step, rollout.reward, rollout.status) == (2, 7, 1.5, "completed")
    assert (rollout.environment.split, rollout.task.index) == ("test", 1)
    assert rollout.metadata == {"openenv": {"episode_id": "e1"}}


def test_seeds_choose_the_task_and_a_plain_message_is_an_answer(echo: str) -> None:
    async def play() -> None:
        async with GenericEnvClient(base_url=echo) as client:
            texts = [(await client.reset(seed=seed)).observation["text"] for seed in (3, 3, 4)]
            assert texts[0] == texts[1] != texts[2]
            ended = await client.step({"type": "message", "message": "I give up."})
            assert (ended.reward, ended.done) == (None, True)
            assert (await client.state())["stop_reason"] == "message"

    asyncio.run(play())


def test_errors_of_a_reset_and_of_an_action(echo: str) -> None:
    async def play() -> None:
        async with GenericEnvClient(base_url=echo) as client:
            with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
                await client.step(call("count"))
            with pytest.raises(RuntimeError, match="has no task 99"):
                await client.reset(index=99)
            with pytest.raises(RuntimeError, match="not both"):
                await client.reset(index=0, task_spec={"number": 1})
            for options, message in (
                ({"task": 3}, "has no option 'task'"),
                ({"step": "x"}, "step must be an integer"),
                ({"group": 5}, "group must be a string"),
                ({"sample": 1.5}, "sample must be an integer"),
            ):
                with pytest.raises(RuntimeError, match=message):
                    await client.reset(**options)
            with pytest.raises(RuntimeError, match="VALIDATION_ERROR"):
                await client.step({"type": "jump"})
            await client.reset(task_spec={"number": 5})
            with pytest.raises(RuntimeError, match="its role is 'user'"):
                await client.step({"type": "message", "message": {"role": "user", "content": "x"}})
            assert (await client.step(call("echo", text="still here"))).reward == 0.5
            assert (await client.state())["step_count"] == 1

    asyncio.run(play())


def test_sessions_are_apart_limited_and_closed(echo: str, server_url: str, output: Path) -> None:
    async def play() -> None:
        clients = [GenericEnvClient(base_url=echo) for _ in range(4)]
        await asyncio.gather(*(client.connect() for client in clients))
        await asyncio.gather(*(client.reset(index=index, group="apart") for index, client in enumerate(clients)))
        assert answer(f"{server_url}/health/sessions") == {"sessions": 4}
        await asyncio.gather(*(client.step(call("echo", text="x")) for client in clients[:3]))
        counts = [(await client.step(call("count"))).observation["result"]["data"] for client in clients]
        assert counts == ["1", "1", "1", "0"]
        with pytest.raises(RuntimeError, match="CAPACITY_REACHED"):
            async with GenericEnvClient(base_url=echo) as fifth:
                await fifth.reset()
        await asyncio.gather(*(client.close() for client in clients))
        await asyncio.to_thread(wait_until_closed, server_url)

    asyncio.run(play())
    rollouts = [rollout for rollout in RolloutStore(output) if rollout.group == "apart"]
    assert [(rollout.status, rollout.stop_reason) for rollout in rollouts] == [("cancelled", "cancelled")] * 4


def test_a_server_that_dies_is_an_error_and_no_reward(served_by_openenv: str, dying: Restarted, output: Path) -> None:
    async def play(url: str, server: Restarted) -> None:
        async with GenericEnvClient(base_url=url) as client:
            await client.reset(index=0)
            assert (await client.step(call("echo", text="x"))).reward == 0.5
            server.kill()
            with pytest.raises(RuntimeError, match="the episode was lost"):
                await client.step(call("echo", text="x"))
            state = await client.state()
            assert (state["done"], state["reward"]) == (True, None)
            assert state["error"]
            with pytest.raises(RuntimeError, match="EXECUTION_ERROR"):
                await client.reset(index=0)
            server.start()
            await client.reset(index=0)
            with pytest.raises(RuntimeError, match="tool_failed"):
                await client.step(call("fail", text="no disk"))

    dying.start()
    asyncio.run(play(f"{served_by_openenv}/dying", dying))
    run = f"{output}_dying"
    assert sorted((r.status, r.stop_reason) for r in RolloutStore(run)) == [("error", "session_lost"), ("error", "tool_failed")]
    assert [failure.stage for failure in RolloutStore(run).failures()] == ["open"]


def test_tools_over_mcp_share_the_session(echo: str) -> None:
    async def play() -> None:
        async with MCPToolClient(base_url=echo) as client:
            assert "echo" in [tool.name for tool in await client.list_tools()]
            await client.reset(index=0)
            assert await client.call_tool("echo", text="over HTTP") == "over HTTP"
            assert (await client.call_tool("image"))[1]["type"] == "image"
            assert "is not a valid tool" in await client.call_tool("nowhere")
            await client.call_tool("finish", text="right")
            assert (await client.state()).step_count == 4

    asyncio.run(play())
    listed = answer(f"{echo}/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})["result"]["tools"]
    assert {"name", "description", "inputSchema"} == set(listed[0])
    failed = answer(
        f"{echo}/mcp", {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}
    )
    assert "reset() first" in failed["error"]["message"]


def test_tasks_and_stateless_routes(echo: str, server_url: str) -> None:
    assert answer(f"{echo}/list_environments") == ["echo"]
    assert [split["name"] for split in answer(f"{echo}/echo/splits")] == ["train", "test"]
    assert answer(f"{echo}/echo/num_tasks", {"split": "train"}) == {"num_tasks": 5}
    assert answer(f"{echo}/echo/task", {"split": "test", "index": 1})["task"]["task_spec"] == {"number": 1, "split": "test"}
    ranged = answer(f"{echo}/echo/task_range", {"split": "train", "start": -2})["tasks"]
    assert [task["index"] for task in ranged] == [3, 4]
    assert len(answer(f"{echo}/echo/tasks", {"split": "test"})["tasks"]) == 2
    assert "number" in answer(f"{echo}/reset", {"seed": 1})["observation"]["text"]
    wait_until_closed(server_url)


# An OpenEnv environment, played by gym.make -----------------------------------------------------------------------------------


def add(number: int) -> dict[str, Any]:
    return {"name": "step", "arguments": {"by": number}}


def test_an_environment_without_tools_has_the_tool_step(counter: str) -> None:
    env = gym.make("OpenReward-v0", environment=openenv.environment(counter, seeds={"train": 10}))
    observation, _ = env.reset(seed=1)
    assert observation == 'Reach 3.\n{"total": -1, "goal": 3}'
    assert env.unwrapped.tools[0].input_schema["properties"]["by"]["maximum"] == 2  # type: ignore[attr-defined]
    observation, reward, terminated, truncated, info = env.step(add(2))
    assert (observation, reward, terminated, info["reward_is_null"]) == ('{"total": 1, "goal": 3}', 0.0, False, True)
    observation, reward, terminated, truncated, info = env.step(add(7))
    assert (observation, terminated) == ("The action is not valid: arguments.by: 7 is greater than the maximum of 2", False)
    observation, reward, terminated, truncated, info = env.step(add(2))
    assert (reward, terminated, truncated, info["stop_reason"]) == (1.0, True, False, "finished")
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(add(-2))
    assert (reward, terminated, truncated, info["stop_reason"], info["reward_is_null"]) == (0.0, False, True, "tool_failed", True)
    assert "the disk is full" in info["error"]
    env.close()
    assert answer(counter.replace("counter", "open")) == 0


def test_it_is_served_collected_and_recorded(counter: str, tmp_path: Path) -> None:
    async def policy(transcript: Any, tools: Any) -> AssistantMessage:
        return AssistantMessage(tool_calls=[ToolCall("step", {"by": 2}, call_id="c")])

    cls = openenv.environment(counter, seeds={"train": 4})
    with serve.local([cls]) as base_url:
        result = openreward_gym.collect(cls.name(), policy, base_url=base_url, output=tmp_path / "run", progress=False)
    assert (result.coverage.successful, result.metrics.mean_reward) == (4, 1.0)
    rollouts = list(RolloutStore(tmp_path / "run"))
    assert sorted(len(rollout.messages) for rollout in rollouts) == [5, 5, 7, 7]  # from 0, -1, -2 and -3 up to 3
    assert {rollout.environment.name for rollout in rollouts} == {cls.name()}


def test_a_server_that_dies_truncates_the_episode(server_url: str, tmp_path: Path) -> None:
    arguments = [server_url, str(tmp_path / "run")] * 2
    with served(SCRIPT, python=sys.executable, arguments=arguments, deadline_s=180) as root:
        url = f"{root}/counter"
        env = gym.make("OpenReward-v0", environment=openenv.environment(url))
        env.reset(seed=0)
        _, _, terminated, truncated, info = env.step(add(-1))
        assert (terminated, truncated, info["stop_reason"], info["reward_is_null"]) == (False, True, "tool_failed", True)
        with pytest.raises(ServerError, match="Failed to connect"):
            env.reset(seed=0)
        with pytest.raises(TransportError, match="cannot reach the OpenEnv server"):
            openenv.environment(url)
        env.close()


def test_a_server_that_is_none_of_openenv(server_url: str) -> None:
    with pytest.raises((ProtocolError, TransportError)):
        openenv.environment(server_url)


TOOL = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}}


def observed(observation: Any = None, **fields: Any) -> str:
    data = {"observation": {"a": 1} if observation is None else observation, "reward": None, "done": False, **fields}
    return json.dumps({"type": "observation", "data": data})


@pytest.fixture(scope="module")
def scripted() -> Iterator[Callable[..., str]]:
    """Return a function that returns the URL of an OpenEnv server which gives the same answer to each step."""
    app, paths = FastAPI(), itertools.count()

    def serve_answers(step: str = observed(), reset: str = observed(), tools: Any = (TOOL,), schema: Any = None) -> str:
        path = f"/{next(paths)}"

        async def answer_messages(client: WebSocket) -> None:
            await client.accept()
            async for message in client.iter_json():
                listing = message.get("data", {}).get("type") == "list_tools"
                text = observed({"tools": tools}) if listing else reset if message["type"] == "reset" else step
                if not text or message["type"] == "close":
                    await client.close()
                    break
                await client.send_text(text)

        app.websocket(f"{path}/ws")(answer_messages)
        app.get(f"{path}/schema")(lambda: {"action": schema})
        return url + path

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield serve_answers
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ('{"type": "observation", "data": {"observation": {}, "reward": NaN, "done": false}}', "the reward nan"),
        (observed(reward="1.0", done=True), "the reward '1.0'"),
        (observed(reward=10**400, done=True), "the reward 1000"),
        (observed(reward=1.0, done="false"), "'done' as 'false'"),
        ('{"type": "observation", "data": null}', "did not answer as an OpenEnv server"),
        ("hello", "did not answer as an OpenEnv server"),
        ("", "ConnectionClosedOK"),
        (observed({"tool_name": "look", "error": "the disk is full", "result": None}), "the disk is full"),
        (
            '{"type": "error", "data": {"message": "(code: VALIDATION_ERROR) again", "code": "EXECUTION_ERROR"}}',
            "EXECUTION_ERROR",
        ),
    ],
)
def test_errors_odd_answers_of_a_step_are_failures_without_a_reward(scripted: Callable[..., str], step: str, reason: str) -> None:
    env = gym.make("OpenReward-v0", environment=openenv.environment(scripted(step)))
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step({"name": "look", "arguments": {}})
    assert (reward, terminated, truncated, info["stop_reason"], info["reward_is_null"]) == (0.0, False, True, "tool_failed", True)
    assert reason in info["error"]
    env.close()


def test_errors_of_an_episode_that_is_over_at_its_reset(scripted: Callable[..., str]) -> None:
    env = gym.make("OpenReward-v0", environment=openenv.environment(scripted(reset=observed(done=True, reward=0.5))))
    with pytest.raises(ServerError, match="over at its reset"):
        env.reset(seed=0)
    env.close()


@pytest.mark.parametrize("name", ["", "task_spec", "_client", "setup"])
def test_errors_names_of_tools_that_could_not_be_called(scripted: Callable[..., str], name: str) -> None:
    with pytest.raises(ProtocolError, match="a tool"):
        openenv.environment(scripted(tools=[{**TOOL, "name": name}]))


def test_errors_of_a_schema_that_refers_to_another_server(scripted: Callable[..., str]) -> None:
    """Nothing is fetched: the server at the address would have been asked."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0.2)
        reference = {"$ref": f"http://127.0.0.1:{elsewhere.getsockname()[1]}/schema.json"}
        url = scripted(tools=[], schema={"type": "object", "properties": {"x": reference}})
        env = gym.make("OpenReward-v0", environment=openenv.environment(url))
        env.reset(seed=0)
        assert env.step({"name": "step", "arguments": {"x": 1}})[0] == '{"a": 1}'
        env.close()
        with pytest.raises(TimeoutError):
            elsewhere.accept()


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": 8000},
        {"base_url": "localhost:8000"},
        {"base_url": "ftp://127.0.0.1"},
        {"seeds": 5},
        {"headers": "x"},
        {"timeout_s": -1},
        {"name": 5},
        {"prompt": 5},
        {"seed": 5},
    ],
)
def test_errors_of_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        openenv.environment(**{"base_url": "http://127.0.0.1:1", **options})


def test_errors_show_no_password() -> None:
    with pytest.raises(TransportError) as raised:
        openenv.environment("http://user:secret@127.0.0.1:1")
    assert "secret" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="max_sessions must be"):
        openenv.app("echo", max_sessions=0)


def test_tools_and_tasks_of_an_mcp_environment(served_by_openenv: str) -> None:
    url = f"{served_by_openenv}/tools"
    seeds = None if is_newest() else {"train": 3}
    env = gym.make("OpenReward-v0", environment=openenv.environment(url, seeds=seeds))
    assert [tool.name for tool in env.unwrapped.tools] == ["say", "look"]  # type: ignore[attr-defined]
    env.reset(seed=1)
    env.step({"name": "look", "arguments": {}})
    assert env.unwrapped.last_step.results[0].output.blocks[0].mime_type == "image/gif"  # type: ignore[attr-defined]
    _, reward, terminated, _, info = env.step({"name": "say", "arguments": {"world": 1}})
    assert (reward, terminated, info["reward_is_null"]) == (0.0, False, True)
    word = "green" if is_newest() else "red"  # the second task; older servers have none
    _, reward, terminated, _, _ = env.step({"name": "say", "arguments": {"word": word}})
    assert (reward, terminated) == (1.0, True)
    env.close()


def test_an_environment_goes_both_ways(echo: str) -> None:
    """An OpenReward environment behind OpenEnv, played as an OpenReward environment again."""
    env = gym.make("OpenReward-v0", environment=openenv.environment(echo), split="test")
    observation, _ = env.reset(seed=1)
    assert '\\"number\\": 1' in observation
    _, reward, *_ = env.step({"name": "echo", "arguments": {"text": "x"}})
    assert reward == 0.5
    _, reward, terminated, *_ = env.step({"name": "finish", "arguments": {"text": "right"}})
    assert (reward, terminated) == (1.0, True)
    env.close()


def test_the_example_serves_an_environment(examples: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENREWARD_URL", examples)
    monkeypatch.chdir(tmp_path)

    async def play(url: str) -> None:
        async with GenericEnvClient(base_url=url) as client:
            await client.reset(index=0)
            await client.step(call("get_weather", city="Seattle"))
            ended = await client.step({"type": "message", "message": "It is cold in Seattle."})
            assert (ended.reward, ended.done) == (1.0, True)

    script = HERE.parents[1] / "examples" / "openenv_server.py"
    with served(script, python=sys.executable, deadline_s=180) as url:
        asyncio.run(play(url))
    (rollout,) = RolloutStore(tmp_path / "runs/openenv")
    assert rollout.reward == 1.0
