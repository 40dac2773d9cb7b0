"""A stand-in for the hosted platform: a gateway before a local server, and the platform's own API."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

KEY = "sk-gateway-0123456789abcdef"
DEPLOYMENT = "owner/name"
LENGTHS = {"mean": 10.0, **{f"p{n}": float(n) for n in (1, 10, 25, 50, 75, 90, 99)}}
DIFFICULTY = {
    "task_index": 3,
    "avg_reward": 0.5,
    "min_reward": 0.0,
    "max_reward": 1.0,
    "num_rollouts": 4,
    "response_chars": LENGTHS,
    "split": "train",
    "variant": None,
}
_DROPPED = ("host", "content-length", "connection", "accept-encoding", "transfer-encoding")


@dataclass
class Gateway:
    """What the gateway was asked.

    Attributes:
        url: Its address: that of the sessions and of the platform's API.
        requests: Method and path of each request.
        refused: What was wrong with the requests that it refused.
    secrets: The secrets in the header of each request that has them.
    bodies: The bodies of the requests that create something.
    spiteful: Answer every request with an error that repeats its headers and its body.
    """

    url: str
    requests: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    secrets: list[Any] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    spiteful: bool = False


@contextmanager
def gateway(upstream: str) -> Iterator[Gateway]:
    """Serve a gateway before the server at `upstream`, which is the deployment `owner/name`.

    A request needs the key; all but `/create_session` and the platform's own need a session that the gateway knows.
    """
    address = urlsplit(upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(address.hostname or "", address.port or 0))
    server.daemon_threads = True
    seen = Gateway(f"http://127.0.0.1:{server.server_port}")
    server.gateway = seen  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(host: str, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def _answer(self, status: int, body: bytes, kind: str = "application/json", location: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if location is not None:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen: Gateway = self.server.gateway  # type: ignore[attr-defined]
            seen.requests.append(f"{self.command} {self.path}")
            if "X-Secrets" in self.headers:
                seen.secrets.append(json.loads(base64.b64decode(self.headers["X-Secrets"])))
            if self.path.startswith("/create"):
                seen.bodies.append(json.loads(body))
            if seen.spiteful:
                self._answer(400, json.dumps({"detail": f"{self.headers} {body!r}"}).encode())
            elif self.headers.get("X-API-Key") != KEY:
                self._answer(401, json.dumps({"detail": "Invalid API key"}).encode())
            elif self.path.startswith("/v1/"):
                self._platform()
            elif problem := self._problem():
                seen.refused.append(f"{self.command} {self.path}: {problem}")
                self._answer(404, json.dumps({"detail": problem}).encode())
            else:
                self._forward(body)

        def _problem(self) -> str:
            if self.path == "/create_session":
                return "" if self.headers.get("X-Deployment") == DEPLOYMENT else "Deployment not found."
            return "" if self.headers.get("X-Session-ID") else "no session"

        def _platform(self) -> None:
            path = urlsplit(self.path)
            answers = {
                f"/v1/environments/{DEPLOYMENT}/required-secrets": {"secrets": ["judge_api_key"]},
                f"/v1/environments/{DEPLOYMENT}/task-difficulty": {"tasks": [{**DIFFICULTY, "variant": path.query or None}]},
            }
            answer = answers.get(path.path)
            self._answer(200 if answer else 404, json.dumps(answer or {"detail": "no such environment"}).encode())

        def _forward(self, body: bytes) -> None:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _DROPPED}
            headers["Host"] = self.headers["Host"]
            connection = http.client.HTTPConnection(host, port, timeout=30)
            try:
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                content = answer.read()
                kind = answer.headers.get("Content-Type", "application/json")
                self._answer(answer.status, content, kind, answer.headers.get("Location"))
            finally:
                connection.close()

        do_GET = do_POST = _serve

    return Handler
