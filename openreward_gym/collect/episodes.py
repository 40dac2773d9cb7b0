"""One attempt at a unit: a session is opened, the policy plays it to its end, and the record of it comes back."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Mapping
from typing import Any

from openreward_gym.collect.attribution import Stage, failure_of
from openreward_gym.collect.inventory import Unit
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.episode import FAILURES, Episode
from openreward_gym.errors import (
    AuthenticationError,
    CallTimeoutError,
    ConfigurationError,
    ContextOverflowError,
    TaskNotFoundError,
)
from openreward_gym.policies import EpisodicPolicy, Policy, policy_of_episode
from openreward_gym.store.failure import Failure
from openreward_gym.types.rollout import Rollout
from openreward_gym.wrappers.record import rollout_of


class AttemptFailedError(Exception):
    """The attempt has no outcome. `retry_after_s` is what the other side asked for; None where it did not."""

    def __init__(self, failure: Failure, retry_after_s: float | None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.retry_after_s = retry_after_s


class Attempt:
    """Attempt number `attempt` at `unit` in `env`.

    Args:
        policy: Who plays.
        seed: The run's seed; each unit's own is made of it.
        episode_timeout_s: Seconds from the opening's end; None for no limit.
    """

    def __init__(
        self,
        env: OpenRewardEnv,
        unit: Unit,
        attempt: int,
        *,
        policy: Policy | EpisodicPolicy,
        seed: int,
        episode_timeout_s: float | None,
    ) -> None:
        self.env = env
        self.unit = unit
        self.attempt = attempt
        self.seed = unit_seed(seed, unit)
        self._policy = policy
        self._episode_timeout_s = episode_timeout_s
        self._stop_reason: str | None = None

    async def open(self) -> None:
        """Open the session.

        Raises:
            AttemptFailedError: It could not be opened this time.
            ConfigurationError, AuthenticationError: It never can: the caller has to change something.
        """
        try:
            await self.env.areset(options=self.unit.task.reset_options())
        except AuthenticationError:
            raise
        except (*FAILURES, TaskNotFoundError) as error:
            raise self.failed(error, "open") from None

    async def play(self, fields: Mapping[str, Any]) -> Rollout:
        """Play the opened episode; `fields` are further ones of the record.

        Raises:
            AttemptFailedError: What happened does not count.
        """
        episode = self.env.episode
        assert episode is not None
        ends = None if self._episode_timeout_s is None else time.monotonic() + self._episode_timeout_s
        try:
            policy = policy_of_episode(self._policy, episode.task, self.unit.sample, self.seed)
        except Exception as error:  # the policy is the caller's: it may raise anything
            raise self.failed(error, "policy") from None
        while await self._turn(episode, policy, ends):
            pass
        return self._record(episode, fields)

    async def _turn(self, episode: Episode, policy: Policy, ends: float | None) -> bool:
        """One turn; whether another follows."""
        limit = asyncio.timeout(None if ends is None else max(0.0, ends - time.monotonic()))
        try:
            async with limit:
                message = await policy(episode.messages, episode.tools)
        except ContextOverflowError:
            return self._truncate("context_overflow")
        except AuthenticationError:
            raise  # the key is the same for every unit
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                return self._truncate("deadline")
            raise self.failed(error, "policy") from None
        try:
            _, _, terminated, truncated, _ = await self.env.astep(message)
        except CallTimeoutError:
            return False  # a deadline of ours: the step says so, and the episode counts as truncated
        except FAILURES as error:
            raise self.failed(error, "call") from None
        except ConfigurationError as error:
            # The answer is nothing that an env takes.
            raise self.failed(error, "policy") from None
        return not (terminated or truncated)

    def _truncate(self, stop_reason: str) -> bool:
        self._stop_reason = stop_reason
        self.env.truncate(stop_reason)
        return False

    def failed(self, error: Exception, stage: Stage) -> AttemptFailedError:
        """What `error` means for this attempt."""
        return AttemptFailedError(failure_of(error, self.unit, self.attempt, stage), getattr(error, "retry_after_s", None))

    def _record(self, episode: Episode, fields: Mapping[str, Any]) -> Rollout:
        ended: dict[str, Any] = {}
        if self._stop_reason is not None:
            ended = {"terminated": False, "truncated": True, "stop_reason": self._stop_reason}
        return rollout_of(
            episode,
            **ended,
            group=self.unit.group,
            sample=self.unit.sample,
            name=f"{self.unit.group}-{self.unit.sample}",
            attempt=self.attempt,
            seed=self.seed,
            **fields,
        )


def unit_seed(seed: int, unit: Unit) -> int:
    """The unit's own seed: the same in whatever order units are played."""
    return zlib.crc32(f"{seed}/{unit.id}".encode())
