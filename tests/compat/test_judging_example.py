"""The example of the official SDK's judges and sandboxes, without a key and with a stand-in of the judge's model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from openreward_gym.store.store import RolloutStore

EXAMPLE = Path(__file__).parents[2] / "examples" / "judging_and_sandboxes.py"
KEYS = ("OPENREWARD_API_KEY", "OPENAI_API_KEY", "CHAT_API_KEY", "CHAT_BASE_URL", "CHAT_PROVIDER")


def play(folder: Path, **environ: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in KEYS}
    environ = {**kept, "OPENREWARD_DISABLE_UPDATE_CHECK": "1", **environ}
    done = subprocess.run([sys.executable, str(EXAMPLE)], cwd=folder, env=environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_key(tmp_path: Path) -> None:
    for _ in range(2):
        output = play(tmp_path)
        assert [line.partition(" of ")[0] for line in output.splitlines()[:3]] == [
            "answer-0: wins 100%",
            "answer-1: wins 50%",
            "answer-2: wins 0%",
        ]
        assert "set OPENREWARD_API_KEY" in output
    rollouts = list(RolloutStore(tmp_path / "runs" / "judged"))
    assert [(rollout.group, rollout.sample) for rollout in rollouts] == [("sky", 0), ("sky", 1), ("sky", 2)]


@pytest.fixture
def judge() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A chat model that finds every pair equal: its URL, and the requests that it got."""
    requests: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            message = {"role": "assistant", "content": 'Both are fine.\n{"winner": "tie"}'}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = {"id": "c", "object": "chat.completion", "created": 1, "model": "judge", "choices": [choice]}
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", requests
    server.shutdown()
    server.server_close()


def test_with_a_model_that_judges(tmp_path: Path, judge: tuple[str, list[dict[str, Any]]]) -> None:
    url, requests = judge
    output = play(tmp_path, CHAT_API_KEY="k-12345678", CHAT_BASE_URL=url, NO_PROXY="127.0.0.1")
    assert output.count("wins 50% of its comparisons") == 3
    assert len(requests) == 3
    assert "explains the cause" in json.dumps(requests[0]["messages"])
