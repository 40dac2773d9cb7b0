"""Blocks: the pieces of a message, a prompt or a tool's output."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from openreward_gym.jsonio import Json, loads
from openreward_gym.types.codec import Codec, FieldError, Reader, json_field


@dataclass(frozen=True)
class TextBlock:
    """A piece of text.

    Attributes:
        text: The text.
        detail: Free data of the environment.
        extra: Fields that this version does not know.
    """

    text: str
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["text"] = field(default="text", init=False, repr=False)


@dataclass(frozen=True)
class ImageBlock:
    """An image, kept as it came.

    Attributes:
        data: The image file as base64 text, decoded only when `content` is read. Empty where `sha256` says which file it is.
        mime_type: Its media type.
        sha256: The name of a file in the `images/` folder of a run, which has the bytes; None where `data` has them.
        detail: Free data of the environment.

    Example:
        >>> ImageBlock.from_bytes(b"GIF89a", "image/gif").content
        b'GIF89a'
    """

    data: str = ""
    mime_type: str = json_field("mimeType", default="image/png")  # the key of the Open Reward Standard
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    sha256: str | None = None
    type: Literal["image"] = field(default="image", init=False, repr=False)

    def __repr__(self) -> str:
        size = f"sha256={self.sha256!r}" if self.sha256 else f"{len(self.data) * 3 // 4:,} bytes"
        return f"<ImageBlock {self.mime_type}, {size}>"

    @classmethod
    def from_bytes(cls, content: bytes, mime_type: str = "image/png") -> ImageBlock:
        return cls(base64.b64encode(content).decode("ascii"), mime_type)

    @property
    def content(self) -> bytes:
        """The image file's bytes; empty where `data` is not base64 (what a server sends is data, not an error)."""
        try:
            return base64.b64decode(self.data, validate=False)
        except (binascii.Error, ValueError):
            return b""


@dataclass(frozen=True)
class ReasoningItem:
    """The reasoning of a model. All fields are None for reasoning that a provider does not show at all.

    Attributes:
        content: The visible reasoning.
        content_reference: The provider's handle for hidden reasoning (an id or an encrypted text).
        summary: The provider's summary of hidden reasoning.
        signature: The provider's signature, sent back with the reasoning on the next turn (Anthropic).
    """

    content: str | None = None
    content_reference: str | None = None
    summary: str | None = None
    signature: str | None = None
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["reasoning"] = field(default="reasoning", init=False, repr=False)


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool, as the model wrote it.

    Attributes:
        name: The tool's name.
        arguments: The arguments as an object; None where `content` is not a JSON object (a malformed call). A text, as OpenAI's
            calls have it, is taken for `content`.
        call_id: Joins the call with its result; empty where the provider gave none.
        content: The arguments' JSON text exactly as the model wrote it; None where only `arguments` is known.

    Raises:
        TypeError: `arguments` is neither an object nor a text.

    Example:
        >>> ToolCall("add", content='{"a": 1}').arguments
        {'a': 1}
        >>> ToolCall("add", content='{"a": ').arguments is None
        True
    """

    name: str
    arguments: Mapping[str, Json] | None = None
    call_id: str = ""
    content: str | None = None
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["tool_call"] = field(default="tool_call", init=False, repr=False)

    def __post_init__(self) -> None:
        if type(self.arguments) is not dict and self.arguments is not None:
            self._check_arguments(self.arguments)
        if self.arguments is None and self.content is not None:
            arguments = _strict_object(self.content) if self.content.strip() else {}
            if arguments is not None:
                object.__setattr__(self, "arguments", arguments)

    def _check_arguments(self, arguments: object) -> None:
        if isinstance(arguments, str):
            object.__setattr__(self, "content", arguments if self.content is None else self.content)
            object.__setattr__(self, "arguments", None)
        elif not isinstance(arguments, Mapping):
            kind = type(arguments).__name__
            raise TypeError(f"the arguments of a ToolCall are an object or its JSON text, not {kind}: {arguments!r:.200}")

    @property
    def arguments_json(self) -> str:
        """The arguments as JSON text: the model's own where it is known."""
        if self.content is not None:
            return self.content
        return json.dumps(self.arguments, ensure_ascii=False)


def _strict_object(text: str) -> dict[str, Json] | None:
    """Return the JSON object that `text` is by RFC 8259; None for any other text, NaN, Infinity and 1e999 in it included."""
    try:
        value = loads(text, allow_nan=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


@dataclass(frozen=True)
class ToolResult:
    """The answer of a tool to the call `call_id`, as a block of a turn or as an argument of `Recorder`'s `log`.

    In a transcript and in a record each answer is a message of its own: see `ToolMessage`.

    Example:
        >>> ToolResult("7 C", call_id="c1", name="get_weather").blocks[0].text
        '7 C'
    """

    content: str | Sequence[Block] = ""
    call_id: str = ""
    name: str = ""
    is_error: bool = False
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["tool_result"] = field(default="tool_result", init=False, repr=False)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The content as blocks."""
        return as_blocks(self.content)


@dataclass(frozen=True)
class OpaqueBlock:
    """A block of a type this version does not know, or that it cannot read, kept as it came.

    Example:
        >>> OpaqueBlock({"type": "video", "url": "https://example.com/v"}).type
        'video'
    """

    raw: Mapping[str, Json]

    @property
    def type(self) -> str:
        """The block's own type; empty where it has none."""
        return str(self.raw.get("type", ""))

    @staticmethod
    def __codec__() -> Codec:
        return _OpaqueCodec(OpaqueBlock)


class _OpaqueCodec(Codec):
    """An opaque block is written as it came, or inside `{"type": "opaque"}` where its type is one that a reader would check."""

    def _reader(self) -> Reader:
        return _read_opaque

    def write(self, value: OpaqueBlock) -> dict[str, Any]:
        kind = value.raw.get("type")
        if kind in _READ_TYPES or not isinstance(kind, str):
            return {"type": "opaque", "raw": dict(value.raw)}
        return {"type": kind, **value.raw}


def _read_opaque(data: Any) -> OpaqueBlock:
    if data.get("type") == "opaque" and isinstance(data.get("raw"), dict):
        return OpaqueBlock(data["raw"])
    if not isinstance(data.get("type", ""), str):
        raise FieldError("must be a string", data["type"], "type")
    return OpaqueBlock(data)


_READ_TYPES = ("text", "image", "reasoning", "tool_call", "tool_result", "opaque")

Block: TypeAlias = TextBlock | ImageBlock | ReasoningItem | ToolCall | ToolResult | OpaqueBlock


def as_blocks(content: str | Sequence[Block]) -> tuple[Block, ...]:
    """Return `content` as blocks: one text block for a non-empty string, no block for an empty one."""
    if isinstance(content, str):
        return (TextBlock(content),) if content else ()
    return tuple(content)


def text_of(blocks: Sequence[Block]) -> str:
    """Join the texts of `blocks` with newlines. An image shows as a marker; reasoning and calls do not show."""
    parts: list[str] = []
    for block in blocks:
        if isinstance(block, TextBlock):
            parts.append(block.text)
        elif isinstance(block, ImageBlock):
            parts.append(f"[image {block.mime_type}]")
        elif isinstance(block, ToolResult):
            parts.append(text_of(block.blocks))
        elif isinstance(block, OpaqueBlock):
            parts.append(f"[{block.type or 'unknown'} block]")
    return "\n".join(parts)
