"""The errors of the compatibility layer: the official client's, this package's, and aiohttp's where a program catches those."""

from __future__ import annotations

import asyncio
import copy
import gc
import importlib
import pickle
import subprocess
import sys
from typing import Any

import aiohttp
import pytest

from openreward_gym import errors as gym_errors
from openreward_gym import serve
from openreward_gym.compat import AsyncOpenReward, OpenReward
from openreward_gym.compat.api import errors
from openreward_gym.compat.failures import translated

theirs = importlib.import_module("openreward.api.errors")

MADE: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("OpenRewardError", ("what",), {}),
    ("SessionTerminatedError", ("gone",), {"sid": "s1", "kind": "environment"}),
    ("SessionTerminatedError", ("gone",), {}),
    ("TransportError", ("what",), {}),
    ("MaxRetriesError", ("what", [ValueError("a"), OSError("b")]), {}),
    ("MaxRetriesError", ("what",), {}),
    ("HeartbeatTimeoutError", (), {}),
    ("HTTPStatusError", (503,), {}),
    ("HTTPStatusError", (404, "not here"), {}),
    ("ToolCallError", ("not_found", "no such tool"), {}),
    ("ToolFailed", ("boom",), {}),
    ("ScoreGroupUnsupported", ("no",), {}),
    ("ScoreGroupFailed", ("no judge",), {}),
]


@pytest.mark.parametrize(("name", "arguments", "named"), MADE)
def test_an_error_is_made_as_the_sdk_s(name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    wanted, error = (getattr(module, name)(*arguments, **named) for module in (theirs, errors))
    assert str(error) == str(wanted)
    assert {key: str(value) for key, value in vars(error).items()} == {key: str(value) for key, value in vars(wanted).items()}
    assert isinstance(error, gym_errors.OpenRewardGymError)
    assert [base.__name__ for base in type(wanted).__mro__ if base.__module__ == theirs.__name__] == [
        base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__
    ]
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(again), str(again), str(vars(again))) == (type(error), str(error), str(vars(error)))


TRANSLATED = [
    (gym_errors.SessionLostError("lost", status=410, detail="deleted"), "SessionTerminatedError"),
    (gym_errors.ToolFailedError("the tool raised", detail="boom"), "ToolFailed"),
    (gym_errors.ToolFailedError("the server failed", detail="boom", status=500), "HTTPStatusError"),
    (gym_errors.ServerUnreachableError("nobody"), "MaxRetriesError"),
    (gym_errors.OutcomeUnknownError("lost", delivery="delivered"), "MaxRetriesError"),
    (gym_errors.CallTimeoutError("slow"), "HeartbeatTimeoutError"),
    (gym_errors.TransportTimeoutError("slow"), "HeartbeatTimeoutError"),
    (gym_errors.ProtocolError("not JSON"), "TransportError"),
    (gym_errors.ServerError("failed", status=500, detail="why"), "HTTPStatusError"),
    (gym_errors.ServerError("failed in a stream"), "TransportError"),
    (gym_errors.AuthenticationError("no", status=401), "AuthenticationError"),
    (gym_errors.AuthenticationError("no", status=403), "HTTPStatusError"),
    (gym_errors.ConfigurationError("wrong"), "ConfigurationError"),
]


@pytest.mark.parametrize(("error", "name"), TRANSLATED)
def test_an_error_is_translated(error: gym_errors.OpenRewardGymError, name: str) -> None:
    known = translated(error, "s1")
    assert type(known).__name__ == name
    again = pickle.loads(pickle.dumps(known))
    assert (type(again).__name__, str(again)) == (name, str(known))
    if name == "HTTPStatusError":
        assert isinstance(known, aiohttp.ClientResponseError)
        assert known.status == vars(error)["status"]
    if name == "MaxRetriesError":
        assert isinstance(known, aiohttp.ClientConnectionError)
        assert getattr(known, "delivery", None) == getattr(error, "delivery", None)


def test_without_aiohttp_the_errors_are_ours_alone() -> None:
    code = """
import sys
from openreward_gym import errors
from openreward_gym.compat.failures import translated
known = translated(errors.ServerError("failed", status=500, detail="why"))
assert [base.__name__ for base in type(known).__mro__[:2]] == ["HTTPStatusError", "TransportError"]
assert "aiohttp" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_refusal_says_what_there_is() -> None:
    with serve.local(["weather"]) as url, OpenReward() as client:
        environment = client.environments.get("weather", base_url=url)
        with pytest.raises(
            errors.HTTPStatusError, match="no split 'trian': did you mean 'train'\\? The splits are train, test"
        ) as caught:
            environment.list_tasks("trian")
        assert caught.value.status in (400, 500)
        with pytest.raises(errors.HTTPStatusError, match="400"):
            environment.get_task("train", 10**9)


def test_a_server_that_goes_away_in_a_session() -> None:
    with serve.local(["weather"]) as url:
        client = OpenReward()
        session = client.environments.get("weather", base_url=url).session(split="train", index=0)
        session.__enter__()
    with pytest.raises((errors.TransportError, errors.SessionTerminatedError)):
        session.call_tool("get_weather", {"city": "Seattle"})
    session.__exit__(None, None, None)
    with pytest.raises(errors.SessionTerminatedError, match="closed"):
        session.get_prompt()
    client.close()
    client.close()


def test_a_session_is_used_in_its_block() -> None:
    with serve.local(["weather"]) as url, OpenReward() as client:
        session = client.environments.get("weather", base_url=url).session(split="train", index=0)
        with pytest.raises(ValueError, match="not open"):
            session.get_prompt()
        sids = []
        for _ in range(2):  # it may be opened again, as the SDK's
            with session:
                session.get_prompt()
                sids.append(session.sid)
        assert len(set(sids)) == 2


# The connections of a loop that has ended cannot be closed any more.
@pytest.mark.filterwarnings("ignore")
def test_an_async_client_works_on_several_event_loops() -> None:
    async def prompt(environment: Any) -> Any:
        async with environment.session(split="train", index=0) as session:
            return await session.get_prompt()

    with serve.local(["weather", "ctf"]) as url:
        client = AsyncOpenReward()
        environment = client.environments.get("ctf", base_url=url)
        first, second = (asyncio.run(prompt(environment)) for _ in range(2))
        assert first == second
        # The name chooses the environment of a local server; the SDK takes the first one unless a variant is given.
        assert [tool.name for tool in asyncio.run(environment.list_tools())] == ["bash", "submit_answer"]
        asyncio.run(client.environments.aclose())
        del client, environment
        gc.collect()
