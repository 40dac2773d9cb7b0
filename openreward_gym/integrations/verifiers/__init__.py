"""An OpenReward environment as an environment of verifiers, for its evaluator, for prime-rl and for the Environments Hub.

    vf-eval openreward-gym-verifiers --env.taskset.environment weather --env.taskset.base-url http://127.0.0.1:8080 --no-push

The package `openreward_gym_verifiers`, which is installed with this one, is the environment that this command finds by its name:
a taskset, the harness that plays its tasks, and an environment with one agent. The harness runs in the evaluator's own process.
It sends each request to verifiers, which adds the model and the sampling and records the turn with its token ids. It gives each
message of the model to the environment's session.

How verifiers sees an episode:

- The reward `openreward` is the return of the episode.
- A lost session, or a server that fails, is a `SessionError` on the trace: no reward, never a text for the model.
  `--env.agent.retries.max-retries` plays the rollout again; prime-rl drops a trace with an error.
- A failure of the model's server is verifiers' own `ProviderError`.
- A limit of verifiers (`--env.agent.max-turns`, token budgets, `@stop`) ends the episode as truncated, with the return so far.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from openreward_gym.errors import MissingExtraError
from openreward_gym.lazy import lazy_names

if TYPE_CHECKING:
    from openreward_gym.integrations.verifiers.environment import OneAgentConfig, OneAgentEnv
    from openreward_gym.integrations.verifiers.harness import OpenRewardHarness, OpenRewardHarnessConfig, SessionError
    from openreward_gym.integrations.verifiers.taskset import (
        OpenRewardTask,
        OpenRewardTaskData,
        OpenRewardTaskset,
        OpenRewardTasksetConfig,
    )

__all__ = [
    "TASKSET_ID",
    "OneAgentConfig",
    "OneAgentEnv",
    "OpenRewardHarness",
    "OpenRewardHarnessConfig",
    "OpenRewardTask",
    "OpenRewardTaskData",
    "OpenRewardTaskset",
    "OpenRewardTasksetConfig",
    "SessionError",
    "load_environment",
]

TASKSET_ID = "openreward-gym-verifiers"
"""Name under which verifiers finds the taskset, the harness and the environment."""

_name, __dir__ = lazy_names(
    __name__,
    {
        "environment": "OneAgentConfig OneAgentEnv",
        "harness": "OpenRewardHarness OpenRewardHarnessConfig SessionError",
        "taskset": "OpenRewardTask OpenRewardTaskData OpenRewardTaskset OpenRewardTasksetConfig",
    },
)

if not TYPE_CHECKING:  # a checker would take every name for one that this function makes

    def __getattr__(name: str) -> Any:
        try:
            return _name(name)
        except ModuleNotFoundError as error:
            raise _missing(error) from None


def load_environment(
    environment: str,
    *,
    base_url: str | None = None,
    output: str | os.PathLike[str] | None = None,
    split: str = "train",
    agent: Mapping[str, Any] | None = None,
    **options: Any,
) -> OneAgentEnv:
    """Return an environment of verifiers that plays an OpenReward environment.

    Its `config` is what `EvalConfig(env=...)` and the `env` of prime-rl take.

    Args:
        environment: Name of the environment: "weather" on one server, "owner/name" on the platform.
        base_url: URL of the server. None takes `OPENREWARD_URL`, or the hosted platform.
        output: Folder of the run in which every episode is recorded. None records nothing.
        split: Split that tasks come from. For training and evaluation, load one environment each.
        agent: Settings of verifiers' agent: `max_turns`, `retries`, `timeout`, `sampling`, ...
        **options: Other options of `Episodes`, as plain JSON: `variant`, `max_steps`, `step_timeout_s`, `secrets_env`, ...

    Raises:
        MissingExtraError: verifiers is not installed.
        ConfigurationError: An option is unknown or has a wrong value.

    Example:
        >>> load_environment("weather", base_url="http://127.0.0.1:8080").config.taskset.split  # doctest: +SKIP
        'train'
    """
    try:
        import verifiers.v1 as vf

        from openreward_gym.integrations.verifiers.environment import OneAgentConfig
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    taskset = {"id": TASKSET_ID, "environment": environment, "base_url": base_url, "split": split, "options": options}
    taskset["output"] = None if output is None else os.fspath(output)
    loaded: OneAgentEnv = vf.load_environment(OneAgentConfig(taskset=taskset, agent=dict(agent or {})))
    return loaded


def _missing(error: ModuleNotFoundError) -> ModuleNotFoundError | MissingExtraError:
    """Return an error that says how to install verifiers, or the error itself where another module is missing."""
    if not (error.name or "").startswith("verifiers"):
        return error
    return MissingExtraError(f"this integration needs verifiers 0.4 or newer ({error}): pip install 'openreward-gym[verifiers]'")
