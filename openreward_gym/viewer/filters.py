"""The filter language: `reward < 0.5 and tool == "bash" and not label in ("good", "great")`, as SQL over the index.

    expression  = term { ("and" | "or") term }, "not" term, "(" expression ")"
    term        = field operator value
    operator    = == != < <= > >= ~ !~ in
    value       = number, "text", true, false, none, ("a", "b")

`~` is a regular expression found anywhere in the field, without regard to case. `none` is what was not recorded: a
comparison with it is true only of `== none` and `!= none`, and no other comparison is true of a field that is none.
`metric.NAME` is a rollout's own metric; a bare name that is no field is taken for one. The words need no capitals.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import regex  # type: ignore[import-untyped]  # its searches take a timeout

from openreward_gym.errors import ConfigurationError

NUMBERS = {
    "reward": "the return",
    "final_reward": "the last reward",
    "advantage": "the advantage in its group",
    "steps": "turns of the assistant",
    "calls": "tool calls",
    "errors": "tool results that are errors",
    "tokens": "output tokens",
    "input_tokens": "input tokens",
    "duration": "seconds from start to end",
    "cost": "US dollars",
    "step": "the training step",
    "sample": "the number in its group",
    "attempt": "0 for the first try",
    "index": "the task's index",
    "seed": "the seed",
    "rating": "a reader's rating, 1 to 5",
}
TEXTS = {
    "status": "completed, truncated, error, cancelled, running",
    "stop": "why it ended",
    "discard": "why it was thrown away",
    "environment": "the environment",
    "variant": "its variant",
    "split": "the split",
    "task": "the task's id",
    "group": "the group",
    "model": "the model",
    "name": "the rollout's name",
    "id": "the rollout's id",
    "prompt": "how the prompt begins",
    "note": "a reader's note",
    "tool": "a tool that was called",
    "label": "a reader's tag",
}
OPERATORS = ("==", "!=", "<=", ">=", "<", ">", "~", "!~", "in")
_SQL = {"steps": "turns", "group": "grp", "index": "task_index"}
_LABELLED = {"rating", "note"}
_LISTS = {"tool": "tools", "label": "tags"}

MAX_LENGTH = 2_000
_DEPTH = 40
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
          |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
          |(?P<operator>==|!=|<=|>=|!~|[<>~=])
          |(?P<mark>[(),])
          |(?P<word>[A-Za-z_][\w./@:-]*))""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Sql:
    """A condition over the tables `rollouts` r and `labels` l, with its parameters."""

    text: str
    parameters: tuple[Any, ...] = ()


EVERYTHING = Sql("1")


def compiled(expression: str) -> Sql:
    """The condition of a filter; an empty one is true of all.

    Raises:
        ConfigurationError: It is not a filter; the message says where, and what was expected.
    """
    if len(expression) > MAX_LENGTH:
        raise ConfigurationError(f"the filter has {len(expression)} characters; at most {MAX_LENGTH} can be read")
    if not expression.strip():
        return EVERYTHING
    return _Parser(expression).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(expression: str) -> Iterator[_Token]:
    at = 0
    end = len(expression.rstrip())
    while at < end:
        match = _TOKEN.match(expression, at)
        if match is None or match.lastgroup is None:
            rest = expression[at:].lstrip()
            hint = "a text that does not end" if rest[:1] in "\"'" else f"{rest[:12]!r}"
            raise ConfigurationError(f"the filter cannot be read from character {at + 1}: {hint}")
        yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
        at = match.end()


class _Parser:
    def __init__(self, expression: str) -> None:
        self.tokens = list(_tokens(expression))
        self.at = 0
        self.depth = 0

    def whole(self) -> Sql:
        found = self._either()
        if self._next() is not None:
            raise self._wrong("`and` or `or`")
        return found

    def _next(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def _takes(self, *texts: str) -> bool:
        token = self._next()
        if token is not None and token.kind != "text" and token.text.lower() in texts:
            self.at += 1
            return True
        return False

    def _wrong(self, expected: str) -> ConfigurationError:
        token = self._next()
        if token is None:
            return ConfigurationError(f"the filter ends where {expected} was expected")
        return ConfigurationError(f"in the filter, {expected} was expected at character {token.at + 1}, not {token.text[:40]!r}")

    def _either(self) -> Sql:
        return self._chain("or", self._both)

    def _both(self) -> Sql:
        return self._chain("and", self._one)

    def _chain(self, word: str, inner: Callable[[], Sql]) -> Sql:
        parts = [inner()]
        while self._takes(word):
            parts.append(inner())
        if len(parts) == 1:
            return parts[0]
        text = f" {word.upper()} ".join(part.text for part in parts)
        return Sql(f"({text})", tuple(value for part in parts for value in part.parameters))

    def _one(self) -> Sql:
        self.depth += 1
        if self.depth > _DEPTH:
            raise ConfigurationError(f"the filter is nested more than {_DEPTH} deep")
        try:
            if self._takes("not"):
                inner = self._one()
                return Sql(f"NOT coalesce({inner.text}, 0)", inner.parameters)
            if self._takes("("):
                inner = self._either()
                if not self._takes(")"):
                    raise self._wrong("`)`")
                return inner
            return self._comparison()
        finally:
            self.depth -= 1

    def _comparison(self) -> Sql:
        token = self._next()
        if token is None or token.kind != "word":
            raise self._wrong("a field (reward, status, tool, ...)")
        self.at += 1
        operator = self._operator(token.text)
        if operator == "in":
            return _any_of(token.text, self._list())
        return _compare(token.text, operator, self._value())

    def _operator(self, field: str) -> str:
        token = self._next()
        if token is not None and (token.kind == "operator" or token.text.lower() == "in"):
            self.at += 1
            return "==" if token.text == "=" else token.text.lower()
        raise self._wrong(f"after {field!r}, one of {' '.join(OPERATORS)}")

    def _list(self) -> list[Any]:
        if not self._takes("("):
            raise self._wrong("`(`")
        values = [self._value()]
        while self._takes(","):
            values.append(self._value())
        if not self._takes(")"):
            raise self._wrong("`)`")
        return values

    def _value(self) -> Any:
        token = self._next()
        if token is None or token.kind in {"operator", "mark"}:
            raise self._wrong("a number, a text in quotes, or none")
        self.at += 1
        if token.kind == "number":
            return float(token.text)
        if token.kind == "text":
            return re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)
        named: dict[str, Any] = {"none": None, "null": None, "true": 1.0, "false": 0.0}
        return named.get(token.text.lower(), token.text)


def _column(field: str) -> Sql:
    name = field.lower()
    if name in _LABELLED:
        return Sql(f"l.{name}")
    if name in NUMBERS or name in TEXTS:
        return Sql(f"r.{_SQL.get(name, name)}")
    metric = field[len("metric.") :] if name.startswith("metric.") else field
    return Sql("json_extract(r.metrics, ?)", (_json_path(metric),))


def _json_path(name: str) -> str:
    return '$."' + name.replace('"', "") + '"'


def _any_of(field: str, values: Sequence[Any]) -> Sql:
    parts = [_compare(field, "==", value) for value in values]
    return Sql("(" + " OR ".join(part.text for part in parts) + ")", tuple(p for part in parts for p in part.parameters))


def _compare(field: str, operator: str, value: Any) -> Sql:
    name = field.lower()
    if name in _LISTS:
        return _compare_list(_LISTS[name], operator, value)
    column = _column(field)
    if value is None:
        if operator not in {"==", "!="}:
            raise ConfigurationError(f"none is equal or not, nothing else: `{field} == none` or `{field} != none`")
        return Sql(f"{column.text} IS {'NOT ' if operator == '!=' else ''}NULL", column.parameters)
    if operator in {"~", "!~"}:
        _check_pattern(value)
        text = f"coalesce({column.text} REGEXP ?, 0)"
        return Sql(f"NOT {text}" if operator == "!~" else text, (*column.parameters, str(value)))
    if (name in NUMBERS or name not in TEXTS) and not isinstance(value, float):
        raise ConfigurationError(f"{field!r} is a number: compare it with one, not with {str(value)[:40]!r}")
    if name in TEXTS and isinstance(value, float):
        value = f"{value:g}"
    sql = "=" if operator == "==" else operator
    return Sql(f"{column.text} {sql} ?", (*column.parameters, value))


def _compare_list(column: str, operator: str, value: Any) -> Sql:
    table = "r" if column == "tools" else "l"
    have = f"json_each(coalesce({table}.{column}, '[]'))"
    wanted = operator in {"==", "~"}
    if operator not in {"==", "!=", "~", "!~"}:
        raise ConfigurationError("`tool` and `label` are compared with == != ~ !~ and in")
    prefix = "" if wanted else "NOT "
    if value is None:
        return Sql(f"{'NOT ' if wanted else ''}EXISTS (SELECT 1 FROM {have})")
    if operator in {"~", "!~"}:
        _check_pattern(value)
        return Sql(f"{prefix}EXISTS (SELECT 1 FROM {have} WHERE value REGEXP ?)", (str(value),))
    return Sql(f"{prefix}EXISTS (SELECT 1 FROM {have} WHERE value = ?)", (f"{value:g}" if isinstance(value, float) else value,))


def _check_pattern(value: Any) -> None:
    pattern(str(value))


@functools.lru_cache(maxsize=64)
def pattern(text: str) -> Any:
    """A regular expression without regard to case, of the `regex` package.

    Raises:
        ConfigurationError: It is none.
    """
    try:
        return regex.compile(text, regex.IGNORECASE)
    except (regex.error, RecursionError, OverflowError, ValueError) as error:
        raise ConfigurationError(f"not a regular expression: {text[:80]!r}: {error}") from None


@dataclass(frozen=True, slots=True)
class Completion:
    """What may come next. `start` is where the word begins that a suggestion replaces (up to the cursor)."""

    start: int
    kind: str
    field: str
    suggestions: tuple[tuple[str, str], ...]


def complete(expression: str, cursor: int, metrics: Sequence[str] = ()) -> Completion:
    """(suggestion, what it is) for a cursor in an expression; of kind "value", the index knows the field's values."""
    before = expression[:cursor]
    in_text = before.count('"') % 2 == 1
    start = before.rindex('"') if in_text else cursor - len(re.split(r"[^\w./@:-]", before)[-1])
    typed = before[start:].lower()
    try:
        tokens = list(_tokens(before[:start]))
    except ConfigurationError:
        return Completion(cursor, "none", "", ())
    last = tokens[-1] if tokens else None
    if last is not None and (last.kind == "operator" or _list_begins(tokens) is not None):
        return Completion(start, "value", _field_before(tokens), ())
    if last is None or last.text.lower() in {"and", "or", "not", "("}:
        fields = {**NUMBERS, **TEXTS, **{_metric_field(name): "a metric" for name in metrics}, "not": "is not so"}
        return Completion(start, "field", "", tuple((k, v) for k, v in fields.items() if k.lower().startswith(typed)))
    if last.kind == "word" and (len(tokens) < 2 or tokens[-2].text.lower() in {"and", "or", "not", "("}):
        return Completion(start, "operator", last.text, tuple((operator, "") for operator in OPERATORS))
    return Completion(start, "word", "", tuple((w, "") for w in ("and", "or") if w.startswith(typed)))


def _metric_field(name: str) -> str:
    return name if name.lower() not in NUMBERS and name.lower() not in TEXTS else f"metric.{name}"


def _list_begins(tokens: Sequence[_Token]) -> int | None:
    """Where the `in` of a list is that has not ended; None outside of one."""
    for number in range(len(tokens) - 1, 0, -1):
        if tokens[number].text == ")":
            return None
        if tokens[number].text == "(":
            return number - 1 if tokens[number - 1].text.lower() == "in" else None
    return None


def _field_before(tokens: Sequence[_Token]) -> str:
    within = _list_begins(tokens)
    place = len(tokens) - 2 if within is None else within - 1
    return tokens[place].text if place >= 0 else ""
