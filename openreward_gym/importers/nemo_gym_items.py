"""The items of NeMo Gym's rows (those of OpenAI's Responses API, with token ids), read as messages and written."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise, takewhile
from typing import Any

from openreward_gym.chat import from_openai_responses, to_openai_responses
from openreward_gym.chat.dialect import ended_of
from openreward_gym.importers.shapes import are_numbers
from openreward_gym.jsonio import Json
from openreward_gym.types import Block, ImageBlock, Message, ReasoningItem, Sampled, SystemMessage, TextBlock, ToolCall, codec

TOKEN_FIELDS = ("prompt_token_ids", "generation_token_ids", "generation_log_probs")
"""The fields of an item for training: ids of the tokens of its turn's context and of the turn, and their log-probabilities."""

_Item = Mapping[str, Json]
_SAMPLED_TOKENS = ("prompt_token_ids", "token_ids", "logprobs")
# The fields of blocks that items have.
_SAID: Mapping[type, tuple[str, ...]] = {
    TextBlock: ("text",),
    ReasoningItem: ("content",),
    ImageBlock: ("data",),
    ToolCall: ("content", "arguments"),
}
_PLAIN_BLOCKS: Mapping[str, tuple[type, ...]] = {"assistant": (TextBlock, ReasoningItem, ToolCall)}


def read_input(request: Mapping[str, Json]) -> list[Message]:
    """Return the messages of a request. They are given, whatever their roles."""
    messages = from_openai_responses(request.get("input") or [], model=_model_of(request))
    if isinstance(request.get("instructions"), str) and request["instructions"]:
        messages.insert(0, SystemMessage(request["instructions"]))
    return [message.replace(origin="given") for message in messages]


def read_output(response: Mapping[str, Json], prompt: Sequence[Message] = ()) -> list[Message]:
    """Return the messages of a response: turns of the policy, and what the environment said between them.

    Args:
        response: The response.
        prompt: The messages of the request. A response that begins with them again (an agent gives the whole conversation,
            with or without the system messages) is read without them. If there are none, the messages before the policy's
            first turn are given.
    """
    items, model = output_items(response), _model_of(response)
    messages = [
        message.replace(origin="policy" if message.role == "assistant" else "environment")
        for turn in _turns(items)
        for message in _with_tokens(from_openai_responses(turn, model=model), turn)
    ]
    if prompt:
        del messages[: _repeated(messages, prompt)]
    else:
        first = next((n for n, message in enumerate(messages) if message.origin == "policy"), len(messages))
        messages[:first] = [message.replace(origin="given") for message in messages[:first]]
    turns = [number for number, message in enumerate(messages) if message.origin == "policy"]
    for number, following in pairwise([*turns, len(messages)]):
        results = {message.call_id for message in messages[number + 1 : following] if message.role == "tool"}
        turn = messages[number]
        if turn.ended is None and any(call.call_id in results for call in turn.tool_calls):
            messages[number] = turn.replace(ended="tool_calls")
    reason = end_reason(response)
    if turns and (word := reason or response.get("status")):
        last = messages[turns[-1]]
        sampled = replace(last.sampled or Sampled(), stop_reason=str(reason)) if reason else last.sampled
        messages[turns[-1]] = last.replace(ended=ended_of(word, last.blocks), sampled=sampled)
    return messages


def _repeated(messages: Sequence[Message], prompt: Sequence[Message]) -> int:
    """Return the number of messages with which a conversation repeats its prompt."""
    said = [(message.role, message.text, tuple((c.name, c.arguments_json) for c in message.tool_calls)) for message in prompt]
    begin = [(m.role, m.text, tuple((c.name, c.arguments_json) for c in m.tool_calls)) for m in messages[: len(prompt)]]
    systems = sum(1 for _ in takewhile(lambda message: message.role == "system", prompt))
    return next((len(said) - n for n in range(systems + 1) if begin[: len(said) - n] == said[n:]), 0)


def end_reason(response: Mapping[str, Json]) -> str | None:
    """Return why a response is incomplete; None if it is complete, or does not say."""
    incomplete = response.get("incomplete_details")
    return incomplete.get("reason") if isinstance(incomplete, Mapping) else None


def output_items(response: Mapping[str, Json]) -> list[Json]:
    """Return the items of a response. Some agents give a list per step, mostly each with all items of the steps before."""
    output = list(response.get("output") or [])
    if not output or not all(isinstance(item, list) for item in output):
        return output
    grows = all(output[n] == output[n + 1][: len(output[n])] for n in range(len(output) - 1))
    return output[-1] if grows else [item for step in output for item in step]


def prompt_and_output(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Split messages before the first of the policy or the environment; without origins, before the assistant's first."""
    if any(message.origin is not None for message in messages):
        prompt = list(takewhile(lambda message: message.origin not in ("policy", "environment"), messages))
    else:
        prompt = list(takewhile(lambda message: message.role != "assistant", messages))
    return prompt, messages[len(prompt) :]


def same(first: list[Message], second: list[Message]) -> bool:
    """Return whether two lists of messages have the same items, whatever their rewards and weights."""
    items = [[(*_content(m), m.metadata) for m in messages] for messages in (first, second)]
    return items[0] == items[1]


def write_items(messages: Sequence[Message]) -> list[dict[str, Json]]:
    """Return messages as items, as they were read: with token ids, and without fields that they do not have."""
    return [item for message in messages for item in _with_token_fields(to_openai_responses([message]), message)]


def write_valid_items(messages: Sequence[Message]) -> list[list[dict[str, Json]]]:
    """Return the items of each message with all fields that the types of OpenAI and NeMo Gym require.

    A result that answers no call, such as the verdict on a plain message, becomes a message of the user.
    """
    open_calls: deque[str] = deque()
    written = []
    for number, message in enumerate(messages):
        if message.role == "tool":
            message = _as_answer(message, open_calls)
        elif message.role == "assistant":
            message = _with_call_ids(message, number)
        items = _with_token_fields(to_openai_responses([message]), message)
        open_calls.extend(item["call_id"] for item in items if item.get("type") in ("function_call", "custom_tool_call"))
        complete = message.ended in (None, "stop", "tool_calls")
        written.append([_complete(item, f"{number}_{index}", complete) for index, item in enumerate(items)])
    return written


def marks_of(messages: Sequence[Message], items: Sequence[Sequence[Json]]) -> list[dict[str, Json]]:
    """Return each message without what its items say: its origin, weight, end, reward and so on, and the number of its items.

    A message that cannot be made again from its items is there with its blocks.
    """
    marks = []
    for message, own in zip(messages, items, strict=True):
        if not _is_plain(message):
            marks.append({"items": len(own), **codec.write(message)})
            continue
        sampled = message.sampled
        if sampled is not None and any(TOKEN_FIELDS[1] in item for item in own):
            in_items: dict[str, Any] = dict.fromkeys(_tokens_in_items(sampled))
            sampled = replace(sampled, **in_items)
        mark = codec.write(message.replace(blocks=(), sampled=sampled))
        marks.append({"items": len(own), **mark, "outline": [_outline(block) for block in message.blocks]})
    return marks


def _tokens_in_items(sampled: Sampled) -> list[str]:
    """Return the fields of a turn's tokens that are read from its items again: ids, and finite numbers that fit them."""
    if not sampled.token_ids:
        return []
    names = ["token_ids", *(["prompt_token_ids"] if sampled.prompt_token_ids else [])]
    logprobs = sampled.logprobs or ()
    fit = len(logprobs) == len(sampled.token_ids) and all(map(math.isfinite, logprobs))
    return [*names, "logprobs"] if fit else names


def _outline(block: Block) -> dict[str, Json]:
    """Return a block without what its item says: its text, its image or its arguments (as text where `content` is true)."""
    outline = {name: value for name, value in codec.write(block).items() if name not in _SAID[type(block)]}
    return {**outline, "content": True} if isinstance(block, ToolCall) and block.content is not None else outline


def read_marked(items: Sequence[Json], marks: Json) -> list[Message] | None:
    """Read the items of a row that this package wrote with `marks_of`; None where the marks are not of these items."""
    if not isinstance(marks, list) or not all(isinstance(mark, dict) for mark in marks):
        return None
    if sum(int(mark.get("items") or 0) for mark in marks) != len(items):
        return None
    messages, position = [], 0
    for mark in marks:
        own = items[position : position + int(mark["items"])]
        position += len(own)
        fields = {name: value for name, value in mark.items() if name not in ("items", "outline")}
        read = _with_tokens(from_openai_responses(own), own) if "outline" in mark else []
        if "outline" in mark:
            blocks = _filled(mark["outline"], read)
            if blocks is None:
                return None
            fields["blocks"] = blocks
        message = codec.read_as(Message, fields)
        if read and read[0].sampled is not None:
            tokens = {name: value for name in _SAMPLED_TOKENS if (value := getattr(read[0].sampled, name)) is not None}
            message = message.replace(sampled=replace(message.sampled or Sampled(), **tokens))
        messages.append(message)
    return messages


def _filled(outline: Json, messages: Sequence[Message]) -> list[dict[str, Json]] | None:
    """Return the blocks of an outline with what the items of the message say; None where the outline is not of these items."""
    if not isinstance(outline, list) or len(messages) != 1 or len(outline) != len(messages[0].blocks):
        return None
    blocks = []
    for own, block in zip(outline, messages[0].blocks, strict=True):
        if not isinstance(own, Mapping) or own.get("type") != block.type:
            return None
        said = {name: value for name in _SAID.get(type(block), ()) if (value := getattr(block, name)) is not None}
        if isinstance(block, ToolCall):
            # The item has the arguments as text, whether the record had the text or the object.
            said.pop("arguments" if own.get("content") is True else "content", None)
        blocks.append({**own, **said})
    return blocks


def _is_plain(message: Message) -> bool:
    """Return whether the blocks of a message can be made again from its items and their outlines."""
    able = _PLAIN_BLOCKS.get(message.role, (TextBlock, ImageBlock))
    is_split = any(isinstance(first, TextBlock) and isinstance(second, TextBlock) for first, second in pairwise(message.blocks))
    return bool(message.blocks) and not is_split and all(isinstance(block, able) and _is_said(block) for block in message.blocks)


def _is_said(block: Block) -> bool:
    """Return whether the item of a block has its text, image or arguments."""
    if getattr(block, "extra", {}).keys() - {"openai"}:
        return False
    if isinstance(block, ToolCall):
        return block.content is None or block == replace(block, arguments=None)
    return bool(getattr(block, _SAID[type(block)][0]))


def _model_of(data: Mapping[str, Json]) -> str | None:
    model = data.get("model")
    return model if isinstance(model, str) else None


def _content(message: Message) -> tuple[Json, ...]:
    return message.role, message.blocks, message.call_id


def _turns(items: Sequence[Json]) -> Iterator[list[Json]]:
    """Yield neighbouring items of a side. Those of the policy are split into its calls of the model where token ids tell."""
    for is_policy, group in groupby(items, _is_policy):
        own = list(group)
        sampled = [number for number, item in enumerate(own) if isinstance(item, Mapping) and item.get(TOKEN_FIELDS[1])]
        if not is_policy or len(sampled) < 2:
            yield own
            continue
        # Token ids are with the last item of a turn, or with the first.
        ends = [number + 1 for number in sampled] if sampled[-1] == len(own) - 1 else [*sampled[1:], len(own)]
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            yield own[start:end]


def _is_policy(item: Json) -> bool:
    if not isinstance(item, Mapping) or str(item.get("type")).endswith("_output"):
        return False
    return bool(item.get("type", "message") != "message" or item.get("role", "assistant") == "assistant")


def _with_tokens(messages: list[Message], items: Sequence[Json]) -> list[Message]:
    """Give the token ids of a turn's items to its message."""
    sources = [item for item in items if isinstance(item, Mapping) and item.get(TOKEN_FIELDS[1])]
    if len(messages) != 1 or len(sources) != 1 or messages[0].role != "assistant":
        return messages
    prompt, ids, logprobs = (sources[0].get(name) or [] for name in TOKEN_FIELDS)
    if not are_numbers(ids) or not are_numbers(prompt):
        return messages
    with_logprobs = are_numbers(logprobs, float) and len(logprobs) == len(ids)
    sampled = replace(
        messages[0].sampled or Sampled(),
        token_ids=tuple(ids),
        prompt_token_ids=tuple(prompt) or None,
        logprobs=tuple(map(float, logprobs)) if with_logprobs else None,
    )
    blocks = tuple(_without_tokens(block, TOKEN_FIELDS if with_logprobs else TOKEN_FIELDS[:2]) for block in messages[0].blocks)
    return [messages[0].replace(blocks=blocks, sampled=sampled)]


def _without_tokens(block: Json, names: Sequence[str]) -> Json:
    """Return a block without the token fields of its item, which the message has, and with a mark of where they were."""
    kept = getattr(block, "extra", {}).get("openai")
    if not isinstance(kept, Mapping):
        return block
    item = kept.get("item")
    if isinstance(item, Mapping) and names[0] in item:
        kept = {**kept, "item": {**{k: v for k, v in item.items() if k not in names}, "has_tokens": True}}
    elif names[0] in kept:
        kept = {**{k: v for k, v in kept.items() if k not in names}, "has_tokens": True}
    return replace(block, extra={**block.extra, "openai": kept})


def _with_token_fields(items: list[dict[str, Json]], message: Message) -> list[dict[str, Json]]:
    """Give the token ids of a message to its item that had them, or to the last one that can have them."""
    marked = [item for item in items if item.pop("has_tokens", False)]
    sampled = message.sampled
    if message.role != "assistant" or sampled is None or sampled.token_ids is None:
        return items
    able = [item for item in items if item.get("type") in ("message", "function_call", "reasoning")]
    values = (sampled.prompt_token_ids, sampled.token_ids, sampled.logprobs)
    if marked or (able and None not in values):
        # NeMo Gym takes all three fields or none.
        (marked or able)[-1].update({name: list(v) for name, v in zip(TOKEN_FIELDS, values, strict=True) if v is not None})
    return items


def _as_answer(message: Message, open_calls: deque[str]) -> Message:
    """Return a tool's message as the answer of an open call, or as the user's if it answers none."""
    if message.call_id and message.call_id in open_calls:
        open_calls.remove(message.call_id)
        return message
    if not message.call_id and open_calls:
        return message.replace(call_id=open_calls.popleft())
    return Message("user", message.blocks)


def _with_call_ids(message: Message, number: int) -> Message:
    """Return a message whose calls all have an id."""
    if all(call.call_id for call in message.tool_calls):
        return message
    blocks = [
        replace(block, call_id=f"call_{number}_{index}") if isinstance(block, ToolCall) and not block.call_id else block
        for index, block in enumerate(message.blocks)
    ]
    return message.replace(blocks=tuple(blocks))


def _complete(item: dict[str, Json], name: str, complete: bool) -> dict[str, Json]:
    """Return an item with the fields that its type requires."""
    kind = item.get("type")
    if kind == "reasoning":
        return {"summary": [], **item, "id": item.get("id") or f"rs_{name}"}
    if kind == "function_call":
        return {"status": "completed" if complete else "incomplete", **item, "id": item.get("id") or f"fc_{name}"}
    if kind != "message":
        return item
    if item.get("role") == "assistant":
        parts = [{"annotations": [], **part} if part.get("type") == "output_text" else part for part in item["content"]]
        status = {"status": "completed" if complete else "incomplete", **item}["status"]
        return {**item, "content": parts, "id": item.get("id") or f"msg_{name}", "status": status}
    parts = [{"detail": "auto", **part} if part.get("type") == "input_image" else part for part in item["content"]]
    return {**item, "content": parts}
