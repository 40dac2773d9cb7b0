"""The SDK environment around an environment of Gymnasium's."""

from __future__ import annotations

import base64
import enum
import inspect
import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from pydantic import ConfigDict, Field, PlainValidator, WithJsonSchema, create_model
from pydantic_core import PydanticCustomError

from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.examples.sdk import Environment, ImageBlock, Split, TextBlock, ToolOutput, tool
from openreward_gym.serve.pictures import is_picture, png
from openreward_gym.serve.recipes import Recipe
from openreward_gym.serve.schemas import schema_of, words_of
from openreward_gym.serve.thread import SessionThread
from openreward_gym.serve.values import UnfitError, decode, encode
from openreward_gym.types import Json

__all__ = ["Bridged", "make_class"]

MOST_LISTED = 100_000
"""Tasks up to which a split is listed; beyond, its tasks are had by their index alone."""

SECTIONS = ("description", "action space", "observation space", "rewards")
"""Sections of an env's docstring that a model is told."""

MOST_INFO = 1_000
"""Elements up to which an array of an env's info is kept."""


class Bridged(Environment):  # type: ignore[misc]  # the SDK is not typed
    """What all bridged environments share. `make_class` adds what one of them is, and its tool `step`."""

    recipe: ClassVar[Recipe]
    action_space: ClassVar[spaces.Space[Any]]
    observation_space: ClassVar[spaces.Space[Any]]
    action_names: ClassVar[tuple[str, ...] | None]
    manual: ClassVar[str]

    def __init__(self, task_spec: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> None:
        super().__init__(task_spec=task_spec, secrets=dict(secrets or {}))
        self.seed, self.options = _read_task(task_spec)
        self.steps = 0
        self.over = False
        self._env: gymnasium.Env[Any, Any] | None = None
        self._opening: list[Any] = []
        self._thread = SessionThread(f"bridge-{self.recipe.name}")

    @classmethod
    def name(cls) -> str:
        return cls.recipe.name

    @classmethod
    def list_splits(cls) -> list[Split]:
        types = {name: name if name in ("train", "validation", "test") else "validation" for name in cls.recipe.splits}
        return [Split(name=name, type=kind) for name, kind in types.items()]

    @classmethod
    def list_tasks(cls, split: str) -> list[Any]:
        seeds = cls._seeds(split)
        if len(seeds) > MOST_LISTED:
            raise NotImplementedError("too many tasks to list: take them by their index")
        return [{"seed": seed} for seed in seeds]

    @classmethod
    async def num_tasks(cls, split: str) -> int:
        return len(cls._seeds(split))

    @classmethod
    async def get_task(cls, split: str, index: int) -> Any:
        seeds = cls._seeds(split)
        if not 0 <= index < len(seeds):
            raise IndexError(f"{split} has {len(seeds)} tasks, counted from 0, and none of number {index}")
        return {"seed": seeds[index]}

    @classmethod
    def _seeds(cls, split: str) -> Sequence[int]:
        if split not in cls.recipe.splits:
            raise ValueError(f"{cls.name()} has no split {split!r}: it has {', '.join(cls.recipe.splits)}")
        return cls.recipe.splits[split]

    async def setup(self) -> None:
        self._opening = await self._thread.run(self._begin)

    async def teardown(self) -> None:
        try:
            await self._thread.run(self._end)
        finally:
            self._thread.close()

    async def get_prompt(self) -> list[Any]:
        return self._opening

    async def play(self, action: Any) -> ToolOutput:
        """One step; `action` is an element of the action space."""
        return await self._thread.run(self._step, action)

    # In the session's thread ----------------------------------------------------------------------------------------------

    def _begin(self) -> list[Any]:
        self._env = self.recipe.make()
        observation, info = self._env.reset(seed=self.seed, options=self.options)
        exact, blocks = self._observed(observation)
        blocks[0].detail = {"observation": exact, "info": _plain(info)}
        return [TextBlock(text=self.recipe.prompt or self._description()), *blocks]

    def _step(self, action: Any) -> ToolOutput:
        if self._env is None or self.over:
            raise RuntimeError("the episode is over" if self.over else "the environment was not set up")
        observation, reward, terminated, truncated, info = self._env.step(action)
        if not math.isfinite(float(reward)):
            raise ValueError(f"the environment gave the reward {reward}, which is no number to learn from")
        self.steps += 1
        self.over = bool(terminated or truncated)
        exact, blocks = self._observed(observation)
        if self.over:
            why = "it reached its end" if terminated else "it was cut short"
            blocks.append(TextBlock(text=f"The episode is over: {why}."))
        metadata = {
            "observation": exact,
            "terminated": bool(terminated),
            "truncated": bool(truncated),
            "info": _plain(info),
            "step": self.steps,
        }
        return ToolOutput(blocks=blocks, reward=float(reward), finished=self.over, metadata=metadata)

    def _end(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            env.close()

    def _observed(self, observation: Any) -> tuple[Json, list[Any]]:
        """The exact observation as JSON, and the blocks that show it, the frame last."""
        pictures: list[bytes] = []
        exact = encode(self.observation_space, observation, pictures)
        blocks = [] if is_picture(self.observation_space) else [TextBlock(text=_shown(exact))]
        blocks += [_picture_block(picture) for picture in pictures]
        if self.recipe.render is not None and self._env is not None:
            frame: Any = self._env.render()
            blocks.append(TextBlock(text=str(frame)) if isinstance(frame, str) else _picture_block(png(frame)))
        return exact, blocks

    def _description(self) -> str:
        action = f"one of {', '.join(self.action_names)}" if self.action_names else words_of(self.action_space)
        return (
            f"You play {self.name()}. Each call of the tool `step` does one action and shows what is observed then, until the "
            f"episode is over.\n{self.manual}An action is {action}.\n"
            f"An observation is {words_of(self.observation_space)}.\nThe first observation:"
        )


def make_class(recipe: Recipe) -> type[Bridged]:
    """The environment of `recipe`. Makes its env once, to see its spaces.

    Raises:
        ConfigurationError: The env cannot be made, or a space cannot be written as JSON.
    """
    env = recipe.make()
    try:
        action_space, observation_space, manual = env.action_space, env.observation_space, _manual_of(env)
        names = _names_of_actions(env, recipe.action_names)
        if recipe.render is not None and env.render_mode != recipe.render:
            raise ConfigurationError(f"render={recipe.render!r}: {recipe.name} is made with render_mode={env.render_mode!r}")
    finally:
        env.close()
    schema_of(observation_space)  # refuses what cannot be written
    members = {
        "__doc__": f"{recipe.name} of Gymnasium.",
        "__module__": __name__,
        "recipe": recipe,
        "action_space": action_space,
        "observation_space": observation_space,
        "action_names": names,
        "manual": manual,
        "step": _step_tool(action_space, names),
    }
    return type(_class_name(recipe.name), (Bridged,), members)


def _step_tool(space: spaces.Space[Any], names: tuple[str, ...] | None) -> Any:
    """The tool `step`; an action that is none is refused before the env sees it, with the reason."""
    by_name = {} if names is None else {name.lower(): index for index, name in enumerate(names)}

    def read(value: Json) -> Any:
        try:
            if names is not None and isinstance(value, str):
                if value.lower() not in by_name:
                    raise UnfitError(f"action must be one of {', '.join(names)}, not {value!r}")
                return decode(space, int(space.start) + by_name[value.lower()], at="action")  # type: ignore[attr-defined]
            return decode(space, value, at="action")
        except UnfitError as error:
            raise PydanticCustomError("action", str(error)) from None

    schema: Json = {"type": "string", "enum": list(names)} if names else schema_of(space)
    action = Annotated[Any, PlainValidator(read), WithJsonSchema(schema), Field(description=words_of(space))]
    arguments = create_model("Step", __config__=ConfigDict(extra="forbid"), action=(action, ...))

    async def step(self: Bridged, arguments: Any) -> ToolOutput:
        """Do one action and observe what follows."""
        return await self.play(arguments.action)

    step.__annotations__ = {"arguments": arguments, "return": ToolOutput}
    return tool(step)


def _names_of_actions(env: gymnasium.Env[Any, Any], given: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The names of a Discrete space's actions: those given, or those that the env has."""
    space, inner = env.action_space, env.unwrapped
    if given is not None:
        if not isinstance(space, spaces.Discrete) or len(given) != space.n or len({n.lower() for n in given}) != space.n:
            raise ConfigurationError(f"action_names={list(given)} do not name, each by another, the actions of {space!r}")
        return given
    found: Any = inner.metadata.get("action_names")
    if callable(getattr(inner, "get_action_meanings", None)):
        found = inner.get_action_meanings()  # type: ignore[attr-defined]
    elif isinstance(getattr(inner, "actions", None), type) and issubclass(inner.actions, enum.IntEnum):  # type: ignore[attr-defined]
        found = [member.name for member in sorted(inner.actions)]  # type: ignore[attr-defined]
    names = tuple(str(name) for name in found or ())
    # A wrapper may have changed the space, and with it what the names stand for.
    fits = isinstance(space, spaces.Discrete) and space == inner.action_space and len({n.lower() for n in names}) == space.n
    return names if names and fits and len(names) == len(set(names)) else None


def _manual_of(env: gymnasium.Env[Any, Any]) -> str:
    """What Gymnasium's manual says of the env to who plays it: those sections of its class's docstring."""
    manual = textwrap.dedent(inspect.getdoc(type(env.unwrapped)) or "")
    sections = re.split(r"^ *## +", manual, flags=re.MULTILINE)[1:]
    told = [section.strip() for section in sections if section.partition("\n")[0].strip().lower() in SECTIONS]
    return "".join(f"\n{section}\n" for section in told) + ("\n" if told else "")


def _read_task(spec: Mapping[str, Any]) -> tuple[int | None, dict[str, Any] | None]:
    seed, options = spec.get("seed"), spec.get("options")
    whole = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0
    if set(spec) - {"seed", "options"} or not (seed is None or whole) or not (options is None or isinstance(options, Mapping)):
        raise ValueError(
            f"a task is {{'seed': whole number from 0, 'options': what reset takes}}, both optional, not {dict(spec)}"
        )
    return seed, None if options is None else dict(options)


def _class_name(name: str) -> str:
    """`name` as Python would write it: FrozenLake-v1 is FrozenLakeV1."""
    joined = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))
    return joined if joined[:1].isalpha() else f"Env{joined}"


def _shown(exact: Json) -> str:
    return exact if isinstance(exact, str) else json.dumps(exact, ensure_ascii=False)


def _picture_block(picture: bytes) -> ImageBlock:
    return ImageBlock(data=base64.b64encode(picture).decode("ascii"), mimeType="image/png")


def _plain(value: Any) -> Json:
    """What of an env's info is JSON; of the rest, what it is."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.ndarray):
        return _plain(value.tolist()) if value.size <= MOST_INFO else f"<array of shape {value.shape}, {value.dtype}>"
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, int | float):
        return value if isinstance(value, int) or math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(element) for element in value]
    return f"<{type(value).__name__}>"
