"""What the caller of an env sees: blocks as an observation, and `info` with keys whose types never change.

Vector environments merge infos by guessing a dtype from the first value, so each key here has one type, always:
no None, no arrays, no foreign dicts (`metadata` travels as JSON text).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

from openreward_gym.envs.episode import Episode, Step
from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Json,
    Message,
    OpaqueBlock,
    ReasoningItem,
    TextBlock,
    ToolCall,
    ToolResult,
    text_of,
)

ObsMode: TypeAlias = Literal["text", "blocks", "messages"]
OBS_MODES: tuple[str, ...] = get_args(ObsMode)

Info: TypeAlias = dict[str, Any]


def conversation_text(messages: Sequence[Message]) -> str:
    """A conversation as text: one user message is its own text; anything longer shows who speaks."""
    if len(messages) == 1 and messages[0].role == "user":
        return blocks_text(messages[0].blocks)
    return "\n\n".join(f"[{message.role}]\n{blocks_text(message.blocks)}" for message in messages)


def blocks_text(blocks: Sequence[Block]) -> str:
    """Blocks as text; reasoning, calls and results that a conversation begins with are shown, not lost."""
    parts = []
    for block in blocks:
        if isinstance(block, ReasoningItem):
            parts.append(f"<think>{block.content or block.summary or ''}</think>")
        elif isinstance(block, ToolCall):
            parts.append(f"[tool_call {block.name}] {block.arguments_json}")
        elif isinstance(block, ToolResult):
            parts.append(f"[tool_result{' (error)' if block.is_error else ''}]\n{blocks_text(block.blocks)}")
        else:
            parts.append(text_of((block,)))
    return "\n".join(parts)


def step_text(step: Step) -> str:
    """A step's answer as text: of one call its result, of several each under its tool's name; what failed, last."""
    if len(step.results) == 1:
        parts = [blocks_text(step.results[0].output.blocks)]
    else:
        parts = [f"[{result.call.name}]\n{blocks_text(result.output.blocks)}" for result in step.results]
    parts.extend(part for part in (step.reply, step.error) if part)
    return "\n\n".join(parts)


def truncated(text: str, max_chars: int | None) -> tuple[str, int]:
    """(text, number of characters cut): the head and the tail stay, a marker between them says what is missing.

    The result is never longer than `max_chars`; where the marker does not fit, the head alone stays.
    """
    if max_chars is None or len(text) <= max_chars:
        return text, 0
    marker = f"\n[... {len(text) - max_chars} or more characters cut ...]\n"
    room = max_chars - len(marker)
    if room < 2:
        return text[:max_chars], len(text) - max_chars
    head = room - room // 3
    tail = room - head
    return text[:head] + marker + text[len(text) - tail :], len(text) - room


def block_elements(blocks: Sequence[Block]) -> tuple[dict[str, Any], ...]:
    """Blocks as `BlocksSpace` has them: `{"type": "text", "text"}` and `{"type": "image", "data": bytes, "mime"}`."""
    elements: list[dict[str, Any]] = []
    for block in blocks:
        if isinstance(block, ImageBlock):
            elements.append({"type": "image", "data": block.content, "mime": block.mime_type})
        elif isinstance(block, ToolResult):
            elements.extend(block_elements(block.blocks))
        elif isinstance(block, TextBlock):
            elements.append({"type": "text", "text": block.text})
        elif isinstance(block, OpaqueBlock):
            elements.append({"type": "text", "text": json.dumps(dict(block.raw), default=str)})
        else:
            elements.append({"type": "text", "text": blocks_text((block,))})
    return tuple(elements)


def message_blocks(messages: Sequence[Message]) -> tuple[Block, ...]:
    return tuple(block for message in messages for block in message.blocks)


def step_blocks(step: Step) -> list[Block]:
    """All blocks a step brought: the results' of its calls, what the env said, the error as a text block at the end."""
    blocks = [block for result in step.results for block in result.output.blocks]
    blocks.extend(TextBlock(text) for text in (step.reply, step.error) if text)
    return blocks


def reset_info(episode: Episode) -> Info:
    """The info of `reset`: that of a step which did nothing, and the tools."""
    info = step_info(episode, Step(AssistantMessage()))
    info["blocks"] = block_elements(message_blocks(episode.prompt))
    info["tools"] = tuple(
        {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema} for tool in episode.tools
    )
    info["action_mask"] = tuple(1 for _ in episode.tools)
    return info


def step_info(episode: Episode, step: Step) -> Info:
    """The info of a step; where several calls ran, `tool` and `tool_call_id` are the last one's, `error` the first's."""
    last = step.results[-1] if step.results else None
    wrong = next((result.output for result in step.results if result.output.error), None)
    metadata: Json = [result.output.metadata for result in step.results]
    if len(step.results) < 2:
        metadata = metadata[0] if metadata else None
    return {
        "env": episode.environment,
        "split": episode.task.split,
        "task_index": -1 if episode.task.index is None else episode.task.index,
        "tool": last.call.name if last else "",
        "tool_call_id": last.call.call_id if last else "",
        "n_calls": len(step.results),
        "error": wrong.error if wrong else step.error,
        "error_kind": wrong.error_kind if wrong else ("infrastructure" if step.error else ""),
        "reward_is_null": not step.has_reward,
        "finished": step.terminated,
        "stop_reason": str(step.stop_reason),
        "obs_truncated_chars": 0,
        "metadata": "null" if metadata is None else json.dumps(metadata, default=str),
        "blocks": block_elements(step_blocks(step)),
    }
