"""Limits on the steps, seconds or tokens of an episode. Each limit truncates it with its own stop reason."""

from __future__ import annotations

import abc
import time
from typing import Any, Literal

import gymnasium

from openreward_gym.suggestions import suggests_options
from openreward_gym.envs.observations import blocks_text, conversation_text
from openreward_gym.envs.typed_dicts import InfoDict
from openreward_gym.errors import ConfigurationError
from openreward_gym.checks import integer, number
from openreward_gym.types import AssistantMessage, StopReason
from openreward_gym.wrappers.base import Observation, StepResult, Wrapper
from openreward_gym.wrappers.tokens import count_tokens, load_tokenizer, name_of


class _Limit(Wrapper, abc.ABC):
    """Base class of the limits: truncates the episode in the first step for which `_reached` returns True."""

    _stop_reason: StopReason = "max_steps"

    def on_step(self, action: Any, result: StepResult) -> StepResult:
        observation, reward, terminated, truncated, info = result
        reached = self._reached()
        if not reached or terminated or truncated:
            return result
        # The env ends its episode, too: it closes the session, and recorders inside this wrapper get the same end.
        self.unwrapped.truncate(self._stop_reason)
        return observation, reward, False, True, {**info, "stop_reason": self._stop_reason}

    @abc.abstractmethod
    def _reached(self) -> bool:
        """Return True if the step that was just played is the last one allowed."""


class LimitSteps(_Limit):
    """Truncate an episode after `max_steps` steps, with stop reason "max_steps".

    Raises:
        ConfigurationError: `max_steps` is not an integer above 0, or `env` is not an OpenReward environment.

    Example:
        >>> from openreward_gym.envs import OpenRewardEnv
        >>> LimitSteps(OpenRewardEnv("weather"), 8).max_steps
        8
    """

    @suggests_options
    def __init__(self, env: gymnasium.Env[Any, Any], max_steps: int) -> None:
        super().__init__(env, max_steps=integer(1)("max_steps", max_steps))
        self.max_steps = max_steps
        self._steps = 0

    def on_reset(self, observation: Observation, info: InfoDict) -> tuple[Observation, InfoDict]:
        self._steps = 0
        return observation, info

    def _reached(self) -> bool:
        self._steps += 1
        return self._steps >= self.max_steps


class LimitSeconds(_Limit):
    """Truncate an episode in the first step that ends `max_seconds` or more after the reset, with stop reason "deadline".

    The policy's time counts, too. A running call is not interrupted: for that the env has `step_timeout_s` and
    `episode_timeout_s`.

    Raises:
        ConfigurationError: `max_seconds` is not a number above 0, or `env` is not an OpenReward environment.

    Example:
        >>> from openreward_gym.envs import OpenRewardEnv
        >>> LimitSeconds(OpenRewardEnv("weather"), 60.0).max_seconds
        60.0
    """

    _stop_reason = "deadline"

    @suggests_options
    def __init__(self, env: gymnasium.Env[Any, Any], max_seconds: float) -> None:
        super().__init__(env, max_seconds=number()("max_seconds", max_seconds))
        self.max_seconds = max_seconds
        self._begun = 0.0

    def on_reset(self, observation: Observation, info: InfoDict) -> tuple[Observation, InfoDict]:
        self._begun = time.monotonic()
        return observation, info

    def _reached(self) -> bool:
        return time.monotonic() - self._begun >= self.max_seconds


class LimitTokens(_Limit):
    """Truncate an episode when it has used up a number of tokens.

    The counts come from the provider's report on each message (`Sampled.usage`). For a message without a report, the tokenizer
    counts its text. The number is never guessed: without a report and a tokenizer, the step raises.

    Args:
        env: An OpenReward environment, wrapped or not.
        max_tokens: Number of tokens.
        of: "output" counts all tokens that the policy wrote in the episode (stop reason "max_tokens"). "context" counts the
            tokens of the conversation that the policy's next turn begins with (stop reason "context_overflow").
        tokenizer: A `transformers` tokenizer, its name or its path. None relies on the provider.

    Raises:
        ConfigurationError: An argument is wrong, or `env` is not an OpenReward environment.

    Example:
        >>> from openreward_gym.envs import OpenRewardEnv
        >>> LimitTokens(OpenRewardEnv("weather"), 4096, of="context").max_tokens
        4096
    """

    @suggests_options
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
        integer(1)("max_tokens", max_tokens)
        super().__init__(env, max_tokens=max_tokens, of=of, tokenizer=name_of(tokenizer))
        self.max_tokens = max_tokens
        self.of = of
        self.tokens = 0
        self._tokenizer: Any = None if tokenizer is None else load_tokenizer(tokenizer)
        self._stop_reason = "max_tokens" if of == "output" else "context_overflow"

    def on_reset(self, observation: Observation, info: InfoDict) -> tuple[Observation, InfoDict]:
        self.tokens = 0
        return observation, info

    def _reached(self) -> bool:
        step = self.unwrapped.last_step
        if step is None:
            return False
        self.tokens = self.tokens + self._written(step.action) if self.of == "output" else self._context(step.action)
        return self.tokens >= self.max_tokens

    def _written(self, message: AssistantMessage) -> int:
        sampled = message.sampled
        if sampled is not None and sampled.usage is not None and sampled.usage.output_tokens is not None:
            return sampled.usage.output_tokens
        if sampled is not None and sampled.token_ids is not None:
            return len(sampled.token_ids)
        return self._count(blocks_text(message.blocks))

    def _context(self, message: AssistantMessage) -> int:
        usage = message.sampled.usage if message.sampled is not None else None
        if self._tokenizer is not None or usage is None or usage.input_tokens is None or usage.output_tokens is None:
            return self._count(conversation_text(self.unwrapped.messages))
        # The provider's count excludes the answers since then. The count of the next message includes them.
        return usage.input_tokens + usage.output_tokens

    def _count(self, text: str) -> int:
        if self._tokenizer is None:
            raise ConfigurationError(
                "LimitTokens cannot count this message: it has no usage. Pass a tokenizer (tokenizer='the name of the model'), "
                "or send messages with Sampled(usage=...)"
            )
        return count_tokens(self._tokenizer, text)
