"""Where the servers are: the hosted platform's subdomains, or the one server that a caller names."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from openreward_gym.errors import ConfigurationError

__all__ = ["DEFAULT_URL", "Addresses", "origin_of", "resolve_addresses", "without_credentials"]

DEFAULT_URL = "https://openreward.ai"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Base URLs without a trailing slash.

    Attributes:
        sessions: Where sessions live.
        platform: Where the platform's own `/v1/...` endpoints live.
        hosted: Whether a gateway with many deployments is behind `sessions` (then names are deployments, not path segments).
    """

    sessions: str
    platform: str
    hosted: bool


def resolve_addresses(base_url: str | None, environ: Mapping[str, str]) -> Addresses:
    """The addresses meant by `base_url` and the SDK's environment variables.

    A `base_url` that the caller gives is one server, used as it is; so is an `OPENREWARD_URL` whose host is an IP address or
    `localhost`, or that has a port. Everything else is a platform with its `api.` and `sessions.` subdomains, each of which
    `OPENREWARD_API_URL` and `OPENREWARD_SESSION_URL` replace.

    Raises:
        ConfigurationError: A URL is not one.
    """
    api_url = environ.get("OPENREWARD_API_URL")
    session_url = environ.get("OPENREWARD_SESSION_URL")
    if base_url is not None:
        url = _checked(base_url, "base_url")
        if url != DEFAULT_URL:
            return Addresses(url, _checked(api_url, "OPENREWARD_API_URL") if api_url else url, hosted=False)
    else:
        url = _checked(environ.get("OPENREWARD_URL") or DEFAULT_URL, "OPENREWARD_URL")
    one_server = _is_one_server(url)
    return Addresses(
        sessions=_checked(session_url, "OPENREWARD_SESSION_URL") if session_url else _subdomain(url, "sessions", one_server),
        platform=_checked(api_url, "OPENREWARD_API_URL") if api_url else _subdomain(url, "api", one_server),
        hosted=not one_server,
    )


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of `url`: two URLs of one origin are one server to a browser, and to us."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def without_credentials(url: str) -> str:
    """`url` without a user name and password, for texts that people and logs see."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _checked(url: str, source: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        shown = url.rpartition("@")[2]
        raise ConfigurationError(f"{source}={shown!r} is not a URL: write it as http://host:port or https://host")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{source}={without_credentials(url)!r} has a query or a fragment: give the base URL alone")
    return url.rstrip("/")


def _is_one_server(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.port is not None or host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _subdomain(url: str, name: str, one_server: bool) -> str:
    if one_server:
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{name}.{host}"))
