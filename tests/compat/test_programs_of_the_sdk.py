"""Programs of the official client see the same with both clients."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from gateway import KEY, gateway
from sdk_programs import PROGRAMS, hosted, plain

from openreward_gym import compat

# The SDK leaves connections to the garbage collector.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(120)]


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("OPENREWARD_DISABLE_UPDATE_CHECK", "1")
    monkeypatch.delenv("OPENREWARD_API_KEY", raising=False)
    return importlib.import_module("openreward")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_sees_the_same(program: Callable[[Any, str], Any], official: Any, server_url: str) -> None:
    wanted = plain(program(official, server_url))
    assert plain(program(compat, server_url)) == wanted


def test_the_hosted_platform(official: Any, server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for client in (official, compat):
        with gateway(server_url) as platform:
            monkeypatch.setenv("OPENREWARD_SESSION_URL", platform.url)
            monkeypatch.setenv("OPENREWARD_API_URL", platform.url)
            results.append(str(plain(hosted(client, server_url))).replace(platform.url, "URL"))
            assert platform.refused == []
            assert "GET /list_environments" not in platform.requests
    assert results[0] == results[1]
    assert KEY in results[0]
