"""The built page: one file that needs nothing else, and the policy under which a browser runs it."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from openreward_gym.errors import StoreError

FILE = Path(__file__).with_name("index.html")
_PLACE = '<script type="application/json" id="embedded"></script>'


@dataclass(frozen=True, slots=True)
class Page:
    """The page and its Content-Security-Policy: its own script and style by their hashes, nothing remote."""

    html: str
    policy: str


@functools.cache
def page() -> Page:
    """The page as it was built.

    Raises:
        StoreError: The package was installed without it.
    """
    try:
        html = FILE.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StoreError(f"{FILE} is missing: build it with `npm ci && npm run build` in {FILE.parent / 'web'}") from None
    return Page(html, _policy(html, "connect-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'"))


def with_data(answers: Mapping[str, object]) -> str:
    """The page with the answers to everything it will ask inside it: it opens without a server."""
    built = page().html
    # "</script>" and "<!--" must not stand in a script element, whatever is in the records.
    data = json.dumps(answers, separators=(",", ":")).replace("<", "\\u003c")
    policy = _policy(built, "connect-src 'none'; img-src data:")
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    if _PLACE not in built:
        raise StoreError(f"{FILE} is not the viewer's page: build it again")
    return built.replace("<head>", f"<head>{meta}", 1).replace(_PLACE, _PLACE.replace("></", f">{data}</"), 1)


def _policy(html: str, more: str) -> str:
    inline = _Inline()
    inline.feed(html)
    hashes = {tag: " ".join(map(_hash, texts)) or "'none'" for tag, texts in inline.found.items()}
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        f"font-src data:; base-uri 'none'; form-action 'none'; {more}"
    )


class _Inline(HTMLParser):
    """Collects what stands in script and style elements."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self._parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside, self._parts = (tag if tag in self.found else ""), []

    def handle_data(self, data: str) -> None:
        self._parts.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside and self._parts:
            self.found[tag].append("".join(self._parts))
        self._inside = ""


def _hash(text: str) -> str:
    # Browsers hash what they have parsed, in which every line ends with \n.
    data = text.replace("\r\n", "\n").encode("utf-8")
    return "'sha256-" + base64.b64encode(hashlib.sha256(data).digest()).decode() + "'"
