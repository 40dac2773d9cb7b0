"""Runs whose environment prints secrets, or whose options hold them: no file and no line of output has one."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from chat_model import AnyServer
from rollout_platform import KEY, Platform

from openreward_gym import OpenRewardEnv, collect
from openreward_gym.errors import ConfigurationError, StoreError
from openreward_gym.recording import Recorder
from openreward_gym.types import AssistantMessage, Message, ToolCall, ToolSet, UserMessage
from openreward_gym.wrappers import RecordRollouts

TOKEN = "tk-5Tq9/Xw3+Zn7Lc"
PASSWORD = "pw-3Hn6Jd9Wz1"
ENCODED = (TOKEN, "tk-5Tq9%2FXw3%2BZn7Lc", TOKEN.encode().hex(), base64.b64encode(f"me:{TOKEN}".encode()).decode())
SEEN: list[str] = []


async def repeats(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    """Let the environment print the token in several encodings, then finish."""
    turn = sum(message.role == "assistant" for message in transcript)
    SEEN.append(transcript[-1].text)
    if turn < len(ENCODED):
        return AssistantMessage(tool_calls=[ToolCall("value", {"value": {"printed": ENCODED[turn]}}, f"c{turn}")])
    return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"}, "end")])


async def fails(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    raise ValueError(f"the grader refused {TOKEN}")


def run(server_url: str, output: Path, policy: Any = repeats, **arguments: Any) -> Any:
    return collect("echo", policy, base_url=server_url, output=output, tasks="0:2", concurrency=1, **arguments)


def holding(folder: Path, *texts: str) -> list[str]:
    """The files under a folder that hold one of the texts."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(text.encode() in path.read_bytes() for text in texts)]


def test_what_an_environment_prints_is_in_no_file(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRINTED_TOKEN", TOKEN)
    SEEN.clear()
    result = run(server_url, tmp_path / "run", redact=["PRINTED_TOKEN"], redact_patterns=[r"finish(?=ed)"])
    assert holding(tmp_path, *ENCODED, TOKEN[:10]) == []
    assert any(TOKEN in text for text in SEEN), "the policy sees what the environment says"
    assert result.coverage.complete
    for rollout in result.store:
        assert rollout.redacted is not None
        assert rollout.redacted["PRINTED_TOKEN"] >= 2 * len(ENCODED)
        assert [message.weight for message in rollout.turns] == [0.0] * len(ENCODED) + [None]
    assert result.metrics.redacted["PRINTED_TOKEN"] >= 4 * len(ENCODED)
    assert "cut out of the records: PRINTED_TOKEN" in result.metrics.to_text()
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (described["redact"], described["redact_patterns"]) == (["PRINTED_TOKEN"], [r"finish(?=ed)"])
    assert TOKEN not in "".join(capfd.readouterr())


def test_a_run_is_continued_with_what_it_began_with(server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRINTED_TOKEN", TOKEN)
    run(server_url, tmp_path / "run", limit=1, redact=["PRINTED_TOKEN"], progress=False)
    with pytest.raises(StoreError, match=r"redact was \[\"PRINTED_TOKEN\"\] and is null"):
        run(server_url, tmp_path / "run", resume=True, progress=False)
    result = run(server_url, tmp_path / "run", resume=True, redact=["PRINTED_TOKEN"], progress=False)
    assert result.coverage.successful == 2
    assert holding(tmp_path, *ENCODED) == []


def test_the_secrets_of_sessions_and_keys_are_cut_out_without_being_named(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_VARIABLE", TOKEN)
    result = run(server_url, tmp_path / "run", secrets_env={"judge": "JUDGE_VARIABLE"}, progress=False)
    assert holding(tmp_path, *ENCODED) == []
    assert set(result.store[0].redacted or {}) == {"JUDGE_VARIABLE"}


def test_failures_and_what_is_printed_of_them(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRADER", TOKEN)
    result = run(server_url, tmp_path / "run", fails, fail_on_error=0, redact=["GRADER"], progress="log")
    assert holding(tmp_path, TOKEN) == []
    assert [failure.message.count("[redacted GRADER]") for failure in result.store.failures()] == [1, 1]
    assert TOKEN not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"redact": ["NO_SUCH_VARIABLE_HERE"]}, "not set"),
        ({"redact": "PRINTED_TOKEN"}, "redact must be a list"),
        ({"redact": [""]}, "redact must be a list"),
        ({"redact_patterns": ["a*"]}, "matches an empty text"),
        ({"redact_patterns": ["("]}, "not a regular expression"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_played(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        run("http://127.0.0.1:9", tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_gateway_that_repeats_its_header(server_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    echoed = {"error": {"message": f"no access: x-gateway={TOKEN}", "request": {"headers": {"x-gateway": TOKEN}}}}
    with AnyServer((403, echoed, {})) as model, pytest.raises(Exception, match="no access") as raised:
        run(
            server_url,
            tmp_path / "run",
            "openai:m",
            policy_url=model.url.replace("http://", f"http://me:{PASSWORD}@"),
            policy_options={"extra_headers": {"x-gateway": TOKEN}, "temperature": 0.5},
        )
    assert TOKEN not in str(raised.value)
    assert holding(tmp_path, TOKEN, PASSWORD) == []
    assert TOKEN not in "".join(capfd.readouterr())


def test_an_upload_has_no_secret(server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENREWARD_API_KEY", KEY)
    monkeypatch.setenv("PRINTED_TOKEN", TOKEN)
    with Platform() as platform:
        result = run(server_url, tmp_path / "run", limit=1, redact=["PRINTED_TOKEN"], upload=platform.url, progress=False)
        assert result.uploaded.complete
        sent = repr(vars(platform))
    assert "[redacted PRINTED_TOKEN]" in sent
    assert TOKEN not in sent


def test_the_wrapper_and_the_recorder(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRINTED_TOKEN", TOKEN)
    with RecordRollouts(OpenRewardEnv("echo", base_url=server_url), tmp_path / "env", redact=["PRINTED_TOKEN"]) as env:
        env.reset(seed=0)
        observation, *_ = env.step({"name": "value", "arguments": {"value": TOKEN}})
        assert TOKEN in str(observation)
    assert env.last_rollout is not None
    assert TOKEN not in env.last_rollout.to_line()
    with Recorder(tmp_path / "recorder", redact=["PRINTED_TOKEN"], redact_patterns=[r"\d{3}-\d{4}"]) as recorder:
        log = recorder.create(environment="weather", print_messages=True)
        log.log(UserMessage(f"Use {TOKEN} and call 555-1234."), is_finished=True)
    assert holding(tmp_path, *ENCODED, "555-1234") == []
    assert TOKEN not in "".join(capfd.readouterr())
