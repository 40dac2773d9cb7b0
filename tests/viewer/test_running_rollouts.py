"""The viewer's index and answers while rollouts are being recorded, and when files vanish or are damaged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym import AssistantMessage, Recorder, RolloutStore, ToolCall, ToolResult, UserMessage, viewer
from openreward_gym.store.running import RunningFile
from openreward_gym.viewer.answers import lists, opening
from openreward_gym.viewer.answers.pieces import LargeRecords
from openreward_gym.viewer.index import NotFoundError, RunIndex


@pytest.fixture
def index(tmp_path: Path) -> RunIndex:
    (tmp_path / "runs").mkdir()
    return RunIndex(tmp_path / "runs", tmp_path / "index.sqlite")


def cards(index: RunIndex, run: str) -> list[dict[str, Any]]:
    listing = orjson.loads(lists.listing(index, run, None, False, "", 0))
    return [card for group in listing["groups"] for card in group["cards"]]


def test_running_rollouts_are_listed_grow_and_become_finished_ones(index: RunIndex, tmp_path: Path) -> None:
    with Recorder(tmp_path / "runs" / "night") as recorder:
        log = recorder.create(environment="lab", rollout_name="watch", group="g")
        log.log(UserMessage("Count the ships."))
        assert index.refresh()
        (card,) = cards(index, "night")
        assert (card["id"], card["status"], card["turns"]) == (log.rollout_id, "running", 0)
        assert not index.refresh(), "nothing changed"
        log.log(AssistantMessage("I count.", tool_calls=[ToolCall("count", {}, "c1")]))
        log.log(ToolResult("Seven.", call_id="c1"), reward=0.25)
        index.refresh()
        (card,) = cards(index, "night")
        assert (card["turns"], card["calls"], card["reward"]) == (1, 1, None), "a mean counts no reward so far"
        assert lists.runs(index)["runs"][0]["key"] == "night"
        log.log(AssistantMessage("Seven in all."), reward=0.5, is_finished=True)
        index.refresh()
        (card,) = cards(index, "night")
        assert (card["status"], card["reward"], card["turns"]) == ("completed", 0.75, 2)
        assert index.find("night", log.rollout_id).length > 0


def test_a_running_rollout_keeps_its_place_in_the_list(index: RunIndex, tmp_path: Path) -> None:
    with Recorder(tmp_path / "runs" / "night") as recorder:
        logs = [recorder.create(rollout_name=f"r{number}", group="g") for number in range(3)]
        for log in logs:
            log.log(UserMessage("Hm?"))
            index.refresh()
        logs[0].log(AssistantMessage("Well."))
        index.refresh()
        assert [card["id"] for card in cards(index, "night")] == [log.rollout_id for log in logs]


def test_opening_gives_the_messages_so_far_and_then_the_next_ones(index: RunIndex, tmp_path: Path) -> None:
    with Recorder(tmp_path / "runs" / "night") as recorder:
        log = recorder.create()
        log.log(UserMessage("One."))
        with viewing(tmp_path / "runs") as url, httpx.Client(base_url=url) as client:
            where = {"run": "night", "id": log.rollout_id}
            first = client.get("/api/rollout", params=where).json()
            assert (first["running"]["writing"], first["next"], len(first["rollout"]["messages"])) == (True, None, 1)
            log.log(AssistantMessage("Two."))
            log.log(UserMessage("Three."))
            more = client.get("/api/messages", params={**where, "from": 1}).json()
            assert [message["blocks"][0]["text"] for message in more["messages"]] == ["Two.", "Three."]
            etag = client.get("/api/messages", params={**where, "from": 1}).headers["etag"]
            again = client.get("/api/messages", params={**where, "from": 1}, headers={"If-None-Match": etag})
            assert again.status_code == 304, "a poll without news costs nothing"
            log.log(AssistantMessage("Four."), is_finished=True)
            last: dict[str, Any] = {"waiting": True}
            while "running" in last or "waiting" in last:
                last = client.get("/api/rollout", params={**where, "waiting": "1"}).json()
            assert len(last["rollout"]["messages"]) == 4
            assert last["rollout"]["status"] == "completed"


def test_a_rollout_that_is_not_there_yet_is_waited_for_without_errors(tmp_path: Path) -> None:
    RolloutStore(tmp_path / "runs" / "r").append(simple("a", "x"))
    with viewing(tmp_path / "runs") as url, httpx.Client(base_url=url) as client:
        where = {"run": "r", "id": "later"}
        assert client.get("/api/rollout", params=where).status_code == 404
        answer = client.get("/api/rollout", params={**where, "waiting": "1"})
        assert (answer.status_code, answer.json()) == (200, {"waiting": True, "problem": None})
        assert client.get("/api/place", params=where).json() == {"place": None}
        assert client.get("/api/about", params=where).json() == {"label": None, "history": [], "problem": None}


CRASH = """
import os, sys
from openreward_gym import Recorder, UserMessage
recorder = Recorder(sys.argv[1])
recorder.create(id="lost").log(UserMessage("Anybody there?"))
os._exit(1)
"""


def test_a_recorder_that_died_is_told(index: RunIndex, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CRASH, str(tmp_path / "runs" / "night")], stderr=subprocess.DEVNULL, check=False)
    index.refresh()
    (card,) = cards(index, "night")
    opened = orjson.loads(opening.rollout(index, "night", "lost", LargeRecords()))
    assert card["status"] == "running"
    assert opened["running"]["writing"] is False
    assert opened["rollout"]["stop_reason"] == "stopped while running"


def test_many_running_rollouts_are_cheap_to_look_at(index: RunIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Recorder(tmp_path / "runs" / "night") as recorder:
        logs = [recorder.create(group="g", sample=number) for number in range(256)]
        for log in logs:
            log.log(UserMessage("Hm? " * 50))
        index.refresh()
        read: list[bytes] = []
        take = RunningFile._take

        def taken(file: RunningFile, line: bytes) -> None:
            read.append(line)
            take(file, line)

        monkeypatch.setattr(RunningFile, "_take", taken)
        assert not index.refresh()
        assert read == []
        logs[7].log(AssistantMessage("Well."))
        index.refresh()
        assert len(read) == 1, "only what is new is read"
        assert len(cards(index, "night")) == 256


def test_running_rollouts_are_in_no_export_and_no_store(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "night"
    with Recorder(run) as recorder:
        recorder.create().log(UserMessage("Hm?"))
        RolloutStore(run).append(simple("a", "x"))
        assert [rollout.id for rollout in RolloutStore(run)] == ["a"]
        assert RolloutStore(run).damage() == []


def test_a_recorder_and_its_log_can_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with Recorder(tmp_path / "runs" / "night") as recorder:
        log = recorder.create("a run")
        log.log(UserMessage("Hm?"))
        for target in (recorder, log):
            server = viewer.show(target, open_browser=False)
            try:
                base = server.url.partition("#")[0]
                answer: dict[str, Any] = {"waiting": True}
                while "waiting" in answer:
                    where = {"run": "night/a run", "id": log.rollout_id, "waiting": "1"}
                    answer = httpx.get(f"{base}api/rollout", params=where).json()
                assert answer["running"]["writing"] is True
                assert (f"sample={log.rollout_id}" in server.url) is (target is log)
                assert "<iframe" in server._repr_html_()
            finally:
                server.stop()


# What was open, and is lost


def cut_short(shard: Path) -> None:
    with shard.open("r+b") as file:
        file.truncate(10)


def overwritten(shard: Path) -> None:
    with shard.open("r+b") as file:
        file.seek(shard.stat().st_size // 2)  # in the second of three lines
        file.write(b"#" * 20)


def other_lines(shard: Path) -> None:
    shard.write_text("{}\n" * 100)


def made_a_folder(shard: Path) -> None:
    shard.unlink()
    shard.mkdir()


LOSSES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "run": (lambda shard: shutil.rmtree(shard.parents[1]), "The run was deleted or moved."),
    "moved": (lambda shard: shard.parents[1].rename(shard.parents[2] / "elsewhere"), "The run was deleted or moved."),
    "file": (os.unlink, "The file of this rollout was deleted or moved."),
    "short": (cut_short, "The file became shorter while it was open: this rollout cannot be read again."),
    "damaged": (overwritten, "The file was changed or damaged while it was open: this rollout cannot be read again."),
    "replaced": (other_lines, "The file became shorter while it was open|The file was changed or damaged"),
    "folder": (made_a_folder, "cannot be read any more: .*not a file but a folder"),
}


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("looked_again", [False, True])
def test_what_became_of_an_opened_rollout_is_said(index: RunIndex, tmp_path: Path, kind: str, looked_again: bool) -> None:
    lose, words = LOSSES[kind]
    store = RolloutStore(tmp_path / "runs" / "doomed")
    for name in "abc":
        store.append(simple(name, "x"))
    store.close()
    index.refresh()
    opening.rollout(index, "doomed", "b")
    assert opening.about(index, "doomed", "b")["problem"] is None
    store.append(simple("d", "x"))
    store.close()
    index.refresh()
    assert opening.about(index, "doomed", "b")["problem"] is None, "a run that grows is no problem"
    shard = min((tmp_path / "runs" / "doomed" / "rollouts").iterdir())
    lose(shard)
    if looked_again:
        index.refresh()
    problem = opening.about(index, "doomed", "b")["problem"]
    assert re.search(words, problem), problem
    assert problem.endswith("What is shown was read before.")


def test_lost_rollouts_of_a_shorter_file_are_damage_of_the_run(index: RunIndex, tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "torn")
    for name in "abc":
        store.append(simple(name, "x"))
    index.refresh()
    shard = next((tmp_path / "runs" / "torn" / "rollouts").iterdir())
    lines = shard.read_bytes().splitlines(keepends=True)
    with shard.open("r+b") as file:
        file.truncate(len(lines[0]) + 5)
    index.refresh()
    (damage,) = lists.runs(index)["damage"]
    assert "the file became shorter after it was read: 2 rollouts of it cannot be read again" in damage["first"]


def test_lists_of_a_run_that_is_gone_are_not_sent_as_empty(tmp_path: Path) -> None:
    RolloutStore(tmp_path / "runs" / "doomed").append(simple("a", "x"))
    with viewing(tmp_path / "runs") as url, httpx.Client(base_url=url) as client:
        assert len(client.get("/api/steps", params={"run": "doomed"}).json()) == 1
        shutil.rmtree(tmp_path / "runs" / "doomed")
        while client.get("/api/runs").json()["runs"]:
            pass
        for name in ("steps", "list", "group", "series", "histogram"):
            answer = client.get(f"/api/{name}", params={"run": "doomed", "group": "g", "metric": "reward"})
            assert (answer.status_code, answer.content) == (204, b""), name
        assert client.get("/api/steps", params={"run": "never"}).json() == []
        RolloutStore(tmp_path / "runs" / "doomed").append(simple("a", "x"))
        while client.get("/api/steps", params={"run": "doomed"}).status_code == 204:
            pass


def test_a_rollout_that_just_ended_is_not_found(index: RunIndex, tmp_path: Path) -> None:
    with Recorder(tmp_path / "runs" / "night") as recorder:
        log = recorder.create()
        log.log(UserMessage("Hm?"))
        index.refresh()
        place = index.find("night", log.rollout_id)
        log.close()
    with pytest.raises(NotFoundError, match="just ended"):
        index.read(place)
