"""Limits on an episode: steps, seconds, tokens. Each truncates it, with its own stop reason."""

from __future__ import annotations

import abc
import time
from typing import Any, Literal

import gymnasium

from openreward_gym.envs.env import Observation, StepResult
from openreward_gym.envs.observations import Info, blocks_text, conversation_text
from openreward_gym.errors import ConfigurationError
from openreward_gym.types import AssistantMessage, StopReason
from openreward_gym.wrappers.base import Wrapper
from openreward_gym.wrappers.tokens import count_tokens, load_tokenizer, name_of


class _Limit(Wrapper, abc.ABC):
    """Truncates an episode in the step that `_reached` says is the last; an episode that ends by itself stays as it is."""

    _stop_reason: StopReason = "max_steps"

    def on_step(self, action: Any, result: StepResult) -> StepResult:
        observation, reward, terminated, truncated, info = result
        reached = self._reached()
        if not reached or terminated or truncated:
            return result
        # The env is told too: its session is closed, and recorders on either side of this wrapper say the same.
        self.unwrapped.truncate(self._stop_reason)
        return observation, reward, False, True, {**info, "stop_reason": self._stop_reason}

    @abc.abstractmethod
    def _reached(self) -> bool:
        """Whether the step that was just taken is the last one allowed."""


class LimitSteps(_Limit):
    """Truncates an episode after `max_steps` steps, with stop reason "max_steps".

    Raises:
        ConfigurationError: `max_steps` is not a whole number above 0, or `env` is no OpenReward environment.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], max_steps: int) -> None:
        super().__init__(env, max_steps=_positive("max_steps", max_steps, whole=True))
        self.max_steps = max_steps
        self._steps = 0

    def on_reset(self, observation: Observation, info: Info) -> tuple[Observation, Info]:
        self._steps = 0
        return observation, info

    def _reached(self) -> bool:
        self._steps += 1
        return self._steps >= self.max_steps


class LimitSeconds(_Limit):
    """Truncates an episode in the first step that ends `max_seconds` or more after the reset, with stop reason "deadline".

    The policy's time counts too. A call that is running is not interrupted: that is what the env's own `step_timeout_s`
    and `episode_timeout_s` are for.

    Raises:
        ConfigurationError: `max_seconds` is not a number above 0, or `env` is no OpenReward environment.
    """

    _stop_reason = "deadline"

    def __init__(self, env: gymnasium.Env[Any, Any], max_seconds: float) -> None:
        super().__init__(env, max_seconds=_positive("max_seconds", max_seconds))
        self.max_seconds = max_seconds
        self._begun = 0.0

    def on_reset(self, observation: Observation, info: Info) -> tuple[Observation, Info]:
        self._begun = time.monotonic()
        return observation, info

    def _reached(self) -> bool:
        return time.monotonic() - self._begun >= self.max_seconds


class LimitTokens(_Limit):
    """Truncates an episode when its tokens are used up.

    What the provider told about a message (`Sampled.usage`) is counted; where it told nothing, the tokenizer counts the
    text. Tokens are never guessed: without either, the step raises.

    Args:
        env: An OpenReward environment, wrapped or not.
        max_tokens: How many.
        of: "output" counts what the policy wrote in the whole episode (stop reason "max_tokens"); "context" the
            conversation as the policy's next turn will begin with it (stop reason "context_overflow").
        tokenizer: The name or path of a `transformers` tokenizer, or one; None relies on the provider.

    Raises:
        ConfigurationError: An argument cannot be, or `env` is no OpenReward environment.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        max_tokens: int,
        *,
        of: Literal["output", "context"] = "output",
        tokenizer: Any = None,
    ) -> None:
        if of not in ("output", "context"):
            raise ConfigurationError(f"of must be 'output' or 'context', not {of!r}")
        _positive("max_tokens", max_tokens, whole=True)
        super().__init__(env, max_tokens=max_tokens, of=of, tokenizer=name_of(tokenizer))
        self.max_tokens = max_tokens
        self.of = of
        self.tokens = 0
        self._tokenizer: Any = None if tokenizer is None else load_tokenizer(tokenizer)
        self._stop_reason = "max_tokens" if of == "output" else "context_overflow"

    def on_reset(self, observation: Observation, info: Info) -> tuple[Observation, Info]:
        self.tokens = 0
        return observation, info

    def _reached(self) -> bool:
        step = self.unwrapped.last_step
        if step is None:
            return False
        self.tokens = self.tokens + self._written(step.action) if self.of == "output" else self._context(step.action)
        return self.tokens >= self.max_tokens

    def _written(self, message: AssistantMessage) -> int:
        usage = message.sampled.usage if message.sampled is not None else None
        if usage is not None and usage.output_tokens is not None:
            return usage.output_tokens
        if message.sampled is not None and message.sampled.token_ids is not None:
            return len(message.sampled.token_ids)
        return self._count(blocks_text(message.blocks))

    def _context(self, message: AssistantMessage) -> int:
        usage = message.sampled.usage if message.sampled is not None else None
        if self._tokenizer is not None or usage is None or usage.input_tokens is None or usage.output_tokens is None:
            return self._count(conversation_text(self.unwrapped.messages))
        # What came back since is not in the provider's count; it will be in that of the next message.
        return usage.input_tokens + usage.output_tokens

    def _count(self, text: str) -> int:
        if self._tokenizer is None:
            raise ConfigurationError(
                "LimitTokens cannot count this message: the policy told no usage with it. Give the limit a tokenizer "
                "(tokenizer='the name of the model'), or send messages with Sampled(usage=...)"
            )
        return count_tokens(self._tokenizer, text)


def _positive(name: str, value: float, *, whole: bool = False) -> float:
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:
        raise ConfigurationError(f"{name} must be a {'whole ' if whole else ''}number above 0, not {value!r}")
    return value
