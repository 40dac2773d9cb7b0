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
