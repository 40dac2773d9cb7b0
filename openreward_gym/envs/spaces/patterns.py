r"""Regular expressions of JSON Schema: read in JavaScript's or Python's form, matched in bounded time.

`re` has no Unicode classes (`\p{L}`) and reads a few things otherwise than ECMA-262 does, so patterns are translated. Its matcher
needs exponential time for some patterns, such as `^(a+)+$`. Where that can happen the same syntax tree is simulated as an
automaton, in time proportional to the lengths of pattern and text.
"""

from __future__ import annotations

import math
import re
import unicodedata
from functools import cached_property, lru_cache

# The parser and the compiler of `re` are private, but unchanged since Python 3.11, and no public function returns the tree.
from re import _compiler as compiler  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from openreward_gym.envs.spaces.schema_limits import StepBudget

_LONGEST_PATTERN = 100_000
_COSTLIEST = 1_000_000
"""Number of character comparisons up to which `re` itself matches."""
_MOST_STATES = 20_000
_LAST_CHARACTER = 0x32000
"""Codes from here on are not in the Unicode classes: they are emoji variants, tags and private use."""

_ESCAPES = frozenset("abfnrtvxuUNdDsSwWBAZ")
_LONG_NAMES = {
    "Letter": "L",
    "Cased_Letter": "Lu Ll Lt",
    "LC": "Lu Ll Lt",
    "Uppercase_Letter": "Lu",
    "Lowercase_Letter": "Ll",
    "Titlecase_Letter": "Lt",
    "Modifier_Letter": "Lm",
    "Other_Letter": "Lo",
    "Mark": "M",
    "Combining_Mark": "M",
    "Nonspacing_Mark": "Mn",
    "Number": "N",
    "Decimal_Number": "Nd",
    "digit": "Nd",
    "Letter_Number": "Nl",
    "Other_Number": "No",
    "Punctuation": "P",
    "punct": "P",
    "Dash_Punctuation": "Pd",
    "Connector_Punctuation": "Pc",
    "Symbol": "S",
    "Math_Symbol": "Sm",
    "Currency_Symbol": "Sc",
    "Other_Symbol": "So",
    "Emoji": "So",
    "Emoji_Presentation": "So",
    "Extended_Pictographic": "So",
    "Separator": "Z",
    "Space_Separator": "Zs",
    "White_Space": "Z",
    "Other": "C",
    "Control": "Cc",
    "Alphabetic": "L Nl",
    "Alpha": "L Nl",
    "Uppercase": "Lu",
    "Lowercase": "Ll",
    "ID_Start": "L Nl",
    "ID_Continue": "L Nl Mn Mc Nd Pc",
}


class _UnsupportedError(Exception):
    """A pattern that the automaton cannot match."""


class Pattern:
    """A regular expression that is compiled.

    Attributes:
        compiled: The pattern for `re`.
        tree: Its syntax tree.
        shortest, longest: The lengths of its matches, where `re` can tell.
        is_whole: True if a match is the whole text.

    Example:
        >>> read_pattern(r"^\\p{Lu}+$").matches("ÉTÉ", StepBudget(100))
        True
    """

    def __init__(self, source: str) -> None:
        self.compiled = re.compile(source)
        self.tree: Any = parser.parse(source)
        self.shortest, self.longest = map(int, self.tree.getwidth())
        codes = [(str(code), str(argument)) for code, argument in self.tree]
        self._is_anchored = codes[:1] in ([("AT", "AT_BEGINNING")], [("AT", "AT_BEGINNING_STRING")])
        self.is_whole = self._is_anchored and codes[-1] in (("AT", "AT_END"), ("AT", "AT_END_STRING"))

    @cached_property
    def _choices(self) -> float:
        return _choices(self.tree) + (not self._is_anchored)

    @cached_property
    def _automaton(self) -> _Automaton | None:
        try:
            return _Automaton(self.tree)
        except (_UnsupportedError, RecursionError, re.error):
            return None

    @property
    def is_costly(self) -> bool:
        """True if `re` may need more than quadratic time for a text."""
        return self._choices > 2

    def matches(self, text: str, budget: StepBudget) -> bool:
        """Return True if `text` contains a match, or if that cannot be determined in bounded time.

        Raises:
            OutOfStepsError: The budget is not enough.
        """
        size = len(text) + 1
        if self._choices * math.log(size) <= math.log(_COSTLIEST):
            budget.spend(1 + int(size ** min(self._choices, 1_000)) // 1_000)
            return self.compiled.search(text) is not None
        return True if self._automaton is None else self._automaton.matches(text, budget)


@lru_cache(maxsize=512)
def read_pattern(source: str) -> Pattern | None:
    """Return a pattern of a schema. None if it is malformed, or has syntax that cannot be translated."""
    if len(source) > _LONGEST_PATTERN:
        return None
    try:
        return Pattern(_translated(source))
    except (re.error, RecursionError, OverflowError, ValueError):
        return None


def name_matches(pattern: str, name: str, budget: StepBudget) -> bool:
    """Return True if a property's name matches a key of `patternProperties`. A malformed key matches nothing."""
    compiled = read_pattern(pattern)
    return compiled is not None and compiled.matches(name, budget)


def _choices(tree: Any) -> float:
    """Return the number of places where a matcher can try one thing after another; infinity where one is inside a repetition."""
    total = 0.0
    for code, argument in tree:
        name = str(code)
        if name.endswith("_REPEAT"):
            least, most, inner_tree = argument
            inner = _choices(inner_tree)
            total += math.inf if inner and most > 1 else inner + (least != most)
        elif name == "BRANCH":
            total += 1 + max(map(_choices, argument[1]))
        elif name == "SUBPATTERN":
            total += _choices(argument[3])
        elif name in ("ASSERT", "ASSERT_NOT"):
            total += _choices(argument[1])
        elif name == "ATOMIC_GROUP":
            total += _choices(argument)
        elif name == "GROUPREF_EXISTS":
            total += 1 + sum(_choices(branch) for branch in argument[1:] if branch)
    return total


class _Automaton:
    """A nondeterministic automaton that tells whether a text contains a match."""

    def __init__(self, tree: Any) -> None:
        self._state = tree.state
        self._tests: list[re.Pattern[str] | None] = [None]
        """For each state what must match at the position; None if nothing must."""
        self._steps_on: list[bool] = [False]
        """For each state whether its test takes a character."""
        self._targets: list[list[int]] = [[]]
        self._start = self._add_all(tree, 0)
        self._taken: dict[tuple[int, str], bool] = {}

    def _state_of(self, test: re.Pattern[str] | None, steps_on: bool, targets: list[int]) -> int:
        if len(self._tests) >= _MOST_STATES:
            raise _UnsupportedError
        self._tests.append(test)
        self._steps_on.append(steps_on)
        self._targets.append(targets)
        return len(self._tests) - 1

    def _add_all(self, tree: Any, target: int) -> int:
        for item in reversed(list(tree)):
            target = self._add(item, target)
        return target

    def _add(self, item: Any, target: int) -> int:
        code, argument = item
        name = str(code)
        if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return self._state_of(self._compiled(item), True, [target])
        if name == "AT" or (name in ("ASSERT", "ASSERT_NOT") and _choices(argument[1]) <= 1):
            return self._state_of(self._compiled(item), False, [target])
        if name == "BRANCH":
            return self._state_of(None, False, [self._add_all(branch, target) for branch in argument[1]])
        if name == "SUBPATTERN" and not argument[1] and not argument[2]:
            return self._add_all(argument[3], target)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, inner = argument
            if most == parser.MAXREPEAT:
                loop = self._state_of(None, False, [target])
                self._targets[loop].append(self._add_all(inner, loop))
                target = loop
            else:
                end = target
                for _ in range(most - least):
                    target = self._state_of(None, False, [self._add_all(inner, target), end])
            for _ in range(least):
                target = self._add_all(inner, target)
            return target
        raise _UnsupportedError

    def _compiled(self, item: Any) -> re.Pattern[str]:
        compiled: re.Pattern[str] = compiler.compile(parser.SubPattern(self._state, [item]))
        return compiled

    def matches(self, text: str, budget: StepBudget) -> bool:
        """Return True if `text` contains a match."""
        current: set[int] = set()
        for position in range(len(text) + 1):
            current = self._closed({*current, self._start}, text, position)
            budget.spend(1 + len(current) // 8)
            if 0 in current:
                return True
            if position < len(text):
                current = {self._targets[state][0] for state in current if self._takes(state, text[position])}
        return False

    def _closed(self, states: set[int], text: str, position: int) -> set[int]:
        """Return the states that are reached without a character."""
        reached: set[int] = set()
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state in reached:
                continue
            reached.add(state)
            test = self._tests[state]
            if not self._steps_on[state] and (test is None or test.match(text, position)):
                waiting.extend(self._targets[state])
        return reached

    def _takes(self, state: int, character: str) -> bool:
        if not self._steps_on[state]:
            return False
        key = (state, character)
        if key not in self._taken:
            if len(self._taken) > _MOST_STATES * 5:
                self._taken.clear()
            test = self._tests[state]
            self._taken[key] = test is not None and test.match(character) is not None
        return self._taken[key]


def _translated(source: str) -> str:
    """Return a pattern of ECMA-262 in Python's syntax. A pattern that is Python's already keeps its meaning."""
    pieces: list[str] = []
    position, class_start = 0, -1
    while position < len(source):
        character = source[position]
        if character == "\\" and position + 1 < len(source):
            piece, position = _escape(source, position, in_class=class_start >= 0)
            pieces.append(piece)
            is_set = class_start >= 0 and source[position - 1] in "wWdDsS}" and source.startswith("-", position)
            if is_set and not source.startswith("-]", position):
                pieces.append("\\-")  # behind a class it is no range
                position += 1
            continue
        if class_start >= 0:
            if character == "]" and position > class_start:
                class_start = -1
            elif character in "[&|~" or (character == "-" and source[position - 1] == "-"):
                character = f"\\{character}"  # `re` warns of set operations, which JSON Schema does not have
        elif character == "[":
            opening = "[^" if source.startswith("[^", position) else "["
            position += len(opening)
            if source.startswith("]", position) and source.find("]", position + 1) < 0:
                pieces.append("(?!)" if opening == "[" else r"[\s\S]")  # no character, any character
                position += 1
            else:
                pieces.append(opening)
                class_start = position
            continue
        elif source.startswith("(?<", position) and source[position + 3 : position + 4] not in ("=", "!", ""):
            pieces.append("(?P<")
            position += 3
            continue
        pieces.append(character)
        position += 1
    return "".join(pieces)


_ECMA_ESCAPE = re.compile(
    r"\\(?:u\{(?P<code>[0-9a-fA-F]{1,6})\}|(?P<pair>u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|c(?P<control>[A-Za-z])|k<(?P<group>\w+)>|(?P<negated>[pP])(?:\{\^?(?P<property>[\w=: -]{1,60})\}|(?P<letter>[A-Z])))"
)


def _escape(source: str, position: int, *, in_class: bool) -> tuple[str, int]:
    """Return an escape in Python's syntax, and the position after it."""
    special = _ECMA_ESCAPE.match(source, position)
    if special is None:
        letter = source[position + 1]
        known = not letter.isalpha() or (letter in _ESCAPES and not (in_class and letter in "BAZ")) or letter == "b"
        return (source[position : position + 2] if known else re.escape(letter)), position + 2
    if special["code"]:
        return re.escape(chr(int(special["code"], 16))), special.end()
    if special["pair"]:
        high, low = int(special["pair"][1:5], 16), int(special["pair"][7:], 16)
        return re.escape(chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00)), special.end()
    if special["control"]:
        return re.escape(chr(ord(special["control"]) % 32)), special.end()
    if special["group"]:
        return f"(?P={special['group']})", special.end()
    negated = (special["negated"] == "P") != (source[position + 3 : position + 4] == "^")
    members = _unicode_class(special["property"] or special["letter"], negated)
    return (members if in_class else f"[{members}]"), special.end()


@lru_cache(maxsize=64)
def _unicode_class(name: str, negated: bool) -> str:
    r"""Return the ranges of a Unicode class for the inside of brackets; raise re.error for an unknown one."""
    kind, _, value = (part.strip() for part in name.replace(":", "=").rpartition("="))
    by_category, by_word = _unicode_ranges()
    prefixes = tuple(_LONG_NAMES.get(value, value).split())
    spans = [span for category, ranges in by_category.items() if category.startswith(prefixes) for span in ranges]
    if value in ("Any", "ASCII"):
        spans = [range(0x110000 if value == "Any" else 128)]
    elif not spans or kind.lower().startswith("sc"):
        script = value.upper().removeprefix("IS")
        spans = by_word.get("CJK" if script == "HAN" else script, [])
    if negated:
        edges = [0, *(edge for span in sorted(spans, key=lambda span: span.start) for edge in (span.start, span.stop)), 0x110000]
        spans = [range(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if start < stop]
    if not spans:
        raise re.error(f"unknown Unicode class {name!r}")
    return "".join(f"\\U{span.start:08x}-\\U{span.stop - 1:08x}" for span in spans)


@lru_cache(maxsize=1)
def _unicode_ranges() -> tuple[dict[str, list[range]], dict[str, list[range]]]:
    """Return the ranges of characters by category, and those of letters by the first word of their names: their script."""
    by_category: dict[str, list[range]] = {}
    by_word: dict[str, list[range]] = {}
    for code in range(_LAST_CHARACTER):
        category = unicodedata.category(chr(code))
        groups = [by_category.setdefault(category, [])]
        if category[0] in "LM" and (word := unicodedata.name(chr(code), "").replace("-", " ").partition(" ")[0]):
            groups.append(by_word.setdefault(word, []))
        for spans in groups:
            if spans and spans[-1].stop == code:
                spans[-1] = range(spans[-1].start, code + 1)
            else:
                spans.append(range(code, code + 1))
    return by_category, by_word
