"""The viewer without a mouse: every step is made by keys, the focus is seen and never lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_pages import Opener
from playwright.sync_api import Page, expect
from viewer_serving import viewing
from walk_runs import exams, failing

from openreward_gym.store import read_labels
from openreward_gym.viewer.server import make_extensions

LABELLED = "t9-0-2"

FOCUS = """() => {
  const node = document.activeElement;
  if (!node || node === document.body) return "lost";
  const outline = (one) => [getComputedStyle(one).outlineStyle, parseFloat(getComputedStyle(one).outlineWidth)];
  const seen = (one) => one && outline(one)[0] !== "none" && outline(one)[1] > 0;
  const row = node.closest("[role=row]");
  if (!seen(node) && !seen(row)) return `not seen: ${node.outerHTML.slice(0, 200)}`;
  const { width, height, bottom, top } = (seen(node) ? node : row).getBoundingClientRect();
  if (!width || !height || bottom < 0 || top > innerHeight) return `out of view: ${node.outerHTML.slice(0, 200)}`;
  return "";
}"""
NAME = """() => {
  const node = document.activeElement;
  const text = (one) => (one.getAttribute("aria-label") || one.innerText || one.value || "").trim();
  return text(node) || text(node.closest("label") ?? node);
}"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    failing(folder)
    exams(folder)
    return folder


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    with viewing(folder, extensions=make_extensions()) as url:
        yield url


class Keys:
    """A keyboard. After every key the focus must be somewhere, and seen."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)
        # Two frames, in which what had the focus may go away.
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.check()

    def check(self) -> None:
        self.page.wait_for_function("() => document.activeElement && document.activeElement !== document.body")
        assert self.page.evaluate(FOCUS) == ""

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)
        self.check()

    def tab_to(self, name: str, *, most: int = 60, key: str = "Tab") -> None:
        """Press Tab until what has the focus has this name."""
        seen: list[str] = []
        for _ in range(most):
            self.page.keyboard.press(key)
            assert self.page.evaluate(FOCUS) == "", seen
            seen.append(str(self.page.evaluate(NAME)))
            if re.search(name, seen[-1]):
                return
        raise AssertionError(f"no Tab led to {name!r}: {seen}")


def test_from_the_runs_to_a_labelled_sample_and_back(opened: Opener, served: str, folder: Path) -> None:
    keys = Keys(page := opened(base=served))
    expect(page.get_by_role("link", name="training", exact=True)).to_be_visible()
    keys.tab_to("^To the content$")
    keys.tab_to("^training$")
    keys.press("Enter")
    expect(page).to_have_title("Rollouts of step 13 – training")
    for _ in range(4):
        keys.press("[")
    expect(page).to_have_title("Rollouts of step 9 – training")

    keys.press("f")
    keys.type("errors > 0")
    keys.press("Enter")
    expect(page.locator(".count")).to_have_text("8 samples")
    keys.tab_to("^(↓ |↑ )?reward$")
    keys.press("Enter")
    expect(page).to_have_url(re.compile("sort=-reward"))
    keys.tab_to(r"^Sample\s2$")
    keys.press("ArrowDown")
    expect(page.locator("a.open:focus")).to_have_text("Sample 3")
    keys.press("ArrowUp")
    keys.press("Enter")
    expect(page).to_have_url(re.compile(f"sample={LABELLED}"))
    expect(page.locator(".outcome .reward")).to_have_text("Reward 0.100")

    keys.press("n")
    expect(page.locator(".sample > :focus")).to_have_attribute("data-turn", "1")
    keys.press("n")
    expect(page.locator(".sample > :focus")).to_have_attribute("data-turn", "2")
    keys.press("e")
    expect(page.locator(".call.error:focus")).to_be_in_viewport()
    keys.press("4")
    expect(page.get_by_role("radio", name="4")).to_be_checked()
    keys.press("l")
    keys.type("The index was not there.")
    keys.press("Tab")
    expect(page.locator(".labels")).to_contain_text("2 changes")
    label = read_labels(folder / "training")[LABELLED]
    assert (label.rating, label.note) == (4, "The index was not there.")

    keys.press("Escape")
    expect(page).to_have_title("Group step 9, book 0 of step 9 – training")


def test_search_and_its_hits(opened: Opener, served: str) -> None:
    keys = Keys(page := opened("#/rollouts?run=training&step=9", base=served))
    expect(page.get_by_role("heading", name="Rollouts")).to_be_visible()
    keys.page.keyboard.press("/")
    expect(page.locator("main input[type=search]")).to_be_focused()
    keys.type("ConnectionError")
    keys.press("Enter")
    expect(page.locator(".hits > li").first).to_be_visible()
    keys.tab_to("^step 9, book 0, sample 2$")
    keys.press("Enter")
    expect(page.get_by_role("group", name="Hits")).to_contain_text("1 of 1 hit in this rollout, rollout 1 of 40")
    keys.press("n")
    expect(page.get_by_role("group", name="Hits")).to_contain_text("rollout 2 of 40")
    keys.press("N")
    expect(page.get_by_role("group", name="Hits")).to_contain_text("1 of 1 hit in this rollout, rollout 1 of 40")
    expect(page).to_have_url(re.compile(r"message=\d+&hit=last"))
    page.evaluate("history.back()")  # the browser's own key for it does not reach a page
    expect(page.locator(".hits > li").first).to_be_visible()
    keys.check()


def test_two_runs_a_pair_the_theme_and_the_keys(opened: Opener, served: str) -> None:
    keys = Keys(page := opened(base=served))
    expect(page.get_by_role("link", name="model-a")).to_be_visible()
    keys.tab_to("^Compare model-a$")
    keys.press("Space")
    keys.tab_to("^Compare model-b$", key="Tab")
    keys.press("Space")
    keys.tab_to("^Compare 2 runs$", key="Shift+Tab")
    keys.press("Enter")
    expect(page.locator("table.tasks")).to_be_visible()
    keys.tab_to("^Difference −1.000, Problem 3")
    keys.press("Enter")
    expect(page.locator(".parting")).to_contain_text("part at turn 2")
    keys.check()
    keys.press("n")
    expect(page.locator(".turn-pair:focus")).to_contain_text("Turn 2")

    before = page.evaluate("document.documentElement.dataset.theme")
    keys.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") != before
    keys.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    keys.press("Tab")
    expect(page.get_by_role("dialog", name="Keys").locator(":focus")).to_have_text("Close")
    keys.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_have_count(0)
    expect(page.locator(".turn-pair:focus")).to_contain_text("Turn 2")
