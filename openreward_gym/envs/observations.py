"""Observations, infos and renderings of an episode.

Each key of an `info` always has the same type, never None, an array or a dict: Gymnasium's vector environments take the dtype
of a key from its first value and merge dicts recursively. Therefore `info["metadata"]` is JSON text. The value itself is
`env.unwrapped.last_step.results[i].output.metadata`.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from openreward_gym.chat import OpenAIChatDialect
from openreward_gym.chat.dialect import sendable
from openreward_gym.envs.episode import Episode, Step
from openreward_gym.envs.spaces import BlocksSpace, MessagesSpace, UnicodeText
from openreward_gym.envs.typed_dicts import BlockElement, ChatMessage, Info, InfoStopReason, ToolDescription
from openreward_gym.errors import MissingExtraError
from openreward_gym.options import ObsMode
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
    split_results,
    text_of,
)

WIDTH, HEIGHT = 960, 720
"""Size in pixels of every rendered image: RecordVideo needs one size for all frames."""

_DIALECT = OpenAIChatDialect()


def observation_space(obs_mode: ObsMode, max_obs_chars: int | None) -> gymnasium.Space[Any]:
    """Return the space of the observations of an `obs_mode`."""
    if obs_mode == "text":
        return UnicodeText(max_length=max_obs_chars)
    return BlocksSpace() if obs_mode == "blocks" else MessagesSpace()


def conversation_text(messages: Sequence[Message]) -> str:
    """Return a conversation as text. A single user message is only its text; a longer conversation shows the roles."""
    if len(messages) == 1 and messages[0].role == "user":
        return blocks_text(messages[0].blocks)
    return transcript(messages)


def blocks_text(blocks: Sequence[Block]) -> str:
    """Return blocks as text, including reasoning, calls and results."""
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
    """Return the results of a step as text: a single result alone, several each under its tool's name, then an error."""
    if len(step.results) == 1:
        parts = [blocks_text(step.results[0].output.blocks)]
    else:
        parts = [f"[{result.call.name}]\n{blocks_text(result.output.blocks)}" for result in step.results]
    parts.extend(part for part in (step.reply, step.error) if part)
    return "\n\n".join(parts)


def truncated(text: str, max_chars: int | None) -> tuple[str, int]:
    """Return a text of at most `max_chars` characters, and the number of characters that were cut from its middle.

    A marker stands in their place. If the marker does not fit, the head alone remains.
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


def block_elements(blocks: Sequence[Block]) -> tuple[BlockElement, ...]:
    """Return blocks as elements of `BlocksSpace`: `{"type": "text", "text"}` and `{"type": "image", "data", "mime"}`."""
    elements: list[BlockElement] = []
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


def prompt_elements(prompt: Sequence[Message]) -> tuple[BlockElement, ...]:
    """Return the blocks of a prompt as elements of `BlocksSpace`.

    Of a prompt that is more than one turn of the user, each element has the `role` of its message, and `is_error` if that is one.
    """
    if all(message.role == "user" for message in prompt):
        return block_elements([block for message in prompt for block in message.blocks])
    elements: list[BlockElement] = []
    for message in prompt:
        elements += _marked(message.blocks, role=message.role, is_error=message.is_error)
    return tuple(elements)


class TranscriptObserver:
    """Writes a growing transcript as observations of `MessagesSpace`, each message once.

    Example:
        >>> observer = TranscriptObserver()
        >>> observer.observe([Message("user", (TextBlock("Hi"),))])
        ({'role': 'user', 'content': 'Hi'},)
    """

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._pickled: list[bytes] = []

    def observe(self, messages: Sequence[Message]) -> tuple[ChatMessage, ...]:
        """Return the messages as `to_openai(messages, lossless=True)` writes them, in objects of the caller's own."""
        turns = [part for message in messages for part in split_results(message)]
        for place, (turn, sent) in enumerate(zip(turns, sendable(turns), strict=True)):
            if place >= len(self._messages) or self._messages[place] is not turn:
                self._messages[place:], self._pickled[place:] = [turn], [pickle.dumps(_DIALECT.write_lossless(turn, sent))]
        return tuple(pickle.loads(one) for one in self._pickled[: len(turns)])


def step_elements(step: Step) -> tuple[BlockElement, ...]:
    """Return a step as elements of `BlocksSpace`: its results, then the env's reply and the error.

    Elements of an error have `is_error`, and those of several results name the `tool` and the `tool_call_id` of theirs.
    """
    elements: list[BlockElement] = []
    for result in step.results:
        call = {"tool": result.call.name, "tool_call_id": result.call.call_id} if len(step.results) > 1 else {}
        elements += _marked(result.output.blocks, is_error=bool(result.output.error), **call)
    return (*elements, *block_elements([TextBlock(text) for text in (step.reply, step.error) if text]))


def _marked(blocks: Sequence[Block], **fields: Any) -> list[BlockElement]:
    """Return blocks as elements with further keys; those whose value is False or empty are left out."""
    kept = {name: value for name, value in fields.items() if value}
    return [cast(BlockElement, {**element, **kept}) for element in block_elements(blocks)]


def reset_info(episode: Episode) -> Info:
    """Return the info of `reset`: the keys of a step's info, `tools` and `action_mask`."""
    info = step_info(episode, Step(AssistantMessage()))
    info["blocks"] = prompt_elements(episode.prompt)
    tools: list[ToolDescription] = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema} for tool in episode.tools
    ]
    return {**info, "tools": tuple(tools), "action_mask": tuple(1 for _ in tools)}


def step_info(episode: Episode, step: Step) -> Info:
    """Return the info of a step. With several calls, `tool` and `tool_call_id` are those of the last, `error` is the first."""
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
        "stop_reason": cast(InfoStopReason, str(step.stop_reason)),
        "obs_truncated_chars": 0,
        "metadata": "null" if metadata is None else json.dumps(metadata, default=str),
        "blocks": step_elements(step),
    }


def transcript(messages: Sequence[Message]) -> str:
    """Return the messages as text, each under its role."""
    return "\n\n".join(
        f"[{message.role}{' (error)' if message.is_error else ''}]\n{blocks_text(message.blocks)}" for message in messages
    )


class Renderer:
    """Renderer of one env's episodes. It prints each message once."""

    def __init__(self) -> None:
        self._printed: tuple[str, int] = ("", 0)

    def render(self, mode: str, episode: Episode | None) -> Any:
        """Render an episode: "ansi" as a string, "rgb_array" as a uint8 array (HEIGHT, WIDTH, 3), "human" to stdout."""
        if mode == "human":
            if episode is not None:
                self.print_new(episode)
            return None
        messages = () if episode is None else episode.messages
        return transcript(messages) if mode == "ansi" else picture(messages)

    def print_new(self, episode: Episode) -> None:
        """Print the messages that were not printed yet."""
        name, printed = self._printed
        if name != episode.started_at:
            printed = 0
        messages = episode.messages
        if printed < len(messages):
            sys.stdout.write(transcript(messages[printed:]) + "\n\n")
            sys.stdout.flush()
        self._printed = (episode.started_at, len(messages))


def picture(messages: tuple[Message, ...]) -> NDArray[np.uint8]:
    """Return the latest image, letterboxed. Without an image, draw the end of the transcript."""
    latest = _latest_image(messages)
    return _letterbox(latest) if latest is not None else _draw(transcript(messages))


def _latest_image(messages: tuple[Message, ...]) -> bytes | None:
    for message in reversed(messages):
        for block in reversed(message.blocks):
            inner: tuple[Block, ...] = block.blocks if isinstance(block, ToolResult) else (block,)
            for candidate in reversed(inner):
                if isinstance(candidate, ImageBlock) and candidate.content:
                    return candidate.content
    return None


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError('render_mode="rgb_array" needs Pillow: pip install "openreward-gym[render]"') from None
    return Image


def _letterbox(content: bytes) -> NDArray[np.uint8]:
    image_module = _pillow()
    try:
        image = image_module.open(io.BytesIO(content)).convert("RGB")
    except (OSError, ValueError, image_module.DecompressionBombError) as error:
        return _draw(f"[image cannot be shown: {error}]")
    image.thumbnail((WIDTH, HEIGHT))
    canvas = image_module.new("RGB", (WIDTH, HEIGHT), "black")
    canvas.paste(image, ((WIDTH - image.width) // 2, (HEIGHT - image.height) // 2))
    return np.asarray(canvas, dtype=np.uint8)


def _draw(text: str) -> NDArray[np.uint8]:
    from PIL import ImageDraw, ImageFont

    image_module = _pillow()
    size, margin = 14, 12
    font = ImageFont.load_default(size)
    columns = int((WIDTH - 2 * margin) / font.getlength("n"))
    rows = (HEIGHT - 2 * margin) // (size + 4)
    lines: list[str] = []
    for line in text[-columns * rows * 4 :].split("\n"):
        lines.extend(textwrap.wrap(line, columns, drop_whitespace=False) or [""])
    canvas = image_module.new("RGB", (WIDTH, HEIGHT), "#111418")
    drawing = ImageDraw.Draw(canvas)
    for row, line in enumerate(lines[-rows:]):
        colour = "#7fb4ff" if line.startswith("[") else "#e6e6e6"
        printable = line.encode("utf-8", "replace").decode("utf-8")
        drawing.text((margin, margin + row * (size + 4)), printable, fill=colour, font=font)
    return np.asarray(canvas, dtype=np.uint8)
