"""Blocks: what a message, a prompt or a tool's output is made of."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Json: TypeAlias = Any
"""A JSON value: what `json.loads` returns."""


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A piece of text. `detail` is free data of the environment; `extra` keeps fields this version does not know."""

    text: str
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["text"] = field(default="text", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class ImageBlock:
    """An image, as it came: `data` is base64 text, decoded only when `content` is read."""

    data: str
    mime_type: str = "image/png"
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["image"] = field(default="image", init=False, repr=False)

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


@dataclass(frozen=True, slots=True)
class ReasoningItem:
    """What the model thought. All of its fields are None for reasoning that a provider keeps to itself.

    Attributes:
        content: The visible reasoning.
        content_reference: The provider's handle of hidden reasoning (an id or an encrypted text).
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


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, as the model wrote it.

    Attributes:
        name: The tool's name.
        arguments: The arguments as an object; None where `content` is not a JSON object (a malformed call).
        call_id: Joins the call with its result; empty where the provider gave none.
        content: The arguments' JSON text exactly as the model wrote it; None where only `arguments` is known.
    """

    name: str
    arguments: Mapping[str, Json] | None = None
    call_id: str = ""
    content: str | None = None
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["tool_call"] = field(default="tool_call", init=False, repr=False)

    def __post_init__(self) -> None:
        if self.arguments is None and self.content is not None:
            try:
                value = json.loads(self.content) if self.content.strip() else {}
            except (ValueError, RecursionError):
                return
            if isinstance(value, dict):
                object.__setattr__(self, "arguments", value)

    @property
    def arguments_json(self) -> str:
        """The arguments as JSON text: the model's own where it is known."""
        if self.content is not None:
            return self.content
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered to the call `call_id`."""

    content: str | Sequence[Block] = ""
    call_id: str = ""
    name: str = ""
    is_error: bool = False
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["tool_result"] = field(default="tool_result", init=False, repr=False)

    @property
    def blocks(self) -> tuple[Block, ...]:
        return as_blocks(self.content)


@dataclass(frozen=True, slots=True)
class OpaqueBlock:
    """A block of a type this version does not know, kept as it came."""

    raw: Mapping[str, Json]

    @property
    def type(self) -> str:
        return str(self.raw.get("type", ""))


Block: TypeAlias = TextBlock | ImageBlock | ReasoningItem | ToolCall | ToolResult | OpaqueBlock


def as_blocks(content: str | Sequence[Block]) -> tuple[Block, ...]:
    """`content` as blocks: a non-empty string is one text block, an empty one none."""
    if isinstance(content, str):
        return (TextBlock(content),) if content else ()
    return tuple(content)


def text_of(blocks: Sequence[Block]) -> str:
    """The texts of `blocks` joined by a newline; an image shows as a marker, reasoning and calls do not show."""
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
