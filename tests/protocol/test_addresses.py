"""Tests of base URLs and names."""

from __future__ import annotations

import pytest

from openreward_gym.errors import ConfigurationError
from openreward_gym.protocol.addresses import Addresses, platform_address, resolve_addresses
from openreward_gym.protocol.client import Client
from openreward_gym.urls import origin_of, without_credentials


@pytest.mark.parametrize(
    ("base_url", "environ", "sessions", "platform", "hosted"),
    [
        (None, {}, "https://sessions.openreward.ai", "https://api.openreward.ai", True),
        ("https://openreward.ai/", {}, "https://sessions.openreward.ai", "https://api.openreward.ai", True),
        ("http://127.0.0.1:8080/", {}, "http://127.0.0.1:8080", "http://127.0.0.1:8080", False),
        ("https://my-env.example.com", {}, "https://my-env.example.com", "https://my-env.example.com", False),
        ("http://h:1/base", {"OPENREWARD_URL": "https://x.org"}, "http://h:1/base", "http://h:1/base", False),
        ("http://h:1", {"OPENREWARD_API_URL": "https://api.x.org"}, "http://h:1", "https://api.x.org", False),
        ("http://h:1", {"OPENREWARD_SESSION_URL": "https://s.x.org"}, "http://h:1", "http://h:1", False),
        (None, {"OPENREWARD_URL": "https://x.org"}, "https://sessions.x.org", "https://api.x.org", True),
        (None, {"OPENREWARD_URL": "http://localhost"}, "http://localhost", "http://localhost", False),
        (None, {"OPENREWARD_URL": "http://localhost:80"}, "http://localhost:80", "http://localhost:80", False),
        (None, {"OPENREWARD_URL": "http://[::1]"}, "http://[::1]", "http://[::1]", False),
        (None, {"OPENREWARD_URL": "http://10.0.0.7"}, "http://10.0.0.7", "http://10.0.0.7", False),
        (None, {"OPENREWARD_URL": "https://x.org:8443"}, "https://x.org:8443", "https://x.org:8443", False),
        (None, {"OPENREWARD_SESSION_URL": "http://s.org:1"}, "http://s.org:1", "https://api.openreward.ai", True),
        (None, {"OPENREWARD_API_URL": "http://a.org"}, "https://sessions.openreward.ai", "http://a.org", True),
    ],
)
def test_addresses(base_url: str | None, environ: dict[str, str], sessions: str, platform: str, hosted: bool) -> None:
    assert resolve_addresses(base_url, environ) == Addresses(sessions, platform, hosted)


@pytest.mark.parametrize(
    "url", ["localhost:8080", "127.0.0.1:8080", "ftp://x", "http://", "", "http://x:port", "http://x?a=1", "x y"]
)
def test_invalid_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url="):
        resolve_addresses(url, {})


def test_origins_are_compared_as_browsers_do() -> None:
    assert origin_of("https://X.org/a") == origin_of("https://x.org:443/b")
    assert origin_of("https://x.org") != origin_of("http://x.org")
    assert origin_of("http://x.org") != origin_of("http://x.org:8080")
    assert str(origin_of("http://me:pass@[::1]:80/a?b")) == "http://[::1]"


@pytest.mark.parametrize(
    ("base_url", "environ", "expected"),
    [
        (None, {}, "https://api.openreward.ai"),
        ("https://openreward.ai", {"OPENREWARD_API_URL": "http://a.org"}, "http://a.org"),
        (None, {"OPENREWARD_URL": "http://localhost:80"}, "http://localhost:80"),
        ("http://h:1/", {"OPENREWARD_API_URL": "http://a.org"}, "http://h:1"),
    ],
)
def test_the_platforms_address(base_url: str | None, environ: dict[str, str], expected: str) -> None:
    assert platform_address(base_url, environ) == expected


def test_a_password_in_a_url_is_not_shown() -> None:
    assert without_credentials("http://me:pass@x.org:1/a") == "http://x.org:1/a"
    assert "pass" not in repr(Client("http://me:pass@x.org:1"))
    with pytest.raises(ConfigurationError) as caught:
        resolve_addresses("ftp://me:pass@x", {})
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", "/x", "x/", "a\nb", "a\x00b"])
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="name of an environment"):
        Client("http://h:1").environment(name)
