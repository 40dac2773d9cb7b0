"""The SDK environment classes that `bridge` returns."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import enum
import inspect
import json
import math
import re
import textwrap
import threading
import typing
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Annotated, Any, ClassVar, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces
from openreward.environments.types import ListToolsOutput, ToolSpec
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, create_model
from pydantic_core import PydanticCustomError

from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.examples.sdk import Environment, ImageBlock, Split, TextBlock, ToolOutput, split_of, tool
from openreward_gym.serve.recipe import Recipe
from openreward_gym.serve.schemas import schema_of, words_of
from openreward_gym.serve.values import UnfitError, decode, encode, is_picture, png
from openreward_gym.types import Json

T = TypeVar("T")

MAX_LISTED_TASKS = 100_000
"""Maximum number of tasks in a split that can be listed. Tasks of larger splits are available by index only."""

SECTIONS = ("description", "action space", "observation space", "rewards")
"""Sections of an env's docstring that go into the prompt."""

MAX_INFO_ELEMENTS = 1_000
"""Maximum size of an array in an env's info. Larger arrays are replaced by a description."""


class BridgedEnvironment(Environment):  # type: ignore[misc]  # the SDK is not typed
    """The base of all bridged environments. `make_class` adds the class attributes and the tool `step`."""

    recipe: ClassVar[Recipe]
    action_space: ClassVar[spaces.Space[Any]]
    observation_space: ClassVar[spaces.Space[Any]]
    action_names: ClassVar[tuple[str, ...] | None]
    manual: ClassVar[str]
    listed_tools: ClassVar[ListToolsOutput]

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
    def list_tools(cls) -> ListToolsOutput:
        # The SDK's own method remembers its result for each class for the life of the process, and with it the class.
        return cls.listed_tools

    @classmethod
    def list_splits(cls) -> list[Split]:
        return [split_of(name) for name in cls.recipe.splits]

    @classmethod
    def list_tasks(cls, split: str) -> list[Any]:
        seeds = cls._seeds(split)
        if len(seeds) > MAX_LISTED_TASKS:
            raise NotImplementedError(f"{split} has too many tasks to list: select them by index")
        return [{"seed": seed} for seed in seeds]

    @classmethod
    async def num_tasks(cls, split: str) -> int:
        return len(cls._seeds(split))

    @classmethod
    async def get_task(cls, split: str, index: int) -> Any:
        seeds = cls._seeds(split)
        if not 0 <= index < len(seeds):
            raise IndexError(f"{split} has {len(seeds)} tasks, numbered from 0, and no task {index}")
        return {"seed": seeds[index]}

    @classmethod
    def _seeds(cls, split: str) -> Sequence[int]:
        if split not in cls.recipe.splits:
            raise ValueError(f"{cls.name()} has no split {split!r}; its splits are {', '.join(cls.recipe.splits)}")
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

    # These methods run in the session's thread ------------------------------------------------------------------------------

    def _begin(self) -> list[Any]:
        self._env = self.recipe.make()
        observation, info = self._env.reset(seed=self.seed, options=self.options)
        exact, blocks = self._observe(observation)
        blocks[0].detail = {"observation": exact, "info": _json_of(info)}
        return [TextBlock(text=self.recipe.prompt or self._description()), *blocks]

    def _step(self, action: Any) -> ToolOutput:
        if self._env is None or self.over:
            raise RuntimeError("the episode is over" if self.over else "the environment was not set up")
        observation, reward, terminated, truncated, info = self._env.step(action)
        if not math.isfinite(float(reward)):
            raise ValueError(f"the environment returned the reward {reward}; a reward must be a finite number")
        self.steps += 1
        self.over = bool(terminated or truncated)
        exact, blocks = self._observe(observation)
        if self.over:
            reason = "it reached its end" if terminated else "it was cut short"
            blocks.append(TextBlock(text=f"The episode is over: {reason}."))
        ends = {"terminated": bool(terminated), "truncated": bool(truncated)}
        metadata = {"observation": exact, **ends, "info": _json_of(info), "step": self.steps}
        return ToolOutput(blocks=blocks, reward=float(reward), finished=self.over, metadata=metadata)

    def _end(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            env.close()

    def _observe(self, observation: Any) -> tuple[Json, list[Any]]:
        """Return the exact observation as JSON, and the blocks that show it, with the rendered frame last."""
        pictures: list[bytes] = []
        exact = encode(self.observation_space, observation, pictures)
        blocks = [_picture_block(picture) for picture in pictures]
        if not is_picture(self.observation_space):
            blocks.insert(0, TextBlock(text=exact if isinstance(exact, str) else json.dumps(exact, ensure_ascii=False)))
        if self.recipe.render is not None and self._env is not None:
            frame: Any = self._env.render()
            blocks.append(TextBlock(text=str(frame)) if isinstance(frame, str) else _picture_block(png(frame)))
        return exact, blocks

    def _description(self) -> str:
        action = f"one of {', '.join(self.action_names)}" if self.action_names else words_of(self.action_space)
        return (
            f"You play {self.name()}. Each call of the tool `step` takes one action and shows the next observation, until the "
            f"episode is over.\n{self.manual}An action is {action}.\n"
            f"An observation is {words_of(self.observation_space)}.\nThe first observation:"
        )


def make_class(recipe: Recipe) -> type[BridgedEnvironment]:
    """Return the environment class of `recipe`. Makes the env once, to read its spaces."""
    env = recipe.make()
    try:
        action_space, observation_space, manual = env.action_space, env.observation_space, _manual_of(env)
        names = _names_of_actions(env, recipe.action_names)
        if recipe.render is not None and env.render_mode != recipe.render:
            raise ConfigurationError(f"render={recipe.render!r}: {recipe.name} is made with render_mode={env.render_mode!r}")
    finally:
        env.close()
    schema_of(observation_space)  # raises for a space that cannot be written as JSON
    step, arguments = _step_tool(action_space, names)
    tool_spec = ToolSpec(name="step", description=step.__doc__, input_schema=arguments.model_json_schema())
    members = {
        "__doc__": f"{recipe.name} of Gymnasium.",
        "__module__": __name__,
        "recipe": recipe,
        "action_space": action_space,
        "observation_space": observation_space,
        "action_names": names,
        "manual": manual,
        "step": step,
        "listed_tools": ListToolsOutput(tools=[tool_spec]),
    }
    # As Python would write the name: FrozenLake-v1 is FrozenLakeV1.
    class_name = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", recipe.name))
    return type(class_name if class_name[:1].isalpha() else f"Env{class_name}", (BridgedEnvironment,), members)


def _step_tool(space: spaces.Space[Any], names: tuple[str, ...] | None) -> tuple[Any, type[BaseModel]]:
    """Return the tool `step` and the model of its arguments. An invalid action is refused before it reaches the env."""
    action_by_name = {name.lower(): int(space.start) + i for i, name in enumerate(names or ())}  # type: ignore[attr-defined]

    def read(value: Json) -> Any:
        try:
            if names is not None and isinstance(value, str):
                if value.lower() not in action_by_name:
                    raise UnfitError(f"action must be one of {', '.join(names)}, not {value!r}")
                value = action_by_name[value.lower()]
            return decode(space, value, at="action")
        except UnfitError as error:
            raise PydanticCustomError("action", str(error)) from None

    schema: Json = {"type": "string", "enum": list(names)} if names else schema_of(space)
    action = Annotated[Any, PlainValidator(read), WithJsonSchema(schema), Field(description=words_of(space))]
    arguments_model = create_model("Step", __config__=ConfigDict(extra="forbid"), action=(action, ...))

    async def step(self: BridgedEnvironment, arguments: Any) -> ToolOutput:
        """Do one action and observe what follows."""
        return await self._thread.run(self._step, arguments.action)

    step.__annotations__ = {"arguments": arguments_model, "return": ToolOutput}
    return tool(step), arguments_model


def _names_of_actions(env: gymnasium.Env[Any, Any], names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the names of a Discrete space's actions: `names`, else the env's own; None if it has none."""
    space, inner = env.action_space, typing.cast(Any, env.unwrapped)

    def fit(names: Sequence[str]) -> bool:
        return isinstance(space, spaces.Discrete) and len(names) == len({name.lower() for name in names}) == space.n

    if names is not None:
        if not fit(names):
            raise ConfigurationError(f"action_names={list(names)} must have one name, unlike the others, per action of {space!r}")
        return names
    own = inner.metadata.get("action_names")
    if callable(getattr(inner, "get_action_meanings", None)):
        own = inner.get_action_meanings()
    elif isinstance(getattr(inner, "actions", None), type) and issubclass(inner.actions, enum.IntEnum):
        own = [member.name for member in sorted(inner.actions)]
    names = tuple(str(name) for name in own or ())
    # A wrapper may have changed the space, so that the names no longer fit its actions.
    return names if fit(names) and space == inner.action_space else None


def _manual_of(env: gymnasium.Env[Any, Any]) -> str:
    """Return the sections of the env's docstring that tell a player what it needs to know."""
    docstring = textwrap.dedent(inspect.getdoc(type(env.unwrapped)) or "")
    sections = re.split(r"^ *## +", docstring, flags=re.MULTILINE)[1:]
    selected = [section.strip() for section in sections if section.partition("\n")[0].strip().lower() in SECTIONS]
    return "".join(f"\n{section}\n" for section in selected) + ("\n" if selected else "")


def _read_task(spec: Mapping[str, Any]) -> tuple[int | None, dict[str, Any] | None]:
    seed, options = spec.get("seed"), spec.get("options")
    valid_seed = seed is None or (isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0)
    if set(spec) - {"seed", "options"} or not valid_seed or not (options is None or isinstance(options, Mapping)):
        form = "{'seed': integer from 0, 'options': options of reset}, both optional"
        raise ValueError(f"a task must be {form}, not {dict(spec)}")
    return seed, None if options is None else dict(options)


def _picture_block(picture: bytes) -> ImageBlock:
    return ImageBlock(data=base64.b64encode(picture).decode("ascii"), mimeType="image/png")


def _json_of(value: Any) -> Json:
    """Return an env's info as JSON. Values that are not JSON are replaced by a description."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.ndarray):
        return _json_of(value.tolist()) if value.size <= MAX_INFO_ELEMENTS else f"<array of shape {value.shape}, {value.dtype}>"
    if isinstance(value, np.generic):
        return _json_of(value.item())
    if isinstance(value, int | float):
        return value if isinstance(value, int) or math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _json_of(element) for key, element in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json_of(element) for element in value]
    return f"<{type(value).__name__}>"


class SessionThread:
    """A daemon thread that runs a session's functions in order, so that an env that never returns keeps no process alive."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run `function` and return its result or raise its error. It runs to its end even if the caller is cancelled."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(setter: Callable[[Any], None], value: Any) -> None:
            if not done.cancelled():
                setter(value)

        def job() -> None:
            setter: Callable[[Any], None] = done.set_result
            try:
                value: Any = function(*arguments)
            except BaseException as error:
                # A BaseException would end the event loop, and a future cannot hold a StopIteration.
                plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
                setter, value = done.set_exception, error if plain else RuntimeError(f"{type(error).__name__}: {error}")
            with contextlib.suppress(RuntimeError):  # the loop is closed, so no caller waits
                loop.call_soon_threadsafe(settle, setter, value)

        if self._thread.ident is None:
            self._thread.start()
        self._jobs.put(job)
        return await done

    def close(self) -> None:
        """End the thread after the functions that are already queued."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
