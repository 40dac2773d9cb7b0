"""The pages that compare: runs task by task, two rollouts side by side, and the samples of a group."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_pages import Opener, complaints, served_as, until
from compared_runs import TASKS, compared
from playwright.sync_api import Locator, Page, expect
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym.store import RolloutStore
from openreward_gym.types import AssistantMessage, TextBlock, ToolCall, ToolMessage, UserMessage

COMPARE = "#/compare?runs=older,newer"
DIFFERS = "() => [...(CSS.highlights.get('differs') ?? [])].map(String)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    compared(folder / "runs")
    return folder


@pytest.fixture(scope="module", params=["server", "file"])
def base(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """The address of a server, and of a file with the same runs."""
    with served_as(request.param, folder) as address:
        assert request.param == "server" or str(folder).encode() not in (folder / "shared.html").read_bytes()
        yield address


def rows(page: Page) -> Locator:
    return page.locator(".tasks tbody tr")


def test_from_the_runs_to_where_the_transcripts_part_in_five_clicks(opened: Opener, base: str) -> None:
    page = opened("#/", base=base)
    page.get_by_role("checkbox", name="Compare newer").check()
    page.get_by_role("checkbox", name="Compare older").check()
    page.get_by_role("link", name="Compare 2 runs").click()
    # The base is the first run of the list; `newer` is worse in one task, and better in two.
    first = page.locator(".figures tbody th").first.inner_text()
    losing = "Worse" if first.startswith("older") else "Better"
    column = page.locator(".differences thead th").all_inner_texts().index(losing)
    page.locator(".differences tbody tr").first.locator("th, td").nth(column).get_by_role("link").click()
    expect(rows(page)).to_have_count(1)
    rows(page).get_by_role("link", name="side by side").first.click()
    expect(page.locator("main").get_by_role("status")).to_have_text(
        "The transcripts part at turn 2: other arguments of read: path."
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("Question 3: which version is it?")
    expect(page.get_by_role("region", name="Turn 2")).to_be_in_viewport()


def test_the_tasks_are_sorted_filtered_and_paged(opened: Opener, base: str) -> None:
    page = opened(COMPARE, base=base)
    pages = page.locator(".pages [role=status]")
    expect(pages).to_have_text(f"1–100 of {TASKS} tasks")
    expect(page.get_by_role("columnheader", name="Size")).to_have_attribute("aria-sort", "descending")
    expect(rows(page).nth(2).locator("td").last).to_have_text("0.500")
    expect(rows(page).nth(3).locator("td").last).to_have_text("0.000")
    page.get_by_role("button", name="Next page").click()
    expect(pages).to_have_text(f"101–{TASKS} of {TASKS} tasks")
    page.get_by_role("columnheader", name="Difference").get_by_role("button").click()
    expect(pages).to_have_text(f"1–100 of {TASKS} tasks")
    expect(rows(page).first.locator("td").nth(2)).to_have_text("+0.500")
    page.get_by_role("columnheader", name="Difference").get_by_role("button").click()
    expect(rows(page).first.locator("td").nth(2)).to_have_text("−0.500")
    expect(rows(page).first.locator("th")).to_contain_text("Question 3")
    assert "order=difference" in page.url
    show = page.get_by_role("combobox", name="Show")
    show.select_option("newer better")
    expect(rows(page)).to_have_count(2)
    show.select_option("They differ")
    expect(rows(page)).to_have_count(3)
    show.select_option("In one run only (1)")
    expect(rows(page)).to_have_count(1)
    expect(rows(page).first).to_contain_text(f"Question {TASKS}")
    show.select_option(f"All shared tasks ({TASKS})")
    page.get_by_role("searchbox", name="Prompt").fill("question 12:")
    expect(rows(page)).to_have_count(1)


def test_any_run_is_made_the_base(opened: Opener, base: str) -> None:
    page = opened(COMPARE, base=base)
    against = page.locator(".differences tbody tr")
    expect(against).to_contain_text("newer")
    expect(against.locator("td").first).to_have_text("+0.004")
    page.get_by_role("link", name="make base").click()
    expect(page).to_have_url(re.compile("runs=newer%2Colder"))
    expect(against.locator("td").first).to_have_text("−0.004")
    expect(page.get_by_role("heading", name="Difference from newer")).to_be_visible()


def test_two_rollouts_turn_by_turn(opened: Opener, base: str) -> None:
    page = opened("#/pair?left=older/older-3-1&right=newer/newer-3-0", base=base)
    expect(page.locator("main").get_by_role("status")).to_have_text(
        "The transcripts part at turn 2: other arguments of read: path."
    )
    folded = page.locator("summary", has_text="Turn 1 is the same in meaning")
    expect(folded).to_contain_text("turn 1: same call, written differently; other reasoning")
    folded.click()
    expect(page.get_by_role("region", name="Turn 1")).to_contain_text("I look, older.")
    left, right = page.get_by_role("region", name="Left rollout"), page.get_by_role("region", name="Right rollout")
    expect(left).to_contain_text("Reward 1")
    expect(right).to_contain_text("Reward 0")
    expect(left).to_contain_text("Finished with a message")
    expect(left).to_contain_text("103 tokens")
    expect(left).to_contain_text("12.0 s")
    until(lambda: {"README", "setup"} <= set(page.evaluate(DIFFERS)))
    expect(page.locator("summary", has_text="The prompts are the same")).to_be_visible()
    right.get_by_role("combobox").select_option("newer: sample 1, reward 1")
    expect(page.locator("main").get_by_role("status")).to_have_text(
        "The transcripts are the same in meaning; one turn is written differently."
    )
    assert "right=newer%2Fnewer-3-1" in page.url


def test_from_difference_to_difference_by_key(opened: Opener, base: str) -> None:
    page = opened("#/pair?left=older/older-3-1&right=newer/newer-3-0", base=base)
    expect(page.get_by_role("region", name="Turn 3")).to_be_attached()
    page.set_viewport_size({"width": 1280, "height": 420})
    page.evaluate("document.querySelector('.pairing').scrollTop = 0")
    for key, turn in (("n", 2), ("n", 3), ("p", 2)):
        page.keyboard.press(key)
        expect(page.get_by_role("region", name=f"Turn {turn}")).to_be_focused()
    page.get_by_role("button", name="Next difference").click()
    expect(page.get_by_role("region", name="Turn 3")).to_be_focused()


@pytest.mark.parametrize("place", ["#/pair?left=older/older-3-1&right=newer/newer-3-0", COMPARE])
def test_everybody_can_compare(opened: Opener, base: str, place: str) -> None:
    page = opened(place, base=base)
    expect(page.locator(".turn-pair, .tasks tbody tr").first).to_be_visible()
    assert complaints(page) == []
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    if "pair" in place:
        turn = page.get_by_role("region", name="Turn 2")
        expect(turn.get_by_text("version 2")).to_be_visible()
        expect(turn.get_by_text("no such key")).to_be_hidden()
        page.get_by_role("button", name="Right: newer").click()
        expect(turn.get_by_text("no such key")).to_be_visible()
        expect(turn.get_by_text("version 2")).to_be_hidden()
        assert complaints(page) == []


def test_cells_say_what_they_are(opened: Opener, base: str) -> None:
    page = opened(f"{COMPARE}&order=difference", base=base)
    cell = rows(page).first.get_by_role("link", name="0.500 ×2, mean reward of newer in Question 3: which version is it?; side")
    expect(cell).to_be_visible()
    cell.press("Enter")
    expect(page.locator("main").get_by_role("status")).to_contain_text("part at turn 2")
    page.get_by_role("link", name="Compare runs").click()
    expect(rows(page).first).to_be_visible()


def test_a_group_has_its_prompt_its_given_turns_and_all_samples(opened: Opener, tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "runs" / "many") as store:
        for sample in range(20):
            one = simple(f"r{sample:02d}", "x", sample=sample, reward=sample / 20)
            one.messages[1:] = [
                AssistantMessage(content=[TextBlock("Given before.")], origin="given"),
                UserMessage(content=[TextBlock("And now?")]),
            ]
            for turn in range(25):
                one.messages += [
                    AssistantMessage(content=[ToolCall("look", {"n": f"`{turn}`"}, f"c{turn}"), TextBlock(f"after call {turn}")]),
                    ToolMessage([TextBlock(f"seen {turn}")], f"c{turn}"),
                ]
            store.append(one)
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=many&step=none&group=g", base=base)
        prompt = page.get_by_role("region", name="Prompt", exact=True)
        expect(prompt.locator(".kind")).to_have_text(["User", "Assistant, given history", "User"])
        expect(page.locator(".completion")).to_have_count(16)
        first = page.locator(".completion").first
        expect(first).to_contain_text("`0`")
        expect(first.locator(".said").first).to_have_css("white-space-collapse", "collapse")
        text = first.inner_text()
        assert text.index("`0`") < text.index("after call 0")
        expect(first).not_to_contain_text("seen 24")
        first.get_by_role("button", name="Show all 25 turns").click()
        expect(first).to_contain_text("seen 24")
        page.get_by_role("button", name="Next samples").click()
        expect(page.locator(".completion")).to_have_count(4)
        page.get_by_role("combobox", name="Order").select_option("best first")
        expect(page.locator(".completion h2").first).to_have_text("Sample 19")
        page.get_by_role("link", name="Compare Sample 19 with another").click()
        expect(page.locator("main").get_by_role("status")).to_have_text("The transcripts are the same.")
        expect(page.get_by_role("region", name="Right rollout")).to_contain_text("Reward 0")


def test_a_rollout_is_compared_with_one_of_another_run(opened: Opener, base: str) -> None:
    page = opened("#/rollouts?run=newer&step=none&group=q3&sample=newer-3-0", base=base)
    page.get_by_role("article", name="Sample").get_by_role("link", name="Compare", exact=True).click()
    right = page.get_by_role("region", name="Right rollout")
    expect(right).to_contain_text("Reward 1")
    expect(page.get_by_role("region", name="Left rollout").get_by_role("combobox")).to_have_value("newer/newer-3-0")
    right.get_by_role("combobox").select_option("older: sample 1, reward 1")
    expect(page.locator("main").get_by_role("status")).to_contain_text("part at turn 2")
    page.get_by_role("link", name="Task history").click()
    expect(page.locator(".attempt")).to_have_count(4)
    page.get_by_role("link", name="Compare two attempts").click()
    expect(page.locator("main").get_by_role("status")).to_contain_text("part at turn 2")
    expect(page.get_by_role("region", name="Right rollout")).to_contain_text("Reward 0")


def test_a_pair_of_much_text_is_shown(opened: Opener, tmp_path: Path) -> None:
    for name in ("a", "b"):
        with RolloutStore(tmp_path / "runs" / name) as store:
            store.append(simple("r", f"{'many words ' * 20_000}{name}{' and more' * 20_000}", reward=1.0))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/pair?left=a/r&right=b/r", base=base)
        expect(page.locator("main").get_by_role("status")).to_have_text("The transcripts part at turn 1: another text.")
        until(lambda: page.evaluate(DIFFERS) == ["a", "b"])


def test_what_is_not_there_is_said(opened: Opener, folder: Path) -> None:
    with viewing(folder / "runs") as base:
        page = opened("#/pair?left=older/nobody&right=newer/newer-3-0", base=base, allowed="404")
        expect(page.get_by_role("alert")).to_contain_text("no such rollout")
        page = opened("#/pair?runs=older,newer&task=q130", base=base)
        expect(page.locator(".empty")).to_have_text("There is only one attempt at this task.")
        page = opened("#/nonsense", base=base)
        expect(page.get_by_role("heading", level=1)).to_have_text("There is no page “nonsense”")
