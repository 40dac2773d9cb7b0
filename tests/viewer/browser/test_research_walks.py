"""What a researcher wants to know, from the Runs page on, with the clicks counted: none of the walks takes more than six."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_pages import Opener, complaints
from playwright.sync_api import Page, expect
from viewer_serving import viewing
from walk_runs import FAILS_AT, LOST, STEPS, TASKS, exams, failing

from openreward_gym.viewer.server import make_extensions

UNNOTICED = (STEPS - FAILS_AT) * TASKS * 2
"""The rollouts in which the tool failed and the model did not notice; one of them was discarded."""

COUNT = """
window.walked ??= 0;
document.addEventListener("click", (event) => { if (event.isTrusted && event.detail > 0) window.walked += 1; }, true);
"""


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("walks") / "runs"
    failing(folder)
    exams(folder)
    with viewing(folder, extensions=make_extensions()) as url:
        yield url


class Walk:
    """A page on which the clicks are counted. A field is clicked before it is typed into, which counts as a click."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.evaluate(COUNT)
        expect(page.get_by_role("heading", name="Runs")).to_be_visible()

    def filter(self, text: str) -> None:
        self.page.locator(".sidebar").get_by_role("combobox", name="Filter").click()
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")

    @property
    def clicks(self) -> int:
        return int(self.page.evaluate("window.walked"))


def in_sight(page: Page, text: str) -> None:
    expect(page.locator("main").get_by_text(text, exact=True).first).to_be_in_viewport(ratio=1)


def sample_rows(page: Page):  # type: ignore[no-untyped-def]
    return page.get_by_role("table", name="Samples").locator(".row")


def test_why_did_the_reward_fall_at_step_9(opened: Opener, walked: str) -> None:
    walk = Walk(page := opened(base=walked, width=1440))
    page.get_by_role("link", name="training", exact=True).click()
    chart = page.locator('.charts [data-metric="reward"] .u-over')
    expect(chart).to_be_visible()
    box = chart.bounding_box()
    assert box
    chart.click(position={"x": box["width"] * FAILS_AT / (STEPS - 1), "y": box["height"] / 2})
    expect(page.get_by_role("heading", name="Rollouts")).to_contain_text("step 9")
    expect(page.get_by_role("group", name="Figures of the step")).to_contain_text("Mean reward 0.46")
    expect(page.get_by_role("group", name="Figures of the step")).to_contain_text("−0.3")
    page.get_by_role("button", name="Worst first").click()
    expect(sample_rows(page).first).to_have_attribute("aria-label", re.compile(r"reward 0\.1,"))
    sample_rows(page).first.get_by_role("link").click()
    page.get_by_role("button", name="next error").click()
    in_sight(page, "ConnectionError: the index is not there")
    assert walk.clicks == 5


def test_which_tasks_does_b_lose_and_where_do_the_transcripts_part(opened: Opener, walked: str) -> None:
    walk = Walk(page := opened(base=walked, width=1440))
    page.get_by_role("checkbox", name="Compare model-a").click()
    page.get_by_role("checkbox", name="Compare model-b").click()
    page.get_by_role("link", name="Compare 2 runs").click()
    page.get_by_role("table").filter(has_text="Shared tasks").get_by_role("link", name=str(len(LOST)), exact=True).click()
    tasks = page.locator("table.tasks tbody tr")
    expect(tasks).to_have_count(len(LOST))
    for number, task in enumerate(LOST):
        expect(tasks.nth(number)).to_contain_text(f"Problem {task}")
        expect(tasks.nth(number)).to_contain_text("−1.000")
    tasks.first.get_by_role("link", name="Difference").click()
    expect(page.locator(".parting")).to_contain_text("part at turn 2")
    expect(page.locator(".turn-pair.differing").first).to_be_in_viewport()
    assert walk.clicks == 5


def test_find_every_rollout_where_a_tool_failed_unnoticed(opened: Opener, walked: str) -> None:
    walk = Walk(page := opened(base=walked, width=1440))
    page.get_by_role("link", name="training", exact=True).click()
    walk.filter("unnoticed_errors > 0")
    page.get_by_role("button", name="All steps").click()
    expect(page.locator(".count")).to_have_text(f"{UNNOTICED - 1} samples")
    expect(page.locator(".sidebar .notice")).to_have_text("1 discarded match, too")
    expect(page.get_by_role("table").filter(has_text="Mean reward").locator("tbody tr")).to_have_count(STEPS - FAILS_AT)
    sample_rows(page).first.get_by_role("link").click()
    page.get_by_role("button", name="next error").click()
    in_sight(page, "ConnectionError: the index is not there")
    expect(page.locator(".count")).to_have_text(f"{UNNOTICED - 1} samples")
    assert walk.clicks == 5
    expect(page).to_have_title("Question 0: who wrote the book number 0? – training")
    page.go_back()
    expect(page).to_have_title("Rollouts of all steps – training")
    page.reload()
    expect(page.locator(".count")).to_have_text(f"{UNNOTICED - 1} samples")
    assert complaints(page) == []
    page.locator(".sidebar .notice").get_by_role("link").click()
    expect(page.locator(".count")).to_have_text("1 sample")


def test_hand_these_to_a_colleague(opened: Opener, walked: str, tmp_path: Path) -> None:
    walk = Walk(page := opened(base=walked, width=1440))
    page.get_by_role("link", name="training", exact=True).click()
    walk.filter("unnoticed_errors > 0")
    page.get_by_role("button", name="All steps").click()
    page.get_by_role("checkbox", name=f"Select all {UNNOTICED - 1} samples").click()
    expect(page.get_by_role("region", name="Selected samples")).to_contain_text(f"{UNNOTICED - 1} selected")
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as HTML").click()
    assert walk.clicks == 5
    assert saving.value.suggested_filename == f"training-{UNNOTICED - 1}.html"
    saving.value.save_as(tmp_path / "shared.html")

    file = opened("shared.html#/", base=f"file://{tmp_path}", width=1440)
    walk = Walk(file)
    row = file.get_by_role("row").filter(has=file.get_by_role("link", name="training"))
    expect(row.get_by_role("cell").nth(2)).to_have_text(str(UNNOTICED - 1))
    row.get_by_role("link", name="training").click()
    file.get_by_role("button", name="All steps").click()
    expect(file.locator(".count")).to_have_text(f"{UNNOTICED - 1} samples")
    file.get_by_role("table", name="Samples").get_by_role("button", name="step").click()
    expect(sample_rows(file).first).to_have_attribute("aria-label", re.compile(f"step {STEPS - 1},"))
    file.get_by_role("link", name="Search").click()
    expect(file.locator("main input[type=search]")).to_be_focused()
    file.keyboard.type("ConnectionError")
    file.keyboard.press("Enter")
    expect(file.locator(".hits > li")).to_have_count(UNNOTICED - 1)
    assert walk.clicks == 4
