"""Gymnasium environments as OpenReward environments.

    with serve.local([serve.bridge("FrozenLake-v1", is_slippery=False), "CartPole-v1"]) as base_url: ...

The model plays with one tool, `step`, whose argument is an element of the action space as JSON. A task is a seed. An
observation is JSON text that `decode` restores exactly, with pictures as PNG. The exact observation, `terminated`,
`truncated` and the info are in the output's metadata; those of the reset are in the `detail` of the prompt's second block.

The `openreward` SDK takes seconds to import: it is loaded when a class is made, with `bridged`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openreward_gym.errors import MissingExtraError
from openreward_gym.serve.recipe import Recipe, Render, Source, recipe_of


def bridge(
    environment: Source,
    *,
    name: str | None = None,
    splits: Mapping[str, int | Iterable[int]] | None = None,
    prompt: str | None = None,
    render: Render | None = None,
    action_names: Sequence[str] | None = None,
    **arguments: Any,
) -> type[Any]:
    """Return an OpenReward environment class for a Gymnasium environment.

    The class can be served (`serve.local`, `serve.app`, the SDK's `Server`) or played in this process
    (`OpenRewardEnv(environment)`). Each session runs its own env in its own thread, so the env may block. Imports the
    `openreward` SDK, and makes the env once to read its spaces.

    Args:
        environment: A registered id ("FrozenLake-v1", "my_module:MyEnv-v0"), a spec, an env with a spec, or a function that
            makes an env.
        name: The environment's name; None for the id without its namespace.
        splits: The seeds of each split: either a number of seeds (numbered on from split to split) or the seeds themselves.
            None for 1000 train tasks and 100 test tasks.
        prompt: The instructions before the first observation; None for a description of both spaces.
        render: "ansi" or "rgb_array" adds the result of `env.render()` to each observation; None adds nothing.
        action_names: Names of the actions of a Discrete action space, in order. None for the env's own names
            (`get_action_meanings()`, an enum `actions`, or `metadata["action_names"]`), if it has any.
        **arguments: Arguments of `gymnasium.make`.

    Raises:
        ConfigurationError: The environment does not exist, a space cannot be written as JSON, or an argument is wrong.
        MissingExtraError: The extra `server` is not installed.

    Example:
        lake = serve.bridge("FrozenLake-v1", is_slippery=False, action_names=["left", "down", "right", "up"])
        env = OpenRewardEnv(lake)
        env.reset(seed=0)
        env.step({"name": "step", "arguments": {"action": "down"}})
    """
    return class_of(recipe_of(environment, name, splits, prompt, render, action_names, arguments))


def class_of(recipe: Recipe) -> type[Any]:
    """Return the environment class of `recipe`; see `bridge`."""
    try:
        from openreward_gym.serve.bridged import make_class
    except ModuleNotFoundError as error:
        if error.name != "openreward":
            raise
        raise MissingExtraError(
            "serving needs the package openreward, which is not installed: pip install 'openreward-gym[server]'"
        ) from None
    return make_class(recipe)
