"""A rollout that is logged message by message, in the format of any provider."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import NoneType, TracebackType
from typing import Any

from openreward_gym.chat import OpenAIResponsesDialect, from_anthropic, from_gemini, from_openai
from openreward_gym.chat.dialect import has_report
from openreward_gym.chat.failures import error_text, has_content, is_withheld
from openreward_gym.chat.plain import plain, shown
from openreward_gym.errors import ConfigurationError, MessageError
from openreward_gym.jsonio import Json
from openreward_gym.platform.events import SAMPLING, message_events
from openreward_gym.platform.references import ANTHROPIC, RESPONSES, with_prefix
from openreward_gym.processes import ProcessBound
from openreward_gym.recording.printing import print_messages
from openreward_gym.recording.request import add_request
from openreward_gym.redaction import RecordRedactor
from openreward_gym.store import RolloutStore
from openreward_gym.suggestions import suggests_options
from openreward_gym.types import (
    Message,
    Origin,
    ReasoningItem,
    Rollout,
    Status,
    ToolCall,
    ToolResult,
    is_continuation,
    join,
    split_results,
    task_id,
    with_origins,
)
from openreward_gym.types.rollout import now_iso, total_cost, total_reward, total_usage

_FACTS: Mapping[str, type] = {"task_index": int, "current_step": int, "env_version": str}


class RolloutLog(ProcessBound):
    """A rollout that is being logged. Thread-safe.

    It belongs to the process that made it: in a forked child logging raises ConfigurationError, and closing changes nothing.

    In a `with` block, an exception that leaves the block ends the rollout as an error.

    A message that is logged without an `origin` gets it by these rules: assistant messages are the policy's; everything before
    the first of them is given; later messages of other roles are the environment's. If some assistant messages carry a
    provider's report (usage, model, ids, stop reason), earlier ones without a report are given too: few-shot turns and history.

    Pieces of a turn that are logged one after the other, such as reasoning, text and calls, become one message; their order
    stays. A message with a provider's report, a reward or metadata is complete, and two texts in a row are two messages.

    Attributes:
        ends_when_finished: Whether a message with `is_finished=True` ends the rollout. If not, more may be logged until `close`.
    """

    _noun = "rollout log"
    _instead = "make another recorder in this process, which may record into the same folder"

    def __init__(
        self,
        store: RolloutStore,
        rollout: Rollout,
        *,
        print_messages: bool,
        on_end: Callable[[RolloutLog], None],
        redactor: RecordRedactor | None = None,
    ) -> None:
        self.store = store
        self._on_end = on_end
        self._rollout = rollout
        self._print = print_messages
        self._redactor = redactor
        self._running = store.recording(redactor)
        self._lock = threading.RLock()
        self._closed = False
        self.ends_when_finished = True

    def __repr__(self) -> str:
        if "_closed" not in vars(self):
            return "<RolloutLog, not made>"
        return f"<RolloutLog {'closed' if self._closed else 'open'}: {self._rollout!r}>"

    @property
    def rollout_id(self) -> str:
        return self._rollout.id

    event_id = rollout_id

    @property
    def logged_messages(self) -> int:
        """The number of events that the logged messages are for the platform: one per text, reasoning, call or result."""
        with self._lock:
            return sum(len(message_events(message)) for message in self._rollout.messages)

    @property
    def rollout(self) -> Rollout:
        """The record as it stands."""
        return self._rollout

    @suggests_options
    def log(
        self,
        message: Message | ReasoningItem | ToolCall | ToolResult,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Json] | None = None,
        rollout_info: Any = None,
        *,
        origin: Origin | None = None,
    ) -> None:
        """Log a UserMessage, AssistantMessage, SystemMessage, ReasoningItem, ToolCall or ToolResult.

        Reasoning, text and calls that follow each other become one turn.

        Args:
            message: The message. A ToolCall's `content` is its arguments' JSON.
            reward: The reward that came with it; None for the message's own, if it has one.
            is_finished: Whether the episode ended with it. If so, the rollout is written and nothing may be logged after it.
            metadata: Free data, kept with it.
            rollout_info: Facts about the rollout (`task_index`, `current_step`, `temperature`, ...), a mapping or a dataclass.
            origin: The side that produced the message; None for the rules of the class.

        Raises:
            ConfigurationError: The rollout has ended, or a reward or a fact about the rollout has a wrong type.
            MessageError: It is not one of these messages.
            StoreError: The rollout could not be written.
        """
        if isinstance(message, ReasoningItem | ToolCall):
            message = Message("assistant", (message,))
        elif isinstance(message, ToolResult):
            (message,) = split_results(Message("tool", (message,)))
        elif not isinstance(message, Message):
            raise MessageError(
                f"{shown(message)} is not a message: give a UserMessage, AssistantMessage, SystemMessage, ReasoningItem, "
                "ToolCall or ToolResult of openreward_gym, or use the log_... method of your model's provider"
            )
        self._add([message], reward, is_finished, metadata, rollout_info, origin)

    def log_openai_completions(
        self,
        message: Any,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Json] | None = None,
        rollout_info: Any = None,
        *,
        origin: Origin | None = None,
    ) -> None:
        """Log an OpenAI chat message (or a list, or a whole `ChatCompletion`), a dictionary or an SDK's object; else as `log`.

        The chunks of a streamed answer are logged as one list or iterator, and become one message; a single chunk is a
        MessageError. An error that the provider sends in place of an answer is a message without words that `ended` as "error".
        Of several messages, the last has the reward, the end and the metadata. A value that is refused leaves the log as it was.
        """
        self._add(from_openai(message), reward, is_finished, metadata, rollout_info, origin)

    def log_openai_response(
        self,
        message: Any,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Json] | None = None,
        rollout_info: Any = None,
        *,
        origin: Origin | None = None,
    ) -> None:
        """Log an item of an OpenAI response (or a list, or a whole `Response`); else as `log_openai_completions`.

        A whole `Response` repeats its request. Its instructions become a given system message if the rollout has none yet, its
        tools the rollout's `tools`, and its parameters the rollout's `sampling`; values that differ from the rollout's are kept
        in the message's `sampled.metadata["request"]`.
        """
        dialect = OpenAIResponsesDialect(self._model_name(), request=True)
        self._add(with_prefix(dialect.read(message), RESPONSES), reward, is_finished, metadata, rollout_info, origin)

    def log_anthropic_message(
        self,
        message: Any,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Json] | None = None,
        rollout_info: Any = None,
        *,
        origin: Origin | None = None,
    ) -> None:
        """Log an Anthropic message (or a list, or a whole answer); else as `log_openai_completions`."""
        self._add(with_prefix(from_anthropic(message), ANTHROPIC), reward, is_finished, metadata, rollout_info, origin)

    def log_gdm_message(
        self,
        message: Any,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Json] | None = None,
        rollout_info: Any = None,
        *,
        origin: Origin | None = None,
    ) -> None:
        """Log a Gemini `Content` (or a list, or a whole `GenerateContentResponse`); else as `log_openai_completions`."""
        self._add(from_gemini(message), reward, is_finished, metadata, rollout_info, origin)

    def _model_name(self) -> str | None:
        """Return the name of the model as far as it is known: of the rollout, or of its last answer that names one."""
        name = (self._rollout.model or {}).get("name")
        names = (message.sampled.model for message in reversed(self._rollout.messages) if message.sampled is not None)
        return name if isinstance(name, str) else next(filter(None, names), None)

    def _add(
        self,
        messages: list[Message],
        reward: float | None,
        is_finished: bool | None,
        metadata: Mapping[str, Json] | None,
        rollout_info: Any,
        origin: Origin | None,
    ) -> None:
        self._check_process()
        now = now_iso()
        parts = [p.replace(origin=origin or p.origin, ended_at=p.ended_at or now) for m in messages for p in split_results(m)]
        if not parts:
            return
        info, free_data = mapping_of(rollout_info), mapping_of(metadata, keep_none=True)
        last = parts[-1]
        merged = {**(last.metadata if isinstance(last.metadata, dict) else {}), **free_data} if free_data else last.metadata
        # What a message of the history earned, or ended, belongs to another rollout.
        own_reward, own_end = (None, False) if last.origin == "given" else (last.reward, last.finished)
        final_reward = own_reward if reward is None else _reward(reward)
        parts[-1] = last.replace(reward=final_reward, finished=own_end or bool(is_finished), metadata=merged)
        with self._lock:
            if self._closed:
                raise ConfigurationError(
                    f"rollout {self.rollout_id} has ended: log everything before (or with) the message that has is_finished=True"
                )
            self._update(info)
            transcript = self._rollout.messages
            first = len(transcript)
            for part in parts:
                if part.sampled is not None and "request" in (part.sampled.metadata or {}):
                    part = add_request(self._rollout, part)
                if transcript and is_continuation(part, transcript[-1]):
                    first = min(first, len(transcript) - 1)
                    transcript[-1] = join(transcript[-1], part)
                else:
                    transcript.append(part)
            if self._print:
                print_messages(self.rollout_id, parts, self._redactor)
            if is_finished and self.ends_when_finished:
                self.close()
            else:
                self._running.write(lambda: self._rollout, first, transcript[first:])

    def _update(self, info: dict[str, Json]) -> None:
        for name, kind in _FACTS.items():
            if type(info.get(name)) not in (kind, NoneType):
                raise ConfigurationError(f"{name} in rollout_info must be of type {kind.__name__}, not {shown(info[name])}")
        rollout = self._rollout
        if (index := info.pop("task_index", None)) is not None:
            environment, spec = rollout.environment, rollout.task.spec
            identity = task_id(environment.name, environment.split, spec, index, environment.variant)
            rollout.task = replace(rollout.task, index=index, id=identity)
        rollout.step = info.pop("current_step", rollout.step)
        rollout.environment.server_version = info.pop("env_version", rollout.environment.server_version)
        sampling = {name: info.pop(name) for name in SAMPLING if name in info}
        if sampling:
            rollout.sampling = {**(rollout.sampling or {}), **sampling}
        model = model_of(info)
        if model and "name" not in (rollout.model or {}):
            rollout.model = {**model, **(rollout.model or {})}
        if info:
            rollout.metadata = {**(rollout.metadata or {}), **info}

    def close(self, status: Status | None = None, stop_reason: str | None = None, error: str | None = None) -> None:
        """End the rollout and write it. A rollout without messages is not written, and closing again does nothing.

        Args:
            status: The state at the end. By default: completed after a message with `is_finished=True` or a last message of the
                assistant without calls, otherwise cancelled. In both cases truncated if a filter or the provider withheld the
                last message or the token limit cut it off, and error if the provider failed or its answer is empty.
            stop_reason: The reason of the end. By default "finished", "message", "cancelled", "policy_failed", or how the last
                message ended; empty with a `status`.
            error: The message of a failure. By default the provider's, if it failed; None without one.

        Raises:
            StoreError: It could not be written; it stays open.
        """
        if self._is_foreign:
            return
        with self._lock:
            if self._closed:
                return
            rollout = self._rollout
            messages = rollout.messages = _with_origins(rollout.messages)
            if "name" not in (rollout.model or {}) and (name := answering_model(messages)):
                rollout.model = {"name": name, **(rollout.model or {})}
            ending, default_reason = _ending(messages) if status is None else (status, "")
            rollout.status = ending
            rollout.stop_reason = default_reason if stop_reason is None else stop_reason
            rollout.error = error_text(messages[-1]) if status is None and error is None and ending == "error" else error
            rollout.ended_at = now_iso()
            rollout.reward, rollout.final_reward = total_reward(messages)
            rollout.usage = total_usage(messages)
            rollout.cost_usd = total_cost(messages)
            if messages:
                self.store.append(rollout)
            self._running.remove()
            self._closed = True
        self._on_end(self)

    def __enter__(self) -> RolloutLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is None:
            self.close()
        elif isinstance(error, Exception):
            self.close("error", "policy_failed", f"{type(error).__name__}: {error}")
        else:
            self.close("cancelled", "cancelled", type(error).__name__)


def _with_origins(messages: list[Message]) -> list[Message]:
    """Return `messages` with an origin each, by the rules of `RolloutLog`; an origin that is set stays."""
    first = next((n for n, message in enumerate(messages) if message.role == "assistant" and has_report(message)), 0)
    history = [m.replace(origin="given") if _is_history(m) else m for m in messages[:first]]
    return with_origins(history + messages[first:])


def _is_history(message: Message) -> bool:
    return message.role == "assistant" and message.origin is None and message.ended != "error"


def answering_model(messages: list[Message]) -> str | None:
    """Return the model that answered, if all turns of the policy that name one name the same."""
    names = {m.sampled.model for m in messages if m.origin == "policy" and m.sampled is not None and m.sampled.model}
    return names.pop() if len(names) == 1 else None


def model_of(info: dict[str, Json]) -> dict[str, Json]:
    """Remove the name of the model from run or rollout info, and return it as a record's `model`; empty without a name."""
    names = [info[key] for key in ("name", "model_name", "model") if isinstance(info.get(key), str) and info[key]]
    for key in ("name", "model_name", "model"):
        if names and info.get(key) == names[0]:
            del info[key]
    fields = info.pop("model") if isinstance(info.get("model"), dict) else {}
    return {**fields, **({"name": names[0]} if names else {})}


def _ending(messages: list[Message]) -> tuple[Status, str]:
    last = messages[-1] if messages else None
    if last is not None and last.role == "assistant":
        if is_withheld(last) or (last.ended == "length" and not last.finished):
            return "truncated", str(last.ended)
        is_empty = not any(map(has_content, last.blocks)) and not _has_media(last)
        if last.ended == "error" or (is_empty and (last.ended is not None or not last.finished)):
            return "error", "policy_failed"
    if any(message.finished for message in messages):
        return "completed", "finished"
    return ("cancelled", "cancelled") if last is None or last.role != "assistant" or last.tool_calls else ("completed", "message")


def _has_media(message: Message) -> bool:
    """Return whether the answer is speech or pictures, which a chat completion has beside its content."""
    fields = (message.sampled.metadata or {}) if message.sampled is not None else {}
    return bool(fields.get("audio") or fields.get("images"))


def _reward(value: object) -> float | None:
    try:
        return None if value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ConfigurationError(f"a reward is a number or None, not {shown(value)}") from None


def mapping_of(info: Any, *, keep_none: bool = False) -> dict[str, Json]:
    """Return data of the caller, a mapping or a dataclass, as a dictionary; by default without its None values.

    Raises:
        MessageError: It is something else, or has a value that is not JSON.
    """
    if info is None:
        return {}
    try:
        data = plain(info)
    except (TypeError, RecursionError) as error:
        raise MessageError(f"{shown(info)} is not JSON data: {error}") from None
    if not isinstance(data, Mapping):
        raise MessageError(f"{shown(info)} is neither a mapping nor a dataclass")
    return {name: value for name, value in data.items() if keep_none or value is not None}
