"""A shared file in a real browser: what the page of a server answers, it finds out itself."""

from __future__ import annotations

import pytest
from browser_pages import Opener, complaints, until
from playwright.sync_api import Page, expect
from viewer_runs import simple, training

from openreward_gym.store import RolloutStore
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.page import write_page

ROLLOUTS = 112


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a file of 112 rollouts and one without a step."""
    folder = tmp_path_factory.mktemp("shared")
    training(folder / "runs", steps=7)
    with RolloutStore(folder / "runs" / "plain") as store:
        store.append(simple("plain", f"{'many words ' * 30_000}<b>ne</b>edle **hay** stack"))
    assert write_page(RunIndex([folder / "runs"], folder / "index.sqlite"), folder / "shared.html") == ROLLOUTS + 1
    return f"file://{folder}/shared.html?"


def marked(page: Page) -> tuple[int, list[str]]:
    """Return the number of marked hits, and the text of the selected one."""
    found = page.evaluate(
        """() => [CSS.highlights.get("hit")?.size ?? 0, [...(CSS.highlights.get("hit-now") ?? [])].map(String)]"""
    )
    return found[0], found[1]


def test_the_text_of_all_rollouts_is_searched(opened: Opener, shared: str) -> None:
    page = opened("#/rollouts?run=training", base=shared)
    page.keyboard.press("/")
    page.get_by_role("searchbox").fill('"No such file"')
    page.get_by_role("button", name="Search").click()
    status = page.get_by_role("status")
    expect(status).to_have_text(f"28 hits in 28 rollouts. Searched {ROLLOUTS} rollouts.")
    expect(page.locator(".hits > li")).to_have_count(28)
    expect(page.locator(".hits .where").first).to_have_text("turn 1, Tool result, bash")
    page.get_by_role("searchbox").fill("answer is")
    page.keyboard.press("Enter")
    expect(page.locator(".hits > li")).to_have_count(100)
    page.get_by_role("combobox", name="Run").select_option("All runs")
    expect(page.locator(".hits > li")).to_have_count(100)
    expect(status).to_contain_text(f"Searched {ROLLOUTS + 1} rollouts.")
    page.get_by_role("searchbox").fill("role:tool answer is")
    page.keyboard.press("Enter")
    expect(status).to_contain_text("0 hits in 0 rollouts")
    page.get_by_role("searchbox").fill("nowhere to be found")
    page.keyboard.press("Enter")
    expect(status).to_contain_text("0 hits in 0 rollouts")


def test_from_hit_to_hit_over_rollouts(opened: Opener, shared: str) -> None:
    page = opened(f"#/search?query={'%22No such file%22'}", base=shared)
    page.locator(".hits .hit").first.click()
    bar = page.get_by_role("group", name="Hits")
    status = bar.get_by_role("status")
    expect(status).to_have_text('1 of 1 hit in this rollout, rollout 1 of 28 with "No such file"')
    expect(bar.get_by_role("button", name="Previous hit")).to_be_disabled()
    expect(page.locator(".call.error")).to_be_in_viewport()
    until(lambda: marked(page) == (1, ["No such file"]))
    bar.get_by_role("button", name="Next hit").click()
    expect(status).to_contain_text("rollout 2 of 28")
    expect(page).to_have_title("training 0/1/1 – training")
    for number in range(3, 29):
        page.keyboard.press("n")
        expect(status).to_contain_text(f"rollout {number} of 28")
    expect(bar.get_by_role("button", name="Next hit")).to_be_disabled()
    expect(page.get_by_role("link", name="Discarded rollouts")).to_have_attribute("aria-current", "page")
    page.keyboard.press("N")
    expect(status).to_contain_text("rollout 27 of 28")
    # The key goes from the rollout that is drawn, which is the one before until this title comes.
    expect(page).to_have_title("training 6/2/1 – training")
    expect(page.get_by_role("button", name="Previous sample", exact=True)).to_be_enabled()
    page.keyboard.press("ArrowLeft")
    expect(status).to_have_text('no hit in this rollout; 28 rollouts with "No such file"')
    page.keyboard.press("n")
    expect(status).to_contain_text("rollout 28 of 28")
    bar.get_by_role("button", name="Leave the search").click()
    expect(bar).to_have_count(0)
    until(lambda: marked(page) == (0, []))


def test_a_hit_that_is_far_down_or_folded_is_shown(opened: Opener, shared: str) -> None:
    page = opened("#/search?query=hay", base=shared)
    page.locator(".hits .hit").click()
    until(lambda: marked(page) == (1, ["hay"]))
    until(lambda: bool(page.evaluate(SEEN)))
    page = opened('#/search?query="careful assistant"', base=shared)
    page.locator(".hits .hit").first.click()
    page.get_by_role("button", name="Next hit").click()
    page.get_by_role("button", name="Collapse all").click()
    until(lambda: marked(page) == (0, []))
    page.get_by_role("button", name="Previous hit").click()
    until(lambda: marked(page) == (1, ["careful assistant"]))
    until(lambda: bool(page.evaluate(SEEN)))


SEEN = """() => {
    const [hit] = CSS.highlights.get("hit-now"), place = hit?.getBoundingClientRect(), box = document.querySelector(".middle");
    return Boolean(place?.height) && place.top > box.getBoundingClientRect().top && place.bottom < innerHeight;
}"""


@pytest.mark.parametrize("width", [1280, 400])
def test_everybody_can_search_it(opened: Opener, shared: str, width: int) -> None:
    page = opened("#/search?query=answer is", base=shared, width=width)
    expect(page.locator(".hits li").first).to_be_visible()
    assert complaints(page) == []
    page.locator(".hits .hit").nth(3).click()
    expect(page.get_by_role("group", name="Hits")).to_be_visible()
    assert complaints(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_groups_tasks_and_histograms_are_made_of_the_file(opened: Opener, shared: str) -> None:
    page = opened("#/rollouts?run=training&step=0&group=step0-task0", base=shared)
    expect(page.locator(".completion")).to_have_count(4)
    page.get_by_role("link", name="Divergence").click()
    expect(page.locator(".branches li").first).to_be_visible()
    page = opened("#/rollouts?run=training&step=0&group=step0-task0&sample=training-0-0-1", base=shared)
    expect(page.locator(".siblings")).to_contain_text("2/4")
    page.get_by_role("link", name="Task history").click()
    expect(page.locator(".attempt")).to_have_count(ROLLOUTS // 4)
    page = opened("#/rollouts?run=plain", base=shared)
    expect(page.locator(".chart[data-metric=steps] canvas")).to_be_visible()
