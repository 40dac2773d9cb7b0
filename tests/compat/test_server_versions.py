"""The same client against servers of every generation, each in an environment of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from installing import kept_environment
from launch import served

from openreward_gym.compat import OpenReward
from openreward_gym.compat.api.errors import ToolCallError
from openreward_gym.errors import EnvironmentNotFoundError, SplitNotFoundError, TaskNotFoundError, ToolFailedError
from openreward_gym.protocol.api import ApiCall
from openreward_gym.protocol.client import Client
from openreward_gym.types import Message, Split

VERSIONS = {
    "openreward-0.1.131": "openreward==0.1.131",
    "openreward-newest": "openreward",
    "ors-sdk-0.1.0": "ors-sdk==0.1.0",
}

pytestmark = [pytest.mark.matrix, pytest.mark.anyio, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=VERSIONS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    python = kept_environment(request.param, VERSIONS[request.param])
    with served(Path(__file__).parent / "server.py", python=str(python)) as url:
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url, ping_interval_s=0.3) as client:
        yield client


async def open_sessions(client: Client) -> int:
    count: int = (await client._context.read("GET", "/health/sessions"))["sessions"]
    return count


async def test_what_the_server_has(client: Client) -> None:
    assert await client.list_environments() == ["echo", "second"]
    version = await client.version()
    assert version is None or version["version"]
    environment = client.environment("Echo")
    assert await environment.splits() == [Split("train", "train"), Split("test", "test")]
    assert await environment.num_tasks("train") == 3
    assert (await environment.task("train", 2)).spec == {"number": 2}
    assert [task.spec for task in await environment.tasks("test")] == [{"number": n} for n in range(3)]
    assert [task.spec for task in await environment.task_range("train", 1, 3)] == [{"number": 1}, {"number": 2}]
    assert {tool.name for tool in await environment.tools()} == {"echo", "slow", "fail", "secret", "finish"}


async def test_an_episode(client: Client) -> None:
    async with client.environment("echo").session(split="train", index=1) as session:
        (block,) = await session.prompt()
        assert block.text == "task 1"  # type: ignore[union-attr]
        assert await session.messages() == (Message("user", (block,)),)
        assert {tool.name for tool in await session.tools()} == {"echo", "slow", "fail", "secret", "finish"}
        text = "blanks" + " " * 9_000 + "\u2028\u0085\r\n é🦊 end"
        output = await session.call("echo", {"text": text})
        assert (output.text, output.reward, output.finished, output.metadata) == (text, 0.5, False, {"calls": 1})
        assert (await session.call("nope")).error_kind == "not_found"
        assert (await session.call("echo", {"text": 7})).error_kind == "input_validation"
        assert (await session.call("slow", {"seconds": 1.0})).text == "done"
        output = await session.call("finish", {"text": "right"})
        assert (output.reward, output.finished) == (1.0, True)
    assert await open_sessions(client) == 0


async def test_a_call_that_does_not_wait_for_the_prompt(client: Client) -> None:
    async with client.environment("echo", variant="Second").session(task_spec={"number": 9}) as session:
        assert (await session.call("echo", {"text": "first"})).metadata == {"calls": 1}


async def test_a_tool_that_raises(client: Client) -> None:
    async with client.environment("echo").session(split="train", index=0) as session:
        with pytest.raises(ToolFailedError, match="boom"):
            await session.call("fail", {"text": "boom"})
    assert await open_sessions(client) == 0


async def test_secrets_arrive(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "twelve-chars")
    session = client.environment("echo").session(split="train", index=0, secrets_env={"judge": "MY_SECRET"})
    async with session:
        assert (await session.call("secret", {"text": "judge"})).text == "12"


async def test_mistakes_are_named(client: Client) -> None:
    with pytest.raises(EnvironmentNotFoundError, match="echo, second"):
        await client.environment("nosuch").splits()
    with pytest.raises(SplitNotFoundError, match="train, test"):
        await client.environment("echo").session(split="dev", index=0).open()
    with pytest.raises(TaskNotFoundError, match="it has 3"):
        await client.environment("echo").session(split="train", index=3).open()
    assert await open_sessions(client) == 0


def test_a_program_of_the_official_client(url: str) -> None:
    secrets = {"judge": ("twelve-chars", ["judge.example.com"])}
    with OpenReward("sk-any-0123456789") as official:
        environment = official.environments.get("echo", base_url=url)
        assert environment.list_splits() == ["train", "test"]
        tasks = environment.list_tasks("train")
        assert (len(tasks), tasks[1].task_spec, environment.num_tasks("test")) == (3, {"number": 1}, 3)
        with environment.session(tasks[1], secrets) as opened:
            assert [message.blocks[0].text for message in opened.get_messages()] == ["task 1"]  # type: ignore[union-attr]
            assert {tool.name for tool in opened.list_tools()} == {"echo", "slow", "fail", "secret", "finish"}
            assert opened.call_tool("secret", {"text": "judge"}).blocks[0].text == "12"  # type: ignore[union-attr]
            for name, arguments, reason in (("nope", {}, "not_found"), ("echo", {"text": 7}, "input_validation")):
                with pytest.raises(ToolCallError) as refused:
                    opened.call_tool(name, arguments)
                assert refused.value.reason == reason
            assert opened.call_tool("finish", {"text": "right"}).reward == 1.0
        with official.environments.get("second", base_url=url).session(split="train", index=2) as opened:
            assert opened.get_prompt()[0].text == "task 2"  # type: ignore[union-attr]


async def test_sessions_are_kept_alive_and_found_lost(client: Client, url: str) -> None:
    session = client.environment("echo").session(split="train", index=0)
    async with session:
        await session.prompt()
        async with Client(url) as other:
            await other._context.api.send(ApiCall("POST", "/delete", headers={"X-Session-ID": session.session_id or ""}))
        ends = asyncio.get_running_loop().time() + 10
        while not session.lost:
            assert asyncio.get_running_loop().time() < ends
            await asyncio.sleep(0.02)
