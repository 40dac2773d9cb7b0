"""Decoded completions: the text of several turns, split by the marks that a chat template puts between them.

A trainer that decodes a whole completion logs the words of the model and of its tools as one text. It is split where the
marks leave no doubt: each turn of the model that is followed by results has as many calls as there are results, and no part
has a mark that is left over. A text that was decoded without its special tokens is split if its results still have tags.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from openreward_gym.chat import from_raw_text
from openreward_gym.chat.dialect import ended_of, tool_call
from openreward_gym.jsonio import Json
from openreward_gym.types import (
    AssistantMessage,
    Block,
    Ended,
    Message,
    ReasoningItem,
    ToolCall,
    ToolMessage,
    UserMessage,
    as_blocks,
)


@dataclass(frozen=True)
class _Headers:
    """A family of templates whose turns begin with a header, which names the role, and end with a token, if there is one."""

    header: re.Pattern[str]
    end: re.Pattern[str] | None


def _headers(header: str, end: str = "") -> _Headers:
    return _Headers(re.compile(header), re.compile(rf"(?:{end})\s*\Z") if end else None)


_FAMILIES = (
    _headers(r"<\|im_start\|>(?P<role>\w+)\n", r"<\|im_end\|>"),  # ChatML: Qwen, Hermes, Nemotron, SmolLM
    _headers(r"<\|start_header_id\|>(?P<role>\w+)<\|end_header_id\|>\n\n", r"<\|eot_id\|>|<\|eom_id\|>"),  # Llama 3
    _headers(r"<\|header_start\|>(?P<role>\w+)<\|header_end\|>\n\n", r"<\|eot\|>|<\|eom\|>"),  # Llama 4
    _headers(r"<start_of_turn>(?P<role>\w+)\n", r"<end_of_turn>"),  # Gemma 2 and 3
    _headers(r"<\|start_of_role\|>(?P<role>\w+)<\|end_of_role\|>", r"<\|end_of_text\|>"),  # Granite
    _headers(r"<\|im_(?:user|assistant|system)\|>(?P<role>\w+)<\|im_middle\|>", r"<\|im_end\|>"),  # Kimi
    _headers(r"<\|(?P<role>user|assistant|system|observation)\|>\n?"),  # GLM, Phi, Zephyr
)
# The tags around one result, which are no special tokens in most tokenizers.
_RESULT_TAGS = (
    (r"<tool_response>\n?", r"\n?</tool_response>"),  # Qwen, Hermes, GLM
    (r"<TOOL_RESPONSE>\n?", r"\n?</TOOL_RESPONSE>"),  # Nemotron
    (r"(?:<｜tool▁outputs▁begin｜>)?<｜tool▁output▁begin｜>", r"<｜tool▁output▁end｜>(?:<｜tool▁outputs▁end｜>)?"),  # DeepSeek
    (r"\[TOOL_RESULTS\] ?", r"\[/TOOL_RESULTS\]"),  # Mistral
)
_RESULTS = tuple(
    (
        re.compile(rf"{opened}(?P<content>(?:(?!{opened}).)*?){closed}\s*", re.DOTALL),
        re.compile(
            r"(?:<｜end▁of▁sentence｜>|</s>)?"
            r"(?:\n?(?P<before>user|tool|observation)\n|\s{0,4})"
            rf"(?P<results>(?:{opened}(?:(?!{opened}).)*?{closed}\s*)+)"
            r"(?P<after>(?:assistant|model)\n)?",
            re.DOTALL,
        ),
    )
    for opened, closed in _RESULT_TAGS
)
_ANY_END = re.compile(r"(?:<\|end\|>|</s>|<\|endoftext\|>)\s*\Z")  # of the families that have no token of their own
_FINAL_END = re.compile(
    r"(?:<\|im_end\|>|<\|eot_id\|>|<\|eom_id\|>|<\|eot\|>|<end_of_turn>|<\|endoftext\|>|<\|end_of_text\|>|</s>|<｜end▁of▁sentence｜>"
    r"|<\|return\|>)\s*\Z"
)
_POLICY_ROLES = ("assistant", "model")
# A text with one of these has words that are not the model's, or that its template took from special tokens.
_MARKS = re.compile(
    r"<\|[a-z_]*(?:start|header|turn|role|middle|user|system|tool|observation|channel|message|assistant)[a-z_]*\|?>"
    r"|<start_of_turn>|<turn\|>|<tool_response\|>|</?tool_response>|</?TOOL_RESPONSE>|</?tool_(?:results?|output)\b|</?function_results?>"
    r"|<｜(?:User|Assistant|tool▁output)|\[/?TOOL_RESULTS\]|\[/?INST\]|<\|START_TOOL_RESULT\|>|<\|END_OF_TURN_TOKEN\|>"
    # Decoded without special tokens, harmony leaves the names of its channels, and Gemma 4 a call before its result.
    r"|functions\.[\w.-]+ to=assistant|assistantcommentary to=|assistant to=|\}\s?response:[\w.-]+\{"
)
# Marks that are ordinary words: both have to be there, in this order. Decoded without special tokens, a template leaves the
# role's name alone on a line (ChatML, Gemma), or after a text without a break (Llama), and Mistral only the result's JSON.
_PAIRS = (
    (re.compile(r"^(?:user|tool|ipython|observation)\n", re.MULTILINE), re.compile(r"^(?:assistant|model)\n", re.MULTILINE)),
    (re.compile(r"(?:ipython|tool)\n\n"), re.compile(r"assistant\n\n")),
    (re.compile(r"\Aanalysis"), re.compile(r"assistantfinal")),
    (re.compile(r'\]\s?\{"content": '), re.compile(r'"call_id": "\w+"\}')),
)
_HARMONY = re.compile(
    r"(?:(?:<\|start\|>|\A)(?P<author>[^<]*))?(?:<\|channel\|>(?P<channel>[^<]*))?(?:<\|constrain\|>[^<]*)?"
    r"<\|message\|>(?P<content>.*?)(?:<\|(?:end|call|return)\|>|\Z)",
    re.DOTALL,
)
_RECIPIENT = re.compile(r"to=(?:functions\.)?([\w.-]+)")
_DEEPSEEK_CALLS = re.compile(r"<｜tool▁calls▁begin｜>(?P<calls>.*?)<｜tool▁calls▁end｜>", re.DOTALL)
_DEEPSEEK_CALL = re.compile(
    r"\s*<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>(?P<name>[^\n]+)\n```json\n(?P<fenced>.*?)\n```"
    r"|(?P<short>[^\n<]+)<｜tool▁sep｜>(?P<bare>.*?))<｜tool▁call▁end｜>\s*",
    re.DOTALL,
)
_MISTRAL_CALLS = re.compile(r"\[TOOL_CALLS\]\s*(?P<calls>\[.*\])\s*\Z", re.DOTALL)
_MISTRAL_CALL = re.compile(
    r"\[TOOL_CALLS\](?P<name>[\w.-]+)(?:\[CALL_ID\](?P<id>\w+))?\[ARGS\](?P<arguments>\{.*?\})(?=\[TOOL_CALLS\]|\s*\Z)", re.DOTALL
)
_GLM_CALL = re.compile(
    r"<tool_call>(?P<name>[\w.-]+)\s*(?P<arguments>(?:<arg_key>(?:(?!<tool_call>).)*?</arg_value>\s*)*)</tool_call>", re.DOTALL
)
_GLM_ARGUMENT = re.compile(r"<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>\s*", re.DOTALL)


def split_completion(text: str) -> list[Message]:
    """Return the turns of a decoded completion with their origins.

    A completion of one turn is one message of the policy, with the text as it is. A completion of several turns that cannot
    be split without doubt is one message whose origin is None.

    Example:
        >>> [(turn.role, turn.origin) for turn in split_completion("4<|im_end|>\\n<|im_start|>user\\nSure?<|im_end|>\\n")]
        [('assistant', 'policy'), ('user', 'environment')]
    """
    content = _FINAL_END.sub("", text)
    is_ended = content != text
    if not _has_marks(content):
        return [AssistantMessage(content, origin="policy", ended="stop" if is_ended else None)]
    parts = _parts(content)
    turns = _turns(parts) if parts else None
    if turns and is_ended and turns[-1].role == "assistant":
        turns[-1] = turns[-1].replace(ended=turns[-1].ended or ended_of("stop", turns[-1].blocks))
    return turns or [AssistantMessage(text)]


def _has_marks(text: str) -> bool:
    """Return whether a text has marks of several turns."""
    if _MARKS.search(text):
        return True
    firsts = ((opened.search(text), closed) for opened, closed in _PAIRS)
    return any(first and closed.search(text, first.end()) for first, closed in firsts)


def _parts(text: str) -> list[tuple[str, str | list[str]]] | None:
    """Return (role, text) of each part, with a list of results for the role "tool"; None if the text cannot be split."""
    for family in _FAMILIES:
        if family.header.search(text):
            return _by_headers(text, family)
    for result, block in _RESULTS:
        if result.search(text):
            return _by_tags(text, result, block)
    return _by_harmony(text) if "<|message|>" in text else None


def _by_headers(text: str, family: _Headers) -> list[tuple[str, str | list[str]]] | None:
    headers = list(family.header.finditer(text))
    bounds = [0, *(header.start() for header in headers), len(text)]
    starts = [0, *(header.end() for header in headers)]
    parts: list[tuple[str, str | list[str]]] = []
    for number, role in enumerate(["assistant", *(header["role"] for header in headers)]):
        content = text[starts[number] : bounds[number + 1]]
        if family.end is not None:
            end = family.end.search(content)
            if end is None and number < len(headers):
                return None  # a header that does not follow the end of a turn is a word of somebody
            content = content[: end.start()] if end else content
        else:
            content = _ANY_END.sub("", content)
        if role in _POLICY_ROLES:
            parts.append(("assistant", content))
        else:
            results = _results_only(content)
            is_tool = role in ("tool", "ipython", "observation")
            parts.append(("tool", results or [content]) if results or is_tool else (role, content))
    return parts if parts[-1] != ("assistant", "") else parts[:-1]


def _results_only(text: str) -> list[str]:
    """Return the contents of a text that consists of results in tags; else an empty list."""
    for result, _ in _RESULTS:
        contents, position = [], 0
        text = text.strip()
        while match := result.match(text, position):
            contents.append(match["content"])
            position = match.end()
        if contents and position == len(text):
            return contents
    return []


def _by_tags(text: str, result: re.Pattern[str], block: re.Pattern[str]) -> list[tuple[str, str | list[str]]] | None:
    parts: list[tuple[str, str | list[str]]] = []
    position = 0
    for match in block.finditer(text):
        parts.append(("assistant", text[position : match.start()]))
        parts.append(("tool", [content["content"] for content in result.finditer(match["results"])]))
        position = match.end()
        if bool(match["before"]) != bool(match["after"]) and position < len(text):
            return None
    return [*parts, ("assistant", text[position:])] if position < len(text) else parts


def _by_harmony(text: str) -> list[tuple[str, str | list[str]]] | None:
    """Return the parts of a text in the format of gpt-oss; the text of a part of the assistant is its whole message."""
    parts: list[tuple[str, str | list[str]]] = []
    position = 0
    while position < len(text) and (match := _HARMONY.match(text, position)):
        if _has_marks(match["content"]):
            return None
        author = (match["author"] or "assistant").split(" ")[0]
        if author in ("assistant", ""):
            whole = text[position : match.end()]
            if parts and parts[-1][0] == "assistant":
                whole = f"{parts.pop()[1]}{whole}"
            parts.append(("assistant", whole))
        elif author.startswith("functions."):
            results = [match["content"]]
            if parts and isinstance(parts[-1][1], list):
                results = [*parts.pop()[1], *results]
            parts.append(("tool", results))
        else:
            parts.append((author, match["content"]))
        position = match.end()
    return parts if parts and not text[position:].strip() else None


def _turns(parts: Sequence[tuple[str, str | list[str]]]) -> list[Message] | None:
    """Return the parts as messages; None if there is a doubt."""
    turns: list[Message] = []
    count = 0
    for number, (role, content) in enumerate(parts):
        follower = parts[number + 1][0] if number + 1 < len(parts) else ""
        if isinstance(content, list):
            calls = turns[-1].tool_calls if turns else ()
            if len(calls) != len(content):
                return None
            turns += [
                ToolMessage(result, call.call_id, call.name, origin="environment")
                for call, result in zip(calls, content, strict=True)
            ]
        elif role == "assistant":
            blocks = _blocks(content, has_results=follower == "tool")
            if blocks is None or follower == "assistant":
                return None
            named = []
            for block in blocks:
                if isinstance(block, ToolCall) and not block.call_id:
                    count += 1
                    block = ToolCall(block.name, block.arguments, f"call_{count}", block.content)
                named.append(block)
            turns.append(AssistantMessage(named, origin="policy", ended=_ended(named, follower)))
        elif role in ("user", "system", "developer"):
            message = UserMessage(content) if role == "user" else Message("system", as_blocks(content))
            turns.append(message.replace(origin="environment"))
        else:
            return None
    return turns


def _ended(blocks: Sequence[Block], follower: str) -> Ended | None:
    if any(isinstance(block, ToolCall) and block.arguments is None for block in blocks):
        return "malformed"
    return "tool_calls" if follower == "tool" else "stop" if follower else None


def _blocks(text: str, *, has_results: bool) -> list[Block] | None:
    """Return the blocks of a turn of the model; None if it has marks of other turns, or calls that cannot be read."""
    if "<|message|>" in text:
        return list(_harmony_blocks(text))
    if _has_marks(text):
        return None
    if not has_results and not any(
        mark in text for mark in ("<tool_call>", "tool▁calls▁begin", "[TOOL_CALLS]", "<|python_tag|>")
    ):
        return list(as_blocks(text))
    for read in (_deepseek, _mistral, _glm, _tagged):
        blocks = read(text)
        calls = [block for block in blocks if isinstance(block, ToolCall)]
        if calls and all(call.name for call in calls):
            return blocks
    return None if has_results else list(as_blocks(text))


def _tagged(text: str) -> list[Block]:
    return list(from_raw_text(text).blocks)


def _with_reasoning(text: str, calls: Sequence[ToolCall]) -> list[Block]:
    """Return the reasoning and the text of `text`, and the calls."""
    return [*from_raw_text(text, formats=()).blocks, *calls]


def _deepseek(text: str) -> list[Block]:
    section = _DEEPSEEK_CALLS.search(text)
    if section is None or text[section.end() :].replace("<｜end▁of▁sentence｜>", "").strip():
        return []
    calls, position = [], 0
    while match := _DEEPSEEK_CALL.match(section["calls"], position):
        calls.append(ToolCall((match["name"] or match["short"]).strip(), content=match["fenced"] or match["bare"] or ""))
        position = match.end()
    return _with_reasoning(text[: section.start()], calls) if position == len(section["calls"]) else []


def _mistral(text: str) -> list[Block]:
    text = text.rstrip().removesuffix("</s>")
    if section := _MISTRAL_CALLS.match(text, max(text.find("[TOOL_CALLS]"), 0)):
        try:
            items = json.loads(section["calls"])
        except (ValueError, RecursionError):
            return []
        if not all(isinstance(item, Mapping) and isinstance(item.get("name"), str) for item in items):
            return []
        calls = [tool_call(item["name"], item.get("arguments"), item.get("id")) for item in items]
        return _with_reasoning(text[: section.start()], calls)
    matches = list(_MISTRAL_CALL.finditer(text))
    calls = [tool_call(match["name"], match["arguments"], match["id"]) for match in matches]
    return _with_reasoning(text[: matches[0].start()], calls) if matches else []


def _glm(text: str) -> list[Block]:
    matches = list(_GLM_CALL.finditer(text))
    if not matches or text[matches[-1].end() :].strip():
        return []
    calls = [
        ToolCall(match["name"], {a["key"]: _value(a["value"]) for a in _GLM_ARGUMENT.finditer(match["arguments"])})
        for match in matches
    ]
    return _with_reasoning(text[: matches[0].start()], calls)


def _value(text: str) -> Json:
    """Return an argument, which GLM's template writes as text or as JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _harmony_blocks(text: str) -> Iterator[Block]:
    for match in _HARMONY.finditer(text):
        header = f"{match['author'] or ''} {match['channel'] or ''}"
        recipient = _RECIPIENT.search(header)
        if recipient:
            yield ToolCall(recipient[1], content=match["content"])
        elif (match["channel"] or "").startswith("analysis"):
            yield ReasoningItem(match["content"])
        else:
            yield from as_blocks(match["content"])
