"""Is it a good environment? A set of checks to run against one that is served, your own above all.

def test_my_environment():
    with serve.local([MyEnvironment]) as base_url:
        check_environment(base_url, "myenvironment").raise_for_failures()
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.utils.env_checker import check_env

from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.registration import spec
from openreward_gym.protocol import loop
from openreward_gym.testing.examination import Examination, FindingError, Plan, Step, verdict
from openreward_gym.testing.report import Check, Report, Result

__all__ = ["Check", "Report", "check_environment"]


def check_environment(
    base_url: str | None,
    name: str,
    *,
    variant: str | None = None,
    split: str | None = None,
    tasks: int = 3,
    steps: Sequence[Step] | None = None,
    max_steps: int = 8,
    deterministic: bool = True,
    secrets_env: Mapping[str, str] | None = None,
    toolset: str | None = None,
    timeout_s: float = 120.0,
    call_timeout_s: float = 30.0,
) -> Report:
    """Check a served environment: tasks, tools, prompts, calls, rewards, ends, determinism, cleanup, Gymnasium's own checks.

    Some ten sessions are opened, and closed. What is wrong is in the report, never an exception.

    Args:
        base_url: The server; None for the hosted platform.
        name: The environment's name there.
        variant: A variant; None for the default one.
        split: The split whose tasks are played; None for the server's first.
        tasks: How many of its tasks are looked at.
        steps: What is played: calls `{"name", "arguments"}` and plain messages. None plays calls that are drawn from the
            tools' schemas, which an environment must survive.
        max_steps: How many calls are drawn.
        deterministic: Whether one task and the same calls must give the same results; if not, a difference is a warning.
        secrets_env: The environment's secrets: name of the secret -> name of the environment variable that holds it.
        toolset: A toolset of the SDK's that sessions get; None for none.
        timeout_s: Seconds that each check may take.
        call_timeout_s: Seconds that each call may take.

    Raises:
        ConfigurationError: `base_url` or `name` cannot be one.
    """
    session = {"secrets_env": secrets_env, "toolset": toolset}
    plan = Plan(base_url, name, variant, split, tasks, steps, max_steps, deterministic, session, timeout_s, call_timeout_s)
    examination = Examination(plan)
    checks = loop.run(examination.run())
    if any(check.result == "failed" for check in checks[:4]):
        checks.append(Check("gymnasium", "skipped"))
    else:
        checks.append(_gymnasium_check(plan, examination.split))
    return Report(name, base_url, tuple(checks))


def _gymnasium_check(plan: Plan, split: str) -> Check:
    begun = time.perf_counter()
    result: Result
    arguments = {"base_url": plan.base_url, "variant": plan.variant, "split": split, "step_timeout_s": plan.call_timeout_s}
    try:
        result, detail = "passed", _gymnasium(plan.name, {**arguments, **plan.session})
    except Exception as error:
        result, detail = verdict(error, plan.timeout_s)
    return Check("gymnasium", result, detail, time.perf_counter() - begun)


def _gymnasium(name: str, arguments: dict[str, Any]) -> str:
    """The environment as a `gymnasium.Env` passes Gymnasium's own checks, and a seed names a task."""
    env = gymnasium.make(spec(name, **arguments)).unwrapped
    assert isinstance(env, OpenRewardEnv)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_env(env, skip_render_check=True)
        indices = [[env.reset(seed=seed)[1]["task_index"] for seed in (0, 1, 2)] for _ in range(2)]
    finally:
        env.close()
    if indices[0] != indices[1]:
        raise FindingError("failed", f"seeds 0, 1 and 2 gave tasks {indices[0]}, then {indices[1]}")
    if caught:
        raise FindingError("warning", "\n".join(sorted({str(warning.message) for warning in caught})))
    return f"check_env passes; seeds 0, 1, 2 are tasks {', '.join(map(str, indices[0]))}"
