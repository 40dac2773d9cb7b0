"""One odd answer of a server costs one attempt; one that all rollouts need ends the collection with one clear error."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from odd_answers import json_answer, odd_server, response
from raw_server import RawRequest

from openreward_gym import collect
from openreward_gym.errors import OpenRewardGymError
from openreward_gym.types import AssistantMessage, Message, ToolCall, ToolSet

ENDS: dict[str, Any] = {"ok": True, "output": {"blocks": [], "reward": 1.0, "finished": True}}
ODD = {
    "deep": json_answer("call", b"[" * 5000),
    "finished": json_answer("call", json.dumps({**ENDS, "output": {**ENDS["output"], "finished": "yes"}}).encode()),
    "redirect": response(b"", "308 Permanent Redirect", headers="Location: http://[::1\r\n"),
    "detail": response(b'{"detail":' + b'{"a":' * 3000 + b"1" + b"}" * 3001, "400 Bad Request"),
}


async def policy(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    return AssistantMessage(tool_calls=[ToolCall("go", {}, "c1")])


@pytest.mark.parametrize("transport", ["fast", "httpx"])
@pytest.mark.parametrize("odd", sorted(ODD))
def test_one_odd_answer_costs_one_attempt(odd: str, transport: str, tmp_path: Path) -> None:
    with odd_server() as server:
        good, calls = server.script, 0

        async def spoiled(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
            nonlocal calls
            server.spoil = {"call": json_answer("call", json.dumps(ENDS).encode())}
            if "/call " in request.line:
                calls += 1
                if calls == 2:
                    server.spoil = {"call": ODD[odd]}
            return await good(request, writer)

        server.respond = spoiled
        result = collect(
            "env",
            policy,
            base_url=server.url,
            transport=transport,
            output=tmp_path / "run",
            concurrency=1,
            progress=False,
        )
    coverage = result.coverage
    # Some failures get a second attempt.
    assert (coverage.expected, coverage.successful + coverage.failed, coverage.successful >= 2) == (3, 3, True)
    assert [failure.source for failure in result.store.failures()] == ["environment"]


@pytest.mark.parametrize("step", ["list_environments", "num_tasks"])
@pytest.mark.parametrize("body", [b"[" * 5000, b'{"num_tasks": "many"}', b"7" * 5000, b"<html>", b'"\\ud800"'])
def test_an_odd_answer_that_all_need_is_one_error(step: str, body: bytes, tmp_path: Path) -> None:
    with odd_server() as server:
        server.spoil = {step: response(body)}
        with pytest.raises(OpenRewardGymError) as caught:
            collect("env", policy, base_url=server.url, output=tmp_path / "run", progress=False)
    assert len(str(caught.value)) < 500
