"""The names the example environments take from the `openreward` SDK, typed, whatever its version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from openreward import environments as _sdk
from openreward.environments import Environment, ImageBlock, Split, TextBlock, ToolOutput

__all__ = ["Environment", "ImageBlock", "Split", "TextBlock", "ToolOutput", "conversation", "terminal", "text_output", "tool"]

Method = TypeVar("Method", bound=Callable[..., Any])


def tool(method: Method) -> Method:
    """Makes a method a tool."""
    _sdk.tool(method)
    return method


def terminal(method: Method) -> Method:
    """Makes a tool the one that takes the assistant's plain message.

    An SDK older than terminal tools knows no such mark: the answer is then a tool like the others, which the model calls.
    """
    if hasattr(_sdk, "terminal"):
        _sdk.terminal(method)
    return method


def conversation(system: str, user: str) -> list[Any]:
    """A system turn and a user turn, as SDK messages. Only servers that know conversations (0.1.157) ask for one."""
    return [
        _sdk.Message(role="system", blocks=[TextBlock(text=system)]),
        _sdk.Message(role="user", blocks=[TextBlock(text=user)]),
    ]


def text_output(text: str, *, reward: float | None = None, finished: bool = False, **metadata: Any) -> ToolOutput:
    """A tool's result of one text block. `metadata` is the environment's free data; none given is none sent."""
    return ToolOutput(blocks=[TextBlock(text=text)], reward=reward, finished=finished, metadata=metadata or None)
