"""`openreward-gym view` as a process: it answers once it has printed its URL, and never shows a secret."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx

from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    Rollout,
    RolloutEnvironment,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
)

SECRET = "s3cret-81f2-value"


def test_it_answers_at_once_and_shows_its_secrets_to_nobody(server_url: str, tmp_path: Path) -> None:
    messages = [
        UserMessage(content=[TextBlock("Go.")]),
        AssistantMessage(content=[ToolCall(call_id="c", name="secret", arguments={"text": "judge"})]),
        ToolMessage(call_id="c", name="secret", content=[TextBlock(str(len(SECRET)))]),
        AssistantMessage(content=[ToolCall(call_id="d", name="fail", arguments={"text": "now"})]),
        ToolMessage(call_id="d", name="fail", content=[TextBlock("now")]),
    ]
    with RolloutStore(tmp_path / "runs" / "kept") as store:
        store.append(Rollout(id="a", status="completed", environment=RolloutEnvironment(name="echo"),
                             task=Task(spec={"number": 0}), messages=messages))  # fmt: skip
    options = ["--port", "0", "--replay", server_url, "--secret", "judge=MY_JUDGE_KEY"]
    command = [sys.executable, "-m", "openreward_gym.cli", "view", str(tmp_path / "runs"), *options]
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "MY_JUDGE_KEY": SECRET}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.search(r"http://\S+?/", line)
            assert match, line
            url = match[0].rstrip("/")
            with httpx.Client(base_url=url, headers={"Origin": url}, timeout=60) as client:
                page = client.get("/")  # at once: a URL that was printed accepts connections
                extensions = client.get("/api/extensions")
                while not client.get("/api/runs").json()["runs"]:
                    pass
                replayed = client.post("/api/replay", json={"run": "kept", "id": "a"})
        finally:
            process.terminate()
            rest = process.communicate(timeout=30)
    assert (page.status_code, replayed.status_code) == (200, 200)
    assert replayed.json()["calls"][0]["same"] is True, "the session was given it"
    for text in (page.text, extensions.text, replayed.text, line, *rest):
        assert SECRET not in text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".sqlite" for path in files)
    assert not any(SECRET.encode() in path.read_bytes() for path in files)
