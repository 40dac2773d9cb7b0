"""URLs of servers: their check, the origin, and the form that people and logs may see."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from openreward_gym.errors import ConfigurationError

__all__ = ["Origin", "bare_url", "check_url", "hide_credentials", "origin_of", "password_of", "without_credentials"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
# Of several "@", the last one before the path ends the user and password.
_USER = re.compile(r"(?<=://)[^\s/?#\"'<>]*@")
_PARAMETER = re.compile(
    r"(?<=[?&;])([\w.~%-]*?(?:key|token|secret|passw(?:or)?d|pwd|signature|sig|sas|auth|authorization|credential|jwt|code)=)"
    r"[^&#\s\"'<>]+",
    re.IGNORECASE,
)


class Origin(NamedTuple):
    """The scheme, host and port of a URL; its text leaves out the scheme's default port.

    Example:
        >>> str(Origin("https", "api.openreward.ai", 443))
        'https://api.openreward.ai'
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _DEFAULT_PORTS.get(self.scheme) else f":{self.port}")


def origin_of(url: str) -> Origin:
    """Return the origin of `url`. Two URLs of one origin name the same server.

    Example:
        >>> str(origin_of("http://user:password@127.0.0.1:8080/path?query"))
        'http://127.0.0.1:8080'
    """
    parts = urlsplit(url)
    return Origin(parts.scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme, 80))


def without_credentials(url: str) -> str:
    """Return `url` without its user name and password, and with `***` for the values of query parameters that name a secret.

    Example:
        >>> without_credentials("https://user:password@example.com/path?api_key=abc&page=2")
        'https://example.com/path?api_key=***&page=2'
    """
    return _PARAMETER.sub(r"\1***", _USER.sub("", url))


def hide_credentials(text: str) -> str:
    """Return a text in which `***` stands for the credentials of all URLs in it.

    Example:
        >>> hide_credentials("--base-url http://user:password@127.0.0.1:8080")
        '--base-url http://***@127.0.0.1:8080'
    """
    return _PARAMETER.sub(r"\1***", _USER.sub("***@", text)) if "://" in text else text


def password_of(url: str) -> str:
    """Return the password of a URL, decoded; empty without one.

    Example:
        >>> password_of("https://user:pass%40word@example.com")
        'pass@word'
    """
    try:
        return unquote(urlsplit(url).password or "")
    except ValueError:
        return ""


def bare_url(url: str) -> str:
    """Return `url` without its user name and password, its query and its fragment.

    Example:
        >>> bare_url("https://user:password@example.com/v1/?key=abc")
        'https://example.com/v1'
    """
    return urlunsplit(urlsplit(without_credentials(url))._replace(query="", fragment="")).rstrip("/")


def check_url(option: str, url: str | None) -> None:
    """Raise ConfigurationError if a text is not the URL of a server. None passes.

    Example:
        >>> check_url("--url", "localhost:80")
        Traceback (most recent call last):
        openreward_gym.errors.ConfigurationError: --url 'localhost:80' is not a URL: write it as http://host:port or https://host
    """
    if url is None:
        return
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")  # raises for a host name that is not valid
        valid = parts.scheme in ("http", "https") and host != b"" and b" " not in host and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        shown = without_credentials(url.rpartition("@")[2])  # the text before "@" may be a password
        raise ConfigurationError(f"{option} {shown!r} is not a URL: write it as http://host:port or https://host")
