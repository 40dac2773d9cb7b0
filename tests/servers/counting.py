"""The number of open sessions of a server of tests/servers."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable


def sessions(url: str) -> int:
    with urllib.request.urlopen(f"{url}/health/sessions", timeout=10) as answer:
        return int(json.load(answer)["sessions"])


def eventually(condition: Callable[[], bool], within_s: float = 20.0) -> bool:
    ends = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)
    return True
