"""Spaces of observations: text, blocks (text and images) and messages."""

from __future__ import annotations

import base64
import string
import struct
import sys
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from openreward_gym.checks import integer
from openreward_gym.envs.spaces.string_sampling import BufferedRandom, sample_string
from openreward_gym.errors import ConfigurationError
from openreward_gym.types import Json

_SAMPLED_LENGTH = 32
"""Longest sample, in characters. Samples are for smoke tests, and lengths uniform up to a million would fill memory."""

_SAMPLED_CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " \n"
_ROLES = ("system", "developer", "user", "assistant", "tool")


class UnicodeText(spaces.Text):
    """Any text: empty text, NUL characters, every script, lone surrogates.

    `gymnasium.spaces.Text` does not fit the output of tools: it has a fixed set of characters, at least one character, and a
    greatest length for which memory is reserved. The `character_set` of this class has the characters that `sample` draws from.

    Args:
        max_length: Greatest length in characters. None (default) sets no limit.
        seed: Seed of `sample`.

    Raises:
        ConfigurationError: `max_length` is negative or not an integer.

    Example:
        >>> space = UnicodeText(max_length=8)
        >>> "" in space, "\u017elu\u0165" in space, "too long a text" in space
        (True, True, False)
    """

    def __init__(self, max_length: int | None = None, *, seed: int | np.random.Generator | None = None) -> None:
        integer(0, optional=True)("max_length", max_length)
        super().__init__(
            sys.maxsize if max_length is None else int(max_length), min_length=0, charset=_SAMPLED_CHARACTERS, seed=seed
        )

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """Return a short text of printable ASCII characters.

        Args:
            mask: `(length, characters)` as for `gymnasium.spaces.Text`; either may be None.
            probability: `(length, probabilities of characters)`, likewise.
        """
        if mask is None and probability is None:
            characters = self.character_list
            drawn = self.np_random.integers(len(characters), size=self._drawn_length())
            return "".join(characters[i] for i in drawn.tolist())
        return str(super().sample(mask=self._with_length(mask), probability=self._with_length(probability)))

    def _drawn_length(self) -> int:
        return int(self.np_random.integers(min(self.max_length, _SAMPLED_LENGTH) + 1))

    def _with_length(self, weights: Any | None) -> Any | None:
        # `Text` draws a missing length between 0 and max_length, which here is far too long a string.
        if isinstance(weights, tuple) and len(weights) == 2 and weights[0] is None:
            return (self._drawn_length(), weights[1])
        return weights

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeText) and self.max_length == other.max_length

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "UnicodeText()" if self.max_length == sys.maxsize else f"UnicodeText(max_length={self.max_length})"


class _TranscriptSpace(Space[tuple[dict[str, Any], ...]]):
    """Common base of the spaces of tuples of dicts. All spaces of one class are equal."""

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
    """Tuples of text and image blocks, of any length.

    A block is `{"type": "text", "text": str}` or `{"type": "image", "data": bytes, "mime": str}`, where `data` is the content
    of the image file. It may have further keys.

    Example:
        >>> ({"type": "text", "text": "hello"},) in BlocksSpace()
        True
    """

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> tuple[dict[str, Any], ...]:
        """Return up to three blocks: short texts and images of one pixel."""
        self._refuse_weights(mask, probability)
        rng = BufferedRandom(self.np_random)
        return tuple(_image(rng) if rng.chance(0.25) else {"type": "text", "text": _words(rng)} for _ in range(rng.below(4)))

    def contains(self, x: Any) -> bool:
        return isinstance(x, tuple) and all(_is_block(block) for block in x)

    def to_jsonable(self, sample_n: Iterable[tuple[dict[str, Any], ...]]) -> list[Json]:
        """Return samples as JSON values, with the bytes of images in base64."""
        return [[_convert_data(block, lambda data: base64.b64encode(data).decode()) for block in blocks] for blocks in sample_n]

    def from_jsonable(self, sample_n: list[Json]) -> list[tuple[dict[str, Any], ...]]:
        return [tuple(_convert_data(block, base64.b64decode) for block in blocks) for blocks in sample_n]


class MessagesSpace(_TranscriptSpace):
    """Tuples of messages in OpenAI's chat format, of any length: the transcript so far.

    A message is a dict with a `role` (system, developer, user, assistant or tool) and a `content` (a string, a list of parts
    that each have a `type`, or None). An assistant message may have `tool_calls`; a tool message has the `tool_call_id`
    that it answers. It may have further keys: see `openreward_gym.envs.ChatMessage`.

    Example:
        >>> ({"role": "user", "content": "hello"},) in MessagesSpace()
        True
    """

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> tuple[dict[str, Any], ...]:
        """Return a user message and up to two calls with their results."""
        self._refuse_weights(mask, probability)
        rng = BufferedRandom(self.np_random)
        messages: list[dict[str, Any]] = [{"role": "user", "content": _words(rng)}]
        for turn in range(rng.below(3)):
            function = {"name": _word(rng), "arguments": f'{{"{_word(rng)}": {rng.below(100)}}}'}
            call = {"id": f"call_{turn}", "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": _words(rng)})
        return tuple(messages)

    def contains(self, x: Any) -> bool:
        return isinstance(x, tuple) and all(_is_message(message) for message in x)

    def to_jsonable(self, sample_n: Iterable[tuple[dict[str, Any], ...]]) -> list[Json]:
        return [list(messages) for messages in sample_n]

    def from_jsonable(self, sample_n: list[Json]) -> list[tuple[dict[str, Any], ...]]:
        return [tuple(messages) for messages in sample_n]


def _convert_data(block: dict[str, Any], convert: Callable[[Any], Any]) -> dict[str, Any]:
    return {**block, "data": convert(block["data"])} if block["type"] == "image" else dict(block)


def _is_block(block: Any) -> bool:
    if not isinstance(block, dict):
        return False
    if block.get("type") == "image":
        return isinstance(block.get("data"), bytes) and isinstance(block.get("mime"), str)
    return block.get("type") == "text" and isinstance(block.get("text"), str)


def _is_message(message: Any) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str) or message["role"] not in _ROLES:
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
    kind, field = ("custom", "input") if isinstance(call, dict) and call.get("type") == "custom" else ("function", "arguments")
    function = call.get(kind) if isinstance(call, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str) and isinstance(function.get(field), str)


def _word(rng: BufferedRandom) -> str:
    return sample_string(rng, low=1, high=8) or "a"


def _words(rng: BufferedRandom) -> str:
    return " ".join(_word(rng) for _ in range(rng.below(6)))


def _image(rng: BufferedRandom) -> dict[str, Any]:
    """Return an image block: a PNG file of one pixel of a random colour."""
    pixel = bytes([0, rng.below(256), rng.below(256), rng.below(256)])
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(pixel)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return {"type": "image", "data": b"\x89PNG\r\n\x1a\n" + body, "mime": "image/png"}
