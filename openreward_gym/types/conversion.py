"""Between the dataclasses that flow through the package and the record's models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Json,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Sampled,
    TerminalTool,
    TextBlock,
    ToolCall,
    ToolOutput,
    ToolResult,
    ToolSpec,
)
from openreward_gym.types.rollout import (
    ImagePart,
    MessageRecord,
    OtherPart,
    Part,
    ReasoningPart,
    TerminalToolRecord,
    TextPart,
    TokenUsage,
    ToolCallPart,
    ToolRecord,
)

# A block that we could not read though its type is known (an image by address, a text without text) is kept inside another.
_KNOWN_TYPES = ("text", "image", "reasoning", "tool_call", "opaque")


def part_of(block: Block) -> Part:
    """A block as the record keeps it."""
    if isinstance(block, TextBlock):
        return TextPart(text=block.text, detail=block.detail, **block.extra)
    if isinstance(block, ImageBlock):
        return ImagePart(mimeType=block.mime_type, data=block.data, detail=block.detail, **block.extra)
    if isinstance(block, ReasoningItem):
        return ReasoningPart(
            text=block.content,
            summary=block.summary,
            reference=block.content_reference,
            signature=block.signature,
            detail=block.detail,
            **block.extra,
        )
    if isinstance(block, ToolCall):
        arguments = None if block.arguments is None else dict(block.arguments)
        return ToolCallPart(
            id=block.call_id, name=block.name, input=arguments, input_text=block.content, detail=block.detail, **block.extra
        )
    if isinstance(block, ToolResult):
        nested = {"type": "tool_result", "tool_call_id": block.call_id, "text": "\n".join(_texts(block.blocks))}
        return OtherPart.model_validate(nested)
    if block.type in _KNOWN_TYPES:
        return OtherPart.model_validate({"type": "opaque", "raw": dict(block.raw)})
    return OtherPart.model_validate({**block.raw, "type": block.type})


def _texts(blocks: Iterable[Block]) -> Iterable[str]:
    return (block.text for block in blocks if isinstance(block, TextBlock))


def block_of(part: Part) -> Block:
    """The record's part as a block; an image whose bytes are in the store's folder comes without data."""
    extra = dict(part.model_extra or {})
    if isinstance(part, TextPart):
        return TextBlock(part.text, part.detail, extra)
    if isinstance(part, ImagePart):
        if part.sha256:
            extra["sha256"] = part.sha256
        return ImageBlock(part.data or "", part.mime_type, part.detail, extra)
    if isinstance(part, ReasoningPart):
        return ReasoningItem(part.text, part.reference, part.summary, part.signature, part.detail, extra)
    if isinstance(part, ToolCallPart):
        return ToolCall(part.name, part.input, part.id, part.input_text, part.detail, extra)
    if part.type == "opaque" and isinstance(extra.get("raw"), dict):
        return OpaqueBlock(extra["raw"])
    return OpaqueBlock({"type": part.type, **extra})


def message_records(message: Message, **fields: Any) -> list[MessageRecord]:
    """A message as records: a user turn that carries tool results becomes one "tool" message a result, in order.

    `fields` (times, reward, ...) go onto the last of them.
    """
    records: list[MessageRecord] = []
    rest: list[Part] = []
    for block in message.blocks:
        if isinstance(block, ToolResult):
            if rest:
                records.append(MessageRecord(role=message.role, blocks=rest))
                rest = []
            records.append(
                MessageRecord(
                    role="tool",
                    blocks=[part_of(inner) for inner in block.blocks],
                    tool_call_id=block.call_id,
                    name=block.name or None,
                    is_error=block.is_error,
                    metadata=_with_extra(block.detail, block.extra),
                )
            )
        else:
            rest.append(part_of(block))
    if rest or not records:
        records.append(MessageRecord(role=message.role, blocks=rest))
    metadata = _with_extra(message.detail, message.extra)
    if metadata is not None:
        records[-1].metadata = metadata
    if isinstance(message, AssistantMessage) and message.sampled is not None:
        fields = {**_sampled_fields(message.sampled), **fields}
    records[-1] = records[-1].model_copy(update=fields)
    return records


def _with_extra(detail: Json, extra: Mapping[str, Json]) -> Json:
    """A message's free data as the record's `metadata`; `detail` has a key of its own only where there is more."""
    if not extra:
        return detail
    return dict(extra) if detail is None else {"detail": detail, **extra}


def message_of(record: MessageRecord) -> Message:
    """The record's message as it would be said again: a "tool" message carries a ToolResult."""
    blocks = tuple(block_of(part) for part in record.blocks)
    if record.role == "tool":
        result = ToolResult(blocks, record.tool_call_id or "", record.name or "", record.is_error, extra=_extra_of(record))
        return Message("tool", (result,))
    if record.role == "assistant":
        return AssistantMessage(blocks)
    return Message(record.role, blocks, detail=record.metadata)


def _extra_of(record: MessageRecord) -> dict[str, Json]:
    return dict(record.metadata) if isinstance(record.metadata, dict) else {}


def _sampled_fields(sampled: Sampled) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "stop_reason": sampled.stop_reason,
        "model": sampled.model,
        "cost_usd": sampled.cost_usd,
        "metadata": None if sampled.metadata is None else dict(sampled.metadata),
        "token_ids": None if sampled.token_ids is None else list(sampled.token_ids),
        "prompt_token_ids": None if sampled.prompt_token_ids is None else list(sampled.prompt_token_ids),
        "logprobs": None if sampled.logprobs is None else list(sampled.logprobs),
        "usage": None if sampled.usage is None else TokenUsage(**asdict(sampled.usage)),
    }
    return {name: value for name, value in fields.items() if value is not None}


def result_record(call: ToolCall, output: ToolOutput, **fields: Any) -> MessageRecord:
    """What a tool answered, as the "tool" message that follows its call."""
    metadata = output.metadata
    if output.extra:
        metadata = {"metadata": metadata, "extra": dict(output.extra)}
    return MessageRecord(
        role="tool",
        blocks=[part_of(block) for block in output.blocks],
        tool_call_id=call.call_id,
        name=call.name,
        is_error=bool(output.error),
        reward=output.reward,
        finished=output.finished,
        metadata=metadata,
        **fields,
    )


def tool_record(tool: ToolSpec) -> ToolRecord:
    schema = None if tool.input_schema is None else dict(tool.input_schema)
    return ToolRecord(name=tool.name, description=tool.description, input_schema=schema)


def terminal_tool_record(tool: TerminalTool | None) -> TerminalToolRecord | None:
    return None if tool is None else TerminalToolRecord(name=tool.name, arg=tool.arg, description=tool.description)


def total_usage(messages: Iterable[MessageRecord]) -> TokenUsage | None:
    """The sum over the messages; a count stays None where no message had it."""
    totals: dict[str, int] = {}
    for message in messages:
        if message.usage is not None:
            for name, value in message.usage.model_dump(exclude_none=True).items():
                if isinstance(value, int):
                    totals[name] = totals.get(name, 0) + value
    return TokenUsage(**totals) if totals else None


def total_reward(rewards: Iterable[float | None]) -> tuple[float | None, float | None]:
    """(sum, last) of the rewards that are not None; (None, None) where there is none."""
    given = [reward for reward in rewards if reward is not None]
    return (sum(given), given[-1]) if given else (None, None)


def total_cost(messages: Iterable[MessageRecord]) -> float | None:
    """The sum over the messages, in US dollars; None where no message told."""
    costs = [message.cost_usd for message in messages if message.cost_usd is not None]
    return sum(costs) if costs else None


def origin_of(url: str | None) -> str | None:
    """Scheme, host and port of `url`, without user, path or query; None for None."""
    if not url:
        return None
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
