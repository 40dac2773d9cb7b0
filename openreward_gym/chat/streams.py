"""Streamed answers: the chunks of an answer, assembled to the answer that the provider gives without streaming."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from openreward_gym.jsonio import Json, loads

Chunk: TypeAlias = Mapping[str, Json]

# Fields of a delta that are repeated and not continued.
_CONSTANT = ("id", "type", "index", "role", "format", "object", "status")


BROKE_OFF = "stream_broke_off"
"""The field of an assembled answer whose stream had no end."""


@dataclass(frozen=True)
class StreamFormat:
    """The chunks of a provider's streamed answers.

    Attributes:
        is_chunk: Whether an object is a chunk.
        begins: Whether a chunk, given with the one before it, begins another answer.
        is_whole: Whether chunks are an answer with its end.
        join: Returns the answer of chunks. Its end is missing if the stream broke off.
        final: The SDK's way to the final object, for messages of errors.
    """

    is_chunk: Callable[[Chunk], bool]
    begins: Callable[[Chunk, Chunk], bool]
    is_whole: Callable[[Sequence[Chunk]], bool]
    join: Callable[[Sequence[Chunk]], dict[str, Json]]
    final: str

    def assembled(self, items: Sequence[Json]) -> list[Json]:
        """Return `items` with one answer in place of the chunks of each; raise TypeError for a chunk alone."""
        result: list[Json] = []
        chunks: list[Chunk] = []
        for item in [*items, None]:
            is_chunk = isinstance(item, Mapping) and self.is_chunk(item)
            if chunks and (not is_chunk or self.begins(item, chunks[-1])):
                if len(chunks) == 1:
                    self.refuse(chunks[0])
                result.append(self.join(chunks))
                chunks = []
            if is_chunk:
                chunks.append(item)
            else:
                result.append(item)
        return result[:-1]

    def refuse(self, item: Json) -> None:
        """Raise TypeError if an object is a chunk that does not hold the whole answer."""
        if isinstance(item, Mapping) and self.is_chunk(item) and not self.is_whole([item]):
            raise TypeError(
                f"{json.dumps(item, ensure_ascii=False)[:120]} is one chunk of a streamed answer, not a message: collect the "
                f"chunks and pass them as one list, or pass the final object ({self.final})"
            )


def _with_end(answer: dict[str, Json], has_end: object) -> dict[str, Json]:
    """Return an answer, marked as one whose stream broke off if it has no end."""
    return answer if has_end else {**answer, BROKE_OFF: True}


def _merged(old: Json, new: Json, key: str = "") -> Json:
    """Return `old` continued by `new`: text and lists are appended, and objects are continued field by field."""
    if new is None or old is None:
        return copy.deepcopy(old if new is None else new)
    if key in _CONSTANT or (key == "name" and new == old):
        return old or new
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    if isinstance(old, str) and isinstance(new, list):
        old = [{"type": "text", "text": old}] if old else []
    if isinstance(old, list) and isinstance(new, list):
        return _merged_lists(old, new, key)
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: _merged(old.get(name), value, name) for name, value in new.items()}}
    return new


def _merged_lists(old: list[Json], new: list[Json], key: str) -> list[Json]:
    result = list(old)
    for entry in new:
        place = None
        if isinstance(entry, dict) and isinstance(entry.get("index"), int):
            same = [n for n, other in enumerate(result) if _continues(entry, other, key)]
            place = same[0] if same else None
        elif key == "tool_calls" and result and isinstance(entry, dict) and not entry.get("id"):
            place = len(result) - 1
        if place is None:
            result.append(copy.deepcopy(entry))
        else:
            result[place] = _merged(result[place], entry)
    return result


def _continues(entry: dict[str, Json], other: Json, key: str) -> bool:
    if not isinstance(other, dict) or other.get("index") != entry["index"]:
        return False
    if key == "tool_calls":  # some servers number all calls 0
        return not entry.get("id") or not other.get("id") or entry["id"] == other["id"]
    return entry.get("type", other.get("type")) == other.get("type")


def _is_chat_chunk(item: Chunk) -> bool:
    if item.get("object") == "chat.completion.chunk":
        return True
    choices = item.get("choices")
    return isinstance(choices, list) and any(isinstance(choice, Mapping) and "delta" in choice for choice in choices)


def _is_other_chat(item: Chunk, before: Chunk) -> bool:
    return item.get("id") != before.get("id")


def _is_whole_chat(chunks: Sequence[Chunk]) -> bool:
    return any(choice.get("finish_reason") for chunk in chunks for choice in chunk.get("choices") or ())


def _join_chat(chunks: Sequence[Chunk]) -> dict[str, Json]:
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        # `obfuscation` is random padding.
        answer |= {name: value for name, value in chunk.items() if name not in ("choices", "obfuscation") and value is not None}
        for choice in chunk.get("choices") or ():
            whole = choices.setdefault(choice.get("index") or 0, {"message": {"role": "assistant"}})
            whole["message"] = _merged(whole["message"], choice.get("delta") or {})
            for name, value in choice.items():
                if name != "delta" and value is not None:
                    whole[name] = value if name == "finish_reason" else _merged(whole.get(name), value, name)
    for choice in choices.values():
        for call in choice["message"].get("tool_calls") or ():
            call.pop("index", None)
    answer |= {"object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}
    return _with_end(answer, _is_whole_chat(chunks))


_ANTHROPIC_EVENTS = frozenset(
    ["message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta", "content_block_stop", "ping"]
)


def _is_anthropic_event(item: Chunk) -> bool:
    # The SDK's stream also yields events with a `snapshot` of what it has accumulated.
    return item.get("type") in _ANTHROPIC_EVENTS or "snapshot" in item


def _is_anthropic_start(item: Chunk, before: Chunk) -> bool:
    return item.get("type") == "message_start"


def _is_whole_anthropic(chunks: Sequence[Chunk]) -> bool:
    return any(isinstance(chunk.get("message"), Mapping) and chunk.get("type") == "message_stop" for chunk in chunks)


def _join_anthropic(chunks: Sequence[Chunk]) -> dict[str, Json]:
    message: dict[str, Any] = {"role": "assistant"}
    blocks: dict[int, dict[str, Any]] = {}
    inputs: dict[int, str] = {}
    for chunk in chunks:
        kind, index, delta = chunk.get("type"), chunk.get("index") or 0, chunk.get("delta") or {}
        if kind == "message_stop" and isinstance(chunk.get("message"), Mapping):
            return dict(chunk["message"])
        if kind == "message_start":
            message |= chunk["message"]
        elif kind == "content_block_start":
            blocks[index] = copy.deepcopy(chunk["content_block"])
        elif kind == "content_block_delta" and delta.get("type") == "input_json_delta":
            inputs[index] = inputs.get(index, "") + (delta.get("partial_json") or "")
        elif kind == "content_block_delta":
            block = blocks.setdefault(index, {"type": str(delta.get("type", "")).removesuffix("_delta")})
            if delta.get("type") == "citations_delta":
                delta = {"citations": [delta.get("citation")]}
            blocks[index] = _merged(block, {name: value for name, value in delta.items() if name != "type"})
        elif kind == "message_delta":
            message |= {name: value for name, value in delta.items() if value is not None}
            usage = {name: value for name, value in (chunk.get("usage") or {}).items() if value is not None}
            message["usage"] = {**(message.get("usage") or {}), **usage}
            message |= {name: v for name, v in chunk.items() if name not in ("type", "delta", "usage") and v is not None}
    for index, text in inputs.items():
        if text and index in blocks:
            blocks[index]["input"] = text if blocks[index].get("type") == "tool_use" else _parsed(text)
    return _with_end({**message, "content": [blocks[index] for index in sorted(blocks)]}, message.get("stop_reason"))


def _parsed(text: str) -> Json:
    try:
        return loads(text)
    except ValueError:
        return text


# The text deltas of Responses events: the list of parts, the type of a part, its field; the list is "" for a field of the item.
_RESPONSE_DELTAS: Mapping[str, tuple[str, str, str]] = {
    "response.output_text.delta": ("content", "output_text", "text"),
    "response.refusal.delta": ("content", "refusal", "refusal"),
    "response.reasoning_text.delta": ("content", "reasoning_text", "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_text", "text"),
    "response.function_call_arguments.delta": ("", "function_call", "arguments"),
    "response.mcp_call_arguments.delta": ("", "mcp_call", "arguments"),
    "response.custom_tool_call_input.delta": ("", "custom_tool_call", "input"),
    "response.code_interpreter_call_code.delta": ("", "code_interpreter_call", "code"),
}
_RESPONSE_ENDS = ("response.completed", "response.incomplete", "response.failed")


def _is_response_event(item: Chunk) -> bool:
    kind = item.get("type")
    return isinstance(kind, str) and (kind.startswith("response.") or (kind == "error" and "sequence_number" in item))


def _is_response_start(item: Chunk, before: Chunk) -> bool:
    return item.get("type") == "response.created"


def _is_whole_response(chunks: Sequence[Chunk]) -> bool:
    return any(chunk.get("type") in _RESPONSE_ENDS and isinstance(chunk.get("response"), Mapping) for chunk in chunks)


def _join_responses(chunks: Sequence[Chunk]) -> dict[str, Json]:
    response: dict[str, Any] = {}
    items: dict[int, dict[str, Any]] = {}
    for event in chunks:
        kind, index = str(event.get("type")), event.get("output_index") or 0
        if isinstance(event.get("response"), Mapping):
            response |= event["response"]
        elif kind in ("response.output_item.added", "response.output_item.done"):
            items[index] = copy.deepcopy(event["item"])
        elif kind in _RESPONSE_DELTAS:
            _add_delta(items, index, event)
        elif kind == "error":
            response |= {"status": "failed", "error": {name: event.get(name) for name in ("code", "message", "param")}}
    response["output"] = response.get("output") or [items[index] for index in sorted(items)]
    return _with_end(response, _is_whole_response(chunks) or response.get("error"))


def _add_delta(items: dict[int, dict[str, Any]], index: int, event: Chunk) -> None:
    parts, kind, field = _RESPONSE_DELTAS[event["type"]]
    owner = {"content": "message", "summary": "reasoning"}.get(parts, kind)
    item = items.setdefault(index, {"type": "reasoning" if kind == "reasoning_text" else owner})
    if item["type"] == "message":
        item.setdefault("role", "assistant")
    if parts:
        place = event.get(f"{parts}_index") or 0
        entries = item[parts] = list(item.get(parts) or ())
        entries += [{"type": kind} for _ in range(place + 1 - len(entries))]
        item = entries[place]
    item[field] = (item.get(field) or "") + (event.get("delta") or "")


def _field(data: Chunk, snake: str, camel: str) -> Json:
    return data.get(snake, data.get(camel))


def _is_gemini_answer(item: Chunk) -> bool:
    if isinstance(item.get("candidates"), list):
        return True
    return "parts" not in item and _field(item, "usage_metadata", "usageMetadata") is not None


def _is_gemini_end(item: Chunk) -> bool:
    candidates = item.get("candidates") or ()
    return any(isinstance(c, Mapping) and _field(c, "finish_reason", "finishReason") for c in candidates)


def _is_other_gemini(item: Chunk, before: Chunk) -> bool:
    # The last chunk may bring token counts alone.
    return bool(item.get("candidates")) and _is_whole_gemini([before])


def _is_whole_gemini(chunks: Sequence[Chunk]) -> bool:
    """Return whether an answer has its end. Answers that were made by hand may lack it; the API's own have an id."""
    last = chunks[-1]
    if any(map(_is_gemini_end, chunks)) or not any(chunk.get("candidates") for chunk in chunks):
        return True
    return _field(last, "response_id", "responseId") is None


def _join_gemini(chunks: Sequence[Chunk]) -> dict[str, Json]:
    if len(chunks) == 1:
        return dict(chunks[0])
    answer: dict[str, Any] = {}
    candidates: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        answer |= {name: value for name, value in chunk.items() if name != "candidates" and value is not None}
        for candidate in chunk.get("candidates") or ():
            whole = candidates.setdefault(candidate.get("index") or 0, {"content": {"parts": []}})
            content = candidate.get("content") or {}
            whole |= {name: value for name, value in candidate.items() if name != "content" and value is not None}
            parts = whole["content"]["parts"]
            whole["content"] |= {name: value for name, value in content.items() if name != "parts"}
            for part in content.get("parts") or ():
                _add_gemini_part(parts, part)
    answer["candidates"] = [candidates[index] for index in sorted(candidates)]
    return _with_end(answer, _is_whole_gemini(chunks))


def _add_gemini_part(parts: list[Any], part: Chunk) -> None:
    """Add a part to those before it, which it continues if both are text of the same kind."""
    last = parts[-1] if parts else {}
    are_texts = isinstance(last.get("text"), str) and isinstance(part.get("text"), str)
    if are_texts and last.keys() - {"text", "thought"} == set() and bool(last.get("thought")) == bool(part.get("thought")):
        parts[-1] = {**last, **part, "text": last["text"] + part["text"]}
    else:
        parts.append(dict(part))


CHAT_STREAM = StreamFormat(_is_chat_chunk, _is_other_chat, _is_whole_chat, _join_chat, "`stream.get_final_completion()`")
RESPONSES_STREAM = StreamFormat(
    _is_response_event, _is_response_start, _is_whole_response, _join_responses, "`stream.get_final_response()`"
)
ANTHROPIC_STREAM = StreamFormat(
    _is_anthropic_event, _is_anthropic_start, _is_whole_anthropic, _join_anthropic, "`stream.get_final_message()`"
)
GEMINI_STREAM = StreamFormat(
    _is_gemini_answer, _is_other_gemini, _is_whole_gemini, _join_gemini, "the answer of `generate_content`"
)
