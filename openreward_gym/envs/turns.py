"""The kinds of assistant messages: calls to run, an answer, or a turn of which nothing reaches the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from openreward_gym.chat.failures import has_content, is_withheld
from openreward_gym.chat.raw_text import has_call_as_text
from openreward_gym.options import OnLength
from openreward_gym.types import AssistantMessage, OpaqueBlock, ReasoningItem, TextBlock, ToolSet

TurnKind: TypeAlias = Literal["calls", "answer", "withheld", "cut_off", "pause", "malformed", "empty", "call_as_text"]
"""`calls` and `answer` reach the environment. The others do not:

- `withheld`: a filter, the provider or the end of the context window took the answer away; the episode is truncated.
- `cut_off`: the token limit ended the message; see the option `on_length`.
- `pause`: the provider's own tools need another request; the model goes on.
- `malformed`: the model's server could not read the model's call, or says that there are calls and has none.
- `empty`: neither text nor a call, though there may be reasoning or something that a provider's own tool did.
- `call_as_text`: the text holds a call in a model's own format, which the model's server should have read.
"""

REPLIES: Mapping[TurnKind, str] = {
    "cut_off": "Your message was cut off at the limit of tokens, so nothing of it was used. Write it again, more briefly.",
    "malformed": "Your tool call could not be read. Write it again, with a JSON object as its arguments.",
    "empty": "Your message is empty: it has no text and no call. Call a tool, or write an answer.",
    "call_as_text": "Your message has a tool call inside its text, where it is not run. Use the interface for tool calls.",
}
"""What the client answers to a turn that reaches no tool."""

MOST_REPLIES = 10
"""Number of turns in a row that reach no tool and after which the episode is truncated, so that none goes on for ever."""


def turn_kind(action: AssistantMessage, tools: ToolSet, on_length: OnLength = "tell") -> TurnKind:
    """Return what a message is taken for, by how it ended and what it holds.

    Example:
        >>> turn_kind(AssistantMessage("It is 7 C."), ToolSet())
        'answer'
        >>> turn_kind(AssistantMessage("It is", ended="length"), ToolSet())
        'cut_off'
    """
    ended = action.ended
    if is_withheld(action):
        return "withheld"
    is_silent = not any(_says_something(block) for block in action.blocks)
    if ended == "length" and (on_length != "play" or is_silent or action.tool_calls):
        return "cut_off"
    if action.tool_calls:
        return "calls"
    if ended == "pause":
        return "pause"
    if ended in ("malformed", "tool_calls"):  # the server announces calls, and has lost them
        return "malformed"
    if is_silent:
        return "empty"
    return "call_as_text" if has_call_as_text(action.text, tools.tools) else "answer"


def is_no_answer(action: AssistantMessage) -> bool:
    """Return whether a message has no content at all and no ending that explains it: the model's server failed."""
    return not any(map(has_content, action.blocks)) and action.ended in (None, "stop", "tool_calls", "unknown")


def _says_something(block: object) -> bool:
    # An unknown block, such as the search of a provider's own tool, has no words for the environment.
    return not isinstance(block, ReasoningItem | OpaqueBlock) and not (isinstance(block, TextBlock) and not block.text.strip())
