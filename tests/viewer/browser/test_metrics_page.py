"""The charts beside the rollouts and the Metrics page: the checks E1 to F1."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from browser_pages import Opener, until
from playwright.sync_api import Locator, Page, expect
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym.store import RolloutStore

ROLLOUTS = "#/rollouts?run=training&step=3"


def chart(page: Page, metric: str, number: int = 0) -> Locator:
    return page.locator(f'.chart[data-metric="{metric}"]').nth(number)


def settings(plot: Locator) -> Locator:
    plot.get_by_label(re.compile("^Settings")).click()
    return plot.locator(".drop")


def order(page: Page) -> list[str]:
    return [str(one.get_attribute("data-metric")) for one in page.locator(".plots > .chart").all()]


def kept(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(page.evaluate("localStorage.getItem('openreward-gym.charts.side')"))
    return found


def ink(plot: Locator) -> str:
    """Return the drawn chart as a data URL, for comparison."""
    return str(plot.locator("canvas").evaluate("canvas => canvas.toDataURL()"))


def test_e1_charts_beside_the_rollouts_with_the_step_marked(opened: Opener) -> None:
    page = opened(ROLLOUTS)
    plot = chart(page, "reward")
    expect(plot.locator("canvas")).to_be_visible()
    page.mouse.move(640, 400)
    before = ink(plot)
    page.get_by_role("button", name="Next step").click()
    until(lambda: ink(plot) != before)


def test_e2_a_click_in_a_chart_goes_to_the_step(opened: Opener) -> None:
    page = opened(ROLLOUTS)
    over = chart(page, "reward").locator(".u-over")
    box = over.bounding_box()
    assert box
    over.click(position={"x": box["width"] - 2, "y": 30})
    expect(page.get_by_role("textbox", name="Step")).to_have_value("7")
    expect(page.locator(".row .open").first).to_have_attribute("href", re.compile("step=7"))


@pytest.mark.parametrize("where", ["rollouts", "metrics"])
def test_e3_the_same_catalogue(opened: Opener, where: str) -> None:
    page = opened(f"#/{where}?run=training&step=3")
    drop = settings(chart(page, "reward"))
    names = drop.get_by_label("Shown").locator("option")
    expect(names).to_have_text(
        ["mean", "standard deviation", "minimum", "maximum", "median", "distribution over time", "histogram"]
    )
    for name in ("distribution over time", "histogram", "maximum"):
        drop.get_by_label("Shown").select_option(label=name)
        expect(chart(page, "reward").locator(".title")).to_contain_text(name)
        expect(chart(page, "reward").locator("canvas")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_text("Add chart").click()
    offered = page.locator(".menu[open] button")
    for name in ("reward", "advantage", "tokens", "format", "entropy", "duration"):
        expect(offered.get_by_text(name, exact=True)).to_be_visible()


def test_e4_smoothing_dims_the_raw_line(opened: Opener) -> None:
    page = opened(ROLLOUTS)
    drop = settings(chart(page, "reward"))
    slider = drop.get_by_label(re.compile("Smoothing"))
    assert (slider.get_attribute("min"), slider.get_attribute("max")) == ("1", "100")
    before = ink(chart(page, "reward"))
    slider.fill("10")
    expect(drop.locator("output")).to_have_text("10")
    until(lambda: ink(chart(page, "reward")) != before)
    assert kept(page)[0]["smooth"] == 10


def test_e5_runs_over_each_other(opened: Opener) -> None:
    page = opened("#/metrics?run=training")
    expect(chart(page, "reward").locator("canvas")).to_be_visible()
    before = ink(chart(page, "reward"))
    page.get_by_text("Compare runs").click()
    page.get_by_role("checkbox", name="baseline").check()
    legend = chart(page, "reward").get_by_role("group", name="Series of reward")
    expect(legend.get_by_role("button")).to_have_text([re.compile(r"^ ?training0\.\d+$"), re.compile(r"^ ?baseline0\.\d+$")])
    expect(page).to_have_url(re.compile("runs=baseline"))
    until(lambda: ink(chart(page, "reward")) != before)


def test_e6_charts_are_moved_by_hand_and_by_key_and_stay(opened: Opener) -> None:
    page = opened(ROLLOUTS)
    expect(chart(page, "entropy").locator("canvas")).to_be_attached()  # the run's own metrics come last
    first = order(page)
    handle = chart(page, "reward").locator(".handle")
    assert handle.evaluate("node => getComputedStyle(node).opacity") == "0"
    chart(page, "reward").hover()
    assert handle.evaluate("node => getComputedStyle(node).opacity") == "1"
    handle.focus()
    page.keyboard.press("ArrowDown")
    assert order(page) == [first[1], first[0], *first[2:]]
    page.keyboard.press("ArrowDown")
    moved = [first[1], first[2], first[0], *first[3:]]
    assert order(page) == moved
    chart(page, "reward").locator(".handle").scroll_into_view_if_needed()
    start, end = chart(page, "reward").locator(".handle").bounding_box(), chart(page, first[1]).bounding_box()
    assert start
    assert end
    page.mouse.move(start["x"] + 5, start["y"] + 8)
    page.mouse.down()
    page.mouse.move(start["x"] + 8, start["y"] - 60, steps=8)
    page.mouse.move(end["x"] + 20, end["y"] + 12, steps=12)
    until(lambda: order(page) == first)  # where it would fall is shown while it is held
    page.mouse.up()
    until(lambda: [plot["metric"] for plot in kept(page)] == first)
    page.reload()
    until(lambda: order(page) == first)


def test_e7_the_same_plot_twice_each_with_its_own_settings(opened: Opener) -> None:
    page = opened(ROLLOUTS)
    drop = settings(chart(page, "reward"))
    drop.get_by_role("button", name="Duplicate").click()
    expect(page.locator('.chart[data-metric="reward"]')).to_have_count(2)
    page.keyboard.press("Escape")
    drop = settings(chart(page, "reward", 1))
    drop.get_by_label("Ignore outliers").check()
    drop.get_by_label("Filter").fill("reward > 0.3")
    drop.get_by_label("Filter").press("Enter")
    expect(chart(page, "reward", 1).locator(".title")).to_contain_text("filtered")
    page.keyboard.press("Escape")
    identity = chart(page, "reward", 1).get_attribute("data-id")
    chart(page, "reward", 1).locator(".handle").focus()
    page.keyboard.press("ArrowUp")
    page.reload()
    expect(page.locator('.chart[data-metric="reward"]')).to_have_count(2)
    first, second = kept(page)[:2]
    assert (first["id"], first["filter"], first["outliers"]) == (identity, "reward > 0.3", True)
    assert (second["metric"], second["filter"], second["outliers"]) == ("reward", "", False)


def test_e8_e9_e10_outliers_first_step_and_range(opened: Opener) -> None:
    page = opened(ROLLOUTS)
    drop = settings(chart(page, "entropy"))
    plot = chart(page, "entropy")
    before = ink(plot)
    drop.get_by_label("Ignore first step").check()
    until(lambda: ink(plot) != before)
    without_first = ink(plot)
    drop.get_by_label("Y from").fill("0")
    drop.get_by_label("to", exact=True).fill("9")
    page.keyboard.press("Tab")
    until(lambda: ink(plot) != without_first)
    drop.get_by_label("Ignore outliers").check()
    settled = next(one for one in kept(page) if one["metric"] == "entropy")
    assert (settled["first"], settled["outliers"], settled["low"], settled["high"]) == (True, True, 0, 9)


def test_e11_full_screen_and_a_zoom_that_survives_new_data(opened: Opener, tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "grows")
    for step in range(20):
        store.append(simple(f"r{step}", "x", step=step, reward=step / 20))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=grows", base=base)
        plot = chart(page, "reward")
        plot.get_by_role("button", name=re.compile("Full screen")).click()
        box = plot.bounding_box()
        assert box
        assert box["width"] > 1200
        over = plot.locator(".u-over").bounding_box()
        assert over
        page.mouse.move(over["x"] + 200, over["y"] + 100)
        page.mouse.down()
        page.mouse.move(over["x"] + 600, over["y"] + 100, steps=5)
        page.mouse.up()
        expect(plot.locator(".plot")).to_have_attribute("data-zoom", re.compile("."))
        zoom = plot.locator(".plot").get_attribute("data-zoom")
        store.append(simple("new", "x", step=20, reward=0.0))
        expect(plot.locator(".last")).to_have_text("0")
        assert plot.locator(".plot").get_attribute("data-zoom") == zoom
        page.keyboard.press("Escape")
        expect(page.locator(".chart.full")).to_have_count(0)


def test_f1_a_metrics_page_with_the_same_controls(opened: Opener) -> None:
    page = opened("#/metrics?run=training")
    expect(page.get_by_role("heading", name="Metrics")).to_be_visible()
    drop = settings(chart(page, "reward"))
    for label in ("Shown", "Rollouts", "Smoothing (EMA span)", "Ignore outliers", "Ignore first step", "Y from", "Filter"):
        expect(drop.get_by_label(label)).to_be_visible()
    expect(drop.get_by_role("combobox", name="Metric")).to_be_visible()
    page.keyboard.press("Escape")
    box = chart(page, "reward").locator(".u-over").bounding_box()
    assert box
    chart(page, "reward").locator(".u-over").click(position={"x": 2, "y": 30})
    expect(page.get_by_role("textbox", name="Step")).to_have_value("0")
