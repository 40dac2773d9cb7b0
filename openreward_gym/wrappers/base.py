"""The base of our wrappers: a subclass writes pure hooks and works sync and async alike."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import gymnasium
from gymnasium.utils import RecordConstructorArgs

from openreward_gym.envs.env import Observation, OpenRewardEnv, StepResult
from openreward_gym.envs.observations import Info
from openreward_gym.errors import ConfigurationError


class Wrapper(gymnasium.Wrapper[Observation, Any, Observation, Any], RecordConstructorArgs):
    """Around an `OpenRewardEnv` or another wrapper of it.

    Subclasses override `on_reset`, `on_action`, `on_step` and `on_close`, which never wait: one class serves `step` and
    `astep`. Keyword arguments given to this constructor are recorded, so that `env.spec` rebuilds the stack; they must
    be the subclass's own constructor arguments and plain JSON.

    Raises:
        ConfigurationError: `env` is no OpenReward environment.
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

    # The hooks ----------------------------------------------------------------------------------------------------

    def on_reset(self, observation: Observation, info: Info) -> tuple[Observation, Info]:
        """What `reset` returns, given what the env inside returned."""
        return observation, info

    def on_action(self, action: Any) -> Any:
        """The action that the env inside gets."""
        return action

    def on_step(self, action: Any, result: StepResult) -> StepResult:
        """What `step` returns, given the action as the caller gave it and what the env inside returned."""
        return result

    def on_close(self) -> None:
        """Called before the env inside is closed, each time."""

    # Gymnasium's face, and its async twin ---------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        return self.on_reset(*self.env.reset(seed=seed, options=options))

    def step(self, action: Any) -> StepResult:
        return self.on_step(action, cast(StepResult, self.env.step(self.on_action(action))))

    def close(self) -> None:
        self.on_close()
        self.env.close()

    async def areset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """`reset` as a coroutine; a wrapper inside that is not ours is reset in a thread."""
        if isinstance(self.env, Wrapper | OpenRewardEnv):
            return self.on_reset(*await self.env.areset(seed=seed, options=options))
        return self.on_reset(*await asyncio.to_thread(self.env.reset, seed=seed, options=options))

    async def astep(self, action: Any) -> StepResult:
        """`step` as a coroutine; a wrapper inside that is not ours is stepped in a thread."""
        given = self.on_action(action)
        if isinstance(self.env, Wrapper | OpenRewardEnv):
            return self.on_step(action, await self.env.astep(given))
        return self.on_step(action, cast(StepResult, await asyncio.to_thread(self.env.step, given)))

    async def aclose(self) -> None:
        """`close` as a coroutine."""
        self.on_close()
        if isinstance(self.env, Wrapper | OpenRewardEnv):
            await self.env.aclose()
        else:
            await asyncio.to_thread(self.env.close)
