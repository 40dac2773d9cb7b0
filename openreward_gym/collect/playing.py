"""Who plays a run's attempts: this process, or workers elsewhere; the engine does not mind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from openreward_gym.collect.episodes import Attempt, AttemptFailedError
from openreward_gym.collect.inventory import Unit
from openreward_gym.collect.plan import Plan
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.errors import AuthenticationError, ConfigurationError, OpenRewardGymError
from openreward_gym.policies import policy_name, policy_settings
from openreward_gym.store.failure import Failure
from openreward_gym.types.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Played:
    """What became of an attempt: a rollout, or a failure.

    Attributes:
        rollout: It is in the store already. Its messages may be missing here; None where there is none.
        step_seconds: What each of its steps took in the environment.
        failure: Why there is none. It is in no file yet.
        retry_after_s: What the other side asked for after the failure; None where it did not.
        mistake: An error that may be the caller's, the same for every unit. Without a failure beside it, it ends the run.
    """

    rollout: Rollout | None = None
    step_seconds: list[float] = field(default_factory=list)
    failure: Failure | None = None
    retry_after_s: float | None = None
    mistake: OpenRewardGymError | None = None


class Player(Protocol):
    """Plays any number of attempts at once."""

    async def play(self, unit: Unit, attempt: int) -> Played:
        """Play attempt number `attempt` at `unit`, and store the rollout."""
        ...

    async def aclose(self) -> None:
        """Leave what is under way, and let go of everything."""
        ...


class LocalPlayer:
    """Plays in this process.

    Args:
        plan: How.
        run: The run's name.
        keep: Stores a rollout.
    """

    def __init__(self, plan: Plan, run: str, keep: Callable[[Rollout], None]) -> None:
        self.plan = plan
        self._keep = keep
        self._opening = asyncio.Semaphore(plan.opening)
        self._playing = asyncio.Semaphore(plan.concurrency)
        self._free: list[OpenRewardEnv] = []
        settings = policy_settings(plan.policy)
        self._fields: Mapping[str, Any] = {
            "run": run,
            "model": {"name": policy_name(plan.policy), **settings.get("model", {})},
            "sampling": settings.get("sampling") or None,
        }

    async def play(self, unit: Unit, attempt: int) -> Played:
        """See `Player`; raises StoreError where the rollout cannot be stored."""
        env = self._free.pop() if self._free else self.plan.make_env()
        try:
            played = await self._play(env, unit, attempt)
        except BaseException:
            await env.aclose()
            raise
        self._free.append(env)
        return played

    async def _play(self, env: OpenRewardEnv, unit: Unit, number: int) -> Played:
        plan = self.plan
        attempt = Attempt(env, unit, number, policy=plan.policy, seed=plan.seed, episode_timeout_s=plan.episode_timeout_s)
        try:
            async with self._opening:
                await attempt.open()
            # More sessions than players are open where some are opened ahead (`prefetch`).
            async with self._playing:
                rollout = await attempt.play(self._fields)
        except AttemptFailedError as failed:
            return Played(failure=failed.failure, retry_after_s=failed.retry_after_s)
        except (ConfigurationError, AuthenticationError) as error:
            refused = attempt.failed(error, "open" if env.episode is None else "policy")
            return Played(failure=refused.failure, retry_after_s=refused.retry_after_s, mistake=error)
        self._keep(rollout)
        return Played(rollout, [] if env.episode is None else [step.environment_s for step in env.episode.steps])

    async def aclose(self) -> None:
        """Close the envs that nothing is played in, and the policy's connections."""
        free, self._free = self._free, []
        await asyncio.gather(*(env.aclose() for env in free))
        if callable(aclose := getattr(self.plan.policy, "aclose", None)):
            await aclose()
