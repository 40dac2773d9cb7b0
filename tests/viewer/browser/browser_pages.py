"""What the browser tests share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

from playwright.sync_api import Page

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
