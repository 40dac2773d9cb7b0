"""Trials of firehorse, OpenReward's own agent harness: `trial_*.jsonl`, a file per trial, an event per line.

Its own agents (react, resum) log messages in the formats of their providers (`raw`), or as `text_content`,
`reasoning_content` and `tool_calls`. Of Claude Code, Codex and the Gemini CLI it logs their own events, and Hermes leaves a
session file. The results of tools are events of their own, and the last line summarises the trial. `trial_*_result.json`,
`trial_*_rewards.jsonl` and `run_result.json` beside it, where they exist, add the split, the index, errors and rewards.

Origin: the agent's messages are the policy's. The prompts are given, and tools and users after the agent's first message
are the environment. A turn that was logged without its words or arguments (react with OpenAI's models) has the weight 0.

End: a trial is `completed` if the environment finished it, or if the agent ended it with a message. It is `truncated` by a
limit of turns, tokens or time, an `error` where one is named, and `cancelled` where the log breaks off.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from openreward_gym.chat import OpenAIResponsesDialect, from_anthropic, from_gemini, from_openai, parse_action
from openreward_gym.chat.dialect import opaque, tool_call, total
from openreward_gym.chat.plain import integer, json_text, number, plain, rest_of
from openreward_gym.errors import StoreError
from openreward_gym.importers.files import read_beside, read_file
from openreward_gym.importers.jsonl import checked, files_of, identity
from openreward_gym.importers.reasons import UNREADABLE, explain, reason_of, wrong
from openreward_gym.importers.shapes import label_of
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import (
    AssistantMessage,
    Message,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Status,
    SystemMessage,
    Task,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
    join,
    join_turns,
    split_results,
    task_id,
    with_origins,
)
from openreward_gym.types.rollout import object_of, total_reward

_BESIDE = ("_rewards.jsonl", "_toolcalls.jsonl")
_LIMIT = re.compile(r"max_?(?:turns|steps|tokens|iterations)|time_?(?:d_?)?out|time_limit|deadline|token_limit|context")
_REASONS = ("stop_reason", "termination_reason", "exit_reason", "subtype")
_GOOGLE_ROLE = re.compile(r"\s+role='(?P<role>\w+)'\s*\Z")
_LONG_STRING = re.compile(r'"""(.*?)(?<!\\)"""', re.DOTALL)


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """Yield the trial of a file, or all trials of a folder, by name. A trial with a damaged line is read without that line."""
    for file in files_of(path, "no trial_*.jsonl there: is it firehorse's output folder?", ("**/trial_*.jsonl",)):
        if not file.name.endswith(_BESIDE):
            yield from _read_trial(file)


def _read_trial(file: Path) -> Iterator[Rollout | Damage]:
    trial = _Trial()
    content = b""
    for record in read_file(file):
        try:
            event = record.value
            if record.reason:
                raise ValueError(record.reason)
            if not isinstance(event, dict):
                raise wrong("event", "an object", event)
            if not isinstance(event.get("type"), str) and not isinstance(event.get("msg"), Mapping):
                raise ValueError('no "type": this is not an event of firehorse')
            content += record.content
            trial.add(event)
        except UNREADABLE as error:
            reason = explain(error, record.value, _Trial().add)
            yield Damage(record.number, reason, str(file), unit=record.unit)
    if not content:
        return
    stem = file.stem.partition("_subagent_")[0]
    result, damages = _object_beside(file, f"{stem}_result.json")
    run, more = _object_beside(file, "run_result.json")
    yield from (*damages, *more)
    try:
        if not any(message.role == "assistant" for message in trial.messages):
            session, damages = _object_beside(file, f"{stem}_hermes_session.json")
            yield from damages
            trial.add_session(session)
        trial.add_rewards(file.with_name(f"{stem}_rewards.jsonl"))
        if trial.messages:
            yield checked(_rollout(file, identity(content, 0), trial, result, run))
    except UNREADABLE as error:
        yield Damage(0, reason_of(error), str(file))


def _object_beside(file: Path, name: str) -> tuple[dict[str, Json], list[Damage]]:
    """Return the object of a file beside a trial's, empty without one, and the damage of one that cannot be read."""
    place = file.with_name(name)
    try:
        return object_of(read_beside(place), "record"), []
    except FileNotFoundError:
        return {}, []
    except (OSError, *UNREADABLE) as error:
        return {}, [Damage(0, reason_of(error), str(place))]


class _Trial:
    """The events of a trial, read one after another."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.facts: dict[str, Json] = {}
        self.ending: dict[str, Json] = {}  # the last event in which a command line agent says how it ended
        self.has_summary = False
        self.compactions: list[Json] = []
        self._answer_id: Json = None
        self._call_counts: dict[str, Json] = {}

    def add(self, event: Mapping[str, Json]) -> None:
        """Add one event. Raw lines of a harness and the like have no messages."""
        kind = event.get("type")
        if kind == "assistant" and isinstance(event.get("message"), Mapping):
            self._add_claude(event["message"])
            return
        self._answer_id = None
        if kind == "tool_results":
            self._add_results(event)
        elif kind in ("compaction", "micro_compaction"):
            self.compactions.append(dict(event))
        elif kind == "openreward_tool_correlation":
            self._call_counts[str(event.get("tool_use_id"))] = event.get("mcp_call_count")
        elif kind in ("result", "turn.failed", "error"):
            self.ending = dict(event)
        elif isinstance(event.get("item"), Mapping):
            self._add_codex_item(event["item"], is_complete=kind == "item.completed")
        elif kind == "message":
            self._add_delta(event)
        else:
            self.messages += [m for m in _messages(event) if not self._is_known(m)]
        if isinstance(kind, str) and kind.startswith("openreward_"):
            self.has_summary = self.has_summary or kind == "openreward_summary"
            self.facts |= event

    def _is_known(self, message: Message) -> bool:
        """Return whether a message repeats an earlier one: a call that its turn has too, or the prompt."""
        if message.role == "user":
            return not any(m.role == "assistant" for m in self.messages) and message in self.messages
        calls = message.tool_calls if len(message.blocks) == 1 else ()
        return bool(calls) and any(
            calls[0].call_id and calls[0].call_id == c.call_id for m in self.messages for c in m.tool_calls
        )

    def _add_claude(self, data: Mapping[str, Json]) -> None:
        """Add an event of Claude Code, which has one block of a turn; those of one turn have the same id."""
        (message,) = from_anthropic({"role": "assistant", **data})
        if data.get("id") and data["id"] == self._answer_id:
            self.messages[-1] = join(self.messages[-1], message)
        else:
            self.messages.append(message)
        self._answer_id = data.get("id")

    def _add_results(self, event: Mapping[str, Json]) -> None:
        """Add results as the model read them, instead of the events without a text that logged their rewards before."""
        raw = _python_value(event["raw"]) if isinstance(event["raw"], str) else event["raw"]
        if raw is None:
            self.messages.append(UserMessage([opaque({"type": "python", "text": event["raw"]})]))
            return
        read = from_gemini if "parts" in raw else from_anthropic
        results = [result for message in read(raw) for result in split_results(message)]
        for position, result in enumerate(results):
            for worth in [m for m in self.messages if m.role == "tool" and not m.text and _are_same(m, result)][:1]:
                results[position] = result.replace(reward=worth.reward, finished=worth.finished, name=worth.name)
                self.messages = [message for message in self.messages if message is not worth]
        self.messages += results

    def _add_codex_item(self, item: Mapping[str, Json], *, is_complete: bool) -> None:
        kind, call_id = item.get("type"), str(item.get("id") or "")
        if kind in ("mcp_tool_call", "command_execution"):
            is_mcp = kind == "mcp_tool_call"
            arguments = item.get("arguments") if is_mcp else {"command": item.get("command")}
            name = str(item.get("tool") or "") if is_mcp else "shell"
            if not any(call.call_id == call_id for message in self.messages for call in message.tool_calls):
                self.messages.append(AssistantMessage([tool_call(name, arguments, call_id)]))
            if is_complete:
                output = item.get("result") or item.get("error") or "" if is_mcp else item.get("aggregated_output") or ""
                self.messages.append(ToolMessage(_mcp_text(output), call_id, name, is_error=item.get("status") == "failed"))
        elif is_complete and kind == "agent_message":
            self.messages.append(AssistantMessage(str(item.get("text") or "")))
        elif is_complete and kind in ("reasoning", "agent_reasoning"):
            self.messages.append(AssistantMessage([ReasoningItem(item.get("text"), summary=item.get("summary") or None)]))
        elif is_complete:
            self.messages.append(AssistantMessage([opaque(item)]))

    def _add_delta(self, event: Mapping[str, Json]) -> None:
        """Add a piece of the Gemini CLI's answer, or its echo of the prompt."""
        role, text = event.get("role"), str(event.get("content") or "")
        if role != "assistant":
            message = UserMessage(text)
            self.messages += [] if self._is_known(message) else [message]
        elif text:
            last = self.messages[-1] if self.messages else None
            if event.get("delta") and last and last.role == "assistant" and last.text and not last.tool_calls:
                self.messages[-1] = AssistantMessage(last.text + text)
            else:
                self.messages.append(AssistantMessage(text))

    def add_session(self, session: Mapping[str, Json]) -> None:
        """Add the messages of a session that Hermes exported."""
        system = session.get("system_prompt")
        if isinstance(system, str) and system and not any(message.role == "system" for message in self.messages):
            self.messages.insert(0, SystemMessage(system))
        for data in session.get("messages") or ():
            calls = [{**call, "id": call.get("call_id") or call.get("id")} for call in data.get("tool_calls") or ()]
            fields = {name: data.get(name) for name in ("role", "content", "reasoning", "reasoning_content", "tool_call_id")}
            (message,) = from_openai(rest_of({**fields, "tool_calls": calls or None, "name": data.get("tool_name")}))
            if not (message.role == "user" and self._is_known(message)):
                self.messages.append(message)

    def add_rewards(self, file: Path) -> None:
        """Add the rewards of a file beside the trial's to the results, by the counts of their calls."""
        if not self._call_counts or not file.exists():
            return
        try:
            records = [record.value for record in read_file(file) if isinstance(record.value, dict)]
        except StoreError:
            return  # the rollout's own reward is in the summary
        rewards = {label_of(record.get("call_count")): record for record in records}
        for position, message in enumerate(self.messages):
            record = rewards.get(label_of(self._call_counts.get(message.call_id or "")))
            if message.role == "tool" and record is not None:
                is_finished = bool(record.get("finished"))
                self.messages[position] = message.replace(reward=number(record, "reward"), finished=is_finished)


def _are_same(logged: Message, result: Message) -> bool:
    """Return whether an event that logged a reward is of a result. Google's events have no ids, only names."""
    return logged.call_id == result.call_id if logged.call_id else logged.name == result.name


def _messages(event: Mapping[str, Json]) -> list[Message]:
    """Return the messages of one event."""
    kind, content = event.get("type"), event.get("content")
    if kind == "openreward_prompt":
        system, prompt = event.get("system_prompt"), event.get("environment_prompt")
        messages: list[Message] = [SystemMessage(str(system))] if system and system != "default" else []
        return [*messages, *([UserMessage(str(prompt))] if prompt else [])]
    if kind in ("system", "user") and isinstance(content, str):
        return [SystemMessage(content) if kind == "system" else UserMessage(content)]
    if kind == "user" and isinstance(event.get("message"), Mapping):
        return [result for message in from_anthropic({"role": "user", **event["message"]}) for result in split_results(message)]
    if kind == "assistant":
        return [_assistant(event)]
    if kind in ("tool_call", "tool_use"):
        name = str(event.get("tool_name") or event.get("name") or "")
        call_id = next((event[key] for key in ("id", "call_id", "tool_call_id", "tool_id") if event.get(key)), None)
        return [AssistantMessage([tool_call(name, event.get("arguments", event.get("parameters")), call_id)])]
    if kind == "tool_result":
        return [_result(event)]
    message = event["msg"] if isinstance(event.get("msg"), Mapping) else event
    return _codex_messages(message)


def _codex_messages(data: Mapping[str, Json]) -> list[Message]:
    """Return the messages of an event of older versions of Codex; other events have none."""
    kind = data.get("type")
    call: Mapping[str, Json] = data["invocation"] if isinstance(data.get("invocation"), Mapping) else {}
    call_id = str(data.get("call_id") or call.get("call_id") or "")
    if kind == "agent_message":
        return [AssistantMessage(str(data.get("message") or ""))]
    if kind == "agent_reasoning":
        return [AssistantMessage([ReasoningItem(data.get("text"), summary=data.get("summary") or None)])]
    if kind == "mcp_tool_call_begin":
        name = str(call.get("tool") or call.get("tool_name") or call.get("name") or "")
        return [AssistantMessage([tool_call(name, call.get("arguments", call.get("input")), call_id)])]
    if kind == "exec_command_begin":
        return [AssistantMessage([tool_call("shell", rest_of(data, "type", "call_id"), call_id)])]
    if kind == "mcp_tool_call_end":
        return [ToolMessage(_mcp_text(data.get("result") or ""), call_id)]
    if kind == "exec_command_end":
        return [ToolMessage(str(data.get("aggregated_output") or data.get("stdout") or ""), call_id, "shell")]
    return []


def _mcp_text(result: Json) -> str:
    """Return the text of a result of an MCP server."""
    if isinstance(result, Mapping):
        result = result.get("Ok", result)
    parts = result.get("content") if isinstance(result, Mapping) else None
    texts = [str(part.get("text") or "") for part in parts or () if part.get("type") == "text"]
    return "".join(texts) if texts else json_text(result)


def _assistant(event: Mapping[str, Json]) -> Message:
    raw = event.get("raw")
    if isinstance(raw, list):
        (message,) = OpenAIResponsesDialect().read(raw)
        # react logs OpenAI's calls without arguments, and its texts not at all.
        unknown = {item.get("call_id") for item in raw if item.get("type") == "function_call" and "arguments" not in item}
        is_partial = unknown or any(item.get("type") == "message" and "content" not in item for item in raw)
        blocks = [
            ToolCall(block.name, None, block.call_id) if isinstance(block, ToolCall) and block.call_id in unknown else block
            for block in message.blocks
        ]
        message = message.replace(blocks=tuple(blocks), weight=0.0 if is_partial else None)
    elif isinstance(raw, str):
        value = _python_value(raw)
        if value is None:
            return AssistantMessage([opaque({"type": "python", "text": raw})], weight=0.0)
        (message,) = from_gemini({**value, "role": "model"})
    elif raw:
        message = parse_action({"role": "assistant", **raw})
    else:
        calls = [_call(call) for call in event.get("tool_calls") or ()]
        message = AssistantMessage(event.get("text_content") or "", calls, reasoning=event.get("reasoning_content"))
    tokens = _tokens(event)
    if tokens is None:
        return message
    return message.replace(sampled=dataclasses.replace(message.sampled or Sampled(), usage=tokens))


def _python_value(text: str) -> dict[str, Json] | None:
    """Return the message that react logged as Python's text of an object of Google's SDK; None if it was shortened."""
    role = _GOOGLE_ROLE.search(text)
    source = text[: role.start()] if role else text
    # The SDK writes strings of several lines as they are, between three quotes.
    source = _LONG_STRING.sub(lambda found: repr(found[1].replace('\\"\\"\\"', '"""')), source)
    try:
        arguments = ast.parse(f"message({source})", mode="eval").body
        value = plain(_literal(arguments))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    return {**value, "role": role["role"] if role else "model"} if "parts" in value else None


def _literal(node: ast.AST) -> Any:
    """Return the value of an expression of literals; an object is the dictionary of its fields."""
    if isinstance(node, ast.Call) and not node.args:
        return {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {_literal(key): _literal(item) for key, item in zip(node.keys, node.values, strict=True) if key is not None}
    return ast.literal_eval(node)


def _call(call: Mapping[str, Json]) -> ToolCall:
    return tool_call(call["name"], call.get("arguments"), call.get("id") or call.get("call_id"))


def _result(event: Mapping[str, Json]) -> Message:
    raw = event["raw"] if isinstance(event.get("raw"), Mapping) else {}
    output = event.get("output") or raw.get("output") or raw.get("content") or event.get("content") or ""
    names = ("call_id", "tool_call_id", "tool_use_id", "tool_id")
    ids = [part.get(name) for part in (event, raw) for name in names]
    reward = event.get("reward")
    return ToolMessage(
        json_text(output),
        next((str(value) for value in ids if value), None),
        event.get("tool_name"),
        event.get("status") == "error",
        reward=None if reward is None else float(reward),
        finished=bool(event.get("finished")),
    )


def _tokens(data: Mapping[str, Json]) -> Usage | None:
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens")
    counts = [integer(data, name) for name in names]
    return None if total(*counts) is None else Usage(counts[0], counts[1], counts[2])


def _rollout(file: Path, trial_id: str, trial: _Trial, result: Mapping[str, Json], run: Mapping[str, Json]) -> Rollout:
    """Return the rollout of a trial, with the objects of its result and its run, which are empty where there are none."""
    messages = with_origins(join_turns(trial.messages))
    entry = _entry(result, trial.facts, run)
    facts = {**rest_of(run, "trials"), **rest_of(entry), **rest_of(result), **rest_of(trial.facts)}
    bridge = facts["bridge_result"] if isinstance(facts.get("bridge_result"), Mapping) else {}
    reward, final_reward = total_reward(messages)
    is_subagent = "_subagent_" in file.stem
    if reward is None and not is_subagent:
        final_reward = _first_number(facts, "final_reward", "reward")
        final_reward = number(bridge, "last_reward") if final_reward is None else final_reward
        totals = (_first_number(facts, "total_reward"), number(bridge, "total_reward"), final_reward)
        reward = next((value for value in totals if value is not None), None)
    status, stop_reason, error = _ending(facts, bridge, trial, messages, has_result=bool(result))
    environment, variant = str(facts.get("env") or facts.get("environment") or ""), facts.get("variant")
    split, spec, index = facts.get("split"), facts.get("task_spec"), facts.get("task_index")
    usage = facts["usage"] if isinstance(facts.get("usage"), Mapping) else {}
    is_named = isinstance(spec, dict) or index is not None
    task = task_id(
        environment, split, spec if isinstance(spec, dict) else None if is_named else {"file": file.stem}, index, variant
    )
    kept = {key: value for key, value in facts.items() if key not in ("type", "system_prompt", "environment_prompt")}
    return Rollout(
        id=str(facts["rollout_id"] if facts.get("rollout_id") and not is_subagent else trial_id),
        run=str(facts.get("run_name") or ""),
        name=file.stem,
        environment=RolloutEnvironment(name=environment, variant=variant, split=split),
        task=Task(index=index, spec=spec if isinstance(spec, dict) else None, id=task),
        group=None if is_subagent else task,
        model={"name": facts["model"]} if facts.get("model") else None,
        messages=messages,
        reward=reward,
        final_reward=final_reward,
        status=status,
        stop_reason=stop_reason,
        error=error,
        usage=_tokens({**(trial.ending.get("usage") or {}), **rest_of(usage)}),
        cost_usd=next((c for c in (number(usage, "cost_usd"), number(facts, "cost_usd")) if c is not None), None),
        metadata={"firehorse": rest_of({**kept, "compactions": trial.compactions or None, "ending": trial.ending or None})},
    )


def _entry(result: Mapping[str, Json], facts: Mapping[str, Json], run: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return a trial's entry in the results of its run: the one with its task; empty if there is none."""
    spec, identity_of_task = facts.get("task_spec"), result.get("task_id")
    entries = [entry for entry in run.get("trials") or () if isinstance(entry, Mapping)]
    matches = [entry for entry in entries if spec is not None and entry.get("task_spec") == spec]
    matches = matches or [entry for entry in entries if identity_of_task is not None and entry.get("task_id") == identity_of_task]
    return matches[0] if len(matches) == 1 else {}


def _first_number(facts: Mapping[str, Json], *names: str) -> float | None:
    return next((float(facts[name]) for name in names if facts.get(name) is not None), None)


def _ending(
    facts: Mapping[str, Json], bridge: Mapping[str, Json], trial: _Trial, messages: list[Message], *, has_result: bool
) -> tuple[Status, str, str | None]:
    """Return (status, stop reason, error)."""
    if facts.get("finished") is True or bridge.get("finished") is True or any(message.finished for message in messages):
        return "completed", "finished", None
    reason = next((str(source[key]) for source in (facts, trial.ending) for key in _REASONS if source.get(key)), "")
    error = facts.get("error") or trial.ending.get("error") or (trial.ending.get("message") if reason != "success" else None)
    if isinstance(error, Mapping):
        error = error.get("message") or json_text(dict(error))
    if facts.get("mcp_failed") and not error:
        error = "the environment's MCP server failed to connect"
    if match := _LIMIT.search(reason.lower()):
        return "truncated", match[0] if reason.startswith("error_") else reason, None
    if error or trial.ending.get("is_error") or trial.ending.get("type") in ("error", "turn.failed"):
        text = str(error or trial.ending.get("result") or reason)
        return ("truncated", "deadline", text) if "timed out" in text.lower() else ("error", reason, text)
    if not trial.has_summary and not has_result and trial.ending.get("type") != "result":
        return "cancelled", "", None
    is_answer = bool(messages) and messages[-1].role == "assistant" and not messages[-1].tool_calls
    # resum goes on after a message, so that only its limit of turns ends it; react ends with one.
    if is_answer and facts.get("agent") != "resum":
        return "completed", "message", None
    if facts.get("agent") in ("react", "resum") and has_result:
        return "truncated", "max_turns", None
    return ("truncated", "", None) if is_answer or facts.get("agent") else ("cancelled", "", None)
