"""Tool calls in a model's raw text, for models that are sampled without a server that finds their calls.

Formats, by name:

    tool_call   Hermes, Qwen: <tool_call>{"name": ..., "arguments": {...}}</tool_call>, one call or several in each
    function    Qwen-Coder: <function=NAME><parameter=KEY>VALUE</parameter></function>, inside <tool_call> or not;
                Llama's own: <function=NAME>{...}</function>
    llama       <|python_tag|>{"name": ..., "parameters": {...}}, several parted by ";"
    json        the whole text, or a fenced block of it, is a call or a list of calls

What cannot be read is a call too: a malformed one, which an env answers with an error for the model to read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from openreward_gym.types import AssistantMessage, Block, Json, ReasoningItem, TextBlock, ToolCall, ToolSpec

MAX_CALLS = 128
"""A message that seems to have more calls than this comes from a model that repeats itself: its rest stays text."""

FORMATS = ("tool_call", "function", "llama", "json")

_MARKERS = {"tool_call": "<tool_call>", "function": "<function=", "llama": "<|python_tag|>"}
_END_TOKENS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "</s>")
_TOOL_CALL_TAG = re.compile("</?tool_call>")
_FENCE = re.compile(r"```(?:json|tool_call)?[ \t]*\n")
_NAME = re.compile(r'"name"\s*:\s*"([^"\\]{1,200})"')
_BETWEEN = re.compile(r"[\s;,]*")
_DECODER = json.JSONDecoder(strict=False)
_ARGUMENTS = ("arguments", "parameters", "input", "args")


def from_raw_text(text: str, *, formats: Sequence[str] = FORMATS, tools: Sequence[ToolSpec] = ()) -> AssistantMessage:
    """What a model wrote, with its reasoning (`<think>`) and its tool calls found; text around them stays text, in its order.

    Args:
        text: The model's text, with or without its special tokens.
        formats: The formats that are looked for.
        tools: The tools there are; their schemas say which parameters of `<parameter=KEY>` are not text.
    """
    reasoning, said = _split_reasoning(_without_end_tokens(text))
    blocks: list[Block] = [ReasoningItem(reasoning)] if reasoning else []
    schemas = {tool.name: tool.input_schema or {} for tool in tools}
    marked = [name for name in formats if name in _MARKERS]
    found = list(_marked_blocks(said, marked, schemas))
    if "json" in formats and not any(isinstance(block, ToolCall) for block in found):
        found = list(_json_blocks(said)) or found
    return AssistantMessage(blocks + found)


def _without_end_tokens(text: str) -> str:
    text = text.rstrip()
    while token := next((token for token in _END_TOKENS if text.endswith(token)), ""):
        text = text.removesuffix(token).rstrip()
    return text


def _split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, the rest). The opening tag may be the prompt's; where the closing one is missing, all is reasoning."""
    opened = text.lstrip().startswith("<think>")
    before, closing, after = text.partition("</think>")
    if not closing and not opened:
        return "", text
    return before.replace("<think>", "", 1).strip(), after.lstrip() if closing else ""


def _text(text: str) -> Iterator[Block]:
    if text.strip():
        yield TextBlock(text.strip())


def _marked_blocks(text: str, formats: Sequence[str], schemas: Mapping[str, Mapping[str, Json]]) -> Iterator[Block]:
    position, marker = 0, re.compile("|".join(re.escape(_MARKERS[name]) for name in formats) or "(?!)")
    count = 0
    while count < MAX_CALLS and (start := marker.search(text, position)):
        yield from _text(text[position : start.start()])
        position = start.end()
        if start[0] == _MARKERS["tool_call"]:
            calls, position = _tool_call(text, position, schemas)
            yield from calls
            count += len(calls)
        elif start[0] == _MARKERS["function"]:
            end = text.find("</function>", position)
            yield _function(text[position : len(text) if end < 0 else end], end >= 0, schemas)
            position = len(text) if end < 0 else end + len("</function>")
            count += 1
        else:
            calls, position = _json_calls(text, position, "")
            yield from calls
            count += len(calls)
    yield from _text(text[position:])


def _tool_call(text: str, start: int, schemas: Mapping[str, Mapping[str, Json]]) -> tuple[list[ToolCall], int]:
    """The calls after a <tool_call>, and where what follows begins."""
    if text[start : start + 200].lstrip()[:1] in ("{", "["):
        return _json_calls(text, start, "tool_call>")
    tag = _TOOL_CALL_TAG.search(text, start)
    body = text[start : tag.start() if tag else len(text)]
    position = len(text) if not tag else tag.end() if tag[0] == "</tool_call>" else tag.start()
    inside = [block for block in _marked_blocks(body, ["function"], schemas) if isinstance(block, ToolCall)]
    return inside or [_malformed(body)], position


def _function(body: str, closed: bool, schemas: Mapping[str, Mapping[str, Json]]) -> ToolCall:
    """The call of `<function=` + body; one that was cut off is malformed, for what it would do is not known."""
    name, bracket, rest = body.partition(">")
    name = name.strip().strip("\"'")
    if not bracket or not closed:
        return ToolCall(name, content=rest.strip() or body)
    if rest.lstrip().startswith("{"):
        return ToolCall(name, content=rest.strip())
    properties = schemas.get(name, {}).get("properties", {})
    arguments: dict[str, Json] = {}
    for part in rest.split("<parameter=")[1:]:
        key, bracket, value = part.partition(">")
        value, end, _ = value.rpartition("</parameter>")
        if not bracket or not end:
            return ToolCall(name, content=rest.strip())
        value = value.removeprefix("\n").removesuffix("\n")
        arguments[key.strip()] = _typed(value, properties.get(key.strip()) if isinstance(properties, Mapping) else None)
    if rest.partition("<parameter=")[0].strip():
        return ToolCall(name, content=rest.strip())
    return ToolCall(name, arguments)


def _typed(value: str, schema: Json) -> Json:
    """A parameter's text as the schema wants it: JSON where it may not be text, text where it may or where nothing is known."""
    if not isinstance(schema, Mapping) or '"string"' in json.dumps(schema.get("type", schema), default=str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _json_calls(text: str, start: int, tag: str) -> tuple[list[ToolCall], int]:
    """The calls of JSON at `start` and where they end: objects or lists, one or several, parted by blanks, commas, semicolons.

    They go on to the end of the text or, where `tag` is given, to `</` + tag or the next `<` + tag. It is found by
    reading the JSON, so that a text within it may hold a tag.
    """
    calls: list[ToolCall] = []
    while True:
        start = _BETWEEN.match(text, start).end()  # type: ignore[union-attr]  # it matches nothing as well
        if tag and text.startswith(f"</{tag}", start):
            return calls, start + len(tag) + 2
        if start == len(text) or len(calls) >= MAX_CALLS or (tag and text.startswith(f"<{tag}", start)):
            return calls, start
        if calls and not tag and text[start] not in "{[":
            return calls, start  # what is said after them
        try:
            value, start = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = _TOOL_CALL_TAG.search(text, start) if tag else None
            calls.append(_malformed(text[start : end.start() if end else len(text)]))
            return calls, len(text) if not end else end.end() if end[0].startswith("</") else end.start()
        items = value if isinstance(value, list) and value else [value]
        calls += [_call(item) or _malformed(json.dumps(item, ensure_ascii=False)) for item in items]


def _json_blocks(text: str) -> Iterator[Block]:
    """Text and calls where the whole text, or fenced blocks of it, are calls; nothing where none is."""
    whole = _calls_only(text)
    if whole:
        yield from whole
        return
    found: list[Block] = []
    position = searched = 0
    while fence := _FENCE.search(text, searched):
        end = text.find("\n```", fence.end() - 1)
        if end < 0:
            break
        searched = end + len("\n```")
        inside = _calls_only(text[fence.end() : end])
        if inside:
            found += [*_text(text[position : fence.start()]), *inside]
            position = searched
    if found:
        yield from [*found, *_text(text[position:])]


def _calls_only(text: str) -> list[ToolCall]:
    """The calls of a text that is nothing but calls; else none. Data that only looks like JSON is an answer, not a call."""
    if text.lstrip()[:1] not in ("{", "["):
        return []
    text, position, calls = text.strip(), 0, []
    while position < len(text):
        try:
            value, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            return []
        for item in value if isinstance(value, list) else [value]:
            call = _call(item)
            if call is None or not (set(_ARGUMENTS) & item.keys() or "function" in item):
                return []
            calls.append(call)
        position = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]  # it matches nothing as well
    return calls


def _call(value: Json) -> ToolCall | None:
    """The call that a JSON value says; None where it names none. Arguments that are no object make it a malformed one."""
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    if isinstance(inner, dict):
        return _call(inner)
    name = value.get("name", inner)
    if not isinstance(name, str) or not name:
        return None
    arguments = next((value[key] for key in _ARGUMENTS if key in value), None)
    call_id = value.get("id") if isinstance(value.get("id"), str) else ""
    if arguments is None:
        return ToolCall(name, {}, call_id or "")
    if isinstance(arguments, dict):
        return ToolCall(name, arguments, call_id or "")
    return ToolCall(name, None, call_id or "", arguments if isinstance(arguments, str) else json.dumps(arguments))


def _malformed(text: str) -> ToolCall:
    name = _NAME.search(text)
    return ToolCall(name[1] if name else "", content=text)
