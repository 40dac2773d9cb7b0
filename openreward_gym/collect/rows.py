"""Rows of NeMo Gym as inputs of a collection: their messages, tools and parameters take the place of the environment's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from openreward_gym.chat.plain import shown
from openreward_gym.checks import DEEPEST_NESTING
from openreward_gym.envs.episode import Episode
from openreward_gym.errors import ConfigurationError
from openreward_gym.importers import nemo_gym
from openreward_gym.importers.nemo_gym_items import read_input
from openreward_gym.importers.nemo_gym_rows import given_request, request_of
from openreward_gym.importers.shapes import opened
from openreward_gym.jsonio import Json, is_deeper
from openreward_gym.options import RowPrompt
from openreward_gym.policies.parameters import requested
from openreward_gym.types import Message, ToolSet, ToolSpec

# Fields of the request that are no parameters of the policy: they are the prompt, or the tools.
_PROMPT = ("input", "instructions", "tools")
_ROLES = ("system", "developer", "user", "assistant")
_LONGEST_QUESTION = 80
# Fields in which a function tool keeps what `ToolSpec` has.
_TOOL = ("type", "name", "description", "parameters")


@dataclass(frozen=True, slots=True)
class InputRow:
    """A line with `responses_create_params`, or with them in `task_input`: the request that the policy's first turn answers.

    Attributes:
        line: Number of the line in its file, from 1.
        data: The line.

    Raises:
        ValueError: The line's request cannot be read. The message does not have the line's number.

    Example:
        >>> row = InputRow(1, {"responses_create_params": {"input": "How warm is it?", "temperature": 0.5}})
        >>> row.question, row.parameters
        ('How warm is it?', {'temperature': 0.5})
    """

    line: int
    data: Mapping[str, Json]

    def __post_init__(self) -> None:
        if is_deeper(self.data, DEEPEST_NESTING):
            raise ValueError(f"it is nested more than {DEEPEST_NESTING} levels deep")
        request = given_request(self.data)
        if not isinstance(request, Mapping):
            raise ValueError(f"its responses_create_params must be an object, not {shown(request)}")
        if not isinstance(request.get("input"), str | list | None):
            raise ValueError(f"the input of its responses_create_params must be a text or a list, not {shown(request['input'])}")
        if not isinstance(request.get("instructions"), str | None):
            raise ValueError(f"its instructions must be a text, not {shown(request['instructions'])}")
        try:
            self.messages()
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"its input cannot be read as messages: {error}") from None
        items = request.get("input")
        for number, item in enumerate(items if isinstance(items, list) else (), 1):
            if isinstance(item, Mapping) and (wrong := _wrong_item(item)):
                raise ValueError(f"item {number} of its input {wrong}")
        self.tools()
        requested(self.parameters)

    @property
    def request(self) -> Mapping[str, Json]:
        """The line's `responses_create_params`."""
        return request_of(self.data)

    @property
    def fields(self) -> dict[str, Json]:
        """The line's fields, with those of the `task_input` of NeMo Gym 0.7, and of its `task_data`, among them."""
        task = opened(self.data.get("task_input"))
        if "responses_create_params" in self.data or not isinstance(task, Mapping):
            return dict(self.data)
        data = opened(task.get("task_data"))
        return {**self.data, **task, **(data if isinstance(data, Mapping) else {})}

    @property
    def question(self) -> str:
        """The text of the last user message, without surrounding space. Empty without such a message."""
        return nemo_gym.question_of(self.data)

    @property
    def parameters(self) -> dict[str, Json]:
        """The request's parameters for the policy, such as `temperature`."""
        return {name: value for name, value in self.request.items() if name not in _PROMPT}

    def describe(self) -> str:
        """Return the line's number and the beginning of its question, for errors."""
        question = " ".join(self.question.split())
        shortened = question if len(question) <= _LONGEST_QUESTION else question[:_LONGEST_QUESTION] + "..."
        return f"line {self.line} ({shortened!r})" if question else f"line {self.line} (which has no user message with text)"

    def messages(self) -> list[Message]:
        """Return the messages of the request, which are given, whatever their roles."""
        # Policies take an AssistantMessage for a turn of their own.
        return [Message(**vars(message)) if message.role == "assistant" else message for message in read_input(self.request)]

    def tools(self) -> list[ToolSpec]:
        """Return the tools that the request defines. Empty if it defines none: then the environment's own are played."""
        tools = self.request.get("tools")
        if not isinstance(tools, list | None):
            raise ValueError(f"its tools must be a list, not {shown(tools)}")
        specs = [_tool(tool) for tool in tools or ()]
        names = [tool.name for tool in specs]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"it defines the tool {repeated!r} twice")
        return specs

    def unknown_tools(self, known: ToolSet) -> list[str]:
        """Return the names of the row's tools that an environment does not have."""
        names = {tool.name for tool in known} | ({known.terminal.name} if known.terminal is not None else set())
        return [tool.name for tool in self.tools() if tool.name not in names]

    def enter(self, episode: Episode, mode: RowPrompt) -> None:
        """Give an episode that has just begun the row's messages and tools, as the option `row_prompt` says.

        Raises:
            ConfigurationError: The row defines a tool that the environment does not have.
        """
        if unknown := self.unknown_tools(episode.tools):
            raise no_such_tools(self, unknown, episode.environment, episode.tools)
        if specs := self.tools():
            episode.tools = replace(episode.tools, tools=tuple(specs))
        started_at = episode.prompt[0].started_at if episode.prompt else None
        prompt = prompt_of(self.messages(), episode.prompt, mode)
        episode.prompt = tuple(m.replace(started_at=started_at) if not place else m for place, m in enumerate(prompt))


def prompt_of(row: Sequence[Message], own: Sequence[Message], mode: RowPrompt) -> list[Message]:
    """Return the prompt from the messages of a row and the environment's own.

    Args:
        row: The messages of the row.
        own: The messages that the environment opened with.
        mode: "replace" plays the row's messages alone. "precede" puts those before its question in front of the environment's,
            the messages of the system first. "ignore" plays the environment's alone.
    """
    if mode == "ignore" or not row:
        return [message.replace(started_at=None) for message in own]
    if mode == "replace":
        return list(row)
    question = max((place for place, message in enumerate(row) if message.role == "user"), default=len(row))
    before = [*row[:question], *row[question + 1 :]]
    systems = [[m for m in messages if m.role == "system"] for messages in (before, own)]
    others = [[m.replace(started_at=None) for m in messages if m.role != "system"] for messages in (before, own)]
    return [*systems[0], *(message.replace(started_at=None) for message in systems[1]), *others[0], *others[1]]


def no_such_tools(row: InputRow, names: Sequence[str], environment: str, known: ToolSet) -> ConfigurationError:
    """Return the error of a row whose tools the environment does not have."""
    those = f"the tool{'' if len(names) == 1 else 's'} {', '.join(map(repr, names))}"
    own = ", ".join(tool.name for tool in known) or "none"
    return ConfigurationError(
        f"{row.describe()} defines {those}, which {environment!r} does not have. "
        f"Its tools are: {own}. Define tools of these names in the row, or leave out its `tools`."
    )


def _wrong_item(item: Mapping[str, Json]) -> str:
    """Return why an item of a request cannot be played as it is meant; empty if it can."""
    kind, role = item.get("type", "message"), item.get("role")
    if kind == "item_reference":
        return "refers to an item of an earlier response, which is not known here: write the item itself"
    if item.get("tool_calls") or item.get("function_call") or role in ("tool", "function"):
        return (
            "is a message of chat completions: write a call as an item of the type 'function_call', and its result as "
            "'function_call_output'"
        )
    if kind == "message" and role not in _ROLES:
        return f"must have one of the roles {', '.join(_ROLES)}, not {shown(role)}"
    return ""


def _tool(tool: Json) -> ToolSpec:
    """Read a function tool of OpenAI's Responses API, or of its chats. Its further fields, such as `strict`, are kept."""
    nested = isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping)
    function: Any = tool["function"] if nested else tool
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        what = f"of the type {kind!r}, which no environment runs" if isinstance(kind, str) and kind != "function" else shown(tool)
        raise ValueError(f"its tools must be functions with a name, and one is {what}")
    if not isinstance(function.get("parameters"), Mapping | None):
        raise ValueError(
            f"the parameters of its tool {function['name']!r} must be a JSON Schema, not {shown(function['parameters'])}"
        )
    if not isinstance(function.get("description"), str | None):
        raise ValueError(f"the description of its tool {function['name']!r} must be a text, not {shown(function['description'])}")
    extra = {name: value for name, value in function.items() if name not in _TOOL}
    return ToolSpec(function["name"], function.get("description") or "", function.get("parameters"), extra)
