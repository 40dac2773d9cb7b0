"""A Chromium, and pages in it that tell of every error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent))

import chromium
from browser_pages import Opener
from viewer_runs import training
from viewer_serving import viewing

from openreward_gym.viewer.server import make_extensions


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium.find()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=chromium.flags())
        yield started
        started.close()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viewer") / "runs"
    training(folder)
    training(folder, name="baseline", seed=5)
    return folder


@pytest.fixture(scope="session")
def url(runs: Path) -> Iterator[str]:
    with viewing(runs, extensions=make_extensions()) as address:
        yield address


@pytest.fixture
def opened(browser: Browser, url: str) -> Iterator[Opener]:
    """Opens an address (`#/rollouts?run=...`) in a new profile; the test fails if the page reports an error."""
    contexts = []
    said: list[str] = []

    def opener(place: str = "#/", *, base: str = url, width: int = 1280, scheme: str = "light", allowed: str = "") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if _tells(message, allowed) else None)
        page.goto(f"{base}/{place}")
        return page

    yield opener
    for context in contexts:
        context.close()
    assert said == []


def _tells(message: ConsoleMessage, allowed: str) -> bool:
    # A test's own server may end before its page: the page asks on, which is right.
    passes = ["net::ERR_", *([allowed] if allowed else [])]
    return message.type == "error" and not any(text in message.text for text in passes)
