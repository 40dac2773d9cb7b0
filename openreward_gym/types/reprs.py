"""Short reprs of the types: the fields that were set, and only the beginnings of long values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from openreward_gym.types.blocks import Block, ImageBlock, OpaqueBlock, ReasoningItem, TextBlock, ToolCall, ToolResult
from openreward_gym.types.codec import shown

_LONGEST = 60
_MOST = 6
"""Number of parts of a list that a repr shows."""


def clipped(value: Any, longest: int = _LONGEST) -> str:
    """Return the beginning of a value's repr, whatever its size and depth.

    >>> clipped("x" * 100, 8)
    "'xxxxxxxx...'"
    >>> clipped({"a": 1})
    "{'a': 1}"
    """
    if isinstance(value, str):
        return repr(value) if len(value) <= longest else repr(f"{value[:longest]}...")
    text = shown(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


def listed(parts: Iterable[str]) -> str:
    """Return parts joined by commas, without those beyond the first few.

    >>> listed("abcdefgh")
    'a, b, c, d, e, f, ... 2 more'
    """
    every = list(parts)
    rest = [f"... {len(every) - _MOST} more"] if len(every) > _MOST else []
    return ", ".join([*every[:_MOST], *rest])


def block_repr(block: Block) -> str:
    """Return a block as it shows in the repr of its message.

    >>> block_repr(ToolCall("look", {"at": "door"})), block_repr(ReasoningItem("Hm."))
    ('look({"at": "door"})', "<reasoning 'Hm.'>")
    """
    if isinstance(block, TextBlock):
        return clipped(block.text)
    if isinstance(block, ToolCall):
        text = block.content if block.content is not None else shown_arguments(block)
        return f"{block.name}({text if len(text) <= _LONGEST else text[:_LONGEST] + '...'})"
    if isinstance(block, ReasoningItem):
        visible = block.content or block.summary
        return f"<reasoning {clipped(visible)}>" if visible else "<hidden reasoning>"
    if isinstance(block, ToolResult):
        content = listed(map(block_repr, block.blocks)) or "''"
        return f"<{'error' if block.is_error else 'result'} {content}>"
    if isinstance(block, ImageBlock):
        return f"<{block.mime_type}>"
    return f"<{block.type or 'unknown'} block>" if isinstance(block, OpaqueBlock) else clipped(block)


def shown_arguments(call: ToolCall) -> str:
    """Return the arguments of a call as JSON text, or their repr where they are not JSON."""
    try:
        return call.arguments_json
    except (TypeError, ValueError, RecursionError):
        return clipped(call.arguments)


def set_fields(value: Any, *without: str) -> list[str]:
    """Return `name=value` for each field of a dataclass object that is not at its default, without some.

    Metadata and further fields are left out, because they may be long and hold anything.
    """
    shown_fields = [one for one in fields(value) if one.repr and one.name not in ("metadata", "extra", *without)]
    return [
        f"{one.name}={clipped(item)}"
        for one in shown_fields
        if (item := getattr(value, one.name)) is not one.default and item is not False and item not in (None, "", ())
    ]
