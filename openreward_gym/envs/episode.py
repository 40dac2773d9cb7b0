"""What happened in an episode: written by the env, read by recorders and renderers."""

from __future__ import annotations

from dataclasses import dataclass, field

from openreward_gym.types import (
    AssistantMessage,
    Json,
    Message,
    StopReason,
    Task,
    ToolCall,
    ToolOutput,
    ToolResult,
    ToolSet,
    UserMessage,
)


@dataclass(frozen=True, slots=True)
class CallResult:
    """A call and what it did. `executed` is False for a call that was never sent (malformed, or after the end)."""

    call: ToolCall
    output: ToolOutput
    started_at: str
    ended_at: str
    executed: bool = True


@dataclass(slots=True)
class Step:
    """One step: the assistant's message and what followed.

    Attributes:
        action: The assistant's message as the env took it.
        results: The calls' results in their order.
        reply: What the env said to a plain message that did not end the episode; empty if nothing.
        reward: The sum of the calls' rewards, 0.0 where none was given.
        has_reward: Whether any call gave a reward.
        terminated, truncated, stop_reason: As `step` returned them.
        error: What went wrong between us and the server; empty if nothing did.
        started_at, ended_at: ISO 8601, UTC.
        environment_s: Seconds in the environment. policy_s: Seconds since the last observation was returned.
        annotations: What `env.unwrapped.annotate(...)` added.
    """

    action: AssistantMessage
    results: tuple[CallResult, ...] = ()
    reply: str = ""
    reward: float = 0.0
    has_reward: bool = False
    terminated: bool = False
    truncated: bool = False
    stop_reason: StopReason | str = ""
    error: str = ""
    started_at: str = ""
    ended_at: str = ""
    environment_s: float = 0.0
    policy_s: float = 0.0
    annotations: dict[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class Episode:
    """From `reset` to the end.

    Attributes:
        environment, variant, base_url: Where it runs; `base_url` is None for the hosted platform.
        task: The task; `task.spec` is None where it was not read.
        tools: What the session offers.
        prompt: The conversation that the environment opened with.
        seed: The seed given to `reset`; None if none was.
        session_id: The server's id of the session; not part of any record.
        started_at, ended_at: ISO 8601, UTC; `ended_at` empty while it runs.
        reset_s: Seconds the reset took.
        steps: What happened since.
        annotations: What `env.unwrapped.annotate(...)` added before the first step.
    """

    environment: str
    variant: str | None
    base_url: str | None
    task: Task
    tools: ToolSet
    prompt: tuple[Message, ...]
    seed: int | None = None
    session_id: str | None = None
    server_version: str | None = None
    started_at: str = ""
    ended_at: str = ""
    reset_s: float = 0.0
    steps: list[Step] = field(default_factory=list)
    annotations: dict[str, Json] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return bool(self.steps) and (self.steps[-1].terminated or self.steps[-1].truncated)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The transcript so far: the prompt, then each assistant turn followed by a user turn of its results."""
        transcript = list(self.prompt)
        for step in self.steps:
            transcript.append(step.action)
            transcript.extend(step_replies(step))
        return tuple(transcript)


def step_replies(step: Step) -> list[Message]:
    """What the environment answered to a step, as messages: results ride in one user turn, as on the wire."""
    results = tuple(ToolResult(r.output.blocks, r.call.call_id, r.call.name, is_error=bool(r.output.error)) for r in step.results)
    replies: list[Message] = [UserMessage(results)] if results else []
    if step.reply:
        replies.append(UserMessage(step.reply))
    return replies
