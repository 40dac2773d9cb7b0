"""Full-text search that reads the runs' own files, so that no second copy of the text is kept."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from openreward_gym.errors import ConfigurationError, RecordError, StoreError
from openreward_gym.viewer.answers.queries import Query, parse_query
from openreward_gym.viewer.filters import Sql, compile_filter
from openreward_gym.viewer.index import JOINED, RolloutPlace, RunIndex
from openreward_gym.viewer.index_file import REGEX_TIMEOUT_S
from openreward_gym.viewer.rows import objects_in, parse_record

MAX_ROLLOUTS = 100
"""The largest number of rollouts in one answer."""

TIME_LIMIT_S = 2.0
CONTEXT = 80
"""Characters shown on each side of a hit."""

MATCH_LENGTH = 200
MAX_SNIPPETS = 3
"""The number of messages of a rollout that a list of hits shows."""

MAX_MESSAGES = 5_000
MAX_COUNT = 1_000
"""The largest number of hits that is counted in one text."""

MAX_MATCHES = 200
"""The largest number of different matched texts of a regular expression that an answer has."""


class _Text(NamedTuple):
    """A text of a message: the message's number (-1 for the rollout's own error), role, turn and tool."""

    message: int
    role: str
    turn: int
    tool: str
    text: str


@dataclass(slots=True)
class _Found:
    """The hits of a rollout by message."""

    messages: dict[int, dict[str, Any]] = field(default_factory=dict)
    roles: Counter[str] = field(default_factory=Counter)
    matches: dict[str, None] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(self.roles.values())

    def add(self, text: _Text, count: int, start: int, end: int) -> None:
        self.roles[text.role] += count
        known = self.messages.get(text.message)
        if known is not None:
            known["count"] += count
            return
        self.messages[text.message] = {
            "message": text.message,
            "role": text.role,
            "turn": text.turn,
            "tool": _writable(text.tool),
            "count": count,
            **_snippet(text.text, start, end),
        }

    def answer(self, most: int) -> dict[str, Any]:
        messages = sorted(self.messages.values(), key=lambda one: int(one["message"]))
        return {"count": self.count, "messages": len(messages), "roles": dict(self.roles), "snippets": messages[:most]}


def search(index: RunIndex, query: str, *, regex: bool, run: str | None, filter_: str, after: int) -> dict[str, Any]:
    """Find the rollouts that have all words of `query`, each in any message, or match a regular expression.

    Case is ignored. `query` may restrict what is searched, see `answers.queries`. A search ends after about two seconds or
    100 rollouts.

    Args:
        index: The runs.
        query: Words, and phrases in double quotes; or the regular expression.
        regex: Whether `query` is a regular expression.
        run: The key of the run to search; None for all runs.
        filter_: A filter that selects rollouts; empty for all.
        after: The `next` of the previous search; 0 to start.

    Returns:
        `hits`: the cards of the found rollouts, each with its `run`, `count` (of hits), `messages` (with a hit), `roles` (the
        hits by role) and `snippets` (the first of these messages: message, role, turn, tool, count, before, match, after).
        `searched`, `total`: numbers of rollouts. `next`: the place to continue; None at the end.

    Raises:
        ConfigurationError: The query or the filter cannot be parsed, or takes too long.
    """
    parsed = parse_query(query, regex)
    deadline = time.monotonic() + TIME_LIMIT_S
    hits: list[dict[str, Any]] = []
    condition = _condition(parsed, run, filter_)
    searched, last = 0, None
    total = index.rows(f"SELECT count(*) FROM {JOINED} WHERE {condition.text} AND r.pk > ?", (*condition.parameters, after))[0][0]
    for pk, card, place in () if parsed.empty else _places(index, condition, after):
        searched += 1
        if (found := _find_in(index, place, parsed)) is not None:
            hits.append({**orjson.loads(card), "run": place.run, **found.answer(MAX_SNIPPETS)})
        if len(hits) >= MAX_ROLLOUTS or time.monotonic() > deadline:
            last = pk
            break
    return {"hits": hits, "searched": searched, "total": total, "next": last if searched < total else None}


def hits_of(index: RunIndex, query: str, *, regex: bool, run: str, rollout: str) -> dict[str, Any]:
    """Return all hits of one rollout: as in `search`, with all its messages in `snippets`.

    `matches` are the different texts that a regular expression matched, for a page whose own expressions have other rules.
    """
    parsed = parse_query(query, regex)
    found = (None if parsed.empty else _find_in(index, index.find(run, rollout), parsed)) or _Found()
    return {**found.answer(MAX_MESSAGES), "matches": [_writable(text) for text in found.matches]}


def _condition(query: Query, run: str | None, filter_: str) -> Sql:
    condition = compile_filter(filter_)
    if run is not None:
        condition = Sql(f"r.run = (SELECT run FROM runs WHERE key = ?) AND {condition.text}", (run, *condition.parameters))
    if query.errors:
        condition = Sql(f"(r.errors > 0 OR r.status != 'completed') AND {condition.text}", condition.parameters)
    return condition


def _places(index: RunIndex, condition: Sql, after: int) -> Iterator[tuple[int, str, RolloutPlace]]:
    sql = (
        "SELECT r.pk, r.card, runs.key, runs.folder, files.path, r.start, r.length "
        f"FROM {JOINED} JOIN files ON files.file = r.file WHERE {condition.text} AND r.pk > ? ORDER BY r.pk LIMIT 2000"
    )
    while rows := index.rows(sql, (*condition.parameters, after)):
        for pk, card, *place in rows:
            yield pk, card, RolloutPlace(*place)
        after = rows[-1][0]


def _find_in(index: RunIndex, place: RolloutPlace, query: Query) -> _Found | None:
    """Return the hits of a rollout; None unless it has all words."""
    try:
        line = index.read(place)
    except StoreError:
        return None
    # JSON does not escape ASCII letters and digits, so most lines can be skipped without parsing them.
    parts = [part.lower() for word in query.words for part in word.split()]
    if parts:
        lower = line.lower()
        if not all(part.encode() in lower for part in parts if part.isascii() and part.isalnum()):
            return None
    try:
        texts = [text for text in _texts(parse_record(line), query) if text.text]
    except RecordError:
        return None
    return _matches(texts, query)


def _matches(texts: list[_Text], query: Query) -> _Found | None:
    found = _Found()
    if query.expression is not None:
        _find_expression(texts, query.expression, found)
    elif query.words:
        lower = [text.text.lower() for text in texts]
        words = [word.lower() for word in query.words]
        if not all(any(word in text for text in lower) for word in words):
            return None
        longest = sorted(words, key=len, reverse=True)
        any_word = re.compile("|".join(map(re.escape, longest)))
        exact = re.compile("|".join(map(re.escape, longest)), re.IGNORECASE)
        for text, lowered in zip(texts, lower, strict=True):
            # A few characters are longer in lower case; their texts are searched as they are, which is slower.
            spans = (any_word.finditer(lowered)) if len(lowered) == len(text.text) else exact.finditer(text.text)
            _count(text, (match.span() for match in spans), found)
    else:
        for text in texts:
            if text.message not in found.messages:
                found.add(text, 1, 0, 0)
    return found if found.messages else None


def _find_expression(texts: list[_Text], expression: Any, found: _Found) -> None:
    deadline = time.monotonic() + REGEX_TIMEOUT_S
    for text in texts:
        remaining = deadline - time.monotonic()
        try:
            if remaining <= 0:
                raise TimeoutError
            spans = (match.span() for match in expression.finditer(text.text, timeout=remaining))
            _count(text, ((start, end) for start, end in spans if end > start), found)
        except TimeoutError:
            raise ConfigurationError(f"the regular expression {expression.pattern[:80]!r} takes too long. Simplify it.") from None


def _count(text: _Text, spans: Iterator[tuple[int, int]], found: _Found) -> None:
    first, count = None, 0
    for start, end in spans:
        first = first or (start, end)
        count += 1
        if len(found.matches) < MAX_MATCHES:
            found.matches[text.text[start : min(end, start + MATCH_LENGTH)]] = None
        if count >= MAX_COUNT:
            break
    if first is not None:
        found.add(text, count, *first)


def _texts(data: dict[str, Any], query: Query) -> Iterator[_Text]:
    """Yield the texts that the query selects, in the order of the messages."""
    names: dict[str, str] = {}
    turn = 0
    error = data.get("error")
    if isinstance(error, str) and not query.roles and not query.tools:
        yield _Text(-1, "error", 0, "", error)
    for number, message in enumerate(objects_in(data.get("messages"))):
        role = str(message.get("role"))
        turn += role == "assistant" and message.get("origin") in ("policy", None)
        blocks = objects_in(message.get("blocks"))
        for block in blocks:
            if block.get("type") == "tool_call" and isinstance(block.get("call_id"), str):
                names[block["call_id"]] = str(block.get("name") or "")
        if query.errors and not (role == "tool" and message.get("is_error") is True):
            continue
        own = message.get("name") if role == "tool" else None
        own_tool = str(own or names.get(str(message.get("call_id")), "")) if role == "tool" else ""
        for block in blocks:
            kind = "reasoning" if block.get("type") == "reasoning" else role
            tool = str(block.get("name") or "") if block.get("type") == "tool_call" else own_tool
            if query.roles and role not in query.roles and kind not in query.roles:
                continue
            if query.tools and tool.lower() not in query.tools:
                continue
            for text in _texts_of(block):
                yield _Text(number, kind, turn, tool, text)


def _texts_of(block: dict[str, Any]) -> Iterator[str]:
    """Yield the texts of a block as the page shows them: of arguments, their names and values without JSON's escapes."""
    call = block.get("type") == "tool_call"
    for key in ("name",) if call else ("text", "content", "summary", "name"):
        if isinstance(block.get(key), str):
            yield block[key]
    if call:
        arguments = _arguments(block)
        yield from [arguments] if isinstance(arguments, str) else _leaves(arguments)


def _arguments(block: dict[str, Any]) -> Any:
    """Return a call's arguments; as they were written if that is not JSON."""
    arguments, written = block.get("arguments"), block.get("content")
    if arguments is not None or not isinstance(written, str):
        return {} if arguments is None else arguments
    try:
        return orjson.loads(written)
    except ValueError:
        return written


def _leaves(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += [part for pair in reversed(item.items()) for part in reversed(pair)]
        elif isinstance(item, list):
            pending += reversed(item)
        else:
            yield item if isinstance(item, str) else json.dumps(item)


def _snippet(text: str, start: int, end: int) -> dict[str, str]:
    end = min(end, start + MATCH_LENGTH)
    after = CONTEXT if end > start else 2 * CONTEXT
    before = _writable(text[max(0, start - CONTEXT) : start])
    return {"before": before, "match": _writable(text[start:end]), "after": _writable(text[end : end + after])}


def _writable(text: str) -> str:
    """Return a text without lone surrogates, which JSON in UTF-8 cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
