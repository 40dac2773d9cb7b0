"""Collect rollouts: play a policy over many tasks, and store every rollout in a run's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from openreward_gym.lazy import lazy_names
from openreward_gym.options import EnvKeywords, RetryBudget, RunOptions, signature_from

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from openreward_gym.collect.engine import CollectionResult, StopSignal
    from openreward_gym.collect.outcomes import Coverage
    from openreward_gym.collect.plan import Estimate
    from openreward_gym.collect.progress import ProgressStyle, Reporter
    from openreward_gym.collect.retries import BUDGETS
    from openreward_gym.options import Advantage, Engine, RetryKind, RowParameters, RowPrompt
    from openreward_gym.policies.policy import EpisodicPolicy, PlainPolicy, Policy
    from openreward_gym.protocol.transport import TransportLike
    from openreward_gym.types import Json

if not TYPE_CHECKING:  # a checker would take every name for one that `__getattr__` makes
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "engine": "CollectionResult StopSignal",
            "outcomes": "Coverage",
            "plan": "Estimate",
            "progress": "Reporter",
            "retries": "BUDGETS",
        },
    )

__all__ = [
    "BUDGETS",
    "CollectOptions",
    "CollectionResult",
    "Coverage",
    "Estimate",
    "Reporter",
    "RetryBudget",
    "StopSignal",
    "acollect",
    "collect",
    "estimate",
]


class CollectOptions(EnvKeywords, total=False):
    """Types of the keyword arguments of `collect`, for type checkers. `RunOptions` holds their defaults and checks.

    Example:
        >>> options: CollectOptions = {"repeats": 4, "max_steps": 8}
    """

    base_url: str | None
    transport: TransportLike
    policy_url: str | None
    policy_options: Mapping[str, Any] | None
    tasks: str | Iterable[int] | None
    input: str | os.PathLike[str] | None
    row_prompt: RowPrompt
    row_parameters: RowParameters
    repeats: int
    limit: int | None
    concurrency: int
    prefetch: int
    opening: int
    output: str | os.PathLike[str] | None
    resume: bool
    allow_changed: bool
    run_timeout_s: float | None
    seed: int
    retries: Mapping[RetryKind, RetryBudget] | None
    fail_on_error: float | None
    score_groups: bool
    advantages: Advantage | None
    progress: bool | ProgressStyle | Reporter
    redact: Sequence[str] | None
    redact_patterns: Sequence[str] | None
    upload: bool | str
    engine: Engine
    workers: int | None
    ray_options: Mapping[str, Json] | None


@signature_from(RunOptions)
def collect(
    environment: str | type[Any],
    policy: str | Policy | PlainPolicy | EpisodicPolicy,
    *,
    stop: StopSignal | None = None,
    **options: Unpack[CollectOptions],
) -> CollectionResult:
    """Play each task of a split `repeats` times with a policy, and record every rollout.

    Each (task, sample) of a run, called a unit, ends with exactly one outcome. A unit with a rollout is never played again, and
    a failure of infrastructure is recorded as a failure, never as a reward of 0.

    In the main thread, Ctrl-C drains the collection: episodes in flight are played to their end. A second Ctrl-C, SIGTERM
    or SIGHUP (unless it is ignored, as under `nohup`) stops it at once. In both cases the run is returned with
    `interrupted=True`.

    Args:
        environment: "weather" on one server, "owner/name" on the platform. A class is played in this process.
        policy: A callable `policy(transcript, tools)` that returns an AssistantMessage, where a plain function is called in
            threads; an object with `begin(task, sample, seed)` that returns such a callable; or a name, see
            `openreward_gym.policies.resolve`.
        stop: Stops the collection from outside.
        **options: The options of `openreward_gym.options.RunOptions`, and of the env, session and client that it nests.

    Returns:
        The run: its store, metrics and coverage.

    Raises:
        ConfigurationError: An option is unknown or wrong, the environment, split or a task does not exist, or a row of `input`
            cannot be played: its question is no task, it defines a tool that the environment does not have, or it has a parameter
            that the policy cannot follow.
        StoreError: `output` is a file that is not of this run, is held by another collector, holds a run and `resume` is False,
            holds none and `resume` is True, or cannot be written.
        PolicyError, ServerError, ToolFailedError: So many attempts failed that the collection stopped (`fail_on_error`). The
            message has the words of the last one; the run can be continued.
        RecordError: A file of the run is damaged. Nothing was changed.
        TransportError: The server cannot be reached.

    Example:
        >>> from openreward_gym import collect, serve  # doctest: +SKIP
        >>> with serve.local(["weather"]) as base_url:  # doctest: +SKIP
        ...     result = collect("weather", "random", base_url=base_url, max_steps=3, output="runs/first")
        >>> result.coverage.successful  # doctest: +SKIP
        5
    """
    from openreward_gym.collect.engine import collect_run

    run = RunOptions.from_keywords({"environment": environment, "policy": policy, **options}, collect)
    return collect_run(run, stop)


@signature_from(RunOptions)
async def acollect(
    environment: str | type[Any],
    policy: str | Policy | PlainPolicy | EpisodicPolicy,
    *,
    stop: StopSignal | None = None,
    **options: Unpack[CollectOptions],
) -> CollectionResult:
    """`collect` as a coroutine, with the same arguments, result and errors. It does not handle signals: `stop` stops it."""
    from openreward_gym.collect.engine import acollect_run

    run = RunOptions.from_keywords({"environment": environment, "policy": policy, **options}, acollect)
    return await acollect_run(run, stop)


@signature_from(RunOptions)
def estimate(
    environment: str | type[Any], policy: str | Policy | PlainPolicy | EpisodicPolicy, **options: Unpack[CollectOptions]
) -> Estimate:
    """Estimate what `collect` would do with the same arguments, and raise the same errors. Nothing is played or written."""
    from openreward_gym.collect.plan import estimate_run
    from openreward_gym.protocol import loop

    run = RunOptions.from_keywords({"environment": environment, "policy": policy, **options}, estimate)
    return loop.run(estimate_run(run))
