"""Messages of the Python functions in the words of the command line: `max_steps=3` is `--max-steps 3`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

# "resume=True (--resume)": the message itself says how the option is typed.
_BOTH = re.compile(r"\b[a-z_]+=(?:'[^']*'|\"[^\"]*\"|\[[^\]]*\]|\.\.\.|[\w.]*) \((--[^)]*)\)")
_OBJECT = re.compile(r"\b(?:Select|ExportOptions)\(((?:[^()]|\([^()]*\))*)\)")
_VALUE = r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]|\.\.\.|[\w]+(?:\.\w+)*|"
_ARGUMENT = re.compile(rf"(?<![\w.-])([a-z_]+)=({_VALUE})(?![\w=(])")
_LIST_ITEM = re.compile(r"'([^']*)'|\"([^\"]*)\"|([\w.]+)")


def as_typed(message: str, parameters: Mapping[str, Any]) -> str:
    """Return a message with the options of a command in place of Python's arguments.

    Arguments that are no options of the command stay as they are.

    Args:
        message: The message.
        parameters: The command's parameters by name, as Typer made them.
    """
    message = _BOTH.sub(r"\1", message)
    names = "|".join(map(re.escape, parameters))
    if not names:
        return message

    def unpack(match: re.Match[str]) -> str:
        # An object of options is no word of the command line; its options are.
        known = all(name in parameters for name, _ in _ARGUMENT.findall(match[1]))
        return match[1] if known and "=" in match[1] else match[0]

    return _ARGUMENT.sub(lambda match: _typed(match, parameters), _OBJECT.sub(unpack, message))


def _typed(match: re.Match[str], parameters: Mapping[str, Any]) -> str:
    name, value = match.groups()
    param = parameters.get(name)
    if param is None:
        return match[0]
    if param.param_type_name == "argument":
        return str(param.metavar or name.upper())
    flag = max(param.opts, key=len)
    if param.is_flag:
        return f"leaving out {flag}" if (value in ("False", "None")) != flag.startswith("--without-") else flag
    if value == "":
        return str(flag)
    if value == "...":
        return f"{flag} {param.metavar}"
    if value == "None":
        return f"{flag} 0" if "0 " in (param.help or "") else f"leaving out {flag}"
    if value.startswith("["):
        items = ["".join(item) for item in _LIST_ITEM.findall(value)]
        return " ".join(f"{flag} {shlex.quote(item)}" for item in (items if param.multiple else [",".join(items)]))
    is_quoted = value.startswith(("'", '"'))
    return f"{flag} {shlex.quote(value[1:-1] if is_quoted else value)}"
