"""The names of the `openreward` SDK that the example environments use, typed and the same for all versions of the SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from openreward import environments as _sdk
from openreward.environments import Environment, ImageBlock, Split, TextBlock, ToolOutput

__all__ = ["Environment", "ImageBlock", "Split", "TextBlock", "ToolOutput", "conversation", "terminal", "text_output", "tool"]

Method = TypeVar("Method", bound=Callable[..., Any])


def tool(method: Method) -> Method:
    """Mark a method as a tool."""
    _sdk.tool(method)
    return method


def terminal(method: Method) -> Method:
    """Mark a tool as the terminal one, which receives the assistant's plain message.

    Older SDKs have no terminal tools. With them the method stays an ordinary tool that the model calls.
    """
    if hasattr(_sdk, "terminal"):
        _sdk.terminal(method)
    return method


def conversation(system: str, user: str) -> list[Any]:
    """Return a system and a user message of the SDK. Servers use conversations from SDK 0.1.157 on."""
    return [
        _sdk.Message(role="system", blocks=[TextBlock(text=system)]),
        _sdk.Message(role="user", blocks=[TextBlock(text=user)]),
    ]


def text_output(text: str, *, reward: float | None = None, finished: bool = False, **metadata: Any) -> ToolOutput:
    """Return a tool output with one text block. `metadata` is free data of the environment; without any, the field is None."""
    return ToolOutput(blocks=[TextBlock(text=text)], reward=reward, finished=finished, metadata=metadata or None)
