"""Conversations with tools as plain chat messages, in the format of Hermes and Qwen, for trainers that send no tools.

The system message describes the tools, calls are part of the assistant's text (`<tool_call>`), and results are the user's
(`<tool_response>`). This is what the chat templates of Qwen 2.5 and Qwen 3 make of tools, calls and results, written where no
template can do it.

    https://github.com/NousResearch/Hermes-Function-Calling, tokenizer_config.json of Qwen/Qwen2.5-7B-Instruct
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openreward_gym.chat.openai import to_openai
from openreward_gym.chat.raw_text import RawTextDialect
from openreward_gym.errors import ConfigurationError
from openreward_gym.jsonio import Json
from openreward_gym.types import AssistantMessage, ImageBlock, Message, TextBlock, UserMessage

_TOOLS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def tools_text(tools: Sequence[Mapping[str, Json]]) -> str:
    """Return the description of tools for a system message. `tools` are in the format of OpenAI's chat API.

    Example:
        >>> tool = {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}
        >>> tools_text([tool]).splitlines()[6][:48]
        '{"type": "function", "function": {"name": "look"'
    """
    # As the `tojson` of chat templates writes it.
    return _TOOLS.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))


def to_hermes(
    messages: Iterable[Message], tools: Sequence[Mapping[str, Json]] = (), *, images: bool = False
) -> list[dict[str, Any]]:
    """Return a conversation as chat messages whose roles are system, user and assistant.

    Results that follow each other are one message of the user.

    Args:
        messages: The conversation, or a part of it.
        tools: The tools to describe in the system message. Empty adds nothing, as for a part that is not the beginning.
        images: Whether images are written, as the `image_url` parts of OpenAI's chat API.

    Raises:
        ConfigurationError: A message has an image and `images` is False, or has a block that no chat message can carry.

    Example:
        >>> from openreward_gym.types import ToolMessage
        >>> to_hermes([ToolMessage("7 C", call_id="c1"), ToolMessage("9 C", call_id="c2")])[0]["content"]
        '<tool_response>\\n7 C\\n</tool_response>\\n<tool_response>\\n9 C\\n</tool_response>'
    """
    written: list[dict[str, Any]] = []
    results: list[str | ImageBlock] = []
    for message in messages:
        parts = _parts(message, images)
        if message.role == "tool":
            results += ["\n"] if results else []
            results += ["<tool_response>\n", *parts, "\n</tool_response>"]
            continue
        if results:
            written.append(_message("user", results))
            results = []
        written.append(_message(message.role, parts))
    if results:
        written.append(_message("user", results))
    if not tools:
        return written
    if not written or written[0]["role"] != "system":
        return [{"role": "system", "content": tools_text(tools)}, *written]
    return [{"role": "system", "content": f"{written[0]['content']}\n\n{tools_text(tools)}"}, *written[1:]]


def _parts(message: Message, images: bool) -> list[str | ImageBlock]:
    """Return the texts and images of a message. Texts that follow each other are on lines of their own, as in `Message.text`."""
    if message.role == "assistant":
        return [RawTextDialect().write([AssistantMessage(message.blocks)])[1][0]["content"]]
    parts: list[str | ImageBlock] = []
    for block in message.blocks:
        if isinstance(block, ImageBlock):
            if not images or message.role == "system":
                raise ConfigurationError(
                    f"a message of role {message.role} has an image, which this model cannot be shown: train a vision model"
                )
            parts.append(block)
        elif not isinstance(block, TextBlock):
            raise ConfigurationError(
                f"a message of role {message.role} has a block that a chat message cannot carry: {block.type}"
            )
        elif parts and isinstance(parts[-1], str):
            parts[-1] += f"\n{block.text}"
        else:
            parts.append(block.text)
    return parts


def _message(role: str, parts: Sequence[str | ImageBlock]) -> dict[str, Any]:
    """Return a chat message. Texts that follow each other are concatenated as they are."""
    if all(isinstance(part, str) for part in parts):
        return {"role": role, "content": "".join(map(str, parts))}
    blocks: list[TextBlock | ImageBlock] = []
    for part in parts:
        last = blocks[-1] if blocks else None
        if isinstance(part, ImageBlock):
            blocks.append(part)
        elif isinstance(last, TextBlock):
            blocks[-1] = TextBlock(last.text + part)
        else:
            blocks.append(TextBlock(part))
    return {"role": role, "content": to_openai([UserMessage(blocks)])[0]["content"]}
