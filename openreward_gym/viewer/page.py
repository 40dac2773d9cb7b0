"""The built page: one self-contained HTML file, served with a strict policy, or written with runs inside."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from openreward_gym.errors import ConfigurationError, RecordError, StoreError
from openreward_gym.store import OnDamage, images
from openreward_gym.store.folder import LocalFolder
from openreward_gym.viewer.answers import chart_metrics, charts, comparing, lists, opening
from openreward_gym.viewer.answers.discards import discards
from openreward_gym.viewer.answers.selecting import check_filter
from openreward_gym.viewer.index import RunIndex

FILE = Path(__file__).with_name("index.html")
_INLINE = re.compile(r"<(script|style)\b[^>]*>(.*?)</\1>", re.DOTALL)
_DATA_ELEMENT = '<script type="application/json" id="embedded"></script>'

MAX_ROLLOUTS = 2_000
"""The default limit of rollouts in one file."""

MAX_MB = 200.0
"""The default limit of the size of their records, in megabytes."""

_UNESCAPED = "!~*'()"  # characters that JavaScript's encodeURIComponent does not escape


@dataclass(frozen=True, slots=True)
class Page:
    """The page and its Content-Security-Policy, which allows the page's own script and style by hash and nothing remote."""

    html: str
    policy: str


@functools.cache
def load_page() -> Page:
    """Return the page as it was built; raise StoreError if it is missing from the installed package."""
    try:
        html = FILE.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StoreError(f"{FILE} is missing: build it with `npm ci && npm run build` in {FILE.parent / 'web'}") from None
    return Page(html, _policy(html, "connect-src 'self'; img-src 'self' data: blob:"))


def write_page(
    index: RunIndex,
    file: str | os.PathLike[str],
    filter_: str = "",
    limit: int = MAX_ROLLOUTS,
    on_damage: OnDamage = lambda damage: None,
    limit_mb: float = MAX_MB,
) -> int:
    """Write the runs of `index` into one HTML file; see `openreward_gym.viewer.write_html`."""
    content, count = page_of(index, filter_, limit, on_damage, limit_mb=limit_mb)
    path = Path(file)
    LocalFolder(path.parent).write_bytes(path.name, content)
    return count


def page_of(
    index: RunIndex,
    filter_: str = "",
    limit: int = MAX_ROLLOUTS,
    on_damage: OnDamage = lambda damage: None,
    run: str | None = None,
    limit_mb: float = MAX_MB,
) -> tuple[bytes, int]:
    """Return the HTML file with the runs of `index`, or with one of them, and the number of rollouts in it."""
    index.refresh()
    check_filter(index, run, filter_)
    for _, _, damages in index.damages():
        for damage in damages:
            on_damage(damage)
    snapshot = _Snapshot(index, filter_, limit, on_damage, run, limit_mb)
    # A script element must contain neither "</script>" nor "<!--", whatever the records hold.
    data = json.dumps(snapshot.answers(), separators=(",", ":")).replace("<", "\\u003c")
    built = load_page().html
    policy = _policy(built, "connect-src 'none'; img-src data:")
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    if _DATA_ELEMENT not in built:
        raise StoreError(f"{FILE} is not the viewer's page: build it again")
    filled = _DATA_ELEMENT.replace("></", f">{data}</")
    page = built.replace("<head>", f"<head>{meta}", 1).replace(_DATA_ELEMENT, filled, 1)
    return page.encode("utf-8"), snapshot.count


class _Snapshot:
    """Collects the answers to all requests that the page can make, keyed by request."""

    def __init__(self, index: RunIndex, filter_: str, limit: int, on_damage: OnDamage, run: str | None, limit_mb: float) -> None:
        self._index, self._filter, self._limit, self._on_damage, self._run = index, filter_, limit, on_damage, run
        self._limit_mb = limit_mb
        self._bytes = 0
        self._answers: dict[str, Any] = {}
        self.count = 0

    def answers(self) -> dict[str, Any]:
        overview = lists.runs(self._index, self._filter)
        overview["runs"] = [run for run in overview["runs"] if self._run in (None, run["key"])]
        keys = []
        for run in overview["runs"]:
            before = self.count
            self._add_run(run)
            if self.count > before:
                keys.append(run["key"])
            run["folder"] = ""  # paths of this machine stay private
        if not self.count:
            raise ConfigurationError("there is no rollout to share: check the run and the filter")
        self._add("runs", {}, {**overview, "damage": []})
        self._add("intervals", {}, lists.intervals(self._index, self._filter))
        self._add("extensions", {}, {"lens": [], "replay": None})
        if len(keys) > 1:
            self._add("comparison", {}, comparing.for_a_file(self._index, keys, self._filter))
        return self._answers

    def _add(self, name: str, parameters: Mapping[str, str], answer: object) -> None:
        # As the page writes a request: parameters sorted by name, empty ones left out.
        pairs = sorted((key, value) for key, value in parameters.items() if value != "")
        query = "&".join(f"{key}={quote(value, safe=_UNESCAPED)}" for key, value in pairs)
        self._answers[f"{name}?{query}"] = answer

    def _add_run(self, run: Mapping[str, Any]) -> None:
        key = run["key"]
        for discarded in ("", "1"):
            steps = lists.steps(self._index, key, bool(discarded), self._filter)
            self._add("steps", {"run": key, "discarded": discarded}, steps)
            for step in steps:
                self._add_step(key, step["step"], discarded)
                if discarded and run["discarded"]:
                    number = "" if step["step"] is None else str(step["step"])
                    figures = discards(self._index, key, step["step"], self._filter)
                    self._add("discards", {"run": key, "step": number}, figures)
        metrics = chart_metrics.catalogue(self._index, [key])
        self._add("chart_metrics", {"runs": quote(key, safe=_UNESCAPED)}, metrics)
        for metric in chart_metrics.names_of(metrics):
            # Of all rollouts; the page computes the others from the lists.
            series = charts.series(self._index, key, metric, self._filter)
            if series["steps"]:
                self._add("series", {"run": key, "metric": metric}, series)

    def _add_step(self, key: str, step: int | None, discarded: str) -> None:
        parameters = {"run": key, "step": "" if step is None else str(step), "discarded": discarded}
        offset: int | None = 0
        while offset is not None:
            listing = orjson.loads(lists.listing(self._index, key, step, bool(discarded), self._filter, offset))
            self._add("list", {**parameters, "offset": str(offset or "")}, listing)
            for group in listing["groups"]:
                for card in group["cards"]:
                    self._add_rollout(key, card["id"])
            offset = listing["next"]

    def _add_rollout(self, key: str, rollout_id: str) -> None:
        self.count += 1
        if self.count > self._limit:
            raise ConfigurationError(
                f"more than {self._limit} rollouts are too many for one file: select some with a filter like 'reward > 0.5'"
            )
        place = self._index.find(key, rollout_id)
        self._bytes += place.length
        if self._bytes > self._limit_mb * 1e6:
            raise ConfigurationError(
                f"the records are larger than {self._limit_mb:g} MB, too large for one file that a browser reads whole: "
                f"select some with a filter like 'reward > 0.5', or set limit_mb in openreward_gym.viewer.write_html"
            )

        def note(error: Exception) -> None:
            self._on_damage(self._index.damage_at(place, error))

        try:
            # The standard reader, because orjson refuses lone surrogates.
            opened = json.loads(opening.rollout(self._index, key, rollout_id))
        except (RecordError, StoreError) as error:
            self.count -= 1
            note(error)
            return
        images.move_in(opened["rollout"], functools.partial(self._index.image, place.folder), note)
        self._add("rollout", {"run": key, "id": rollout_id}, opened)


def _policy(html: str, more: str) -> str:
    inline: dict[str, list[str]] = {"script": [], "style": []}
    for tag, text in _INLINE.findall(html):
        if text:
            # Browsers hash the parsed text, in which every line ends with \n.
            digest = hashlib.sha256(text.replace("\r\n", "\n").encode("utf-8")).digest()
            inline[tag].append(f"'sha256-{base64.b64encode(digest).decode()}'")
    script, style = (" ".join(hashes) or "'none'" for hashes in inline.values())
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; font-src data:; base-uri 'none'; form-action 'none'; {more}"
    )
