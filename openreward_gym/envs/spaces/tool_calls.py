"""The space of actions: calls of an environment's tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium import Space

from openreward_gym.envs.spaces.schema_checking import SchemaChecker
from openreward_gym.envs.spaces.schema_sampling import SchemaSampler
from openreward_gym.errors import ConfigurationError
from openreward_gym.suggestions import nearest
from openreward_gym.types import AssistantMessage, Json, TerminalTool, ToolCall, ToolSpec

_NO_ARGUMENTS: dict[str, Json] = {"type": "object", "properties": {}, "additionalProperties": False}
_SHOWN_TOOLS = 5


class ToolCallSpace(Space[Any]):
    """Calls of tools, as `{"name": str, "arguments": dict}`.

    `sample` returns this form. The other forms that `step` takes are elements, too: a `ToolCall`, the JSON text of a call, a
    list or tuple of calls, an `AssistantMessage`, and any text if the space has messages. `contains` checks the form alone,
    because a task may have further tools; with `strict=True` it also calls `validate`.

    Args:
        tools: The tools that can be called.
        terminal: The tool that takes the assistant's plain message. None if the environment has no such tool.
        message: Accept plain text as an action. `sample` returns text only from a space without tools: it may end the episode.
        strict: Accept only calls of one of `tools` with arguments that are valid under its schema.
        seed: Seed of `sample`.

    Example:
        >>> schema = {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]}
        >>> space = ToolCallSpace([ToolSpec("get_weather", "Get the weather.", schema)], seed=0)
        >>> space.sample()
        {'name': 'get_weather', 'arguments': {'city': 'Paris'}}
        >>> space.validate({"name": "get_wether", "arguments": {}})
        ["there is no tool 'get_wether'; did you mean 'get_weather'? the tools are: get_weather"]
    """

    def __init__(
        self,
        tools: Sequence[ToolSpec],
        terminal: TerminalTool | None = None,
        *,
        message: bool = False,
        strict: bool = False,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(shape=None, dtype=None, seed=seed)
        self.tools = tuple(tools)
        self.terminal = terminal
        self.message = bool(message)
        self.strict = bool(strict)
        self._by_name: dict[str, ToolSpec] = {}
        for tool in self.tools:
            self._by_name.setdefault(tool.name, tool)
        self._samplers: dict[str, SchemaSampler] = {}
        self._checkers: dict[str, SchemaChecker] = {}

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> Any:
        """Return a call of a random tool with random valid arguments.

        Args:
            mask: Tools to draw from: an int8 array of 0 and 1, shape `(len(tools),)`. Or
                `{"tool": mask, "arguments": {tool: {argument: mask}}}`, either key optional. The mask of an argument selects
                from its enumerated values (of a boolean: false, true).
            probability: The same with float64 probabilities that sum to 1.

        Raises:
            ConfigurationError: Both arguments are passed, one has the wrong type, shape or sum, or excludes every tool.
        """
        if mask is not None and probability is not None:
            raise ConfigurationError("sample() takes a mask or probabilities, not both")
        weights, of_arguments = _split(mask if mask is not None else probability)
        by_probability = probability is not None
        if not self.tools:
            if self.message and weights is None:
                return "I am done."
            raise ConfigurationError("this space has no tools to sample a call of")
        if weights is None:
            index = int(self.np_random.integers(len(self.tools)))
        else:
            index = _draw(self.np_random, weights, len(self.tools), by_probability, "tools")
        name = self.tools[index].name
        arguments = self._sampler(name).arguments(self.np_random)
        for argument, weight in of_arguments.get(name, {}).items():
            values = self._sampler(name).choices(argument)
            if values is None:
                raise ConfigurationError(f"argument {argument!r} of tool {name!r} has no enumerated values to draw from")
            arguments[argument] = values[_draw(self.np_random, weight, len(values), by_probability, f"values of {argument!r}")]
        return {"name": name, "arguments": arguments}

    def contains(self, x: Any) -> bool:
        """Return True if `x` has the form of an action and, with `strict`, is valid."""
        if self.strict:
            return not self.validate(x)
        if isinstance(x, str):
            return self.message or _parsed(x) is not None
        calls = _calls(x)
        if calls is None:
            return False
        if not calls:  # a message without calls
            return self.message
        return all(name and isinstance(arguments, Mapping) for name, arguments in calls)

    def validate(self, call: Any) -> list[str]:
        """Return one line per error in an action, worded for the model that wrote it, or an empty list for a valid action.

        The tool must be one of `tools`, and the arguments valid under its JSON Schema, formats included.
        """
        if isinstance(call, str):
            parsed = _parsed(call)
            if parsed is None:
                return [] if self.message else [f"this is plain text; call one of the tools instead: {self._names()}"]
            call = parsed
        calls = _calls(call)
        if calls is None:
            return [f'not a tool call: expected {{"name": ..., "arguments": {{...}}}}, got {_brief(call)}']
        if not calls and not self.message:
            return [f"no tool is called; call one of: {self._names()}"]
        several = len(calls) > 1
        return [
            f"call {number}: {error}" if several else error
            for number, (name, arguments) in enumerate(calls, 1)
            for error in self._errors(name, arguments)
        ]

    def _errors(self, name: str, arguments: Any) -> list[str]:
        if name not in self._by_name:
            near = nearest(name, self._by_name)
            hint = "" if near is None else f"did you mean {near!r}? "
            return [f"there is no tool {_brief(name)}; {hint}the tools are: {self._names()}"]
        if not isinstance(arguments, Mapping):
            return [f"the arguments of {name} must be a JSON object, got {_brief(arguments)}"]
        if name not in self._checkers:
            self._checkers[name] = SchemaChecker(_schema(self._by_name[name]))
        return self._checkers[name].errors(dict(arguments))

    def _sampler(self, name: str) -> SchemaSampler:
        if name not in self._samplers:
            self._samplers[name] = SchemaSampler(_schema(self._by_name[name]))
        return self._samplers[name]

    def _names(self) -> str:
        return ", ".join(self._by_name) or "(none)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ToolCallSpace):
            return False
        return all(getattr(self, name) == getattr(other, name) for name in ("tools", "terminal", "message", "strict"))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        names = ", ".join(tool.name for tool in self.tools[:_SHOWN_TOOLS])
        more = f", ... {len(self.tools) - _SHOWN_TOOLS} more" if len(self.tools) > _SHOWN_TOOLS else ""
        flags = "".join(f", {flag}=True" for flag in ("message", "strict") if getattr(self, flag))
        return f"ToolCallSpace([{names}{more}]{flags})"

    def __getstate__(self) -> dict[str, Any]:
        # Samplers and checkers are made again when they are needed.
        return {**self.__dict__, "_samplers": {}, "_checkers": {}}

    def __deepcopy__(self, memo: dict[int, Any]) -> ToolCallSpace:
        # A vector environment copies its space n times. Tools are immutable, and large schemas are slow to copy.
        twin = ToolCallSpace(self.tools, self.terminal, message=self.message, strict=self.strict)
        if self._np_random is not None:
            twin._np_random = deepcopy(self._np_random, memo)
        return twin


def _schema(tool: ToolSpec) -> dict[str, Json]:
    if tool.input_schema is None:
        return _NO_ARGUMENTS
    return dict(tool.input_schema) if isinstance(tool.input_schema, Mapping) else {}


def _split(weights: Any | None) -> tuple[Any | None, Mapping[str, Mapping[str, Any]]]:
    """Split a mask into its part over tools and its part over arguments."""
    if isinstance(weights, Mapping):
        unknown = weights.keys() - {"tool", "arguments"}
        if unknown:
            raise ConfigurationError(f"a mask has the keys 'tool' and 'arguments', not {sorted(map(str, unknown))}")
        of_arguments = weights.get("arguments") or {}
        if not isinstance(of_arguments, Mapping) or not all(isinstance(part, Mapping) for part in of_arguments.values()):
            raise ConfigurationError(f"the mask of arguments is {{tool: {{argument: mask}}}}, not {_brief(of_arguments)}")
        return weights.get("tool"), of_arguments
    return weights, {}


def _draw(generator: np.random.Generator, weights: Any, n: int, by_probability: bool, items: str) -> int:
    """Draw an index by a mask or by probabilities, under the rules of `gymnasium.spaces.Discrete`."""
    word, dtype = ("probability", np.float64) if by_probability else ("mask", np.int8)
    if not isinstance(weights, np.ndarray) or weights.dtype != dtype or weights.shape != (n,):
        shown = f"{weights.dtype} of shape {weights.shape}" if isinstance(weights, np.ndarray) else type(weights).__name__
        raise ConfigurationError(f"the {word} over {items} must be an array of {np.dtype(dtype)} of shape ({n},), got {shown}")
    if by_probability:
        if not (np.all(weights >= 0) and np.isclose(weights.sum(), 1)):
            raise ConfigurationError(f"the probabilities of {items} must be 0 or more and sum to 1, got {weights}")
        return int(generator.choice(n, p=weights / weights.sum()))
    if not np.all((weights == 0) | (weights == 1)):
        raise ConfigurationError(f"the mask over {items} must be of 0 and 1, got {weights}")
    if not weights.any():
        raise ConfigurationError(f"the mask over {items} allows none")
    return int(generator.choice(np.flatnonzero(weights)))


def _calls(action: Any) -> list[tuple[str, Any]] | None:
    """Return the calls in an action as names and arguments, or None if it does not have the form of an action."""
    if isinstance(action, AssistantMessage):
        return [(call.name, call.arguments) for call in action.tool_calls]
    if isinstance(action, ToolCall):
        return [(action.name, action.arguments)]
    if isinstance(action, Mapping):
        name = action.get("name")
        return [(name, action["arguments"])] if isinstance(name, str) and "arguments" in action else None
    if isinstance(action, (list, tuple)) and action:
        parts = [_calls(part) for part in action if isinstance(part, (ToolCall, Mapping))]
        if len(parts) == len(action) and None not in parts:
            return [call for part in parts for call in part or ()]
    return None


def _parsed(text: str) -> Any | None:
    """Parse the JSON of a call. Return None if `text` is something else."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if _calls(value) else None


def _brief(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of too many digits, or a value that is nested too deeply
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:97]}..."
