"""A Gymnasium environment with the options of `bridge`, before its class is made. Does not import the `openreward` SDK."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from openreward_gym.errors import ConfigurationError

Source: TypeAlias = "str | EnvSpec | gymnasium.Env[Any, Any] | Callable[[], gymnasium.Env[Any, Any]]"
"""A registered id, a spec, an env (its spec is used), or a function that makes an env."""

Render: TypeAlias = Literal["ansi", "rgb_array"]

SPLITS: Mapping[str, int] = {"train": 1000, "test": 100}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Recipe:
    """The validated arguments of `bridge`, with the seeds of each split. It can be pickled and sent to a server's process."""

    source: EnvSpec | Callable[[], gymnasium.Env[Any, Any]]
    name: str
    splits: Mapping[str, Sequence[int]]
    prompt: str | None
    render: Render | None
    action_names: tuple[str, ...] | None
    arguments: Mapping[str, Any]

    def make(self) -> gymnasium.Env[Any, Any]:
        """Make a new env, or raise a ConfigurationError."""
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
    name: str | None = None,
    splits: Mapping[str, int | Iterable[int]] | None = None,
    prompt: str | None = None,
    render: Render | None = None,
    action_names: Sequence[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the arguments of `bridge` as a recipe, or raise a ConfigurationError if one is wrong."""
    if render is not None and render not in get_args(Render):
        raise ConfigurationError(f"render must be one of {', '.join(get_args(Render))} or None, not {render!r}")
    maker: Any = source
    if isinstance(source, str):
        maker = _registered_spec(source)
    elif isinstance(source, gymnasium.Env):
        maker = source.spec
        if maker is None:
            raise ConfigurationError(f"{source} has no spec, so another one cannot be made: pass a function that makes one")
    elif not isinstance(source, EnvSpec) and not callable(source):
        raise ConfigurationError(f"cannot bridge {source!r}: pass a Gymnasium id, a spec, an env, or a function that makes one")
    if arguments and not isinstance(maker, EnvSpec):
        hint = "a function that makes an env takes no arguments; set them in the function"
        raise ConfigurationError(f"{', '.join(arguments)}: {hint}")
    names = None if action_names is None else tuple(map(str, action_names))
    recipe = Recipe(maker, "", _seeds(SPLITS if splits is None else splits), prompt, render, names, dict(arguments or {}))
    name = name or _default_name(recipe)
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} cannot be the name of an environment: use letters, digits, '_', '.' and '-'")
    return dataclasses.replace(recipe, name=name)


def _registered_spec(id: str) -> EnvSpec:
    """Return the spec of a registered id: "FrozenLake-v1", "ALE/Pong-v5", "my_module:MyEnv-v0"."""
    module, colon, name = id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"cannot import {module!r} for the environment {id!r}: {error}") from None
    if name not in gymnasium.registry:
        close = difflib.get_close_matches(name, gymnasium.registry, n=3)
        hint = f"; Gymnasium has {', '.join(close)}" if close else ""
        raise ConfigurationError(f"Gymnasium has no registered environment {id!r}{hint}")
    spec = gymnasium.registry[name]
    if isinstance(spec.entry_point, str) and spec.entry_point.startswith("__main__:"):
        # In the server's process `__main__` is another program, so the class itself travels instead of its name.
        creator: Any = load_env_creator(spec.entry_point)
        return dataclasses.replace(spec, entry_point=creator)
    return spec


def _default_name(recipe: Recipe) -> str:
    """Return the env's id without a namespace, or the name of its class."""
    if isinstance(recipe.source, EnvSpec):
        return recipe.source.id.rpartition("/")[2]
    env = recipe.make()
    try:
        return env.spec.id.rpartition("/")[2] if env.spec is not None else type(env.unwrapped).__name__
    finally:
        env.close()


def _seeds(splits: Mapping[str, int | Iterable[int]]) -> dict[str, Sequence[int]]:
    """Return the seeds of each split. Splits given as numbers get consecutive ranges, so that they share no seed."""
    seeds_by_split: dict[str, Sequence[int]] = {}
    first = 0
    for name, seeds in splits.items():
        if isinstance(seeds, int):
            split, first = range(first, first + seeds), first + seeds
        else:
            split = seeds if isinstance(seeds, range) else tuple(seeds)  # type: ignore[assignment]
        if not split or not all(isinstance(seed, int) and seed >= 0 for seed in split[:1]):
            raise ConfigurationError(f"split {name!r} must have seeds: their number, or integers from 0, not {seeds!r}")
        seeds_by_split[name] = split
    if not seeds_by_split:
        raise ConfigurationError("an environment needs a split: splits={'train': 1000}")
    return seeds_by_split
