"""Streamed answers: the chunks of an answer, assembled to the answer that the provider gives without streaming."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from openreward_gym.chat.failures import is_failure
from openreward_gym.chat.plain import list_at, object_at, rest_of, shown, text_at
from openreward_gym.errors import MessageError
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
        begins: Whether a chunk, given with those before it, begins another answer.
        is_whole: Whether chunks are an answer with its end.
        join: Returns the answer of chunks. Its end is missing if the stream broke off.
        final: The SDK's way to the final object, for messages of errors.
    """

    is_chunk: Callable[[Chunk], bool]
    begins: Callable[[Chunk, Sequence[Chunk]], bool]
    is_whole: Callable[[Sequence[Chunk]], bool]
    join: Callable[[Sequence[Chunk]], dict[str, Json]]
    final: str

    def assembled(self, items: Sequence[Json]) -> list[Json]:
        """Return `items` with one answer in place of the chunks of each; raise MessageError for a chunk alone."""
        result: list[Json] = []
        chunks: list[Chunk] = []
        ids: set[str] = set()
        for item in [*items, None]:
            # A stream that fails has the body of the error as its last chunk.
            is_chunk = isinstance(item, Mapping) and (self.is_chunk(item) or (bool(chunks) and is_failure(item)))
            if chunks and (not is_chunk or self.begins(item, chunks)):
                if len(chunks) == 1:
                    self.refuse(chunks[0])
                result.append(self.join(chunks))
                if not self.is_whole(chunks):
                    ids.add(_id_of(chunks[0]))
                chunks = []
            if not is_chunk:
                result.append(item)
                continue
            if not chunks and _id_of(item) in ids - {""}:
                raise MessageError(f"the chunks of several streamed answers are mixed: pass those of {_id_of(item)!r} together")
            chunks.append(item)
        return result[:-1]

    def refuse(self, item: Json) -> None:
        """Raise MessageError if an object is a chunk that does not hold the whole answer."""
        if isinstance(item, Mapping) and self.is_chunk(item) and not self.is_whole([item]):
            raise MessageError(
                f"{shown(dict(item))} is one chunk of a streamed answer, not a message: collect the "
                f"chunks and pass them as one list, or pass the final object ({self.final})"
            )


def _id_of(chunk: Chunk) -> str:
    return str(chunk.get("id") or _field(chunk, "response_id", "responseId") or "")


def _differ(item: Chunk, before: Sequence[Chunk]) -> bool:
    """Return whether both have ids, and another one each."""
    known = next(filter(None, map(_id_of, reversed(before))), "")
    return known not in ("", _id_of(item)) and _id_of(item) != ""


def _index(data: Chunk, name: str = "index") -> int:
    value = data.get(name) or 0
    if not isinstance(value, int):
        raise MessageError(f"{name} of a chunk must be an integer, not {shown(value)}")
    return value


def _with_end(answer: dict[str, Json], has_end: object) -> dict[str, Json]:
    """Return an answer, marked as one whose stream broke off if it has no end."""
    return answer if has_end else {**answer, BROKE_OFF: True}


def _merged(old: Json, new: Json, key: str = "") -> Json:
    """Return `old` continued by `new`: text and lists are appended, and objects are continued field by field."""
    if new is None or old is None:
        return copy.deepcopy(old if new is None else new)
    if key in _CONSTANT:
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
        place = _place(entry, result, key) if isinstance(entry, dict) else None
        if place is None:
            result.append(copy.deepcopy(entry))
            continue
        if key == "tool_calls" and (entry.get("id") or entry.get("type")):
            entry = _without_repeated_name(entry, result[place])
        result[place] = _merged(result[place], entry)
    return result


def _place(entry: dict[str, Json], entries: list[Json], key: str) -> int | None:
    """Return the position of the entry that `entry` continues; None if it is a new one."""
    if key == "tool_calls" and entry.get("index") is None:
        calls = [(n, other) for n, other in enumerate(entries) if isinstance(other, dict)]
        same = [n for n, other in calls if not entry.get("id") or entry["id"] == other.get("id")]
    elif isinstance(entry.get("index"), int):
        same = [n for n, other in enumerate(entries) if _continues(entry, other, key)]
    else:
        return None
    return same[-1] if same else None


def _without_repeated_name(entry: dict[str, Json], call: Json) -> dict[str, Json]:
    """Return a piece of a call without its name if the server repeats it with the call's id or type in every chunk."""
    function, known = entry.get("function"), call.get("function")
    if isinstance(function, dict) and isinstance(known, dict) and function.get("name") == known.get("name"):
        return {**entry, "function": {name: value for name, value in function.items() if name != "name"}}
    return entry


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


def _is_other_chat(item: Chunk, before: Sequence[Chunk]) -> bool:
    if _differ(item, before):
        return True
    choices = list_at(item, "choices", Mapping)
    continued = {_index(choice) for choice in choices if any(rest_of(object_at(choice, "delta"), "role").values())}
    # The choice's own last chunk tells whether it had its end.
    own = (choice for chunk in reversed(before) for choice in list_at(chunk, "choices", Mapping) if _index(choice) in continued)
    return any(choice.get("finish_reason") for choice in islice(own, 1))


def _is_whole_chat(chunks: Sequence[Chunk]) -> bool:
    choices = [choice for chunk in chunks for choice in list_at(chunk, "choices", Mapping)]
    return bool(choices) and {_index(c) for c in choices} == {_index(c) for c in choices if c.get("finish_reason")}


_APPENDED = ("logprobs", "token_ids")


def _join_chat(chunks: Sequence[Chunk]) -> dict[str, Json]:
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        # `obfuscation` is random padding.
        answer |= {name: value for name, value in chunk.items() if name not in ("choices", "obfuscation") and value is not None}
        for choice in list_at(chunk, "choices", Mapping):
            whole = choices.setdefault(_index(choice), {"message": {"role": "assistant"}})
            whole["message"] = _merged(whole["message"], object_at(choice, "delta"))
            fields = {name: value for name, value in choice.items() if name != "delta" and value is not None}
            whole |= {name: _merged(whole.get(name), v) if name in _APPENDED else v for name, v in fields.items()}
    for choice in choices.values():
        for call in list_at(choice["message"], "tool_calls", dict):
            call.pop("index", None)
    answer |= {"object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}
    return _with_end(answer, _is_whole_chat(chunks) or answer.get("error"))


# The SDK's stream also yields events with a `snapshot` of what it has accumulated, and signatures.
_ANTHROPIC_EVENTS = ("message_start", "message_delta", "message_stop", "ping", "signature")


def _is_anthropic_event(item: Chunk) -> bool:
    kind = item.get("type")
    return isinstance(kind, str) and (kind in _ANTHROPIC_EVENTS or kind.startswith("content_block_") or "snapshot" in item)


def _is_anthropic_start(item: Chunk, before: Sequence[Chunk]) -> bool:
    return item.get("type") == "message_start" and any(chunk.get("type") != "ping" for chunk in before)


def _is_whole_anthropic(chunks: Sequence[Chunk]) -> bool:
    return any(isinstance(chunk.get("message"), Mapping) and chunk.get("type") == "message_stop" for chunk in chunks)


def _join_anthropic(chunks: Sequence[Chunk]) -> dict[str, Json]:
    message: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    inputs: dict[int, str] = {}
    for chunk in chunks:
        kind, index, delta = chunk.get("type"), _index(chunk), object_at(chunk, "delta")
        if kind == "message_stop" and isinstance(chunk.get("message"), Mapping):
            return dict(chunk["message"])
        if is_failure(chunk):
            message |= {name: value for name, value in chunk.items() if name != "type"}
        elif kind == "message_start":
            message = {"role": "assistant", **object_at(chunk, "message")}
            blocks = dict(enumerate(copy.deepcopy(list_at(message, "content", dict))))
        elif kind == "content_block_start":
            if index in blocks:
                raise MessageError(f"block {index} of a streamed answer begins twice: pass the events of one answer, in order")
            blocks[index] = dict(copy.deepcopy(object_at(chunk, "content_block")))
        elif kind == "content_block_delta":
            if index not in blocks:
                raise MessageError(f"block {index} of a streamed answer has no beginning: pass all events, in order")
            if delta.get("type") == "input_json_delta":
                inputs[index] = inputs.get(index, "") + (text_at(delta, "partial_json") or "")
            elif delta.get("type") == "citations_delta":
                blocks[index] = _merged(blocks[index], {"citations": [delta.get("citation")]})
            else:
                blocks[index] = _merged(blocks[index], {name: value for name, value in delta.items() if name != "type"})
        elif kind == "message_delta":
            usage = {**object_at(message, "usage"), **rest_of(object_at(chunk, "usage"))}
            message |= {**rest_of(delta), **rest_of(chunk, "type", "delta"), "usage": usage}
    if "role" not in message and "error" not in message:
        raise MessageError("a streamed answer has no message_start: pass all events of the answer, in order")
    for index, text in inputs.items():
        if text:
            blocks[index]["input"] = text if blocks[index].get("type") == "tool_use" else _parsed(text)
    whole = {"role": "assistant", **message, "content": [blocks[index] for index in sorted(blocks)]}
    return _with_end(whole, message.get("stop_reason") or message.get("error"))


def _parsed(text: str) -> Json:
    try:
        return loads(text)
    except ValueError:
        return text


# The texts of Responses events: the list of parts, the type of a part, its field; the list is "" for a field of the item.
_RESPONSE_TEXTS: Mapping[str, tuple[str, str, str]] = {
    "response.output_text": ("content", "output_text", "text"),
    "response.refusal": ("content", "refusal", "refusal"),
    "response.reasoning_text": ("content", "reasoning_text", "text"),
    "response.reasoning_summary_text": ("summary", "summary_text", "text"),
    "response.function_call_arguments": ("", "function_call", "arguments"),
    "response.mcp_call_arguments": ("", "mcp_call", "arguments"),
    "response.custom_tool_call_input": ("", "custom_tool_call", "input"),
    "response.code_interpreter_call_code": ("", "code_interpreter_call", "code"),
}
_RESPONSE_ENDS = ("response.completed", "response.incomplete", "response.failed")


def _is_response_event(item: Chunk) -> bool:
    kind = item.get("type")
    return isinstance(kind, str) and kind.startswith("response.")


def _is_response_start(item: Chunk, before: Sequence[Chunk]) -> bool:
    return item.get("type") == "response.created"


def _is_whole_response(chunks: Sequence[Chunk]) -> bool:
    return any(chunk.get("type") in _RESPONSE_ENDS and isinstance(chunk.get("response"), Mapping) for chunk in chunks)


def _join_responses(chunks: Sequence[Chunk]) -> dict[str, Json]:
    response: dict[str, Any] = {"object": "response"}
    items: dict[int, dict[str, Any]] = {}
    unread: dict[int, str] = {}
    for event in chunks:
        kind, index = str(event.get("type")), _index(event, "output_index")
        text_kind, _, suffix = kind.rpartition(".")
        if is_failure(event):
            error = event.get("error") or rest_of(event, "type", "sequence_number")
            response |= {"status": "failed", "error": error}
        elif isinstance(event.get("response"), Mapping):
            response |= event["response"]
        elif kind in ("response.output_item.added", "response.output_item.done"):
            items[index] = dict(copy.deepcopy(object_at(event, "item")))
            unread.pop(index, None)
        elif text_kind in _RESPONSE_TEXTS:
            _add_text(items, index, event, *_RESPONSE_TEXTS[text_kind], is_whole=suffix == "done")
        elif suffix == "delta":
            unread[index] = kind
    if not list_at(response, "output"):
        if unread:
            kind = next(iter(unread.values()))
            raise MessageError(f"a stream with {kind} needs the response.output_item.done that follows: pass all events")
        response["output"] = [items[index] for index in sorted(items)]
    return _with_end(response, _is_whole_response(chunks) or response.get("error"))


def _add_text(
    items: dict[int, dict[str, Any]], index: int, event: Chunk, parts: str, kind: str, field: str, *, is_whole: bool
) -> None:
    """Put the text of an event, a piece or with `is_whole` all of it, into its item, which is made if it is missing."""
    owner = {"content": "message", "summary": "reasoning"}.get(parts, kind)
    item = items.setdefault(index, {"type": "reasoning" if kind == "reasoning_text" else owner})
    if item.get("type") == "message":
        item.setdefault("role", "assistant")
    if parts:
        place = _index(event, f"{parts}_index")
        entries = item[parts] = list_at(item, parts, dict)
        if not 0 <= place <= len(entries):
            raise MessageError(f"part {place} of a streamed item comes before part {len(entries)}: pass all events, in order")
        if place == len(entries):
            entries.append({"type": kind})
        item = entries[place]
    item[field] = text_at(event, field) if is_whole else (text_at(item, field) or "") + (text_at(event, "delta") or "")


def _field(data: Chunk, snake: str, camel: str) -> Json:
    return data.get(snake, data.get(camel))


_GEMINI_SNAKE = frozenset({"candidates", "prompt_feedback", "usage_metadata", "model_version", "response_id"})
_GEMINI_FIELDS = _GEMINI_SNAKE | {"promptFeedback", "usageMetadata", "modelVersion", "responseId"}
_GEMINI_APPENDED = ("citation_metadata", "citationMetadata", "logprobs_result", "logprobsResult")


def _is_gemini_answer(item: Chunk) -> bool:
    return not _GEMINI_FIELDS.isdisjoint(item) and "parts" not in item and "role" not in item


def _is_gemini_end(item: Chunk) -> bool:
    return any(_field(candidate, "finish_reason", "finishReason") for candidate in list_at(item, "candidates", Mapping))


def _is_other_gemini(item: Chunk, before: Sequence[Chunk]) -> bool:
    # The last chunk may bring token counts alone. A chunk without its end is continued, whether chunks have ids or not.
    has_content = item.get("candidates") or _field(item, "prompt_feedback", "promptFeedback")
    has_ended = any(chunk.get("error") or _is_gemini_end(chunk) for chunk in before) or not before[-1].get("candidates")
    return _differ(item, before) or bool(has_content and has_ended)


def _is_whole_gemini(chunks: Sequence[Chunk]) -> bool:
    """Return whether an answer has its end. Answers that were made by hand may lack it; the API's own have an id."""
    if any(map(_is_gemini_end, chunks)) or not any(chunk.get("candidates") for chunk in chunks):
        return True
    if any(chunk.get("error") or chunk.get(BROKE_OFF) for chunk in chunks):
        return True  # as `join` returned it
    return _field(chunks[-1], "response_id", "responseId") is None


def _join_gemini(chunks: Sequence[Chunk]) -> dict[str, Json]:
    if len(chunks) == 1:
        return dict(chunks[0])
    answer: dict[str, Any] = {}
    candidates: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        answer |= {name: value for name, value in chunk.items() if name != "candidates" and value is not None}
        for candidate in list_at(chunk, "candidates", Mapping):
            whole = candidates.setdefault(_index(candidate), {"content": {"parts": []}})
            content = object_at(candidate, "content")
            fields = rest_of(candidate, "content")
            whole |= {name: _merged(whole.get(name), v) if name in _GEMINI_APPENDED else v for name, v in fields.items()}
            parts = whole["content"]["parts"]
            whole["content"] |= rest_of(content, "parts")
            for part in list_at(content, "parts", Mapping):
                _add_gemini_part(parts, part)
    answer["candidates"] = [candidates[index] for index in sorted(candidates)]
    return _with_end(answer, _is_whole_gemini(chunks) or answer.get("error"))


def _add_gemini_part(parts: list[Any], part: Chunk) -> None:
    """Add a part to those before it, which it continues if both are text of the same kind."""
    call = _field(part, "function_call", "functionCall")
    if isinstance(call, Mapping) and (
        _field(call, "partial_args", "partialArgs") or _field(call, "will_continue", "willContinue")
    ):
        raise MessageError("the arguments of a function call are streamed in pieces: switch off `stream_function_call_arguments`")
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
