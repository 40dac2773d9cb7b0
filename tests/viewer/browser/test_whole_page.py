"""The page as a whole: hostile records, accessibility, keys, narrow screens, growth, size, sharing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from browser_pages import Opener, complaints, until
from hostile_runs import hostile
from playwright.sync_api import expect
from viewer_runs import simple, task_spec
from viewer_serving import viewing

from openreward_gym.store import RolloutStore, read_labels
from openreward_gym.types import task_id
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.page import write_page

SAMPLE = "#/rollouts?run=training&step=0&group=step0-task0&sample=training-0-0-0"
TASK = task_id("counting", "train", task_spec(0))


OPEN = """([id, group]) => {
    location.hash = `#/rollouts?run=hostile&step=none&group=${encodeURIComponent(group)}&sample=${encodeURIComponent(id)}`
}"""
WRONG = """() => {
    const tags = ["SCRIPT", "IFRAME", "OBJECT", "EMBED", "STYLE", "LINK", "META", "BASE", "FORM"]
    const runs = ({ name, value }) => /^on/i.test(name)
        || (/^(href|src|action|xlink:href)$/i.test(name) && /^\\s*(javascript|vbscript|data:text)/i.test(value))
    return [...document.querySelectorAll(".middle *, .sidebar *, .charts *")]
        .filter((node) => tags.includes(node.tagName) || [...node.attributes].some(runs))
        .map((node) => node.outerHTML.slice(0, 200))
}"""


def test_nothing_recorded_runs_or_leaks(opened: Opener, tmp_path: Path) -> None:
    count = hostile(tmp_path / "runs")
    with viewing(tmp_path / "runs") as base:
        # The browser tells of handlers that it sees while the sanitiser reads the text, and does not run them.
        page = opened("#/", base=base, allowed="violates the following Content Security Policy")
        outside: list[str] = []

        page.on(
            "request",
            lambda request: outside.append(request.url) if not request.url.startswith((base, "data:", "blob:")) else None,
        )
        page.on("dialog", lambda dialog: outside.append(dialog.message))
        listed = page.evaluate("fetch('api/list?run=hostile').then(answer => answer.json())")
        cards = [card for group in listed["groups"] for card in group["cards"]]
        assert len(cards) == count * 9 // 10
        for card in cards[::9]:
            page.evaluate(OPEN, [card["id"], card["group"]])
            expect(page.locator(".sample .ending")).to_be_attached(timeout=30_000)
            expect(page.locator(".sidebar")).to_be_visible()
            wrong = page.evaluate(WRONG)
            assert wrong == []
            assert page.evaluate("window.hacked") is None
        for place in (
            "#/",
            "#/discarded?run=hostile",
            "#/metrics?run=hostile",
            "#/search?query=evil&run=hostile",
            f"#/rollouts?run={'%3Cscript%3E'}",
        ):
            page.goto(f"{base}/{place}")
            expect(page.locator("main").first).to_be_visible()
            assert page.evaluate("window.hacked") is None
        assert outside == []


def test_nothing_in_a_notebook_runs_or_leaks(opened: Opener, tmp_path: Path) -> None:
    hostile(tmp_path / "runs")
    body = "".join(rollout._repr_html_() for rollout in RolloutStore.open(tmp_path / "runs" / "hostile")[::9])
    (tmp_path / "notebook.html").write_text(f"<!doctype html><meta charset=utf-8><body>{body}<p id=end>end</p>")
    page = opened("", base=f"file://{tmp_path}/notebook.html?")
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
    page.reload()
    expect(page.locator("body > #end")).to_have_text("end")
    wrong = page.evaluate(WRONG.replace('".middle *, .sidebar *, .charts *"', '".openreward-rollout *"'))
    assert wrong == []
    assert page.evaluate("window.hacked") is None
    assert outside == []


PLACES = {
    "runs": "#/",
    "rollouts": "#/rollouts?run=training&step=0",
    "group": "#/rollouts?run=training&step=0&group=step0-task0",
    "sample": SAMPLE,
    "divergence": "#/rollouts?run=training&step=0&group=step0-task0&view=divergence",
    "discarded": "#/discarded?run=training&step=5",
    "metrics": "#/metrics?run=training&runs=baseline&step=3",
    "search": "#/search?run=training&query=answer",
    "lens": f"{SAMPLE}&view=lens&format=sft",
    "replay": f"{SAMPLE}&view=replay",
    "compare": "#/compare?runs=training,baseline",
    "pair": "#/pair?left=training/training-0-0-0&right=training/training-0-0-1",
    "task": f"#/task?run=training&task={TASK}",
}


READY = {
    "runs": "table",
    "group": ".completion",
    "sample": ".ending",
    "divergence": ".branches",
    "metrics": "canvas",
    "search": ".hits li",
    "lens": ".span",
    "replay": ".replay .note",
    "compare": ".tasks tbody tr",
    "pair": ".turn-pair",
    "task": ".attempt",
}


@pytest.mark.parametrize("place", PLACES)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(opened: Opener, place: str) -> None:
    page = opened(PLACES[place])
    expect(page.locator(READY.get(place, ".row")).first).to_be_visible()
    expect(page.get_by_text("Opening…")).to_have_count(0)
    assert complaints(page) == []
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_keys(opened: Opener) -> None:
    page = opened(SAMPLE)
    expect(page.locator(".siblings span")).to_have_text("1/4")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".siblings span")).to_have_text("2/4")
    expect(page).to_have_title("training 0/0/1 – training")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".siblings span")).to_have_text("1/4")
    middle = page.locator(".middle")
    page.keyboard.press("j")
    until(lambda: bool(middle.evaluate("box => box.scrollTop > 0")))
    page.keyboard.press("k")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.go_back()
    # A key that comes before the page is there belongs to the page before it.
    expect(page.locator(".siblings span")).to_have_text("1/4")
    page.keyboard.press("Escape")
    expect(page.locator(".completion")).to_have_count(4)


def test_a_filter_is_completed_and_chooses(opened: Opener) -> None:
    page = opened("#/rollouts?run=training&step=0", allowed="400")
    box = page.locator(".sidebar").get_by_role("combobox", name="Filter")
    box.press_sequentially("rew")
    options = page.locator(".sidebar [role=option]")
    expect(options).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(box).to_have_value("reward ")
    box.press_sequentially('== 1 and tool == "su')
    expect(options).to_have_text([re.compile('"submit"')])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("filter=reward"))
    expect(page.locator(".row").first).to_be_visible()
    rewards = page.locator(".row .dot[data-key=reward]")
    until(lambda: set(rewards.evaluate_all("dots => dots.map(dot => dot.title)")) == {"reward: 1"})
    box.fill("reward <")
    box.press("Enter")
    expect(page.locator(".sidebar").get_by_role("alert")).to_contain_text("the filter ends")


def test_labels_are_written_beside_the_run(opened: Opener, tmp_path: Path) -> None:
    RolloutStore(tmp_path / "runs" / "r").append(simple("a", "x"))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=r&sample=a", base=base)
        expect(page.locator(".labels")).to_be_visible()
        page.keyboard.press("4")
        expect(page.get_by_role("radio", name="4")).to_be_checked()
        page.get_by_label("Tags").fill("good, short")
        page.get_by_label("Note").fill("Look here.")
        page.get_by_label("Tags").focus()
        until(lambda: (label := read_labels(tmp_path / "runs" / "r").get("a")) is not None and label.note != "")
        label = read_labels(tmp_path / "runs" / "r")["a"]
        assert (label.rating, label.tags, label.note) == (4, ("good", "short"), "Look here.")
        expect(page.locator(".row .state")).to_have_text("★4")


def test_what_grows_does_not_jump(opened: Opener, tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "live")
    for number in range(300):
        store.append(simple(f"r{number:04d}", "word " * 2000, group=f"g{number:04d}"))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=live&sample=r0100", base=base)
        expect(page.locator(".ending")).to_be_attached()
        page.locator(".middle").hover()
        page.mouse.wheel(0, 400)
        until(lambda: bool(page.locator(".middle").evaluate("box => box.scrollTop === 400")))
        row = page.locator(".row.current")
        before = row.bounding_box()
        for number in range(50):
            store.append(simple(f"s{number:04d}", "x", group=f"h{number:04d}"))
        expect(page.locator(".count")).to_have_text("350 samples")
        assert page.locator(".middle").evaluate("box => box.scrollTop") == 400
        assert row.bounding_box() == before


def test_what_grows_above_does_not_jump(opened: Opener, tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "live")
    for number in range(300):
        store.append(simple(f"r{number:04d}", "x", group=f"g{number:04d}"))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=live", base=base)
        expect(page.locator(".count")).to_have_text("300 samples")
        page.locator(".virtual").evaluate("box => { box.scrollTop = 7777 }")
        row = page.locator(".group", has_text="g0108")
        before = row.bounding_box()
        assert before
        for number in range(40):
            store.append(simple(f"a{number:04d}", "x", group=f"a{number:04d}"))
        expect(page.locator(".count")).to_have_text("340 samples")
        until(lambda: row.bounding_box() == before)


def test_a_message_of_ten_megabytes_is_read_without_long_frames(opened: Opener, tmp_path: Path) -> None:
    text = "".join(f"line {number}: the quick brown fox jumps over the lazy dog\n" for number in range(190_000))
    RolloutStore(tmp_path / "runs" / "r").append(simple("a", text))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=r&sample=a", base=base)
        # The button stays at the window's lower end while the text above it is being laid out.
        page.get_by_role("button", name=re.compile("Show all")).click()
        until(lambda: page.locator(".plain .chunk").count() >= len(text) // 20_000, 30)
        # What the page's thread works, in its own time: the machine may have other things to do.
        driver = page.context.new_cdp_session(page)
        driver.send("Performance.enable", {"timeDomain": "threadTicks"})

        def worked() -> float:
            told = {one["name"]: one["value"] for one in driver.send("Performance.getMetrics")["metrics"]}
            return float(told["TaskDuration"])

        frames = []
        page.evaluate(FRAME, 0)
        for step in range(60):
            begun = worked()
            page.evaluate(FRAME, 900 if step % 2 else 40_000)
            frames.append(worked() - begun)
        assert page.locator(".middle").evaluate("box => box.scrollTop") > 1_000_000
        assert max(frames) < 0.1, f"a frame took {max(frames) * 1000:.0f} ms"


FRAME = """by => new Promise((done) => {
    document.querySelector(".middle").scrollTop += by;
    requestAnimationFrame(() => requestAnimationFrame(done));
})"""


def test_a_run_as_one_file_opens_without_a_server(opened: Opener, runs: Path, tmp_path: Path) -> None:
    index = RunIndex([runs / "training"], tmp_path / "index.sqlite")
    count = write_page(index, tmp_path / "shared.html", filter_="step < 3")
    assert count == 48
    page = opened(
        "#/rollouts?run=training&step=0&group=step0-task0&sample=training-0-0-0", base=f"file://{tmp_path}/shared.html?"
    )
    expect(page.locator(".ending")).to_have_text("Finished. Return 0.250.")
    assert (
        page.get_by_role("region", name="Turn 2")
        .locator("img")
        .evaluate("image => image.decode().then(() => image.naturalWidth)")
        == 64
    )
    page.get_by_role("button", name="Show metrics").click()
    expect(page.locator(".chart canvas").first).to_be_visible()
    page.get_by_role("link", name="Discarded rollouts").click()
    expect(page.locator(".row").first).to_be_visible()
    assert str(runs) not in (tmp_path / "shared.html").read_text()


def test_a_shared_file_of_hostile_rollouts_runs_nothing(opened: Opener, tmp_path: Path) -> None:
    hostile(tmp_path / "runs")
    write_page(RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite"), tmp_path / "shared.html")
    allowed = "violates the following Content Security Policy"
    page = opened("#/rollouts?run=hostile", allowed=allowed, base=f"file://{tmp_path}/shared.html?")
    page.locator(".row").first.click()
    expect(page.locator(".ending")).to_be_attached()
    assert page.evaluate("window.hacked") is None


def test_search_leads_to_the_message(opened: Opener) -> None:
    page = opened("#/search?run=training")
    page.get_by_role("searchbox").fill('"No such file"')
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".hits mark").first).to_have_text("No such file")
    page.locator(".hits a").first.click()
    expect(page.locator(".call.error")).to_be_in_viewport()


def test_a_hundred_thousand_rows_can_all_be_reached(opened: Opener, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "large" / "rollouts"
    folder.mkdir(parents=True)
    with (folder / "x.jsonl").open("w") as file:
        for number in range(100_000):
            record = {
                "schema": "openreward-gym/rollout/1",
                "id": f"r{number}",
                "status": "completed",
                "group": f"g{number // 20:05d}",
                "sample": number % 20,
                "reward": 0.5,
            }
            file.write(json.dumps(record) + "\n")
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=large", base=base)
        expect(page.locator(".groups")).to_have_text("5,000 groups,")
        expect(page.locator(".count")).to_have_text("100,000 samples")
        assert page.locator(".item").count() < 100
        page.locator(".virtual").evaluate("box => { box.scrollTop = box.scrollHeight }")
        expect(page.locator(".group", has_text="g04999")).to_be_visible()
        page.locator(".virtual").evaluate("box => { box.scrollTop = box.scrollHeight / 2 }")
        expect(page.locator(".group", has_text="g0250")).not_to_have_count(0)
        page.goto(f"{base}/#/rollouts?run=large&sample=r77777")
        expect(page.locator(".row.current")).to_be_in_viewport()
