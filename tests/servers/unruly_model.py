"""A model server of four protocols that misbehaves at random, and an environment that remembers what it was told.

The good model notes a word, then hands it in. What a misbehaviour says holds `UNSAID`, which must never reach the environment.
"""

# mypy: disable-error-code="misc,untyped-decorator"
from __future__ import annotations

import email.utils
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from openreward.environments import Environment, Split, TextBlock, ToolOutput, tool
from providers import serving
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

UNSAID = "UNSAID"
WORD = "heron"
STATUSES = (408, 409, 425, 429, 498, 500, 502, 503, 504, 520, 522, 524, 529)


class Text(BaseModel, extra="forbid"):
    text: str


class Ledger(Environment):
    """Writes every text that it was told to the file that LEDGER names, and gives reward 1 for the word."""

    def remember(self, tool: str, text: str) -> None:
        with open(os.environ["LEDGER"], "a") as ledger:
            ledger.write(json.dumps([tool, text]) + "\n")

    @classmethod
    def list_splits(cls) -> list[Split]:
        return [Split(name="train", type="train")]

    @classmethod
    def list_tasks(cls, split: str) -> list[dict[str, Any]]:
        return [{"number": number} for number in range(50)]

    def get_prompt(self) -> list[TextBlock]:
        return [TextBlock(text=f"Note the word {WORD}, then hand it in.")]

    @tool
    async def note(self, params: Text) -> ToolOutput:
        """Note a text."""
        self.remember("note", params.text)
        return ToolOutput(blocks=[TextBlock(text="noted")], metadata={"length": len(params.text)})

    @tool
    async def hand_in(self, params: Text) -> ToolOutput:
        """Hand the text in."""
        self.remember("hand_in", params.text)
        reward = float(params.text == WORD)
        return ToolOutput(blocks=[TextBlock(text="taken")], reward=reward, finished=True)


class UnrulyModel:
    """The server. `share` of its answers are misbehaviours; `done` counts them by name.

    Args:
        seed: Seed of what happens when.
        share: Share of the answers.
        failures: Further answers as (name, status, body), such as a provider's errors.
    """

    def __init__(self, seed: int, share: float, failures: Sequence[tuple[str, int, Any]] = ()) -> None:
        self._draw = random.Random(seed)
        self._share = share
        self._failures = failures
        self.asked = 0
        self.done: Counter[str] = Counter()
        self.url = ""
        routes = {
            "/v1/chat/completions": Chat,
            "/v1/responses": Responses,
            "/v1/messages": Anthropic,
            "/{v}/models/{call}": Gemini,
        }
        self.app = Starlette(routes=[Route(path, self._endpoint(form()), methods=["POST"]) for path, form in routes.items()])

    def _endpoint(self, form: Form) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            body = await request.json()
            self.asked += 1
            if self._draw.random() >= self._share:
                noted = json.dumps(body).count("noted")
                return JSONResponse(form.calls([("hand_in" if noted else "note", json.dumps({"text": WORD}))]))
            name = self._draw.choice(["status", "body", *form.odd, *(["failure"] if self._failures else [])])
            if name == "status":
                return self._status()
            if name == "body":
                return self._body()
            if name == "failure":
                label, status, value = self._draw.choice(self._failures)
                self.done[label] += 1
                return JSONResponse(value, status)
            self.done[f"{type(form).__name__} {name}"] += 1
            return JSONResponse(form.odd[name]())

        return answer

    def _status(self) -> Response:
        status = self._draw.choice(STATUSES)
        self.done[f"status {status}"] += 1
        headers = {
            "Retry-After": self._draw.choice(["0", email.utils.formatdate(time.time(), usegmt=True)]),
            "retry-after-ms": "1",
        }
        value: Any = self._draw.choice(
            [{"error": UNSAID}, {"error": {"message": UNSAID}}, {"detail": [{"msg": UNSAID}]}, [UNSAID]]
        )
        return JSONResponse(value, status, headers)

    def _body(self) -> Response:
        kind = self._draw.choice(["nothing", "html", "torn", "null", "list", "error"])
        self.done[f"body {kind}"] += 1
        texts = {"nothing": "", "html": f"<html><title>{UNSAID}</title></html>", "torn": '{"choices": [{"mess', "null": "null"}
        texts |= {"list": "[]", "error": json.dumps({"error": {"message": UNSAID, "code": 502}})}
        return Response(texts[kind], 200, media_type="text/html" if kind == "html" else "application/json")


class Form:
    """One provider's answers: `calls` makes a good one, `odd` the misbehaviours by name."""

    odd: dict[str, Callable[[], Any]]

    def calls(self, calls: list[tuple[Any, Any]], **more: Any) -> Any:
        raise NotImplementedError


class Chat(Form):
    def __init__(self) -> None:
        unsaid = json.dumps({"text": UNSAID})
        self.odd = {
            "no choices": lambda: self.turn({}, "stop") | {"choices": []},
            "null choices": lambda: self.turn({}, "stop") | {"choices": None},
            "an error with words": lambda: self.turn({"content": UNSAID}, "error"),
            "an abort in a call": lambda: self.calls([("hand_in", unsaid)], reason="abort"),
            "nothing": lambda: self.turn({"content": ""}, "stop"),
            "null": lambda: self.turn({"content": None}, "stop"),
            "filtered": lambda: self.turn({"content": UNSAID}, "content_filter"),
            "filtered call": lambda: self.calls([("hand_in", unsaid)], reason="content_filter"),
            "cut off in a call": lambda: self.calls([("hand_in", unsaid)], reason="length"),
            "cut off in a torn call": lambda: self.calls([("hand_in", unsaid[:-3])], reason="length"),
            "cut off in words": lambda: self.turn({"content": UNSAID}, "length"),
            "cut off in thought": lambda: self.turn({"content": None, "reasoning_content": UNSAID}, "length"),
            "thought alone": lambda: self.turn({"content": "", "reasoning_content": UNSAID}, "stop"),
            "a call without a name": lambda: self.calls([(None, unsaid)]),
            "torn arguments": lambda: self.calls([("hand_in", unsaid[:-3])]),
            "a list as arguments": lambda: self.calls([("hand_in", f"[{unsaid}]")]),
            "not a number": lambda: self.calls([("hand_in", f'{{"text": "{UNSAID}", "x": NaN}}')]),
            "one id for two calls": lambda: self.calls([("note", json.dumps({"text": WORD}))] * 2),
            "a call as text": lambda: self.turn({"content": f'<tool_call>{{"name": "hand_in", "arguments": {unsaid}}}'}, "stop"),
        }

    def turn(self, message: dict[str, Any], reason: str) -> dict[str, Any]:
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
        return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}

    def calls(self, calls: list[tuple[Any, Any]], *, reason: str = "tool_calls", **more: Any) -> Any:
        functions = [{"name": name, "arguments": arguments} for name, arguments in calls]
        made = [{"id": "call_0", "type": "function", "function": function} for function in functions]
        return self.turn({"content": None, "tool_calls": made}, reason)


class Responses(Form):
    def __init__(self) -> None:
        unsaid = json.dumps({"text": UNSAID})
        self.odd = {
            "failed": lambda: self.turn([], status="failed", error={"code": "server_error", "message": UNSAID}),
            "nothing": lambda: self.turn([]),
            "null": lambda: self.turn([]) | {"output": None},
            "empty text": lambda: self.turn([self.text("")]),
            "cancelled": lambda: self.turn([self.text(UNSAID)], status="cancelled"),
            "filtered": lambda: self.turn([self.text(UNSAID)], **self.incomplete("content_filter")),
            "cut off": lambda: self.turn([self.text(UNSAID)], **self.incomplete("max_output_tokens")),
            "cut off in a call": lambda: self.calls([("hand_in", unsaid)], **self.incomplete("max_output_tokens")),
            "torn arguments": lambda: self.calls([("hand_in", unsaid[:-3])]),
        }

    def incomplete(self, reason: str) -> dict[str, Any]:
        return {"status": "incomplete", "incomplete_details": {"reason": reason}}

    def text(self, text: str) -> dict[str, Any]:
        part = {"type": "output_text", "text": text, "annotations": []}
        return {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}

    def turn(self, output: list[Any], **more: Any) -> dict[str, Any]:
        named = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": output}
        return {**named, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], **more}

    def calls(self, calls: list[tuple[Any, Any]], **more: Any) -> Any:
        items = [{"type": "function_call", "id": "f", "call_id": "c", "name": name, "arguments": text} for name, text in calls]
        return self.turn(items, **more)


class Anthropic(Form):
    def __init__(self) -> None:
        text = {"type": "text", "text": UNSAID}
        call = {"type": "tool_use", "id": "t", "name": "hand_in", "input": {"text": UNSAID}}
        self.odd = {
            "nothing": lambda: self.turn([], "end_turn"),
            "empty text": lambda: self.turn([{"type": "text", "text": ""}], "end_turn"),
            "refused": lambda: self.turn([text], "refusal"),
            "cut off": lambda: self.turn([text], "max_tokens"),
            "cut off in a call": lambda: self.turn([call], "max_tokens"),
            "the window is full": lambda: self.turn([text], "model_context_window_exceeded"),
            "thought alone": lambda: self.turn([{"type": "thinking", "thinking": UNSAID, "signature": "c2ln"}], "end_turn"),
            "a list as input": lambda: self.turn([{**call, "input": [UNSAID]}], "tool_use"),
            "overloaded": lambda: {"type": "error", "error": {"type": "overloaded_error", "message": UNSAID}},
        }

    def turn(self, content: list[Any], reason: str) -> dict[str, Any]:
        named = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": reason}
        return {**named, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}

    def calls(self, calls: list[tuple[Any, Any]], **more: Any) -> Any:
        return self.turn([{"type": "tool_use", "id": "t", "name": n, "input": json.loads(text)} for n, text in calls], "tool_use")


class Gemini(Form):
    def __init__(self) -> None:
        text, call = {"text": UNSAID}, {"functionCall": {"name": "hand_in", "args": {"text": UNSAID}}}
        self.odd = {
            "no candidates": lambda: {"candidates": [], "modelVersion": "m"},
            "blocked": lambda: {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": "m"},
            "nothing": lambda: self.turn([], "STOP"),
            "no content": lambda: {"candidates": [{"finishReason": "STOP"}], "modelVersion": "m"},
            "filtered": lambda: self.turn([text], "SAFETY"),
            "recited": lambda: self.turn([call], "RECITATION"),
            "cut off": lambda: self.turn([text], "MAX_TOKENS"),
            "cut off in a call": lambda: self.turn([call], "MAX_TOKENS"),
            "malformed": lambda: self.turn([], "MALFORMED_FUNCTION_CALL"),
            "thought alone": lambda: self.turn([{**text, "thought": True}], "STOP"),
        }

    def turn(self, parts: list[Any], reason: str) -> dict[str, Any]:
        return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": reason}], "modelVersion": "m"}

    def calls(self, calls: list[tuple[Any, Any]], **more: Any) -> Any:
        return self.turn([{"functionCall": {"name": name, "args": json.loads(text)}} for name, text in calls], "STOP")


@contextmanager
def misbehaving(seed: int, share: float, failures: Sequence[tuple[str, int, Any]]) -> Iterator[UnrulyModel]:
    """Run the server in a thread."""
    model = UnrulyModel(seed, share, failures)
    with serving(model.app, "critical") as model.url:
        yield model
