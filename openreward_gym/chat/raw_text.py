"""Tool calls in a model's raw text, for models that are sampled without a server that parses their calls.

Formats, by name:

    tool_call   Hermes, Qwen: <tool_call>{"name": ..., "arguments": {...}}</tool_call>, one call or several in each
    function    Qwen-Coder: <function=NAME><parameter=KEY>VALUE</parameter></function>, inside <tool_call> or not;
                Llama's own: <function=NAME>{...}</function>
    llama       <|python_tag|>{"name": ..., "parameters": {...}}, several separated by ";"
    json        the whole text, or a fenced block of it, is a call or a list of calls

A call that cannot be parsed becomes a malformed call, which an env answers with an error for the model to read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from openreward_gym.chat.dialect import Dialect, content_of, tool_call
from openreward_gym.chat.plain import rest_of, shown
from openreward_gym.errors import MessageError
from openreward_gym.jsonio import Json
from openreward_gym.types import (
    AssistantMessage,
    Block,
    Message,
    ReasoningItem,
    TextBlock,
    ToolCall,
    ToolSpec,
    as_blocks,
    text_of,
)

MAX_CALLS = 128
"""A message that seems to have more calls comes from a model that repeats itself: the text after these calls stays text."""

FORMATS = ("tool_call", "function", "llama", "json")

_ROLES = ("system", "user", "assistant", "tool")
_MARKERS = {"tool_call": "<tool_call>", "function": "<function=", "llama": "<|python_tag|>"}
_END_TOKENS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "</s>")
# Where a call begins, also in formats that are not read here: Mistral, DeepSeek, Kimi, Phi, gpt-oss, Anthropic, MiniMax, GLM,
# InternLM, Cohere, Jamba, Nemotron, Gemma, and LongCat.
_CALL_BEGINS = re.compile(
    r"<tool_call>|<function=|<\|python_tag\|>|\[TOOL_CALLS\]|\w\[ARGS\]|<｜tool▁calls?▁begin｜>|<｜DSML｜"
    r"|<\|tool_calls?(?:_section)?(?:_begin)?\|>|\b(?:commentary|analysis) to=functions|<(?:\w+:)?(?:tool_calls?|function_calls)>"
    r"|<(?:\w+:)?invoke name=|<\|action_start\|>|<\|START_ACTION\|>|<TOOLCALL>|<start_function_call>|<longcat_tool_call>"
    r"|\bfunctools\[|```tool_code\b"
)
_TOOL_CALL_TAG = re.compile("</?tool_call>")
_FENCE = re.compile(r"```(?:json|tool_call)?[ \t]*\n")
_NAME = re.compile(r'"name"\s*:\s*"([^"\\]{1,200})"')
_BETWEEN = re.compile(r"[\s;,]*")
_DECODER = json.JSONDecoder(strict=False)
_ARGUMENTS = ("arguments", "parameters", "input", "args")


class RawTextDialect(Dialect):
    """Chat messages whose content is text alone: reasoning (`<think>`) and tool calls are inside the assistant's text.

    Args:
        formats: The formats of calls to look for. Calls are written in Hermes's format (`tool_call`).
        tools: The tools there are. Their schemas tell which parameters of `<parameter=KEY>` are not text.

    Example:
        >>> message = RawTextDialect().read_message('<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>')
        >>> message.tool_calls[0].arguments
        {'a': 1}
    """

    provider = "raw_text"

    def __init__(self, formats: Sequence[str] = FORMATS, tools: Sequence[ToolSpec] = ()) -> None:
        self._marked = [name for name in formats if name in _MARKERS]
        self._reads_json = "json" in formats
        self._schemas = {tool.name: tool.input_schema or {} for tool in tools}

    def is_message(self, data: Mapping[str, Json]) -> bool:
        return data.get("role") in _ROLES and isinstance(data.get("content"), str)

    def is_part(self, data: Mapping[str, Json]) -> bool:
        return False

    def read_text(self, text: str) -> Message:
        """Read the text of an assistant's turn."""
        return AssistantMessage(self.read_part(text))

    def read_turn(self, data: Mapping[str, Json]) -> Message:
        """Read a message as `{"role", "content"}`."""
        if not self.is_message(data):
            raise MessageError(f"a message is text or {{'role', 'content'}} with a text as its content, not {shown(data)}")
        if data["role"] == "assistant":
            return AssistantMessage(self.read_part(data["content"]))
        return Message(data["role"], (TextBlock(data["content"]),), metadata=rest_of(data, "role", "content") or None)

    def read_part(self, data: Json) -> list[Block]:
        reasoning, answer = _split_reasoning(_without_end_tokens(data))
        blocks = list(_marked_blocks(answer, self._marked, self._schemas))
        if self._reads_json and not any(isinstance(block, ToolCall) for block in blocks):
            blocks = _json_blocks(answer) or blocks
        return [ReasoningItem(reasoning), *blocks] if reasoning else blocks

    def write(self, messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
        return None, [
            {"role": message.role, "content": "\n".join(self.write_part(block)["text"] for block in content_of(message))}
            for message in messages
        ]

    def write_part(self, block: Block) -> dict[str, Json]:
        if isinstance(block, ReasoningItem):
            return {"text": f"<think>\n{block.content or block.summary or ''}\n</think>\n"}
        if isinstance(block, ToolCall):
            call = f'{{"name": {json.dumps(block.name, ensure_ascii=False)}, "arguments": {block.arguments_json}}}'
            return {"text": f"<tool_call>\n{call}\n</tool_call>"}
        return {"text": text_of([block])}


def from_raw_text(text: str, *, formats: Sequence[str] = FORMATS, tools: Sequence[ToolSpec] = ()) -> AssistantMessage:
    """Read a model's text: its reasoning (`<think>`), its tool calls, and the text around them, in order.

    Args:
        text: The model's text, with or without its special tokens.
        formats: As for `RawTextDialect`.
        tools: As for `RawTextDialect`.

    Example:
        >>> from_raw_text('I look. <tool_call>{"name": "ls", "arguments": {}}</tool_call>').text
        'I look.'
    """
    return AssistantMessage(RawTextDialect(formats, tools).read_part(text))


def has_call_as_text(text: str, tools: Iterable[ToolSpec]) -> bool:
    """Return whether a text has a call of one of the tools in a model's own format.

    That is the mark of such a format before the name of a tool, or a text that is nothing but a call: JSON, Python's, or ReAct's.

    Example:
        >>> tools = [ToolSpec("ls")]
        >>> has_call_as_text('<tool_call>{"name": "ls", "arguments": {}}</tool_call>', tools)
        True
        >>> has_call_as_text("ls shows files.", tools)
        False
    """
    names = {tool.name for tool in tools}
    if not any(name in text for name in names):
        return False
    # An argument of Mistral's comes after its name.
    mark = _CALL_BEGINS.search(text)
    if mark is not None and any(name in text[0 if mark[0].endswith("[ARGS]") else mark.start() :] for name in names):
        return True
    answer = _without_end_tokens(_split_reasoning(text)[1])
    return _is_call_of_code(answer, names) or any(_names_tool(value, names) for value in _json_values(answer))


def _is_call_of_code(answer: str, names: Collection[str]) -> bool:
    """Return whether an answer is nothing but a call of a tool, as Llama and Mistral write them, or has one of ReAct's."""
    name = rf"(?:functions\.)?(?:{'|'.join(map(re.escape, sorted(names)))})"
    arguments = r"\(\s*(?:\w+\s*=.*)?\)"
    whole = rf"\[?\s*{name}{arguments}\s*\]?|{name}\s*\{{.*\}}"
    is_react = re.search(rf"^[ \t]*Action:[ \t]*{name}[ \t]*\n\s*Action Input:", answer, re.MULTILINE) is not None
    return is_react or re.fullmatch(whole, answer.strip(), re.DOTALL) is not None


def _json_values(answer: str) -> Iterator[Json]:
    """Yield the values of an answer that is JSON, or whose end is a fenced block of it."""
    body = answer.strip()
    if body.endswith("```") and (fence := list(_FENCE.finditer(body))):
        body = body[fence[-1].end() : -3].strip()
    if body[:1] not in ("{", "["):
        return
    try:
        value = json.loads(body, strict=False)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    yield from value if isinstance(value, list) else [value]


def _names_tool(value: Json, names: Collection[str]) -> bool:
    """Return whether a JSON value has the name of a tool, and arguments for it."""
    if not isinstance(value, Mapping):
        return False
    function = value.get("function")
    call = function if isinstance(function, Mapping) else value
    name = call.get("name") or call.get("tool_name")
    return isinstance(name, str) and name.removeprefix("functions.") in names and any(key in call for key in _ARGUMENTS)


def _without_end_tokens(text: str) -> str:
    end = len(text.rstrip())
    # By position: a copy for each of many tokens would take quadratic time.
    while token := next((token for token in _END_TOKENS if text.endswith(token, 0, end)), ""):
        end -= len(token)
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end]


def _split_reasoning(text: str) -> tuple[str, str]:
    """Return (reasoning, answer). The opening tag may be in the prompt. Without a closing tag all of the text is reasoning."""
    opened = text.lstrip().startswith("<think>")
    before, closing, after = text.partition("</think>")
    if not closing and not opened:
        return "", text
    return before.replace("<think>", "", 1).strip(), after.lstrip() if closing else ""


def _marked_blocks(text: str, formats: Sequence[str], schemas: Mapping[str, Mapping[str, Json]]) -> Iterator[Block]:
    marker = re.compile("|".join(re.escape(_MARKERS[name]) for name in formats) or "(?!)")
    position = count = 0
    while count < MAX_CALLS and (start := marker.search(text, position)):
        yield from as_blocks(text[position : start.start()].strip())
        if start[0] == _MARKERS["tool_call"]:
            calls, position = _tool_call(text, start.end(), schemas)
        elif start[0] == _MARKERS["function"]:
            body, closing, _ = text[start.end() :].partition("</function>")
            calls, position = [_function(body, bool(closing), schemas)], start.end() + len(body) + len(closing)
        else:
            calls, position = _json_calls(text, start.end(), in_tag=False)
        yield from calls
        count += len(calls)
    yield from as_blocks(text[position:].strip())


def _tool_call(text: str, start: int, schemas: Mapping[str, Mapping[str, Json]]) -> tuple[list[ToolCall], int]:
    """Return the calls after a <tool_call>, and the position after them."""
    if text[start : start + 200].lstrip()[:1] in ("{", "["):
        return _json_calls(text, start, in_tag=True)
    body, position = _up_to_tag(text, start)
    inside = [block for block in _marked_blocks(body, ["function"], schemas) if isinstance(block, ToolCall)]
    return inside or [_malformed(body)], position


def _up_to_tag(text: str, start: int) -> tuple[str, int]:
    """Return the text before the next tag, and the position from which to read on."""
    tag = _TOOL_CALL_TAG.search(text, start)
    return (text[start:], len(text)) if tag is None else (text[start : tag.start()], _after(tag))


def _after(tag: re.Match[str]) -> int:
    """Return the position after a closing tag; for an opening tag its own, because a call begins there."""
    return tag.end() if tag[0] == "</tool_call>" else tag.start()


def _function(body: str, closed: bool, schemas: Mapping[str, Mapping[str, Json]]) -> ToolCall:
    """Read the call of `<function=` + `body`. A call that was cut off is malformed, because its full effect is not known."""
    name, bracket, written = body.partition(">")
    name, written = name.strip().strip("\"'"), written.strip()
    if not bracket or not closed:
        return ToolCall(name, content=written or body)
    if written.startswith("{"):
        return ToolCall(name, content=written)
    text_before, *parts = written.split("<parameter=")
    if text_before:
        return ToolCall(name, content=written)
    properties = schemas.get(name, {}).get("properties", {})
    arguments: dict[str, Json] = {}
    for part in parts:
        key, bracket, value = part.partition(">")
        value, end, _ = value.rpartition("</parameter>")
        if not bracket or not end:
            return ToolCall(name, content=written)
        value = value.removeprefix("\n").removesuffix("\n")
        arguments[key.strip()] = _typed(value, properties.get(key.strip()) if isinstance(properties, Mapping) else None)
    return ToolCall(name, arguments)


def _typed(value: str, schema: Json) -> Json:
    """Return a parameter as its schema says: parsed as JSON if it cannot be a string, as text if it can or has no schema."""
    if not isinstance(schema, Mapping) or '"string"' in json.dumps(schema.get("type", schema), default=str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _json_calls(text: str, start: int, *, in_tag: bool) -> tuple[list[ToolCall], int]:
    """Return the calls written as JSON from `start` on, and the position after them.

    The calls are objects or lists, separated by blanks, commas or semicolons. They end at a tag or with the text. The end is
    determined by parsing the JSON, because a string in it may contain a tag.
    """
    calls: list[ToolCall] = []
    while True:
        start = _BETWEEN.match(text, start).end()  # type: ignore[union-attr]  # the pattern also matches the empty string
        if in_tag and (tag := _TOOL_CALL_TAG.match(text, start)):
            return calls, _after(tag)
        if start == len(text) or len(calls) >= MAX_CALLS:
            return calls, start
        if calls and not in_tag and text[start] not in "{[":
            return calls, start  # text follows the calls
        try:
            value, start = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            body, end = _up_to_tag(text, start) if in_tag else (text[start:], len(text))
            return [*calls, _malformed(body)], end
        items = value if isinstance(value, list) and value else [value]
        calls += [_call(item) or _malformed(json.dumps(item, ensure_ascii=False)) for item in items]


def _json_blocks(text: str) -> list[Block]:
    """Return text and calls if the whole text, or fenced blocks of it, are calls; else an empty list."""
    if calls := _calls_only(text):
        return [*calls]
    blocks: list[Block] = []
    position = searched = 0
    while fence := _FENCE.search(text, searched):
        end = text.find("\n```", fence.end() - 1)
        if end < 0:
            break
        searched = end + len("\n```")
        if calls := _calls_only(text[fence.end() : end]):
            blocks += [*as_blocks(text[position : fence.start()].strip()), *calls]
            position = searched
    return [*blocks, *as_blocks(text[position:].strip())] if blocks else []


def _calls_only(text: str) -> list[ToolCall]:
    """Return the calls of a text that consists of calls; else an empty list. JSON that is not a call is an answer in text."""
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
        position = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]  # the pattern also matches the empty string
    return calls


def _call(value: Json) -> ToolCall | None:
    """Read a call from a JSON value; None if the value names no tool. Arguments that are not an object make it malformed."""
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    if isinstance(inner, dict):
        return _call(inner)
    name = value.get("name", inner)
    if not isinstance(name, str) or not name:
        return None
    arguments = next((value[key] for key in _ARGUMENTS if key in value), None)
    return tool_call(name, arguments, value["id"] if isinstance(value.get("id"), str) else "")


def _malformed(text: str) -> ToolCall:
    name = _NAME.search(text)
    return ToolCall(name[1] if name else "", content=text)
