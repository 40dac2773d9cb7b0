"""The page while others record, label, delete and damage what is open."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from browser_pages import Opener, complaints, until
from playwright.sync_api import Page, Response, expect
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym import AssistantMessage, Recorder, RolloutStore, ToolCall, ToolResult, UserMessage
from openreward_gym.store import change_label, label_history, read_labels
from openreward_gym.types import Message
from openreward_gym.viewer.app import create_app, start
from openreward_gym.viewer.index import RunIndex


def section(page: Page, name: str) -> Any:
    return page.get_by_role("region", name=name, exact=True)


def label_of(run: Path, rollout: str = "a") -> tuple[Any, ...]:
    label = read_labels(run).get(rollout)
    return () if label is None else (label.rating, label.tags, label.note)


# Running rollouts


def test_a_rollout_is_followed_to_its_end_without_a_jump(opened: Opener, tmp_path: Path) -> None:
    with Recorder(tmp_path / "runs" / "night") as recorder:
        log = recorder.create(rollout_name="watch", group="g")
        log.log(UserMessage("Count the ships in the harbour. " * 200))
        for number in range(6):
            log.log(AssistantMessage(f"Pier {number}. " * 100, tool_calls=[ToolCall("count", {"pier": number}, f"c{number}")]))
            log.log(ToolResult("Seven ships. " * 50, call_id=f"c{number}"))
        with viewing(tmp_path / "runs") as base:
            page = opened(f"#/rollouts?run=night&sample={log.rollout_id}", base=base)
            expect(page.get_by_text("Being recorded")).to_be_visible()
            expect(section(page, "Turn 6")).to_be_attached()
            article = page.locator(".sample").element_handle()
            section(page, "Turn 1").get_by_role("button", expanded=True).first.click()
            expect(section(page, "Turn 1").get_by_role("button", expanded=False)).to_be_visible()
            page.locator(".middle").evaluate("box => { box.scrollTop = 700 }")
            read = section(page, "Turn 3").bounding_box()
            log.log(AssistantMessage("At the south pier.", tool_calls=[ToolCall("count", {}, "last")]))
            expect(section(page, "Turn 7")).to_contain_text("south pier")
            log.log(ToolResult("Eight ships.", call_id="last"))
            expect(section(page, "Turn 7")).to_contain_text("Eight ships.")
            assert section(page, "Turn 3").bounding_box() == read
            log.log(AssistantMessage("Fifty in all."), reward=0.875, is_finished=True)
            expect(section(page, "Turn 8")).to_contain_text("Fifty in all.")
            expect(page.locator(".sample")).to_contain_text("0.875")
            expect(page.get_by_text("Being recorded")).to_have_count(0)
            expect(section(page, "Turn 1").get_by_role("button", expanded=False)).to_be_visible()
            assert section(page, "Turn 3").bounding_box() == read
            assert article is not None
            assert article.evaluate("node => node.isConnected"), "it is the same article, not drawn anew"
            expect(page.locator(".row")).to_have_count(1)


def test_waiting_and_following_make_no_failed_requests(opened: Opener, tmp_path: Path) -> None:
    RolloutStore(tmp_path / "runs" / "night").append(simple("before", "x"))
    with Recorder(tmp_path / "runs" / "night") as recorder, viewing(tmp_path / "runs") as base:
        log = recorder.create()
        page = opened(base=base)
        failed: list[str] = []
        page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        page.goto(f"{base}/#/rollouts?run=night&sample={log.rollout_id}")
        expect(page.locator(".middle")).to_contain_text("Waiting for its first message")
        log.log(UserMessage("Hm?"))
        expect(section(page, "User")).to_contain_text("Hm?")
        log.log(AssistantMessage("Well."), is_finished=True)
        expect(section(page, "Turn 1")).to_contain_text("Well.")
        assert failed == []


# Labels


def test_two_readers_lose_nothing_and_see_each_other(opened: Opener, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r"
    RolloutStore(run).append(simple("a", "x"))
    with viewing(tmp_path / "runs") as base:
        ann, bo = (opened("#/rollouts?run=r&sample=a", base=base) for _ in range(2))
        for page, name in ((ann, "Ann"), (bo, "Bo")):
            page.get_by_label("Your name").fill(name)
            page.get_by_label("Your name").press("Tab")
        ann.get_by_role("radio", name="5").click()
        ann.get_by_label("Tags").fill("guessed, short")
        ann.get_by_label("Tags").press("Enter")
        bo.get_by_label("Note").fill("The code was in the prompt.")
        bo.get_by_label("Note").blur()
        until(lambda: label_of(run) == (5, ("guessed", "short"), "The code was in the prompt."))
        expect(bo.get_by_role("radio", name="5")).to_be_checked()
        expect(bo.get_by_role("button", name="Remove guessed")).to_be_visible()
        expect(ann.get_by_label("Note")).to_have_value("The code was in the prompt.")
        bo.get_by_role("button", name="Remove short").click()
        until(lambda: label_of(run)[1] == ("guessed",))
        expect(ann.get_by_role("button", name="Remove short")).to_have_count(0)
        ann.get_by_text("History").click()
        items = ann.locator(".history li")
        expect(items).to_have_count(4)
        expect(items.first).to_contain_text("Bo")
        expect(items.first).to_contain_text("removed “short”")
        expect(items.last).to_contain_text("rated 5")
        ann.reload()
        expect(ann.get_by_label("Your name")).to_have_value("Ann")
        assert complaints(ann) == []


def test_what_is_being_written_stays_when_another_changes_the_note(opened: Opener, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r"
    RolloutStore(run).append(simple("a", "x"))
    change_label(run, "a", note="first", author="Ann")
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=r&sample=a", base=base)
        note = page.get_by_label("Note")
        expect(note).to_have_value("first")
        note.press("End")
        note.press_sequentially(" and mine")
        change_label(run, "a", note="first and hers", author="Ann")
        expect(page.locator(".labels")).to_contain_text("Ann changed the note meanwhile: first and hers")
        expect(note).to_have_value("first and mine")
        note.press_sequentially("!")
        note.blur()
        until(lambda: label_of(run)[2] == "first and mine!")
        over = label_history(run, "a")[-1].overwritten
        assert over is not None
        assert over.set["note"] == "first and hers"
        expect(page.locator(".labels")).to_contain_text("The later note is kept, and both are in the history")


# What is lost


def test_a_deleted_run_stays_with_a_banner_on_each_of_its_pages(opened: Opener, tmp_path: Path) -> None:
    for name in ("doomed", "other"):
        store = RolloutStore(tmp_path / "runs" / name)
        for number in range(3):
            store.append(simple(f"{name}-{number}", f"Guess {number}.", group="g", sample=number))
    places = ("#/rollouts?run=doomed&sample=doomed-1", "#/rollouts?run=doomed&group=g&step=none", "#/rollouts?run=doomed")
    with viewing(tmp_path / "runs") as base:
        pages = [opened(place, base=base) for place in places]
        for page in pages[:2]:
            expect(page.locator(".middle")).to_contain_text("Guess 1.")
        for page in pages:
            expect(page.locator(".row")).to_have_count(3)
        moved = shutil.move(tmp_path / "runs" / "doomed", tmp_path / "away")
        for page in pages:
            expect(page.locator(".banner")).to_have_text("The run was deleted or moved. What is shown was read before.")
            expect(page.locator(".row")).to_have_count(3)
        for page in pages[:2]:
            expect(page.locator(".middle")).to_contain_text("Guess 1.")
        assert complaints(pages[0]) == []
        shutil.move(moved, tmp_path / "runs" / "doomed")
        for page in pages:
            expect(page.locator(".banner")).to_have_text("")


def test_a_shorter_file_is_told_where_its_rollout_is_open(opened: Opener, tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "torn")
    for number in range(6):
        store.append(simple(f"t{number}", f"Guess {number}.", group="g", sample=number))
    shard = next((tmp_path / "runs" / "torn" / "rollouts").iterdir())
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=torn&sample=t4", base=base)
        expect(page.locator(".middle")).to_contain_text("Guess 4.")
        lines = shard.read_bytes().splitlines(keepends=True)
        with shard.open("r+b") as file:
            file.truncate(len(lines[0]) + 9)
        expect(page.locator(".banner")).to_contain_text(
            "The file became shorter while it was open: this rollout cannot be read again"
        )
        expect(page.locator(".middle")).to_contain_text("Guess 4.")
        page.goto(f"{base}/#/")
        expect(page.locator("main")).to_contain_text(
            "the file became shorter after it was read: 5 rollouts of it cannot be read again"
        )
        expect(page.locator(".banner")).to_have_text("")


@pytest.mark.parametrize("address", ["rollouts?run=torn", "metrics?run=torn"])
def test_a_shorter_file_and_a_deleted_run_are_told_on_every_page(opened: Opener, tmp_path: Path, address: str) -> None:
    folder = tmp_path / "runs" / "torn"
    store = RolloutStore(folder)
    for number in range(6):
        store.append(simple(f"t{number}", f"Guess {number}.", group="g", sample=number))
    shard = next((folder / "rollouts").iterdir())
    with viewing(tmp_path / "runs") as base:
        page = opened(f"#/{address}", base=base)
        expect(page.locator("main")).to_contain_text("reward" if "metrics" in address else "What do you say?")
        expect(page.locator(".banner")).to_have_text("")
        with shard.open("r+b") as file:
            file.truncate(len(shard.read_bytes().splitlines(keepends=True)[0]) + 9)
        shorter = re.compile("(the|The) file became shorter .*cannot be read again")
        expect(page.locator(".banner")).to_contain_text(shorter, timeout=10_000)
        shutil.rmtree(folder)
        expect(page.locator(".banner")).to_contain_text("was deleted or moved", timeout=10_000)


def test_a_server_that_stops_is_told_and_one_that_comes_back_is_used(opened: Opener, tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "r")
    store.append(simple("a", "Here."))

    def serve(port: int) -> tuple[int, threading.Thread, Any]:
        index = RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite")
        listener = socket.create_server(("127.0.0.1", port))
        return listener.getsockname()[1], *start(create_app(index), listener)

    port, thread, stop = serve(0)
    page = opened("#/rollouts?run=r&sample=a", base=f"http://127.0.0.1:{port}")
    expect(page.locator(".middle")).to_contain_text("Here.")
    stop()
    thread.join(20)
    expect(page.locator(".banner")).to_contain_text("The viewer's server does not answer")
    expect(page.locator(".middle")).to_contain_text("Here.")
    expect(page.locator(".problem")).to_have_count(1)
    _, thread, stop = serve(port)
    expect(page.locator(".banner")).to_have_text("", timeout=15_000)
    store.append(simple("b", "New."))
    expect(page.locator(".row")).to_have_count(2)
    stop()
    thread.join(20)


# Large rollouts


def test_a_large_rollout_opens_with_its_first_messages_and_becomes_whole(opened: Opener, tmp_path: Path) -> None:
    text = "".join(f"line {number}: the quick brown fox\n" for number in range(40_000))
    messages: list[Message | ToolResult] = [UserMessage("Read all.")]
    for number in range(30):
        messages.append(AssistantMessage(f"Turn {number}.", tool_calls=[ToolCall("read", {}, f"c{number}")]))
        messages.append(ToolResult(text if number == 2 else "y" * 100_000, call_id=f"c{number}"))
    with Recorder(tmp_path / "runs" / "r") as recorder:
        log = recorder.create(id="big")
        for message in messages:
            log.log(message)
    with viewing(tmp_path / "runs") as base:
        page = opened(base=base)
        sizes: list[int] = []

        def noted(answer: Response) -> None:
            if "/api/rollout" in answer.url:
                sizes.append(int(answer.headers["content-length"]))

        page.on("response", noted)
        page.goto(f"{base}/#/rollouts?run=r&sample=big")
        expect(section(page, "Turn 1")).to_be_attached()
        assert sizes
        assert max(sizes) < 2_000_000
        expect(section(page, "Turn 30")).to_be_attached(timeout=20_000)
        expect(page.get_by_text("A large rollout")).to_have_count(0)
        page.get_by_role("button", name=re.compile(f"Show all {len(text):,}")).press("Enter")
        expect(page.get_by_text("line 39999: the quick brown fox")).to_be_attached()
        page.get_by_role("button", name="Raw").click()
        raw = page.locator("pre.raw")
        expect(raw).to_be_attached()
        assert raw.evaluate("node => node.textContent").count(text) == 1


def test_a_stopped_recorder_is_told(opened: Opener, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "night"
    with Recorder(run) as recorder:
        log = recorder.create(id="lost")
        log.log(UserMessage("Anybody there?"))
        (path,) = (run / "running").iterdir()
        data = path.read_text()
        log.log(AssistantMessage("x"), is_finished=True)
    shutil.rmtree(run / "rollouts")
    path.parent.mkdir()
    path.write_text(re.sub(r'"pid":\d+', '"pid":999999999', data))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=night&sample=lost", base=base)
        expect(page.locator(".middle")).to_contain_text("Stopped while running: its recorder is gone. Last written at ")
        expect(section(page, "User")).to_contain_text("Anybody there?")


def test_large_rollouts_are_compared_whole(opened: Opener, tmp_path: Path) -> None:
    with Recorder(tmp_path / "runs" / "r") as recorder:
        for name in ("one", "other"):
            log = recorder.create(id=name, rollout_name=name, group="g", environment="lab", split="train", task_index=1)
            log.log(UserMessage("Read all."))
            for number in range(60):
                place = {"page": number if number < 55 else f"{number} of {name}"}
                log.log(AssistantMessage(f"Turn {number}.", tool_calls=[ToolCall("read", place, f"c{number}")]))
                log.log(ToolResult("y" * 50_000, call_id=f"c{number}"))
            log.close("completed", "finished")
    with viewing(tmp_path / "runs") as base:
        page = opened("#/pair?left=r/one&right=r/other", base=base)
        expect(page.locator(".parting")).to_contain_text("part at turn 56", timeout=20_000)
        page = opened("#/rollouts?run=r&group=g", base=base)
        expect(page.get_by_text("A large rollout, of which these are the first").first).to_be_visible()
