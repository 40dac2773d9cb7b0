"""What charts say: which rollouts count, the value under the pointer and by keyboard, tables, legends, layouts, ranges."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_pages import Opener, complaints, until
from playwright.sync_api import Locator, Page, expect
from viewer_runs import simple, training
from viewer_serving import viewing

from openreward_gym.store import RolloutStore
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.page import write_page

DRAWN = """window.drawn = [];
const draw = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    window.drawn.push([String(text), this.canvas.closest("figure")?.dataset.metric]);
    return draw.call(this, text, ...rest);
};"""
KEPT, DISCARDED = [0.0, 0.5], [1.0, 1.0, 0.75]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: one with discarded rollouts, in the last step all; one without steps; one with one step; odd names of metrics."""
    runs = tmp_path_factory.mktemp("charts") / "runs"
    with RolloutStore(runs / "mixed") as store:
        for step in range(6):
            for number, reward in enumerate([*(KEPT if step < 5 else []), *DISCARDED]):
                reason = "zero_advantage" if reward in DISCARDED else None
                metrics = {'say "hi".ü': step * 10.0, **{f"timing/part{n}": float(n) for n in range(14)}}
                store.append(simple(f"m{step}-{number}", "x", step=step, reward=reward, discard_reason=reason, metrics=metrics))
    for run, first in (("early", 100), ("late", 150)):
        with RolloutStore(runs / run) as store:
            for number in range(240):
                reward = first + number / 4 + 0.125 if number % 60 else float("nan")
                store.append(simple(f"{run}{number}", "x", reward=reward, metrics={"count": float(number % 5)}))
    with RolloutStore(runs / "single") as store:
        for number in range(20):
            store.append(simple(f"s{number}", "x", step=12, reward=number / 19))
    return runs


@pytest.fixture(scope="module")
def base(folder: Path) -> Iterator[str]:
    with viewing(folder) as address:
        yield address


def chart(page: Page, metric: str, number: int = 0) -> Locator:
    plot = page.locator(f".chart[data-metric='{metric}']").nth(number)
    expect(plot.locator("canvas")).to_be_attached()
    return plot


def settings(plot: Locator) -> Locator:
    plot.get_by_label(re.compile("^Settings")).click()
    return plot.locator(".drop")


def point_at(plot: Locator, share: float) -> None:
    plot.locator(".u-over").scroll_into_view_if_needed()
    box = plot.locator(".u-over").bounding_box()
    assert box
    plot.page.mouse.move(box["x"] + box["width"] * share - 2, box["y"] + box["height"] / 2)
    plot.page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)


def table(plot: Locator) -> list[list[str]]:
    button = plot.get_by_label(re.compile("^Table: ")).and_(plot.get_by_role("button"))
    if button.get_attribute("aria-pressed") == "false":
        button.click()
    rows = plot.locator(".figures").get_by_role("row")
    expect(rows.nth(1)).to_be_attached()
    return [[cell.strip() for cell in row.locator("th, td").all_inner_texts()] for row in rows.all()]


def labels(page: Page, metric: str) -> list[str]:
    """Return the labels of a chart's axes as they were last drawn."""
    found: list[str] = page.evaluate("metric => window.drawn.filter(([, one]) => one === metric).map(([text]) => text)", metric)
    return found


def redrawn(page: Page) -> None:
    page.evaluate("window.drawn = []")


def test_a_chart_counts_all_rollouts_and_says_so(opened: Opener, base: str) -> None:
    page = opened("#/metrics?run=mixed", base=base)
    plot = chart(page, "reward")
    expect(plot.locator(".title")).to_have_text(re.compile("reward.*mean of all rollouts"))
    assert table(plot) == [["step", "mean", "rollouts"], *[[str(s), "0.6500", "5"] for s in range(5)], ["5", "0.9167", "3"]]
    drop = settings(plot)
    drop.get_by_label("Rollouts").select_option(label="kept")
    expect(plot.locator(".title")).to_contain_text("mean of kept rollouts")
    page.keyboard.press("Escape")
    expect(plot.get_by_role("row")).to_have_count(6)
    assert table(plot)[1] == ["0", "0.2500", "2"]
    settings(plot).get_by_label("Rollouts").select_option(label="kept and discarded")
    page.keyboard.press("Escape")
    legend = plot.get_by_role("group", name="Series of reward").get_by_role("button")
    expect(legend).to_have_text([re.compile(r"kept0\.250$"), re.compile(r"discarded0\.917$")])
    until(lambda: table(plot)[-1] == ["5", "–", "–", "0.9167", "3"])
    assert table(plot)[0] == ["step", "kept, mean", "kept, rollouts", "discarded, mean", "discarded, rollouts"]
    legend.nth(1).click()
    expect(legend.nth(1)).to_have_attribute("aria-pressed", "false")
    until(lambda: table(plot)[0] == ["step", "kept, mean", "kept, rollouts"])
    page.reload()
    expect(legend.nth(1)).to_have_attribute("aria-pressed", "false")


def test_the_share_of_discarded_rollouts_is_a_metric_with_its_reasons(opened: Opener, base: str) -> None:
    page = opened("#/metrics?run=mixed", base=base)
    share = chart(page, "discarded share")
    expect(share.locator(".title")).to_contain_text("share of all rollouts")
    assert [row[1] for row in table(share)[1:]] == ["0.6000"] * 5 + ["1.0000"]
    assert settings(share).get_by_label("Rollouts").count() == 0
    page.keyboard.press("Escape")
    page.get_by_text("Add chart").click()
    search = page.get_by_label("Search metrics")
    expect(search).to_be_focused()
    search.fill("zero adv")
    expect(page.locator(".menu[open] section button")).to_have_text(["discarded: zero_advantage", "zero-advantage groups"])
    page.keyboard.press("Enter")
    reason = chart(page, "discarded: zero_advantage")
    assert table(reason)[-1][:2] == ["5", "1"] or table(reason)[-1][:2] == ["5", "1.0000"]


def test_metrics_are_in_sections_and_a_section_is_added_at_once(opened: Opener, base: str) -> None:
    page = opened("#/metrics?run=mixed", base=base)
    chart(page, "reward")
    page.get_by_text("Add chart").click()
    menu = page.locator(".menu[open]")
    expect(menu.locator("section header span")).to_have_text(["Built in", "Discards and ends", "Metrics of the run", "timing/"])
    menu.get_by_label("Search metrics").fill("part1")
    menu.get_by_role("button", name="Add all 5").click()
    page.keyboard.press("Escape")
    expect(page.locator(".chart[data-metric='timing/part13']")).to_have_count(1)


def test_the_value_under_the_pointer_is_told_as_text(opened: Opener, base: str) -> None:
    page = opened("#/metrics?run=mixed", base=base)
    plot = chart(page, 'say "hi".ü')
    point_at(plot, 0.6)
    readout = plot.locator(".readout")
    expect(readout).to_contain_text("step 3")
    expect(readout.get_by_role("row")).to_have_text(re.compile("mean.*30.*5 rollouts"))
    point_at(plot, 0.99)
    expect(readout).to_contain_text("step 5")
    page.mouse.move(2, 2)
    expect(readout).to_have_count(0)


def test_a_chart_is_read_with_the_keyboard(opened: Opener, base: str) -> None:
    page = opened("#/metrics?run=mixed&step=2", base=base)
    plot = chart(page, "reward").get_by_role("application", name="Chart: reward, mean of all rollouts")
    plot.focus()
    page.keyboard.press("ArrowRight")
    live = plot.locator("[aria-live=polite]")
    expect(live).to_have_text("step 2: mean 0.6500 (5 rollouts)")
    for key, step in (("ArrowRight", 3), ("ArrowLeft", 2), ("End", 5), ("ArrowRight", 5), ("Home", 0), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        expect(live).to_contain_text(f"step {step}: ")
        expect(plot.locator(".readout")).to_contain_text(f"step {step}")
    page.keyboard.press("Escape")
    expect(plot.locator(".readout")).to_have_count(0)
    expect(plot).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#/rollouts.*step=4"))


def test_histograms_begin_at_zero_with_whole_bars_for_every_run(opened: Opener, base: str) -> None:
    page = opened("#/", base=base)
    page.context.add_init_script(DRAWN)
    page.goto(f"{base}/#/metrics?run=early&runs=late")
    page.reload()
    plot = chart(page, "reward")
    expect(plot.locator(".title")).to_contain_text("histogram of all rollouts")
    expect(plot.get_by_role("button", name="late")).to_be_visible()
    expect(plot.locator(".note")).to_have_text(
        ["early: 4 values are NaN, and not in the chart.", "late: 4 values are NaN, and not in the chart."]
    )
    until(lambda: "0" in labels(page, "reward"))
    numbers = [float(label) for label in labels(page, "reward")]
    assert min(numbers) == 0
    assert all(number == int(number) for number in numbers if number < 100)
    rows = table(plot)
    assert rows[0] == ["values", "early, rollouts", "late, rollouts"]
    assert (rows[1][0], rows[-1][0]) == ("100.4 to 104.9", "205.3 to 209.9")
    assert [sum(int(row[column]) for row in rows[1:]) for column in (1, 2)] == [236, 236]
    whole = table(chart(page, "count"))
    assert [row[0] for row in whole[1:]] == ["0", "1", "2", "3", "4"]
    assert {row[1] for row in whole[1:]} == {"48"}
    point_at(chart(page, "count"), 0.5)
    expect(chart(page, "count").locator(".readout")).to_have_text(re.compile("2.*early.*48.*late.*48"))


def test_a_range_set_for_the_mean_does_not_clip_the_histogram(opened: Opener, base: str) -> None:
    page = opened("#/", base=base)
    page.context.add_init_script(DRAWN)
    page.goto(f"{base}/#/metrics?run=mixed")
    page.reload()
    plot = chart(page, "reward")
    drop = settings(plot)
    drop.get_by_label("Y from").fill("0.5")
    drop.get_by_label("to", exact=True).fill("0.7")
    page.keyboard.press("Tab")
    until(lambda: "0.70" in labels(page, "reward"))
    redrawn(page)
    drop.get_by_label("Shown").select_option(label="histogram")
    until(lambda: "0" in labels(page, "reward") and max(float(one) for one in labels(page, "reward")) >= 8)
    expect(drop.get_by_label("Y to")).to_have_value("")
    drop.get_by_label("Shown").select_option(label="mean")
    expect(drop.get_by_label("Y from")).to_have_value("")


def test_step_axes_have_integers_only_and_one_step_is_a_point(opened: Opener, base: str) -> None:
    page = opened("#/", base=base)
    page.context.add_init_script(DRAWN)
    for run, steps in (("mixed", {"0", "1", "2", "3", "4", "5"}), ("single", {"11", "12", "13"})):
        redrawn(page)
        page.goto(f"{base}/#/metrics?run={run}")
        page.reload()
        plot = chart(page, "steps")
        until(lambda run=run: len(labels(page, "steps")) > 3)  # type: ignore[misc]
        drawn = labels(page, "steps")
        assert steps <= set(drawn)
        assert not [one for one in drawn if re.fullmatch(r"(?:[02345]|1[123])\.5", one)]
    plot = chart(page, "reward")
    point_at(plot, 0.5)
    expect(plot.locator(".readout")).to_contain_text("0.5000")
    expect(plot.locator(".readout")).to_contain_text("20 rollouts, 5 % to 95 %: 0.050 to 0.950")


def test_zoom_is_reset_by_button_and_double_click(opened: Opener, base: str) -> None:
    page = opened("#/metrics?run=mixed", base=base)
    plot = chart(page, "reward")
    for reset in ("button", "double click"):
        box = plot.locator(".u-over").bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 40, steps=4)
        page.mouse.up()
        expect(plot.locator(".plot")).to_have_attribute("data-zoom", re.compile(r"^1\.[45]\d 3\.[45]\d$"))
        other = chart(page, "steps").locator(".plot")
        assert other.get_attribute("data-zoom") is None
        plot.locator(".plot").focus()
        page.keyboard.press("Home")
        expect(plot.locator(".readout")).to_contain_text("step 2")
        if reset == "button":
            plot.get_by_role("button", name="Reset zoom").click()
        else:
            plot.locator(".u-over").dblclick(position={"x": 60, "y": 30})
        if reset == "button":
            expect(plot.locator(".plot")).not_to_have_attribute("data-zoom", re.compile("."))
            expect(plot.get_by_role("button", name="Reset zoom")).to_have_count(0)


def test_full_screen_has_everything_and_gives_the_focus_back(opened: Opener, base: str) -> None:
    page = opened("#/metrics?run=early&runs=late", base=base)
    plot = chart(page, "reward")
    plot.get_by_role("button", name=re.compile("^Full screen")).click()
    expect(plot.get_by_role("button", name="late")).to_be_visible()
    expect(plot.get_by_label(re.compile("^Settings"))).to_be_visible()
    for _ in range(30):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('.chart.full')")
    point_at(plot, 0.3)
    expect(plot.locator(".readout")).to_be_visible()
    settings(plot)
    page.keyboard.press("Escape")
    expect(page.locator(".chart.full")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".chart.full")).to_have_count(0)
    expect(plot.get_by_role("button", name=re.compile("^Full screen"))).to_be_focused()
    assert page.locator("[inert]").count() == 0


def test_layouts_are_saved_chosen_exported_and_imported(opened: Opener, base: str) -> None:
    page = opened("#/metrics?run=mixed", base=base)
    chart(page, "steps")
    settings(chart(page, "reward")).get_by_role("button", name="Remove").click()
    layouts = page.locator("summary", has_text="Layouts")
    layouts.click()
    page.get_by_label("Name of the layout").fill("without reward")
    page.get_by_role("button", name="Save layout").click()
    page.get_by_role("button", name="Export").click()
    text = page.get_by_label("Layout as text").input_value()
    assert "reward" not in [one["metric"] for one in json.loads(text)["charts"]]
    page.get_by_role("button", name="Default charts").click()
    chart(page, "reward")
    page.reload()
    layouts.click()
    page.get_by_role("button", name="without reward", exact=True).click()
    expect(page.locator(".chart[data-metric=reward]")).to_have_count(0)
    page.get_by_role("button", name="Import").click()
    page.get_by_label("Layout as text").fill('{"charts": 3}')
    page.get_by_role("button", name="Use this layout").click()
    expect(page.get_by_role("alert")).to_contain_text("not a layout")
    page.get_by_label("Layout as text").fill('{"charts": [{"metric": "calls", "statistic": "max", "id": "x"}]}')
    page.get_by_role("button", name="Use this layout").click()
    expect(page.locator(".chart")).to_have_count(1)
    expect(chart(page, "calls").locator(".title")).to_contain_text("maximum of all rollouts")
    page.get_by_label("Delete the layout without reward").click()
    expect(page.get_by_text("No saved layouts.")).to_be_visible()


def test_a_chart_is_copied_as_csv_and_saved_as_a_picture(opened: Opener, base: str) -> None:
    page = opened("#/metrics?run=mixed", base=base)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    plot = chart(page, "reward")
    drop = settings(plot)
    drop.get_by_role("button", name="Copy as CSV").click()
    expect(drop.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert (copied[0], copied[1], copied[-1]) == ("step,mean,rollouts", "0,0.65,5", "5,0.916667,3")
    with page.expect_download() as saved:
        drop.get_by_role("button", name="Download PNG").click()
    assert saved.value.suggested_filename == "reward-mean-of-all-rollouts.png"
    assert saved.value.path().read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_all_charts_of_a_page_ask_together(opened: Opener, base: str) -> None:
    page = opened("#/", base=base)
    page.goto(f"{base}/#/metrics?run=mixed")
    chart(page, "timing/part1")
    asked: list[str] = []
    for _ in range(3):
        with page.expect_request(re.compile("/api/series")) as request:
            pass
        asked.append(request.value.url)
    assert asked[0].count("%2C") == 7
    assert len(set(asked)) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 400])
def test_everybody_can_read_charts(opened: Opener, base: str, width: int, scheme: str) -> None:
    page = opened("#/metrics?run=mixed&runs=single", base=base, width=width, scheme=scheme)
    plot = chart(page, "reward")
    table(plot)
    plot.locator(".plot").focus()
    page.keyboard.press("Home")
    expect(plot.locator(".readout")).to_be_visible()
    assert complaints(page) == []
    settings(plot)
    assert complaints(page) == []
    page.keyboard.press("Escape")
    for menu in ("Add chart", "Layouts", "Compare runs"):
        page.locator("summary", has_text=menu).click()
        assert complaints(page) == []
        page.keyboard.press("Escape")
    plot.get_by_role("button", name=re.compile("^Full screen")).click()
    assert complaints(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_shared_file_has_the_same_charts(opened: Opener, folder: Path, base: str, tmp_path: Path) -> None:
    training(tmp_path / "runs", steps=5)
    RolloutStore(tmp_path / "runs" / "plain").append(simple("a", "x", metrics={"m": 0.5}))
    index = RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite")
    write_page(index, tmp_path / "shared.html")
    with viewing(tmp_path / "runs") as served:
        told = []
        for where in (served, f"file://{tmp_path}/shared.html?"):
            page = opened("#/metrics?run=training", base=where)
            found = []
            for which in ("all", "kept", "discarded"):
                for metric in ("reward", "tokens", "entropy", "discarded share"):
                    plot = chart(page, metric)
                    if metric != "discarded share":
                        settings(plot).get_by_label("Rollouts").select_option(label=which)
                        page.keyboard.press("Escape")
                        expect(plot.locator(".title")).to_contain_text(f"mean of {which} rollouts")
                    until(lambda plot=plot: plot.locator("canvas").count() == 1)  # type: ignore[misc]
                    found.append(table(plot))
            for metric in ("zero-advantage groups", "all-1 groups", "errors share", "discarded: zero_advantage", "errors"):
                page.get_by_text("Add chart").click()
                page.get_by_label("Search metrics").fill(metric)
                page.locator(".menu[open] section").get_by_text(metric, exact=True).click()
                page.keyboard.press("Escape")
                plot = chart(page, metric)
                found.append(table(plot))
                settings(plot).get_by_label("Shown").select_option(label="histogram")
                page.keyboard.press("Escape")
                expect(plot.locator(".title")).to_contain_text("histogram")
                until(lambda plot=plot: table(plot)[0][0] == "values")  # type: ignore[misc]
                found.append(table(plot))
            told.append(found)
        assert told[0] == told[1]
