"""The viewer's page in Chromium: the time from a click or an address until the requested content is visible."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, sync_playwright
from viewer_http import quantiles_ms

# Waits for the frame after the one in which the content exists: by then it has been drawn.
_SEEN = """([selector, text]) => new Promise((done) => {
    const look = () => {
        const found = [...document.querySelectorAll(selector)].some((node) => !text || node.value === text || node.textContent.includes(text));
        requestAnimationFrame(found ? () => done() : look);
    };
    look();
})"""  # noqa: E501


def draw(address: str, chromium: str, steps: int) -> None:
    """Print p50 and p95 of opening the page, changing the step, opening samples, and charts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})

        def seen(selector: str, text: str = "") -> None:
            page.evaluate(_SEEN, [selector, text])

        def opened(number: int) -> None:
            page.goto("about:blank")
            page.goto(f"{address}#/rollouts?run=run&step={number * 37 % steps}")
            seen(".row")

        def step(number: int) -> None:
            target = number * 41 % steps
            _go(page, f"#/rollouts?run=run&step={target}")
            seen(".group", f"g{target * 25}")

        def sample(number: int) -> None:
            target = number * 41 % steps
            identity = f"r{target * 100 + number % 100}"
            _go(page, f"#/rollouts?run=run&step={target}&group=g{(target * 100 + number % 100) // 4}&sample={identity}")
            seen(".sample .body", f"{identity[1:]} 7 ")

        def charts(number: int) -> None:
            _go(page, "#/")
            seen("table.runs")
            _go(page, "#/metrics?run=run")
            seen(".chart canvas")

        acts: dict[str, Callable[[int], object]] = {
            "the page, at a step": opened, "another step": step, "a sample": sample, "charts": charts}  # fmt: skip
        for name, act in acts.items():
            p50, p95, times = quantiles_ms(act)
            print(f"{name:26} p50 {p50:8.2f} ms   p95 {p95:8.2f} ms   {times} times")
        browser.close()


def _go(page: Page, place: str) -> None:
    page.evaluate("place => { location.hash = place }", place)
