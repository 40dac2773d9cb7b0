"""A server that repeats a secret of the request in any answer: no part of it is in an error, or in a frame of its traceback."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_answers import OddServer, error_of, odd_server, repeating_answers, response, secrets

from openreward_gym.errors import ConfigurationError, OpenRewardGymError, ServerError
from openreward_gym.hiding import Secret
from openreward_gym.protocol import leases
from openreward_gym.protocol.request import Headers
from openreward_gym.protocol.transport import TRANSPORTS

PART = 10


@pytest.fixture(scope="module")
def server() -> Iterator[OddServer]:
    with odd_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "DELETE_TIMEOUT_S", 0.5)
    monkeypatch.delenv("OPENREWARD_API_KEY", raising=False)


def texts_of(value: Any, levels: int = 6, seen: set[int] | None = None) -> Iterator[str]:
    """All texts that a variable of a frame leads to. What holds the request's own secrets, and says so, is left out."""
    seen = set() if seen is None else seen
    if id(value) in seen or not levels or isinstance(value, Secret | Headers | type | logging.Logger):
        return
    seen.add(id(value))
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes | bytearray):
        yield value.decode("latin-1")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts_of(key, levels - 1, seen)
            yield from texts_of(inner, levels - 1, seen)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from texts_of(inner, levels - 1, seen)
    elif type(value).__module__.startswith("openreward_gym"):
        for name in [*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ())]:
            yield from texts_of(getattr(value, name, None), levels - 1, seen)


def told_by(error: BaseException) -> str:
    """All that an error says: itself, its causes, its pickle, and the variables of the package's frames."""
    said, pending, seen = [], [error], set[int]()
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        said += [str(one), repr(one), repr(vars(one)), pickle.dumps(one).decode("latin-1")]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if "openreward_gym" in frame.f_code.co_filename:
                for name, value in frame.f_locals.items():
                    said += [f"{frame.f_code.co_qualname} {name}: {text}" for text in (repr(value), *texts_of(value))]
        pending += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
    return "\n".join(said)


def shown(secret: str, text: str) -> str:
    """The first part of a secret in a text."""
    parts = (secret[place : place + PART] for place in range(len(secret) - PART + 1))
    return next((part for part in parts if part in text), "")


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_part_of_a_key_is_shown(
    server: OddServer, transport: str, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    key, judge = data.draw(secrets), data.draw(secrets)
    monkeypatch.setenv("OPENREWARD_API_KEY", key.strip())
    monkeypatch.setenv("JUDGE_KEY", judge)
    step, answer = data.draw(repeating_answers(data.draw(st.sampled_from([key, judge]))))
    server.spoil = {step: answer}
    error = error_of(server.url, transport, secrets_env={"judge": "JUDGE_KEY"})
    if error is None:
        return
    assert isinstance(error, OpenRewardGymError)
    told = told_by(error)
    opened = step not in ("list_environments", "splits", "num_tasks", "task", "tasks", "task_range")
    for secret in (key, judge) if opened else (key,):
        # Before a session is opened, its secrets are not part of a request.
        part = shown(secret, told)
        assert not part, next(line for line in told.splitlines() if part in line)[:400]


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
def test_the_password_of_an_address_is_not_shown(server: OddServer, transport: str) -> None:
    password = "pw-7Hq2xT9bLm4"
    server.spoil = {"splits": response(f'{{"detail":"bad {password} and dXNlcjpwdy03SHEyeFQ5YkxtNA=="}}'.encode(), "400 No")}
    error = error_of(server.url.replace("://", f"://user:{password}@"), transport)
    assert isinstance(error, ConfigurationError)
    assert "bad [secret] and [secret]" in str(error)
    assert not shown(password, told_by(error).replace("user:" + password, ""))


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
def test_a_detail_keeps_what_is_not_secret(server: OddServer, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENREWARD_API_KEY", "sk-9Wd3Rn6Xp2Lt")
    server.spoil = {"task_tools": response(b'{"detail":"no quota for sk-9Wd3Rn6Xp2Lt until Monday"}', "429 Too Many Requests")}
    error = error_of(server.url, transport)
    assert isinstance(error, ServerError)
    assert error.detail == "no quota for [secret] until Monday"


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
@pytest.mark.parametrize("middle", ["\nX-Evil: 1", "\t", "\x7f", "\u00e9", "\u2028"])
def test_a_key_that_no_header_carries_is_refused(
    server: OddServer, transport: str, monkeypatch: pytest.MonkeyPatch, middle: str
) -> None:
    server.spoil, server.seen = {}, []
    for variable, secrets_env in (("OPENREWARD_API_KEY", {}), ("JUDGE_KEY", {"judge": "JUDGE_KEY"})):
        monkeypatch.delenv("OPENREWARD_API_KEY", raising=False)
        monkeypatch.setenv(variable, f"sk-5Tn8{middle}Qw4z")
        error = error_of(server.url, transport, secrets_env=secrets_env)
        assert isinstance(error, ConfigurationError)
        assert variable in str(error)
        told = told_by(error)
        assert "sk-5Tn8" not in told
        assert "create_session" not in server.seen
