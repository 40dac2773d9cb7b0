"""Every episode that runs through an env becomes a line of a store."""

from __future__ import annotations

import atexit
import importlib.metadata
import os
import weakref
from collections.abc import Mapping
from typing import Any

import gymnasium

from openreward_gym.envs.env import Observation, StepResult
from openreward_gym.envs.episode import Episode, Step
from openreward_gym.envs.observations import Info
from openreward_gym.types.conversion import (
    message_records,
    origin_of,
    result_record,
    terminal_tool_record,
    tool_record,
    total_cost,
    total_reward,
    total_usage,
)
from openreward_gym.types.rollout import EnvironmentRecord, MessageRecord, Rollout, Status, TaskRecord, Timing, now_iso, task_id
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import Json, UserMessage
from openreward_gym.wrappers.base import Wrapper

_VERSION = importlib.metadata.version("openreward-gym")  # once: it is read from the disk
_recording: weakref.WeakSet[RecordRollouts] = weakref.WeakSet()


class RecordRollouts(Wrapper):
    """Records every episode, whatever the policy: what the env saw and said, and what the policy told with its actions.

    A rollout is written when its episode ends. One that is left before its end (by `reset`, `close`, an exception that
    ends the program, or its exit) is written as it stands, with status "cancelled". An episode in which no step was
    taken is not written.

    Args:
        env: An OpenReward environment, wrapped or not.
        store: A `RolloutStore`, or the path of a run's folder.
        model: Run info of the policy (`name`, `checkpoint`, ...), kept in each rollout; None for none.
        sampling: Sampling parameters, kept likewise.
        metadata: Free data, kept likewise.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        store: RolloutStore | str | os.PathLike[str],
        *,
        model: Mapping[str, Json] | None = None,
        sampling: Mapping[str, Json] | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> None:
        self.store = store if isinstance(store, RolloutStore) else RolloutStore(store)
        super().__init__(env, store=self.store.path, model=model, sampling=sampling, metadata=metadata)
        self._owned = self.store is not store
        self._common = {"model": model, "sampling": sampling, "metadata": metadata}
        self._fields: dict[str, Any] = {}
        self._episode: Episode | None = None
        self._begun_with: dict[str, Any] = {}
        self._seen_return = 0.0
        self._pid = os.getpid()
        self.last_rollout: Rollout | None = None
        _recording.add(self)

    def describe(self, **fields: Any) -> None:
        """Set fields of the rollouts that begin from now on (`group`, `sample`, `attempt`, `name`, `step`, ...)."""
        self._fields = fields

    def on_reset(self, observation: Observation, info: Info) -> tuple[Observation, Info]:
        self._leave()
        self._episode = self.unwrapped.episode
        self._begun_with = dict(self._fields)
        self._seen_return = 0.0
        return observation, info

    def on_step(self, action: Any, result: StepResult) -> StepResult:
        _, reward, terminated, truncated, info = result
        self._seen_return += float(reward)
        if terminated or truncated:
            self._write(terminated, truncated, str(info.get("stop_reason", "")))
        return result

    def on_close(self) -> None:
        self._leave()
        if self._owned:
            self.store.close()

    def _leave(self) -> None:
        """Write an episode that was left before its end."""
        episode = self._episode
        if episode is None or not episode.steps or os.getpid() != self._pid:
            self._episode = None
            return
        last = episode.steps[-1]
        self._write(last.terminated, last.truncated, str(last.stop_reason))

    def _write(self, terminated: bool, truncated: bool, stop_reason: str) -> None:
        episode, self._episode = self._episode, None
        if episode is None:
            return
        given = {name: value if value is None else dict(value) for name, value in self._common.items()}
        fields = {**given, **self._begun_with}
        rollout = rollout_of(episode, terminated=terminated, truncated=truncated, stop_reason=stop_reason, **fields)
        if rollout.reward is not None and rollout.reward != self._seen_return:
            # A wrapper between us and the env changed rewards: the record keeps the env's, and says what was seen.
            rollout.metrics = {**(rollout.metrics or {}), "wrapped_return": self._seen_return}
        self.store.append(rollout)
        self.last_rollout = rollout


@atexit.register
def _record_what_is_left() -> None:
    for recorder in list(_recording):
        recorder._leave()


def rollout_of(
    episode: Episode,
    *,
    terminated: bool | None = None,
    truncated: bool | None = None,
    stop_reason: str | None = None,
    **fields: Any,
) -> Rollout:
    """The record of an episode as it stands.

    Args:
        episode: What happened.
        terminated, truncated, stop_reason: How it ended as the caller saw it; None takes the last step's own word.
        **fields: Further fields of `Rollout`.
    """
    last = episode.steps[-1] if episode.steps else Step(action=None)  # type: ignore[arg-type]
    terminated = last.terminated if terminated is None else terminated
    truncated = last.truncated if truncated is None else truncated
    reason = last.stop_reason if stop_reason is None else stop_reason
    messages = [record for message in episode.prompt for record in message_records(message)]
    if messages and episode.started_at:
        messages[0].started_at = episode.started_at
    for step in episode.steps:
        messages.extend(_step_records(step))
    reward, final_reward = total_reward(message.reward for message in messages)
    return Rollout(
        **{
            "environment": _environment(episode),
            "task": _task(episode),
            "tools": [tool_record(tool) for tool in episode.tools] or None,
            "terminal_tool": terminal_tool_record(episode.tools.terminal),
            "messages": messages,
            "reward": reward,
            "final_reward": final_reward,
            "status": _status(terminated, truncated, last),
            "stop_reason": reason or ("" if terminated or truncated else "cancelled"),
            "error": last.error or None,
            "started_at": episode.started_at or None,
            "ended_at": episode.ended_at or now_iso(),
            "timing": Timing(
                reset_s=episode.reset_s,
                environment_s=sum(step.environment_s for step in episode.steps),
                policy_s=sum(step.policy_s for step in episode.steps),
            ),
            "usage": total_usage(messages),
            "cost_usd": total_cost(messages),
            "seed": episode.seed,
            "versions": {"openreward-gym": _VERSION},
            **{name: value for name, value in fields.items() if value is not None},
        }
    )


def _status(terminated: bool, truncated: bool, last: Step) -> Status:
    if terminated:
        return "completed"
    if not truncated or last.stop_reason == "cancelled":
        return "cancelled"
    # The episode ended by what infrastructure did, not by what was played.
    return "error" if last.error and last.stop_reason != "deadline" else "truncated"


def _environment(episode: Episode) -> EnvironmentRecord:
    return EnvironmentRecord(
        name=episode.environment,
        variant=episode.variant,
        split=episode.task.split or None,
        origin=origin_of(episode.base_url),
        server_version=episode.server_version,
    )


def _task(episode: Episode) -> TaskRecord:
    task = episode.task
    spec = None if task.spec is None else dict(task.spec)
    return TaskRecord(
        id=task_id(episode.environment, task.split or None, spec, task.index, episode.variant), index=task.index, spec=spec
    )


def _step_records(step: Step) -> list[MessageRecord]:
    said = message_records(step.action)
    said[-1].ended_at = step.started_at
    if step.annotations:
        metadata = said[-1].metadata
        said[-1].metadata = {**(metadata if isinstance(metadata, dict) else {}), **step.annotations}
    for result in step.results:
        said.append(result_record(result.call, result.output, started_at=result.started_at, ended_at=result.ended_at))
    if step.reply:
        said.extend(message_records(UserMessage(step.reply)))
    return said
