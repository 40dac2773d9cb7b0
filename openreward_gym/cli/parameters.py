"""Parameters that commands share: exit codes, arguments, checks, and options generated from `openreward_gym.options`."""

from __future__ import annotations

import copy
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand

from openreward_gym.credentials import HIDDEN, without_secrets
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import (
    ClientOptions,
    EnvOptions,
    EpisodeLimits,
    Options,
    RetryBudget,
    RunOptions,
    SessionOptions,
    run_folder_of,
)
from openreward_gym.store.damage import Damage, describe
from openreward_gym.urls import check_url, hide_credentials

FAILED, USAGE, INCOMPLETE, INTERRUPTED = 1, 2, 75, 130

MAX_LISTED = 20
"""Number of problems that are listed one by one."""

O = TypeVar("O", bound=Options)  # noqa: E741
F = TypeVar("F", bound=Callable[..., None])

Environment = Annotated[
    str,
    typer.Argument(metavar="ENVIRONMENT", help="Name on a server (weather), or owner/name on the platform."),
]
Variant = Annotated[str | None, typer.Option(metavar="NAME", help="Variant of the environment.", rich_help_panel="Environment")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Runs = Annotated[list[str], typer.Argument(metavar="RUN", help="Folders of runs.")]

# Options whose flag is not the option's name without its unit, with the placeholder for the value.
_FLAGS = {
    "secrets_env": ("--secret", "NAME=VARIABLE"),
    "secret_domains": ("--secret-domain", "NAME=HOST"),
    "env_overrides": ("--env-override", "NAME=VALUE"),
    "retry_limits": ("--retry-limit", "NAME=NUMBER"),
    "retries": ("--retry", "KIND=ATTEMPTS"),
    "policy_options": ("--policy-option", "NAME=VALUE"),
    "ray_options": ("--ray-option", "NAME=VALUE"),
}
_RANGES: Mapping[str, tuple[float, float]] = {"min_rating": (1, 5), "max_rating": (1, 5)}
_PLACEHOLDERS = {
    "chat_template_kwargs": "JSON",
    "input": "FILE",
    "output": "PATH",
    "redact": "VARIABLE",
    "redact_pattern": "REGEX",
    "task": "ID",
    "tasks": "INDEXES",
    "advantages": "KIND",
    "decontaminate": "FILE",
    "holdout": "SHARE",
    "scrub": "KIND",
    "weights": "RULE",
    "split_by": "FIELD",
}
_URLS = ("base_url", "policy_url")
_KINDS: Mapping[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    **dict.fromkeys(("Names", "Sequence", "Texts", "Scrub", "SplitBy", "Holdout"), list[str]),
}
_ZERO_FOR_NONE = ("step_timeout_s", "max_pairs")
"""Options whose default is a number and whose value None is written as 0."""
# The innermost class that declares an option decides about the section of its help.
_SECTIONS: Mapping[type[Options], str] = {
    ClientOptions: "Connection",
    EpisodeLimits: "Episode",
    SessionOptions: "Session",
    EnvOptions: "Environment",
    RunOptions: "Run",
}


class SectionedCommand(TyperCommand):
    """A command whose help lists options in the sections of their `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, section by section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in map(_with_values, self.get_params(ctx)):
            record = param.get_help_record(ctx)
            if record is not None:
                argument = param.param_type_name == "argument"
                name = "Arguments" if argument else getattr(param, "rich_help_panel", None) or "Other options"
                sections.setdefault(name, []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


def _with_values(param: Any) -> Any:
    """Return the parameter with the values that other distributions may add to listed in its help."""
    # Not in the declaration, because searching the installed distributions takes too long for every start of the program.
    if param.name == "formats":
        from openreward_gym.export import format_names

        values = f"The formats are {', '.join(format_names())}."
    elif param.name == "source":
        from openreward_gym.importers import names

        values = f"One of {', '.join(names())}."
    else:
        return param
    param = copy.copy(param)
    param.help = f"{param.help} {values}"
    return param


def with_options(cls: type[Options], *, without: Iterable[str] = (), section: str | None = None) -> Callable[[F], F]:
    """Decorate a command that takes `**options`: give it a command line option for each option of `cls`.

    Help texts and defaults come from the declarations in the class.

    Args:
        cls: The options class.
        without: Names of options to leave out.
        section: Title of the options' section in the help. None takes a title by the class that declares an option.
    """

    def decorate(command: F) -> F:
        hints = get_type_hints(command, include_extras=True)
        own = {
            name: one.replace(annotation=hints[name])
            for name, one in inspect.signature(command).parameters.items()
            if one.kind is not inspect.Parameter.VAR_KEYWORD
        }
        descriptions = cls.descriptions()
        for name, declared in cls.declarations().items():
            if name not in own and name not in without:
                annotation = _annotation(name, str(declared.type), declared.default, descriptions.get(name, ""), section)
                own[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        vars(command)["__signature__"] = inspect.Signature(list(own.values()), return_annotation=None)
        command.__annotations__ = {name: one.annotation for name, one in own.items()}
        return command

    return decorate


def _annotation(name: str, declared: str, default: Any, description: str, section: str | None) -> Any:
    """Return the Typer annotation of a generated option."""
    kind = _kind(name, declared)
    flag = _flag(name, kind)
    if default is True and kind is bool:
        flag = f"--without-{flag.removeprefix('--')}"
        description = re.sub(r"^(\w+: )?(\w)", lambda m: f"{m[1] or ''}{'do' if m[1] else 'Do'} not {m[2].lower()}", description)
    if name in _ZERO_FOR_NONE:
        description = re.sub(r"\bNone (?=sets|takes)", "0 ", description)
    description = re.sub(r" ?In Python[^.]*(?:\.[^ ][^.]*)*\.", "", description)
    # "None sets no limit." describes a Python argument; on the command line, leaving the option out has this effect.
    description = re.sub(r"\bNone \w+ (.*)\.$", r"[default: \1]", description).replace("`", "")
    if default not in (None, "", ()) and not isinstance(default, bool):
        description += f" [default: {default:g}]" if isinstance(default, float) else f" [default: {default}]"
    placeholder = None if kind is bool else _placeholder(name, kind)
    if kind == list[str]:
        description += " May be repeated."
    section = section or next(title for owner, title in _SECTIONS.items() if name in owner.names())
    low, high = _RANGES.get(name, (None, None))
    option = typer.Option(
        flag, metavar=placeholder, help=description.strip(), min=low, max=high, rich_help_panel=section, show_default=False
    )
    return Annotated[kind | None, option]


def _kind(name: str, declared: str) -> Any:
    """Return the type of a generated option's value on the command line."""
    return list[str] if name in _FLAGS else _KINDS.get(re.split(r"\W", declared)[0], str)


def _flag(name: str, kind: Any = None) -> str:
    """Return an option's flag: singular for one that may be repeated."""
    if name in _FLAGS:
        return _FLAGS[name][0]
    flag = "--" + name.removesuffix("_s").replace("_", "-")
    return flag.removesuffix("s") if kind == list[str] and name != "status" else flag


def _placeholder(name: str, kind: type) -> str:
    if name in _FLAGS:
        return _FLAGS[name][1]
    if name in _URLS:
        return "URL"
    if kind is float:
        return "SECONDS" if name.endswith("_s") else "NUMBER"
    if kind is int:
        return "N"
    return _PLACEHOLDERS.get(name.removesuffix("s") if kind == list[str] else name, "NAME")


def parse_options(cls: type[O], values: Mapping[str, Any]) -> O:
    """Build an options object from those of a command's values that are its options. None means that an option was left out.

    The message of a ConfigurationError names the command line option.
    """
    keywords: dict[str, Any] = {}
    for name, declared in cls.declarations().items():
        value = values.get(name)
        if value is None:
            continue
        if name in _PARSERS:
            value = _PARSERS[name](_flag(name), value)
        elif value is True and declared.default is True:
            value = False  # the flag is --without-NAME
        elif name in _ZERO_FOR_NONE and value == 0:
            value = None
        keywords[name] = value
    for name in _URLS:
        check_url(_flag(name), keywords.get(name))
    output = keywords.get("output")
    check_folder("--output", run_folder_of(output) if cls is RunOptions and output else output)
    try:
        return cls.from_keywords(keywords)
    except ConfigurationError as error:
        text = str(error)
        name = re.match(r"\w*", text)[0]  # type: ignore[index]  # an empty match is a match
        if name in keywords:
            text = _flag(name, _kind(name, str(cls.declarations()[name].type))) + text.removeprefix(name).replace(
                " or None, not ", ", not "
            )
        raise ConfigurationError(text) from None


def _pairs(flag: str, items: Iterable[str]) -> list[tuple[str, str]]:
    """Split NAME=VALUE items."""
    pairs = []
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier():
            shown = f"{name}=..." if equals else item  # the value may be a secret
            raise ConfigurationError(f"{flag} takes NAME=VALUE, not {shown!r}")
        pairs.append((name, value))
    return pairs


def _json_values(flag: str, items: Iterable[str]) -> dict[str, Any]:
    """Parse NAME=VALUE items; a value that is not JSON is text."""
    values: dict[str, Any] = {}
    for name, value in _pairs(flag, items):
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def _hosts(flag: str, items: Iterable[str]) -> dict[str, list[str]]:
    """Parse NAME=HOST items; a secret may have several hosts, in several items or separated by commas."""
    hosts: dict[str, list[str]] = {}
    for name, value in _pairs(flag, items):
        hosts.setdefault(name, []).extend(host for host in value.split(",") if host)
    return hosts


def _budgets(flag: str, items: Iterable[str]) -> dict[str, RetryBudget]:
    """Parse KIND=ATTEMPTS or KIND={"attempts": ..., "deadline_s": ...} items."""
    return {
        kind: RetryBudget.from_keywords(value if isinstance(value, dict) else {"attempts": value}, flag)
        for kind, value in _json_values(flag, items).items()
    }


def parse_secrets(flag: str, items: Iterable[str]) -> dict[str, str]:
    """Parse NAME=VARIABLE items. Error messages do not repeat the text after "=", because it may be the secret itself."""
    secrets: dict[str, str] = {}
    for item in items:
        name, equals, variable = item.partition("=")
        if not equals or not name or not variable.isidentifier():
            reason = f"; the text after {name}= is not the name of a variable" if equals and name else ""
            raise ConfigurationError(
                f"{flag} takes NAME=VARIABLE: the secret's name, and the environment variable that holds it "
                f"(judge_key=MY_JUDGE_KEY){reason}"
            )
        if not os.environ.get(variable):
            raise ConfigurationError(
                f"{flag} {name}=...: there is no environment variable of that name, or it is empty; "
                "give the variable's name, never the secret itself"
            )
        secrets[name] = variable
    return secrets


def shown_arguments(arguments: Iterable[str]) -> list[str]:
    """Return the arguments of a command with `***` in the place of credentials, to print them.

    Example:
        >>> shown_arguments(["--env-override", "TOKEN=abc", "--base-url=http://me:pw@127.0.0.1", "--policy-option", "top_k=5"])
        ['--env-override', 'TOKEN=***', '--base-url=http://***@127.0.0.1', '--policy-option', 'top_k=5']
    """
    shown, before = [], ""
    for argument in arguments:
        flag, equals, value = argument.partition("=") if argument.startswith("--") else (before, "", argument)
        if flag in _NAMED_VALUES and value:
            shown.append((flag + equals if equals else "") + _shown_pair(flag, value))
        else:
            shown.append(hide_credentials(argument))
        before = argument
    return shown


def _shown_pair(flag: str, item: str) -> str:
    """Return a NAME=VALUE item without the credentials in its value."""
    name, equals, text = item.partition("=")
    if not equals:
        return hide_credentials(item)
    if flag == _flag("env_overrides"):
        return f"{name}={HIDDEN}"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    hidden = without_secrets({name: value})[name]
    if hidden == value:
        return item
    return f"{name}={hidden if isinstance(hidden, str) else json.dumps(hidden)}"


_NAMED_VALUES = tuple(_flag(name) for name in ("env_overrides", "policy_options", "ray_options"))

_PARSERS: Mapping[str, Callable[[str, Any], Any]] = {
    "secrets_env": parse_secrets,
    "secret_domains": _hosts,
    "env_overrides": lambda flag, items: dict(_pairs(flag, items)),
    "retry_limits": _json_values,
    "retries": _budgets,
    "policy_options": _json_values,
    "ray_options": _json_values,
}


def check_folder(option: str, path: str | os.PathLike[str] | None) -> None:
    """Raise ConfigurationError if a path is empty or a file, or one of its parents is a file. URLs and None pass."""
    if path is None or "://" in os.fspath(path):
        return
    if not os.fspath(path):
        raise ConfigurationError(f"{option} names no folder: it is empty")
    existing = next(folder for folder in (Path(path), *Path(path).absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise ConfigurationError(f"{option} {os.fspath(path)!r} cannot be a folder: {existing} is a file; choose another")


def print_damages(damages: Collection[Damage]) -> None:
    """Print a line for each cause of damage."""
    causes = describe(damages)
    for cause in causes[:MAX_LISTED]:
        print(cause, file=sys.stderr)
    if len(causes) > MAX_LISTED:
        print(f"... and {len(causes) - MAX_LISTED} more causes", file=sys.stderr)


def end_with(damages: Collection[Damage]) -> None:
    """Print what could not be read, if there is any, and end the command with exit code 1."""
    if damages:
        print_damages(damages)
        are = "place is" if len(damages) == 1 else "places are"
        print(f"{len(damages)} {are} damaged; everything else was read", file=sys.stderr)
        raise typer.Exit(FAILED)
