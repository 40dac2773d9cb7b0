"""The other direction: an environment of Gymnasium's as an OpenReward environment.

    with serve.local([serve.bridge("FrozenLake-v1", is_slippery=False), "CartPole-v1"]) as base_url: ...

The model plays it with one tool, `step`, whose argument is an element of the action space as JSON. A task is a seed. An
observation is JSON text that `values.decode` reads back exactly, with pictures as PNG; the exact observation, both ends and
the info are in the output's metadata, and the first observation's in the `detail` of its block of the prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openreward_gym.errors import MissingExtraError
from openreward_gym.serve.recipes import Recipe, Render, Source, recipe_of

__all__ = ["bridge"]


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
    """A class to serve (`serve.local`, `serve.app`, the SDK's `Server`) or to play (`environment=...`).

    Imports the `openreward` SDK, and makes the env once to see its spaces. Each session has an env and a thread of its own:
    the env is made, reset, stepped and closed in it, so it may block.

    Args:
        environment: A registered id ("FrozenLake-v1", "my_module:MyEnv-v0"), a spec, an env with a spec, or a function that
            makes one.
        name: The environment's name; None for the id, without a namespace.
        splits: The seeds of each split: how many (counted on from split to split), or which. None for 1000 to train and 100
            to test.
        prompt: What the model is told before the first observation; None for a description of both spaces.
        render: "ansi" or "rgb_array" adds what `env.render()` shows to each observation; None adds nothing.
        action_names: What the actions of a Discrete action space are called, in their order; None for the names that the env
            gives (`get_action_meanings()`, an enum `actions`, or `metadata["action_names"]`), if any.
        **arguments: Those of `gymnasium.make`.

    Raises:
        ConfigurationError: There is no such environment, one of its spaces cannot be written as JSON, or an argument is wrong.
        MissingExtraError: The extra `server` is not installed.
    """
    recipe = recipe_of(
        environment,
        name=name,
        splits=splits,
        prompt=prompt,
        render=render,
        action_names=action_names,
        arguments=arguments,
    )
    return class_of(recipe)


def class_of(recipe: Recipe) -> type[Any]:
    """The class of `recipe`; see `bridge`."""
    try:
        from openreward_gym.serve.bridged import make_class
    except ModuleNotFoundError as error:
        if error.name != "openreward":
            raise
        raise MissingExtraError(
            "serving needs the package openreward, which is not installed: pip install 'openreward-gym[server]'"
        ) from None
    return make_class(recipe)
