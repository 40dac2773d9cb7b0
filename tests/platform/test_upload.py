from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from counting import eventually
from rollout_platform import KEY, Platform, accepts, garbage, hang, reset, status, status_after, truncated

from openreward_gym.errors import ConfigurationError, StoreError
from openreward_gym.platform import Uploader, UploadReport, upload
from openreward_gym.platform.events import events_of
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import Message, Rollout, RolloutEnvironment, Task, TextBlock


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setenv("OPENREWARD_API_KEY", KEY)
    with Platform() as platform:
        monkeypatch.setenv("OPENREWARD_API_URL", platform.url)
        yield platform
        assert platform.violations == []


def make(turns: int = 3, size: int = 10, **fields: Any) -> Rollout:
    messages = [Message(role="user" if n % 2 else "assistant", blocks=(TextBlock(text=f"{n} " * size),)) for n in range(turns)]
    return Rollout(status="completed", messages=messages, task=Task(index=3), started_at="2026-01-01T00:00:00Z", **fields)


def record(path: Path, rollouts: list[Rollout]) -> list[Rollout]:
    with RolloutStore(path) as store:
        for rollout in rollouts:
            store.append(rollout)
    return rollouts


def assert_held(platform: Platform, rollouts: list[Rollout], environment_id: str | None = None) -> None:
    """The platform has every event of every rollout once, in order, and nothing else."""
    assert set(platform.rollouts) == {rollout.id for rollout in rollouts}
    for rollout in rollouts:
        run = rollout.run or "a-run"
        first, *rest = events_of(dataclasses.replace(rollout, run=run), environment_id=environment_id)
        assert platform.rollouts[rollout.id] == first
        assert platform.messages[rollout.id] == [event for event in rest if event["eventType"] == "message"]
        assert platform.updates[rollout.id] == rest[-1]["rollout_info"]


def test_a_run_is_sent_whole_and_only_once(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a-run"
    rollouts = record(path, [make(n) for n in (0, 1, 127, 128, 300)])
    seen: list[UploadReport] = []
    report = upload(path, on_progress=seen.append)
    assert (report.sent, report.pending, report.complete) == (5, 0, True)
    assert seen[-1] == report
    assert_held(platform, rollouts)
    requests = platform.requests
    assert upload(path).sent == 5
    assert platform.requests == requests
    rollouts += record(path, [make()])
    assert upload(path).sent == 6
    assert_held(platform, rollouts)
    assert platform.repeated == 0


def test_batches_keep_within_the_platform_s_bytes(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a-run"
    (rollout,) = record(path, [make(40, 30_000)])
    assert upload(path).complete
    assert_held(platform, [rollout])
    assert platform.requests > 3


def test_a_text_that_is_longer_than_a_batch_is_cut_and_said_to_be(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a-run"
    text = "é\n\x01" * 500_000
    (rollout,) = record(path, [Rollout(status="completed", messages=[Message(role="user", blocks=(TextBlock(text=text),))])])
    report = upload(path)
    assert (report.sent, report.cut) == (1, 1)
    (event,) = platform.messages[rollout.id]
    assert event["metadata"] == {"cut_from_characters": len(text)}
    assert len(event["content"]) > 100_000
    assert text.startswith(event["content"])
    assert RolloutStore(path)[0].messages[0].text == text


def test_the_environment_s_ids_are_asked_for_once(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a-run"
    environment = RolloutEnvironment("GeneralReasoning/CTF", "hard")
    record(path, [make(environment=environment), make(environment=environment)])
    assert upload(path).complete
    assert {(r["environment_id"], r["variant_id"]) for r in platform.rollouts.values()} == {("env-1", "variant-1")}
    assert {m["environment_id"] for ms in platform.messages.values() for m in ms} == {"env-1"}


MATRIX = {
    "429": status(429),
    "429 with Retry-After": status(429, Retry_After="0.2"),
    "500": status(500),
    "502": status(502),
    "503 with Retry-After": status(503, Retry_After="0"),
    "504 though it took them": status_after(504),
    "reset before": reset(after=False),
    "reset after": reset(after=True),
    "no answer": hang(1.5),
    "answer broken off": truncated,
}


@pytest.mark.parametrize("fault", MATRIX)
def test_every_passing_failure_is_tried_again_and_nothing_is_there_twice(platform: Platform, tmp_path: Path, fault: str) -> None:
    path = tmp_path / "a-run"
    rollouts = record(path, [make(200), make(3)])
    for _ in range(3):
        platform.faults.append(MATRIX[fault])
        platform.faults.append(accepts)
    uploader = Uploader(path, first_delay_s=0.01, timeout_s=0.5)
    report = uploader.close(30)
    assert report.complete, report
    assert_held(platform, rollouts)


def test_retry_after_is_honoured(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a-run"
    record(path, [make(1)])
    platform.faults.append(status(429, Retry_After="0.6"))
    began = time.monotonic()
    assert Uploader(path, first_delay_s=0.0).close(30).complete
    assert time.monotonic() - began >= 0.6


def test_a_refused_rollout_is_reported_and_the_others_are_sent(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a-run"
    rollouts = record(path, [make(), make()])
    platform.faults.append(status(422))
    report = upload(path)
    assert (report.sent, report.pending, report.complete) == (1, 1, False)
    (reason,) = report.refused.values()
    assert "422" in reason
    assert "told to say 422" in reason
    assert "1 not, 1 of them refused" in str(report)
    assert upload(path).complete
    assert_held(platform, rollouts)


def test_lines_that_are_no_rollouts_are_told_of(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a-run"
    rollouts = record(path, [make()])
    (shard,) = (path / "rollouts").glob("*.jsonl")
    with shard.open("a", encoding="utf-8") as file:
        file.write('{"no": "rollout"}\nnot even JSON\n')
    report = upload(path)
    assert (report.sent, report.pending, report.unreadable, report.complete) == (1, 0, 2, False)
    assert "2 lines of the run could not be read" in str(report)
    assert_held(platform, rollouts)


@pytest.mark.parametrize(("fault", "words"), [(status(401), "rejects"), (garbage, "Is this the platform's API")])
def test_what_will_not_pass_stops_the_upload_and_keeps_the_run(
    platform: Platform, tmp_path: Path, fault: Any, words: str
) -> None:
    path = tmp_path / "a-run"
    rollouts = record(path, [make(), make()])
    platform.faults.append(fault)
    report = upload(path)
    assert (report.sent, report.pending) == (0, 2)
    assert words in report.error
    assert KEY not in report.error
    assert upload(path).complete
    assert_held(platform, rollouts)


def test_a_redirect_is_not_followed(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a-run"
    record(path, [make()])
    with Platform() as elsewhere:
        platform.faults.append(status(307, Location=f"{elsewhere.url}/v1/rollouts"))
        report = upload(path)
        assert elsewhere.requests == 0
    assert "give its address instead" in next(iter(report.refused.values()))


def test_it_gives_up_after_its_patience_and_goes_on_when_woken(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a-run"
    rollouts = record(path, [make()])
    platform.stop()
    uploader = Uploader(path, first_delay_s=0.01, longest_delay_s=0.05, patience_s=0.3)
    report = uploader.flush(20)
    assert report.pending == 1
    assert "no server answers there" in report.error
    platform.start()
    assert uploader.close(20).complete
    assert_held(platform, rollouts)


def test_a_dead_server_that_comes_back_has_everything_once(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a-run"
    rollouts = record(path, [make(400) for _ in range(5)])
    died = threading.Event()

    def stop() -> None:
        platform.stop()
        died.set()

    def die(handler: Any, take: Any) -> None:
        threading.Thread(target=stop).start()
        reset(after=True)(handler, take)

    platform.faults.extend([accepts, accepts, die])
    uploader = Uploader(path, first_delay_s=0.01, longest_delay_s=0.1)
    assert died.wait(20)
    platform.start()
    assert uploader.close(30).complete
    assert_held(platform, rollouts)
    assert platform.repeated > 0


def test_the_next_process_goes_on_where_the_last_was_killed(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a-run"
    rollouts = record(path, [make(1000, 100) for _ in range(4)])
    gate = threading.Event()
    count = 5

    def slow(handler: Any, take: Any) -> None:
        take()
        is_last = len(platform.faults) == 1  # the next request takes the fault after it
        handler.answer(200, {})
        if is_last:
            gate.set()

    platform.faults.extend([slow] * count + [hang(30)])
    code = f"from openreward_gym.platform import upload; upload({str(path)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ})
    assert gate.wait(60)
    process.kill()
    process.wait()
    platform.faults.clear()
    before = platform.requests
    assert upload(path).complete
    assert_held(platform, rollouts)
    # What had been confirmed was not sent again: only the batch that was under way may be.
    assert platform.repeated <= 128
    assert platform.requests - before < 4 * 9


def test_two_processes_share_the_work_without_doubling_it(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a-run"
    rollouts = record(path, [make(300) for _ in range(5)])
    first, second = Uploader(path), Uploader(path)
    assert first.close(30).complete
    assert second.close(30).complete
    assert_held(platform, rollouts)
    assert platform.repeated == 0


def test_the_loop_is_never_waited_for(platform: Platform, tmp_path: Path) -> None:
    over, was_over = threading.Event(), []

    def hangs(handler: Any, take: Any) -> None:
        hang(60, until=over)(handler, take)
        was_over.append(over.is_set())

    platform.faults.append(hangs)
    with RolloutStore(tmp_path / "a-run") as store:
        store.append(make())
        uploader = Uploader(store, timeout_s=120)
        assert eventually(lambda: platform.requests == 1)
        for _ in range(50):
            store.append(make())
            uploader.wake()
        assert uploader.close(0.0).pending > 0
        over.set()
        assert eventually(lambda: bool(was_over))
        # The platform was still silent when all this was done.
        assert was_over == [True]
        assert upload(store.path).complete


def test_a_run_that_is_not_there_and_a_key_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENREWARD_API_URL", raising=False)
    monkeypatch.delenv("OPENREWARD_URL", raising=False)
    monkeypatch.delenv("OPENREWARD_API_KEY", raising=False)
    with pytest.raises(StoreError, match="does not exist"):
        upload(tmp_path / "none")
    record(tmp_path / "a-run", [make()])
    with pytest.raises(ConfigurationError, match="Set OPENREWARD_API_KEY"):
        upload(tmp_path / "a-run")
    monkeypatch.setenv("MY_KEY", "a\nb")
    with pytest.raises(ConfigurationError, match="environment variable MY_KEY has a line end"):
        upload(tmp_path / "a-run", api_key_env="MY_KEY")
    with pytest.raises(ConfigurationError, match="'ftp://x' is not a URL"):
        upload(tmp_path / "a-run", base_url="ftp://x")
