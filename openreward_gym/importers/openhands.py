"""Trajectories of OpenHands: an array or lines of events, `output.jsonl` of its evaluations, and a conversation's folder of
`event-*.json`. Both kinds of events are read: those with `action` or `observation`, and those of its SDK with a `kind`.

The actions of one answer of the model are one turn. Where the event has the answer itself (`tool_call_metadata.model_response`)
the turn is read from it; the SDK's events have the answer's parts. What the agent's memory adds when it shows an event to the
model (the exit code behind a command's output, text of a knowledge base) is not in the events, so that it is not here either.
Events that are no messages are counted in `metadata["openhands"]["other_events"]`.

Origin: the agent's messages and actions are the policy's. What comes before the first of them is given; observations, errors
and the user's later messages are the environment's. Two kinds of turns have the weight 0: an action without the model's answer,
whose exact words are not known, and a turn after a condensation, which was sampled from a shorter history than the events show.

End: an evaluation's `error`, or the action `finish`. How a turn ended is the finish reason of the model's answer.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from openreward_gym.chat.dialect import image_of_url, opaque, tool_call
from openreward_gym.chat.plain import integer, number, rest_of
from openreward_gym.importers.files import Record, read_file
from openreward_gym.importers.jsonl import NO_ROWS, GroupBy, checked, files_of, identity
from openreward_gym.importers.reasons import UNREADABLE, reason_of, wrong
from openreward_gym.importers.shapes import (
    Part,
    answer_of,
    label_of,
    object_at,
    object_or_empty,
    objects_at,
    read_parts,
    text_at,
    with_metadata,
    with_reward,
    with_tokens,
)
from openreward_gym.jsonio import Json, dumps
from openreward_gym.store import Damage
from openreward_gym.types import (
    AssistantMessage,
    Block,
    Message,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Status,
    SystemMessage,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolSpec,
    Usage,
    UserMessage,
    as_blocks,
    task_id,
    with_origins,
)

_HISTORY = ("history", "trajectory", "events")
_FINISH = ("finish", "FinishAction")
# Observations of OpenHands itself, which the model does not see.
_SILENT = ("agent_state_changed", "null", "recall", "agent_condensation", "success")
# Fields of an action that are not the call's arguments.
_NOT_ARGUMENTS = ("thought", "confirmation_state", "is_confirmed", "hidden", "security_risk", "blocking", "kernel_init_code")


def read(path: str | os.PathLike[str], *, group_by: GroupBy | None = None) -> Iterator[Rollout | Damage]:
    """Yield the trajectories of a file, or of a folder: its conversations (`event-*.json`), `.jsonl` files and `.json` files."""
    files = files_of(path, f"{NO_ROWS}: is it OpenHands' output folder?")
    folders = sorted({file.parent for file in files if file.match("event-*.json")} if Path(path).is_dir() else ())
    for folder in folders:
        yield from _read_folder(folder, group_by)
    for file in files:
        if file.parent not in folders and file.parent / "events" not in folders:
            yield from _read_file(file, group_by)


def _read_folder(folder: Path, group_by: GroupBy | None) -> Iterator[Rollout | Damage]:
    """Yield the conversation of a folder that has a file for each event."""
    events: list[Json] = []
    for file in sorted(folder.glob("event-*.json")):
        for record in read_file(file):
            if record.reason or not isinstance(record.value, dict):
                yield Damage(record.number, record.reason or "not an event", str(file), unit=record.unit)
            else:
                events.append(record.value)
    yield from _rollout_or_damage(events, folder, group_by)


def _rollout_or_damage(events: list[Json], place: Path, group_by: GroupBy | None) -> Iterator[Rollout | Damage]:
    try:
        rollout = checked(rollout_of({"history": events}, identity(dumps(events), 0)))
    except UNREADABLE as error:
        yield Damage(1, reason_of(error), str(place), unit="record")
    else:
        yield rollout if group_by is None else group_by.apply(rollout)


def _read_file(file: Path, group_by: GroupBy | None) -> Iterator[Rollout | Damage]:
    """Yield the trajectories of a file. Lines that are events are together one trajectory."""
    events: list[Json] = []

    def parts(record: Record) -> Iterator[Part]:
        value = record.value
        if isinstance(value, list):
            value = {"history": value}
        if isinstance(value, dict) and not any(isinstance(value.get(name), list) for name in _HISTORY) and is_event(value):
            events.append(value)
            return
        yield "", lambda: rollout_of(value, identity(record.content, record.number))

    yield from read_parts(file, parts, group_by, is_trajectory)
    if events:
        yield from _rollout_or_damage(events, file, group_by)


def is_event(value: Json) -> bool:
    """Return whether a value is an event of OpenHands."""
    if not isinstance(value, dict) or "role" in value or {"action", "observation"} <= value.keys():
        return False  # another agent's step has both
    return any(isinstance(value.get(name), str) for name in ("action", "observation", "kind"))


def is_trajectory(items: Sequence[Json]) -> bool:
    """Return whether an array has events, or pairs of an action and its observation."""
    events = [event for item in items for event in (item if isinstance(item, list) else [item])]
    return (
        bool(events) and all(isinstance(event, dict) for event in events) and is_event(events[0]) and not _has_history(events[0])
    )


def _has_history(row: Mapping[str, Json]) -> bool:
    return any(isinstance(row.get(name), list) for name in _HISTORY)


def rollout_of(row: Json, row_id: str) -> Rollout:
    """Return the rollout of a row of an evaluation, or of `{"history": events}`.

    Raises:
        ValueError: It is not a trajectory of OpenHands, or a field has a wrong type.
    """
    if not isinstance(row, dict) or not _has_history(row):
        raise ValueError('no "history" of events: this is not a trajectory of OpenHands')
    name = next(name for name in _HISTORY if isinstance(row.get(name), list))
    pairs = [event for item in row[name] for event in (item if isinstance(item, list) else [item])]
    events = objects_at({name: pairs}, name)
    if not any(map(is_event, events)):
        raise ValueError(f'"{name}" has no events: this is not a trajectory of OpenHands')
    history = _History()
    for event in events:
        history.add(event)
    metadata, test_result = object_at(row, "metadata"), object_or_empty(row, "test_result")
    config = object_or_empty(metadata, "llm_config") or object_or_empty(metadata, "llm")
    model = text_at(config, "model") or history.model
    environment, split = label_of(metadata.get("dataset")) or "openhands", text_at(metadata, "data_split")
    instance = label_of(row.get("instance_id"))
    spec = {"instance_id": instance} if instance else {"instruction": _instruction(history.messages)}
    task = task_id(environment, split, spec)
    reward = _reward(row, test_result)
    status, stop_reason, error = _ending(row, history)
    metrics = object_or_empty(row, "metrics")
    rest = rest_of(row, name, "metadata", "instance_id")
    rest |= {"metadata": metadata} if metadata else {}
    rest |= {"other_events": dict(history.others)} if history.others else {}
    rest |= {"tools": history.unread_tools} if history.unread_tools else {}
    messages = with_reward(with_origins(history.messages), reward, stop_reason == "finished")
    sampling = {
        key: config[key] for key in ("temperature", "top_p", "top_k", "max_output_tokens", "seed") if config.get(key) is not None
    }
    return Rollout(
        id=row_id,
        name=instance,
        environment=RolloutEnvironment(name=environment, split=split),
        task=Task(split=split or "", spec=spec, id=task),
        group=task,
        model={"name": model} if model else None,
        sampling=sampling or None,
        tools=history.tools or None,
        messages=messages,
        reward=reward,
        final_reward=reward,
        status=status,
        stop_reason=stop_reason,
        error=error,
        started_at=_time(events[0]),
        ended_at=_time(events[-1]),
        usage=_usage(metrics.get("accumulated_token_usage")) or history.usage,
        cost_usd=number(metrics, "accumulated_cost") if metrics else history.cost_usd,
        versions={"openhands": history.version} if history.version else None,
        metadata={"openhands": rest},
    )


def _instruction(messages: Sequence[Message]) -> str:
    return next((message.text for message in messages if message.role == "user"), "")


def _reward(row: Mapping[str, Json], test_result: Mapping[str, Json]) -> float | None:
    """Return 1 for a task that was resolved and 0 for one that was not; None for a row that does not say it."""
    places = (test_result, object_or_empty(test_result, "report"), object_or_empty(row, "report"), row)
    values = [place.get("resolved") for place in places] + [row.get("success")]
    return next((float(value) for value in values if isinstance(value, bool)), None)


def _ending(row: Mapping[str, Json], history: _History) -> tuple[Status, str, str | None]:
    error = row.get("error")
    text = error if isinstance(error, str) and error else label_of(error) or history.error
    if text and "maximum iteration" in text.lower():
        return "truncated", "max_steps", text
    if text:
        return "error", "", text
    if history.finished:
        return "completed", "finished", None
    last = history.messages[-1] if history.messages else None
    if last is not None and last.role == "assistant" and not last.tool_calls:
        return "completed", "message", None
    return "cancelled", "", None


def _usage(data: Json) -> Usage | None:
    if not isinstance(data, dict):
        return None
    return Usage(
        integer(data, "prompt_tokens"),
        integer(data, "completion_tokens"),
        integer(data, "cache_read_tokens"),
        integer(data, "reasoning_tokens"),
    )


def _time(event: Mapping[str, Json]) -> str | None:
    return text_at(event, "timestamp")


class _History:
    """The messages of a trajectory, collected event by event."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.tools: list[ToolSpec] = []
        self.unread_tools: list[Json] = []
        self.others: Counter[str] = Counter()
        self.model = self.version = self.error = ""
        self.usage: Usage | None = None
        self.cost_usd: float | None = None
        self.finished = False
        self.condensed = False
        self._turns: dict[str, int] = {}
        self._is_textual = False
        self._token_ids: Mapping[str, Json] | None = None

    def add(self, event: Mapping[str, Json]) -> None:
        kind = text_at(event, "kind")
        if kind is not None:
            self._sdk_event(kind, event)
        elif isinstance(event.get("action"), str):
            self._action(event["action"], event)
        elif isinstance(event.get("observation"), str):
            self._observation(event["observation"], event)
        else:
            self.others["unknown"] += 1

    def _append(self, message: Message, event: Mapping[str, Json], **fields: Json) -> None:
        self.messages.append(with_metadata(message.replace(ended_at=_time(event)), {"openhands": rest_of(fields) or None}))

    # The events with `action` and `observation`.

    def _action(self, action: str, event: Mapping[str, Json]) -> None:
        # The oldest events have their arguments beside the action.
        arguments = object_at(event, "args") or rest_of(event, "action", "id", "timestamp", "source", "message", "cause")
        source = text_at(event, "source") or ("user" if action == "message" and not self.messages else "agent")
        content = text_at(arguments, "content") or ""
        if action == "system":
            self.version = text_at(arguments, "openhands_version") or ""
            self._read_tools(objects_at(arguments, "tools"))
            self._append(SystemMessage(content), event)
        elif action == "message" and source == "user":
            urls = arguments.get("image_urls") or arguments.get("images_urls")
            self._append(UserMessage([*as_blocks(content), *_images(urls)]), event)
        elif action in ("condensation", "condensation_request"):
            self.condensed = self.condensed or action == "condensation"
            self.others[action] += 1
        elif source != "agent" or action in ("recall", "change_agent_state", "null"):
            self.others[action] += 1
        else:
            self._turn(action, arguments, event)

    def _turn(self, action: str, arguments: Mapping[str, Json], event: Mapping[str, Json]) -> None:
        self.finished = action in _FINISH
        metadata = object_at(event, "tool_call_metadata")
        response = object_at(metadata, "model_response")
        response_id = label_of(response.get("id"))
        if response_id and response_id in self._turns:
            return  # a further call of a turn that was read whole
        if isinstance(response.get("choices"), list) and response["choices"]:
            message: Message = answer_of(response)
            if not message.blocks:
                raise wrong("model_response", "an answer with text or calls", response.get("choices"))
            self.model = self.model or label_of(response.get("model"))
        elif action == "message":
            message = AssistantMessage(text_at(arguments, "content") or "")
        else:
            values = {key: value for key, value in arguments.items() if key not in _NOT_ARGUMENTS and value is not None}
            call = tool_call(text_at(metadata, "function_name") or action, values, metadata.get("tool_call_id"))
            message = AssistantMessage(text_at(arguments, "thought") or "", [call], weight=0.0)
            self._is_textual = not metadata
        if self.condensed:
            message = message.replace(weight=0.0)
        if response_id:
            self._turns[response_id] = len(self.messages)
        self._append(message.replace(origin="policy"), event)

    def _observation(self, observation: str, event: Mapping[str, Json]) -> None:
        if observation in _SILENT:
            self.others[observation] += 1
            return
        metadata = object_at(event, "tool_call_metadata")
        content, extras = text_at(event, "content") or "", object_at(event, "extras")
        name = text_at(metadata, "function_name") or observation
        # Where the model's answers have ids, a result without one is told to the model as a user's turn.
        if metadata or self._is_textual:
            call_id = label_of(metadata.get("tool_call_id"))
            message: Message = ToolMessage(content, call_id, name if metadata else None, is_error=observation == "error")
        else:
            message = UserMessage(content)
        self._append(message, event, observation=observation, extras=extras or None, success=event.get("success"))

    def _read_tools(self, tools: Sequence[Mapping[str, Json]]) -> None:
        for tool in tools:
            function = object_or_empty(tool, "function") or tool
            name = function.get("name") or tool.get("title")
            if not isinstance(name, str):
                self.unread_tools.append(dict(tool))  # the SDK's own description, without a name or parameters
                continue
            parameters = function.get("parameters") or function.get("input_schema") or function.get("inputSchema")
            if parameters is not None and not isinstance(parameters, dict):
                raise wrong("tools[].parameters", "an object", parameters)
            self.tools.append(ToolSpec(name, text_at(function, "description") or "", parameters))

    # The events of the SDK.

    def _sdk_event(self, kind: str, event: Mapping[str, Json]) -> None:
        if kind == "SystemPromptEvent":
            texts = [text_at(object_at(event, name), "text") for name in ("system_prompt", "dynamic_context")]
            self._read_tools(objects_at(event, "tools"))
            self._append(SystemMessage([TextBlock(text) for text in texts if text]), event)
        elif kind == "MessageEvent":
            self._sdk_message(event)
        elif kind == "ActionEvent":
            self._sdk_action(event)
        elif kind in ("ObservationEvent", "AgentErrorEvent", "UserRejectObservation"):
            self._sdk_result(kind, event)
        elif kind == "TokenEvent":
            self._token_ids = event
        else:
            self._sdk_other(kind, event)

    def _sdk_other(self, kind: str, event: Mapping[str, Json]) -> None:
        self.others[kind] += 1
        if kind == "Condensation":
            self.condensed = True
        elif kind == "ConversationErrorEvent":
            self.error = f"{label_of(event.get('code'))}: {label_of(event.get('detail'))}"
        elif kind == "ConversationStateUpdateEvent" and event.get("key") == "stats":
            stats = object_or_empty(object_or_empty(object_or_empty(event, "value"), "usage_to_metrics"), "default")
            self.usage = _usage(stats.get("accumulated_token_usage")) or self.usage
            self.cost_usd = number(stats, "accumulated_cost")
            self.model = label_of(stats.get("model_name")) or self.model

    def _sdk_message(self, event: Mapping[str, Json]) -> None:
        data = object_at(event, "llm_message")
        blocks = [*_contents(data, "content"), *_contents(event, "extended_content")]
        if data.get("role") == "assistant" or event.get("source") == "agent":
            calls = [_call(call) for call in objects_at(data, "tool_calls")]
            self._sdk_turn([*_thoughts(data), *blocks, *calls], event)
            self.finished = False
        elif data.get("role") == "system":
            self._append(SystemMessage(blocks), event)
        else:
            self._append(UserMessage(blocks), event)

    def _sdk_action(self, event: Mapping[str, Json]) -> None:
        call = _call(object_at(event, "tool_call"))
        self.finished = call.name == "finish"
        response_id = label_of(event.get("llm_response_id"))
        place = self._turns.get(response_id)
        if place is None:
            self._sdk_turn([*_thoughts(event), *_contents(event, "thought"), call], event)
            return
        turn = self.messages[place]
        if call not in turn.tool_calls:
            self.messages[place] = turn.replace(blocks=(*turn.blocks, *_contents(event, "thought"), call))

    def _sdk_turn(self, blocks: Sequence[Block], event: Mapping[str, Json]) -> None:
        response_id = label_of(event.get("llm_response_id"))
        sampled = Sampled(metadata={"id": response_id} if response_id else None)
        if self._token_ids is not None:
            ids, self._token_ids = self._token_ids, None
            sampled = with_tokens(sampled, ids, "response_token_ids", "logprobs", "prompt_token_ids")
        if response_id:
            self._turns[response_id] = len(self.messages)
        message = AssistantMessage(
            blocks,
            sampled=None if sampled == Sampled() else sampled,
            origin="policy",
            weight=0.0 if self.condensed else None,
        )
        self._append(message, event, summary=event.get("summary"), critic_result=event.get("critic_result"))

    def _sdk_result(self, kind: str, event: Mapping[str, Json]) -> None:
        observation = object_at(event, "observation")
        rest = rest_of(observation, "content", "is_error", "kind")
        if kind == "AgentErrorEvent":
            blocks: Sequence[Block] = as_blocks(text_at(event, "error") or "")
        elif kind == "UserRejectObservation":
            # The words that the SDK sends to the model.
            blocks = as_blocks(f"Action rejected: {text_at(event, 'rejection_reason') or ''}")
        elif observation.get("content") is None and isinstance(observation.get("output"), str):
            blocks, rest = as_blocks(observation["output"]), rest_of(rest, "output")
        else:
            blocks = _contents(observation, "content")
        blocks = [*blocks, *_contents(event, "extended_content")]
        is_error = kind == "AgentErrorEvent" or observation.get("is_error") is True
        message = ToolMessage(blocks, label_of(event.get("tool_call_id")), text_at(event, "tool_name"), is_error)
        self._append(message, event, observation=rest or None)


def _images(urls: Json) -> list[Block]:
    if urls is not None and not isinstance(urls, list):
        raise wrong("image_urls", "a list of texts", urls)
    return [image_of_url(url, {}) or opaque({"type": "image_url", "image_url": {"url": url}}) for url in urls or ()]


def _contents(data: Mapping[str, Json], name: str) -> list[Block]:
    """Return the blocks of a list of the SDK's contents: texts, and images by their addresses."""
    if isinstance(data.get(name), str):
        return list(as_blocks(data[name]))
    blocks: list[Block] = []
    for part in objects_at(data, name):
        if part.get("type", "text") == "text" and isinstance(part.get("text"), str):
            blocks += as_blocks(part["text"])
        elif isinstance(part.get("image_urls"), list):
            blocks += _images(part["image_urls"])
        else:
            blocks.append(opaque(part))
    return blocks


def _call(data: Mapping[str, Json]) -> ToolCall:
    function = object_or_empty(data, "function") or data
    name = text_at(function, "name")
    if name is None:
        raise wrong("tool_call.name", "text", None)
    return tool_call(name, function.get("arguments"), data.get("id"))


def _thoughts(data: Mapping[str, Json]) -> list[ReasoningItem]:
    """Return the reasoning of a turn. Signed blocks of thinking have the same text as `reasoning_content`."""
    thoughts = [
        ReasoningItem(text_at(block, "thinking"), text_at(block, "data"), signature=text_at(block, "signature"))
        for block in objects_at(data, "thinking_blocks")
    ]
    item = object_at(data, "responses_reasoning_item")
    if item:
        parts = {name: [text for text in item.get(name) or () if isinstance(text, str)] for name in ("content", "summary")}
        extra = rest_of(item, "content", "summary", "encrypted_content")
        thoughts.append(
            ReasoningItem(
                "".join(parts["content"]) or None,
                text_at(item, "encrypted_content"),
                "".join(parts["summary"]) or None,
                extra={"openhands": extra} if extra else {},
            )
        )
    text = text_at(data, "reasoning_content")
    if text and not any(thought.content or thought.summary for thought in thoughts):
        thoughts.insert(0, ReasoningItem(text))
    return thoughts
