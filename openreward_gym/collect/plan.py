"""The plan of a run: its options, with the policy, the environment and the tasks that they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openreward_gym.collect.inputs import match_rows, read_tasks, split_of
from openreward_gym.collect.inventory import Inventory, TaskChoice, select_indices
from openreward_gym.collect.outcomes import Coverage, Outcomes
from openreward_gym.collect.row_checks import check_rows
from openreward_gym.collect.rows import InputRow
from openreward_gym.credentials import credentials_of, is_token
from openreward_gym.envs.clients import SharedClient, resolve_host
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import ClientOptions, RunOptions
from openreward_gym.platform.client import Platform
from openreward_gym.policies.parameters import with_parameters
from openreward_gym.policies.policy import EpisodicPolicy, Policy, policy_name, policy_settings, resolve
from openreward_gym.processes import RESERVED_FILES, free_file_count, open_file_limit
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.environment import RemoteEnvironment
from openreward_gym.redaction import SHORTEST_OWN, RecordRedactor
from openreward_gym.reports.summary import summarize
from openreward_gym.store import RolloutStore
from openreward_gym.types.rollout import server_origin
from openreward_gym.urls import password_of

# Options that are always part of a run's behaviour. Other options of an env are part of it if they are not defaults.
_BEHAVIOUR = ("repeats", "max_steps", "episode_timeout_s", "seed", "score_groups", "advantages")
# Options of an env that, like those of the connection, do not change what is played.
_NEUTRAL = (
    "reset_timeout_s",
    "step_timeout_s",
    "render_mode",
    "obs_mode",
    "max_obs_chars",
    "on_failure",
    "on_reset_failure",
    "secret_domains",
)


FILES_PER_SESSION = 3
"""Open files per session that is played: its connection, one for a session that is closed or pinged, and the policy's own."""


def files_needed(options: RunOptions) -> int:
    """Return the number of files that a collection in this process may have to open."""
    return RESERVED_FILES + FILES_PER_SESSION * (options.concurrency + options.prefetch)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The options of a run, which name the environment as its server does, the policy that they name, and the redactor."""

    options: RunOptions
    policy: Policy | EpisodicPolicy
    redactor: RecordRedactor

    @classmethod
    def of(cls, options: RunOptions) -> RunPlan:
        """Resolve the policy and the environment that the options name. Nothing is sent to a server."""
        if options.env.task_index is not None or options.env.task_order != "sequential":
            raise ConfigurationError("task_index and task_order have no effect on a collection: choose tasks='3' or tasks=[4, 2]")
        env = resolve_host(options.env)
        if options.engine == "ray" and env is not options.env:
            raise ConfigurationError(
                f"{options.env.environment!r} is played in this process: serve it, or leave out engine='ray'"
            )
        if options.upload:
            Platform(options.upload if isinstance(options.upload, str) else None)  # raises without a key
        # The engine tells failures apart by their exceptions.
        env = replace(env, limits=replace(env.limits, on_failure="raise", on_reset_failure="raise"))
        return cls.of_resolved(replace(options, env=env))

    @classmethod
    def of_resolved(cls, options: RunOptions) -> RunPlan:
        """Return the plan of options that name the environment as its server does."""
        policy = resolve(options.policy, url=options.policy_url, **(options.policy_options or {}))
        return cls(options, policy, _redactor(options, policy))

    @property
    def environment(self) -> str:
        """The environment's name on its server."""
        return str(self.options.env.environment)

    def within_open_files(self, say: Callable[[str], None]) -> RunPlan:
        """Return a plan with as many sessions at once as this process can open connections for, and `say` if they are fewer.

        Raises:
            ConfigurationError: Not even one session can be played.
        """
        options, free = self.options, free_file_count()
        if free is None or free >= files_needed(options):
            return self
        fitting = (free - RESERVED_FILES) // FILES_PER_SESSION
        if fitting < 1:
            raise ConfigurationError(
                f"nothing was played, because this process may open only {free} further files (ulimit -n is "
                f"{open_file_limit()}), and a collection needs {RESERVED_FILES + FILES_PER_SESSION}: raise the limit"
            )
        concurrency = min(options.concurrency, fitting)
        prefetch = min(options.prefetch, fitting - concurrency)
        say(
            f"{concurrency + prefetch} sessions are played at once instead of {options.concurrency + options.prefetch}, because "
            f"this process may open only {free} further files (ulimit -n is {open_file_limit()})"
        )
        return replace(self, options=replace(options, concurrency=concurrency, prefetch=prefetch))

    def make_env(self, client: SharedClient | None = None) -> OpenRewardEnv:
        """Make an env for one episode at a time, with its own client or one that envs share."""
        return OpenRewardEnv.from_options(self.options.env, client)

    async def inventory(self) -> Inventory:
        """Ask the environment's server for its tasks, and list the units of the run."""
        env = self.options.env
        async with Client(**env.client.to_keywords()) as client:
            tasks = await self._tasks(client.environment(self.environment, env.variant))
        return Inventory(self.environment, env.variant, tasks, self.options.repeats)

    async def _tasks(self, remote: RemoteEnvironment) -> list[TaskChoice]:
        options, split = self.options, self.options.env.split
        if options.input is None:
            return [TaskChoice(split, index) for index in select_indices(options.tasks, await _count(remote, split), split)]
        rows = read_tasks(options.input, split)
        unmatched = [row for row in rows if isinstance(row, InputRow)]
        known = [known.name for known in await remote.splits()] if any("split" in row.fields for row in unmatched) else []
        names = dict.fromkeys(split_of(row, split, known) for row in unmatched)
        specs = {name: [task.spec for task in await remote.tasks(name)] for name in names}
        try:
            choices = match_rows(rows, split, specs)
        except ConfigurationError as error:
            raise ConfigurationError(f"{options.input}, {error}") from None
        for name in dict.fromkeys(choice.split for choice in choices if choice.index is not None):
            count = await _count(remote, name)
            beyond = next((c.index for c in choices if c.split == name and c.index is not None and c.index >= count), None)
            if beyond is not None:
                raise ConfigurationError(f"{options.input} names task {beyond} of split {name!r}, which has {count} tasks")
        await check_rows(choices, remote, self.policy, options)
        return choices

    def policy_of(self, row: InputRow | None) -> Policy | EpisodicPolicy:
        """Return the policy that plays a task of a row, with the row's parameters. None: without a row."""
        if row is None or self.options.row_parameters == "ignore":
            return self.policy
        return with_parameters(self.policy, row.parameters)

    def behaviour(self) -> dict[str, Any]:
        """Return the settings that influence the rollouts, as JSON without keys and URLs."""
        options, env = self.options.to_keywords(), self.options.env
        settings: dict[str, Any] = {
            "environment": self.environment,
            "variant": env.variant,
            "split": env.split,
            "policy": policy_name(self.policy),
            "policy_settings": policy_settings(self.policy),
            **{name: options[name] for name in _BEHAVIOUR},
        }
        skipped = {*settings, *_NEUTRAL, *ClientOptions.names()}
        for name, value in env.changes().items():
            if name not in skipped:
                # Of secrets and environment variables only the names are kept.
                settings[name] = sorted(value) if isinstance(value, Mapping) else value
        settings |= {name: options[name] for name in ("row_prompt", "row_parameters") if name in self.options.changes()}
        # Without them, a run that is continued would show what its first rollouts do not.
        settings |= {name: list(options[name]) for name in ("redact", "redact_patterns") if options[name]}
        return settings

    def circumstances(self) -> dict[str, Any]:
        """Return the settings that are kept for readers of `run.json` and do not influence the rollouts."""
        options = self.options
        return {
            "origin": server_origin(options.env.client.base_url),
            "policy_origin": server_origin(getattr(self.policy, "url", None)),
            "input": None if options.input is None else Path(options.input).name,
            "concurrency": options.concurrency,
            "engine": options.engine,
            "workers": options.workers,
            "step_timeout_s": options.env.limits.step_timeout_s,
        }


def _redactor(options: RunOptions, policy: Policy | EpisodicPolicy) -> RecordRedactor:
    """Return what cuts secrets out of the run's records: those that the options name, and the run's own credentials."""
    session, client = options.env.session, options.env.client
    own = [*(session.secrets_env or {}).values(), client.api_key_env]
    if isinstance(variable := getattr(policy, "key_variable", None), str):
        own.append(variable)
    addresses = [url for url in (client.base_url, options.policy_url) if url]
    texts = {
        "base_url": [password for url in addresses if (password := password_of(url)) and len(password) >= SHORTEST_OWN],
        "env_overrides": [text for text in credentials_of(session.env_overrides or {}) if len(text) >= SHORTEST_OWN],
        "policy_options": [text for text in credentials_of(options.policy_options or {}) if is_token(text)],
    }
    return RecordRedactor(options.redact or (), options.redact_patterns or (), own=own, texts=texts)


async def _count(remote: RemoteEnvironment, split: str) -> int:
    """Ask for the number of tasks of a split. An empty split raises ConfigurationError."""
    count = await remote.num_tasks(split)
    if count <= 0:
        raise ConfigurationError(f"split {split!r} of {remote.name!r} has no tasks")
    return count


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of what a collection would do.

    Attributes:
        coverage: The run's coverage now. Its `missing` and `failed` units would be played.
        to_play: Number of rollouts that would be made.
        seconds, output_tokens, cost_usd: Expected totals, from the means of the run's rollouts. None if it has no rollouts, or
            they do not record it.

    Example:
        >>> print(Estimate(Coverage(10, 0, 0, 8, 2), to_play=2).to_text())
        2 of 10 rollouts would be played, 8 omitted.
        The duration is unknown: collect a few rollouts (--limit 5), then estimate again with the same --output.
    """

    coverage: Coverage
    to_play: int
    seconds: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None

    def to_text(self) -> str:
        """Describe the estimate in sentences."""
        counts = [f"{self.to_play} of {self.coverage.expected} rollouts would be played"]
        counts += [f"{self.coverage.successful} exist already"] if self.coverage.successful else []
        counts += [f"{self.coverage.omitted} omitted"] if self.coverage.omitted else []
        lines = [", ".join(counts) + "."]
        if self.seconds is None:
            lines.append(
                "The duration is unknown: collect a few rollouts (--limit 5), then estimate again with the same --output."
            )
        else:
            lines.append(f"Judging by the existing rollouts, this takes about {self.seconds:.0f} s.")
        if self.output_tokens is not None:
            lines.append(f"About {self.output_tokens:,.0f} output tokens.")
        if self.cost_usd is not None:
            lines.append(f"About ${self.cost_usd:.2f}.")
        return "\n".join(lines)


async def estimate_run(options: RunOptions) -> Estimate:
    """Estimate what a collection with these options would do; see `estimate`."""
    outcomes = Outcomes(await RunPlan.of(options).inventory())
    folder = options.run_folder
    if folder is not None:
        outcomes.read(folder)
    if options.limit is not None:
        outcomes.omit_beyond(options.limit)
    coverage = outcomes.coverage()
    to_play = coverage.missing + coverage.failed - (0 if options.allow_changed else outcomes.given_up)
    if folder is None or not coverage.successful:
        return Estimate(coverage, to_play)
    summary = summarize(RolloutStore(folder))
    ratio = to_play / summary.rollouts
    seconds = summary.mean_duration_s
    return Estimate(
        coverage,
        to_play,
        None if seconds is None else seconds * to_play / min(options.concurrency, max(to_play, 1)),
        None if summary.output_tokens is None else summary.output_tokens * ratio,
        None if summary.cost_usd is None else summary.cost_usd * ratio,
    )
