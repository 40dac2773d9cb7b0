"""The items of a row, with all that the types of OpenAI and NeMo Gym require.

Every item has a type, and an id that is not empty and no other item's. Each output answers a call before it, and no two calls
that wait for an output have the same id; a result that answers none is a message of the user. Calls are function calls,
whatever kind of tool they are of. What an item cannot hold, such as an image of the assistant, is not in it: `nemo_gym_marks`
keeps the message whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from openreward_gym.chat import to_openai_responses
from openreward_gym.importers.nemo_gym_items import TOKEN_FIELDS, with_token_fields
from openreward_gym.jsonio import Json, escape_surrogates
from openreward_gym.types import Block, Message, Sampled, ToolCall, ToolResult, text_separator

_Item = dict[str, Json]

_STATUSES = ("in_progress", "completed", "incomplete")
_DETAILS = ("low", "high", "auto")
# Items of tools that a provider runs, and the fields without which they are not valid.
_HOSTED: Mapping[str, tuple[str, ...]] = {
    "web_search_call": ("id", "action", "status"),
    "file_search_call": ("id", "queries", "status"),
    "code_interpreter_call": ("id", "code", "container_id", "outputs", "status"),
    "image_generation_call": ("id", "result", "status"),
    "mcp_call": ("id", "arguments", "name", "server_label"),
    "mcp_list_tools": ("id", "server_label", "tools"),
    "compaction": ("id", "encrypted_content"),
}
_ANNOTATIONS: Mapping[str, tuple[str, ...]] = {
    "file_citation": ("file_id", "filename", "index"),
    "url_citation": ("url", "title", "start_index", "end_index"),
    "container_file_citation": ("container_id", "file_id", "filename", "start_index", "end_index"),
    "file_path": ("file_id", "index"),
}
_MOST = 2**53
_LOGPROB = ("token", "bytes", "logprob", "top_logprobs")


class ValidItems:
    """Writes the messages of one row as items, in their order.

    Example:
        >>> from openreward_gym.types import AssistantMessage, ToolCall, ToolMessage
        >>> items = ValidItems()
        >>> turn = items.write(AssistantMessage("", [ToolCall("look", {})]), 0)
        >>> answer = items.write(ToolMessage("a stone"), 1)
        >>> [item["call_id"] for item in (*turn, *answer)]
        ['call_0_0', 'call_0_0']
    """

    def __init__(self) -> None:
        self._ids: set[str] = set()
        # The calls that have no result yet: the id in the record, the id in the row, the number of the message.
        self._open: list[tuple[str, str, int]] = []
        self._last_turn = -1

    def add(self, items: Iterable[Json], number: int) -> None:
        """Take note of items that stand in the row as they came, as message `number`."""
        for item in items:
            if not isinstance(item, Mapping):
                continue
            call_id, kind = item.get("call_id"), str(item.get("type"))
            if isinstance(item.get("id"), str):
                self._ids.add(item["id"])
            if item.get("role") == "assistant" or kind.endswith("_call"):
                self._last_turn = number
            if isinstance(call_id, str) and kind.endswith("_call"):
                self._open.append((call_id, call_id, number))
            elif isinstance(call_id, str):
                self._answered(call_id)

    def write(self, message: Message, number: int, *, at_end: bool = False) -> list[_Item]:
        """Return the items of a message.

        Args:
            message: The message.
            number: Its place in the conversation, for the ids that it lacks.
            at_end: The policy said nothing after it. A response ends with the policy's items and the outputs of its calls: what
                else the environment said, such as a verdict, has no items.
        """
        if message.role == "assistant":
            self._last_turn = number
        items = []
        for index, raw in enumerate(to_openai_responses([_as_functions(message)])):
            item = self._valid(escape_surrogates(raw), message, number, index)
            if item is not None and not (at_end and item.get("type") == "message" and message.role != "assistant"):
                items.append(item)
        if message.role == "assistant" and not any(item["type"] != "function_call_output" for item in items):
            # An empty answer is an answer, and its tokens stand in an item.
            items.insert(0, self._message({"type": "message", "role": "assistant", "content": ""}, message, f"msg_{number}"))
        if _has_tokens(message.sampled):
            items = with_token_fields(items, message)
        return [item if all(name in item for name in TOKEN_FIELDS) else _without_tokens(item) for item in items]

    def _valid(self, item: _Item, message: Message, number: int, index: int) -> _Item | None:
        kind, name, is_turn = str(item.get("type")), f"{number}_{index}", message.role == "assistant"
        if kind == "message":
            return self._message(item, message, f"msg_{name}")
        if kind == "function_call_output":
            return self._output(item, message, f"fco_{name}")
        if not is_turn:
            return None
        if kind == "function_call":
            return self._call(item, message, number, name)
        if kind == "reasoning":
            return _checked({**_reasoning(item), "id": self._id(item.get("id"), f"rs_{name}")}, encrypted_content=str)
        if kind in _HOSTED and _has(item, _HOSTED[kind]):
            return {**item, "id": self._id(item["id"], f"item_{name}")}
        return None

    def _message(self, item: _Item, message: Message, name: str) -> _Item:
        content = item.get("content")
        parts = content if isinstance(content, list) else [{"text": content or ""}]
        if message.role != "assistant":
            role = item.get("role") if item.get("role") in ("user", "system", "developer") else "user"
            role = role if message.role in ("system", "user") else "user"
            return _checked({**item, "role": role, "content": [*map(_input_part, filter(_is_input, parts))]}, id=str)
        written = [part for part in map(_output_part, parts) if part is not None]
        item = {**item, "content": written, "id": self._id(item.get("id"), name)}
        return _with_status(_checked(item), _status(message))

    def _call(self, item: _Item, message: Message, number: int, name: str) -> _Item:
        recorded = str(item.get("call_id") or "")
        # An id may come again once its call is answered: many servers count the calls of each turn anew.
        call_id = _unused(recorded or f"call_{name}", {call_id for _, call_id, _ in self._open})
        self._open.append((recorded, call_id, number))
        item = _with_status({**_checked(item, id=str, namespace=str), "call_id": call_id}, _status(message))
        return {**item, "id": self._id(item["id"], f"fc_{name}")} if "id" in item else item

    def _output(self, item: _Item, message: Message, name: str) -> _Item | None:
        recorded = str(item.get("call_id") or "")
        call_id = self._answered(recorded)
        output = item.get("output")
        parts = output if isinstance(output, list) else [{"text": output if isinstance(output, str) else ""}]
        parts = [*map(_input_part, filter(_is_input, parts))]
        if call_id is not None:
            only_text = all(part["type"] == "input_text" for part in parts)
            said: Json = text_separator("tool").join(part["text"] for part in parts) if only_text else parts
            item = {**_checked(item), "call_id": call_id, "output": said, "id": self._id(item.get("id"), name)}
            return _with_status(item, "completed")
        # In a turn of the assistant, the words are not the user's.
        return None if message.role == "assistant" else {"type": "message", "role": "user", "content": parts}

    def _answered(self, recorded: str) -> str | None:
        """Return the id in the row of the call that a result answers: the first with its id, or one of the last turn."""
        for place, (own, call_id, number) in enumerate(self._open):
            if own == recorded if recorded else number == self._last_turn:
                del self._open[place]
                return call_id
        return None

    def _id(self, given: Json, name: str) -> str:
        """Return the id of an item: its own, unless it is empty or another item's."""
        own = given if isinstance(given, str) and given and given not in self._ids else _unused(name, self._ids)
        self._ids.add(own)
        return own


def _as_functions(message: Message) -> Message:
    """Return a message whose calls and results are those of functions, the only ones that all versions of NeMo Gym know."""
    blocks = tuple(_as_function(block) for block in message.blocks)
    metadata = message.metadata
    if message.role == "tool" and isinstance(metadata, Mapping) and "openai" in metadata:
        metadata = {**metadata, "openai": _identity(metadata["openai"])}
    elif isinstance(metadata, Mapping) and "role" in metadata and (message.role, metadata["role"]) != ("system", "developer"):
        metadata = {name: value for name, value in metadata.items() if name != "role"}
    return message.replace(blocks=blocks, metadata=metadata)


def _as_function(block: Block) -> Block:
    kept = getattr(block, "extra", {}).get("openai")
    if not isinstance(kept, Mapping) or "type" not in kept:
        return block
    extra = {"openai": _identity(kept)}
    if isinstance(block, ToolCall):
        return replace(block, content=block.arguments_json, extra=extra)
    return replace(block, extra=extra) if isinstance(block, ToolResult) else block


def _identity(kept: Json) -> _Item:
    """Return the id and the status of an item that is written as one of another type."""
    return {name: kept[name] for name in ("id", "status") if name in kept} if isinstance(kept, Mapping) else {}


def _with_status(item: _Item, status: str) -> _Item:
    return item if "status" in item else {**item, "status": status}


def _status(message: Message) -> str:
    return "completed" if message.ended in (None, "stop", "tool_calls") else "incomplete"


def _checked(item: _Item, **kinds: type) -> _Item:
    """Return an item without the fields whose values its type refuses."""
    kept = {name: value for name, value in item.items() if name not in kinds or isinstance(value, kinds[name])}
    if kept.get("status", "completed") not in _STATUSES:
        del kept["status"]
    if kept.get("phase") not in ("commentary", "final_answer"):
        kept.pop("phase", None)
    for name in ("caller", "name"):
        if item.get("type") == "function_call_output":
            kept.pop(name, None)
    return kept


def _is_input(part: Json) -> bool:
    """Return whether a part can stand in a message of the user, or in the output of a call."""
    if not isinstance(part, Mapping):
        return False
    if part.get("type") == "input_image":
        return isinstance(part.get("image_url"), str) or isinstance(part.get("file_id"), str)
    if part.get("type") == "input_file":
        return any(isinstance(part.get(name), str) for name in ("file_data", "file_id", "file_url"))
    return isinstance(part.get("text"), str)


def _input_part(part: Mapping[str, Json]) -> _Item:
    if part.get("type") == "input_image":
        return {**part, "detail": part["detail"] if part.get("detail") in _DETAILS else "auto"}
    return dict(part) if part.get("type") == "input_file" else {**part, "type": "input_text", "text": part["text"]}


def _output_part(part: Json) -> _Item | None:
    if not isinstance(part, Mapping):
        return None
    if part.get("type") == "refusal" and isinstance(part.get("refusal"), str):
        return dict(part)
    if not isinstance(part.get("text"), str):
        return None
    given, logprobs = part.get("annotations"), part.get("logprobs")
    valid = isinstance(given, list) and all(map(_is_annotation, given))
    rest = {name: value for name, value in part.items() if name not in ("type", "text", "annotations", "logprobs")}
    if logprobs is None or (isinstance(logprobs, list) and all(_has(item, _LOGPROB) for item in logprobs)):
        rest |= {"logprobs": logprobs} if "logprobs" in part else {}
    return {"type": "output_text", "text": part["text"], "annotations": given if valid else [], **rest}


def _reasoning(item: _Item) -> _Item:
    """Return an item of reasoning whose parts are texts."""
    rest = {name: value for name, value in item.items() if name not in ("summary", "content")}
    parts: dict[str, list[_Item]] = {}
    for name, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        given = item.get(name)
        given = [{"text": given}] if isinstance(given, str) else given
        read = [part for part in given or () if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
        parts[name] = [{**part, "type": kind} for part in read]
    return {**rest, "summary": parts["summary"], **({"content": parts["content"]} if parts["content"] else {})}


def _is_annotation(value: Json) -> bool:
    fields = _ANNOTATIONS.get(str(value.get("type"))) if isinstance(value, Mapping) else None
    return fields is not None and _has(value, fields)


def _has(value: Json, names: Sequence[str]) -> bool:
    return isinstance(value, Mapping) and all(value.get(name) is not None for name in names)


def _unused(name: str, used: set[str]) -> str:
    """Return `name`, with a number where it is used already."""
    number, candidate = 2, name
    while candidate in used:
        candidate, number = f"{name}_{number}", number + 1
    return candidate


def _has_tokens(sampled: Sampled | None) -> bool:
    """Return whether a turn has what a trainer needs: its ids, those of its context, and a number for each of its own."""
    if sampled is None or not sampled.token_ids or sampled.prompt_token_ids is None or sampled.logprobs is None:
        return False
    if not all(0 <= token < _MOST for token in (*sampled.token_ids, *sampled.prompt_token_ids)):
        return False
    return len(sampled.logprobs) == len(sampled.token_ids) and all(map(math.isfinite, sampled.logprobs))


def _without_tokens(item: _Item) -> _Item:
    return {name: value for name, value in item.items() if name not in (*TOKEN_FIELDS, "routed_experts", "has_tokens")}
