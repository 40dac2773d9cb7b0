"""The client of a vLLM server: exact ids and log-probabilities, or an error that says what the server did."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from raw_server import RawRequest, RawServer

from openreward_gym.errors import ConfigurationError, PolicyError
from openreward_gym.integrations.trl.vllm_server import SampledTokens, VLLMServer

pytestmark = pytest.mark.anyio

GOOD = {"choices": [{"token_ids": [7, 2], "logprobs": {"token_logprobs": [-0.5, -1]}, "finish_reason": "stop"}]}


def answering(*answers: tuple[int, Any]) -> RawServer:
    """Return a server that gives the answers in turn, and the last one again. Bytes are sent as they are."""
    waiting = list(answers)

    async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        status, value = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        return True

    return RawServer(script)


async def test_ids_go_and_come_as_they_are() -> None:
    async with answering((200, GOOD)) as server:
        vllm = VLLMServer(f"{server.url}/", "m", {"temperature": 0.7})
        assert await vllm.sample([1, 2, 3], max_tokens=5) == SampledTokens([7, 2], [-0.5, -1.0], "stop")
        await vllm.aclose()
    (request,) = server.requests
    body = json.loads(request.body)
    assert request.line.startswith("POST /v1/completions")
    assert (body["prompt"], body["max_tokens"], body["temperature"], body["model"]) == ([1, 2, 3], 5, 0.7, "m")
    assert body["return_token_ids"] is True


async def test_a_busy_server_is_asked_again() -> None:
    async with answering((503, b"busy"), (429, b""), (200, GOOD)) as server:
        vllm = VLLMServer(server.url, "m")
        assert (await vllm.sample([1], 5)).ids == [7, 2]
        await vllm.aclose()
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((400, b'{"message": "the prompt is too long"}'), "HTTP 400: .*the prompt is too long"),
        ((200, b"<html>"), "which is not a JSON object"),
        ((200, b"[]"), "which is not a JSON object"),
        ((200, b"[" * 100_000), "which is not a JSON object"),
        ((200, {}), "without token ids"),
        ((200, {"choices": []}), "without token ids"),
        ((200, {"choices": [{"text": "I", "logprobs": None}]}), "without token ids"),
        ((200, {"choices": [{"token_ids": [], "logprobs": {"token_logprobs": []}}]}), "without token ids"),
        ((200, {"choices": [{"token_ids": [1, 2], "logprobs": {"token_logprobs": [-0.5]}}]}), "without token ids"),
        ((200, {"choices": [{"token_ids": ["1"], "logprobs": {"token_logprobs": [-0.5]}}]}), "without token ids"),
        ((200, {"choices": [{"token_ids": [1], "logprobs": {"token_logprobs": [None]}}]}), "without token ids"),
        ((200, b'{"choices": [{"token_ids": [1], "logprobs": {"token_logprobs": [NaN]}}]}'), "without token ids"),
    ],
)
async def test_any_other_answer_is_an_error_at_once(answer: tuple[int, Any], words: str) -> None:
    async with answering(answer) as server:
        vllm = VLLMServer(server.url, "m")
        with pytest.raises(PolicyError, match=words):
            await vllm.sample([1], 5)
        await vllm.aclose()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("models", "length"),
    [({"data": [{"id": "m", "max_model_len": 4096}]}, 4096), ({"data": []}, None), ({}, None), ({"data": [{"id": "m"}]}, None)],
)
async def test_the_length_of_the_context(models: dict[str, Any], length: int | None) -> None:
    async with answering((200, models)) as server:
        vllm = VLLMServer(server.url, "m")
        assert await vllm.max_model_len() == length
        await vllm.aclose()


async def test_no_server_and_no_url() -> None:
    async with answering((200, GOOD)) as server:
        url = server.url
    vllm = VLLMServer(url, "m", attempts=2)
    with pytest.raises(PolicyError, match="in 2 attempts"):
        await vllm.sample([1], 5)
    await vllm.aclose()
    with pytest.raises(ConfigurationError):
        VLLMServer("localhost:8000", "m")
