"""Small rollouts for the tests of the exports."""

from __future__ import annotations

import base64
import io
from dataclasses import fields
from typing import Any

from PIL import Image

from openreward_gym.types import (
    AssistantMessage,
    Block,
    Message,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Status,
    Task,
    TextBlock,
    ToolCall,
    ToolSpec,
    as_blocks,
)

_SAMPLED = {field.name for field in fields(Sampled)}

WEATHER = ToolSpec(
    name="weather",
    description="Current weather",
    input_schema={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def user(text: str) -> Message:
    return Message(role="user", blocks=(TextBlock(text=text),))


def assistant(text: str = "", *calls: ToolCall, blocks: tuple[Block, ...] = (), **values: Any) -> Message:
    """An assistant message. Fields of `Sampled` become its report on the message."""
    report = {name: values.pop(name) for name in list(values) if name in _SAMPLED}
    sampled = Sampled(**report) if report else None
    return AssistantMessage([*blocks, *as_blocks(text), *calls], sampled=sampled, **values)


def call(name: str, arguments: dict[str, Any] | None, *, id: str = "c", text: str | None = None) -> ToolCall:
    return ToolCall(call_id=id, name=name, arguments=arguments, content=text)


def result(text: str, *, id: str | None = "c", name: str | None = None, **values: Any) -> Message:
    return Message(role="tool", call_id=id, name=name, blocks=(TextBlock(text=text),), **values)


def episode(
    *messages: Message,
    reward: float | None = 1.0,
    status: Status = "completed",
    task: str = "t0",
    group: str | None = None,
    tools: list[ToolSpec] | None = None,
    **fields: Any,
) -> Rollout:
    """A rollout that begins with the same user message each time."""
    return Rollout(
        environment=RolloutEnvironment(name="weather", split="train"),
        task=Task(id=task, index=0),
        group=group,
        messages=[user("What is the weather?"), *messages],
        tools=[WEATHER] if tools is None else tools,
        reward=reward,
        final_reward=reward,
        status=status,
        stop_reason="finished",
        **fields,
    )


def png(width: int, height: int) -> str:
    """A PNG in base64."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
