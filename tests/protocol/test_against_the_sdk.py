"""Our sessions and the SDK's own, side by side on one server: equal in everything that the SDK does not lose."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
from environments import PIXEL

from openreward_gym.errors import ToolFailedError
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.session import Session
from openreward_gym.protocol.transport import TRANSPORTS
from openreward_gym.types import Block, ImageBlock, Message, TextBlock, ToolSpec, UserMessage

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from openreward.api.environments import client as sdk
    from openreward.api.environments import types as sdk_types
    from openreward.api.errors import ToolCallError, ToolFailed

pytestmark = pytest.mark.anyio


@pytest.fixture
async def theirs(server_url: str) -> AsyncIterator[Any]:
    api = sdk.AsyncEnvironmentsAPI(base_url=server_url, api_key="")
    yield api
    await api.aclose()


@pytest.fixture(params=sorted(TRANSPORTS))
async def ours(server_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with Client(server_url, transport=request.param) as client:
        yield client


def block(raw: Any) -> Block:
    if isinstance(raw, sdk_types.TextBlock):
        return TextBlock(raw.text, raw.detail)
    return ImageBlock(raw.data, raw.mimeType, raw.detail)


def blocks(raw: Any) -> tuple[Block, ...]:
    return tuple(block(entry) for entry in raw)


async def test_splits_tasks_and_tools(ours: Client, theirs: Any) -> None:
    mine, other = ours.environment("echo"), theirs.get("echo", variant="echo")
    assert [split.name for split in await mine.splits()] == await other.list_splits()
    assert await mine.num_tasks("train") == await other.num_tasks("train")
    assert [task.spec for task in await mine.tasks("train")] == [task.task_spec for task in await other.list_tasks("train")]
    assert (await mine.task("test", 1)).spec == (await other.get_task("test", 1)).task_spec
    ranged = await other.get_task_range("train", 1, 3)
    assert [task.spec for task in await mine.task_range("train", 1, 3)] == [task.task_spec for task in ranged]
    shown = [ToolSpec(tool.name, tool.description, tool.input_schema) for tool in await other.list_tools()]
    assert list(await mine.tools()) == shown


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("echo", {"text": "hello é🦊"}),
    ("echo", {"text": "x" * 50_000}),
    ("image", {}),
    ("nothing", {}),
    ("value", {"value": {"a": [1, 2.5, None, True, "é"], "b": 2**40}}),
    ("count", {}),
    ("nope", {}),
    ("echo", {"text": 5}),
    ("finish", {"text": "right"}),
    ("echo", {"text": "late"}),
]


async def test_an_episode(ours: Client, theirs: Any) -> None:
    mine = ours.environment("echo").session(split="train", index=2)
    other = theirs.get("echo", variant="echo").session(split="train", index=2)
    async with mine, other:
        assert await mine.prompt() == blocks(await other.get_prompt())
        tools = [ToolSpec(tool.name, tool.description, tool.input_schema) for tool in await other.list_tools()]
        assert list(await mine.tools()) == tools
        for name, arguments in CALLS:
            output = await mine.call(name, arguments)
            if output.error:
                with pytest.raises(ToolCallError) as refused:
                    await other.call_tool(name, arguments)
                assert (output.error_kind, output.error) == (refused.value.reason, refused.value.detail)
                continue
            wanted = await other.call_tool(name, arguments)
            assert output.blocks == blocks(wanted.blocks)
            assert (output.reward, output.finished, output.metadata) == (wanted.reward, wanted.finished, wanted.metadata)


async def test_a_tool_that_raises(ours: Client, theirs: Any) -> None:
    mine = ours.environment("echo").session(split="train", index=0)
    other = theirs.get("echo", variant="echo").session(split="train", index=0)
    async with mine, other:
        with pytest.raises(ToolFailed, match="boom"):
            await other.call_tool("fail", {"text": "boom"})
        with pytest.raises(ToolFailedError, match="boom"):
            await mine.call("fail", {"text": "boom"})


async def test_a_conversation(ours: Client, theirs: Any) -> None:
    mine = ours.environment("dialogue").session(split="train", index=1)
    other = theirs.get("dialogue", variant="dialogue").session(split="train", index=1)
    async with mine, other:
        wanted = [Message(message.role, blocks(message.blocks)) for message in await other.get_messages()]
        assert list(await mine.messages()) == wanted
        terminal = await other.terminal_tool()
        tools = await mine.tools()
        assert tools.terminal is not None
        assert (tools.terminal.name, tools.terminal.arg) == (terminal.name, terminal.arg)
        assert tools.supports_score_group == await other.supports_score_group()
        group = [[sdk_types.Message(role="user", blocks=[sdk_types.TextBlock(text=text)])] for text in ("a", "bcd")]
        theirs_scored = await other.score_group(group)
        scores = await mine.score_group([[UserMessage("a")], [UserMessage("bcd")]])
        assert [(s.reward, s.metadata) for s in scores] == [(s.reward, s.metadata) for s in theirs_scored]
        ended = await other.call_terminal_tool("1")
        output = await mine.call_terminal("1")
        assert (output.blocks, output.reward, output.finished) == (blocks(ended.blocks), ended.reward, ended.finished)


async def test_the_prompt_of_a_conversation_read_after_it(ours: Client, theirs: Any) -> None:
    other = theirs.get("dialogue", variant="dialogue").session(split="train", index=1)
    mine: Session = ours.environment("dialogue").session(split="train", index=1)
    async with mine, other:
        await mine.messages()
        assert await mine.prompt() == blocks(await other.get_prompt())
        assert (await mine.call("look")).text == "1"


async def test_blanks_that_the_sdk_loses_and_we_do_not(ours: Client, theirs: Any) -> None:
    text = "".join("y" + " " * 5 for _ in range(6_000))
    mine = ours.environment("echo").session(split="train", index=0)
    other = theirs.get("echo", variant="echo").session(split="train", index=0)
    async with mine, other:
        assert (await mine.call("echo", {"text": text})).text == text
        lossy = (await other.call_tool("echo", {"text": text})).blocks[0].text
        assert lossy.replace(" ", "") == text.replace(" ", "")
        assert len(lossy) <= len(text)


def test_the_pixel_is_a_picture() -> None:
    assert ImageBlock(PIXEL).content.startswith(b"\x89PNG")
