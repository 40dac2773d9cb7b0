"""Random strings of a given length, format or regular expression, and the random numbers they are drawn with."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from openreward_gym.envs.spaces.patterns import Pattern, read_pattern
from openreward_gym.envs.spaces.schema_limits import StepBudget

T = TypeVar("T")

_ATTEMPTS = 24
_LONGEST = 100_000
"""Longest string to build, in characters. A schema that requires a longer one is not met."""
_MOST_MEMBERS = 500
"""Number of characters of a class to draw from."""
_BUFFERED = 32
"""Random numbers to draw from the generator at once."""

_PRINTABLE = [chr(code) for code in range(32, 127)]
_DIGITS = list(string.digits)
_WORD = list(string.ascii_lowercase + string.digits + "_")


class BufferedRandom:
    """Random choices for one sample, drawn from a numpy generator many numbers at a time.

    Make one for each sample: left-over numbers are discarded, so that the generator's state alone determines the next sample.
    """

    __slots__ = ("_buffer", "_generator")

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._buffer: list[float] = []

    def random(self) -> float:
        """Return a float in [0, 1)."""
        if not self._buffer:
            self._buffer = self._generator.random(_BUFFERED).tolist()
        return self._buffer.pop()

    def below(self, n: int) -> int:
        """Return an integer in [0, n). `n` is at least 1 and may exceed the integers that a float represents exactly."""
        if n >= 1 << 53:
            return int(self.random() * (1 << 53)) * n >> 53
        return int(self.random() * n)

    def between(self, low: int, high: int) -> int:
        """Return an integer in [low, high]."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return self.random() < probability

    def choice(self, items: Sequence[T]) -> T:
        """Return one element of a sequence that is not empty."""
        return items[self.below(len(items))]


def sample_string(
    rng: BufferedRandom,
    *,
    low: int = 0,
    high: int | None = None,
    form: str = "",
    pattern: str | None = None,
    budget: StepBudget | None = None,
) -> str | None:
    """Return a random string of `low` to `high` characters (None: any number), or None if no matching string was found.

    `form` is JSON Schema's `format`; a format that is unknown, or that the length does not allow, is ignored. The string
    contains a match of the regular expression `pattern`; a malformed one is ignored.

    Raises:
        OutOfStepsError: The `budget` (None: no limit but the length) is not enough.
    """
    low = min(low, _LONGEST)
    if high is not None and high < low:
        return None
    compiled = None if pattern is None else read_pattern(pattern)
    if compiled is not None:
        return _matching(rng, compiled, low, high, StepBudget(_LONGEST * _ATTEMPTS) if budget is None else budget)
    write = _FORMATS.get(form)
    if write is not None:
        for _ in range(_ATTEMPTS):
            text = write(rng)
            if low <= len(text) and (high is None or len(text) <= high):
                return text
    longest = low + 8 if high is None else min(high, low + 8)
    return _letters(rng, rng.between(min(max(low, 1), longest), longest))


def _letters(rng: BufferedRandom, length: int, alphabet: str = string.ascii_lowercase) -> str:
    if length > 64:  # a long string repeats a short one: its characters do not matter
        return (_letters(rng, 64, alphabet) * (length // 64 + 1))[:length]
    return "".join([alphabet[rng.below(len(alphabet))] for _ in range(length)])


def _hex(rng: BufferedRandom, length: int) -> str:
    return _letters(rng, length, "0123456789abcdef")


def _host(rng: BufferedRandom) -> str:
    return f"{_letters(rng, rng.between(1, 8))}.example"


def _date(rng: BufferedRandom) -> str:
    return f"{rng.between(1970, 2037)}-{rng.between(1, 12):02}-{rng.between(1, 28):02}"


def _time(rng: BufferedRandom) -> str:
    return f"{rng.below(24):02}:{rng.below(60):02}:{rng.below(60):02}Z"


_FORMATS: dict[str, Callable[[BufferedRandom], str]] = {
    "date": _date,
    "time": _time,
    "date-time": lambda rng: f"{_date(rng)}T{_time(rng)}",
    "duration": lambda rng: f"P{rng.between(1, 30)}DT{rng.below(24)}H",
    "email": lambda rng: f"{_letters(rng, rng.between(1, 8))}@{_host(rng)}",
    "hostname": _host,
    "ipv4": lambda rng: ".".join(str(rng.below(256)) for _ in range(4)),
    "ipv6": lambda rng: ":".join(_hex(rng, 4) for _ in range(8)),
    "uri": lambda rng: f"https://{_host(rng)}/{_letters(rng, rng.below(6))}",
    "uri-reference": lambda rng: f"/{_letters(rng, rng.below(8))}",
    "uri-template": lambda rng: f"https://{_host(rng)}/{{{_letters(rng, 4)}}}",
    "uuid": lambda rng: f"{_hex(rng, 8)}-{_hex(rng, 4)}-4{_hex(rng, 3)}-a{_hex(rng, 3)}-{_hex(rng, 12)}",
    "json-pointer": lambda rng: f"/{_letters(rng, rng.below(8))}",
    "relative-json-pointer": lambda rng: f"{rng.below(4)}/{_letters(rng, rng.below(6))}",
    "regex": lambda rng: f"^{_letters(rng, rng.below(4))}[a-z]*$",
    "base64": lambda rng: _letters(rng, 4 * rng.between(1, 4), string.ascii_letters),
    "color": lambda rng: f"#{_hex(rng, 6)}",
}
for _alias, _name in {
    "idn-email": "email",
    "idn-hostname": "hostname",
    "host-name": "hostname",
    "ip-address": "ipv4",
    "ipv4address": "ipv4",
    "ipvanyaddress": "ipv4",
    "iri": "uri",
    "url": "uri",
    "iri-reference": "uri-reference",
    "uuid4": "uuid",
    "base64url": "base64",
    "byte": "base64",
}.items():
    _FORMATS[_alias] = _FORMATS[_name]


def _matching(rng: BufferedRandom, pattern: Pattern, low: int, high: int | None, budget: StepBudget) -> str | None:
    """Return a string that contains a match of `pattern`, or None. Look-arounds are ignored, and the result is checked."""
    if pattern.shortest > (_LONGEST if high is None else high) or (pattern.is_whole and pattern.longest < low):
        return None  # no match has the length
    for attempt in range(_ATTEMPTS):  # with longer and longer repetitions
        walk = _Walk(rng, budget, extra=min(low, 1 << attempt) + 1 if attempt else 1)
        try:
            text = "".join(walk.pieces(pattern.tree))
        except RecursionError:
            return None
        for candidate in (text, text + _letters(rng, max(low - len(text), 0))):
            if low <= len(candidate) and (high is None or len(candidate) <= high) and pattern.matches(candidate, budget):
                return candidate
    return None


class _Walk:
    """A walk through a pattern's syntax tree. A repetition exceeds its least count by at most `extra`."""

    def __init__(self, rng: BufferedRandom, budget: StepBudget, extra: int) -> None:
        self._rng, self._budget, self._extra = rng, budget, extra
        self._groups: dict[int, str] = {}
        self._classes: dict[int, list[str]] = {}

    def pieces(self, tree: Any) -> list[str]:
        """Return pieces of a string that matches `tree`."""
        pieces: list[str] = []
        for code, argument in tree:
            name = str(code)
            if name.endswith("_REPEAT"):
                least, most, inner_tree = argument
                least = min(least, _LONGEST)
                count = self._rng.between(least, max(least, min(int(most), least + self._extra)))
                self._budget.spend(1 + count // 10)
                for _ in range(count):
                    pieces.extend(self.pieces(inner_tree))
            else:
                pieces.extend(self._of(name, argument))
        return pieces

    def _of(self, name: str, argument: Any) -> list[str]:
        if name == "LITERAL":
            return [chr(argument)]
        if name == "NOT_LITERAL":
            return [self._rng.choice([c for c in _PRINTABLE if ord(c) != argument])]
        if name == "ANY":
            return [self._rng.choice(_PRINTABLE)]
        if name == "IN":
            if id(argument) not in self._classes:
                self._classes[id(argument)] = _members(argument)
            return [self._rng.choice(self._classes[id(argument)])]
        if name == "BRANCH":
            return self.pieces(self._rng.choice(argument[1]))
        if name == "SUBPATTERN":
            inner = self.pieces(argument[3])
            if argument[0] is not None:
                self._groups[argument[0]] = "".join(inner)
            return inner
        if name == "ATOMIC_GROUP":
            return self.pieces(argument)
        if name == "GROUPREF":
            self._budget.spend(len(self._groups.get(argument, "")) // 100)
            return [self._groups.get(argument, "")]
        if name == "GROUPREF_EXISTS":
            return self.pieces((argument[1] if argument[0] in self._groups else argument[2]) or ())
        return []


def _members(items: Any) -> list[str]:
    """Return the characters of a class such as `[a-z_]`. For a negated class these are the printable characters it allows."""
    chosen: list[str] = []
    negated = False
    for code, argument in items:
        if len(chosen) > _MOST_MEMBERS:
            break
        name = str(code)
        if name == "NEGATE":
            negated = True
        elif name == "LITERAL":
            chosen.append(chr(argument))
        elif name == "RANGE":
            chosen.extend(chr(c) for c in range(argument[0], min(argument[1], argument[0] + 255) + 1))
        elif name == "CATEGORY":
            chosen.extend(_category(str(argument)))
    if negated:
        chosen = sorted(set(_PRINTABLE) - set(chosen))
    return chosen or _PRINTABLE


def _category(name: str) -> list[str]:
    members = _DIGITS if name.endswith("DIGIT") else [" "] if name.endswith("SPACE") else _WORD
    return [c for c in _PRINTABLE if c not in members] if "_NOT_" in name else members
