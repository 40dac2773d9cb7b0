"""Stand-ins for model servers: one that looks around and then submits a fixed answer, and one that answers what a test says."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatModel:
    """A server of chat completions: first text and two calls, then the submission of `answer`."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []

    def __enter__(self) -> ChatModel:
        model = self

        class Bound(Handler):
            held = model

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api/v1"
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(request)
        turn = sum(message["role"] == "assistant" for message in request["messages"])
        if turn == 0:
            calls = [self._call("c1", "bash", {"command": "ls"}), self._call("c2", "bash", {"command": "pwd"})]
            message: dict[str, Any] = {"role": "assistant", "content": "I look around.", "tool_calls": calls}
        else:
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [self._call("c3", "submit_answer", {"answer": self.answer})],
            }
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": request["model"],
            "choices": [choice],
            "usage": usage,
        }

    def _call(self, identity: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"id": identity, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


class AnyServer:
    """A model server of any API, which gives `answers` in turn, and the last one again: (status, body, headers).

    A body is sent as JSON, or as it is if it is bytes. `moments` has the time of each request.
    """

    def __init__(self, *answers: tuple[int, Any, dict[str, str]]) -> None:
        self.answers = list(answers)
        self.moments: list[float] = []

    def __enter__(self) -> AnyServer:
        server = self

        class Bound(AnyHandler):
            held = server

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer_with(self, *answers: tuple[int, Any, dict[str, str]]) -> None:
        """Replace the answers, and forget the requests."""
        self.answers, self.moments = list(answers), []

    def next(self) -> tuple[int, Any, dict[str, str]]:
        self.moments.append(time.monotonic())
        return self.answers[min(len(self.moments), len(self.answers)) - 1]


class AnyHandler(BaseHTTPRequestHandler):
    held: AnyServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave in one packet

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body, headers = self.held.next()
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response_only(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)
        self.wfile.flush()


class Handler(BaseHTTPRequestHandler):
    held: ChatModel
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(self.held.reply(request)).encode()
        self.send_response(200 if self.path == "/api/v1/chat/completions" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
