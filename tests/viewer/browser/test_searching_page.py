"""The search page, and the hits in the rollouts that it opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_pages import Opener, complaints, served_as, until
from playwright.sync_api import Page, expect
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym.store import RolloutStore
from openreward_gym.types import AssistantMessage, ReasoningItem, Rollout, TextBlock, ToolCall, ToolMessage, UserMessage


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    with RolloutStore(folder / "runs" / "first") as store:
        store.append(simple("plain", "nothing of interest"))
        store.append(
            Rollout(
                id="full", name="full", status="error", error="The heron was never found.", group="g", sample=0,
                messages=[
                    UserMessage(content=[TextBlock("Find the heron, and a second heron.")]),
                    AssistantMessage(
                        content=[
                            ReasoningItem(content="A heron is a bird."),
                            ToolCall("heron_finder", {"where": 'say "heron"\nin the reeds'}, "1"),
                        ]
                    ),
                    ToolMessage([TextBlock("x" * 5000 + "\nNo HERON here.")], "1", "heron_finder", True),
                    AssistantMessage(content=[ReasoningItem(summary="No heron at all."), TextBlock("There is none.")]),
                ],
            )
        )  # fmt: skip
    with RolloutStore(folder / "runs" / "second") as store:
        for number in range(3):
            store.append(simple(f"s{number}", f"heron number {number}", name=f"s{number}"))
    return folder


@pytest.fixture(scope="module", params=["server", "file"])
def base(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    with served_as(request.param, folder) as address:
        yield address


def now(page: Page) -> list[str]:
    """Return the text of the marked hit that is the current one, if it is in sight."""
    found: list[str] = page.evaluate(
        """() => [...(CSS.highlights.get("hit-now") ?? [])].filter(hit => {
            const place = hit.getBoundingClientRect()
            return place.height && place.top >= 0 && place.bottom <= innerHeight
        }).map(String)"""
    )
    return found


def until_now(page: Page, text: str) -> None:
    until(lambda: now(page) == [text])


def test_all_runs_are_searched_and_one_is_chosen_without_hits(opened: Opener, base: str) -> None:
    page = opened("#/search", base=base)
    page.get_by_role("searchbox").fill("heron")
    page.keyboard.press("Enter")
    status = page.get_by_role("status")
    expect(status).to_have_text("11 hits in 4 rollouts. Searched 5 rollouts.")
    full = page.locator(".hits > li").filter(has_text="full")
    expect(full).to_contain_text("8 hits in 5 messages")
    expect(full.locator(".where")).to_have_text(["Error", "User · 2 hits", "turn 1, Reasoning · 3 hits"])
    expect(full.locator(".more")).to_contain_text("2 more messages")
    page.get_by_role("combobox", name="Run").select_option("second")
    expect(status).to_have_text("3 hits in 3 rollouts. Searched 3 rollouts.")
    page.get_by_role("searchbox").fill("nowhere")
    page.keyboard.press("Enter")
    expect(status).to_contain_text("0 hits")
    page.get_by_role("combobox", name="Run").select_option("All runs")
    expect(status).to_contain_text("Searched 5 rollouts")


def test_role_tool_and_errors_are_controls_that_write_the_query(opened: Opener, base: str) -> None:
    page = opened("#/search?query=heron", base=base, allowed="400")
    box = page.get_by_role("searchbox")
    page.get_by_role("checkbox", name="Errors only").check()
    expect(box).to_have_value("is:error heron")
    expect(page.get_by_role("status")).to_have_text("2 hits in 1 rollout. Searched 1 rollout." if "file" not in base else
                                                    "2 hits in 1 rollout. Searched 5 rollouts.")  # fmt: skip
    page.get_by_role("combobox", name="Role").select_option("Tool result")
    expect(box).to_have_value("is:error role:tool heron")
    expect(page.locator(".hits mark")).to_have_text(["HERON"])
    page.get_by_role("combobox", name="Role").select_option("Any")
    page.get_by_role("checkbox", name="Errors only").uncheck()
    page.get_by_role("link", name="Reasoning 2", exact=True).click()
    expect(box).to_have_value("role:reasoning heron")
    expect(page.get_by_role("status")).to_contain_text("2 hits in 1 rollout.")
    box.fill("role:nobody")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("the roles are system, user")


def test_every_hit_of_a_rollout_is_reached_by_key(opened: Opener, base: str) -> None:
    page = opened("#/search?query=heron", base=base)
    page.get_by_role("link", name="Find the").click()
    status = page.get_by_role("group", name="Hits").get_by_role("status")
    expect(status).to_contain_text("2 of 8 hits in this rollout")
    texts = ["heron", "heron", "heron", "heron", "heron", "HERON", "heron"]
    for number, text in enumerate(texts, 2):
        expect(status).to_contain_text(f"{number} of 8 hits")
        until_now(page, text)
        page.keyboard.press("n")
    expect(page).to_have_title("s0 – second")
    expect(page.get_by_role("heading", level=1)).to_have_text("What do you say?")
    expect(status).to_contain_text("1 of 1 hit in this rollout, rollout 2 of 4")
    page.keyboard.press("N")
    expect(status).to_contain_text("8 of 8 hits in this rollout")
    for number in range(7, 0, -1):
        page.keyboard.press("N")
        expect(status).to_contain_text(f"{number} of 8 hits")
    until(lambda: now(page) == ["heron"])
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_have_value("heron")
    expect(page.get_by_role("status")).to_contain_text("in 4 rollouts")


def test_keys_that_come_before_the_page_is_drawn_again_skip_no_hit(opened: Opener, base: str) -> None:
    page = opened("#/search?query=heron", base=base)
    page.get_by_role("link", name="Find the").click()
    status = page.get_by_role("group", name="Hits").get_by_role("status")
    expect(status).to_contain_text("2 of 8 hits in this rollout")
    until_now(page, "heron")
    press = """count => {
        for (; count > 0; count--) document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "n", bubbles: true}))
    }"""
    page.evaluate(press, 5)
    expect(status).to_contain_text("7 of 8 hits in this rollout, rollout 1 of 4")
    until_now(page, "HERON")
    # The first of these leads to the last hit, the second to another rollout, whose hits are not known to the third.
    page.evaluate(press, 3)
    expect(status).to_contain_text("1 of 1 hit in this rollout, rollout 2 of 4")


@pytest.mark.parametrize("expression", ["her[o]n number 1", "(?i)HERON NUMBER 1"])
def test_matches_of_an_expression_are_marked(opened: Opener, folder: Path, expression: str) -> None:
    with viewing(folder / "runs") as base:
        page = opened("#/search", base=base)
        page.get_by_role("searchbox").fill(expression)
        page.get_by_role("checkbox", name="Regular expression").check()
        page.locator(".hits .hit").click()
        until(lambda: now(page) == ["heron number 1"])


@pytest.mark.parametrize("place", ["#/search", "#/search?query=heron"])
def test_everybody_can_search(opened: Opener, base: str, place: str) -> None:
    page = opened(place, base=base)
    expect(page.locator(".examples li, .hits > li").first).to_be_visible()
    assert complaints(page) == []
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_escaped_text_is_marked(opened: Opener, base: str) -> None:
    page = opened("#/search?query=role:assistant+reeds", base=base)
    page.locator(".hits .hit").click()
    until(lambda: now(page) == ["reeds"])


def test_a_long_search_goes_on_by_itself_and_is_stopped(opened: Opener, tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "runs" / "one") as store:
        for number in range(1_300):
            store.append(simple(f"r{number}", "a heron"))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/search?query=heron", base=base)
        status = page.get_by_role("status")
        expect(status).to_have_text("500 hits in 500 rollouts. Searched 500 of 1,300 rollouts.")
        page.get_by_role("button", name="Continue the search").click()
        expect(status).to_have_text("1,000 hits in 1,000 rollouts. Searched 1,000 of 1,300 rollouts.")
        page.get_by_role("button", name="Continue the search").click()
        expect(status).to_have_text("1,300 hits in 1,300 rollouts. Searched 1,300 rollouts.")
