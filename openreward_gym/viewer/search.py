"""Searching the text of rollouts: read where they are, so that there is no second copy of it to keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from openreward_gym.errors import ConfigurationError, RecordError, StoreError
from openreward_gym.viewer.filters import Sql, compiled, pattern
from openreward_gym.viewer.index import Found, RunIndex
from openreward_gym.viewer.rows import parsed
from openreward_gym.viewer.tables import JOINED

HITS = 100
TIME_S = 2.0
AROUND = 80
MAX_QUERY = 500
REGEX_TIMEOUT_S = 1.0

Finder = Callable[[str], tuple[int, int] | None]
"""(start, end) of the first hit in a text; None where there is none."""


def search(index: RunIndex, query: str, *, regex: bool, run: str | None, filter_: str, after: int) -> dict[str, Any]:
    """Rollouts whose messages have all the words of `query` (in any of them), or a match of a regular expression.

    Without regard to case. Words in double quotes belong together. Goes on for about two seconds or 100 hits: `next` is
    where to go on (None at the end), `searched` and `total` are numbers of rollouts.

    Raises:
        ConfigurationError: The query or the filter cannot be read.
    """
    if len(query) > MAX_QUERY:
        raise ConfigurationError(f"the query has {len(query)} characters; at most {MAX_QUERY} are taken")
    words = [] if regex else _words(query)
    finders = [_regex_finder(query)] if regex else [_word_finder(word) for word in words]
    deadline = time.monotonic() + TIME_S
    hits: list[dict[str, Any]] = []
    condition = _where(run, filter_)
    searched, last = 0, None
    total = index.rows(f"SELECT count(*) FROM {JOINED} WHERE {condition.text} AND r.pk > ?", (*condition.parameters, after))[0][0]
    for pk, card, found in _places(index, condition, after):
        searched += 1
        if finders and (snippet := _hit(index, found, words, finders)) is not None:
            hits.append({**orjson.loads(card), "run": found.run, **snippet})
        if len(hits) >= HITS or time.monotonic() > deadline:
            last = pk
            break
    return {"hits": hits, "searched": searched, "total": total, "next": last if searched < total else None}


def _places(index: RunIndex, condition: Sql, after: int) -> Iterator[tuple[int, str, Found]]:
    sql = (
        "SELECT r.pk, r.card, runs.key, runs.folder, files.path, r.start, r.length "
        f"FROM {JOINED} JOIN files ON files.file = r.file WHERE {condition.text} AND r.pk > ? ORDER BY r.pk LIMIT 2000"
    )
    while rows := index.rows(sql, (*condition.parameters, after)):
        for pk, card, *place in rows:
            yield pk, card, Found(*place)
        after = rows[-1][0]


def _where(run: str | None, filter_: str) -> Sql:
    condition = compiled(filter_)
    if run is None:
        return condition
    return Sql(f"r.run = (SELECT run FROM runs WHERE key = ?) AND {condition.text}", (run, *condition.parameters))


def _words(query: str) -> list[str]:
    parts = query.split('"')
    found = [word for number, part in enumerate(parts) for word in ([part] if number % 2 else part.split())]
    return [word.lower() for word in found if word.strip()]


def _word_finder(word: str) -> Finder:
    def find(text: str) -> tuple[int, int] | None:
        at = text.lower().find(word)
        return None if at < 0 else (at, at + len(word))

    return find


def _regex_finder(query: str) -> Finder:
    compiled_pattern = pattern(query)

    def find(text: str) -> tuple[int, int] | None:
        try:
            match = compiled_pattern.search(text, timeout=REGEX_TIMEOUT_S)
        except TimeoutError:
            raise ConfigurationError(f"the regular expression {query[:80]!r} takes too long: make it simpler") from None
        return None if match is None else match.span()

    return find


def _hit(index: RunIndex, found: Found, words: list[str], finders: list[Finder]) -> dict[str, Any] | None:
    try:
        line = index.read(found)
    except StoreError:
        return None
    if words:
        # Letters and digits are not escaped in JSON: most lines are passed over without being parsed.
        low = line.lower()
        if not all(bare.encode() in low for word in words for bare in word.split() if bare.isascii() and bare.isalnum()):
            return None
    try:
        texts = list(_texts(parsed(line)))
    except RecordError:
        return None
    first: dict[str, Any] | None = None
    for find in finders:
        for number, text in texts:
            if (span := find(text)) is not None:
                first = first or _snippet(number, text, *span)
                break
        else:
            return None
    return first


def _texts(data: dict[str, Any]) -> Iterator[tuple[int, str]]:
    messages = data.get("messages")
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        blocks = message.get("blocks") if isinstance(message, dict) else None
        for block in blocks if isinstance(blocks, list) else ():
            if isinstance(block, dict):
                yield from ((number, text) for text in _block_texts(block))


def _block_texts(block: dict[str, Any]) -> Iterator[str]:
    for key in ("text", "summary", "name", "input_text"):
        if isinstance(block.get(key), str):
            yield block[key]
    if block.get("input_text") is None and isinstance(block.get("input"), dict):
        yield orjson.dumps(block["input"], default=str).decode()


def _snippet(number: int, text: str, start: int, end: int) -> dict[str, Any]:
    end = min(end, start + 200)
    return {
        "message": number,
        "before": text[max(0, start - AROUND) : start],
        "match": text[start:end],
        "after": text[end : end + AROUND],
    }
