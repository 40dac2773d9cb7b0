"""What a policy is: an async function from the transcript and the tools to the assistant's next message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, cast, runtime_checkable

from openreward_gym.types import AssistantMessage, Message, Task, ToolSet

Transcript: TypeAlias = tuple[Message, ...]

Policy: TypeAlias = Callable[[Transcript, ToolSet], Awaitable[AssistantMessage]]
"""`await policy(transcript, tools)`: all it knows is in its arguments, so one policy serves many episodes at once."""


@runtime_checkable
class EpisodicPolicy(Protocol):
    """A policy that wants to know which episode it plays: `begin` returns the policy of that episode."""

    def begin(self, task: Task, sample: int, seed: int) -> Policy:
        """The policy for sample number `sample` (from 0) of `task`; `seed` is the episode's own."""
        ...


def policy_of_episode(policy: Policy | EpisodicPolicy, task: Task, sample: int, seed: int) -> Policy:
    # What isinstance(policy, EpisodicPolicy) asks, at a hundredth of its price.
    begin = getattr(policy, "begin", None)
    return cast(EpisodicPolicy, policy).begin(task, sample, seed) if callable(begin) else cast(Policy, policy)
