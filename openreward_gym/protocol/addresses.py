"""Base URLs: the subdomains of the hosted platform, or the one server that a caller names."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from openreward_gym.errors import ConfigurationError
from openreward_gym.urls import without_credentials

DEFAULT_URL = "https://openreward.ai"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Base URLs without a trailing slash.

    Attributes:
        sessions: Base URL of the sessions.
        platform: Base URL of the platform's own `/v1/...` endpoints.
        hosted: True if `sessions` is a gateway, where an environment's name is a deployment and not a path segment.
    """

    sessions: str
    platform: str
    hosted: bool


def resolve_addresses(base_url: str | None, environ: Mapping[str, str]) -> Addresses:
    """Return the addresses that `base_url` and the SDK's environment variables name.

    An explicit `base_url` is one server, used as it is. So is an `OPENREWARD_URL` whose host is an IP address or `localhost`,
    or that has a port. Every other URL is a platform with `api.` and `sessions.` subdomains, which `OPENREWARD_API_URL` and
    `OPENREWARD_SESSION_URL` replace. A URL that is not valid raises ConfigurationError.
    """
    api_url = environ.get("OPENREWARD_API_URL")
    session_url = environ.get("OPENREWARD_SESSION_URL")
    if base_url is not None:
        url = checked_url(base_url, "base_url")
        if url != DEFAULT_URL:
            return Addresses(url, checked_url(api_url, "OPENREWARD_API_URL") if api_url else url, hosted=False)
    else:
        url = checked_url(environ.get("OPENREWARD_URL") or DEFAULT_URL, "OPENREWARD_URL")
    parts = urlsplit(url)
    one_server = parts.port is not None or parts.hostname == "localhost" or is_ip_address(parts.hostname or "")
    return Addresses(
        sessions=checked_url(session_url, "OPENREWARD_SESSION_URL") if session_url else subdomain(url, "sessions", one_server),
        platform=checked_url(api_url, "OPENREWARD_API_URL") if api_url else subdomain(url, "api", one_server),
        hosted=not one_server,
    )


def platform_address(base_url: str | None, environ: Mapping[str, str]) -> str:
    """Return the base URL of the platform's API. An explicit `base_url` is used as it is."""
    if base_url and base_url.rstrip("/") != DEFAULT_URL:
        return checked_url(base_url, "base_url")
    return resolve_addresses(None, environ).platform


def checked_url(url: str, source: str) -> str:
    """Return a base URL without a trailing slash. Raise ConfigurationError if it is not valid; `source` says who gave it."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        valid = parts.scheme in ("http", "https") and bool(host) and (parts.port is None or parts.port > 0)
        valid = valid and url.isprintable() and " " not in host
    except ValueError:
        valid = False
    if not valid:
        shown = without_credentials(url.rpartition("@")[2])
        raise ConfigurationError(f"{source}={shown!r} is not a URL. Write it as http://host:port or https://host.")
    if parts.query or parts.fragment:
        shown = without_credentials(urlunsplit(parts._replace(query="", fragment="")))
        raise ConfigurationError(f"{source}={shown!r} is followed by a query or a fragment. Give the base URL alone.")
    return url.rstrip("/")


def is_ip_address(host: str) -> bool:
    """Return True for an IP address, and False for a host name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def subdomain(url: str, name: str, one_server: bool) -> str:
    """Return `url` with `name` before its host; `url` itself if it is the address of one server."""
    if one_server:
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{name}.{host}"))
