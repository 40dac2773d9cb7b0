"""What the servers of models refuse: checks of whole requests, and a server that answers 400 to what fails them.

The rules are those of OpenAI's two APIs, Anthropic's and Gemini's, and of vLLM, which parses the arguments of each call.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic.types as at
from google.genai import types as gt
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_GEMINI_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_CHAT = TypeAdapter(ChatCompletionMessageParam)
_ITEM = TypeAdapter(ResponseInputItemParam)
_TURN = TypeAdapter(at.MessageParam)


def strict_loads(text: str) -> Any:
    """Parse strict JSON in which no text has a lone surrogate."""

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is not JSON")

    value = json.loads(text, parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def check_arguments(text: str) -> None:
    assert isinstance(text, str)
    assert isinstance(strict_loads(text), dict), f"the arguments {text!r} are not an object"


def check_tools(tools: Sequence[Mapping[str, Any]], schema_key: str, name_pattern: re.Pattern[str] = _NAME) -> None:
    names = [tool["name"] for tool in tools]
    assert len(names) == len(set(names)), f"two tools of one name: {names}"
    for tool in tools:
        assert name_pattern.fullmatch(tool["name"]), f"the tool's name {tool['name']!r}"
        schema = tool[schema_key]
        assert schema["type"] == "object", schema
        assert isinstance(schema["properties"], dict), schema
        assert not schema.keys() & {"anyOf", "oneOf", "allOf", "enum", "not", "$ref"}, schema
        assert set(schema.get("required", [])) <= schema["properties"].keys(), schema
        assert all(isinstance(value, dict) for value in schema["properties"].values()), schema


def check_pairs(calls: Sequence[tuple[str, str]], results: Sequence[str], seen: set[str], id_pattern: str) -> None:
    """Check the calls of a turn, (id, name), and the ids of the results right after it."""
    ids = [call_id for call_id, _ in calls]
    assert sorted(ids) == sorted(results), f"the calls {ids} have the results {list(results)}"
    assert len(set(ids)) == len(ids), f"one id twice: {ids}"
    assert not seen & set(ids), f"an id of an earlier turn: {ids}"
    assert all(re.fullmatch(id_pattern, call_id) for call_id in ids), f"ids {ids}"
    seen.update(ids)


def check_chat(request: Mapping[str, Any], id_pattern: str = r"[!-~]{1,40}") -> None:
    json.dumps(request, ensure_ascii=False, allow_nan=False).encode()
    check_tools([tool["function"] for tool in request.get("tools", [])], "parameters")
    messages = request["messages"]
    assert messages
    seen: set[str] = set()
    place = 0
    while place < len(messages):
        message = messages[place]
        _CHAT.validate_python(message)
        place += 1
        assert message["role"] in ("developer", "system", "user", "assistant", "tool")
        assert message["role"] != "tool", "a result without a call"
        assert message["role"] != "user" or message["content"] is not None
        if message["role"] != "assistant":
            continue
        assert message.get("content") is not None or message.get("tool_calls") or message.get("refusal"), "an empty turn"
        calls = []
        for call in message.get("tool_calls", []):
            assert "index" not in call
            if call["type"] == "function":
                assert _NAME.fullmatch(call["function"]["name"]), call
                check_arguments(call["function"]["arguments"])
                calls.append((call["id"], call["function"]["name"]))
            else:
                assert isinstance(call["custom"]["input"], str)
                calls.append((call["id"], call["custom"]["name"]))
        results: list[str] = []
        while len(results) < len(calls) and place < len(messages) and messages[place]["role"] == "tool":
            _CHAT.validate_python(messages[place])
            results.append(messages[place]["tool_call_id"])
            place += 1
        check_pairs(calls, results, seen, id_pattern)


def check_responses(request: Mapping[str, Any], id_pattern: str = r"[!-~]{1,64}") -> None:
    json.dumps(request, ensure_ascii=False, allow_nan=False).encode()
    check_tools(request.get("tools", []), "parameters")
    items = request["input"]
    assert items
    for item in items:
        _ITEM.validate_python(with_detail(item))
    calls = [item for item in items if item["type"] == "function_call"]
    for call in calls:
        assert _NAME.fullmatch(call["name"]), call
        check_arguments(call["arguments"])
    results = [item["call_id"] for item in items if item["type"] == "function_call_output"]
    check_pairs([(call["call_id"], call["name"]) for call in calls], results, set(), id_pattern)
    called: set[str] = set()
    for item in items:
        if item["type"] == "function_call":
            called.add(item["call_id"])
        elif item["type"] == "function_call_output":
            assert item["call_id"] in called, "a result before its call"


def with_detail(value: Any) -> Any:
    """Return an item in which images have a `detail`: the SDK's types demand the field, and the API does not."""
    if isinstance(value, list):
        return [with_detail(item) for item in value]
    if not isinstance(value, dict):
        return value
    default = {"detail": "auto"} if value.get("type") == "input_image" else {}
    return {**default, **{key: with_detail(item) for key, item in value.items()}}


def check_anthropic(request: Mapping[str, Any], id_pattern: str = r"[a-zA-Z0-9_-]{1,64}") -> None:
    json.dumps(request, ensure_ascii=False, allow_nan=False).encode()
    check_tools(request.get("tools", []), "input_schema")
    turns = request["messages"]
    check_alternation([turn["role"] for turn in turns], "assistant")
    seen: set[str] = set()
    for place, turn in enumerate(turns):
        _TURN.validate_python(turn)
        assert turn["content"]
        for block in turn["content"]:
            inner = block.get("content") if block["type"] == "tool_result" and isinstance(block.get("content"), list) else []
            for part in (block, *inner):
                assert part["type"] != "text" or part["text"].strip(), "an empty text"
            assert block["type"] != "tool_use" or (isinstance(block["input"], dict) and _NAME.fullmatch(block["name"])), block
            assert block["type"] != "tool_use" or turn["role"] == "assistant"
            assert block["type"] != "tool_result" or turn["role"] == "user"
        calls = [(block["id"], block["name"]) for block in turn["content"] if block["type"] == "tool_use"]
        following = turns[place + 1]["content"] if place + 1 < len(turns) else []
        results = [block["tool_use_id"] for block in following if block["type"] == "tool_result"]
        assert all(block["type"] == "tool_result" for block in following[: len(results)]), "results come first"
        if turn["role"] == "assistant":
            check_pairs(calls, results, seen, id_pattern)
    assert not any(block["type"] == "tool_result" for block in turns[0]["content"])


def check_gemini(request: Mapping[str, Any]) -> None:
    """Check the arguments of the SDK's method."""
    declarations = request["config"].get("tools", [{"function_declarations": []}])[0]["function_declarations"]
    check_tools(declarations, "parameters_json_schema", _GEMINI_NAME)
    check_contents(
        [gt.Content.model_validate(content).model_dump(exclude_none=True, mode="json") for content in request["contents"]]
    )


def check_contents(contents: Sequence[Mapping[str, Any]]) -> None:
    """Check Gemini contents in snake_case."""
    json.dumps(contents, ensure_ascii=False, allow_nan=False).encode()
    check_alternation([content["role"] for content in contents], "model")
    for place, content in enumerate(contents):
        assert content["parts"]
        for part in content["parts"]:
            assert part.get("text") != "" or "thought_signature" in part, "an empty text"
        calls = [part["function_call"] for part in content["parts"] if "function_call" in part]
        following = contents[place + 1]["parts"] if place + 1 < len(contents) else []
        answers = [part["function_response"] for part in following if "function_response" in part]
        assert all(_GEMINI_NAME.fullmatch(call["name"]) and isinstance(call.get("args", {}), dict) for call in calls), calls
        if content["role"] == "model":
            pairs = [(call.get("id"), call["name"]) for call in calls], [(one.get("id"), one["name"]) for one in answers]
            assert sorted(pairs[0]) == sorted(pairs[1]), f"calls and results differ: {pairs}"
            assert all(isinstance(one["response"], dict) for one in answers)
        else:
            assert not calls
    assert not any("function_response" in part for part in contents[0]["parts"])


def check_alternation(roles: Sequence[str], assistant_role: str) -> None:
    assert roles, "no turns"
    assert roles[0] == "user", f"the first turn is the {roles[0]}'s"
    assert set(roles) <= {"user", assistant_role}
    assert all(first != second for first, second in itertools.pairwise(roles)), roles


def snake(value: Any) -> Any:
    """Return a body of Gemini's REST API with the keys of its contents in snake_case; arguments and responses stay."""
    if isinstance(value, list):
        return [snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {re.sub("[A-Z]", lambda match: "_" + match[0].lower(), key): item for key, item in value.items()}
    return {key: item if key in ("args", "response", "parameters_json_schema") else snake(item) for key, item in named.items()}


Answer = Mapping[str, Any]


class StrictModel:
    """A server of the four APIs that refuses wrong requests and plays turns in order, the last one again and again.

    A turn is a list of calls, (id, name, arguments) as the server writes them, or a text.

    Attributes:
        requests: The bodies of all requests.
        refusals: Why requests were refused.
    """

    def __init__(self, turns: Sequence[Any], id_pattern: str | None = None, words: str = "{error}") -> None:
        self.turns = turns
        self.requests: list[dict[str, Any]] = []
        self.refusals: list[str] = []
        self._pattern = {} if id_pattern is None else {"id_pattern": id_pattern}
        self._words = words
        self.url = ""

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Answer]:
        self.requests.append(body)
        check, write, count = self._api(path)
        try:
            check(body)
        except (AssertionError, ValueError, KeyError) as error:
            self.refusals.append(f"{type(error).__name__}: {error}"[:2000])
            return 400, {"error": {"message": self._words.format(error=self.refusals[-1]), "code": 400}}
        return 200, write(self.turns[min(count(body), len(self.turns) - 1)])

    def _api(self, path: str) -> tuple[Callable[[Any], None], Callable[[Any], Answer], Callable[[Any], int]]:
        if path.endswith("/chat/completions"):
            count = lambda body: sum(m["role"] == "assistant" for m in body["messages"])  # noqa: E731
            return lambda body: check_chat(body, **self._pattern), chat_answer, count
        if path.endswith("/responses"):
            count = lambda body: sum(i["type"] == "reasoning" for i in body["input"])  # noqa: E731
            return lambda body: check_responses(body, **self._pattern), responses_answer, count
        if path.endswith("/messages"):
            count = lambda body: sum(m["role"] == "assistant" for m in body["messages"])  # noqa: E731
            return lambda body: check_anthropic(body, **self._pattern), anthropic_answer, count
        count = lambda body: sum(c["role"] == "model" for c in body["contents"])  # noqa: E731
        return lambda body: check_contents(snake(body["contents"])), gemini_answer, count


def chat_answer(turn: Any) -> Answer:
    message: dict[str, Any] = {"role": "assistant", "content": turn if isinstance(turn, str) else None}
    if not isinstance(turn, str):
        message["tool_calls"] = [
            {"id": call_id, "type": "function", "index": 0, "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in turn
        ]
    choice = {"index": 0, "message": message, "finish_reason": "stop" if isinstance(turn, str) else "tool_calls"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def responses_answer(turn: Any) -> Answer:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    if isinstance(turn, str):
        part = {"type": "output_text", "text": turn, "annotations": []}
        output: list[Any] = [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}]
    else:
        output = [
            {
                "type": "function_call",
                "id": "fc_1",
                "status": "completed",
                "call_id": call_id,
                "name": name,
                "arguments": arguments,
            }
            for call_id, name, arguments in turn
        ]
    named = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
    return {**named, "output": [thought, *output], "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}


def anthropic_answer(turn: Any) -> Answer:
    content: list[Any] = [{"type": "text", "text": turn}] if isinstance(turn, str) else []
    if not isinstance(turn, str):
        content = [{"type": "tool_use", "id": call_id, "name": name, "input": value} for call_id, name, value in turn]
    named = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    usage = {"input_tokens": 1, "output_tokens": 1}
    return {**named, "content": content, "stop_reason": "end_turn" if isinstance(turn, str) else "tool_use", "usage": usage}


def gemini_answer(turn: Any) -> Answer:
    parts: list[Any] = [{"text": turn}] if isinstance(turn, str) else []
    if not isinstance(turn, str):
        parts = [{"functionCall": {"id": call_id, "name": name, "args": value}} for call_id, name, value in turn]
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
    return {"candidates": [candidate], "modelVersion": "m"}


@contextmanager
def strict_model(model: StrictModel) -> Iterator[StrictModel]:
    """Serve a model on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = model.answer(self.path.partition("?")[0], body)
            raw = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    model.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
