"""Reward functions of TRL: the return of the environment, and a user's own functions beside it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.integrations.trl.environment import TrlEnvironment, play_of
from openreward_gym.integrations.trl.play import Play
from openreward_gym.integrations.trl.state import TrainingState
from openreward_gym.protocol import loop

logger = logging.getLogger("openreward_gym")


class EpisodeReturn:
    """Reward function: the sum of an episode's rewards. None where infrastructure spoiled the episode, so that TRL leaves it out.

    It plays the model's last message, ends the episodes, and writes their records: those of a batch at the same time.

    Args:
        state: What the trainer tells.
    """

    def __init__(self, state: TrainingState) -> None:
        self._state = state
        # TRL logs rewards by this name.
        self.__name__ = "episode_return"

    def __call__(
        self,
        completions: Sequence[Any],
        prompts: Sequence[Any] = (),
        completion_ids: Sequence[Sequence[int]] | None = None,
        environments: Sequence[Any] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Return the reward of each rollout, and report how many have none."""
        rewards = self.rewards(completions, prompts, completion_ids, environments)
        plays = plays_of(prompts, environments)
        spoiled = [play.error for play in plays if play is not None and play.error is not None]
        if log_metric is not None:
            log_metric("episodes/spoiled", len(spoiled) / max(1, len(plays)))
        if spoiled:
            logger.warning("%d of %d episodes have no reward: %s", len(spoiled), len(plays), spoiled[0])
        return rewards

    def rewards(
        self,
        completions: Sequence[Any],
        prompts: Sequence[Any] = (),
        completion_ids: Sequence[Sequence[int]] | None = None,
        environments: Sequence[Any] | None = None,
    ) -> list[float | None]:
        """Return the reward of each rollout. A rollout is scored once, however often it is asked for."""
        self._state.check()
        plays = plays_of(prompts, environments)
        ids: Sequence[Any] = completion_ids if completion_ids is not None else [None] * len(plays)
        return loop.run(_score(plays, completions, ids))


async def _score(plays: Sequence[Play | None], completions: Sequence[Any], ids: Sequence[Any]) -> list[float | None]:
    async def score(play: Play | None, completion: Any, completion_ids: Any) -> float | None:
        return None if play is None else await play.score(completion, completion_ids)

    return list(await asyncio.gather(*map(score, plays, completions, ids)))


def plays_of(prompts: Sequence[Any], environments: Sequence[Any] | None) -> list[Play | None]:
    """Return the episode of each rollout; None for a rollout with an environment that is not ours.

    Raises:
        ConfigurationError: TRL gave neither environments nor prompts that know their episode.
    """
    if environments is not None:
        return [one._play if isinstance(one, TrlEnvironment) else None for one in environments]
    plays = [play_of(prompt) for prompt in prompts]
    if prompts and not any(plays):
        raise ConfigurationError(
            "the prompts belong to no episode: pass grpo()'s `environment_factory` to the trainer together with its "
            "`reward_funcs`, and let each prompt end with a message of text"
        )
    return plays


class Guarded:
    """A user's reward function that says None for episodes that infrastructure spoiled.

    TRL adds up what is not None: without the episode's return, the user's reward alone would be taken for the whole.

    Args:
        function: The user's reward function.
        returns: The reward function of the episodes.

    Example:
        >>> def brevity(completions, **columns):
        ...     return [1.0 / len(completion) for completion in completions]
        >>> Guarded(brevity, EpisodeReturn(TrainingState())).__name__
        'brevity'
    """

    def __init__(self, function: Callable[..., Any], returns: EpisodeReturn) -> None:
        self._function = function
        self._returns = returns
        plain: Any = function
        while isinstance(plain, partial):
            plain = plain.func
        self.__name__ = getattr(plain, "__name__", type(plain).__name__)

    def __call__(self, **columns: Any) -> list[float | None]:
        return self._only_scored(self._returns_of(columns), self._function(**columns), columns)

    def _returns_of(self, columns: dict[str, Any]) -> list[float | None]:
        known = ("completions", "prompts", "completion_ids", "environments")
        return self._returns.rewards(**{name: columns[name] for name in known if name in columns})

    @staticmethod
    def _only_scored(returns: Sequence[float | None], rewards: Sequence[Any], columns: dict[str, Any]) -> list[float | None]:
        plays = plays_of(columns.get("prompts", ()), columns.get("environments"))
        return [
            None if play is not None and value is None else reward
            for play, value, reward in zip(plays, returns, rewards, strict=True)
        ]


class AsyncGuarded(Guarded):
    """`Guarded` for a reward function that is a coroutine function."""

    async def __call__(self, **columns: Any) -> list[float | None]:  # type: ignore[override]
        returns = await asyncio.to_thread(self._returns_of, columns)
        return self._only_scored(returns, await self._function(**columns), columns)


def guarded(function: Any, returns: EpisodeReturn) -> Guarded:
    """Return a user's reward function so that it leaves spoiled episodes out.

    Raises:
        ConfigurationError: It is not a function.
    """
    if not callable(function) or isinstance(function, type) or hasattr(function, "forward"):
        raise ConfigurationError(
            f"reward_funcs of grpo() are functions, not {function!r}: call a reward model from a function of yours. "
            "In the trainer's own list, it would reward episodes that infrastructure spoiled"
        )
    plain: Any = function
    while isinstance(plain, partial):
        plain = plain.func
    is_async = inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(getattr(plain, "__call__", None))  # noqa: B004
    return (AsyncGuarded if is_async else Guarded)(function, returns)
