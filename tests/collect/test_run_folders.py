"""A run's folder: it is continued only where there is a run, and a wrong option leaves none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import typer

from openreward_gym import collect
from openreward_gym.cli.collect import _exit
from openreward_gym.collect import CollectionResult, Coverage
from openreward_gym.collect.outcomes import read_coverage
from openreward_gym.errors import ConfigurationError, PolicyError, StoreError
from openreward_gym.platform import UploadReport
from openreward_gym.reports.summary import summarize
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import AssistantMessage, Message, ToolCall, ToolSet


async def right(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"})])


def play(server_url: str, output: Path | None, **arguments: Any) -> Any:
    return collect("echo", right, base_url=server_url, output=output, **{"tasks": "0", "progress": False, **arguments})


def test_a_folder_without_a_run_is_not_continued(server_url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"never does not exist, so there is nothing to continue"):
        play(server_url, tmp_path / "never", resume=True)
    assert not (tmp_path / "never").exists()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"notes holds no run"):
        play(server_url, tmp_path / "notes", resume=True)
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["a.txt"]
    with pytest.raises(ConfigurationError, match="output"):
        play(server_url, None, resume=True)


def test_a_collector_that_died_at_its_start_is_continued(server_url: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "collector.lock").write_text("")
    assert play(server_url, tmp_path / "run", resume=True).coverage.complete


@pytest.mark.parametrize("options", [{"toolset": "Nope"}, {"secrets_env": {"judge": "NO_SUCH_VARIABLE"}}])
def test_a_wrong_option_leaves_no_run(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for output in (None, tmp_path / "a" / "b", tmp_path / "empty"):
        with pytest.raises(ConfigurationError):
            play(server_url, output, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert not list((tmp_path / "empty").iterdir())


def test_a_wrong_option_leaves_an_existing_run_as_it_is(server_url: str, tmp_path: Path) -> None:
    play(server_url, tmp_path / "run")
    with pytest.raises(ConfigurationError):
        play(server_url, tmp_path / "run", resume=True, allow_changed=True, toolset="Nope", repeats=2, fail_on_error=1)
    assert list((tmp_path / "run").glob("rollouts/*.jsonl"))


def test_time_limits_of_a_call_may_change(server_url: str, tmp_path: Path) -> None:
    play(server_url, tmp_path / "run", step_timeout_s=30.0, reset_timeout_s=60.0, request_timeout_s=20.0)
    assert play(server_url, tmp_path / "run", resume=True, step_timeout_s=50.0, idle_timeout_s=40.0).coverage.complete
    with pytest.raises(StoreError, match="episode_timeout_s was null and is 90"):
        play(server_url, tmp_path / "run", resume=True, episode_timeout_s=90.0)


def test_an_interrupted_retry_is_missing_in_memory_and_on_disk(server_url: str, tmp_path: Path) -> None:
    tries: list[int] = []

    async def fails_then_hangs(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        tries.append(1)
        if len(tries) == 1:
            raise PolicyError("busy", kind="rate_limited", retry_after_s=0.01)
        await asyncio.sleep(60)
        raise AssertionError

    result = collect(
        "echo", fails_then_hangs, base_url=server_url, output=tmp_path / "run", tasks="0", progress=False, run_timeout_s=3.0
    )
    assert len(tries) == 2
    assert (result.coverage.failed, result.coverage.missing, result.resumable) == (0, 1, True)
    assert read_coverage(tmp_path / "run") == result.coverage


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (UploadReport(sent=6, sent_before=6), "0 rollouts sent, 6 were sent before"),
        (UploadReport(sent=6, sent_before=4, pending=1, error="refused"), "2 rollouts sent, 4 were sent before, 1 not: refused"),
        (UploadReport(sent=3), "3 rollouts sent"),
        (
            UploadReport(sent=2, sent_before=1, unreadable=1),
            "1 rollout sent, 1 was sent before, 1 line of the run could not be read",
        ),
    ],
)
def test_an_upload_says_what_it_has_sent_itself(report: UploadReport, words: str) -> None:
    assert str(report) == words


@pytest.mark.parametrize(
    ("coverage", "fields", "code", "words"),
    [
        (Coverage(4, 3, 0, 1, 0), {}, 0, ""),
        (Coverage(4, 4, 0, 0, 0), {"uploaded": UploadReport(pending=1)}, 75, ""),
        (Coverage(4, 2, 1, 0, 1), {"resumable": True}, 75, "1 failed, 1 missing; continue with: openreward-gym "),
        (Coverage(4, 0, 4, 0, 0), {}, 1, "4 failed, 0 missing; the same would fail again"),
        (Coverage(4, 3, 1, 0, 0), {"given_up": 1}, 1, "1 of the failed given up; the same would fail again"),
    ],
)
def test_the_exit_code_says_what_can_be_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], coverage: Coverage, fields: dict[str, Any], code: int, words: str
) -> None:
    (tmp_path / "run" / "rollouts").mkdir(parents=True)
    store = RolloutStore(tmp_path / "run")
    result = CollectionResult(store, summarize(store), coverage, **fields)
    if code:
        with pytest.raises(typer.Exit) as raised:
            _exit(result)
        assert raised.value.exit_code == code
    else:
        _exit(result)
    assert words in capsys.readouterr().err
