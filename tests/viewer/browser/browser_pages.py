"""Helpers of the browser tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from playwright.sync_api import Page
from viewer_serving import viewing

from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.page import write_page

AXE = Path(__file__).parents[3] / "openreward_gym/viewer/web/node_modules/axe-core/axe.min.js"
RULES = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}"
CONTRAST = "{runOnly: {type: 'rule', values: ['color-contrast']}}"

Opener: TypeAlias = Callable[..., Page]
"""Opens an address of the viewer: `opened("#/rollouts?run=...", base=url, width=1280, scheme="light")`."""


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what no locator can say.

    Raises:
        AssertionError: It was not so within that time.
    """
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def complaints(page: Page) -> list[tuple[str, list[str]]]:
    """Return the accessibility violations that axe reports, as (rule, the first elements); contrast also in the dark theme."""
    # Through the driver, not as a script of the page, which its policy forbids.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(f"axe.run(document, {RULES})")["violations"]
    page.emulate_media(color_scheme="dark")
    found += page.evaluate(f"axe.run(document, {CONTRAST})")["violations"]
    return [(one["id"], [node["html"][:160] for node in one["nodes"]][:3]) for one in found]


@contextmanager
def served_as(kind: str, folder: Path) -> Iterator[str]:
    """Yield the address of the page of the runs in `folder`: of a server, or of a file ("file") that is made beside them."""
    if kind == "server":
        with viewing(folder / "runs") as url:
            yield url
    else:
        write_page(RunIndex([folder / "runs"], folder / "file.sqlite"), folder / "shared.html")
        yield f"file://{folder}/shared.html?"
