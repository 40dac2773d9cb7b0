"""The addresses of the official client: `api.` and `sessions.` subdomains of one base URL."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from openreward_gym.errors import ConfigurationError
from openreward_gym.protocol.addresses import DEFAULT_URL, checked_url, is_ip_address, subdomain


@dataclass(frozen=True, slots=True)
class ClientAddresses:
    """The addresses of a client.

    Attributes:
        web: Base URL of the site.
        api: Base URL of the platform's API.
        sessions: Base URL of the sessions.
    """

    web: str
    api: str
    sessions: str


def client_addresses(base_url: str | None) -> ClientAddresses:
    """Return the addresses that `base_url`, or else `OPENREWARD_URL`, names.

    `OPENREWARD_API_URL` and `OPENREWARD_SESSION_URL` replace the subdomains. An IP address and `localhost` have no subdomains:
    all three addresses are that server's.

    Example:
        >>> client_addresses("https://openreward.example").sessions, client_addresses("http://127.0.0.1:8080").sessions
        ('https://sessions.openreward.example', 'http://127.0.0.1:8080')
    """
    web = (
        checked_url(base_url, "base_url")
        if base_url
        else checked_url(os.environ.get("OPENREWARD_URL") or DEFAULT_URL, "OPENREWARD_URL")
    )
    one_server = is_local(web)
    api, sessions = os.environ.get("OPENREWARD_API_URL"), os.environ.get("OPENREWARD_SESSION_URL")
    return ClientAddresses(
        web,
        checked_url(api, "OPENREWARD_API_URL") if api else subdomain(web, "api", one_server),
        checked_url(sessions, "OPENREWARD_SESSION_URL") if sessions else subdomain(web, "sessions", one_server),
    )


def held_addresses(base_url: str | None) -> ClientAddresses | ConfigurationError:
    """Return the addresses, or the error, so that the caller can first drop a URL with a password from its frame."""
    if isinstance(base_url, str) and base_url and not set(base_url) & set(":/. "):
        problem = "base_url is not a URL. Write it as http://host:port or https://host; a key is the first argument, api_key"
        return ConfigurationError(problem)
    try:
        return client_addresses(base_url)
    except ConfigurationError as error:
        return _without_frames(error)


def held_url(url: str, source: str) -> str | ConfigurationError:
    """Return a base URL without a trailing slash, or the error that says what is wrong with it."""
    try:
        return checked_url(url, source)
    except ConfigurationError as error:
        return _without_frames(error)


def _without_frames(error: ConfigurationError) -> ConfigurationError:
    # The frames of the error and of its context have the URL.
    error.__context__ = None
    return error.with_traceback(None)


def is_local(url: str) -> bool:
    """Return True for the address of one server: an IP address or `localhost`."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or is_ip_address(host)
