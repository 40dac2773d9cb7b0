"""Odd answers: every one ends in an error of the package or is read as the standard says; names, addresses, sizes and types."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_answers import GOOD, STEPS, OddServer, error_of, events, json_answer, mutated_answers, odd_server, response

from openreward_gym.errors import OpenRewardGymError, ProtocolError, ServerError
from openreward_gym.hiding import Redactor
from openreward_gym.protocol import leases
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.transport import TRANSPORTS
from openreward_gym.protocol.wire import (
    MOST_TASKS,
    AnswerLimits,
    loads,
    read_blocks,
    read_environments,
    read_messages,
    read_num_tasks,
    read_output,
    read_splits,
    read_tools,
    status_error,
)
from openreward_gym.types import ImageBlock, OpaqueBlock, TextBlock, ToolCall, ToolResult


@pytest.fixture(scope="module")
def server() -> Iterator[OddServer]:
    with odd_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "DELETE_TIMEOUT_S", 0.5)
    monkeypatch.delenv("OPENREWARD_API_KEY", raising=False)


def nested(levels: int, inside: bytes = b"1") -> bytes:
    return b"[" * levels + inside + b"]" * levels


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
def test_good_answers_are_no_error(server: OddServer, transport: str) -> None:
    server.spoil, server.seen = {}, []
    assert error_of(server.url, transport) is None
    assert set(STEPS) <= set(server.seen)


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(odd=mutated_answers())
def test_any_answer_is_read_or_an_error_of_the_package(server: OddServer, transport: str, odd: tuple[str, bytes]) -> None:
    step, body = odd
    server.spoil = {step: json_answer(step, body)}
    error = error_of(server.url, transport)
    assert error is None or isinstance(error, OpenRewardGymError)


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "body",
    [nested(250), nested(1000), nested(100_000), b"[" * 100_000, b'{"a":' * 2000 + b"1" + b"}" * 2000, b"9" * 5000, b"\xff\xfe"],
    ids=["250", "1000", "100000", "open", "objects", "digits", "bytes"],
)
def test_json_that_cannot_be_read(server: OddServer, transport: str, step: str, body: bytes) -> None:
    server.spoil = {step: json_answer(step, body)}
    if step == "create":
        # Nothing of this answer is used, but it has to be JSON.
        server.spoil["create"] = response(body)
    assert isinstance(error_of(server.url, transport), ProtocolError)


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
@pytest.mark.parametrize("depth", [300, 3000, 100_000])
def test_a_deep_detail_of_a_refusal(server: OddServer, transport: str, depth: int) -> None:
    server.spoil = {"prompt": response(b'{"detail":' + nested(depth) + b"}", "422 Unprocessable Entity")}
    error = error_of(server.url, transport)
    assert isinstance(error, ServerError)
    assert (error.status, len(error.detail) <= 1001) == (422, True)


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
@pytest.mark.parametrize("step", ["list_environments", "create_session", "prompt", "call"])
@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:70000/",
        "http://[::1",
        "data:text/plain,x",
        "/a\x01b",
        "/\xe9",
        "",
        "//[",
        "/" + "x" * 9000,
        "mailto:a@b",
    ],
)
def test_a_redirect_to_no_address(server: OddServer, transport: str, step: str, target: str) -> None:
    server.spoil = {step: response(b"", "307 Temporary Redirect", headers=f"Location: {target}\r\n")}
    error = error_of(server.url, transport)
    assert isinstance(error, OpenRewardGymError)
    assert len(str(error)) < 1000


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
def test_a_relative_redirect_is_followed(server: OddServer, transport: str) -> None:
    async def ask() -> Any:
        async with Client(server.url, transport=transport) as client:
            return await client.health()

    server.spoil = {
        "health": response(b"", "308 Permanent Redirect", headers="Location: elsewhere/well?x=1\r\n"),
        "well": response(b'{"status":"well"}'),
    }
    assert asyncio.run(ask()) == {"status": "well"}


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
@pytest.mark.parametrize(
    "name", ["\u00fcber", "a\nX-Evil: 1", "a\r\nb", " a", "x" * 2000, "\ud800", "\x00", 7, ["a"], {"a": 1}, True]
)
def test_a_name_of_a_session_that_no_header_carries(server: OddServer, transport: str, name: Any) -> None:
    server.spoil = {"create_session": events(("task_id", b"s1"), ("end", json.dumps({"sid": name}).encode()))}
    assert isinstance(error_of(server.url, transport), ProtocolError)


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
def test_a_session_that_is_named_after_the_key(server: OddServer, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENREWARD_API_KEY", "sk-1Zx2Cv3Bn4M")
    server.spoil = {"create_session": events(("task_id", b"s1"), ("end", b'{"sid": "for-sk-1Zx2Cv3Bn4M"}'))}
    error = error_of(server.url, transport)
    assert isinstance(error, ProtocolError)
    assert "named the session after a secret" in str(error)


@pytest.mark.parametrize("run", [b"t\xc3\xa9", b"", b"x" * 2000, b"a\x01b"])
@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
def test_a_name_of_a_run_that_cannot_be_sent_back(server: OddServer, transport: str, run: bytes) -> None:
    server.spoil = {"call": events(("task_id", run), ("end", json.dumps(GOOD["call"]).encode()))}
    assert isinstance(error_of(server.url, transport), OpenRewardGymError)


@pytest.mark.parametrize("finished", [1, 0, "true", "false", "", None, [], {}, 1.0])
def test_finished_is_true_or_false(finished: Any) -> None:
    with pytest.raises(ProtocolError, match='"finished" is true or false'):
        read_output({"ok": True, "output": {"blocks": [], "finished": finished}})


@pytest.mark.parametrize("reward", ["1.0", True, False, [1], {"value": 1}, ""])
def test_a_reward_is_a_number(reward: Any) -> None:
    with pytest.raises(ProtocolError, match="a number or null as reward"):
        read_output({"ok": True, "output": {"blocks": [], "reward": reward}})


def test_rewards_that_are_not_finite_are_kept() -> None:
    for text, reward in ((b"NaN", math.nan), (b"-Infinity", -math.inf), (b"1e999", math.inf), (b"-1" + b"0" * 400, -math.inf)):
        output = read_output(loads(b'{"ok":true,"output":{"blocks":[],"reward":' + text + b"}}"))
        assert output.reward == reward or (math.isnan(reward) and output.reward is not None and math.isnan(output.reward))


def test_a_rejected_call_without_words() -> None:
    for error in ({}, {"error": None}):
        output = read_output({"ok": False, **error})
        assert (output.text, output.error) == ("", "the server rejected the call without a reason")


def test_blocks_with_fields_of_a_wrong_type_are_kept_as_they_came() -> None:
    wrong: list[dict[str, Any]] = [
        {"type": "text", "text": 5},
        {"type": "image", "data": "AA==", "mimeType": ["image/png"]},
        {"type": "reasoning", "text": "r", "signature": 3},
        {"type": "tool_call", "id": 7, "name": "f", "input": {}},
        {"type": "tool_result", "tool_call_id": 7, "blocks": []},
        {"type": "tool_result", "tool_call_id": "7", "blocks": [], "is_error": "false"},
        {"type": "tool_result", "tool_call_id": "7", "blocks": [], "is_error": 1},
        {"type": ["text"], "text": "a"},
    ]
    assert read_blocks(wrong) == tuple(OpaqueBlock(raw) for raw in wrong)
    right = [
        {"type": "image", "data": "AA=="},
        {"type": "tool_call", "name": "f", "input": {}},
        {"type": "tool_result", "blocks": []},
    ]
    assert read_blocks(right) == (ImageBlock("AA==", "image/png"), ToolCall("f", {}, ""), ToolResult((), ""))


@pytest.mark.parametrize(
    "value",
    [
        {"tools": [{"name": "f", "description": 3}]},
        {"tools": [{"name": "f", "input_schema": True}]},
        {"tools": [{"name": "f", "input_schema": []}]},
        {"tools": [{"name": None}]},
        {"tools": [], "terminal_tool": {"arg": "a"}},
        {"tools": [], "terminal_tool": {"name": "t", "arg": 3}},
        {"tools": [], "terminal_tool": "t"},
        {"tools": [], "supports_score_group": "yes"},
        {"tools": [], "message_block_types": "text"},
        {"tools": [], "message_block_types": [1]},
    ],
)
def test_tools_of_wrong_types(value: Any) -> None:
    with pytest.raises(ProtocolError, match="the server sent"):
        read_tools(value)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (read_environments, ["a", 1]),
        (read_environments, {"a": 1}),
        (read_splits, [{"name": "a", "type": 3}]),
        (read_splits, [3]),
        (read_num_tasks, {"num_tasks": "3"}),
        (read_num_tasks, {"num_tasks": True}),
        (read_num_tasks, {"num_tasks": 3.0}),
        (read_num_tasks, {"num_tasks": -1}),
        (read_num_tasks, {"num_tasks": MOST_TASKS + 1}),
        (read_num_tasks, {"num_tasks": 10**4000}),
    ],
)
def test_names_and_numbers_of_wrong_types(read: Any, value: Any) -> None:
    with pytest.raises(ProtocolError, match="the server sent") as caught:
        read(value)
    assert len(str(caught.value)) < 400


def test_nesting_is_limited_and_what_is_below_is_read() -> None:
    limits = AnswerLimits(nesting=50)
    assert loads(nested(50), limits) is not None
    # Brackets in a text are not levels.
    assert loads(json.dumps(["[" * 100, "]{" * 100]).encode(), limits) == ["[" * 100, "]{" * 100]
    assert loads(b"[" + b"[]," * 999 + b"[]]", limits) == [[]] * 1000
    with pytest.raises(ProtocolError, match=r"more than 50 levels deep \(option max_nesting\)"):
        loads(nested(51), limits)


def test_blocks_and_images_are_limited() -> None:
    text, image = {"type": "text", "text": "a"}, {"type": "image", "data": "AA=="}
    limits = AnswerLimits(blocks=6, images=2)
    assert len(read_blocks([text] * 6, limits)) == 6
    assert len(read_blocks([image, text, text, image], limits)) == 4
    with pytest.raises(ProtocolError, match=r"7 blocks in one answer; at most 6 are read \(option max_blocks\)"):
        read_blocks([text] * 7, limits)
    with pytest.raises(ProtocolError, match=r"3 images .* at most 2 .*max_images"):
        read_output({"ok": True, "output": {"blocks": [image] * 3}}, limits)
    with pytest.raises(ProtocolError, match="8 blocks"):
        read_messages([{"role": "user", "blocks": [text] * 4}] * 2, limits)
    with pytest.raises(ProtocolError, match="7 messages"):
        read_messages([{"role": "user", "blocks": []}] * 7, limits)
    results = {"type": "tool_result", "tool_call_id": "a", "blocks": [image, image]}
    with pytest.raises(ProtocolError, match="4 images"):
        read_messages([{"role": "user", "blocks": [results, results]}], limits)


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
def test_the_limits_are_options_of_a_client(server: OddServer, transport: str) -> None:
    async def prompt(**limits: Any) -> Any:
        client = Client(server.url, transport=transport, **limits)
        async with client, client.environment("env").session(split="train", index=0) as session:
            return await session.prompt()

    png = base64.b64encode(b"\x89PNG").decode()
    blocks = [{"type": "text", "text": "a", "detail": {"a": {"b": [1]}}}, {"type": "image", "data": png}]
    server.spoil = {"prompt": response(json.dumps(blocks).encode())}
    assert asyncio.run(prompt(max_nesting=5, max_blocks=2, max_images=1)) == (
        TextBlock("a", {"a": {"b": [1]}}),
        ImageBlock(png, "image/png"),
    )
    for name, limit in (("max_nesting", 4), ("max_blocks", 1), ("max_images", 0)):
        with pytest.raises(ProtocolError, match=name):
            asyncio.run(prompt(**{name: limit}))


def wait_of(value: str, date: str | None = None) -> float | None:
    headers = {"retry-after": value, **({"date": date} if date else {})}
    return status_error("GET /", 503, b"", headers, Redactor([])).retry_after_s


def test_a_wait_is_a_number_or_a_date() -> None:
    assert (wait_of("7"), wait_of(" 0.5 ")) == (7.0, 0.5)
    assert wait_of("Wed, 21 Oct 2015 07:28:09 GMT", "Wed, 21 Oct 2015 07:28:00 GMT") == 9.0
    assert wait_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    ahead = wait_of(email.utils.formatdate(time.time() + 30, usegmt=True))
    assert ahead is not None
    assert 25 <= ahead <= 31
    assert wait_of("9" * 500) == wait_of("inf") == wait_of("Fri, 31 Dec 9999 23:59:59 GMT") == 86_400.0


ODD_WAITS = ("-3", "nan", "", "Wed, 99 Oct 2015", "1e", "Mon, 1 Jan 99999 0:0:0 GMT", "0" * 9000)


@given(value=st.text(max_size=40) | st.sampled_from(ODD_WAITS))
def test_any_wait_is_read_or_left_out(value: str) -> None:
    wait = wait_of(value, value)
    assert wait is None or 0 <= wait <= 86_400
