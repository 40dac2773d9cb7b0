"""A session against the official SDK's server: what a user of the protocol sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from environments import PIXEL, TASKS, hostile_texts
from launch import served

from openreward_gym.errors import (
    ConfigurationError,
    EnvironmentNotFoundError,
    ServerError,
    ServerUnreachableError,
    SplitNotFoundError,
    TaskNotFoundError,
    ToolFailedError,
)
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.session import Session
from openreward_gym.protocol.transport import TRANSPORTS
from openreward_gym.protocol.wire import GroupCandidate
from openreward_gym.types import ImageBlock, Message, Split, Task, TextBlock, UserMessage

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """Serve the environments of the tests for this module alone, so that every open session is one of its own."""
    with served() as url:
        yield url


@pytest.fixture(params=sorted(TRANSPORTS))
async def client(server_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with Client(server_url, transport=request.param) as client:
        yield client


def opened(client: Client, name: str = "echo", **task: Any) -> Session:
    return client.environment(name).session(**(task or {"split": "train", "index": 0}))


async def open_sessions(client: Client) -> int:
    answer = await client._context.read("GET", "/health/sessions")
    count: int = answer["sessions"]
    return count


async def test_server_tells_about_itself(client: Client) -> None:
    assert await client.health() == {"status": "ok"}
    assert (await client.version())["version"]
    assert await client.list_environments() == ["echo", "large", "dialogue", "slowstart", "broken", "guarded"]


async def test_tasks_are_listed_counted_and_read(client: Client) -> None:
    environment = client.environment("Echo")
    assert await environment.splits() == [Split("train", "train"), Split("test", "test")]
    assert await environment.num_tasks("train") == 5
    assert await environment.task("train", 3) == Task("train", 3, {"number": 3, "split": "train"})
    assert [task.index for task in await environment.tasks("test")] == [0, 1]
    assert [task.spec for task in await environment.task_range("train", 3, 9)] == [
        {"number": 3, "split": "train"},
        {"number": 4, "split": "train"},
    ]
    assert environment.name == "Echo"


async def test_an_episode(client: Client) -> None:
    async with opened(client) as session:
        assert session.session_id
        (block,) = await session.prompt()
        assert isinstance(block, TextBlock)
        assert "asked 1 times" in block.text
        assert await session.prompt() == (block,)
        assert "echo" in {tool.name for tool in await session.tools()}
        output = await session.call("echo", {"text": "hello"})
        assert (output.text, output.reward, output.finished, output.error) == ("hello", 0.5, False, "")
        output = await session.call("finish", {"text": "right"})
        assert (output.reward, output.finished) == (1.0, True)
        late = await session.call("echo", {"text": "hello"})
        assert (late.error_kind, late.finished) == ("episode_finished", True)


async def test_closing_deletes_the_session(client: Client) -> None:
    before = await open_sessions(client)
    session = opened(client)
    await session.open()
    assert await open_sessions(client) == before + 1
    await session.close()
    await session.close()
    assert await open_sessions(client) == before
    with pytest.raises(ConfigurationError, match="closed"):
        await session.call("echo", {"text": "x"})


async def test_a_session_is_not_used_before_it_is_open(client: Client) -> None:
    session = opened(client)
    with pytest.raises(ConfigurationError, match="not open"):
        await session.prompt()
    await session.close()


async def test_outputs_keep_their_shape(client: Client) -> None:
    async with opened(client) as session:
        output = await session.call("image")
        assert output.blocks == (
            TextBlock("look", {"n": 1}),
            ImageBlock(PIXEL, "image/png", {"alt": "a pixel"}),
        )
        assert (output.metadata, output.reward) == ({"a": [1, None]}, 0.0)
        output = await session.call("nothing")
        assert (output.blocks, output.reward) == ((), None)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 2**63, 0.1, 1e300, -0.0, [1, {"a": None}], "é🦊", True])
async def test_numbers_survive_both_ways(client: Client, value: Any) -> None:
    async with opened(client) as session:
        output = await session.call("value", {"value": value})
        assert output.metadata == {"value": value}
        assert output.text == repr(value)
        assert type(output.metadata["value"]) is type(value)


@pytest.mark.parametrize(
    "arguments", [{"text": "a \ud800"}, {"text": ["\udc01"]}, {"\udfff": "x"}, {"text": {"deep": ["\ud83d\ude00", "\ud83d"]}}]
)
async def test_half_of_a_surrogate_pair_is_not_sent(client: Client, arguments: dict[str, Any]) -> None:
    async with opened(client) as session:
        # The SDK's server could not write an answer that repeats the text, after its tool had run.
        output = await session.call("echo", arguments)
        assert output.error_kind == "malformed"
        assert "half of a surrogate pair, '\\ud" in output.error
        output.error.encode()
        # The halves of a pair are one character, and the text of an escape is a text.
        assert (await session.call("echo", {"text": "\ud83d\ude00 \\ud800"})).text == "\U0001f600 \\ud800"


async def test_a_thousand_hostile_texts_arrive_unchanged(client: Client) -> None:
    async with opened(client) as session:
        for seed in range(20):
            output = await session.call("texts", {"count": 50, "seed": seed})
            assert [block.text for block in output.blocks if isinstance(block, TextBlock)] == hostile_texts(50, seed)


async def test_hostile_texts_reach_the_tool_unchanged(client: Client) -> None:
    async with opened(client) as session:
        for text in hostile_texts(20, 7):
            assert (await session.call("echo", {"text": text})).text == text


@pytest.mark.parametrize(
    ("name", "arguments", "kind"),
    [
        ("nope", {}, "not_found"),
        ("echo", {}, "input_validation"),
        ("echo", {"text": 1}, "input_validation"),
        ("echo", {1: "x"}, "malformed"),
        ("echo", "text", "malformed"),
        ("echo", {"text": object()}, "malformed"),
        ("", {}, "malformed"),
    ],
)
async def test_a_wrong_call_is_an_output(client: Client, name: str, arguments: Any, kind: str) -> None:
    async with opened(client) as session:
        output = await session.call(name, arguments)
        assert output.error_kind == kind
        assert output.error
        assert output.text == output.error
        assert (await session.call("echo", {"text": "still there"})).text == "still there"


async def test_a_raising_tool_ends_the_episode(client: Client) -> None:
    async with opened(client) as session:
        for _ in range(2):
            with pytest.raises(ToolFailedError, match="out of cheese"):
                await session.call("fail", {"text": "out of cheese"})


async def test_a_task_of_ones_own(client: Client) -> None:
    async with opened(client, task_spec={"number": 77}) as session:
        assert "77" in str(await session.prompt())
    async with opened(client, task=Task("train", 2)) as session:
        assert '"number": 2' in str(await session.prompt())


async def test_ten_thousand_tasks_are_never_listed(client: Client) -> None:
    environment = client.environment("large")
    assert await environment.num_tasks("train") == TASKS
    async with environment.session(split="train", index=TASKS - 1) as session:
        assert (await session.call("answer", {"text": str(TASKS - 1)})).reward == 1.0
    with pytest.raises(ConfigurationError, match="by index only"):
        await environment.tasks("train")
    with pytest.raises(TaskNotFoundError, match=str(TASKS)):
        await environment.task("train", TASKS)


async def test_a_conversation_and_its_answer(client: Client) -> None:
    async with opened(client, "dialogue", split="train", index=3) as session:
        messages = await session.messages()
        assert [(message.role, message.text) for message in messages] == [("system", "Be short."), ("user", "Say 3.")]
        tools = await session.tools()
        assert {tool.name for tool in tools} == {"look", "only_in_3"}
        assert tools.terminal is not None
        assert (tools.terminal.name, tools.terminal.arg) == ("submit", "text")
        output = await session.call_terminal("3")
        assert (output.reward, output.finished) == (1.0, True)


async def test_messages_fall_back_to_the_prompt(client: Client) -> None:
    async with opened(client) as session:
        prompt = await session.prompt()
        assert await session.messages() == (Message("user", prompt),)


async def test_a_plain_message_where_there_is_no_terminal_tool(client: Client) -> None:
    async with opened(client) as session:
        assert (await session.call_terminal("hi")).error_kind == "not_found"


async def test_groups_are_compared(client: Client) -> None:
    async with opened(client, "dialogue", split="train", index=1) as session:
        scores = await session.score_group([[UserMessage("abc")], GroupCandidate([UserMessage("de")], {"rollout": 1})])
        assert [(score.reward, score.metadata) for score in scores] == [(3.0, {"text": "abc"}), (2.0, {"text": "de"})]
        with pytest.raises(ServerError, match="no judge today"):
            await session.score_group([[UserMessage("refuse")]])
        assert (await session.call("look")).text
    async with opened(client) as session:
        with pytest.raises(ConfigurationError, match="does not compare"):
            await session.score_group([[UserMessage("abc")]])


async def test_secrets_arrive(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "s3cret-value")
    async with opened(client, split="train", index=0, secrets_env={"judge": "MY_SECRET"}) as session:
        assert (await session.call("secret", {"text": "judge"})).text == str(len("s3cret-value"))
    with pytest.raises(ConfigurationError, match="NOT_SET_ANYWHERE"):
        await opened(client, split="train", index=0, secrets_env={"judge": "NOT_SET_ANYWHERE"}).open()


async def test_slow_starts_are_waited_for(client: Client) -> None:
    async with opened(client, "slowstart", task_spec={"setup_s": 0.5}) as session:
        assert (await session.call("ready")).text == "ready"


async def test_an_environment_that_cannot_start(client: Client) -> None:
    async with opened(client, "broken") as session:
        with pytest.raises(ServerError, match="no disk left"):
            await session.prompt()


async def test_mistakes_are_named(client: Client) -> None:
    with pytest.raises(EnvironmentNotFoundError, match=r"'nosuch'.*echo, large"):
        await client.environment("nosuch").splits()
    with pytest.raises(EnvironmentNotFoundError, match="nosuch"):
        await opened(client, "nosuch").open()
    for make in (client.environment("echo").session, client.environment("large").session):
        with pytest.raises(SplitNotFoundError, match=r"'dev'.*train, test"):
            await make(split="dev", index=0).open()
    with pytest.raises(SplitNotFoundError, match="train, test"):
        await client.environment("echo").num_tasks("dev")
    with pytest.raises(TaskNotFoundError, match=r"no task 5 .* it has 5"):
        await opened(client, split="train", index=5).open()
    with pytest.raises(ConfigurationError, match="hammer"):
        await opened(client, split="train", index=0, toolset="hammer").open()
    with pytest.raises(ConfigurationError, match="from 0"):
        opened(client, split="train", index=-1)
    with pytest.raises(ConfigurationError, match="give the task"):
        opened(client, split="train")
    assert await open_sessions(client) == 0


async def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ServerUnreachableError, match=r"http://127.0.0.1:1 .*openreward-gym serve"):
        async with Client("http://127.0.0.1:1") as client:
            await client.environment("echo").splits()


async def test_many_sessions_at_once(client: Client) -> None:
    environment = client.environment("echo")

    async def episode(index: int) -> str:
        async with environment.session(split="train", index=index % 5) as session:
            await session.prompt()
            return (await session.call("echo", {"text": str(index)})).text

    assert await asyncio.gather(*[episode(index) for index in range(16)]) == [str(index) for index in range(16)]
    assert await open_sessions(client) == 0
