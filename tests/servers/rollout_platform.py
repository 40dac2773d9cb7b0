"""A stand-in for the OpenReward platform's rollout API, with strict validation and injectable faults."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "key-of-the-tests"
FIELDS = {
    "rollout": {
        "eventId", "timestamp", "eventType", "runName", "rolloutName", "environment", "environment_id", "variant", "variant_id",
        "split", "metadata", "task_spec", "run_info", "step",
    },
    "message": {
        "eventId", "timestamp", "eventType", "index", "rolloutEventId", "environment_id", "type", "content", "contentReference",
        "summary", "name", "callId", "reward", "isFinished", "metadata",
    },
    "rollout_update": {"eventId", "timestamp", "eventType", "rollout_info"},
}  # fmt: skip
TYPES = {"user_message", "assistant_message", "system_message", "reasoning", "tool_call", "tool_result"}

Fault = Callable[["Handler", Callable[[], None]], None]
"""A function called instead of the answer, with the handler and a function that stores the events."""


class Platform:
    """The data of the platform. It survives a restart of its server.

    `violations` lists every event that should not have been sent. Each request uses up one of `faults`.
    """

    def __init__(self) -> None:
        self.rollouts: dict[str, dict[str, Any]] = {}
        self.messages: dict[str, list[dict[str, Any]]] = {}
        self.updates: dict[str, dict[str, Any]] = {}
        self.violations: list[str] = []
        self.faults: deque[Fault] = deque()
        self.requests = 0
        self.repeated = 0
        self.environments = {"GeneralReasoning/CTF": "env-1"}
        self.lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Platform:
        platform = self

        class Bound(Handler):
            held = platform

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # the tests break connections on purpose

        self._server = Server(("127.0.0.1", self.port), Bound)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Platform:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def take(self, events: list[dict[str, Any]], size: int) -> None:
        with self.lock:
            if len(events) > 128:
                self.violations.append(f"{len(events)} events in a batch")
            if size > 1_000_000:
                self.violations.append(f"{size} bytes in a batch")
            for event in events:
                problem = self._take(event)
                if problem:
                    self.violations.append(f"{problem}: {json.dumps(event)[:300]}")

    def _take(self, event: dict[str, Any]) -> str:
        kind = event.get("eventType")
        if kind not in FIELDS:
            return "unknown eventType"
        if unknown := set(event) - FIELDS[kind]:
            return f"unknown fields {unknown}"
        if "\x00" in json.dumps(event, ensure_ascii=False) or _has_none(event):
            return "NUL or null inside"
        identity = event["eventId"]
        if kind == "rollout":
            if not event.get("runName"):
                return "no runName"
            self.repeated += identity in self.rollouts
            self.rollouts[identity] = event
            self.messages.setdefault(identity, [])
            return ""
        rollout = event["rolloutEventId"] if kind == "message" else identity
        if rollout not in self.rollouts:
            return "before its rollout"
        if kind == "rollout_update":
            self.updates[identity] = event["rollout_info"]
            return ""
        known = self.messages[rollout]
        if event["type"] not in TYPES:
            return "unknown type"
        if event["index"] < len(known):
            self.repeated += 1
            return "" if known[event["index"]] == event else "sent again with another content"
        if event["index"] > len(known):
            return f"out of order: expected index {len(known)}"
        known.append(event)
        return ""


def _has_none(value: Any) -> bool:
    if isinstance(value, dict):
        return any(item is None or _has_none(item) for item in value.values())
    return False


class Handler(BaseHTTPRequestHandler):
    held: Platform
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.held.requests += 1
        if self.headers.get("X-API-Key") != KEY:
            self.answer(401, {"detail": "bad key"})
            return
        events = json.loads(body)["events"]

        def take() -> None:
            self.held.take(events, len(body))

        if self.held.faults:
            self.held.faults.popleft()(self, take)
            return
        take()
        self.answer(200, {"ok": True})

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: int(values[0]) for name, values in parse_qs(parts.query).items()}
        path = parts.path.strip("/").split("/")
        match path:
            case ["v1", "environments", owner, name] if f"{owner}/{name}" in self.held.environments:
                self.answer(200, {"id": self.held.environments[f"{owner}/{name}"], "name": name})
            case ["v1", "environments", _, _, "variants"]:
                self.answer(200, [{"name": "hard", "id": "variant-1"}])
            case ["v1", "runs"]:
                runs = sorted({rollout["runName"] for rollout in self.held.rollouts.values()})
                self.answer(200, {"runs": [{"id": f"run-{name}", "name": name} for name in runs]})
            case ["v1", "runs", identity] if identity.startswith("run-"):
                self.answer(200, {"id": identity, "name": identity[4:]})
            case ["v1", "runs", identity, "rollouts"]:
                rollouts = [r for r in self.held.rollouts.values() if f"run-{r['runName']}" == identity]
                page = rollouts[query.get("offset", 0) :][: query.get("limit", 20)]
                self.answer(200, {"rollouts": [self._whole(rollout) for rollout in page], "total": len(rollouts)})
            case _:
                self.answer(404, {"detail": "not found"})

    def _whole(self, rollout: dict[str, Any]) -> dict[str, Any]:
        identity = rollout["eventId"]
        update = {"rollout_info": self.held.updates[identity]} if identity in self.held.updates else {}
        return {"id": identity, **rollout, **update, "messages": self.held.messages[identity]}


def accepts(handler: Handler, take: Callable[[], None]) -> None:
    """Answer without a fault."""
    take()
    handler.answer(200, {"ok": True})


def status(code: int, **headers: str) -> Fault:
    """Refuse the request without storing its events."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, take: handler.answer(code, {"detail": f"told to say {code}"}, named)


def status_after(code: int) -> Fault:
    """Store the events, but answer with an error."""

    def fault(handler: Handler, take: Callable[[], None]) -> None:
        take()
        handler.answer(code, {"detail": "injected"})

    return fault


def reset(*, after: bool) -> Fault:
    """Reset the connection, before or after the events are stored."""

    def fault(handler: Handler, take: Callable[[], None]) -> None:
        if after:
            take()
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True

    return fault


def hang(seconds: float, until: threading.Event | None = None) -> Fault:
    """Store the events without an answer; close the connection after `seconds`, or when `until` is set."""

    def fault(handler: Handler, take: Callable[[], None]) -> None:
        take()
        (until or threading.Event()).wait(seconds)
        handler.close_connection = True

    return fault


def truncated(handler: Handler, take: Callable[[], None]) -> None:
    """Store the events and stop in the middle of the answer."""
    take()
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    handler.close_connection = True


def garbage(handler: Handler, take: Callable[[], None]) -> None:
    """Answer with an HTML page, as another server would."""
    handler.answer(200, b"<html>welcome to the hotel</html>")
