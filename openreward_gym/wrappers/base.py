"""The base class of the wrappers: a subclass overrides hooks and works in synchronous and asynchronous code."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias, cast

import gymnasium
from gymnasium.utils import RecordConstructorArgs

from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.typed_dicts import InfoDict
from openreward_gym.errors import ConfigurationError

Observation: TypeAlias = Any
"""An observation as wrappers pass it on: other wrappers may have changed its form."""

StepResult: TypeAlias = tuple[Observation, float, bool, bool, InfoDict]
"""The result of a step: observation, reward, terminated, truncated, info."""


class Wrapper(gymnasium.Wrapper[Observation, Any, Observation, Any], RecordConstructorArgs):
    """Base class of wrappers of an `OpenRewardEnv` or of another wrapper.

    Subclasses override `on_reset`, `on_action`, `on_step` and `on_close`. The hooks do no I/O, so one class serves `step` and
    `astep`. Keyword arguments of this constructor are recorded, so that `env.spec` can rebuild the wrappers; they must be the
    subclass's own constructor arguments and plain JSON.

    Raises:
        ConfigurationError: `env` is not an OpenReward environment.

    Example:
        >>> from openreward_gym.envs import OpenRewardEnv
        >>> class Shout(Wrapper):
        ...     def on_step(self, action, result):
        ...         observation, *others = result
        ...         return (observation.upper(), *others)
        >>> Shout(OpenRewardEnv("weather", base_url="http://127.0.0.1:8080"))
        <ShoutOpenRewardEnv('weather', split='train', base_url='http://127.0.0.1:8080')>
    """

    def __init__(self, env: gymnasium.Env[Any, Any], **arguments: Any) -> None:
        RecordConstructorArgs.__init__(self, _disable_deepcopy=True, **arguments)
        if not isinstance(env, gymnasium.Env) or not isinstance(env.unwrapped, OpenRewardEnv):
            raise ConfigurationError(
                f"{type(self).__name__} wraps an OpenReward environment (gym.make('OpenReward-v0', ...)), not {env!r}"
            )
        gymnasium.Wrapper.__init__(self, env)

    @property
    def unwrapped(self) -> OpenRewardEnv:
        return cast(OpenRewardEnv, super().unwrapped)

    def on_reset(self, observation: Observation, info: InfoDict) -> tuple[Observation, InfoDict]:
        """Return the result of `reset`, from the result of the inner env."""
        return observation, info

    def on_action(self, action: Any) -> Any:
        """Return the action for the inner env."""
        return action

    def on_step(self, action: Any, result: StepResult) -> StepResult:
        """Return the result of `step`, from the caller's action and the result of the inner env."""
        return result

    def on_close(self) -> None:
        """Release resources. It is called before each close of the inner env."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, InfoDict]:
        return self.on_reset(*self.env.reset(seed=seed, options=options))

    def step(self, action: Any) -> StepResult:
        return self.on_step(action, cast(StepResult, self.env.step(self.on_action(action))))

    def close(self) -> None:
        self.on_close()
        self.env.close()

    async def areset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, InfoDict]:
        """`reset` as a coroutine. An inner wrapper of another package is reset in a thread."""
        if isinstance(self.env, Wrapper | OpenRewardEnv):
            return self.on_reset(*await self.env.areset(seed=seed, options=options))
        return self.on_reset(*await asyncio.to_thread(self.env.reset, seed=seed, options=options))

    async def astep(self, action: Any) -> StepResult:
        """`step` as a coroutine. An inner wrapper of another package is stepped in a thread."""
        inner_action = self.on_action(action)
        if isinstance(self.env, Wrapper | OpenRewardEnv):
            return self.on_step(action, cast(StepResult, await self.env.astep(inner_action)))
        return self.on_step(action, cast(StepResult, await asyncio.to_thread(self.env.step, inner_action)))

    async def aclose(self) -> None:
        """`close` as a coroutine."""
        self.on_close()
        if isinstance(self.env, Wrapper | OpenRewardEnv):
            await self.env.aclose()
        else:
            await asyncio.to_thread(self.env.close)
