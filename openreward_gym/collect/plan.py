"""What a collection was asked to do: every argument of `collect`, checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from openreward_gym.collect.budgets import RetryBudget
from openreward_gym.collect.groups import Advantage
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.errors import ConfigurationError
from openreward_gym.platform.client import Platform
from openreward_gym.policies import EpisodicPolicy, Policy, policy_name, policy_settings
from openreward_gym.types.conversion import origin_of

Engine: TypeAlias = Literal["local", "ray"]
"""Where episodes are played: in this process, or in Ray's actors."""

PolicyGiven: TypeAlias = tuple["str | Policy | EpisodicPolicy", str | None, Mapping[str, Any]]
"""A policy as it was given: itself or its name, its model's address and its options. A worker elsewhere makes its own of it."""

# Where things are, and how they are reached: not what is played.
_ELSEWHERE = ("api_key_env", "transport", "reset_timeout_s", "render_mode", "obs_mode", "max_obs_chars", "on_failure")


@dataclass(frozen=True, slots=True)
class Plan:
    """The arguments of `collect`; see there."""

    environment: str
    policy: Policy | EpisodicPolicy
    base_url: str | None = None
    variant: str | None = None
    split: str = "train"
    tasks: str | Iterable[int] | None = None
    input: str | os.PathLike[str] | None = None
    repeats: int = 1
    limit: int | None = None
    concurrency: int = 16
    prefetch: int = 0
    opening: int = 32
    output: str | os.PathLike[str] | None = None
    resume: bool = False
    allow_changed: bool = False
    max_steps: int | None = None
    step_timeout_s: float | None = 600.0
    episode_timeout_s: float | None = None
    run_timeout_s: float | None = None
    seed: int = 0
    retries: Mapping[str, RetryBudget] | None = None
    score_groups: bool = False
    advantages: Advantage | None = None
    upload: bool | str = False
    transport: Any = "fast"
    engine: Engine = "local"
    workers: int | None = None
    ray_options: Mapping[str, Any] | None = None
    given_policy: PolicyGiven | None = None
    env_arguments: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raises ConfigurationError for the first argument that cannot be."""
        for name, least in {"repeats": 1, "concurrency": 1, "opening": 1, "prefetch": 0, "limit": 1}.items():
            value = getattr(self, name)
            if name == "limit" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigurationError(f"{name} must be a whole number from {least}, not {value!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ConfigurationError(f"seed must be a whole number, not {self.seed!r}")
        value = self.run_timeout_s
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            raise ConfigurationError(f"run_timeout_s must be a positive number or None, not {value!r}")
        if self.tasks is not None and self.input is not None:
            raise ConfigurationError("tasks=... chooses tasks of a split and input=... lists them: give one of the two")
        if self.advantages not in (None, "group", "leave_one_out"):
            raise ConfigurationError(f"advantages must be 'group', 'leave_one_out' or None, not {self.advantages!r}")
        if (self.score_groups or self.advantages) and self.repeats < 2:
            raise ConfigurationError("comparing the rollouts of a task takes several of them: give repeats=2 or more")
        self._check_engine()
        if self.upload:
            Platform(self.upload if isinstance(self.upload, str) else None)  # raises where there is no key
        if self.output is not None and "://" in os.fspath(self.output):
            raise ConfigurationError(
                f"output={os.fspath(self.output)!r} is an address: a run is collected into a folder; copy it there after"
            )
        if self.output is None and self.resume:
            raise ConfigurationError("resume=True needs the output=... of the run to go on with")
        self.make_env()

    def _check_engine(self) -> None:
        if self.engine not in ("local", "ray"):
            raise ConfigurationError(f"engine must be 'local' or 'ray', not {self.engine!r}")
        if self.engine == "local" and (self.workers is not None or self.ray_options is not None):
            raise ConfigurationError("workers=... and ray_options=... are for engine='ray'; here concurrency=... is all there is")
        if self.workers is not None and (isinstance(self.workers, bool) or not isinstance(self.workers, int) or self.workers < 1):
            raise ConfigurationError(f"workers must be a whole number from 1 or None, not {self.workers!r}")

    def make_env(self) -> OpenRewardEnv:
        """An env of one worker; nothing is asked of a server yet."""
        given: dict[str, Any] = {
            **self.env_arguments,
            "base_url": self.base_url,
            "variant": self.variant,
            "split": self.split,
            "transport": self.transport,
            "max_steps": self.max_steps,
            "step_timeout_s": self.step_timeout_s,
            "episode_timeout_s": self.episode_timeout_s,
            # The engine tells failures apart by the errors themselves.
            "on_failure": "raise",
        }
        return OpenRewardEnv(self.environment, **given)

    def behaviour(self) -> dict[str, Any]:
        """What decides how rollouts come out, as JSON: no keys, no addresses."""
        rest = {name: value for name, value in self.env_arguments.items() if name not in _ELSEWHERE}
        for name in ("secrets_env", "env_overrides"):
            if rest.get(name):
                rest[name] = sorted(rest[name])
        return {
            "environment": self.environment,
            "variant": self.variant,
            "split": self.split,
            "policy": policy_name(self.policy),
            "policy_settings": policy_settings(self.policy),
            "repeats": self.repeats,
            "max_steps": self.max_steps,
            "step_timeout_s": self.step_timeout_s,
            "episode_timeout_s": self.episode_timeout_s,
            "seed": self.seed,
            "score_groups": self.score_groups,
            "advantages": self.advantages,
            **rest,
        }

    def elsewhere(self) -> dict[str, Any]:
        """What is kept beside it, to be read by people."""
        return {
            "origin": origin_of(self.base_url),
            "policy_origin": origin_of(getattr(self.policy, "url", None)),
            "input": None if self.input is None else Path(self.input).name,
            "concurrency": self.concurrency,
            "engine": self.engine,
            "workers": self.workers,
        }
