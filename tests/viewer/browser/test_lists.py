"""The lists: their order and their end, steps and groups that are missing, filters, and what is done with many rollouts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from browser_pages import Opener, complaints, until
from playwright.sync_api import Page, expect
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym.store import RolloutStore, read_labels
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.page import write_page
from openreward_gym.viewer.server import make_extensions

GROUPS, SAMPLES = 300, 3
ODD = 'say "hi" [$.x]'


@pytest.fixture(scope="module")
def runs_of_lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: `exam` without steps, `steps` whose last step is all discarded, `odd` with metrics of odd names."""
    folder = tmp_path_factory.mktemp("lists") / "runs"
    with RolloutStore(folder / "exam") as store:
        for task in range(GROUPS):
            for sample in range(SAMPLES):
                reward = 0.99 if task == 217 else (task % 7) / 10 + sample / 100
                store.append(simple(f"e{task}-{sample}", "x", group=f"task {task:03d}", sample=sample, reward=reward))
    with RolloutStore(folder / "steps") as store:
        for step in range(3):
            for sample in range(4):
                reason = "zero_advantage" if step == 2 else None
                name = f"s{step}-{sample}"
                store.append(simple(name, name, group=f"of {step}", sample=sample, step=step, reward=1.0, discard_reason=reason))
    with RolloutStore(folder / "odd") as store:
        for sample in range(4):
            metrics = {ODD: float(sample), "steps": 10.0 + sample, "größe": 0.5}
            store.append(simple(f"o{sample}", "x", sample=sample, reward=sample / 4, metrics=metrics))
    return folder


@pytest.fixture(scope="module")
def served(runs_of_lists: Path):  # type: ignore[no-untyped-def]
    with viewing(runs_of_lists, extensions=make_extensions(), allow_export=True) as url:
        yield url


def head(page: Page, name: str):  # type: ignore[no-untyped-def]
    return page.get_by_role("table", name="Samples").get_by_role("columnheader", name=name, exact=True)


def first_group(page: Page) -> str:
    return page.locator(".group .about span").first.inner_text()


def test_a_list_sorts_by_its_heads_and_the_address_keeps_it(opened: Opener, served: str) -> None:
    page = opened("#/rollouts?run=exam", base=served)
    expect(page.locator(".groups")).to_have_text("300 groups,")
    expect(page.locator(".count")).to_have_text("900 samples")
    assert first_group(page) == "task 000"
    expect(head(page, "reward")).to_have_attribute("aria-sort", "none")
    head(page, "reward").get_by_role("button").click()
    expect(page.locator(".group .about").first).to_contain_text("task 217")
    expect(page).to_have_url(re.compile("sort=-reward"))
    expect(head(page, "reward")).to_have_attribute("aria-sort", "descending")
    expect(page.locator(".card .reward").first).to_have_text("Mean 0.990")
    page.reload()
    expect(page.locator(".group .about").first).to_contain_text("task 217")
    head(page, "reward").get_by_role("button").click()
    expect(head(page, "reward")).to_have_attribute("aria-sort", "ascending")
    expect(page.locator(".row .dot").first).to_have_text("0.00")
    head(page, "reward").get_by_role("button").click()
    expect(page.locator(".group .about").first).to_contain_text("task 000")
    page.get_by_role("button", name="Flat").click()
    expect(page.locator(".group")).to_have_count(0)
    expect(page.get_by_role("rowheader").first).to_have_text(re.compile("task 000 · 0"))


def test_the_end_of_a_list_and_a_sample_in_its_middle_are_reached(opened: Opener, served: str) -> None:
    page = opened("#/rollouts?run=exam", base=served)
    expect(page.locator(".count")).to_have_text("900 samples")
    assert page.locator(".item").count() < 80
    page.locator(".virtual").evaluate("box => { box.scrollTop = box.scrollHeight }")
    expect(page.locator(".group", has_text="task 299")).to_be_visible()
    page.locator(".virtual").evaluate("box => { box.scrollTop = 0 }")
    expect(page.locator(".group", has_text="task 000")).to_be_visible()
    page = opened("#/rollouts?run=exam&sample=e250-1", base=served)
    expect(page.locator(".row.current")).to_be_in_viewport()
    expect(page.locator(".row.current")).to_have_attribute("aria-label", re.compile("^sample 1, reward 0.51, "))
    page = opened("#/rollouts?run=exam", base=served)
    expect(page.locator(".card")).to_have_count(48)
    expect(page.locator(".pages")).to_contain_text("Groups 1 to 48 of 300")
    page.locator(".pages").get_by_role("link", name="Last").click()
    expect(page.locator(".pages")).to_contain_text("Groups 289 to 300 of 300")
    expect(page.locator(".card")).to_have_count(12)


def test_a_missing_step_is_said_to_be_missing(opened: Opener, served: str) -> None:
    page = opened("#/rollouts?run=steps&step=11", base=served)
    expect(page.locator(".middle")).to_contain_text("There is no step 11 in this run; steps go from 0 to 2.")
    expect(page.locator(".row")).to_have_count(0)
    page.locator(".middle").get_by_role("link", name="Open step 2").click()
    expect(page.get_by_role("textbox", name="Step")).to_have_value("2")
    page.goto(page.url.split("#")[0] + "#/rollouts?run=exam&step=4")
    expect(page.locator(".middle")).to_contain_text("There is no step 4 in this run; its rollouts have no steps.")


def test_a_step_of_discarded_rollouts_is_a_step(opened: Opener, served: str) -> None:
    page = opened("#/rollouts?run=steps", base=served)
    expect(page.get_by_role("textbox", name="Step")).to_have_value("2")
    expect(page.locator(".middle")).to_contain_text("All 4 rollouts of step 2 were discarded.")
    expect(page).to_have_url(re.compile("step=2"))
    page.locator(".middle").get_by_role("link", name="Open the discarded rollouts").click()
    expect(page.locator(".row")).to_have_count(4)
    numbers = page.get_by_role("table", name="Discarded rollouts in numbers")
    expect(numbers.get_by_role("row")).to_contain_text(["", "Discarded", "Zero Advantage", "rewards equal", "got 0", "got 1"])
    expect(numbers.get_by_role("row", name="Discarded, of all rollouts")).to_contain_text("4 100 %")
    expect(numbers.get_by_role("row", name="Discarded, of all rollouts")).to_contain_text("4 33.3 %")
    page.get_by_role("button", name="Previous step").click()
    expect(page.locator(".middle")).to_contain_text("No rollout of step 1 was discarded.")


def test_a_group_keeps_its_step_when_the_next_one_comes(opened: Opener, tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "live")
    for step in range(2):
        for sample in range(2):
            store.append(simple(f"l{step}-{sample}", f"said {step}-{sample}", group=f"g{step}", sample=sample, step=step))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=live&group=g1", base=base)
        expect(page).to_have_url(re.compile("step=1"))
        expect(page.locator(".completion")).to_have_count(2)
        store.append(simple("l2-0", "said 2-0", group="g2", sample=0, step=2))
        expect(page.get_by_role("link", name="Step 2 has arrived")).to_be_visible()
        expect(page.locator(".completion")).to_have_count(2)
        expect(page.locator(".middle")).to_contain_text("said 1-0")
        page.get_by_role("link", name="Step 2 has arrived").click()
        expect(page.get_by_role("textbox", name="Step")).to_have_value("2")
        expect(page.get_by_role("link", name="Step 2 has arrived")).to_have_count(0)
        page.goto(f"{base}/#/rollouts?run=live&group=g0")
        expect(page).to_have_url(re.compile("step=0"))
        page.goto(f"{base}/#/rollouts?run=live&group=g0&step=1")
        expect(page.locator(".middle")).to_contain_text("There is no group g0 in step 1 of this run.")
        page.get_by_role("link", name="Open it in step 0").click()
        expect(page.locator(".completion")).to_have_count(2)
        page.goto(f"{base}/#/rollouts?run=live&group=nobody")
        expect(page.locator(".middle")).to_contain_text("There is no group nobody in this run.")


def test_a_list_stays_at_its_step_when_the_next_one_comes(opened: Opener, tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "live")
    store.append(simple("a", "x", step=0))
    store.append(simple("b", "x", step=1))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=live", base=base)
        expect(page).to_have_url(re.compile("step=1"))
        store.append(simple("c", "x", step=2))
        expect(page.get_by_role("link", name="Step 2 has arrived")).to_be_visible()
        expect(page.get_by_role("textbox", name="Step")).to_have_value("1")
        expect(page.locator(".row .open")).to_have_attribute("href", re.compile("sample=b"))


def test_a_filter_knows_its_fields_and_keeps_what_is_open(opened: Opener, served: str) -> None:
    page = opened("#/rollouts?run=odd", base=served, allowed="400")
    box = page.locator(".sidebar").get_by_role("combobox", name="Filter")
    said = page.locator(".sidebar").get_by_role("alert")
    for wrong, hint in (
        ("rewrad > 1", "no field or metric `rewrad` in this run. Did you mean `reward`?"),
        ("metric.grösse > 1", "no metric `grösse` in this run. Did you mean `größe`?"),
        ("zzzz == 1", "no field or metric `zzzz` in this run."),
    ):
        box.fill(wrong)
        box.press("Enter")
        expect(said).to_contain_text(hint)
    box.fill("")
    box.press_sequentially("say")
    page.locator(".sidebar [role=option]", has_text=r'metric."say \"hi\" [$.x]"').click()
    expect(box).to_have_value(r'metric."say \"hi\" [$.x]" ')
    box.press_sequentially(">= 2")
    box.press("Enter")
    expect(page.locator(".count")).to_have_text("2 samples")
    expect(said).to_have_count(0)
    page.locator(".row .open").first.click()
    expect(page.get_by_role("article", name="Sample")).to_be_visible()
    box.fill("metric.steps > 90")
    box.press("Enter")
    expect(page.locator(".sidebar .empty").last).to_have_text("No sample matches the filter.")
    expect(page.get_by_role("article", name="Sample")).to_be_visible()


def test_matches_in_other_steps_are_named(opened: Opener, served: str) -> None:
    page = opened("#/rollouts?run=steps&step=0&filter=sample > 1", base=served)
    expect(page.locator(".count")).to_have_text("2 samples")
    expect(page.locator(".sidebar .notice")).to_have_text("4 match in 2 steps; also in step 1 (2). List all, and 2 discarded")
    page.locator(".sidebar .notice").get_by_role("link", name="step 1").click()
    expect(page.get_by_role("textbox", name="Step")).to_have_value("1")
    expect(page.locator(".row")).to_have_count(2)
    assert complaints(page) == []


def test_metrics_of_any_name_are_columns(opened: Opener, served: str) -> None:
    page = opened("#/rollouts?run=odd", base=served)
    page.get_by_text("Columns", exact=True).click()
    for name in (ODD, "größe", "duration", "unnoticed errors"):
        page.get_by_role("checkbox", name=name, exact=True).check()
    page.keyboard.press("Escape")
    head(page, ODD).get_by_role("button").click()
    row = page.get_by_role("row", name=re.compile("^sample 3, "))
    expect(page.locator(".row").first).to_have_attribute("aria-label", re.compile("^sample 3, "))
    expect(row).to_have_attribute("aria-label", re.compile(re.escape(f"{ODD} 3, größe 0.5")))
    expect(row.get_by_role("cell").last).to_have_text("0.50")
    assert page.locator(".heads").evaluate("box => box.scrollWidth > box.clientWidth"), "they do not all fit"
    page.locator(".virtual").evaluate("box => { box.scrollLeft = 150 }")
    until(lambda: page.locator(".heads").evaluate("box => box.scrollLeft") == 150)
    page.reload()
    expect(head(page, "größe")).to_have_count(1)


def test_many_are_selected_and_labelled(opened: Opener, tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "runs" / "r") as store:
        for number in range(30):
            store.append(simple(f"r{number:02d}", "x", group=f"g{number // 5}", sample=number % 5, reward=number / 30))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=r&flat=1", base=base)
        boxes = page.locator(".row .pick input")
        boxes.nth(2).check()
        boxes.nth(6).click(modifiers=["Shift"])
        bar = page.get_by_role("region", name="Selected samples")
        expect(bar).to_contain_text("5 selected")
        boxes.nth(4).uncheck()
        expect(bar).to_contain_text("4 selected")
        bar.get_by_text("Label…").click()
        form = page.get_by_role("form", name="Label the selected samples")
        form.get_by_label("Rating").select_option("4")
        form.get_by_label("Add tags").fill("good, short")
        form.get_by_role("button", name="Label 4").click()
        expect(form.get_by_role("status")).to_have_text("4 rollouts labelled.")
        labels = read_labels(tmp_path / "runs" / "r")
        assert sorted(labels) == ["r02", "r03", "r05", "r06"]
        assert {(label.rating, label.tags) for label in labels.values()} == {(4, ("good", "short"))}
        page.keyboard.press("Escape")
        page.get_by_role("checkbox", name="Select all 30 samples").check()
        expect(bar).to_contain_text("30 selected")
        bar.get_by_role("button", name="Clear").click()
        expect(bar).to_have_count(0)
        page.get_by_role("button", name="Flat").click()
        page.get_by_role("checkbox", name="Select group g3").check()
        expect(bar).to_contain_text("5 selected")
        assert complaints(page) == []


def test_the_selection_is_exported_and_handed_on(opened: Opener, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "r"
    with RolloutStore(folder) as store:
        for number in range(10):
            store.append(simple(f"r{number}", f"said {number}", group="g", sample=number, reward=number / 10))
    with viewing(tmp_path / "runs", extensions=make_extensions(), allow_export=True) as base:
        page = opened("#/rollouts?run=r&filter=reward>0.55", base=base)
        expect(page.locator(".count")).to_have_text("4 samples")
        page.get_by_role("checkbox", name="Select all 4 samples").check()
        bar = page.get_by_role("region", name="Selected samples")
        bar.get_by_text("Export…").click()
        form = page.get_by_role("group", name="Export the selected samples")
        where = "(reward>0.55) and step == none and discarded == false"
        command = f"openreward-gym export {folder} --format sft --filter '{where}'"
        expect(form.get_by_label("Command", exact=True)).to_have_text(command)
        form.get_by_role("button", name="Run it").click()
        expect(form.get_by_role("status")).to_contain_text("sft: 4 rows from 4 of 10 rollouts", timeout=90_000)
        assert json.loads((folder / "export" / "report.json").read_text())
        page.keyboard.press("Escape")
        with page.expect_download() as waited:
            bar.get_by_role("button", name="Save as HTML").click()
        waited.value.save_as(tmp_path / "handed.html")
        page = opened("#/rollouts?run=r", base=f"file://{tmp_path}/handed.html?")
        expect(page.locator(".count")).to_have_text("4 samples")
        page.locator(".row .open").first.click()
        expect(page.get_by_role("article", name="Sample")).to_contain_text("said 6")


def test_a_shared_file_sorts_without_a_server(opened: Opener, runs_of_lists: Path, tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "runs" / "one") as store:
        for number in range(20):
            reward = None if number == 7 else (number * 7 % 20) / 20
            store.append(simple(f"r{number}", "x", group=f"g{number // 4}", sample=number % 4, reward=reward))
    write_page(RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite"), tmp_path / "shared.html")
    page = opened("#/rollouts?run=one&flat=1&sort=-reward", base=f"file://{tmp_path}/shared.html?")
    expect(page.locator(".row")).to_have_count(20)
    values = [float(text) for text in page.locator(".row .dot:nth-child(3)").all_inner_texts()[:-1]]
    assert values == sorted(values, reverse=True)
    expect(page.locator(".row .dot:nth-child(3)").last).to_have_text("–")
    page.get_by_role("button", name="Flat").click()
    expect(page.locator(".group").first).to_contain_text("g4")
    page.goto(page.url.split("#")[0] + "#/rollouts?run=one&group=g2")
    expect(page).to_have_url(re.compile("step=none"))
    expect(page.locator(".completion")).to_have_count(4)


def test_the_table_of_runs_sorts_and_counts_all(opened: Opener, served: str) -> None:
    page = opened("#/", base=served)
    table = page.locator("table.runs")
    row = table.get_by_role("row", name=re.compile("steps"))
    expect(row.get_by_role("cell").nth(3)).to_have_text("12")
    expect(row.get_by_role("cell").nth(4)).to_have_text("4")
    expect(row).to_contain_text("1.000")
    table.get_by_role("button", name="Rollouts").click()
    expect(page).to_have_url(re.compile("sort=-rollouts"))
    expect(table.locator("tbody th")).to_have_text(["exam", "steps", "odd"])
    table.get_by_role("button", name="Rollouts").click()
    expect(table.locator("tbody th")).to_have_text(["odd", "steps", "exam"])
    page.get_by_role("checkbox", name="Compare exam").check()
    page.get_by_role("checkbox", name="Compare odd").check()
    expect(page.get_by_role("link", name="Compare 2 runs")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("checkbox", name="Compare exam")).not_to_be_checked()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize(
    "place",
    ["rollouts?run=exam&sort=-reward&flat=1", "rollouts?run=steps&step=11", "rollouts?run=steps", "discarded?run=steps",
     "rollouts?run=steps&group=x&step=1"],
)  # fmt: skip
def test_axe_finds_nothing_in_lists(opened: Opener, served: str, place: str, width: int) -> None:
    page = opened(f"#/{place}", base=served, width=width)
    expect(page.locator(".row, .said-so").first).to_be_attached()
    expect(page.get_by_text("Opening…")).to_have_count(0)
    assert complaints(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_rows_are_walked_by_keyboard(opened: Opener, served: str) -> None:
    page = opened("#/rollouts?run=exam", base=served)
    page.locator(".group .open").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".row .open").first).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("sample=e0-1"))
