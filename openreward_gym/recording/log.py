"""One rollout, logged message by message."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from openreward_gym.chat.anthropic import from_anthropic
from openreward_gym.chat.completions import from_openai
from openreward_gym.chat.gemini import from_gemini
from openreward_gym.chat.plain import plain
from openreward_gym.chat.responses import from_openai_responses
from openreward_gym.errors import ConfigurationError
from openreward_gym.platform.events import SAMPLING
from openreward_gym.recording.console import echo
from openreward_gym.recording.turns import belongs, extended
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import Json, Message, ReasoningItem, ToolCall, ToolResult
from openreward_gym.types.conversion import message_records, total_cost, total_reward, total_usage
from openreward_gym.types.rollout import MessageRecord, Rollout, Status, ToolCallPart, now_iso, task_id


class RolloutLog:
    """One rollout being logged. Thread-safe; in a `with` block, an exception that leaves the block ends it as an error."""

    def __init__(
        self, store: RolloutStore, rollout: Rollout, *, print_messages: bool, on_end: Callable[[RolloutLog], None]
    ) -> None:
        self.store = store
        self._on_end = on_end
        self._rollout = rollout
        self._print = print_messages
        self._lock = threading.RLock()
        self._closed = False

    @property
    def rollout_id(self) -> str:
        return self._rollout.id

    event_id = rollout_id

    @property
    def rollout(self) -> Rollout:
        """The record as it stands."""
        return self._rollout

    def log(
        self,
        message: Message | ReasoningItem | ToolCall | ToolResult,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Json] | None = None,
        rollout_info: Any = None,
    ) -> None:
        """Log a UserMessage, AssistantMessage, SystemMessage, ReasoningItem, ToolCall or ToolResult.

        Reasoning, text and calls that follow each other become one turn.

        Args:
            message: What was said. A ToolCall's `content` is its arguments' JSON.
            reward: The reward that came with it; None for none.
            is_finished: Whether the episode ended with it: the rollout is written, and nothing may be logged after it.
            metadata: Free data, kept with it.
            rollout_info: What is known of the rollout by now (`task_index`, `current_step`, `temperature`, ...).

        Raises:
            ConfigurationError: The rollout has ended.
            TypeError: It is none of these messages.
            StoreError: The rollout could not be written.
        """
        if isinstance(message, ReasoningItem | ToolCall):
            message = Message("assistant", (message,))
        elif isinstance(message, ToolResult):
            message = Message("tool", (message,))
        elif not isinstance(message, Message):
            raise TypeError(
                f"{message!r} is not a message: give a UserMessage, AssistantMessage, SystemMessage, ReasoningItem, ToolCall "
                "or ToolResult of openreward_gym, or use the log_... method of your model's provider"
            )
        self._add([message], reward, is_finished, metadata, rollout_info)

    def log_openai_completions(
        self,
        message: Any,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Json] | None = None,
        rollout_info: Any = None,
    ) -> None:
        """Log an OpenAI chat message (or a list, or a whole `ChatCompletion`), a dictionary or an SDK's object; else as `log`.

        Of several messages, the last has the reward, the end and the metadata.
        """
        self._add(from_openai(message), reward, is_finished, metadata, rollout_info)

    def log_openai_response(
        self,
        message: Any,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Json] | None = None,
        rollout_info: Any = None,
    ) -> None:
        """Log an item of an OpenAI response (or a list, or a whole `Response`); else as `log_openai_completions`."""
        self._add(from_openai_responses(message), reward, is_finished, metadata, rollout_info)

    def log_anthropic_message(
        self,
        message: Any,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Json] | None = None,
        rollout_info: Any = None,
    ) -> None:
        """Log an Anthropic message (or a list, or a whole answer); else as `log_openai_completions`."""
        self._add(from_anthropic(message), reward, is_finished, metadata, rollout_info)

    def log_gdm_message(
        self,
        message: Any,
        reward: float | None = None,
        is_finished: bool | None = False,
        metadata: Mapping[str, Json] | None = None,
        rollout_info: Any = None,
    ) -> None:
        """Log a Gemini `Content` (or a list, or a whole `GenerateContentResponse`); else as `log_openai_completions`."""
        self._add(from_gemini(message), reward, is_finished, metadata, rollout_info)

    def _add(
        self,
        messages: list[Message],
        reward: float | None,
        is_finished: bool | None,
        metadata: Mapping[str, Json] | None,
        rollout_info: Any,
    ) -> None:
        records = [record for message in messages for record in message_records(message, ended_at=now_iso())]
        if not records:
            return
        last = records[-1]
        last.reward = None if reward is None else float(reward)
        last.finished = bool(is_finished)
        if metadata:
            last.metadata = {**(last.metadata if isinstance(last.metadata, dict) else {}), **plain(metadata)}
        with self._lock:
            if self._closed:
                raise ConfigurationError(
                    f"rollout {self.rollout_id} has ended: log everything before (or with) the message that has is_finished=True"
                )
            for record in records:
                self._append(record)
            self._learn(mapping_of(rollout_info))
            if self._print:
                echo(self.rollout_id, records)
            if is_finished:
                self.close()

    def _append(self, record: MessageRecord) -> None:
        messages = self._rollout.messages
        if messages and belongs(record, messages[-1]):
            messages[-1] = extended(messages[-1], record)
        else:
            messages.append(record)

    def _learn(self, info: dict[str, Json]) -> None:
        rollout = self._rollout
        if (index := info.pop("task_index", None)) is not None:
            environment = rollout.environment
            rollout.task.index = index
            rollout.task.id = task_id(environment.name, environment.split, rollout.task.spec, index, environment.variant)
        rollout.step = info.pop("current_step", rollout.step)
        rollout.environment.server_version = info.pop("env_version", rollout.environment.server_version)
        sampling = {name: info.pop(name) for name in SAMPLING if name in info}
        if sampling:
            rollout.sampling = {**(rollout.sampling or {}), **sampling}
        if info:
            rollout.metadata = {**(rollout.metadata or {}), **info}

    def close(self, status: Status | None = None, stop_reason: str | None = None, error: str | None = None) -> None:
        """End the rollout and write it; one without messages is not written. Closing again does nothing.

        Args:
            status: How it ended. By default: completed after a message with `is_finished=True` or a last message of the
                assistant without calls, otherwise cancelled.
            stop_reason: Why; by default "finished", "message" or "cancelled".
            error: The words of what went wrong, if anything did.

        Raises:
            StoreError: It could not be written; it stays open.
        """
        with self._lock:
            if self._closed:
                return
            rollout = self._rollout
            messages = rollout.messages
            default_status, default_reason = _ending(messages)
            rollout.status = status or default_status
            rollout.stop_reason = stop_reason if stop_reason is not None else default_reason if status is None else ""
            rollout.error = error
            rollout.ended_at = now_iso()
            rollout.reward, rollout.final_reward = total_reward(message.reward for message in messages)
            rollout.usage = total_usage(messages)
            rollout.cost_usd = total_cost(messages)
            if messages:
                self.store.append(rollout)
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


def _ending(messages: list[MessageRecord]) -> tuple[Status, str]:
    if any(message.finished for message in messages):
        return "completed", "finished"
    if messages and messages[-1].role == "assistant" and not any(isinstance(p, ToolCallPart) for p in messages[-1].blocks):
        return "completed", "message"
    return "cancelled", "cancelled"


def mapping_of(info: Any) -> dict[str, Json]:
    """Run or rollout info, a mapping or a dataclass, as a dictionary without its None values."""
    if info is None:
        return {}
    data = plain(info)
    if not isinstance(data, Mapping):
        raise TypeError(f"{info!r} is neither a mapping nor a dataclass")
    return {name: value for name, value in data.items() if value is not None}
