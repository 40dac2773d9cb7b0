"""A policy that calls tools at random: for smoke tests and as the floor any model must beat."""

from __future__ import annotations

from openreward_gym.envs.spaces import ToolCallSpace
from openreward_gym.policies.base import Policy, Transcript
from openreward_gym.types import AssistantMessage, Task, ToolCall, ToolSet


class RandomPolicy:
    """Calls a random tool with random arguments that fit its schema; the same seed plays the same calls."""

    name = "random"

    def begin(self, task: Task, sample: int, seed: int) -> Policy:
        space: ToolCallSpace | None = None

        async def play(transcript: Transcript, tools: ToolSet) -> AssistantMessage:
            nonlocal space
            turn = sum(isinstance(message, AssistantMessage) for message in transcript)
            if not tools.tools:
                return AssistantMessage("I have no tools to call.")
            if space is None:
                space = ToolCallSpace(tools.tools, tools.terminal, seed=seed)
            call = space.sample()
            return AssistantMessage(tool_calls=[ToolCall(call["name"], call["arguments"], f"call_{turn}")])

        return play
