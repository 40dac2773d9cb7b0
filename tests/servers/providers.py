"""A server of the providers' protocols (without streaming), with a model that asks for the weather and then reports it.

The model's name selects its behaviour: "good", "limited" (429 for the first request of each conversation), "full" (its context
window is full), "denied", "down" (503 twice, then good), "broken" (400), "slow".
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from launch import free_port
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CITIES = ("Seattle", "Boston", "Chicago", "New York", "San Francisco")
USAGE = (100, 20, 40)
"""Input tokens, output tokens, and cached input tokens."""


class Providers:
    """The application of the server, with the requests that it received."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.refused: Counter[str] = Counter()
        self.url = ""
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/responses", self.responses, methods=["POST"]),
                Route("/v1/messages", self.messages, methods=["POST"]),
                Route("/{version}/models/{call}", self.gemini, methods=["POST"]),
            ]
        )

    async def _receive(self, request: Request, model: str | None = None) -> tuple[dict[str, Any], Response | None]:
        body = await request.json()
        self.requests.append(body)
        headers = request.headers
        self.keys.add(
            headers.get("authorization", "").removeprefix("Bearer ")
            or headers.get("x-api-key", "")
            or headers.get("x-goog-api-key", "")
        )
        return body, await self._trouble(model or body["model"], json.dumps(body))

    async def _trouble(self, model: str, text: str) -> Response | None:
        city = next((city for city in CITIES if city in text), "")
        if model == "limited" and self.refused[city] < 1:
            self.refused[city] += 1
            return _error(429, "slow down", {"retry-after": "0.05"})
        if model == "down" and self.refused[city] < 2:
            self.refused[city] += 1
            return _error(503, "overloaded")
        if model == "full":
            return _error(400, "This model's maximum context length is 10 tokens: context_length_exceeded")
        if model == "denied":
            return _error(401, "Incorrect API key provided: secret-key")
        if model == "broken":
            return _error(400, "unknown parameter")
        if model == "slow":
            await asyncio.sleep(2)
        return None

    async def chat(self, request: Request) -> Response:
        body, trouble = await self._receive(request)
        if trouble is not None:
            return trouble
        report = next((_text(m["content"]) for m in reversed(body["messages"]) if m["role"] == "tool"), None)
        message: dict[str, Any] = {"role": "assistant", "content": report, "reasoning_content": "Let me see."}
        if report is None:
            function = {"name": "get_weather", "arguments": json.dumps({"city": _city(body["messages"])})}
            message |= {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
        finish = "stop" if report is not None else "tool_calls"
        usage = {"prompt_tokens": USAGE[0], "completion_tokens": USAGE[1], "total_tokens": USAGE[0] + USAGE[1]}
        usage["prompt_tokens_details"] = {"cached_tokens": USAGE[2]}  # type: ignore[assignment]
        choice = {"index": 0, "message": message, "finish_reason": finish}
        named = {"id": "c1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return JSONResponse({**named, "choices": [choice], "usage": usage})

    async def responses(self, request: Request) -> Response:
        body, trouble = await self._receive(request)
        if trouble is not None:
            return trouble
        report = next((_text(i["output"]) for i in reversed(body["input"]) if i.get("type") == "function_call_output"), None)
        thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
        if report is None:
            arguments = json.dumps({"city": _city(body["input"])})
            reply: dict[str, Any] = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather"}
            reply |= {"arguments": arguments, "status": "completed"}
        else:
            part = {"type": "output_text", "text": report, "annotations": []}
            reply = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
        usage = {"input_tokens": USAGE[0], "output_tokens": USAGE[1], "total_tokens": USAGE[0] + USAGE[1]}
        details = {"input_tokens_details": {"cached_tokens": USAGE[2]}, "output_tokens_details": {"reasoning_tokens": 5}}
        named = {"id": "r1", "object": "response", "created_at": 1, "model": body["model"], "status": "completed"}
        settings = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        return JSONResponse({**named, **settings, "output": [thought, reply], "usage": {**usage, **details}})

    async def messages(self, request: Request) -> Response:
        body, trouble = await self._receive(request)
        if trouble is not None:
            return trouble
        results = [b for m in body["messages"] for b in m["content"] if isinstance(b, dict) and b["type"] == "tool_result"]
        thought = {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}
        if results:
            reply: dict[str, Any] = {"type": "text", "text": _text(results[-1]["content"])}
        else:
            reply = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": _city(body["messages"])}}
        usage = {"input_tokens": USAGE[0] - USAGE[2], "cache_read_input_tokens": USAGE[2], "output_tokens": USAGE[1]}
        stop = "end_turn" if results else "tool_use"
        named = {"id": "m1", "type": "message", "role": "assistant", "model": body["model"], "stop_reason": stop}
        return JSONResponse({**named, "stop_sequence": None, "content": [thought, reply], "usage": usage})

    async def gemini(self, request: Request) -> Response:
        model, _, _ = request.path_params["call"].partition(":")
        body, trouble = await self._receive(request, model)
        if trouble is not None:
            return trouble
        parts = [part for content in body["contents"] for part in content["parts"]]
        results = [part["functionResponse"]["response"] for part in parts if "functionResponse" in part]
        thought = {"text": "Let me see.", "thought": True}
        if results:
            reply: dict[str, Any] = {"text": str(results[-1]["result"])}
        else:
            call = {"name": "get_weather", "args": {"city": _city(body["contents"])}}
            reply = {"functionCall": call, "thoughtSignature": "c2lnbmVk"}
        usage = {"promptTokenCount": USAGE[0], "candidatesTokenCount": USAGE[1], "cachedContentTokenCount": USAGE[2]}
        candidate = {"content": {"role": "model", "parts": [thought, reply]}, "finishReason": "STOP"}
        return JSONResponse({"candidates": [candidate], "usageMetadata": usage, "modelVersion": model})


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"message": text, "code": status, "status": "X"}}, status, headers)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content)


def _city(messages: Any) -> str:
    match = re.search("|".join(CITIES), json.dumps(messages))
    return match[0] if match else ""


@contextmanager
def serving(app: Starlette, log_level: str = "error") -> Iterator[str]:
    """Serve an application in a thread; yield its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level=log_level))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def providing() -> Iterator[Providers]:
    """Run the server in a thread."""
    providers = Providers()
    with serving(providers.app) as providers.url:
        yield providers
