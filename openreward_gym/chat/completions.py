"""OpenAI chat completions: also the format of OpenRouter, vLLM, SGLang and most local servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

from openreward_gym.chat.pieces import (
    assistant,
    blocks_in,
    data_url,
    given_back,
    image_of_url,
    kept,
    opaque,
    written_arguments,
    written_role,
)
from openreward_gym.chat.plain import as_list, integer, json_text, number, plain, rest_of
from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Json,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Role,
    Sampled,
    TextBlock,
    ToolCall,
    ToolResult,
    Usage,
    text_of,
)

ReasoningField: TypeAlias = Literal["", "reasoning_content", "reasoning", "reasoning_details"]
"""Where a server wants past reasoning: nowhere (OpenAI refuses unknown fields), or in one of the fields in use."""

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_KNOWN = ("role", "content", "refusal", "tool_calls", "function_call", "reasoning_content", "reasoning", "reasoning_details")


def from_openai(message: Any) -> list[Message]:
    """Messages of a chat: one, a list of them, or a whole `ChatCompletion` (its first choice), as dicts or SDK objects.

    Parts of unknown types are kept as `OpaqueBlock`s; a refusal is one, of type "refusal".

    Raises:
        ValueError: It has no role, or one that is not of this format.
        TypeError: It is no message at all.
    """
    data = plain(message)
    return [_message(item) for item in as_list(data)]


def _message(data: Json) -> Message:
    if not isinstance(data, Mapping):
        raise TypeError(f"a chat message is a dictionary or an SDK's object, not {type(data).__name__}")
    if isinstance(data.get("choices"), list):
        return _completion(data)
    role = data.get("role")
    if role in ("tool", "function"):
        return Message("tool", (_tool_result(data),))
    if role == "assistant":
        return assistant(_assistant_blocks(data), rest_of(data, *_KNOWN))
    if role not in _ROLES:
        raise ValueError(f"a chat message's role is system, developer, user, assistant, tool or function, not {role!r}")
    rest = rest_of(data, "role", "content")
    if role == "developer":
        rest["role"] = role
    return Message(_ROLES[role], tuple(_parts(data.get("content"))), detail=rest or None)


def _completion(data: Mapping[str, Json]) -> AssistantMessage:
    choice = data["choices"][0] if data["choices"] else {}
    message = choice.get("message") or {}
    usage = data.get("usage")
    logprobs = (choice.get("logprobs") or {}).get("content")
    sampled = Sampled(
        usage=usage_of(usage),
        stop_reason=choice.get("finish_reason"),
        # vLLM and SGLang give token ids on request; OpenAI does not.
        token_ids=_tuple(choice.get("token_ids")),
        prompt_token_ids=_tuple(choice.get("prompt_token_ids") or data.get("prompt_token_ids")),
        logprobs=None if logprobs is None else tuple(item["logprob"] for item in logprobs),
        model=data.get("model"),
        cost_usd=number(usage, "cost"),
        metadata={"id": data["id"]} if data.get("id") else None,
    )
    return assistant(_assistant_blocks(message), rest_of(message, *_KNOWN), sampled)


def usage_of(usage: Json) -> Usage | None:
    """The `usage` of a chat completion; None where it has none."""
    if not usage:
        return None
    return Usage(
        integer(usage, "prompt_tokens"),
        integer(usage, "completion_tokens"),
        integer(usage, "prompt_tokens_details", "cached_tokens"),
        integer(usage, "completion_tokens_details", "reasoning_tokens"),
    )


def _tuple(value: Json) -> tuple[Any, ...] | None:
    return tuple(value) if isinstance(value, list) else None


def _assistant_blocks(data: Mapping[str, Json]) -> list[Block]:
    blocks = _reasoning(data)
    blocks += _parts(data.get("content"))
    if data.get("refusal"):
        blocks.append(OpaqueBlock({"type": "refusal", "refusal": data["refusal"]}))
    blocks += [call_of(call) for call in data.get("tool_calls") or ()]
    if isinstance(data.get("function_call"), Mapping):
        blocks.append(call_of({"function": data["function_call"]}))
    return blocks


def _reasoning(data: Mapping[str, Json]) -> list[Block]:
    details = data.get("reasoning_details")
    if isinstance(details, list) and details:
        return [
            ReasoningItem(
                content=item.get("text"),
                content_reference=item.get("data"),
                summary=item.get("summary"),
                signature=item.get("signature"),
                extra=kept("openai", rest_of(item, "text", "data", "summary", "signature")),
            )
            for item in details
        ]
    text = data.get("reasoning_content") or data.get("reasoning")
    return [ReasoningItem(json_text(text))] if text else []


def _parts(content: Json) -> list[Block]:
    return blocks_in(content, _part)


def _part(part: Json) -> Block:
    if isinstance(part, str):
        return TextBlock(part)
    if isinstance(part, Mapping):
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            return TextBlock(part["text"], extra=kept("openai", rest_of(part, "type", "text")))
        image = part.get("image_url")
        if part.get("type") == "image_url" and isinstance(image, Mapping):
            rest = {**rest_of(part, "type", "image_url"), **rest_of(image, "url")}
            return image_of_url(image.get("url"), "openai", rest) or opaque(part)
    return opaque(part)


def call_of(data: Mapping[str, Json]) -> ToolCall:
    """One of `tool_calls`: a function's or a custom tool's.

    Raises:
        ValueError: It names no tool.
    """
    kind = "custom" if isinstance(data.get("custom"), Mapping) else "function"
    function = data.get(kind)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(f"a tool call without a function's name: {json_text(dict(data))[:200]}")
    written = function.get("input" if kind == "custom" else "arguments")
    rest = rest_of(data, "id", "type", "function", "custom")
    if kind == "custom":
        rest["type"] = "custom"
    arguments, text = written_arguments(written)
    return ToolCall(function["name"], arguments, str(data.get("id") or ""), text, extra=kept("openai", rest))


def _tool_result(data: Mapping[str, Json]) -> ToolResult:
    content = data.get("content")
    rest = rest_of(data, "role", "content", "tool_call_id", "name")
    return ToolResult(
        content if isinstance(content, str) else _parts(content),
        str(data.get("tool_call_id") or ""),
        str(data.get("name") or ""),
        extra=kept("openai", rest),
    )


def to_openai(messages: Iterable[Message], *, reasoning: ReasoningField = "") -> list[dict[str, Json]]:
    """Messages as a chat completion's `messages`; tool results become messages of role "tool", in order.

    Args:
        messages: The conversation.
        reasoning: The field for past reasoning; left out by default.
    """
    return [item for message in messages for item in _to_messages(message, reasoning)]


def _to_messages(message: Message, reasoning: ReasoningField) -> list[dict[str, Json]]:
    if message.role == "assistant":
        return [_to_assistant(message, reasoning)]
    found: list[dict[str, Json]] = []
    parts: list[Block] = []
    role = written_role(message)

    def flush() -> None:
        if parts:
            found.append({"role": role, "content": _to_content(parts)})
            parts.clear()

    for block in message.blocks:
        if isinstance(block, ToolResult):
            flush()
            found.append(
                {
                    "role": "tool",
                    "tool_call_id": block.call_id,
                    "content": _to_content(block.blocks),
                    **given_back(block, "openai"),
                }
            )
        else:
            parts.append(block)
    flush()
    return found or [{"role": role, "content": ""}]


def _to_assistant(message: Message, reasoning: ReasoningField) -> dict[str, Json]:
    content = [b for b in message.blocks if not isinstance(b, (ReasoningItem, ToolCall)) and not _is_refusal(b)]
    calls = [block for block in message.blocks if isinstance(block, ToolCall)]
    data: dict[str, Json] = {"role": "assistant", "content": _to_content(content) if content else None if calls else ""}
    thoughts = [block for block in message.blocks if isinstance(block, ReasoningItem)]
    if reasoning == "reasoning_details" and thoughts:
        data[reasoning] = [_to_reasoning_detail(thought) for thought in thoughts]
    elif reasoning and (text := "\n".join(thought.content or thought.summary or "" for thought in thoughts)):
        data[reasoning] = text
    for block in message.blocks:
        if _is_refusal(block):
            data["refusal"] = block.raw["refusal"]  # type: ignore[union-attr]
    if calls:
        data["tool_calls"] = [_to_call(call) for call in calls]
    return data


def _is_refusal(block: Block) -> bool:
    return isinstance(block, OpaqueBlock) and block.type == "refusal" and "refusal" in block.raw


def _to_reasoning_detail(thought: ReasoningItem) -> dict[str, Json]:
    kind = "reasoning.encrypted" if thought.content_reference else "reasoning.summary" if thought.summary else "reasoning.text"
    named = {
        "text": thought.content,
        "summary": thought.summary,
        "data": thought.content_reference,
        "signature": thought.signature,
    }
    return {"type": kind, **{name: value for name, value in named.items() if value is not None}, **given_back(thought, "openai")}


def _to_call(call: ToolCall) -> dict[str, Json]:
    rest = given_back(call, "openai")
    if rest.get("type") == "custom":
        return {"id": call.call_id, "type": "custom", "custom": {"name": call.name, "input": call.arguments_json}, **rest}
    function = {"name": call.name, "arguments": call.arguments_json or "{}"}
    return {"id": call.call_id, "type": "function", "function": function, **rest}


def _to_content(blocks: Iterable[Block]) -> Json:
    parts = [_to_part(block) for block in blocks]
    if not parts:
        return ""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"} and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


def _to_part(block: Block) -> dict[str, Json]:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text, **given_back(block, "openai")}
    if isinstance(block, ImageBlock):
        return {"type": "image_url", "image_url": {"url": data_url(block), **given_back(block, "openai")}}
    if isinstance(block, OpaqueBlock):
        return dict(block.raw)
    return {"type": "text", "text": text_of([block])}
