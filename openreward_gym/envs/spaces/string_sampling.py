"""Random strings: of a length, of a format, of a regular expression."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from openreward_gym.envs.spaces.dice import Dice

_ATTEMPTS = 24
_LONGEST = 100_000
"""Characters: a schema that asks for more is not met."""

_PRINTABLE = [chr(code) for code in range(32, 127)]
_DIGITS = list(string.digits)
_WORD = list(string.ascii_lowercase + string.digits + "_")


def sample_string(dice: Dice, *, low: int = 0, high: int | None = None, form: str = "", pattern: str | None = None) -> str | None:
    """A string of `low` to `high` characters; None where no such string was found.

    Args:
        dice: Where the choices come from.
        low: Least length in characters.
        high: Greatest length; None for no limit.
        form: JSON Schema's `format`, followed where it is known and the length allows; empty for none.
        pattern: A regular expression to be found in the string; None for none.
    """
    low = min(low, _LONGEST)
    if high is not None and high < low:
        return None
    if pattern is not None:
        return _matching(dice, pattern, low, high)
    write = _FORMATS.get(form)
    if write is not None:
        for _ in range(_ATTEMPTS):
            text = write(dice)
            if low <= len(text) and (high is None or len(text) <= high):
                return text
    longest = low + 8 if high is None else min(high, low + 8)
    return _letters(dice, dice.between(min(max(low, 1), longest), longest))


def _letters(dice: Dice, length: int) -> str:
    if length > 64:  # long strings repeat: nobody reads them
        return (_letters(dice, 64) * (length // 64 + 1))[:length]
    return "".join([string.ascii_lowercase[dice.below(26)] for _ in range(length)])


def _digits(dice: Dice, n: int, alphabet: str = string.digits) -> str:
    return "".join([alphabet[dice.below(len(alphabet))] for _ in range(n)])


def _date(dice: Dice) -> str:
    return f"{dice.between(1970, 2037)}-{dice.between(1, 12):02}-{dice.between(1, 28):02}"


def _time(dice: Dice) -> str:
    return f"{dice.below(24):02}:{dice.below(60):02}:{dice.below(60):02}Z"


def _hex(dice: Dice, n: int) -> str:
    return _digits(dice, n, "0123456789abcdef")


def _host(dice: Dice) -> str:
    return f"{_letters(dice, dice.between(1, 8))}.example"


def _base64(dice: Dice) -> str:
    return _digits(dice, 4 * dice.between(1, 4), string.ascii_letters)


_FORMATS: dict[str, Callable[[Dice], str]] = {
    "date": _date,
    "time": _time,
    "date-time": lambda dice: f"{_date(dice)}T{_time(dice)}",
    "duration": lambda dice: f"P{dice.between(1, 30)}DT{dice.below(24)}H",
    "email": lambda dice: f"{_letters(dice, dice.between(1, 8))}@{_host(dice)}",
    "hostname": _host,
    "ipv4": lambda dice: ".".join(str(dice.below(256)) for _ in range(4)),
    "ipv6": lambda dice: ":".join(_hex(dice, 4) for _ in range(8)),
    "uri": lambda dice: f"https://{_host(dice)}/{_letters(dice, dice.below(6))}",
    "uri-reference": lambda dice: f"/{_letters(dice, dice.below(8))}",
    "uri-template": lambda dice: f"https://{_host(dice)}/{{{_letters(dice, 4)}}}",
    "uuid": lambda dice: f"{_hex(dice, 8)}-{_hex(dice, 4)}-4{_hex(dice, 3)}-a{_hex(dice, 3)}-{_hex(dice, 12)}",
    "json-pointer": lambda dice: f"/{_letters(dice, dice.below(8))}",
    "relative-json-pointer": lambda dice: f"{dice.below(4)}/{_letters(dice, dice.below(6))}",
    "regex": lambda dice: f"^{_letters(dice, dice.below(4))}[a-z]*$",
    "byte": _base64,
    "base64": _base64,
    "color": lambda dice: f"#{_hex(dice, 6)}",
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
}.items():
    _FORMATS[_alias] = _FORMATS[_name]


# ---- regular expressions ----


def _matching(dice: Dice, pattern: str, low: int, high: int | None) -> str | None:
    """A string in which `pattern` is found; best effort: look-arounds and the like are hoped for, then checked."""
    try:
        compiled, tree = _parsed(pattern)
    except (re.error, RecursionError, OverflowError):
        return None
    for attempt in range(_ATTEMPTS):
        # Start with short repetitions; let them grow where the string has to be long.
        text = "".join(_walk(tree, dice, {}, extra=min(low, 1 << attempt) + 1 if attempt else 1))
        for candidate in (text, text + _letters(dice, max(low - len(text), 0))):
            if low <= len(candidate) and (high is None or len(candidate) <= high) and compiled.search(candidate):
                return candidate
    return None


@lru_cache(maxsize=512)
def _parsed(pattern: str) -> tuple[re.Pattern[str], Any]:
    # The library's own parser: private, but the same from 3.11 on, and nothing public gives the tree.
    from re import _parser as parser  # type: ignore[attr-defined]

    return re.compile(pattern), parser.parse(pattern)


def _walk(tree: Any, dice: Dice, groups: dict[int, str], extra: int) -> list[str]:
    """Pieces of a string that follows `tree`; a repetition is at most `extra` above its least."""
    pieces: list[str] = []
    for code, argument in tree:
        name = str(code)
        if name == "LITERAL":
            pieces.append(chr(argument))
        elif name == "NOT_LITERAL":
            pieces.append(dice.pick([c for c in _PRINTABLE if ord(c) != argument]))
        elif name == "ANY":
            pieces.append(dice.pick(_PRINTABLE))
        elif name == "IN":
            pieces.append(dice.pick(_members(argument)))
        elif name == "BRANCH":
            pieces.extend(_walk(dice.pick(argument[1]), dice, groups, extra))
        elif name == "SUBPATTERN":
            inner = _walk(argument[3], dice, groups, extra)
            if argument[0] is not None:
                groups[argument[0]] = "".join(inner)
            pieces.extend(inner)
        elif name.endswith("_REPEAT"):
            least, most, inner_tree = argument
            least = min(least, _LONGEST)
            for _ in range(dice.between(least, min(int(most), least + extra))):
                pieces.extend(_walk(inner_tree, dice, groups, extra))
        elif name == "ATOMIC_GROUP":
            pieces.extend(_walk(argument, dice, groups, extra))
        elif name == "GROUPREF":
            pieces.append(groups.get(argument, ""))
        elif name == "GROUPREF_EXISTS":
            branch = argument[1] if argument[0] in groups else argument[2]
            pieces.extend(_walk(branch or (), dice, groups, extra))
    return pieces


def _members(items: Any) -> list[str]:
    """The characters of a class such as `[a-z_]`; of a negated one, the printable characters it leaves."""
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
