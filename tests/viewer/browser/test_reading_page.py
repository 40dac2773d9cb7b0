"""Reading one rollout in a real browser: moving about, calls, panes, tokens, time, what is saved."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_pages import Opener, complaints, until
from playwright.sync_api import Page, expect
from reading_runs import ERRORS, PROMPT, TURNS, reading_run, sampled_rollout
from tiny_tokenizer import tiny_tokenizer
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym.store import RolloutStore
from openreward_gym.types import AssistantMessage, Block, ReasoningItem, Rollout, TextBlock, ToolCall, ToolMessage, UserMessage
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.page import write_page
from openreward_gym.viewer.server import make_extensions

LONG = "#/rollouts?run=read&sample=long"
SAMPLED = "#/rollouts?run=read&sample=sampled"

DISTANCE = """selector => {
    const bar = document.querySelector(".samplebar").getBoundingClientRect();
    return document.querySelector(selector).getBoundingClientRect().top - bar.bottom;
}"""


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reading_run(tmp_path_factory.mktemp("read") / "runs", tiny_tokenizer())


@pytest.fixture(scope="module")
def base(read: Path) -> Iterator[str]:
    with viewing(read.parent, extensions=make_extensions(tokenizer=tiny_tokenizer())) as address:
        yield address


@pytest.fixture(scope="module")
def shared(read: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shared")
    write_page(RunIndex([read], folder / "index.sqlite"), folder / "shared.html")
    return f"file://{folder}/shared.html?"


def at_the_bar(page: Page, selector: str) -> None:
    """Wait until the element's top is at the bar's lower edge."""
    until(lambda: abs(page.evaluate(DISTANCE, selector)) <= 3, 30)


def section_of(turn: int) -> str:
    return f'[data-turn="{turn}"]'


def ready(page: Page) -> Page:
    page.context.set_default_timeout(30_000)
    expect(page.locator(".ending")).to_be_attached(timeout=30_000)
    return page


def test_the_outline_leads_to_every_turn(opened: Opener, base: str) -> None:
    page = ready(opened(LONG, base=base))
    expect(page.get_by_text("Outline")).to_contain_text(f"{TURNS} turns")
    expect(page.get_by_role("button", name="next error")).to_contain_text(f"{len(ERRORS)} errors")
    for turn in (TURNS, 1, 151):
        page.get_by_text("Outline").click()
        page.locator(".outline button").nth(turn - 1).click()
        at_the_bar(page, section_of(turn))
        expect(page.locator(".told").first).to_have_text(f"{turn}/{TURNS}")
    page.get_by_text("Outline").click()
    expect(page.locator(".outline [aria-current]")).to_contain_text("151")
    page.get_by_role("checkbox", name="Only turns with errors or rewards").check()
    expect(page.locator(".outline button")).to_have_count(len({*ERRORS, 90, 300}))
    expect(page.locator(".outline button").first).to_have_text(re.compile("^40look.*error$"))


def test_keys_go_to_turns_errors_and_rewards(opened: Opener, base: str) -> None:
    page = ready(opened(LONG, base=base))
    for key, turn in (("n", 1), ("n", 2), ("n", 3), ("p", 2)):
        page.keyboard.press(key)
        at_the_bar(page, section_of(turn))
    for key, turn in (("e", ERRORS[0]), ("e", ERRORS[1]), ("e", ERRORS[2]), ("E", ERRORS[1])):
        page.keyboard.press(key)
        at_the_bar(page, f"{section_of(turn)} .call.error")
    for key, turn in (("r", 300), ("R", 90)):
        page.keyboard.press(key)
        at_the_bar(page, f"{section_of(turn)} .result")
    page.keyboard.press("j")
    at_the_bar(page, section_of(91))
    page.get_by_role("button", name="Collapse all").click()
    page.keyboard.press("e")
    at_the_bar(page, section_of(ERRORS[1]))


def test_the_map_is_a_slider(opened: Opener, base: str) -> None:
    page = ready(opened(LONG, base=base))
    strip = page.get_by_role("slider", name="Turns")
    strip.focus()
    page.keyboard.press("End")
    at_the_bar(page, section_of(TURNS))
    expect(strip).to_be_focused()
    expect(strip).to_have_attribute("aria-valuenow", str(TURNS))
    page.keyboard.press("Home")
    at_the_bar(page, section_of(1))
    page.keyboard.press("ArrowRight")
    at_the_bar(page, section_of(2))
    expect(strip).to_have_attribute("aria-valuetext", re.compile("Turn 2: look"))
    box = strip.bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] * 149.5 / TURNS, box["y"] + 5)
    at_the_bar(page, section_of(150))


def test_the_headline_is_the_prompt_and_the_bar_has_it_once_it_is_out_of_view(opened: Opener, base: str) -> None:
    page = ready(opened(LONG, base=base))
    headline = page.get_by_role("heading", level=1)
    assert PROMPT.startswith((headline.text_content() or "").rstrip("…"))
    lines = headline.evaluate("node => node.getBoundingClientRect().height / parseFloat(getComputedStyle(node).lineHeight)")
    assert round(lines) == 2
    expect(page).to_have_title("nightly-17 – read")
    expect(page.locator(".stuck-title")).to_be_hidden()
    expect(page.locator(".outcome")).to_contain_text("Truncated: max steps")
    page.keyboard.press("n")
    expect(page.locator(".stuck-title")).to_be_visible()
    expect(page.locator(".outcome")).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(page).to_have_title("Group g – read", timeout=30_000)


def test_blocks_and_results_stand_where_they_were_recorded(opened: Opener, tmp_path: Path) -> None:
    answers = [("b", "second result"), ("a", "first result"), ("nobody", "a result without a call")]
    blocks: list[Block] = [
        ReasoningItem("First thought."), TextBlock("I open "), TextBlock("the lid."), ToolCall("open", {"lid": 1}, call_id="a"),
        TextBlock("It is heavy."), ToolCall("open", {"lid": 2}, call_id="b"), ReasoningItem("Last thought."),
    ]  # fmt: skip
    messages = [
        UserMessage("Open both."), AssistantMessage([ToolCall("look", {}, call_id="a")], origin="given"),
        ToolMessage("a result of the prompt", call_id="a"), AssistantMessage(blocks),
        *(ToolMessage(text, call_id=identity) for identity, text in answers),
    ]  # fmt: skip
    RolloutStore(tmp_path / "runs" / "r").append(Rollout(id="a", messages=messages, status="completed"))
    with viewing(tmp_path / "runs") as base:
        page = ready(opened("#/rollouts?run=r&sample=a", base=base))
        text = page.locator(".sample").inner_text()
        order = [
            "look()", "a result of the prompt", "First thought.", "I open the lid.", "lid=1", "first result", "It is heavy.",
            "lid=2", "second result", "Last thought.", "a result without a call",
        ]  # fmt: skip
        places = [text.find(one) for one in order]
        assert places == sorted(places), dict(zip(order, places, strict=True))
        assert -1 not in places
        for one in order[1:2] + order[5:6] + order[8:9] + order[10:]:
            assert text.count(one) == 1
        expect(page.get_by_role("region", name="Tool result", exact=True)).to_contain_text("a result without a call")


def test_a_short_call_is_a_line_that_unfolds(opened: Opener, base: str) -> None:
    page = ready(opened(LONG, base=base))
    call = page.locator(f"{section_of(1)} .call")
    expect(call.locator(".oneline")).to_have_text('look(at="file 1")')
    assert call.locator(".call-head").evaluate("node => node.getBoundingClientRect().height") < 32
    fold = call.get_by_role("button", name="Call of look")
    expect(fold).to_have_attribute("aria-expanded", "false")
    fold.focus()
    page.keyboard.press("Enter")
    expect(call.locator(".arguments dt")).to_have_text("at")
    expect(call.locator(".arguments dd")).to_have_text("file 1")
    expect(call.locator(".id")).to_have_text("c1")
    expect(call.get_by_role("group", name="Result of look")).to_contain_text("a line")


def test_metrics_beyond_six_fold_away(opened: Opener, base: str) -> None:
    page = ready(opened(LONG, base=base))
    expect(page.locator(".rewards .reward")).to_have_count(6)
    page.get_by_role("button", name="8 more metrics").click()
    expect(page.locator(".rewards .reward")).to_have_count(14)


def text_width(page: Page) -> float:
    return float(page.locator(".sample").evaluate("node => node.getBoundingClientRect().width"))


def test_panes_resize_and_close_and_stay_so(opened: Opener, base: str) -> None:
    page = ready(opened(LONG, base=base))
    assert text_width(page) >= 800
    expect(page.locator("aside.charts")).to_have_count(0)
    divider = page.get_by_role("separator", name="Width of the samples")
    before = int(divider.get_attribute("aria-valuenow") or 0)
    divider.press("ArrowLeft")
    expect(divider).to_have_attribute("aria-valuenow", str(before - 24))
    expect(page).to_have_url(re.compile("sample=long"))
    box = divider.bounding_box()
    assert box
    page.mouse.move(box["x"] + 4, 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 4 + 100, 300, steps=4)
    page.mouse.up()
    expect(divider).to_have_attribute("aria-valuenow", str(before + 76))
    width = page.locator(".sidebar").evaluate("node => node.getBoundingClientRect().width")
    assert abs(width - before - 76) <= 1
    divider.press("Home")
    expect(divider).to_have_attribute("aria-valuenow", divider.get_attribute("aria-valuemin") or "")
    page.keyboard.press("m")
    expect(page.locator("aside.charts")).to_be_visible()
    page.keyboard.press("s")
    expect(page.locator(".sidebar")).to_have_count(0)
    page.reload()
    ready(page)
    expect(page.locator(".sidebar")).to_have_count(0)
    expect(page.locator("aside.charts")).to_be_visible()
    page.get_by_role("button", name="Show samples").click()
    expect(page.locator(".sidebar")).to_be_visible()
    page.get_by_role("button", name="Hide metrics").click()
    expect(page.locator("aside.charts")).to_have_count(0)


def test_wide_windows_have_all_three_panes(opened: Opener, base: str) -> None:
    page = ready(opened(LONG, base=base, width=1600))
    expect(page.locator("aside.charts")).to_be_visible()
    assert text_width(page) >= 800


def test_tokens_have_their_text_their_values_and_their_drift(opened: Opener, base: str) -> None:
    page = ready(opened(SAMPLED, base=base))
    expect(page.locator("[data-message='5'] header .badge")).to_have_text("re-rendered")
    page.get_by_role("button", name="Tokens", exact=True).click()
    expect(page).to_have_url(re.compile("view=tokens"))
    turn = page.get_by_role("region", name="Turn 1", exact=True)
    boxes = turn.locator(".token-boxes")
    expect(boxes).to_have_text(re.compile("The harbour ◌◌⚓ is full."))
    expect(boxes).to_have_class(re.compile("trained"))
    expect(boxes.locator(".tok").first).to_have_class("tok p5")
    expect(boxes.locator(".tok").nth(1)).to_have_class("tok p0")
    boxes.focus()
    page.keyboard.press("ArrowRight")
    expect(turn.locator(".token-told")).to_have_text(
        re.compile(r'^Token 0 of 24, "T", id \d+, log-probability −5 \(0\.7 %\), trained$')
    )
    page.keyboard.press("ArrowRight")
    expect(turn.locator(".token-told")).to_contain_text("Token 1 of 24")
    expect(page).to_have_url(re.compile("sample=sampled"))
    boxes.locator(".tok", has_text="⚓").hover()
    expect(turn.locator(".token-told")).to_contain_text('"⚓"')
    expect(page.get_by_role("region", name="Turn 2", exact=True).locator(".badge").filter(has_text="not trained")).to_be_visible()
    drift = "The prompt of turn 3 differs from turns 1–2 as sampled from token "
    expect(page.get_by_role("region", name="Turn 3", exact=True).get_by_role("note")).to_contain_text(drift)
    expect(page.get_by_role("region", name="Tokens", exact=True)).to_contain_text(drift)
    page.get_by_role("button", name="Go to turn 3").click()
    at_the_bar(page, section_of(3))
    page.get_by_role("region", name="Turn 3", exact=True).get_by_text("Prompt:").click()
    expect(page.locator(".prompt-tokens .from-here")).to_have_count(1)


def test_without_a_tokenizer_tokens_are_ids(opened: Opener, shared: str, read: Path) -> None:
    page = ready(opened(f"{SAMPLED}&view=tokens", base=shared))
    recorded = next(one for one in RolloutStore.open(read) if one.id == "sampled").messages[1]
    boxes = page.get_by_role("region", name="Turn 1", exact=True).locator(".token-boxes .tok")
    expect(boxes).to_have_text([str(number) for number in recorded.token_ids or ()])
    expect(page.get_by_role("region", name="Tokens", exact=True)).to_contain_text("--tokenizer MODEL")
    page = ready(opened(LONG, base=shared))
    expect(page.get_by_role("toolbar", name="How the sample is shown").get_by_role("button", name="Tokens")).to_have_count(0)


def test_the_tokens_of_a_large_rollout_come_when_they_are_asked_for(opened: Opener, tmp_path: Path) -> None:
    rollout = sampled_rollout(tiny_tokenizer())
    filler = [ToolMessage("a line\n" * 60_000, call_id=f"f{number}", name="look") for number in range(8)]
    rollout.messages = [*rollout.messages[:3], *filler, *rollout.messages[3:]]
    first, last = rollout.messages[1].sampled, rollout.messages[-1].sampled
    assert first
    assert last
    RolloutStore(tmp_path / "runs" / "read").append(rollout)
    asked: list[str] = []
    with viewing(tmp_path / "runs", extensions=make_extensions(tokenizer=tiny_tokenizer())) as base:
        page = opened("#/", base=base)
        page.on("request", lambda request: asked.append(request.url) if "tokens=1" in request.url else None)
        page.goto(f"{base}/{SAMPLED}")
        ready(page)
        for number, sampled in ((1, first), (3, last)):
            count = page.get_by_role("region", name=f"Turn {number}", exact=True).locator("header .tokens").first
            expect(count).to_have_text(f"{len(sampled.token_ids or ())} tokens")
        assert asked == []
        page.get_by_role("button", name="Tokens", exact=True).click()
        for number, sampled in ((1, first), (3, last)):
            boxes = page.get_by_role("region", name=f"Turn {number}", exact=True).locator(".token-boxes").first
            expect(boxes.locator(".tok")).to_have_count(len(sampled.token_ids or ()))
        expect(page.get_by_role("region", name="Turn 1", exact=True).locator(".token-boxes")).to_have_text(
            re.compile("The harbour ◌◌⚓ is full.")
        )
        assert len(asked) >= 2
        legend = page.get_by_role("region", name="Tokens", exact=True)
        expect(legend).to_contain_text("sampled tokens in 3 of 3 turns, 2 trained")
        expect(legend).to_contain_text("The prompt of turn 3 differs from turns 1–2 as sampled from token ")
        expect(legend.get_by_role("status")).to_have_count(0)


def test_the_time_of_an_episode(opened: Opener, base: str) -> None:
    page = ready(opened(LONG, base=base))
    timing = page.get_by_role("region", name="Time of the episode")
    expect(timing).to_contain_text("Reset 2.0 sPolicy 5 minEnvironment 5 min")
    strip = timing.get_by_role("slider", name="Stretches of time")
    strip.focus()
    expect(strip).to_have_attribute("aria-valuetext", "Reset: 2.0 s")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(strip).to_have_attribute("aria-valuetext", "Turn 1, environment: 1.0 s")
    expect(timing.locator(".told")).to_have_text("Turn 1, environment: 1.0 s")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    at_the_bar(page, section_of(TURNS))
    timing.get_by_text("Time by turn").evaluate("node => node.click()")
    row = timing.get_by_role("row").nth(2)
    expect(row.get_by_role("rowheader")).to_have_text("Turn 2")
    expect(row.get_by_role("cell")).to_have_text(["–", "1.0 s", "1.0 s"])
    page = ready(opened(SAMPLED, base=base))
    expect(page.get_by_role("region", name="Time of the episode")).to_have_count(0)


def test_a_sample_is_copied_and_saved(opened: Opener, base: str, shared: str, read: Path) -> None:
    (line,) = [one for file in (read / "rollouts").glob("*.jsonl") for one in file.read_text().splitlines() if '"sampled"' in one]
    for place in (base, shared):
        page = ready(opened(SAMPLED, base=place))
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        copied: dict[str, str] = {}
        for name in ("text", "Python", "JSON"):
            page.get_by_text("Copy / save").click()
            page.get_by_role("button", name=f"Copy as {name}").click()
            expect(page.locator(".samplebar summary", has_text="Copied")).to_be_visible()
            copied[name] = page.evaluate("navigator.clipboard.readText()")
            expect(page.get_by_text("Copy / save")).to_be_visible()
        assert copied["text"].startswith("<|user|>\nHow many?")
        assert "import asyncio" in copied["Python"]
        assert json.loads(copied["JSON"]) == json.loads(line)
        page.get_by_text("Copy / save").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download JSON").click()
        assert download.value.suggested_filename == "sampled.json"
        text = Path(download.value.path()).read_text()
        assert json.loads(text) == json.loads(line)
        assert text.strip() == line or place == shared


def test_print_has_the_whole_text_and_nothing_else(opened: Opener, base: str) -> None:
    page = ready(opened(LONG, base=base, scheme="dark"))
    page.get_by_role("button", name="Collapse all").click()
    expect(page.locator(section_of(5)).locator(".inside")).to_have_count(0)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    expect(page.locator(section_of(5)).locator(".inside")).to_have_count(1)
    page.emulate_media(media="print")
    for hidden in (".top", ".sidebar", ".bar", ".labels", ".edge"):
        expect(page.locator(hidden).first).to_be_hidden()
    middle = page.locator(".middle")
    assert middle.evaluate("node => node.scrollHeight - node.clientHeight") <= 1
    assert middle.evaluate("node => node.clientHeight") > 50_000
    colours = page.locator("body").evaluate("node => [getComputedStyle(node).color, getComputedStyle(node).backgroundColor]")
    assert colours == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]


def test_the_keys_hold_the_focus_and_give_it_back(opened: Opener, base: str) -> None:
    page = ready(opened(LONG, base=base))
    page.get_by_role("button", name="Keys").click()
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_contain_text("next, previous error")
    for key in ("Tab", "Tab", "Shift+Tab", "n", "e"):
        page.keyboard.press(key)
        assert dialog.evaluate("node => node.contains(document.activeElement)")
    assert page.locator(".middle").evaluate("box => box.scrollTop") == 0
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Keys")).to_be_focused()
    expect(page.get_by_role("article", name="Sample")).to_be_visible()
    page.keyboard.press("?")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


def test_an_error_keeps_its_lines(opened: Opener, tmp_path: Path) -> None:
    error = "Traceback:\n  File 'a.py'\n    x = 1\nValueError"
    store = RolloutStore(tmp_path / "runs" / "r")
    store.append(simple("a", "x", status="error", stop_reason="policy_failed", error=error))
    store.append(Rollout(id="empty", status="cancelled", stop_reason="cancelled", discard_reason="zero_advantage"))
    with viewing(tmp_path / "runs") as base:
        page = ready(opened("#/rollouts?run=r&sample=a", base=base))
        assert page.get_by_label("Error", exact=True).inner_text() == error
        expect(page.locator(".outcome")).to_contain_text("Error: the policy failed")
        page = ready(opened("#/discarded?run=r&sample=empty", base=base))
        expect(page.locator(".sample")).to_contain_text("No messages were recorded.")
        expect(page.locator(".outcome")).to_contain_text("CancelledDiscarded: Zero Advantage")
        expect(page.get_by_role("heading", level=1)).to_have_text("Rollout empty")


@pytest.mark.parametrize("place", ["#/rollouts?run=read&sample=short", f"{SAMPLED}&view=tokens"])
@pytest.mark.parametrize("width", [1440, 400])
def test_everybody_can_read_it(opened: Opener, base: str, place: str, width: int) -> None:
    page = ready(opened(place, base=base, width=width))
    expect(page.get_by_text("Opening…")).to_have_count(0)
    page.keyboard.press("n")
    at_the_bar(page, section_of(1))
    assert complaints(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 400:
        lines = page.locator(".bar-lines").evaluate("node => node.getBoundingClientRect().height")
        assert lines <= 64
        page.get_by_text("Outline").click()
        drop = page.locator(".menu[open] .drop").bounding_box()
        assert drop
        assert drop["x"] >= 0
        assert drop["x"] + drop["width"] <= width
