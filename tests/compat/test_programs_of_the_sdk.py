"""Programs of the official client see the same with both clients."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gateway import KEY, gateway
from launch import served
from sdk_programs import PROGRAMS, hosted, plain

from openreward_gym import compat

# The SDK leaves connections to the garbage collector.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    # A server for these programs alone: the SDK leaves a session open where opening it was refused.
    with served() as url:
        yield url


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("OPENREWARD_DISABLE_UPDATE_CHECK", "1")
    monkeypatch.delenv("OPENREWARD_API_KEY", raising=False)
    yield importlib.import_module("openreward")
    gc.collect()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_sees_the_same(program: Callable[[Any, str], Any], official: Any, url: str) -> None:
    wanted = plain(program(official, url))
    assert plain(program(compat, url)) == wanted


def test_the_hosted_platform(official: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for client in (official, compat):
        with gateway(url) as platform:
            monkeypatch.setenv("OPENREWARD_SESSION_URL", platform.url)
            monkeypatch.setenv("OPENREWARD_API_URL", platform.url)
            results.append(str(plain(hosted(client, url))).replace(platform.url, "URL"))
            assert platform.refused == []
            assert "GET /list_environments" not in platform.requests
    assert results[0] == results[1]
    assert KEY in results[0]
