"""Random strings of a given length, format or regular expression, and the random numbers they are drawn with."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

_ATTEMPTS = 24
_LONGEST = 100_000
"""Longest string to build, in characters. A schema that requires a longer one is not met."""
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
    rng: BufferedRandom, *, low: int = 0, high: int | None = None, form: str = "", pattern: str | None = None
) -> str | None:
    """Return a random string of `low` to `high` characters (None: any number), or None if no matching string was found.

    `form` is JSON Schema's `format`; a format that is unknown, or that the length does not allow, is ignored. The string
    contains a match of the regular expression `pattern`.
    """
    low = min(low, _LONGEST)
    if high is not None and high < low:
        return None
    if pattern is not None:
        return _matching(rng, pattern, low, high)
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


def _matching(rng: BufferedRandom, pattern: str, low: int, high: int | None) -> str | None:
    """Return a string that contains a match of `pattern`, or None. Look-arounds are ignored, and the result is checked."""
    try:
        compiled, tree = _parsed(pattern)
    except (re.error, RecursionError, OverflowError):
        return None
    if high is not None and int(tree.getwidth()[0]) > high:
        return None  # the shortest match is too long
    for attempt in range(_ATTEMPTS):  # with longer and longer repetitions
        text = "".join(_walk(tree, rng, {}, extra=min(low, 1 << attempt) + 1 if attempt else 1))
        for candidate in (text, text + _letters(rng, max(low - len(text), 0))):
            if low <= len(candidate) and (high is None or len(candidate) <= high) and compiled.search(candidate):
                return candidate
    return None


@lru_cache(maxsize=512)
def _parsed(pattern: str) -> tuple[re.Pattern[str], Any]:
    # The parser of `re` is private, but unchanged since Python 3.11, and no public function returns the tree.
    from re import _parser as parser  # type: ignore[attr-defined]

    return re.compile(pattern), parser.parse(pattern)


def _walk(tree: Any, rng: BufferedRandom, groups: dict[int, str], extra: int) -> list[str]:
    """Return pieces of a string that matches `tree`. A repetition exceeds its least count by at most `extra`."""
    pieces: list[str] = []
    for code, argument in tree:
        name = str(code)
        if name == "LITERAL":
            pieces.append(chr(argument))
        elif name == "NOT_LITERAL":
            pieces.append(rng.choice([c for c in _PRINTABLE if ord(c) != argument]))
        elif name == "ANY":
            pieces.append(rng.choice(_PRINTABLE))
        elif name == "IN":
            pieces.append(rng.choice(_members(argument)))
        elif name == "BRANCH":
            pieces.extend(_walk(rng.choice(argument[1]), rng, groups, extra))
        elif name == "SUBPATTERN":
            inner = _walk(argument[3], rng, groups, extra)
            if argument[0] is not None:
                groups[argument[0]] = "".join(inner)
            pieces.extend(inner)
        elif name.endswith("_REPEAT"):
            least, most, inner_tree = argument
            least = min(least, _LONGEST)
            for _ in range(rng.between(least, min(int(most), least + extra))):
                pieces.extend(_walk(inner_tree, rng, groups, extra))
        elif name == "ATOMIC_GROUP":
            pieces.extend(_walk(argument, rng, groups, extra))
        elif name == "GROUPREF":
            pieces.append(groups.get(argument, ""))
        elif name == "GROUPREF_EXISTS":
            branch = argument[1] if argument[0] in groups else argument[2]
            pieces.extend(_walk(branch or (), rng, groups, extra))
    return pieces


def _members(items: Any) -> list[str]:
    """Return the characters of a class such as `[a-z_]`. For a negated class these are the printable characters it allows."""
    chosen: list[str] = []
    negated = False
    for code, argument in items:
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
