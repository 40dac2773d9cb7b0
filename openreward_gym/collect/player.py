"""Playing one attempt at a unit: open a session, let the policy play the episode, return its rollout or its failure."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from openreward_gym.collect.inventory import Unit
from openreward_gym.collect.plan import RunPlan
from openreward_gym.envs.clients import SharedClient
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.episode import FAILURES, Episode
from openreward_gym.errors import (
    AuthenticationError,
    CallTimeoutError,
    ConfigurationError,
    ContextOverflowError,
    OpenRewardGymError,
    OutcomeUnknownError,
    PolicyError,
    ProtocolError,
    ServerError,
    ServerUnreachableError,
    SessionLostError,
    TaskNotFoundError,
    ToolFailedError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.policies.policy import Policy, policy_name, policy_of_episode, policy_settings
from openreward_gym.store import Failure
from openreward_gym.types import Rollout
from openreward_gym.wrappers.record import rollout_of

Stage: TypeAlias = Literal["open", "policy", "call"]

# The first class that matches decides: a lost session is also a transport error, and so on.
_KINDS: tuple[tuple[type[OpenRewardGymError], str], ...] = (
    (ServerUnreachableError, "unreachable"),
    (TransportTimeoutError, "timeout"),
    (OutcomeUnknownError, "outcome_unknown"),
    (ToolFailedError, "tool_failed"),
    (SessionLostError, "session_lost"),
    (ProtocolError, "protocol_error"),
    (TransportError, "connection"),
    (TaskNotFoundError, "task_not_found"),
    (ConfigurationError, "refused"),
    (AuthenticationError, "refused"),
)


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of an attempt: a rollout or a failure.

    Attributes:
        rollout: The rollout, which is already in the store; its messages may be missing here. None after a failure.
        step_seconds: Duration of each step in the environment.
        failure: The failure, which is not yet written to a file. None after a success.
        retry_after_s: Seconds to wait that the server or provider requests after a failure. None if it requests no wait.
        mistake: An error that is probably the same for every unit, because the caller has to change something. Without a failure
            beside it, the error ends the run.
        budget: The retry budget that a failure counts against. None: that of its kind.
    """

    rollout: Rollout | None = None
    step_seconds: list[float] = field(default_factory=list)
    failure: Failure | None = None
    retry_after_s: float | None = None
    mistake: Exception | None = None
    budget: str | None = None


class Player(Protocol):
    """Plays any number of attempts at once."""

    async def play(self, unit: Unit, attempt: int) -> AttemptResult:
        """Play attempt number `attempt` at a unit, and store the rollout."""

    async def aclose(self) -> None:
        """Abandon the attempts in flight, and release all resources."""


class LocalPlayer:
    """Plays attempts in this process, and calls `store` with each rollout."""

    def __init__(self, plan: RunPlan, run: str, store: Callable[[Rollout], None]) -> None:
        self.plan = plan
        self._store = store
        self._opening = asyncio.Semaphore(plan.options.opening)
        self._playing = asyncio.Semaphore(plan.options.concurrency)
        self._client = SharedClient(plan.options.env)
        self._idle: list[OpenRewardEnv] = []
        settings = policy_settings(plan.policy)
        self._fields: Mapping[str, Any] = {
            "run": run,
            "model": {"name": policy_name(plan.policy), **settings.get("model", {})},
            "sampling": settings.get("sampling") or None,
        }

    async def play(self, unit: Unit, attempt: int) -> AttemptResult:
        """Play an attempt; see `Player`."""
        env = self._idle.pop() if self._idle else self.plan.make_env(self._client)
        playing = _Attempt(self.plan, env, unit, attempt)
        try:
            async with self._opening:
                await playing.open()
            # With `prefetch`, more sessions are open than are played at once.
            async with self._playing:
                rollout = await playing.play(self._fields)
            self._store(rollout)
            result = AttemptResult(rollout, [] if env.episode is None else [step.environment_s for step in env.episode.steps])
        except _AttemptFailedError as error:
            result = error.result
        except BaseException:
            await env.aclose()
            raise
        self._idle.append(env)
        return result

    async def aclose(self) -> None:
        """Close the idle envs and the policy's connections."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(env.aclose() for env in idle))
        if callable(aclose := getattr(self.plan.policy, "aclose", None)):
            await aclose()


class _AttemptFailedError(Exception):
    """Ends an attempt without a rollout."""

    def __init__(self, result: AttemptResult) -> None:
        super().__init__()
        self.result = result


class _Attempt:
    """Attempt number `number` at `unit`, played in `env`."""

    def __init__(self, plan: RunPlan, env: OpenRewardEnv, unit: Unit, number: int) -> None:
        self.env = env
        self.unit = unit
        self.number = number
        # Independent of the order in which units are played.
        self.seed = zlib.crc32(f"{plan.options.seed}/{unit.id}".encode())
        self._policy = plan.policy
        self._timeout_s = plan.options.env.limits.episode_timeout_s
        self._stop_reason: str | None = None

    async def open(self) -> None:
        """Open the session."""
        try:
            await self.env.areset(options=self.unit.task.reset_options())
        except (*FAILURES, ConfigurationError) as error:
            mistake = isinstance(error, ConfigurationError | AuthenticationError) and not isinstance(error, TaskNotFoundError)
            raise self._failed(error, "open", mistake=mistake) from None

    async def play(self, fields: Mapping[str, Any]) -> Rollout:
        """Play the open episode to its end, and return its rollout with `fields` added."""
        episode = self.env.episode
        assert episode is not None
        deadline = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        try:
            policy = policy_of_episode(self._policy, episode.task, self.unit.sample, self.seed)
        except Exception as error:  # the policy is the caller's code, which may raise anything
            raise self._failed(error, "policy") from None
        while await self._turn(episode, policy, deadline):
            pass
        end: dict[str, Any] = {}
        if self._stop_reason is not None:
            end = {"terminated": False, "truncated": True, "stop_reason": self._stop_reason}
        group, sample = self.unit.group, self.unit.sample
        end |= {"group": group, "sample": sample, "name": f"{group}-{sample}", "attempt": self.number, "seed": self.seed}
        return rollout_of(episode, **end, **fields)

    async def _turn(self, episode: Episode, policy: Policy, deadline: float | None) -> bool:
        """Play one turn; return True if another one follows."""
        limit = asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic()))
        try:
            async with limit:
                message = await policy(episode.messages, episode.tools)
        except ContextOverflowError:
            return self._truncate("context_overflow")
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                return self._truncate("deadline")
            # The key is the same for every unit.
            raise self._failed(error, "policy", mistake=isinstance(error, AuthenticationError)) from None
        try:
            _, _, terminated, truncated, _ = await self.env.astep(message)
        except CallTimeoutError:
            return False  # a deadline of the user's: the step records it, and the episode counts as truncated
        except FAILURES as error:
            raise self._failed(error, "call") from None
        except ConfigurationError as error:
            # The policy returned something that is not an action.
            raise self._failed(error, "policy") from None
        return not (terminated or truncated)

    def _truncate(self, stop_reason: str) -> bool:
        self._stop_reason = stop_reason
        self.env.truncate(stop_reason)
        return False

    def _failed(self, error: Exception, stage: Stage, *, mistake: bool = False) -> _AttemptFailedError:
        """Return the exception that ends this attempt with `error` as its failure."""
        failure = _failure_of(error, self.unit, self.number, stage)
        wait_s = getattr(error, "retry_after_s", None)
        return _AttemptFailedError(AttemptResult(failure=failure, retry_after_s=wait_s, mistake=error if mistake else None))


def _failure_of(error: Exception, unit: Unit, attempt: int, stage: Stage) -> Failure:
    """Return the failure record of an exception that ended an attempt.

    Errors of this package are the environment's, even if they pass through a policy; other exceptions are the policy's.
    """
    foreign = isinstance(error, PolicyError) or not isinstance(error, OpenRewardGymError)
    return Failure(
        source="policy" if foreign or stage == "policy" else "environment",
        kind=_kind(error),
        stage=stage,
        delivery=getattr(error, "delivery", None),
        attempt=attempt,
        http_status=getattr(error, "status", None),
        exception=f"{type(error).__module__}.{type(error).__qualname__}",
        message=str(error) or type(error).__name__,
        task=unit.group,
        sample=unit.sample,
        extra={name: value for name, value in (("split", unit.task.split), ("index", unit.task.index)) if value is not None},
    )


def _kind(error: Exception) -> str:
    """Return the kind of failure, by which retry budgets are chosen."""
    if isinstance(error, PolicyError):
        return error.kind
    if isinstance(error, ServerError) and not isinstance(error, AuthenticationError):
        if error.status == 429:
            return "rate_limited"
        # A server mostly refuses again what it refused once.
        return "refused" if error.status is not None and 400 <= error.status < 500 and error.status != 408 else "server_error"
    return next((kind for cls, kind in _KINDS if isinstance(error, cls)), "policy_failed")
