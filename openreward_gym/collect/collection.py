"""`collect` and `acollect`: what users call."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from openreward_gym.collect.budgets import RetryBudget
from openreward_gym.collect.engine import CollectionResult, run_collection
from openreward_gym.collect.estimating import Estimate, estimate_collection
from openreward_gym.collect.groups import Advantage
from openreward_gym.collect.inventory import Inventory, TaskChoice, match_rows, read_tasks, select_indices
from openreward_gym.collect.plan import Engine, Plan
from openreward_gym.collect.progress import Face, Reporter, reporter
from openreward_gym.collect.stopping import Stop, stopped_by_signals
from openreward_gym.envs.clients import resolve_host
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import ClientOptions, EnvOptions
from openreward_gym.policies import EpisodicPolicy, Policy, resolve
from openreward_gym.protocol import loop
from openreward_gym.protocol.client import Client, RemoteEnvironment


async def acollect(
    environment: str | type[Any],
    policy: str | Policy | EpisodicPolicy,
    *,
    base_url: str | None = None,
    variant: str | None = None,
    split: str = "train",
    tasks: str | Iterable[int] | None = None,
    input: str | os.PathLike[str] | None = None,
    repeats: int = 1,
    limit: int | None = None,
    concurrency: int = 16,
    prefetch: int = 0,
    opening: int = 32,
    output: str | os.PathLike[str] | None = None,
    resume: bool = False,
    allow_changed: bool = False,
    max_steps: int | None = None,
    step_timeout_s: float | None = 600.0,
    episode_timeout_s: float | None = None,
    run_timeout_s: float | None = None,
    seed: int = 0,
    retries: Mapping[str, RetryBudget] | None = None,
    score_groups: bool = False,
    advantages: Advantage | None = None,
    policy_url: str | None = None,
    policy_options: Mapping[str, Any] | None = None,
    progress: bool | Face | Reporter = True,
    upload: bool | str = False,
    engine: Engine = "local",
    workers: int | None = None,
    ray_options: Mapping[str, Any] | None = None,
    transport: Any = "fast",
    stop: Stop | None = None,
    **env_arguments: Any,
) -> CollectionResult:
    """Play every task of a split `repeats` times and record what happened.

    Each (task, sample) of a run has exactly one outcome, whatever dies: what has a rollout is never played again, and what
    infrastructure spoiled is a failure beside the rollouts, never a reward of 0.

    Args:
        environment: "weather" on one server, "owner/name" on the platform; a class is played in this process.
        policy: `await policy(transcript, tools) -> AssistantMessage`; an object with `begin(task, sample, seed)` that
            returns such a callable; or a name: see `openreward_gym.policies.resolve`.
        base_url: The environment's server; None for the hosted platform.
        variant, split: As for `OpenRewardEnv`.
        tasks: Which tasks of the split: None for all, "0:100", "3,7", or numbers.
        input: A JSONL of tasks instead; see `read_tasks`.
        repeats: Rollouts a task; they form its group.
        limit: Only the first so many tasks; the others are omitted, and can be played later.
        concurrency: Episodes at once.
        prefetch: Sessions that are opened ahead, beside those that are played. Their `episode_timeout_s` runs, too.
        opening: Most sessions being opened at once.
        output: The run's folder; None makes one under `runs/`.
        resume: Go on with the run that is in `output`; only what is missing is played.
        allow_changed: Go on though tasks or behaviour changed since; `run.json` remembers.
        max_steps: Truncates an episode after so many steps; None never does.
        step_timeout_s, episode_timeout_s: Seconds after which an episode is truncated; None for no limit.
        run_timeout_s: Seconds after which the collection stops; what is under way is left, and missing.
        seed: Makes the policies' seeds: unit by unit the same, in whatever order they run.
        retries: Retry budgets by kind of failure, in place of the defaults in `openreward_gym.collect.budgets`.
        score_groups: Ask the environment to compare the rollouts of each task once all are there.
        advantages: "group" or "leave_one_out": make advantages of each complete group.
        policy_url: The address of the policy's model; None for its provider's own.
        policy_options: Further arguments of a policy that is given by its name (sampling, prices, ...).
        progress: How it is shown on stderr: True chooses, False says nothing; or "bar", "log", "json", a `Reporter`.
        upload: Send the rollouts to the platform (key in OPENREWARD_API_KEY) while they are collected; or its API's address.
        engine: "ray" plays in Ray's actors, on the cluster that RAY_ADDRESS names or on one that is begun here.
        workers: How many actors; None for one a core of this machine. They share `concurrency` and a provider's limits.
        ray_options: Further options of the actors (num_cpus, num_gpus, resources, runtime_env, ...).
        transport: As for `OpenRewardEnv`.
        stop: Stops it from outside; None for nobody.
        **env_arguments: Further arguments of `OpenRewardEnv`.

    Returns:
        The run: its store, metrics and coverage.

    Raises:
        ConfigurationError: An argument is wrong, or the environment, split or a task does not exist.
        StoreError: `output` is held by another collector, holds a run already and `resume` is False, or another run; or
            it cannot be written.
        RecordError: A file of the run is damaged; nothing was changed.
        TransportError: The server is not there.
    """
    plan = _plan(locals())
    # Only that module knows Ray, and nothing but this loads it.
    player_of = importlib.import_module("openreward_gym.collect.ray").player_of(plan) if plan.engine == "ray" else None
    return await run_collection(plan, await _inventory(plan), reporter(progress), stop or Stop(), player_of)


def collect(environment: str | type[Any], policy: str | Policy | EpisodicPolicy, **arguments: Any) -> CollectionResult:
    """`acollect` for code that is not async; takes the same arguments.

    In the main thread Ctrl-C drains it, again stops it at once, and so does SIGTERM; either way it returns the run as it
    stands, with `interrupted`.
    """
    stop = arguments.pop("stop", None) or Stop()
    with stopped_by_signals(stop):
        return loop.run(acollect(environment, policy, stop=stop, **arguments))


def estimate(environment: str | type[Any], policy: str | Policy | EpisodicPolicy, **arguments: Any) -> Estimate:
    """What `collect` would do with the same arguments; plays and writes nothing.

    Raises:
        ConfigurationError, RecordError, TransportError: As `acollect`.
    """
    known = {*Plan.__slots__, "policy_url", "policy_options", "progress", "stop"}
    given: dict[str, Any] = {"environment": environment, "policy": policy, "policy_url": None, "policy_options": None}
    given["env_arguments"] = {name: value for name, value in arguments.items() if name not in known}
    plan = _plan({**given, **arguments})

    async def look() -> Estimate:
        return estimate_collection(plan, await _inventory(plan))

    return loop.run(look())


def _plan(given: Mapping[str, Any]) -> Plan:
    """The arguments of `acollect`, checked, with the policy that they name."""
    client = ClientOptions(base_url=given.get("base_url"), transport=given.get("transport", "fast"))
    place = resolve_host(EnvOptions(environment=given["environment"], client=client))
    if given.get("engine") == "ray" and place.environment is not given["environment"]:
        raise ConfigurationError(f"{given['environment']!r} is played in this process: serve it, or leave out engine='ray'")
    given = {
        **given,
        "environment": place.environment,
        "base_url": place.client.base_url,
        "transport": place.client.transport,
    }
    options = dict(given["policy_options"] or {})
    policy = resolve(given["policy"], url=given["policy_url"], **options)
    asked = {name: given[name] for name in Plan.__slots__ if name in given and name != "policy"}
    plan = Plan(**asked, policy=policy, given_policy=(given["policy"], given["policy_url"], options))
    plan.check()
    return plan


async def _inventory(plan: Plan) -> Inventory:
    """What there is to play, asked from the environment's server."""
    api_key = {name: value for name, value in plan.env_arguments.items() if name == "api_key_env"}
    async with Client(plan.base_url, transport=plan.transport, **api_key) as client:
        choices = await _choose_tasks(plan, client.environment(plan.environment, plan.variant))
    return Inventory(plan.environment, plan.variant, choices, plan.repeats)


async def _choose_tasks(plan: Plan, remote: RemoteEnvironment) -> list[TaskChoice]:
    if plan.input is None:
        count = await remote.num_tasks(plan.split)
        if count <= 0:
            raise ConfigurationError(f"split {plan.split!r} of {plan.environment!r} has no tasks")
        return [TaskChoice(plan.split, index) for index in select_indices(plan.tasks, count, plan.split)]
    rows = read_tasks(plan.input, plan.split)
    specs: list[Any] = []
    if not all(isinstance(row, TaskChoice) for row in rows):
        specs = [task.spec for task in await remote.tasks(plan.split)]
    choices = match_rows(rows, plan.split, specs)
    for split in dict.fromkeys(choice.split for choice in choices if choice.index is not None):
        count = await remote.num_tasks(split)
        beyond = next((c.index for c in choices if c.split == split and c.index is not None and c.index >= count), None)
        if beyond is not None:
            raise ConfigurationError(f"{plan.input} names task {beyond} of split {split!r}, which has {count}")
    return choices
