"""The history of a conversation as the servers of models can parse it.

A record keeps a model's calls as the model wrote them. A server parses the calls that it gets back, and refuses the request when
it cannot: `server_history` writes such calls in a form that it can, and puts each result right after its call.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from openreward_gym.jsonio import Json, escape_surrogates, finite, is_utf8, loads
from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolSpec,
)
from openreward_gym.types.messages import split_results

NO_RESULT = "This call has no result."
"""The text of the result that a call gets in a request when the conversation has none."""
UNKNOWN_TOOL = "unknown_tool"
"""The name that a call without a usable name has in a request."""
ID_LENGTH = 9
"""Characters of a new call id, from [a-zA-Z0-9]: all servers take such ids, and Mistral's take no others."""

M = TypeVar("M", bound=Message)

_DIGITS = string.digits + string.ascii_letters
_SURROGATE = re.compile("[\ud800-\udfff]")
_ANY_ID = re.compile("[^\ud800-\udfff]+")
_NAME_OF_SPEAKER = re.compile(r"[\s<|\\/>]+")


@dataclass(frozen=True, slots=True)
class HistoryRules:
    """The names and ids that a provider's servers take.

    Attributes:
        tool_name: The names of tools that are sent as they are.
        call_id: The ids of calls that are sent as they are, if the calls come from elsewhere.
        any_call: Whether `call_id` also holds for the ids that the server itself gave.
        call_types: The types of calls, beside those of functions, that are sent as they are.

    Example:
        >>> CHAT_RULES.tool_name.fullmatch("files.read") is None, bool(NINE_CHARACTERS.call_id.fullmatch("aB3dE5gH7"))
        (True, True)
    """

    tool_name: re.Pattern[str] = re.compile(r"[a-zA-Z0-9_-]{1,64}")
    call_id: re.Pattern[str] = re.compile(r"[!-~]{1,40}")
    any_call: bool = False
    call_types: tuple[str, ...] = ()


# Names: platform.openai.com/docs/api-reference/chat/create, docs.claude.com (define tools), ai.google.dev/api/caching
# (FunctionDeclaration). Ids: OpenAI's error "string too long. Expected a string with maximum length 40", 64 for the `call_id` of
# responses. Anthropic: "tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"; Bedrock takes 64 characters.
CHAT_RULES = HistoryRules(call_types=("custom",))
RESPONSES_RULES = HistoryRules(
    call_id=re.compile(r"[!-~]{1,64}"),
    call_types=(
        "custom_tool_call",
        "mcp_approval_request",
        "computer_call",
        "shell_call",
        "local_shell_call",
        "apply_patch_call",
        "tool_search_call",
    ),
)
ANTHROPIC_RULES = HistoryRules(call_id=re.compile(r"[a-zA-Z0-9_-]{1,64}"), any_call=True)
GEMINI_RULES = HistoryRules(re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}"), re.compile(r"[!-~]{1,128}"))
# Templates of models on this machine take any name.
TEMPLATE_RULES = HistoryRules(re.compile(r".+", re.DOTALL), re.compile(r".+", re.DOTALL))
# Mistral: "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9."
NINE_CHARACTERS = HistoryRules(call_id=re.compile(rf"[a-zA-Z0-9]{{{ID_LENGTH}}}"), any_call=True, call_types=("custom",))

ID_REFUSED = re.compile(
    # mistral-common (Mistral's API, vLLM with --tokenizer-mode mistral) and the chat templates of Mistral's models.
    r"tool.?call.?ids?\b.{0,200}?\blength\s+(?:of\s+)?9\b"
    # OpenAI: Invalid 'messages[2].tool_calls[0].id': string too long. Responses: Invalid 'input[3].call_id': string too long.
    r"|\b(?:tool_calls\[\d+\]\.id|tool_call_id|call_id)\b.{0,20}string too long"
    # Anthropic: messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'
    r"|tool_use(?:\.id|_id)\b.{0,40}match pattern",
    re.IGNORECASE | re.DOTALL,
)
"""The refusal of a request for the ids of its calls."""


class ToolNames:
    """The names under which a provider's servers get the tools of an environment. No two tools share one.

    Args:
        tools: The environment's tools.
        rules: The names that the servers take.

    Example:
        >>> names = ToolNames([ToolSpec("files.read"), ToolSpec("files_read"), ToolSpec("ls")], CHAT_RULES)
        >>> [names.sent(name) for name in ("files.read", "files_read", "ls", "")]
        ['files_read_2', 'files_read', 'ls', 'unknown_tool']
        >>> names.own("files_read_2")
        'files.read'
    """

    def __init__(self, tools: Iterable[ToolSpec], rules: HistoryRules) -> None:
        self._allowed = rules.tool_name
        tool_names = list(dict.fromkeys(tool.name for tool in tools))
        self._sent = {name: name for name in tool_names if self._is_allowed(name)}
        for name in tool_names:
            if name not in self._sent:
                self._sent[name] = self._free(self._usable(name), self._sent.values())
        self._own = {sent: name for name, sent in self._sent.items()}

    def sent(self, name: str) -> str:
        """Return the name that a request has for the environment's name of a tool, or for a name that a model made up."""
        return self._sent.get(name) or (name if self._is_allowed(name) else self._usable(name))

    def own(self, name: str) -> str:
        """Return the environment's name of a tool that a model called; a name that belongs to no tool is returned unchanged."""
        return name if name in self._sent else self._own.get(name, name)

    def _is_allowed(self, name: str) -> bool:
        return self._allowed.fullmatch(name) is not None and _SURROGATE.search(name) is None

    def _usable(self, name: str) -> str:
        usable = re.sub(r"[^a-zA-Z0-9_-]+", "_", name)
        if not re.search("[a-zA-Z0-9]", usable):
            return UNKNOWN_TOOL
        if usable[0] not in string.ascii_letters + "_" and not self._is_allowed(usable[:64]):
            usable = f"_{usable}"
        return usable if len(usable) <= 64 else f"{usable[:54]}_{_digest(name, ID_LENGTH)}"

    def _free(self, name: str, taken: Collection[str]) -> str:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name[:60]}_{number}"
        return candidate


@dataclass(slots=True)
class _PlacedCall:
    """A call of the conversation: the message that has it, and its result once that is known."""

    call: ToolCall
    message: int
    result: int | None = None


@dataclass(slots=True)
class _Ids:
    """The ids of a conversation's calls, unique from first to last."""

    reserved: frozenset[str]
    used: set[str] = field(default_factory=set)
    number: int = 0

    def unique(self, call_id: str, usable: re.Pattern[str]) -> str:
        """Return the id unchanged if no earlier call has it and it is usable, else a new one."""
        self.number += 1
        if call_id in self.used or usable.fullmatch(call_id) is None:
            call_id = new_id(f"{call_id}/{self.number}", self.used | self.reserved)
        self.used.add(call_id)
        return call_id


def new_id(seed: str, taken: Collection[str]) -> str:
    """Return a call id that is not in `taken`, the same for the same seed.

    Example:
        >>> new_id("call_0/2", ()) == new_id("call_0/2", ()), len(new_id("", ()))
        (True, 9)
    """
    call_id, attempt = _digest(seed, ID_LENGTH), 0
    while call_id in taken:
        attempt += 1
        call_id = _digest(f"{seed}/{attempt}", ID_LENGTH)
    return call_id


def receive_calls(
    message: AssistantMessage, transcript: Sequence[Message], rules: HistoryRules, names: ToolNames | None = None
) -> AssistantMessage:
    """Return a model's message as it is recorded: its calls have unique ids and the environment's names of the tools.

    The `extra` of a call keeps what the record changes or the history will not repeat: `provider_call_id` is the id that the
    server gave, `history` has the `name` and the `arguments` (as JSON text) that later requests have in place of the call's own.

    Args:
        message: The message as it was read.
        transcript: The conversation before it.
        rules: The names and ids that the server takes.
        names: The names under which the server got the tools. None: the environment's own.

    Example:
        >>> message = AssistantMessage(tool_calls=[ToolCall("ls", content='{"path": "/', call_id="call_0")])
        >>> receive_calls(message, [message], CHAT_RULES).tool_calls[0].extra
        {'provider_call_id': 'call_0', 'history': {'arguments': '{}'}}
    """
    if not message.tool_calls:
        return message
    names = ToolNames((), rules) if names is None else names
    earlier = [call.call_id for turn in transcript for call in turn.tool_calls]
    known = frozenset([*earlier, *(turn.call_id for turn in transcript if turn.call_id)])
    ids = _Ids(known, set(known), len(earlier))
    blocks: list[Block] = []
    for block in message.blocks:
        if isinstance(block, ToolCall):
            call_id = ids.unique(block.call_id, _ANY_ID)
            recorded = replace(block, name=names.own(block.name), call_id=call_id)
            extra = dict(block.extra)
            if block.call_id and call_id != block.call_id:
                extra["provider_call_id"] = block.call_id
            if note := _difference(recorded, names, rules):
                extra["history"] = note
            block = recorded if extra == block.extra else replace(recorded, extra=extra)
        blocks.append(block)
    return message.replace(blocks=tuple(blocks))


def server_history(
    messages: Iterable[Message], rules: HistoryRules = CHAT_RULES, names: ToolNames | None = None
) -> list[Message]:
    """Return a conversation in the form that a server of models can parse. What was said stays as it is.

    - The arguments of each call are a JSON object: those of a malformed call are `{}`, and its error message has the text.
    - Each call has an id of its own and a name that the server takes, and its result has both.
    - Each call has one result, right after the message that has the call. A call without a result gets `NO_RESULT`. A result
      without a call, or a second one, is a turn of the user.
    - Lone surrogates are written as the text of their escapes, because UTF-8 cannot encode them.

    Args:
        messages: The conversation.
        rules: The names and ids that the server takes.
        names: The names under which the server gets the tools. None: names are only changed to be usable.

    Example:
        >>> from openreward_gym.types import UserMessage
        >>> call = ToolCall("ls", content="[1, 2]")
        >>> history = server_history([AssistantMessage(tool_calls=[call]), UserMessage("Go on.")])
        >>> history[0].tool_calls[0].arguments, [message.role for message in history]
        ({}, ['assistant', 'tool', 'user'])
    """
    names = ToolNames((), rules) if names is None else names
    turns = [part for message in messages for part in split_results(message)]
    calls, results = _matched(turns)
    ids = _Ids(frozenset(placed.call.call_id for placed in calls))
    by_message: dict[int, list[_PlacedCall]] = {}
    for placed in calls:
        by_message.setdefault(placed.message, []).append(placed)
    history: list[Message] = []
    for place, turn in enumerate(turns):
        if turn.role == "tool":
            if place not in results:
                history.append(_clean(Message("user", turn.blocks, turn.origin)))
            continue
        if place not in by_message:
            history.append(_clean(turn))
            continue
        is_own = turn.origin == "policy" or (turn.origin is None and turn.sampled is not None)
        usable = _ANY_ID if is_own and not rules.any_call else rules.call_id
        sent: list[ToolCall] = []
        for placed in by_message[place]:
            call_id = ids.unique(escape_surrogates(placed.call.call_id), usable)
            sent.append(replace(_sent(placed.call, names, rules), call_id=call_id))
        waiting = iter(sent)
        history.append(_clean(turn.replace(blocks=tuple(next(waiting) if isinstance(b, ToolCall) else b for b in turn.blocks))))
        for placed, call in zip(by_message[place], sent, strict=True):
            history.append(_clean(_result_of(placed, call, turns)))
    return history


def _matched(turns: Sequence[Message]) -> tuple[list[_PlacedCall], set[int]]:
    """Return the calls of a conversation with the places of their results, and the places of all results that have a call."""
    calls: list[_PlacedCall] = []
    results: set[int] = set()
    waiting: dict[str, list[_PlacedCall]] = {}
    latest: list[_PlacedCall] = []
    for place, turn in enumerate(turns):
        if turn.role == "assistant":
            # After a turn without calls, an answer without an id answers that turn.
            latest = [_PlacedCall(call, place) for call in turn.tool_calls]
            calls += latest
            for placed in latest:
                waiting.setdefault(placed.call.call_id, []).append(placed)
        elif turn.role == "tool":
            fitting = waiting.get(turn.call_id, []) if turn.call_id else latest
            fitting = [one for one in fitting if one.result is None]
            fitting = [one for one in fitting if one.message == fitting[-1].message]
            named = [one for one in fitting if one.call.name == turn.name]
            if fitting:
                placed = (named or fitting)[0]
                placed.result = place
                waiting[placed.call.call_id].remove(placed)
                results.add(place)
    return calls, results


def _sent(call: ToolCall, names: ToolNames, rules: HistoryRules) -> ToolCall:
    """Return a call with a name and arguments that a server can parse, and without fields of another API."""
    extra = {provider: _fields_of_call(fields, rules) for provider, fields in call.extra.items() if isinstance(fields, Mapping)}
    name = names.sent(call.name)
    if any(_type_of(fields) in rules.call_types for fields in extra.values()):
        content = None if call.content is None else escape_surrogates(call.content)
        return replace(call, name=name, arguments=escape_surrogates(call.arguments), content=content, extra=extra)
    if call.arguments is None or finite(call.arguments) is not call.arguments:
        return ToolCall(name, {}, call.call_id, extra=extra)
    written = None if call.content is None else _object_of(call.content)
    arguments = call.arguments if written is None else written
    if not is_utf8(arguments):
        return ToolCall(name, escape_surrogates(dict(arguments)), call.call_id, extra=extra)
    return ToolCall(name, arguments, call.call_id, None if written is None else call.content, extra=extra)


def _object_of(text: str) -> dict[str, Json] | None:
    """Return the object that a text is by strict JSON; None for any other text."""
    try:
        value = loads(text, allow_nan=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _fields_of_call(fields: Mapping[str, Json], rules: HistoryRules) -> dict[str, Json]:
    """Return a provider's further fields of a call without those that a request does not have."""
    # The number of a call is a field of answers alone, and a name among the further fields is no text.
    kept = {name: value for name, value in fields.items() if name not in ("index", "name")}
    if kept.get("type") not in (None, *rules.call_types):
        kept = {name: value for name, value in kept.items() if name not in ("type", "fields")}
    return escape_surrogates(kept) if kept else kept


def _result_of(placed: _PlacedCall, call: ToolCall, turns: Sequence[Message]) -> Message:
    """Return the message that answers a call, without the fields of a result of another kind than the call."""
    result: Message = ToolMessage(NO_RESULT) if placed.result is None else turns[placed.result]
    if isinstance(result.metadata, Mapping):
        for provider, fields in result.metadata.items():
            kind = _type_of(fields) if isinstance(fields, Mapping) else ""
            kind_of_call = _type_of(call.extra.get(provider) or {})
            if kind and kind_of_call != "mcp_approval_request" and f"{kind_of_call}_output" != kind:
                result = result.replace(metadata=None)
    return result.replace(call_id=call.call_id, name=call.name)


def _type_of(fields: Mapping[str, Json]) -> Json:
    kind = fields.get("type")
    return kind if isinstance(kind, str) else ""


def _difference(call: ToolCall, names: ToolNames, rules: HistoryRules) -> dict[str, Json]:
    """Return the name and the arguments that later requests have in place of the call's own, where they differ."""
    sent = _sent(call, names, rules)
    note: dict[str, Json] = {}
    if sent.name != call.name:
        note["name"] = sent.name
    if sent.arguments is not None and sent.arguments != call.arguments:
        note["arguments"] = sent.arguments_json
    return note


def _clean(message: M) -> M:
    """Return a message without what is not sent: lone surrogates, and data of the environment in a result or as a role."""
    changes: dict[str, object] = {}
    blocks = tuple(map(_clean_block, message.blocks))
    if any(new is not old for new, old in zip(blocks, message.blocks, strict=True)):
        changes["blocks"] = blocks
    metadata = message.metadata
    if isinstance(metadata, Mapping):
        if message.role == "tool" and message.origin in ("environment", "client"):
            changes["metadata"] = None
        elif message.role != "tool" and (message.role, metadata.get("role")) != ("system", "developer") and "role" in metadata:
            changes["metadata"] = {name: value for name, value in metadata.items() if name != "role"}
    if message.name and message.role != "tool":
        name = _NAME_OF_SPEAKER.sub("_", escape_surrogates(message.name))[:64]
        if name != message.name:
            changes["name"] = name
    return message.replace(**changes) if changes else message


def _clean_block(block: Block) -> Block:
    if isinstance(block, TextBlock):
        if not block.extra and _SURROGATE.search(block.text) is None:
            return block
        return replace(block, text=escape_surrogates(block.text), extra=escape_surrogates(dict(block.extra)))
    if isinstance(block, ReasoningItem):
        texts = {
            name: escape_surrogates(getattr(block, name)) for name in ("content", "summary", "content_reference", "signature")
        }
        return replace(block, **texts, extra=escape_surrogates(dict(block.extra)))
    if isinstance(block, OpaqueBlock):
        return OpaqueBlock(escape_surrogates(dict(block.raw)))
    if isinstance(block, ImageBlock) and block.extra:
        return replace(block, extra=escape_surrogates(dict(block.extra)))
    return block


def _digest(text: str, length: int) -> str:
    """Return characters of [0-9a-zA-Z] that depend on the text alone."""
    number = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    characters = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        characters.append(_DIGITS[digit])
    return "".join(characters)
