"""Small rollouts for the tests of the exports."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from openreward_gym.types.rollout import (
    EnvironmentRecord,
    MessageRecord,
    Part,
    Rollout,
    Status,
    TaskRecord,
    TextPart,
    ToolCallPart,
    ToolRecord,
)

WEATHER = ToolRecord(
    name="weather",
    description="Current weather",
    input_schema={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def user(text: str) -> MessageRecord:
    return MessageRecord(role="user", blocks=[TextPart(text=text)])


def assistant(text: str = "", *calls: ToolCallPart, **fields: Any) -> MessageRecord:
    said: list[Part] = [TextPart(text=text)] if text else []
    return MessageRecord(role="assistant", blocks=[*said, *calls], **fields)


def call(name: str, arguments: dict[str, Any] | None, *, id: str = "c", text: str | None = None) -> ToolCallPart:
    return ToolCallPart(id=id, name=name, input=arguments, input_text=text)


def result(text: str, *, id: str | None = "c", name: str | None = None, **fields: Any) -> MessageRecord:
    return MessageRecord(role="tool", tool_call_id=id, name=name, blocks=[TextPart(text=text)], **fields)


def episode(
    *messages: MessageRecord,
    reward: float | None = 1.0,
    status: Status = "completed",
    task: str = "t0",
    group: str | None = None,
    tools: list[ToolRecord] | None = None,
    **fields: Any,
) -> Rollout:
    """A rollout that begins with the same user message each time."""
    return Rollout(
        environment=EnvironmentRecord(name="weather", split="train"),
        task=TaskRecord(id=task, index=0),
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
