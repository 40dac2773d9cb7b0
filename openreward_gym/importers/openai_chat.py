"""Chats: files for fine-tuning, and data sets of conversations, in the messages of OpenAI or Anthropic.

The conversation is the row's `messages`, `conversation`, `conversations` or `trajectory`, as a list or as JSON text, or the row
itself is the list. Messages are OpenAI's; parts of Anthropic's (`tool_use`, `tool_result`, `thinking`, images) are understood
too, as is a `system` beside the messages. `tools` and `tool_calls` may be JSON text, and fields may be null, as in Parquet.

Columns: `reward` or `score` is the last message's reward; `model`, `split`, `environment`, `group` (`group_id`), `sample`,
`task_id`, `step` and the parameters of sampling go to the record's fields of these names, and `id` to its `name`. Other columns
go to `metadata`.

A row of a log has a request's `messages` and its answer beside them: `choices`, or `response` with a whole answer or a text. It
ends with the answer, which is the policy's only turn; the assistant messages of the request are given.

Origin: assistant messages of other rows are the policy's, with the weight that the row gives them (`weight`, `loss_weight`,
`train`). A turn that is marked as not trained (`loss: false`, `masked: true`, a part in `train_detail`) has the weight 0.
Messages before the first of them are given; those after it are the environment's.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from openreward_gym.chat import from_anthropic, from_openai
from openreward_gym.chat.dialect import ended_of
from openreward_gym.chat.plain import number
from openreward_gym.importers.jsonl import NO_ROWS, GroupBy, files_of, read_lines, tool_of
from openreward_gym.importers.shapes import answer_of, opened
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import (
    AssistantMessage,
    Message,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Task,
    ToolSpec,
    split_results,
    with_origins,
)
from openreward_gym.types.rollout import total_reward

CONVERSATIONS = ("messages", "conversation", "conversations", "trajectory")
"""The columns in which a conversation is looked for, in this order."""

FORMATS = ("openai", "axolotl", "sft", "verl_sft")
"""The formats of this package's exports that are chats."""

_SAMPLING = {
    **{name: name for name in ("temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "stop", "n", "tool_choice")},
    **{name: name for name in ("parallel_tool_calls", "chat_template_kwargs", "reasoning_effort", "response_format")},
    **{name: name for name in ("frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "top_logprobs")},
    "max_completion_tokens": "max_tokens",
}
_ANTHROPIC_PARTS = ("tool_use", "tool_result", "thinking", "redacted_thinking", "document", "server_tool_use")
# Fields by which trainers weigh a turn, and those that mark it (with the value that keeps it out of the loss): of OpenAI,
# axolotl, LLaMA-Factory, ms-swift, torchtune and others. axolotl's details mark parts of a turn.
_WEIGHTS = ("weight", "loss_weight", "loss_scale", "train", "trainable", "training")
_MARKS: Mapping[str, bool] = {"loss": False, "loss_mask": False, "is_trainable": False, "masked": True, "is_masked": True}
_AMBIGUOUS = ("loss", "loss_mask")  # also the values of a log, and masks of tokens
_DETAILS = ("train_detail", "training_detail")
_SYSTEM = ("system", "system_prompt")
_REWARDS = ("reward", "score")
# The fields of a whole answer in a log's row, and the columns that have one as an object.
_COMPLETION = ("id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier")
_RESPONSES = ("response", "completion", "output")
_PAIR = ("chosen", "rejected")
_TOOLS = ("tools", "functions")
_PLACES: Mapping[str, type] = {"split": str, "environment": str, "task_id": str, "step": int, "sample": int}


def read(path: str | os.PathLike[str], group_by: GroupBy | None = None) -> Iterator[Rollout | Damage]:
    """Yield the chats of a file of JSON lines, a JSON array or Parquet, or of the files of a folder."""
    for file in files_of(path, NO_ROWS, formats=FORMATS):
        yield from read_lines(file, rollout_of, group_by, is_conversation)


def is_conversation(items: list[Json]) -> bool:
    """Return whether a list is of messages, not of rows."""
    return bool(items) and all(isinstance(item, dict) and "role" in item and "content" in item for item in items)


def rollout_of(row: Mapping[str, Json], identity: str) -> Rollout:
    """Return the rollout of one row; raise ValueError for a row without messages, or with one that is not a chat message."""
    column, turns = conversation_of(row)
    messages = read_messages(turns)
    system = next((row[name] for name in _SYSTEM if row.get(name)), None)
    if system is not None:
        messages = [*from_anthropic([], system=system), *messages]
        if len(messages) > 1 and messages[1].role == "system" and messages[1].text == messages[0].text:
            del messages[0]
    answer, columns = _logged_answer(row, is_open=messages[-1].role != "assistant")
    if answer:
        if messages[-1].role == "assistant" and _said(messages[-1]) == _said(answer[0]):
            del messages[-1]
        messages = [*(message.replace(origin="given") for message in messages), *answer]
    return rollout_with(row, identity, with_origins(messages), (column, *_SYSTEM, *columns))


def _logged_answer(row: Mapping[str, Json], *, is_open: bool) -> tuple[Sequence[Message], Sequence[str]]:
    """Return the answer that a log keeps beside its request, and its columns; empty without one.

    Args:
        row: The row.
        is_open: Whether the request ends without an answer. A text, or a list of messages, is an answer only then.

    Raises:
        ValueError: The request is open, and its answer is an error or a pair.
    """
    if is_open and all(isinstance(opened(row.get(name)), (Mapping, list)) for name in _PAIR):
        raise ValueError('it has "chosen" and "rejected" beside its messages: import the file as sharegpt')
    if _are_choices(row.get("choices")):
        return [answer_of({name: row[name] for name in _COMPLETION if row.get(name) is not None})], ("choices", "usage")
    for name in _RESPONSES:
        response = opened(row.get(name))
        if is_open and is_conversation(response if isinstance(response, list) else []):
            return read_messages(response), (name,)
        response = response.get("body", response) if isinstance(response, Mapping) else None
        if isinstance(response, Mapping):
            is_message = response.get("role") == "assistant" and response.get("content")
            if _are_choices(response.get("choices")) or isinstance(response.get("output"), list) or is_message:
                return [answer_of(response)], (name,)
            if is_open and (response.get("error") or response.get("choices") == []):
                raise ValueError(f'its "{name}" is an error, or has no choices: there is no answer of the model')
        if is_open and isinstance(row.get(name), str) and row[name]:
            return [AssistantMessage(row[name])], (name,)
    return [], ()


def _are_choices(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(c, Mapping) and "message" in c for c in value)


def _said(message: Message) -> tuple[Json, ...]:
    return message.text, [(call.name, call.arguments_json) for call in message.tool_calls]


def rollout_with(row: Mapping[str, Json], identity: str, messages: list[Message], own: Sequence[str]) -> Rollout:
    """Return the rollout of a row with these messages.

    Args:
        row: The row. Its columns become fields of the record or its metadata.
        identity: The rollout's id.
        messages: The messages.
        own: The columns that were read into the messages.
    """
    known = {*own, *_TOOLS, *_SAMPLING}
    reward = next((number(row, name) for name in _REWARDS if number(row, name) is not None), None)
    if reward is None:
        reward = next((float(row[name]) for name in _REWARDS if isinstance(row.get(name), bool)), None)
    if reward is not None:
        known |= set(_REWARDS[:1]) if row.get("reward") is not None else set(_REWARDS)
        messages[-1] = messages[-1].replace(reward=reward)
    places = {name: row[name] for name, kind in _PLACES.items() if type(row.get(name)) is kind}
    model, group = _text(row, "model", "model_name"), next((row[n] for n in ("group", "group_id") if _is_name(row.get(n))), None)
    finish = _text(row, "finish_reason", "stop_reason")
    if finish and messages[-1].role == "assistant":
        sampled = replace(messages[-1].sampled or Sampled(), stop_reason=finish[1])
        messages[-1] = messages[-1].replace(sampled=sampled, ended=ended_of(finish[1], messages[-1].blocks))
    known |= {*places, *(pair[0] for pair in (model, finish) if pair)} | ({"group", "group_id"} if group is not None else set())
    known |= {"id"} if _is_name(row.get("id")) else set()
    rest = {name: value for name, value in row.items() if name not in known and value is not None}
    inner = rest.pop("metadata", None) if isinstance(rest.get("metadata"), Mapping) else None
    metadata = {**(inner or {}), **rest}
    model = model or _text(metadata, "model")
    if model is None and messages[-1].sampled is not None and messages[-1].sampled.model:
        model = ("model", messages[-1].sampled.model)
    total, final_reward = total_reward(messages)
    return Rollout(
        id=identity,
        name=str(row["id"]) if "id" in known else "",
        environment=RolloutEnvironment(name=places.get("environment", "")),
        task=Task(places.get("split", ""), id=places.get("task_id", "")),
        group=None if group is None else str(group),
        sample=places.get("sample"),
        step=places.get("step"),
        model={"name": model[1]} if model else None,
        sampling={ours: row[theirs] for theirs, ours in _SAMPLING.items() if row.get(theirs) is not None} or None,
        tools=tools_of(row) or None,
        messages=messages,
        reward=total,
        final_reward=final_reward,
        status="completed",
        stop_reason="message" if messages[-1].role == "assistant" else "",
        metadata=metadata or None,
    )


def conversation_of(row: Mapping[str, Json]) -> tuple[str, list[Json]]:
    """Return (the column of the conversation, its turns); raise ValueError if the row has none."""
    for column in CONVERSATIONS:
        turns = opened(row.get(column))
        if isinstance(turns, list) and turns:
            turns = [opened(turn) for turn in turns]
            refuse_own_messages(turns)
            if all(isinstance(turn, Mapping) and "from" in turn and "role" not in turn for turn in turns):
                raise ValueError('its turns have "from" and "value": import the file as sharegpt')
            return column, turns
    raise ValueError('no "messages": this is not a row of chats')


def refuse_own_messages(turns: Sequence[Json]) -> None:
    """Raise ValueError for the messages of a rollout of this package, which have no content to read."""
    if all(isinstance(turn, Mapping) and "blocks" in turn and "content" not in turn for turn in turns):
        raise ValueError('its messages have "blocks": they are rollouts of this package, which `merge` copies')


def read_messages(turns: Sequence[Json]) -> list[Message]:
    """Return the messages of OpenAI's or Anthropic's turns, with the results of tools as messages of their own."""
    return [message for turn in turns for message in split_results(_read_message(turn))]


def tools_of(row: Mapping[str, Json]) -> list[ToolSpec]:
    """Return the tools of a row: `tools` or `functions`, as a list or as JSON text."""
    tools: list[Json] = []
    for column in _TOOLS:
        value = opened(row.get(column))
        for item in value if isinstance(value, list) else [value] if isinstance(value, dict) else ():
            tool = _without_nulls(opened(item))
            tools.append({"function": tool} if column == "functions" else tool)
    return [tool_of(tool) for tool in tools]


def weight_of(turn: Mapping[str, Json]) -> float | None:
    """Return the weight that a row gives to a turn; None where it gives none. `train: true` gives none.

    A mark that keeps the turn, or a part of it, out of the loss goes before a weight.

    Raises:
        ValueError: A weight is not a number of at least 0, or a mark is not true or false.

    Example:
        >>> weight_of({"weight": 1, "masked": True}), weight_of({"loss_weight": 0.5}), weight_of({"train": True})
        (0.0, 0.5, None)
    """
    weights: list[float] = []
    for name in _WEIGHTS:
        value = turn.get(name)
        if isinstance(value, bool):
            weights += [] if value else [0.0]
        elif isinstance(value, (int, float)) and 0 <= value < math.inf:
            weights.append(float(value))
        elif value is not None:
            raise ValueError(f"{name} is {value!r}: a weight is a number of at least 0, or true or false")
    for name, keeps_out in _MARKS.items():
        value = turn.get(name)
        if _is_mark(value):
            weights += [0.0] if bool(value) is keeps_out else []
        elif value is not None and not (name in _AMBIGUOUS and isinstance(value, (list, float))):
            raise ValueError(f"{name} is {value!r}: a mark of what is trained is true or false")
    for name in _DETAILS:
        parts = opened(turn.get(name))
        if isinstance(parts, list) and any(isinstance(part, Mapping) and part.get("train") is False for part in parts):
            weights.append(0.0)
    return 0.0 if 0.0 in weights else weights[0] if weights else None


def _is_mark(value: Json) -> bool:
    return isinstance(value, (bool, int)) and value in (0, 1)


def _is_weight(name: str, value: Json) -> bool:
    """Return whether a field of a turn is only about its weight."""
    return name in _WEIGHTS or (name in _MARKS and _is_mark(value))


def _read_message(turn: Json) -> Message:
    turn = opened(turn)
    if not isinstance(turn, Mapping):
        raise TypeError(f"a message is an object, not {type(turn).__name__}")
    data = {name: value for name, value in turn.items() if value is not None and not _is_weight(name, value)}
    if isinstance(data.get("content"), list):
        data["content"] = [_part(part) for part in data["content"]]
    if "tool_calls" in data:
        calls = opened(data["tool_calls"])
        data["tool_calls"] = [_call(call) for call in calls] if isinstance(calls, list) else []
    if isinstance(data.get("function_call"), str):
        data["function_call"] = opened(data["function_call"])
    speaker = data.pop("name", None) if data.get("role") not in ("tool", "function") else None
    message = from_anthropic(data)[0] if _is_anthropic(data) else from_openai(data)[0]
    if isinstance(speaker, str) and speaker:
        message = message.replace(name=speaker)
    weight = weight_of(turn)
    return message if weight is None else message.replace(weight=weight)


def _is_anthropic(data: Mapping[str, Json]) -> bool:
    content = data.get("content")
    if not isinstance(content, list) or data.get("tool_calls"):
        return False
    return any(
        isinstance(part, Mapping)
        and (part.get("type") in _ANTHROPIC_PARTS or (part.get("type") == "image" and isinstance(part.get("source"), Mapping)))
        for part in content
    )


def _part(part: Json) -> Json:
    # In Parquet every part has the fields of all parts; those that it does not use are null.
    return {name: value for name, value in part.items() if value is not None} if isinstance(part, Mapping) else part


def _call(call: Json) -> Json:
    """Return an entry of `tool_calls` in OpenAI's form, of which some data sets have the function alone."""
    call = _part(opened(call))
    if isinstance(call, dict) and isinstance(call.get("name"), str) and not isinstance(call.get("function"), Mapping):
        rest = {name: value for name, value in call.items() if name not in ("name", "arguments")}
        return {**rest, "function": {"name": call["name"], "arguments": call.get("arguments")}}
    return {**call, "function": _part(call["function"])} if isinstance(call, dict) and "function" in call else call


def _without_nulls(schema: Json) -> Json:
    """Return a tool without the null fields that Parquet gives it."""
    if isinstance(schema, Mapping):
        return {k: _without_nulls(v) for k, v in schema.items() if v is not None or k in ("default", "const")}
    return [_without_nulls(item) for item in schema] if isinstance(schema, list) else schema


def _text(row: Mapping[str, Json], *names: str) -> tuple[str, str] | None:
    return next(((name, row[name]) for name in names if isinstance(row.get(name), str) and row[name]), None)


def _is_name(value: Json) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
