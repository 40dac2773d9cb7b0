"""The public names of a client of OpenReward, with parameters and fields. `python sdk_shape.py openreward` prints them.

It runs in any interpreter that has the client, and needs nothing else.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

MODULES = ("", "client", "models", "api.errors", "api.environments", "api.environments.client", "api.environments.types")
"""The client's side: its package, and the modules that programs import names from. The first of them that has a name shows it."""

Shape = dict[str, Any]


def shape_of(package: str) -> dict[str, Shape]:
    """Return the shape of each public name, by the module and the name: `api.errors.ToolFailed`."""
    shapes: dict[str, Shape] = {}
    for path in MODULES:
        name = f"{package}.{path}" if path else package
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        for public in public_names(module):
            shapes[f"{path}.{public}" if path else public] = _shape(getattr(module, public), package)
    return shapes


def public_names(module: Any) -> list[str]:
    """Return the names of `__all__`, or else of the classes and functions that the module defines."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return sorted(name for name in own if not name.startswith("_"))


def _shape(value: Any, package: str) -> Shape:
    if inspect.isclass(value):
        return {"kind": "class", "fields": _fields(value), "members": _members(value, package)}
    if inspect.isfunction(value):
        return {"kind": "function", "parameters": _parameters(value)}
    return {"kind": "module" if inspect.ismodule(value) else "value"}


def _fields(cls: type) -> list[list[str]]:
    if not dataclasses.is_dataclass(cls):
        return []
    return [[field.name, _default(field.default)] for field in dataclasses.fields(cls) if field.init]


def _members(cls: type, package: str) -> Shape:
    """Return the methods and properties that classes of the client define, and the constructor unless it is a dataclass's."""
    members: Shape = {}
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] != package.partition(".")[0]:
            continue
        for name, value in vars(base).items():
            if name in members or (name.startswith("_") and name not in ("__init__", "__enter__", "__aenter__")):
                continue
            if name == "__init__" and dataclasses.is_dataclass(cls):
                continue
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if inspect.isfunction(function):
                is_async = inspect.iscoroutinefunction(function)
                members[name] = {"parameters": _parameters(function), "async": is_async}
            elif isinstance(function, property):
                members[name] = {"property": True, "settable": function.fset is not None}
    return members


def _parameters(function: Callable[..., Any]) -> list[list[str]]:
    return [[one.name, one.kind.name, _default(one.default)] for one in inspect.signature(function).parameters.values()]


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty or value is dataclasses.MISSING:
        return "required"
    return repr(value)


def differences(theirs: Shape, ours: Shape) -> list[str]:
    """Return how a name of ours differs from theirs. More is no difference: keyword-only parameters, members."""
    if theirs["kind"] != ours["kind"]:
        return [f"a {ours['kind']} instead of a {theirs['kind']}"]
    found = []
    if theirs["kind"] == "function":
        found += _parameter_differences("", theirs["parameters"], ours["parameters"])
    for name, field in zip([field[0] for field in theirs.get("fields", ())], theirs.get("fields", ()), strict=True):
        at = theirs["fields"].index(field)
        if ours["fields"][at : at + 1] != [field]:
            found.append(f"field {name}: {ours['fields'][at : at + 1]} instead of {field}")
    for name, member in theirs.get("members", {}).items():
        own = ours["members"].get(name)
        if own is None:
            found.append(f"no {name}")
        elif "parameters" not in member or "parameters" not in own:
            if not (member.get("property") and own.get("property") and own["settable"] >= member["settable"]):
                found.append(f"{name}: {own} instead of {member}")
        else:
            found += _parameter_differences(name, member["parameters"], own["parameters"])
            if member["async"] != own["async"]:
                found.append(f"{name}: async is {own['async']}")
    return found


def _parameter_differences(name: str, theirs: list[list[str]], ours: list[list[str]]) -> list[str]:
    by_name = {parameter[0]: parameter for parameter in ours}
    positional = [parameter[0] for parameter in theirs if parameter[1] != "KEYWORD_ONLY"]
    found = [f"{name}({p[0]}): {by_name.get(p[0])} instead of {p}" for p in theirs if by_name.get(p[0]) != p]
    if [parameter[0] for parameter in ours if parameter[1] != "KEYWORD_ONLY"][: len(positional)] != positional:
        found.append(f"{name}: another order of parameters")
    extra = [p[0] for p in ours if p[0] not in [q[0] for q in theirs] and p[2] == "required"]
    return found + [f"{name}({one}): required" for one in extra]


if __name__ == "__main__":
    print(json.dumps(shape_of(sys.argv[1])))
