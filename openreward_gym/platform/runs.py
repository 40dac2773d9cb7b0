"""The OpenReward platform's API, as far as rollouts need it: over the standard library, in whatever thread calls it."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from importlib.metadata import version
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from openreward_gym.errors import (
    AuthenticationError,
    ConfigurationError,
    ProtocolError,
    ServerError,
    ServerUnreachableError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.jsonio import Json

DEFAULT_URL = "https://openreward.ai"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key goes to the address it is meant for, and to no other."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


class Platform:
    """Calls of the platform's API.

    Args:
        base_url: The API's address, used as it is. None: `OPENREWARD_API_URL`, or the `api.` host of `OPENREWARD_URL` or of
            the hosted platform.
        api_key_env: The environment variable that holds the key; it is read when this is made.
        timeout_s: Seconds to wait for the server at each step of a request.

    Raises:
        ConfigurationError: The address is none, or the hosted platform is meant and there is no key.
    """

    def __init__(self, base_url: str | None = None, *, api_key_env: str = "OPENREWARD_API_KEY", timeout_s: float = 30.0) -> None:
        self.base_url = api_url(base_url)
        key = os.environ.get(api_key_env, "").strip()
        if not key and base_url is None and urlsplit(self.base_url).hostname == "api." + str(urlsplit(DEFAULT_URL).hostname):
            raise ConfigurationError(f"the platform wants an API key: set {api_key_env}, or give the base_url of another server")
        if not key.isascii() or not key.isprintable():
            raise ConfigurationError(f"the key in {api_key_env} has characters that no key has: copy it again")
        self._headers = {"User-Agent": f"openreward-gym/{version('openreward-gym')}", "Accept": "application/json"}
        if key:
            self._headers["X-API-Key"] = key
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirects)

    def __repr__(self) -> str:
        return f"Platform({self.base_url!r})"

    def post(self, path: str, body: bytes) -> Json:
        """The answer to a POST of JSON; errors as `get`."""
        return self._send(
            urllib.request.Request(self.base_url + path, body, {**self._headers, "Content-Type": "application/json"})
        )

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Json:
        """The answer to a GET.

        Raises:
            ServerUnreachableError, TransportTimeoutError, TransportError: It did not come through.
            AuthenticationError: 401 or 403.
            ServerError: Any other status of 300 and more; `retry_after_s` is what the server asked to wait.
            ProtocolError: The answer is not JSON.
        """
        address = self.base_url + path + ("?" + urlencode(query) if query else "")
        return self._send(urllib.request.Request(address, headers=self._headers))

    def environment_ids(self, environment: str, variant: str | None) -> tuple[str | None, str | None]:
        """The platform's ids of an environment and its variant; None for what it does not know. Errors as `get`."""
        owner, _, name = environment.partition("/")
        if not owner or not name:
            return None, None
        path = f"/v1/environments/{quote(owner, safe='')}/{quote(name, safe='')}"
        try:
            environment_id = _text(self.get(path), "id")
            variants = self.get(path + "/variants") if variant else []
        except AuthenticationError:
            raise
        except ServerError as error:
            if error.status == 404:
                return None, None
            raise
        found = [item for item in variants if isinstance(item, Mapping) and item.get("name") == variant]
        return environment_id, _text(found[0], "id") if found else None

    def _send(self, request: urllib.request.Request) -> Json:
        where = f"{request.get_method()} {request.full_url}"
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise _status_error(error, where) from None
        except urllib.error.URLError as error:
            raise _transport_error(error.reason, where) from None
        except (OSError, http.client.HTTPException) as error:
            raise _transport_error(error, where) from None
        try:
            return json.loads(body) if body.strip() else None
        except ValueError:
            raise ProtocolError(f"{where}: the answer is not JSON: {body[:200]!r}; is this the platform's API?") from None


def api_url(base_url: str | None) -> str:
    """Where the platform's API is.

    Raises:
        ConfigurationError: The address is no http(s) URL.
    """
    given = base_url or os.environ.get("OPENREWARD_API_URL")
    hosted = os.environ.get("OPENREWARD_URL") or DEFAULT_URL
    parts = urlsplit(given or hosted)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{given or hosted!r} is not an address: give one like {DEFAULT_URL}")
    if given or _is_one_server(hosted):
        return (given or hosted).rstrip("/")
    return f"{parts.scheme}://api.{parts.netloc}".rstrip("/")


def _is_one_server(url: str) -> bool:
    parts = urlsplit(url)
    try:
        ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return parts.hostname == "localhost" or parts.port is not None
    return True


def _text(data: Json, name: str) -> str | None:
    value = data.get(name) if isinstance(data, Mapping) else None
    return value if isinstance(value, str) else None


def _status_error(error: urllib.error.HTTPError, where: str) -> ServerError:
    try:
        detail = error.read(2000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        detail = ""
    facts: dict[str, Any] = {"status": error.code, "detail": detail, "retry_after_s": _seconds(error.headers.get("Retry-After"))}
    if error.code in (401, 403):
        return AuthenticationError(f"{where}: {error.code}: the platform does not accept the API key: {detail}", **facts)
    if error.code < 400:
        return ServerError(
            f"{where}: redirected to {error.headers.get('Location')!r}: give that server's address instead", **facts
        )
    return ServerError(f"{where}: {error.code} {error.reason}: {detail}", **facts)


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _transport_error(reason: object, where: str) -> TransportError:
    if isinstance(reason, TimeoutError):
        return TransportTimeoutError(f"{where}: no answer in time")
    if isinstance(reason, ConnectionRefusedError):
        return ServerUnreachableError(f"{where}: nobody answers there")
    return TransportError(f"{where}: {type(reason).__name__}: {reason}")
