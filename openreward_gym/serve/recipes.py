"""How an environment of Gymnasium's is made and offered: what the bridge needs to know, and what travels to a server.

Nothing here imports the `openreward` SDK.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from openreward_gym.errors import ConfigurationError

__all__ = ["Recipe", "Render", "Source", "recipe_of", "registered"]

Source: TypeAlias = "str | EnvSpec | gymnasium.Env[Any, Any] | Callable[[], gymnasium.Env[Any, Any]]"
"""A registered id, a spec, an env (whose spec is taken), or a function that makes one."""

Render: TypeAlias = Literal["ansi", "rgb_array"]

SPLITS: Mapping[str, int] = {"train": 1000, "test": 100}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Recipe:
    """An environment of Gymnasium's as one to be served.

    Attributes:
        source: Its spec, or the function that makes it.
        name: Its name at the server.
        splits: The seeds of each split: a task is a seed.
        prompt: What the model is told first; None for a description of the spaces.
        render: Which frames come with each observation; None for none.
        action_names: Names of the actions of a Discrete space; None for those that the env gives, if it does.
        arguments: Further arguments of `gymnasium.make`.
    """

    source: EnvSpec | Callable[[], gymnasium.Env[Any, Any]]
    name: str
    splits: Mapping[str, Sequence[int]] = field(default_factory=lambda: _seeds(SPLITS))
    prompt: str | None = None
    render: Render | None = None
    action_names: tuple[str, ...] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> gymnasium.Env[Any, Any]:
        """A new env.

        Raises:
            ConfigurationError: It cannot be made, or the function gave something else.
        """
        if not isinstance(self.source, EnvSpec):
            env = self.source()
            if not isinstance(env, gymnasium.Env):
                raise ConfigurationError(f"{self.source!r} must return a gymnasium.Env, not {env!r}")
            return env
        arguments = dict(self.arguments) if self.render is None else {**self.arguments, "render_mode": self.render}
        try:
            return gymnasium.make(self.source, disable_env_checker=True, **arguments)
        except (gymnasium.error.Error, ImportError, TypeError) as error:
            raise ConfigurationError(f"Gymnasium cannot make {self.name}: {error}") from error


def recipe_of(
    source: Source,
    *,
    name: str | None = None,
    splits: Mapping[str, int | Iterable[int]] | None = None,
    prompt: str | None = None,
    render: Render | None = None,
    action_names: Sequence[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe of `source`; see `openreward_gym.serve.bridge`.

    Raises:
        ConfigurationError: An argument cannot be.
    """
    if render is not None and render not in get_args(Render):
        raise ConfigurationError(f"render must be one of {', '.join(get_args(Render))} or None, not {render!r}")
    made_by: Any = source
    if isinstance(source, str):
        made_by = registered(source)
    elif isinstance(source, gymnasium.Env):
        made_by = source.spec
        if made_by is None:
            raise ConfigurationError(f"{source} has no spec, so no second one can be made: pass a function that makes one")
    elif not isinstance(source, EnvSpec) and not callable(source):
        raise ConfigurationError(f"cannot bridge {source!r}: give a Gymnasium id, a spec, an env, or a function that makes one")
    if arguments and not isinstance(made_by, EnvSpec):
        raise ConfigurationError(f"{', '.join(arguments)}: a function that makes an env takes no arguments; give them in it")
    recipe = Recipe(
        made_by,
        "",
        _seeds(SPLITS if splits is None else splits),
        prompt,
        render,
        None if action_names is None else tuple(map(str, action_names)),
        dict(arguments or {}),
    )
    return dataclasses.replace(recipe, name=_checked_name(name or _own_name(recipe)))


def registered(text: str) -> EnvSpec:
    """The spec of a registered id: "FrozenLake-v1", "ALE/Pong-v5", "my_module:MyEnv-v0".

    Raises:
        ConfigurationError: There is none.
    """
    module, colon, name = text.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"cannot import {module!r}, which {text!r} names: {error}") from None
    if name in gymnasium.registry:
        return _findable(gymnasium.registry[name])
    close = difflib.get_close_matches(name, gymnasium.registry, n=3)
    hint = f"; Gymnasium has {', '.join(close)}" if close else ""
    raise ConfigurationError(f"Gymnasium has no environment {text!r} registered{hint}")


def _findable(spec: EnvSpec) -> EnvSpec:
    """`spec` for another process, where `__main__` is another program: a class of this one's is taken along."""
    if isinstance(spec.entry_point, str) and spec.entry_point.startswith("__main__:"):
        creator: Any = load_env_creator(spec.entry_point)
        return dataclasses.replace(spec, entry_point=creator)
    return spec


def _own_name(recipe: Recipe) -> str:
    """The name by which the env is known: its id without a namespace, or its class's."""
    if isinstance(recipe.source, EnvSpec):
        return recipe.source.id.rpartition("/")[2]
    env = recipe.make()
    try:
        return env.spec.id.rpartition("/")[2] if env.spec is not None else type(env.unwrapped).__name__
    finally:
        env.close()


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} cannot be the name of an environment: use letters, digits, '_', '.' and '-'")
    return name


def _seeds(splits: Mapping[str, int | Iterable[int]]) -> dict[str, Sequence[int]]:
    """The seeds of each split; numbers of seeds are counted on from one split to the next, so that none is in two."""
    found: dict[str, Sequence[int]] = {}
    first = 0
    for name, seeds in splits.items():
        if isinstance(seeds, int):
            found[name], first = range(first, first + seeds), first + seeds
        else:
            found[name] = seeds if isinstance(seeds, range) else tuple(seeds)
        if not found[name] or not all(isinstance(seed, int) and seed >= 0 for seed in found[name][:1]):
            raise ConfigurationError(f"split {name!r} must have seeds: a number of them, or whole numbers from 0, not {seeds!r}")
    if not found:
        raise ConfigurationError("an environment needs a split: splits={'train': 1000}")
    return found
