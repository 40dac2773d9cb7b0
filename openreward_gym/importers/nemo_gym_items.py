"""The items of NeMo Gym's rows (those of OpenAI's Responses API, with token ids), read as messages and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise, takewhile

from openreward_gym.chat import from_openai_responses, to_openai_responses
from openreward_gym.chat.dialect import ended_of
from openreward_gym.importers.shapes import are_numbers
from openreward_gym.jsonio import Json
from openreward_gym.types import Message, Sampled, SystemMessage

TOKEN_FIELDS = ("prompt_token_ids", "generation_token_ids", "generation_log_probs")
"""The fields of an item for training: ids of the tokens of its turn's context and of the turn, and their log-probabilities."""


def read_input(request: Mapping[str, Json]) -> list[Message]:
    """Return the messages of a request. They are given, whatever their roles."""
    messages = from_openai_responses(request.get("input") or [], model=_model_of(request))
    if isinstance(request.get("instructions"), str) and request["instructions"]:
        messages.insert(0, SystemMessage(request["instructions"]))
    return [message.replace(origin="given") for message in messages]


def read_spans(request: Mapping[str, Json]) -> list[tuple[Message, list[Json]]]:
    """Return the messages of a request, each with the items that it was read from; `instructions` has none."""
    instructions = read_input({"instructions": request.get("instructions")})
    spans: list[tuple[Message, list[Json]]] = [(message, []) for message in instructions]
    items = request.get("input")
    for is_policy, group in groupby(items if isinstance(items, list) else [], _is_policy):
        neighbours = list(group)
        for own in [neighbours] if is_policy else [[item] for item in neighbours]:
            messages = from_openai_responses(own, model=_model_of(request))
            spans += [(message, own if place == 0 else []) for place, message in enumerate(messages)]
    return spans


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
        for message in with_tokens(from_openai_responses(turn, model=model), turn)
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
    return [item for message in messages for item in with_token_fields(to_openai_responses([message]), message)]


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


def with_tokens(messages: list[Message], items: Sequence[Json]) -> list[Message]:
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


def with_token_fields(items: list[dict[str, Json]], message: Message) -> list[dict[str, Json]]:
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
