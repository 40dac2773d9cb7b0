"""Values of the SDKs' own types, with every field filled: made by walking pydantic models and typed dictionaries."""

from __future__ import annotations

import base64
import datetime
import enum
import itertools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import typing_extensions
from pydantic import BaseModel

IMAGE = base64.b64encode(b"\x89PNG\r\n\x1a\nwalked").decode()
_WRAPPERS = (typing.Required, typing.NotRequired, typing_extensions.Required, typing_extensions.NotRequired)
_MOST_DEEP = 9


class Walker:
    """Makes JSON values of types. Each text and number is another one, so that it can be found again."""

    def __init__(self, **fixed: Any) -> None:
        self.fixed = fixed
        self.numbers = itertools.count(1)

    def values(self, annotation: Any, name: str = "", depth: int = 0) -> list[Any]:
        """Return values of a type that together have every member of its unions, at every depth."""
        if name in self.fixed and depth == 1:
            return [self.fixed[name]]
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Annotated or origin in _WRAPPERS:
            return self.values(arguments[0], name, depth)
        if origin in (typing.Union, types.UnionType):
            return [value for kind in arguments if kind is not type(None) for value in self.values(kind, name, depth)]
        if origin is typing.Literal:
            return [arguments[0]]
        alias = getattr(annotation, "__value__", None)  # of a TypeAliasType, of `typing` or of `typing_extensions`
        if alias is not None:
            return self.values(alias, name, depth)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return [{f"key{next(self.numbers)}": value} for value in self.values(arguments[1], "", depth + 1)]
        if isinstance(origin, type) and issubclass(origin, Iterable):
            members = self.values(arguments[0], "", depth + 1)
            return [[member] for member in members]
        if isinstance(annotation, type):
            return self._of_class(annotation, name, depth)
        return [f"any{next(self.numbers)}"]

    def _of_class(self, kind: type, name: str, depth: int) -> list[Any]:
        number = next(self.numbers)
        if issubclass(kind, BaseModel) or typing_extensions.is_typeddict(kind):
            return [] if depth > _MOST_DEEP else list(self._objects(kind, depth))
        if issubclass(kind, enum.Enum):
            return [member.value for member in kind][-1:]
        if name in ("image_url", "url") and issubclass(kind, str):
            return [f"data:image/png;base64,{IMAGE}"]
        if name == "mime_type":
            return [f"image/x{number}"]
        simple: dict[type, Any] = {bool: True, int: 70000 + number, float: 70000.5 + number, bytes: f"bytes{number}".encode()}
        simple[datetime.datetime] = "2031-01-02T03:04:05+00:00"
        return [simple.get(kind, f"text{number}.")]

    def _objects(self, kind: type, depth: int) -> Iterator[dict[str, Any]]:
        aliases: dict[str, str] = {}
        if issubclass(kind, BaseModel):
            hints: dict[str, Any] = {name: field.annotation for name, field in kind.model_fields.items()}
            aliases = {name: field.alias for name, field in kind.model_fields.items() if field.alias}
        else:
            hints = typing_extensions.get_type_hints(kind, vars(typing), include_extras=True)
        choices = {name: self.values(hint, name, depth + 1) for name, hint in hints.items()}
        choices = {name: values for name, values in choices.items() if values}
        for turn in range(max([1, *map(len, choices.values())])):
            yield {aliases.get(name, name): values[min(turn, len(values) - 1)] for name, values in choices.items()}


def members(annotation: Any) -> list[Any]:
    """Return the classes of a union."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return members(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return [kind for argument in arguments for kind in members(argument)]
    return [annotation]


def leaves(value: Any) -> Iterator[str]:
    """Yield every text and number that a `Walker` made, as it is spelt in JSON; constants such as a type are left out."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, bytes):
        yield base64.b64encode(value).decode()
    elif isinstance(value, str) and not ((value.isascii() and value.replace("_", "").isalpha()) or value == "base64"):
        yield value.partition("base64,")[2] or value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield repr(value)
