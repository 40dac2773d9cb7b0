"""Tools in the formats of the providers' APIs, with the schemas that each of them accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args, overload

from openreward_gym.compat.api.environments.types import Provider, TerminalToolSpec, ToolSpec
from openreward_gym.errors import ConfigurationError
from openreward_gym.types import ToolSet

GOOGLE_UNSUPPORTED_SCHEMA_KEYS = {
    *("additionalProperties", "additional_properties", "title", "default", "examples", "example"),
    *("patternProperties", "oneOf", "allOf", "anyOf", "not"),
}
OPENAI_UNSUPPORTED_SCHEMA_KEYS = {"additionalProperties", "patternProperties", "oneOf", "allOf", "anyOf", "not"}

_CHOICES = ("anyOf", "oneOf", "allOf")
_RENAMED = {"$ref": "ref", "$defs": "defs"}


def sanitize_tool_schema(schema: Mapping[str, Any] | None, provider: Provider) -> dict[str, Any]:
    """Return a tool's JSON Schema as a provider accepts it. `{}` for none.

    Titles are dropped everywhere. For OpenAI and OpenRouter a choice (`anyOf`, `oneOf`, `allOf`) becomes one of its members,
    unknown keywords go, and an array without `items` gets `{}`. For Google unknown keywords go, and `$ref` and `$defs` lose their
    sign.

    Example:
        >>> sanitize_tool_schema({"title": "N", "anyOf": [{"type": "null"}, {"type": "integer"}]}, "openai")
        {'type': 'integer'}
    """
    if not schema:
        return {}
    if provider not in get_args(Provider):
        raise ConfigurationError(f"Invalid provider: {provider!r}. Choose one of {', '.join(get_args(Provider))}.")
    accepted: dict[str, Any] = _mapped(schema, _without_title)
    if provider == "google":
        accepted = _mapped(accepted, _for_google)
    elif provider != "anthropic":
        accepted = _mapped(_for_openai(accepted), _with_items)
    return accepted


def _mapped(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Return JSON with each object in it replaced by `change` of it, from the outside in."""
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in change(dict(value)).items()}
    return [_mapped(item, change) for item in value] if isinstance(value, list) else value


def _without_title(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "title"}


def _for_google(node: dict[str, Any]) -> dict[str, Any]:
    return {_RENAMED.get(key, key): value for key, value in node.items() if key not in GOOGLE_UNSUPPORTED_SCHEMA_KEYS}


def _for_openai(value: Any) -> Any:
    if isinstance(value, list):
        return [_for_openai(item) for item in value]
    if not isinstance(value, dict):
        return value
    for key in _CHOICES:
        options = value.get(key)
        if options and isinstance(options, list):
            chosen = _chosen(key, options)
            rest = {name: item for name, item in value.items() if name != key}
            return _for_openai({**rest, **chosen} if isinstance(chosen, dict) else chosen)
    return {key: _for_openai(item) for key, item in value.items() if key not in OPENAI_UNSUPPORTED_SCHEMA_KEYS}


def _chosen(key: str, options: list[Any]) -> Any:
    """Return the member that stands for a choice: the first one, of `anyOf` the first that is not null."""
    is_null = [key == "anyOf" and isinstance(option, dict) and option.get("type") == "null" for option in options]
    return next((option for option, null in zip(options, is_null, strict=True) if not null), options[0])


def _with_items(node: dict[str, Any]) -> dict[str, Any]:
    kind = node.get("type")
    is_array = kind == "array" or (isinstance(kind, list) and "array" in kind)
    return {**node, "items": {}} if is_array and "items" not in node else node


@overload
def convert_tool_response(res: Mapping[str, Any], format: None = None) -> list[ToolSpec]: ...


@overload
def convert_tool_response(res: Mapping[str, Any], format: Provider = ...) -> list[dict[str, Any]]: ...


def convert_tool_response(res: Mapping[str, Any], format: Provider | None = None) -> list[ToolSpec] | list[dict[str, Any]]:
    """Return the tools in an answer of `/tools` as `ToolSpec`s, or in the format of a provider.

    In OpenRouter's format the parameters stand twice: beside `function`, where the official client writes them, and inside it,
    where the API reads them.

    Example:
        >>> convert_tool_response({"tools": [{"name": "stop", "description": "Stop.", "input_schema": None}]}, "openai")
        [{'type': 'function', 'name': 'stop', 'description': 'Stop.', 'parameters': None}]
    """
    if format is None:
        return [ToolSpec(tool["name"], tool.get("description", ""), tool.get("input_schema")) for tool in res["tools"]]
    if format not in get_args(Provider):
        raise ConfigurationError(f"Invalid format: {format!r}. Choose one of {', '.join(get_args(Provider))}.")
    return [_formatted(tool, format) for tool in res["tools"]]


def _formatted(tool: Mapping[str, Any], format: Provider) -> dict[str, Any]:
    facts = _mapped({key: value for key, value in tool.items() if key != "input_schema"}, _without_title)
    raw = tool.get("input_schema")
    schema = sanitize_tool_schema(raw, format) if raw else None
    if format == "anthropic":
        return {"type": "custom", **facts, "input_schema": {"type": "object", "properties": {}} if schema is None else schema}
    if format == "google":
        return {**facts, "parameters": schema}
    if format == "openai":
        return {"type": "function", **facts, "parameters": schema}
    inside = facts if schema is None else {**facts, "parameters": schema}
    return {"type": "function", "function": inside, "parameters": schema}


def parse_terminal_tool(res: Mapping[str, Any]) -> TerminalToolSpec | None:
    """Return the terminal tool in an answer of `/tools`. None if the environment has none, or the server does not say.

    Example:
        >>> parse_terminal_tool({"tools": [], "terminal_tool": {"name": "submit", "arg": "answer"}})
        TerminalToolSpec(name='submit', arg='answer', description='')
    """
    raw = res.get("terminal_tool")
    return TerminalToolSpec(raw["name"], raw.get("arg"), raw.get("description", "")) if raw else None


def tools_in_format(tools: ToolSet, format: Provider | None) -> list[Any]:
    """Return tools as `ToolSpec`s, or in the format of a provider."""
    return convert_tool_response({"tools": _as_answer(tools)}, format)


def terminal_tool_of(tools: ToolSet) -> TerminalToolSpec | None:
    """Return the terminal tool. None if there is none."""
    terminal = tools.terminal
    return None if terminal is None else TerminalToolSpec(terminal.name, terminal.arg, terminal.description)


def _as_answer(tools: Iterable[Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": None if tool.input_schema is None else dict(tool.input_schema),
        }
        for tool in tools
    ]
