"""The filter language: `reward < 0.5 and tool == "bash" and not label in ("good", "great")`, as SQL over the index.

    expression  = term { ("and" | "or") term }, "not" term, "(" expression ")"
    term        = field operator value
    operator    = == != < <= > >= ~ !~ in
    value       = number, "text", true, false, none, ("a", "b")

`~` searches the field for a regular expression and ignores case. `none` stands for a value that was not recorded: it can
be compared by `==` and `!=` only, and any other comparison of a field without a value is false. `metric.NAME` is a metric
of the run, `metric."ANY NAME"` one whose name is no plain word; a name that is not a field is taken for a metric. Keywords and
field names ignore case.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import regex  # type: ignore[import-untyped]  # its searches take a timeout

from openreward_gym.errors import ConfigurationError
from openreward_gym.viewer.fields import (
    LISTS,
    NUMBERS,
    TEXTS,
    Sql,
    check_field,
    column_of,
    field_name,
    metric_column,
)

__all__ = [
    "NUMBERS",
    "OPERATORS",
    "TEXTS",
    "Completion",
    "FilterOfIds",
    "Sql",
    "check_field",
    "column_of",
    "compile_filter",
    "complete",
    "field_name",
    "metric_column",
    "pattern",
]

OPERATORS = ("==", "!=", "<=", ">=", "<", ">", "~", "!~", "in")

MAX_LENGTH = 2_000
_DEPTH = 40
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
          |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
          |(?P<operator>==|!=|<=|>=|!~|[<>~=])
          |(?P<mark>[(),])
          |(?P<metric>(?i:metric)\.(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))
          |(?P<word>[^\W\d][\w./@:-]*))""",
    re.VERBOSE | re.DOTALL,
)


class FilterOfIds(str):
    """A filter that selects rollouts by their ids, which may be longer than one that is typed.

    Example:
        >>> FilterOfIds.of(["a", "b"])
        'id in ("a", "b")'
    """

    __slots__ = ()

    @classmethod
    def of(cls, ids: Iterable[str]) -> FilterOfIds:
        """Return the filter of these ids."""
        quoted = ('"' + re.sub(r'(["\\])', r"\\\1", rollout_id) + '"' for rollout_id in ids)
        return cls(f"id in ({', '.join(quoted)})")


def compile_filter(expression: str, known: Collection[str] | None = None) -> Sql:
    """Compile a filter to SQL; an empty filter matches every rollout.

    Args:
        expression: The filter.
        known: The names of all metrics; None takes every name that is not a field for a metric.

    Raises:
        ConfigurationError: The filter cannot be parsed, or names a field that is neither a field nor a known metric; the message
            names the position and what was expected, or the nearest name.

    Example:
        >>> compile_filter("reward < 0.5").text
        'r.reward < ?'
    """
    if len(expression) > MAX_LENGTH and not isinstance(expression, FilterOfIds):
        raise ConfigurationError(f"the filter has {len(expression)} characters; at most {MAX_LENGTH} are allowed")
    if not expression.strip():
        return Sql("1")
    return _Parser(expression, known).parse()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def _tokens(expression: str) -> Iterator[_Token]:
    position = 0
    end = len(expression.rstrip())
    while position < end:
        match = _TOKEN.match(expression, position)
        if match is None or match.lastgroup is None:
            remaining = expression[position:].lstrip()
            problem = "a string that does not end" if remaining[:1] in "\"'" else f"{remaining[:12]!r}"
            raise ConfigurationError(f"the filter cannot be read from character {position + 1}: {problem}")
        yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
        position = match.end()


class _Parser:
    """A recursive descent parser of the grammar above."""

    def __init__(self, expression: str, known: Collection[str] | None) -> None:
        self.tokens = list(_tokens(expression))
        self.next = 0
        self.known = known

    def parse(self) -> Sql:
        condition = self._expression(0)
        if self._peek() is not None:
            raise self._unexpected("`and` or `or`")
        return condition

    def _peek(self) -> _Token | None:
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def _accept(self, *texts: str) -> bool:
        token = self._peek()
        if token is not None and token.kind != "text" and token.text.lower() in texts:
            self.next += 1
            return True
        return False

    def _unexpected(self, expected: str) -> ConfigurationError:
        token = self._peek()
        if token is None:
            return ConfigurationError(f"the filter ends where {expected} was expected")
        place = f"at character {token.position + 1}, not {token.text[:40]!r}"
        return ConfigurationError(f"in the filter, {expected} was expected {place}")

    def _expect(self, mark: str) -> None:
        if not self._accept(mark):
            raise self._unexpected(f"`{mark}`")

    def _expression(self, depth: int) -> Sql:
        return self._chain("or", lambda: self._chain("and", lambda: self._term(depth + 1)))

    def _chain(self, word: str, inner: Callable[[], Sql]) -> Sql:
        parts = [inner()]
        while self._accept(word):
            parts.append(inner())
        return _join(word.upper(), parts) if len(parts) > 1 else parts[0]

    def _term(self, depth: int) -> Sql:
        if depth > _DEPTH:
            raise ConfigurationError(f"the filter is nested more than {_DEPTH} deep")
        if self._accept("not"):
            inner = self._term(depth + 1)
            return Sql(f"NOT coalesce({inner.text}, 0)", inner.parameters)
        if self._accept("("):
            inner = self._expression(depth)
            self._expect(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Sql:
        token = self._peek()
        if token is None or token.kind not in {"word", "metric"}:
            raise self._unexpected("a field (reward, status, tool, ...)")
        self.next += 1
        field = _unquoted(token)
        if self.known is not None:
            check_field(field, self.known)
        if self._accept("in"):
            return _compare_any(field, self._list())
        operator = self._peek()
        if operator is None or operator.kind != "operator":
            raise self._unexpected(f"after {field!r}, one of {' '.join(OPERATORS)}")
        self.next += 1
        return _compare(field, "==" if operator.text == "=" else operator.text, self._value())

    def _list(self) -> list[Any]:
        self._expect("(")
        values = [self._value()]
        while self._accept(","):
            values.append(self._value())
        self._expect(")")
        return values

    def _value(self) -> Any:
        token = self._peek()
        if token is None or token.kind in {"operator", "mark", "metric"}:
            raise self._unexpected("a number, a string in quotes, or none")
        self.next += 1
        if token.kind == "number":
            return float(token.text)
        if token.kind == "text":
            return _text_of(token.text)
        constants: dict[str, Any] = {"none": None, "null": None, "true": 1.0, "false": 0.0}
        return constants.get(token.text.lower(), token.text)


def _join(word: str, conditions: Sequence[Sql]) -> Sql:
    text = f" {word} ".join(condition.text for condition in conditions)
    return Sql(f"({text})", tuple(value for condition in conditions for value in condition.parameters))


def _text_of(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted[1:-1], flags=re.DOTALL)


def _unquoted(token: _Token) -> str:
    """Return the name of a field; a quoted metric as `metric.` and its name."""
    return f"metric.{_text_of(token.text[len('metric.') :])}" if token.kind == "metric" else token.text


def _compare(field: str, operator: str, value: Any) -> Sql:
    name = field.lower()
    if name in LISTS:
        return _compare_list(LISTS[name], operator, value)
    column = column_of(field)
    if value is None:
        if operator not in {"==", "!="}:
            raise ConfigurationError(f"none can only be compared with == and !=: `{field} == none` or `{field} != none`")
        return Sql(f"{column.text} IS {'NOT ' if operator == '!=' else ''}NULL", column.parameters)
    if operator in {"~", "!~"}:
        pattern(str(value))
        text = f"coalesce({column.text} REGEXP ?, 0)"
        return Sql(f"NOT {text}" if operator == "!~" else text, (*column.parameters, str(value)))
    if (name in NUMBERS or name not in TEXTS) and not isinstance(value, float):
        raise ConfigurationError(f"{field!r} is a number and cannot be compared with {str(value)[:40]!r}")
    if name in TEXTS and isinstance(value, float):
        value = f"{value:g}"
    sql = "=" if operator == "==" else operator
    return Sql(f"{column.text} {sql} ?", (*column.parameters, value))


def _compare_any(field: str, values: Sequence[Any]) -> Sql:
    conditions = [_compare(field, "==", value) for value in values]
    if field.lower() in LISTS or None in values:
        return _join("OR", conditions)
    column = column_of(field)  # one IN, for SQLite limits the depth of an expression
    parameters = [condition.parameters[len(column.parameters) :] for condition in conditions]
    return Sql(f"{column.text} IN ({', '.join('?' * len(values))})", (*column.parameters, *(p for (p,) in parameters)))


def _compare_list(column: str, operator: str, value: Any) -> Sql:
    if operator not in {"==", "!=", "~", "!~"}:
        raise ConfigurationError("`tool` and `label` can only be compared with == != ~ !~ and in")
    items = f"SELECT 1 FROM json_each(coalesce({'r' if column == 'tools' else 'l'}.{column}, '[]'))"
    negated = operator in {"!=", "!~"}
    if value is None:
        return Sql(f"{'' if negated else 'NOT '}EXISTS ({items})")
    prefix = "NOT " if negated else ""
    if operator in {"~", "!~"}:
        pattern(str(value))
        return Sql(f"{prefix}EXISTS ({items} WHERE value REGEXP ?)", (str(value),))
    return Sql(f"{prefix}EXISTS ({items} WHERE value = ?)", (f"{value:g}" if isinstance(value, float) else value,))


@functools.lru_cache(maxsize=64)
def pattern(text: str) -> Any:
    """Compile a regular expression that ignores case and whose searches take a timeout; raise ConfigurationError if invalid."""
    try:
        return regex.compile(text, regex.IGNORECASE)
    except (regex.error, RecursionError, OverflowError, ValueError) as error:
        raise ConfigurationError(f"{text[:80]!r} is not a regular expression: {error}") from None


@dataclass(frozen=True, slots=True)
class Completion:
    """Suggestions for the next word of a filter.

    Attributes:
        start: The position from which a suggestion replaces the text up to the cursor.
        kind: "field", "operator", "value", "word" or "none".
        field: The field whose values are wanted, or to which the operator belongs; else empty.
        suggestions: Pairs of a suggestion and its description. For values they are empty: the index has those.
    """

    start: int
    kind: str
    field: str
    suggestions: tuple[tuple[str, str], ...]


def complete(expression: str, cursor: int, metrics: Sequence[str] = ()) -> Completion:
    """Return suggestions for the word at the cursor."""
    before = expression[:cursor]
    plain = re.sub(r"\\.", "  ", before, flags=re.DOTALL)
    in_text = plain.count('"') % 2 == 1
    start = plain.rindex('"') if in_text else len(before) - len(re.split(r"[^\w./@:-]", before)[-1])
    if in_text and before[:start].lower().endswith("metric."):
        start -= len("metric.")
    typed = before[start:].lower()
    try:
        tokens = list(_tokens(before[:start]))
    except ConfigurationError:
        return Completion(len(before), "none", "", ())
    field = _field_of_value(tokens)
    if field is not None:
        return Completion(start, "value", field, ())
    # Words after which a condition begins.
    openers = {"and", "or", "not", "("}
    if not tokens or tokens[-1].text.lower() in openers:
        own = {field_name(name): "metric" for name in metrics}
        fields = {**NUMBERS, **TEXTS, **own, "not": "negates the condition"}
        found = [(k, v) for k, v in fields.items() if k.lower().startswith(typed)]
        inner = [(k, v) for k, v in own.items() if k.startswith("metric.") and k[7:].lstrip('"').lower().startswith(typed)]
        found += [pair for pair in inner if pair not in found]
        return Completion(start, "field", "", tuple(found))
    if tokens[-1].kind in {"word", "metric"} and (len(tokens) < 2 or tokens[-2].text.lower() in openers):
        return Completion(start, "operator", _unquoted(tokens[-1]), tuple((operator, "") for operator in OPERATORS))
    return Completion(start, "word", "", tuple((w, "") for w in ("and", "or") if w.startswith(typed)))


def _field_of_value(tokens: Sequence[_Token]) -> str | None:
    """Return the field whose value comes next, after an operator or inside a list; None if another word comes."""
    texts = ["", *(token.text for token in tokens)]
    for number in range(len(tokens), 1, -1):
        if texts[number] == ")":
            break
        if texts[number] == "(":
            if texts[number - 1].lower() == "in":
                return texts[number - 2]
            break
    return texts[-2] if tokens and tokens[-1].kind == "operator" else None
