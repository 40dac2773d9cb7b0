"""The names of the `openreward` SDK that the example environments use, typed and the same for all versions of the SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from openreward import environments as _sdk
from openreward.environments import Environment, ImageBlock, Split, TextBlock, ToolOutput
from openreward.environments import types as _types

__all__ = [
    "Environment", "ImageBlock", "Split", "TextBlock", "ToolOutput",
    "conversation", "listed_tools", "split_of", "terminal", "text_output", "tool",
]  # fmt: skip

Method = TypeVar("Method", bound=Callable[..., Any])


def tool(method: Method) -> Method:
    """Mark a method as a tool."""
    _sdk.tool(method)
    return method


def terminal(method: Method) -> Method:
    """Mark a tool as the terminal one, which receives the assistant's plain message. In older SDKs it stays an ordinary tool."""
    if hasattr(_sdk, "terminal"):
        _sdk.terminal(method)
    return method


def conversation(system: str, user: str) -> list[Any]:
    """Return a system and a user message of the SDK. Servers use conversations from SDK 0.1.157 on."""
    return [_sdk.Message(role=role, blocks=[TextBlock(text=text)]) for role, text in (("system", system), ("user", user))]


def listed_tools(tools: Iterable[Mapping[str, Any]]) -> Any:
    """Return tools, each with `name`, `description` and `input_schema`, as an environment's `list_tools` returns them."""
    return _types.ListToolsOutput(tools=[_types.ToolSpec(**spec) for spec in tools])


def split_of(name: str) -> Split:
    """Return the split of that name. Its type is its name, or "validation" for other names."""
    return Split(name=name, type=name if name in ("train", "validation", "test") else "validation")


def text_output(text: str, *, reward: float | None = None, finished: bool = False, **metadata: Any) -> ToolOutput:
    """Return a tool output with one text block. `metadata` is free data of the environment."""
    return ToolOutput(blocks=[TextBlock(text=text)], reward=reward, finished=finished, metadata=metadata or None)
