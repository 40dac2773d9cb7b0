"""Proxies from the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`) and from the system's settings."""

from __future__ import annotations

import importlib.util
import os
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from openreward_gym.errors import ConfigurationError, MissingExtraError, TransportError
from openreward_gym.urls import origin_of

_SCHEMES = ("http", "https", "socks5", "socks5h")
_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))
_NO_PROXY = "Set NO_PROXY to the server's host name to connect without a proxy."


class Proxy(NamedTuple):
    """A configured proxy.

    Attributes:
        setting: Its URL as it was configured. It may hold a password, so no text shows it.
        source: Where it was configured, such as `HTTPS_PROXY`.
    """

    setting: str
    source: str

    def __repr__(self) -> str:
        return f"Proxy({self.shown()!r}, {self.source!r})"

    def shown(self) -> str:
        """Return the address without the user name and password."""
        scheme, mark, rest = self.setting.rpartition("://")
        address = rest.rpartition("@")[2].partition("/")[0]
        host, colon, port = address.rpartition(":")
        if colon and not port.isdecimal() and not port.endswith("]"):
            # What stands in the place of the port may be a password.
            address = host
        return (scheme + mark if scheme.isalnum() else "") + address[:80]

    def url(self) -> str:
        """Return the checked URL, with its password.

        Raises:
            ConfigurationError: The setting is not the URL of a proxy that can be used.
        """
        setting = self.setting if "://" in self.setting else f"http://{self.setting}"
        try:
            parts = urlsplit(setting)
            scheme, host, _ = parts.scheme, parts.hostname or "", parts.port
            host.encode("idna")
            valid = bool(host) and setting.isprintable() and not any(letter in ' <>"\\^`{|}%' for letter in host)
        except ValueError:
            scheme, valid = "", False
        name = f"{self.source}={self.shown()!r}"
        if not valid:
            raise ConfigurationError(f"{name} is not the URL of a proxy. Write it as http://host:port, or unset it. {_NO_PROXY}")
        if scheme not in _SCHEMES:
            raise ConfigurationError(
                f"{name} names a proxy of the kind {scheme!r}, which is not supported. Use {', '.join(_SCHEMES)}. {_NO_PROXY}"
            )
        if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
            raise MissingExtraError(
                f'{name} is a SOCKS proxy, which needs another package: `pip install "httpx[socks]"`. {_NO_PROXY}'
            )
        return setting

    def advice(self) -> str:
        """Return a sentence that names the proxy and what to do."""
        return f"The request goes through the proxy {self.shown()} ({self.source}). {_NO_PROXY}"

    def error(self, reason: str, *, permanent: bool = False) -> TransportError:
        """Return the error for a proxy that did not forward a request: nothing was sent to the server."""
        return TransportError(
            f"the proxy {self.shown()} ({self.source}) does not forward to the server: {reason[:200]}. {_NO_PROXY}",
            delivery="not_sent",
            permanent=permanent,
        )


def proxy_of(base_url: str) -> Proxy | None:
    """Return the proxy for requests to `base_url`, unchecked. None connects directly, as always to this machine itself."""
    scheme, host, _ = origin_of(base_url)
    if host in _LOCAL:
        return None
    proxies = getproxies()
    kind = scheme if scheme in proxies else "all"
    if kind not in proxies or proxy_bypass(host):
        return None
    setting = proxies[kind]
    names = (f"{kind}_proxy", f"{kind}_proxy".upper())
    source = next((name for name in names if os.environ.get(name) == setting), "the system's settings")
    return Proxy(setting, source)
