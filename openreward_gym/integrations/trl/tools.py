"""Tools as TRL takes them: attributes of an environment object that can be called, and that chat templates render unchanged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

RESERVED = frozenset({"reset", "get_reward"})
"""Names of an environment's methods that TRL does not take for tools."""


class Tool(dict[str, Any]):
    """A tool in OpenAI's format that can be called.

    TRL gives the tools of an environment to the chat template. Of a function the template would show what its signature and
    docstring say: few of the words of JSON Schema. A dict is shown as it is, so the model reads the environment's own schema. The
    names of tools and arguments need not be Python identifiers.

    Args:
        definition: The tool in OpenAI's format.
        call: Function of the tool's name and the arguments.

    Example:
        >>> look = Tool({"type": "function", "function": {"name": "look-up"}}, lambda name, arguments: (name, arguments))
        >>> look(**{"class": 1})
        ('look-up', {'class': 1})
    """

    def __init__(self, definition: Mapping[str, Any], call: Callable[[str, dict[str, Any]], Any]) -> None:
        super().__init__(definition)
        # TRL finds a tool by its `__name__`.
        self.__name__ = str(definition["function"]["name"])
        self.__doc__ = definition["function"].get("description")
        self._call = call

    def __call__(self, /, **arguments: Any) -> Any:
        return self._call(self.__name__, arguments)


def attribute_names(tools: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return the attribute of each tool: its name, where TRL takes an attribute of that name for a tool.

    Example:
        >>> attribute_names(["look", "reset", "_run", "tool_reset"])
        {'look': 'look', 'tool_reset': 'tool_reset', 'reset': 'tool_reset_', '_run': 'tool__run'}
    """
    taken = {*RESERVED, *taken}
    names = list(dict.fromkeys(tools))
    attributes = {name: name for name in names if name and name not in taken and not name.startswith("_")}
    for name in names:
        if name not in attributes:
            attribute = f"tool_{name}"
            while attribute in taken or attribute in attributes.values():
                attribute += "_"
            attributes[name] = attribute
    return attributes


def tool_methods(tools: Mapping[str, str]) -> dict[str, Callable[..., Any]]:
    """Return a function per attribute. TRL lists the functions of an environment's class, and then takes those of the object."""

    def method_of(tool: str, attribute: str) -> Callable[..., Any]:
        def method(self: Any, /, **arguments: Any) -> Any:
            return vars(self)[attribute](**arguments)

        method.__name__ = method.__qualname__ = tool
        return method

    methods = {attribute: method_of(tool, attribute) for tool, attribute in tools.items()}
    assert all(map(inspect.isfunction, methods.values()))
    return methods
