"""The package's exact JSON reader and writer: the wire, record lines and exports use the same two functions.

Integers of any size, all digits of a float, NUL characters and lone surrogates survive `loads(dumps(value))`. orjson does the
work where it is exact, at several times the speed of `json`; the standard library does the rest.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeAlias

import orjson

__all__ = ["Json", "beginning", "dumps", "escape_surrogates", "finite", "is_deeper", "is_utf8", "loads"]

Json: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, a list of them, or a dict of them with text keys."""

_LARGEST_EXACT = 9.2e18
"""Below the smallest integer that orjson reads as a float (integers of more than 64 bits)."""
_LONG_NUMBER = b"0" * 19
"""Such an integer has at least as many digits, and stands behind one of the bytes that can come before a number."""
_BEFORE_A_NUMBER = b":,[- \t\r\n"
_DIGITS_AS_ZEROS = bytes(48 if 48 <= byte <= 57 else 32 for byte in range(256))
_SURROGATE = re.compile("[\ud800-\udfff]")
# A dataclass or a date is not JSON, although orjson could write it.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def loads(data: bytes | str, *, allow_nan: bool = True) -> Json:
    """Parse JSON.

    Args:
        data: The JSON text; bytes are UTF-8.
        allow_nan: Accept `NaN`, `Infinity` and numbers beyond the range of a float, which strict JSON does not have.

    Raises:
        ValueError: The text is not JSON, or is nested too deeply.

    Example:
        >>> loads(b'{"id": 123456789012345678901234567890}')
        {'id': 123456789012345678901234567890}
    """
    try:
        value = orjson.loads(data)
        if not _may_hold_big_integer(data, value):
            return value
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data) if allow_nan else json.loads(data, parse_constant=_refuse, parse_float=_finite_float)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def dumps(
    value: Json, *, default: Callable[[Any], Json] | None = None, non_finite: Literal["literal", "text", "error"] = "literal"
) -> bytes:
    """Encode `value` as compact JSON in UTF-8; pure ASCII where a lone surrogate forces it.

    Args:
        value: The value.
        default: Converts an object that is not JSON, or raises TypeError.
        non_finite: The form of NaN and the infinities: the literals `NaN` and `Infinity`, which are not strict JSON, the
            texts `"nan"` and `"inf"`, or a ValueError.

    Raises:
        TypeError: `value` has an object that is not JSON.
        ValueError: `value` is nested too deeply, contains itself, or has a non-finite number that `non_finite` refuses.

    Example:
        >>> dumps({"reward": float("inf")}, non_finite="text")
        b'{"reward":"inf"}'
    """
    try:
        data = orjson.dumps(value, default, _OPTIONS)
        # orjson writes a non-finite number as null.
        if b"null" not in data or not _has_float_beyond(value, sys.float_info.max):
            return data
    except TypeError:
        # Integers beyond 64 bits, lone surrogates, keys that are not text, deep nesting, or not JSON at all.
        pass
    try:
        if non_finite == "text":
            value = _with_text_numbers(value)
        encode = partial(json.dumps, value, separators=(",", ":"), default=default, allow_nan=non_finite != "error")
        try:
            return encode(ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return encode().encode("ascii")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def is_utf8(value: Json) -> bool:
    """Return False if a text inside `value` has a lone surrogate, which UTF-8 cannot encode.

    Example:
        >>> is_utf8(["plain", "\\ud800"])
        False
    """
    return _SURROGATE.search(json.dumps(value, ensure_ascii=False)) is None


def escape_surrogates(value: Json) -> Json:
    """Replace each lone surrogate inside `value` by the text of its escape: tokenizers and Arrow take valid UTF-8 only.

    Example:
        >>> escape_surrogates({"text": "\\ud800"})
        {'text': '\\\\ud800'}
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode() if _SURROGATE.search(value) else value
    if isinstance(value, list):
        return [escape_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {escape_surrogates(key): escape_surrogates(item) for key, item in value.items()}
    return value


def finite(value: Json) -> Json:
    """Return `value` with NaN and the infinities as texts, which strict JSON has; the same object if it has none.

    Example:
        >>> finite({"reward": float("-inf"), "turns": 2})
        {'reward': '-inf', 'turns': 2}
    """
    return _with_text_numbers(value) if _has_float_beyond(value, sys.float_info.max) else value


def is_deeper(value: Json, levels: int) -> bool:
    """Return True if `value` has more than `levels` levels of lists and objects.

    Example:
        >>> is_deeper([{"a": [1]}], 2)
        True
    """
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        children = (item.values() if type(item) is dict else item for item in level)
        level = [child for some in children for child in some if type(child) is dict or type(child) is list]
        if not level:
            return False
    return bool(level)


def beginning(value: Json, most: int = 4000) -> str:
    """Return the repr of `value`, of which only the first `most` characters or so are made.

    Example:
        >>> beginning({"a": [1, "b"]}), beginning(["text"] * 10**6, most=8)
        ("{'a': [1, 'b']}", "['text', ''..., ...]")
    """
    return _beginning(value, most, 20)


def _beginning(value: Json, most: int, levels: int) -> str:
    if isinstance(value, str):
        return repr(value) if len(value) <= most else f"{value[:most]!r}..."
    if not isinstance(value, dict | list):
        try:
            return repr(value)
        except ValueError:
            return f"an integer of {value.bit_length()} bits"
    pieces: list[str] = []
    length = 0
    for item in value if levels else ():
        if length > most:
            pieces.append("...")
            break
        text = _beginning(item, most - length, levels - 1)
        if isinstance(value, dict):
            text = f"{text}: {_beginning(value[item], most - length, levels - 1)}"
        pieces.append(text)
        length += len(text) + 2
    inner = ", ".join(pieces) if levels or not value else "..."
    return f"{{{inner}}}" if isinstance(value, dict) else f"[{inner}]"


def _may_hold_big_integer(data: bytes | str, value: Json) -> bool:
    """Return True if a float inside `value`, which was read from `data`, may be an integer in the text."""
    if len(data) > 1 << 18:
        # Where there are few long texts, looking at the values takes less time than looking at the bytes.
        huge = _has_float_beyond(value, _LARGEST_EXACT, budget=len(data) >> 8)
        if huge is not None:
            return huge
    if isinstance(data, bytes) and not _has_long_number(data):
        return False
    return bool(_has_float_beyond(value, _LARGEST_EXACT))


def _has_long_number(data: bytes) -> bool:
    """Return True if JSON text has, or seems to have, an integer of 19 digits or more: not digits after a quote or a letter."""
    digits = data.translate(_DIGITS_AS_ZEROS)
    start = digits.find(_LONG_NUMBER)
    while start > 0 and data[start - 1] not in _BEFORE_A_NUMBER:
        start = digits.find(_LONG_NUMBER, digits.find(b" ", start))
    return start >= 0


def _has_float_beyond(value: Json, limit: float, *, budget: int | None = None) -> bool | None:
    """Return True if a float inside `value` is NaN or beyond `limit`; None if `budget` values were looked at before the end."""
    pending = [value]
    for item in pending if budget is None else islice(pending, budget):  # the list grows while it is iterated
        kind = type(item)
        if kind is dict:
            pending += item.values()
        elif kind is list or kind is tuple:
            pending += item
        elif kind is float and not -limit <= item <= limit:
            return True
    return None if budget is not None and len(pending) > budget else False


def _with_text_numbers(value: Json) -> Json:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [_with_text_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_text_numbers(item) for key, item in value.items()}
    return value


def _refuse(literal: str) -> float:
    raise ValueError(f"{literal} is not strict JSON")


def _finite_float(text: str) -> float:
    number = float(text)
    if math.isfinite(number):
        return number
    raise ValueError(f"{text} is beyond the range of a float")
