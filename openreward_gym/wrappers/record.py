"""Recording of every episode that an env plays."""

from __future__ import annotations

import atexit
import importlib.metadata
import os
import uuid
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium

from openreward_gym.suggestions import suggests_options
from openreward_gym.envs.episode import Episode, Step
from openreward_gym.envs.typed_dicts import InfoDict
from openreward_gym.jsonio import Json
from openreward_gym.checks import Check, integer, names, text
from openreward_gym.processes import process_id
from openreward_gym.recording.log import answering_model, model_of
from openreward_gym.redaction import RecordRedactor
from openreward_gym.store.running import RunningRollout
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import AssistantMessage, Message, Rollout, RolloutEnvironment, Status, Timing, task_id
from openreward_gym.types.rollout import now_iso, server_origin, total_cost, total_reward, total_usage
from openreward_gym.wrappers.base import Observation, StepResult, Wrapper

FIELD_CHECKS: Mapping[str, Check] = {
    "step": integer(optional=True),
    "group": text(optional=True),
    "sample": integer(optional=True),
    "attempt": integer(optional=True),
    "name": text(optional=True),
}
"""Checks of fields that a caller gives. A wrong value would make the run unreadable."""
_VERSION = importlib.metadata.version("openreward-gym")  # read once, because it is read from the disk


class RecordRollouts(Wrapper):
    """Record every episode with all its messages, whatever the policy.

    A rollout is written when its episode ends. An unfinished episode is written with status "cancelled" at the next `reset`,
    at `close` or when the program exits. An episode without steps is not written.

    Args:
        env: An OpenReward environment, wrapped or not.
        store: A `RolloutStore`, or the path of a run's folder.
        model: Run info of the policy (`name`, `checkpoint`, ...), written in each rollout. Without a name, the record's model has
            that of a `model` in `metadata`, else that of the model whose answers were the actions.
        sampling: Sampling parameters, likewise.
        metadata: Free JSON data, likewise.
        redact: Names of environment variables whose values are cut out of the record; see `RecordRedactor`. The secrets of the env's
            sessions and its API key always are.
        redact_patterns: Regular expressions whose matches are cut out as well.

    Example:
        >>> from openreward_gym import OpenRewardEnv, serve
        >>> with serve.local(["weather"]) as base_url:
        ...     env = RecordRollouts(OpenRewardEnv("weather", base_url=base_url), "runs/example")
        ...     observation, info = env.reset(seed=0)
        ...     result = env.step({"name": "get_weather", "arguments": {"city": "Seattle"}})
        ...     env.close()
        >>> env.last_rollout.status, len(env.last_rollout.messages)
        ('cancelled', 4)
    """

    @suggests_options
    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        store: RolloutStore | str | os.PathLike[str],
        *,
        model: Mapping[str, Json] | None = None,
        sampling: Mapping[str, Json] | None = None,
        metadata: Mapping[str, Json] | None = None,
        redact: Sequence[str] = (),
        redact_patterns: Sequence[str] = (),
    ) -> None:
        self.store = store if isinstance(store, RolloutStore) else RolloutStore(store)
        redaction = {"redact": list(redact), "redact_patterns": list(redact_patterns)} if redact or redact_patterns else {}
        super().__init__(env, store=self.store.path, model=model, sampling=sampling, metadata=metadata, **redaction)
        options = self.unwrapped.options
        own = [*(options.session.secrets_env or {}).values(), options.client.api_key_env]
        self._redactor = RecordRedactor(names("redact", redact) or (), names("redact_patterns", redact_patterns) or (), own=own)
        self._redaction = redaction
        self._owns_store = self.store is not store
        self._common = {"model": model, "sampling": sampling, "metadata": metadata}
        self._fields: dict[str, Any] = {}
        self._episode: Episode | None = None
        self._fields_at_reset: dict[str, Any] = {}
        self._seen_return = 0.0
        self._running: RunningRollout | None = None
        self._shown = 0
        self._pid = process_id()
        self._last_rollout: Rollout | None = None
        # Registered weakly: recording must not keep the env alive until the program exits.
        at_exit = partial(_write_unfinished, weakref.ref(self))
        atexit.register(at_exit)
        weakref.finalize(self, atexit.unregister, at_exit).atexit = False

    @property
    def last_rollout(self) -> Rollout | None:
        """The last rollout as it was written, with its images inside. None before the first one."""
        return None if self._last_rollout is None else self._redactor.rollout(self._last_rollout)

    def describe(self, **fields: Any) -> None:
        """Set fields (`group`, `sample`, `attempt`, `name`, `step`, ...) of the rollouts that begin from now on.

        Raises:
            ConfigurationError: A field has a value of a wrong type.
        """
        self._fields = {name: FIELD_CHECKS[name](name, value) if name in FIELD_CHECKS else value for name, value in fields.items()}

    def on_reset(self, observation: Observation, info: InfoDict) -> tuple[Observation, InfoDict]:
        self._write_unfinished()
        self._pid, self._episode = process_id(), self.unwrapped.episode
        self._fields_at_reset = {"id": str(uuid.uuid4()), **self._fields}
        self._seen_return = 0.0
        self._running = self.store.recording(self._redactor)
        self._shown = 0
        self._show(self._episode.prompt if self._episode is not None else ())
        return observation, info

    def on_step(self, action: Any, result: StepResult) -> StepResult:
        _, reward, terminated, truncated, info = result
        self._seen_return += float(reward)
        if not (terminated or truncated):
            if self._episode is not None and self._episode.steps:
                self._show(self._episode.steps[-1].messages)
        else:
            self._write(terminated=terminated, truncated=truncated, stop_reason=str(info.get("stop_reason", "")))
        return result

    def truncate(self, stop_reason: str) -> None:
        """End the running episode from outside, and write its rollout as truncated, also if it has no step yet."""
        self.unwrapped.truncate(stop_reason)
        self._write(terminated=False, truncated=True, stop_reason=stop_reason)

    def on_close(self) -> None:
        self._write_unfinished()
        if self._owns_store:
            self.store.close()

    def __reduce__(self) -> Any:
        # A copy has an env of its own without an episode, and writes a shard of its own.
        store = self.store.path if self._owns_store else self.store
        return _remade, (type(self), self.env, store, {**self._common, **self._redaction}, self._fields)

    def _show(self, messages: Sequence[Message]) -> None:
        """Write messages of the running episode for readers that look on."""
        if self._running is not None and self._episode is not None:
            self._running.write(self._so_far, self._shown, messages)
            self._shown += len(messages)

    def _so_far(self) -> Rollout:
        assert self._episode is not None
        common = {name: None if value is None else dict(value) for name, value in self._common.items()}
        return rollout_of(self._episode, **{**common, **self._fields_at_reset})

    def _write_unfinished(self) -> None:
        if self._episode is not None and self._episode.steps and self._pid == process_id():
            self._write()
        self._episode = None
        if self._running is not None:
            self._running.remove()

    def _write(self, **end: Any) -> None:
        episode, self._episode = self._episode, None
        if episode is None:
            return
        common = {name: None if value is None else dict(value) for name, value in self._common.items()}
        rollout = rollout_of(episode, **end, **{**common, **self._fields_at_reset})
        if "name" not in (rollout.model or {}):
            rollout.model = _named_model(rollout) or None
        if rollout.reward is not None and rollout.reward != self._seen_return:
            # A wrapper between this one and the env changed rewards. The record keeps the env's, and has both returns.
            rollout.metrics = {**(rollout.metrics or {}), "wrapped_return": self._seen_return}
        self.store.append(rollout, redactor=self._redactor)
        if self._running is not None:
            self._running.remove()
        self._last_rollout = rollout


def _remade(
    kind: type[RecordRollouts],
    env: gymnasium.Env[Any, Any],
    store: RolloutStore | str,
    common: Mapping[str, Any],
    fields: Mapping[str, Any],
) -> RecordRollouts:
    recorder = kind(env, store, **common)
    recorder.describe(**fields)
    return recorder


def _write_unfinished(reference: weakref.ref[RecordRollouts]) -> None:
    recorder = reference()
    if recorder is not None:
        recorder._write_unfinished()


def _named_model(rollout: Rollout) -> dict[str, Json]:
    """Return a record's `model` with a name: the run info's, else the metadata's, else that of the model that answered."""
    info = dict(rollout.model or {})
    name = answering_model(rollout.messages)
    return {**({"name": name} if name else {}), **model_of(dict(rollout.metadata or {})), **model_of(info), **info}


def rollout_of(
    episode: Episode,
    *,
    terminated: bool | None = None,
    truncated: bool | None = None,
    stop_reason: str | None = None,
    **fields: Any,
) -> Rollout:
    """Return the record of an episode in its present state.

    `terminated`, `truncated` and `stop_reason` are the end of the episode for the caller; None takes that of the last step.
    `fields` are further fields of `Rollout`.
    """
    last = episode.steps[-1] if episode.steps else Step(AssistantMessage())
    terminated = last.terminated if terminated is None else terminated
    truncated = last.truncated if truncated is None else truncated
    reason = last.stop_reason if stop_reason is None else stop_reason
    messages = list(episode.messages)
    reward, final_reward = total_reward(messages)
    task, split = episode.task, episode.task.split or None
    spec = None if task.spec is None else dict(task.spec)
    return Rollout(
        **{
            "environment": RolloutEnvironment(
                name=episode.environment,
                variant=episode.variant,
                split=split,
                origin=server_origin(episode.base_url),
            ),
            "task": replace(task, spec=spec, id=task_id(episode.environment, split, spec, task.index, episode.variant)),
            "tools": list(episode.tools) or None,
            "terminal_tool": episode.tools.terminal,
            "messages": messages,
            "reward": reward,
            "final_reward": final_reward,
            "status": _status(terminated, truncated, reason, last),
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


def _status(terminated: bool, truncated: bool, stop_reason: str, last: Step) -> Status:
    if terminated:
        return "completed"
    if not truncated or stop_reason == "cancelled":
        return "cancelled"
    # An error means that the connection or the server ended the episode, not the play.
    return "error" if last.error and last.stop_reason != "deadline" else "truncated"
