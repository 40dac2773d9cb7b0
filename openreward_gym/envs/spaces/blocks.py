"""The spaces of observations that are blocks (text and images) and messages."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium import Space

from openreward_gym.envs.spaces.dice import Dice
from openreward_gym.envs.spaces.string_sampling import sample_string
from openreward_gym.errors import ConfigurationError
from openreward_gym.types import Json

_ROLES = ("system", "developer", "user", "assistant", "tool")


class _TranscriptSpace(Space[tuple[dict[str, Any], ...]]):
    """Tuples of dicts: what blocks and messages have in common. Equal to any other of its class."""

    def __init__(self, *, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def _refuse_weights(self, mask: Any | None, probability: Any | None) -> None:
        if mask is not None or probability is not None:
            raise ConfigurationError(f"{type(self).__name__} is not enumerable: it takes neither mask nor probability")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class BlocksSpace(_TranscriptSpace):
    """Tuples of blocks as a tool gives them, of any length.

    A block is `{"type": "text", "text": str}` or `{"type": "image", "data": bytes, "mime": str}`, where `data` is the image
    file's content. It may have further keys.
    """

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> tuple[dict[str, Any], ...]:
        """Up to three blocks: short texts and images of one pixel."""
        self._refuse_weights(mask, probability)
        dice = Dice(self.np_random)
        return tuple(_image(dice) if dice.chance(0.25) else {"type": "text", "text": _words(dice)} for _ in range(dice.below(4)))

    def contains(self, x: Any) -> bool:
        return isinstance(x, tuple) and all(_is_block(block) for block in x)

    def to_jsonable(self, sample_n: Iterable[tuple[dict[str, Any], ...]]) -> list[Json]:
        """Images' bytes as base64 text."""
        return [
            [{**b, "data": base64.b64encode(b["data"]).decode("ascii")} if b["type"] == "image" else dict(b) for b in blocks]
            for blocks in sample_n
        ]

    def from_jsonable(self, sample_n: list[Json]) -> list[tuple[dict[str, Any], ...]]:
        return [
            tuple({**b, "data": base64.b64decode(b["data"])} if b["type"] == "image" else dict(b) for b in blocks)
            for blocks in sample_n
        ]


class MessagesSpace(_TranscriptSpace):
    """Tuples of messages in OpenAI's chat form, of any length: a transcript so far.

    A message is a dict with a `role` (system, developer, user, assistant or tool) and a `content` (text, a list of parts
    that each have a `type`, or None); an assistant's may have `tool_calls`, a tool's has the `tool_call_id` it answers.
    """

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> tuple[dict[str, Any], ...]:
        """A user's message and up to two calls with their results."""
        self._refuse_weights(mask, probability)
        dice = Dice(self.np_random)
        messages: list[dict[str, Any]] = [{"role": "user", "content": _words(dice)}]
        for turn in range(dice.below(3)):
            function = {"name": _word(dice), "arguments": f'{{"{_word(dice)}": {dice.below(100)}}}'}
            call = {"id": f"call_{turn}", "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": _words(dice)})
        return tuple(messages)

    def contains(self, x: Any) -> bool:
        return isinstance(x, tuple) and all(_is_message(message) for message in x)

    def to_jsonable(self, sample_n: Iterable[tuple[dict[str, Any], ...]]) -> list[Json]:
        return [list(messages) for messages in sample_n]

    def from_jsonable(self, sample_n: list[Json]) -> list[tuple[dict[str, Any], ...]]:
        return [tuple(messages) for messages in sample_n]


def _is_block(block: Any) -> bool:
    if not isinstance(block, dict):
        return False
    if block.get("type") == "image":
        return isinstance(block.get("data"), bytes) and isinstance(block.get("mime"), str)
    return block.get("type") == "text" and isinstance(block.get("text"), str)


def _is_message(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        return False
    content = message.get("content")
    if isinstance(content, (list, tuple)):
        if not all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in content):
            return False
    elif content is not None and not isinstance(content, str):
        return False
    if message["role"] == "tool" and not isinstance(message.get("tool_call_id"), str):
        return False
    calls = message.get("tool_calls")
    return calls is None or (isinstance(calls, (list, tuple)) and all(_is_call(call) for call in calls))


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str) and isinstance(function.get("arguments"), str)


def _word(dice: Dice) -> str:
    return sample_string(dice, low=1, high=8) or "a"


def _words(dice: Dice) -> str:
    return " ".join(_word(dice) for _ in range(dice.below(6)))


def _image(dice: Dice) -> dict[str, Any]:
    """A PNG file of one pixel of a random colour."""
    pixel = bytes([0, dice.below(256), dice.below(256), dice.below(256)])
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(pixel)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return {"type": "image", "data": b"\x89PNG\r\n\x1a\n" + body, "mime": "image/png"}
