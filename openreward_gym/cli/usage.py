"""Errors of usage as one line: what was typed, what is close to it, and where the help is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, cast

import typer

from openreward_gym.cli.console import PROGRAM
from openreward_gym.urls import hide_credentials

# Typer has its own copy of click's errors, or click's, depending on its version.
_CLASSES = {cls.__name__: cls for cls in typer.BadParameter.__mro__}
ClickError = cast("type[Exception]", _CLASSES["ClickException"])
"""The base class of the errors that Typer raises for wrong words of a command."""


def describe_usage_error(error: Any, words: Sequence[str]) -> str:
    """Return the message of a `ClickError` about the words of a command."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    command = context.command if context is not None else None
    problem = _problem(error, command, words)
    return f"{problem} (`{path} --help` shows what there is)"


def _problem(error: Any, command: Any, words: Sequence[str]) -> str:
    message = re.sub(r"\s+", " ", error.format_message()).strip().removesuffix(".")
    option = getattr(error, "option_name", None)
    if option is not None and message.startswith("No such option"):
        flags = [flag for param in command.params for flag in (*param.opts, *param.secondary_opts)] if command is not None else []
        return f"there is no option {option}{_suggestion(option, [flag for flag in flags if flag.startswith('-')])}"
    if message.startswith("No such command"):
        typed = getattr(error, "command_name", None) or message.partition("'")[2].partition("'")[0]
        commands = list(getattr(command, "commands", ()))
        return f"there is no command {typed!r}{_suggestion(typed, commands) or ': there are ' + ', '.join(commands)}"
    param = getattr(error, "param", None)
    if message.startswith("Missing") and param is not None:
        if param.param_type_name == "argument":
            return f"{_metavar(param)} is missing"
        return f"the option {param.opts[0]} {_metavar(param)} is missing"
    if message.startswith("Invalid value") and param is not None:
        flag = param.opts[0] if param.param_type_name == "option" else _metavar(param)
        value = _typed_value(param.opts, words)
        reason = message.partition(": ")[2]
        kind = re.search(r"valid (integer|float|number|boolean|path)", reason)
        if kind is not None:
            noun = {"float": "a number", "integer": "an integer"}.get(kind[1], f"a {kind[1]}")
            reason = f"it takes {noun}"
        limit = re.search(r"(greater|less) than or equal to (\S+)", reason)
        if limit is not None:
            reason = f"it must be at {'least' if limit[1] == 'greater' else 'most'} {limit[2]}"
        shown = "" if value is None else f" {hide_credentials(value)}"
        return f"{flag}{shown} is not possible: {reason[:1].lower()}{reason[1:]}"
    return f"{message[:1].lower()}{message[1:]}"


def _suggestion(typed: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(typed, known, n=1, cutoff=0.5)
    longer = [name for name in known if len(typed) > 3 and name.startswith(typed)]
    found = (longer if len(longer) == 1 else []) or near
    return f": did you mean {found[0]}?" if found else ""


def _metavar(param: Any) -> str:
    return str(param.metavar or param.name).upper()


def _typed_value(flags: Sequence[str], words: Sequence[str]) -> str | None:
    """Return the value that was typed for an option. None if it was not found."""
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in flags:
            return value if equals else (words[number + 1] if number + 1 < len(words) else None)
    return None
