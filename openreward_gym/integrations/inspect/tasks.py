"""Inspect's task, solver and scorer of an OpenReward environment. Inspect loads this module as an entry point."""

# mypy: disable-error-code="untyped-decorator"
# (the types of Inspect are not read)

from __future__ import annotations

import asyncio
from typing import Any, Unpack, cast

import anyio
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import Model, ModelOutput, get_model
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolInfo
from inspect_ai.util import LimitExceededError, sample_limits
from rich.markup import escape

from openreward_gym.chat.plain import plain
from openreward_gym.envs.turns import is_no_answer
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, PolicyError, SessionLostError
from openreward_gym.importers.inspect_logs import MARK, message_of
from openreward_gym.integrations.episode import Episode, EpisodeOptions, Episodes
from openreward_gym.integrations.inspect.messages import chat_message, record_mark, tool_infos
from openreward_gym.types import AssistantMessage

SPLIT = "test"
"""The split that is evaluated by default."""
_REWARD = "openreward_gym:reward"


def make_task(environment: str | type[Any], **options: Unpack[EpisodeOptions]) -> Task:
    """Return the task; see `openreward_gym.integrations.inspect.task`."""
    own: EpisodeOptions = {"split": SPLIT, **options}
    unrecorded: EpisodeOptions = {**own, "output": None}
    episodes, split = Episodes(environment, **unrecorded), own["split"]
    samples = [
        Sample(input=f"Task {index} of {episodes.name}, split {split}", id=f"{split}-{index}", metadata={"task_index": index})
        for index in range(episodes.num_tasks())
    ]
    return Task(
        dataset=MemoryDataset(samples, name=f"openreward:{episodes.name}:{split}"),
        solver=openreward_solver(environment, **own),
        scorer=openreward_reward(),
        name=episodes.name,
    )


@task(name="openreward")
def openreward(environment: str, split: str = SPLIT, **options: Any) -> Task:
    """Return the task, for `inspect eval openreward_gym/openreward -T environment=weather -T base_url=...`."""
    try:
        return make_task(environment, split=split, **options)
    except OpenRewardGymError as error:
        raise _shown_alone(error) from error


def _shown_alone(error: OpenRewardGymError) -> Exception:
    """Return the error that Inspect's commands print without a traceback; `error` itself where Inspect has none of that name."""
    try:
        from inspect_ai._util.error import PrerequisiteError  # Inspect has no public class for it
    except ImportError:
        return error
    shown: Exception = PrerequisiteError(escape(str(error)))
    return shown


@scorer(metrics=[mean(), stderr()], name="reward")
def openreward_reward() -> Scorer:
    """Return the scorer of the episode that the solver played."""

    async def score(state: TaskState, target: Target) -> Score:
        record = state.metadata.get(MARK) or {}
        reward: float | None = state.store.get(_REWARD)
        facts = {name: record.get(name) for name in ("status", "stop_reason", "final_reward")}
        answer = state.output.completion or None
        reason = record.get("stop_reason") or "the solver played no episode of openreward_gym"
        if reward is None:
            # Not a number is Inspect's sign of a sample that was not scored.
            return Score(value=float("nan"), answer=answer, explanation=f"not scored: {reason}", metadata=facts)
        given = "" if record.get("reward") is not None else "; the environment gave no reward, which counts as 0"
        return Score(value=reward, answer=answer, explanation=f"the episode ended: {reason}{given}", metadata=facts)

    return score


@solver(name="openreward")
def openreward_solver(environment: str | type[Any], **options: Unpack[EpisodeOptions]) -> Solver:
    """Return the solver, which plays one episode per sample."""
    own: EpisodeOptions = {"split": SPLIT, **options}
    episodes = Episodes(environment, **own)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        _check_event_loop()
        episode = episodes.episode()
        is_scored = True
        try:
            await episode.begin(
                _task_index(state),
                group=str(state.sample_id),
                sample=state.epoch - 1,
                metadata={"inspect": {"sample_id": state.sample_id, "epoch": state.epoch, "uuid": state.uuid}},
            )
            await _play(episode, state, get_model())
        except LimitExceededError as error:
            await episode.end(f"{error.type}_limit")
            raise
        except Exception:
            is_scored = False  # also with Inspect's option to score samples that failed
            raise
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                if limit := _limit_of_time():
                    await episode.end(limit)
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await episode.aclose()
            if episode.rollout is not None:
                state.metadata[MARK] = record_mark(episode.rollout, len(state.messages))
                state.store.set(_REWARD, episode.reward if is_scored else None)
        return state

    return solve


async def _play(episode: Episode, state: TaskState, model: Model) -> None:
    """Play an episode to its end; raise SessionLostError where the connection or the server ends it."""
    tools = tool_infos(episode.tool_set)
    state.messages = [chat_message(message) for message in episode.transcript]
    while not episode.done:
        state.output = await _sample(episode, state, model, tools)
        state.messages.append(state.output.message)
        turn = cast(AssistantMessage, message_of(plain(state.output.message), plain(state.output)))
        if is_no_answer(turn):
            await episode.end("policy_unavailable")
            raise PolicyError("the model's answer is empty: it has no text, no reasoning and no call", kind="policy_unavailable")
        answer = await episode.act(turn)
        state.messages.extend(chat_message(message) for message in answer.messages)
        if episode.error is not None:
            raise SessionLostError(f"the episode was lost ({episode.stop_reason}), so it has no reward: {episode.error}")


async def _sample(episode: Episode, state: TaskState, model: Model, tools: list[ToolInfo]) -> ModelOutput:
    try:
        return await model.generate(state.messages, tools=tools, tool_choice=state.tool_choice)
    except LimitExceededError:
        raise
    except Exception:  # whatever the model's provider raises is an error of the sample
        await episode.end("policy_unavailable")
        raise


def _task_index(state: TaskState) -> int:
    index = state.metadata.get("task_index")
    if type(index) is not int:
        raise ConfigurationError(f"the metadata of sample {state.sample_id!r} needs the index of its task as 'task_index'")
    return index


def _limit_of_time() -> str:
    """Return the stop reason if one of Inspect's limits of time cancelled the sample; empty for any other cancellation."""
    limits = sample_limits()
    for name, limit in (("time_limit", limits.time), ("working_limit", limits.working)):
        if limit.remaining is not None and limit.remaining <= 0:
            return name
    return ""


def _check_event_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError("openreward_gym runs on asyncio: unset INSPECT_ASYNC_BACKEND, or set it to asyncio") from None
