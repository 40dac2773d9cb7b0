"""Full-text search that reads the runs' own files, so that no second copy of the text is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import orjson

from openreward_gym.errors import ConfigurationError, RecordError, StoreError
from openreward_gym.viewer.filters import Sql, compile_filter, pattern
from openreward_gym.viewer.index import JOINED, REGEX_TIMEOUT_S, RolloutPlace, RunIndex
from openreward_gym.viewer.rows import objects_in, parse_record

MAX_HITS = 100
TIME_LIMIT_S = 2.0
CONTEXT = 80
"""Characters shown on each side of a hit."""

MAX_QUERY = 500


def search(index: RunIndex, query: str, *, regex: bool, run: str | None, filter_: str, after: int) -> dict[str, Any]:
    """Find rollouts whose messages contain all words of `query`, each in any message, or match a regular expression.

    Case is ignored. A search ends after about two seconds or 100 hits.

    Args:
        index: The runs.
        query: Words, and phrases in double quotes; or the regular expression.
        regex: Whether `query` is a regular expression.
        run: The key of the run to search; None for all runs.
        filter_: A filter that selects rollouts; empty for all.
        after: The `next` of the previous search; 0 to start.

    Returns:
        `hits`: cards with a snippet. `searched`, `total`: numbers of rollouts. `next`: the place to continue; None at the end.

    Raises:
        ConfigurationError: The query or the filter cannot be parsed.
    """
    if len(query) > MAX_QUERY:
        raise ConfigurationError(f"the query has {len(query)} characters; at most {MAX_QUERY} are allowed")
    needles = [pattern(query)] if regex else _words(query)
    deadline = time.monotonic() + TIME_LIMIT_S
    hits: list[dict[str, Any]] = []
    condition = compile_filter(filter_)
    if run is not None:
        condition = Sql(f"r.run = (SELECT run FROM runs WHERE key = ?) AND {condition.text}", (run, *condition.parameters))
    searched, last = 0, None
    total = index.rows(f"SELECT count(*) FROM {JOINED} WHERE {condition.text} AND r.pk > ?", (*condition.parameters, after))[0][0]
    for pk, card, place in _places(index, condition, after):
        searched += 1
        if needles and (snippet := _hit(index, place, needles)) is not None:
            hits.append({**orjson.loads(card), "run": place.run, **snippet})
        if len(hits) >= MAX_HITS or time.monotonic() > deadline:
            last = pk
            break
    return {"hits": hits, "searched": searched, "total": total, "next": last if searched < total else None}


def _places(index: RunIndex, condition: Sql, after: int) -> Iterator[tuple[int, str, RolloutPlace]]:
    sql = (
        "SELECT r.pk, r.card, runs.key, runs.folder, files.path, r.start, r.length "
        f"FROM {JOINED} JOIN files ON files.file = r.file WHERE {condition.text} AND r.pk > ? ORDER BY r.pk LIMIT 2000"
    )
    while rows := index.rows(sql, (*condition.parameters, after)):
        for pk, card, *place in rows:
            yield pk, card, RolloutPlace(*place)
        after = rows[-1][0]


def _words(query: str) -> list[str]:
    parts = query.split('"')
    words = [word for number, part in enumerate(parts) for word in ([part] if number % 2 else part.split())]
    return [word.lower() for word in words if word.strip()]


def _find(needle: Any, text: str) -> tuple[int, int] | None:
    """Return the (start, end) of the first match of a lower-case word or a regular expression."""
    if isinstance(needle, str):
        start = text.lower().find(needle)
        return None if start < 0 else (start, start + len(needle))
    try:
        match = needle.search(text, timeout=REGEX_TIMEOUT_S)
    except TimeoutError:
        raise ConfigurationError(f"the regular expression {needle.pattern[:80]!r} takes too long. Simplify it.") from None
    return None if match is None else match.span()


def _hit(index: RunIndex, place: RolloutPlace, needles: list[Any]) -> dict[str, Any] | None:
    """Return a snippet at the first needle's first match; None unless all needles match."""
    try:
        line = index.read(place)
    except StoreError:
        return None
    # JSON does not escape ASCII letters and digits, so most lines can be skipped without parsing them.
    parts = [part for needle in needles if isinstance(needle, str) for part in needle.split()]
    lower = line.lower() if parts else b""
    if not all(part.encode() in lower for part in parts if part.isascii() and part.isalnum()):
        return None
    try:
        texts = list(_texts(parse_record(line)))
    except RecordError:
        return None
    first: dict[str, Any] | None = None
    for needle in needles:
        for number, text in texts:
            if (span := _find(needle, text)) is not None:
                first = first or _snippet(number, text, *span)
                break
        else:
            return None
    return first


def _texts(data: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield (message number, text) of every text in the messages."""
    for number, message in enumerate(objects_in(data.get("messages"))):
        for block in objects_in(message.get("blocks")):
            for key in ("text", "content", "summary", "name"):
                if isinstance(block.get(key), str):
                    yield number, block[key]
            if block.get("content") is None and isinstance(block.get("arguments"), dict):
                yield number, orjson.dumps(block["arguments"], default=str).decode()


def _snippet(number: int, text: str, start: int, end: int) -> dict[str, Any]:
    end = min(end, start + 200)
    return {
        "message": number,
        "before": text[max(0, start - CONTEXT) : start],
        "match": text[start:end],
        "after": text[end : end + CONTEXT],
    }
