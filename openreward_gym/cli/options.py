"""What the commands share: exit codes and options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from openreward_gym.errors import ConfigurationError

DONE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 75

Environment = Annotated[
    str, typer.Argument(metavar="ENVIRONMENT", help="A name like weather, or owner/name on the platform.", show_default=False)
]
Variant = Annotated[str | None, typer.Option(metavar="NAME", help="A variant of the environment.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Toolset = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="One of the server's toolsets, beside the environment's own tools.", show_default=False),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME=VARIABLE",
        help="A secret that the environment needs, by the environment variable that holds it.",
        show_default=False,
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder.", show_default=False)]


def check_folder(option: str, path: str | os.PathLike[str] | None) -> None:
    """Refuses a folder to write to that is a file, or lies in one; None is no folder, and an address is not looked at.

    Raises:
        ConfigurationError: It is one.
    """
    if path is None or "://" in os.fspath(path):
        return
    if not os.fspath(path):
        raise ConfigurationError(f"{option} names no folder: it is empty")
    place = next(there for there in (Path(path), *Path(path).absolute().parents) if there.exists())
    if not place.is_dir():
        raise ConfigurationError(f"{option} {os.fspath(path)!r} cannot be a folder: {place} is a file; choose another")


def secrets_of(given: list[str] | None) -> dict[str, str]:
    """`NAME=VARIABLE`s as a dictionary. What stands after `=` is not repeated: it may be the secret itself.

    Raises:
        ConfigurationError: One is none, or there is no such variable.
    """
    found: dict[str, str] = {}
    for item in given or []:
        name, equals, variable = item.partition("=")
        if not equals or not name or not variable.isidentifier():
            raise ConfigurationError(
                "--secret takes NAME=VARIABLE, the secret's name and that of an environment variable "
                f"(judge_key=MY_JUDGE_KEY){f'; the one for {name!r} is no name of a variable' if equals and name else ''}"
            )
        if not os.environ.get(variable):
            raise ConfigurationError(
                f"--secret {name}=...: there is no environment variable of that name, or it is empty; "
                "give the variable's name, never the secret itself"
            )
        found[name] = variable
    return found


def check_url(option: str, url: str | None) -> None:
    """Refuses what is no address of a server; None is none.

    Raises:
        ConfigurationError: It is not.
    """
    if url is None:
        return
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")  # raises for what no server can be called
        valid = parts.scheme in ("http", "https") and host != b"" and b" " not in host and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        shown = url.rpartition("@")[2]  # before it may be a password
        raise ConfigurationError(f"{option} {shown!r} is not a URL: write it as http://host:port or https://host")


def _base_url(url: str | None) -> str | None:
    check_url("--base-url", url)
    return url


BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        callback=_base_url,
        help="The environment's server. [default: the hosted platform]",
        show_default=False,
    ),
]
