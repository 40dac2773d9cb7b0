"""Text of `datasets.Json` cells, written so that `datasets` reads every number as it was.

`datasets` reads such a cell with the JSON reader of pandas, which gets one in a hundred everyday numbers wrong in the last
digit: 23.457 comes out as 23.456999999999997. Such a number is written another way, which every reader takes for the same
number, this one too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache, lru_cache

import orjson

from openreward_gym import jsonio
from openreward_gym.types import Json


class DamagedNumberError(Exception):
    """A number that a `Json` column cannot give back."""


def column_bytes(value: Json, *, exact: bool = False) -> bytes:
    """Return `value` as the text of a `datasets.Json` cell, in UTF-8.

    With `exact`, raises DamagedNumberError for numbers that `datasets` cannot read unchanged: integers beyond 64 bits, NaN, the
    infinities, and some numbers at the ends of the range.
    """
    return jsonio.dumps(value) if reads_well(value) else _bytes_with_numbers(value, exact)


def message_bytes(message: Json) -> bytes:
    """Return exact `column_bytes` of a chat message, which has numbers and nulls only in the arguments of its calls."""
    if "tool_calls" not in message:
        try:
            return orjson.dumps(message)
        except TypeError:
            return jsonio.dumps(message)
    for call in message["tool_calls"]:
        if not reads_well(call["function"]["arguments"]):
            return _bytes_with_numbers(message, exact=True)
    return jsonio.dumps(message)


def reads_well(value: Json) -> bool:
    """Return True if the JSON reader of pandas reads every number in `value` exactly from its usual notation."""
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not list:
        value = (value,)
    for item in value:
        kind = type(item)
        if kind is float:
            if not _float_reads_well(item):
                return False
        elif kind is int:
            if not -(2**63) <= item < 2**64:
                return False
        elif (kind is dict or kind is list) and not reads_well(item):
            return False
    return True


@lru_cache(maxsize=1 << 16)
def _float_reads_well(number: float) -> bool:
    return math.isfinite(number) and bool(_pandas_reader()(repr(number)) == number)


def _bytes_with_numbers(value: Json, exact: bool) -> bytes:
    if isinstance(value, dict):
        items = (jsonio.dumps(key) + b":" + _bytes_with_numbers(item, exact) for key, item in value.items())
        return b"{" + b",".join(items) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(_bytes_with_numbers(item, exact) for item in value) + b"]"
    text = _column_number(value) if isinstance(value, float) else None
    if text is not None:
        return text.encode()
    if exact and not reads_well(value):
        raise DamagedNumberError
    return jsonio.dumps(value)


def _column_number(number: float) -> str | None:
    """Return a notation of `number` that the JSON reader of pandas reads exactly; None if no notation does."""
    if not math.isfinite(number):
        return None
    for text in _notations(number):
        try:
            if float(text) == number and _pandas_reader()(text) == number:
                return text
        except ValueError:
            continue
    return None


def _notations(number: float) -> Iterator[str]:
    yield repr(number)
    sign, digits, exponent = Decimal(repr(number)).as_tuple()
    mantissa = "-" * sign + "".join(map(str, digits))
    yield f"{mantissa}e{exponent}"
    for places in range(16, 26):
        yield f"{number:.{places}g}"
        yield f"{number:.{places}e}"
    for places in range(1, 6):
        yield f"{mantissa}{'0' * places}e{int(exponent) - places}"
        if len(digits) > places:
            yield f"{mantissa[:-places]}.{mantissa[-places:]}e{int(exponent) + places}"


@cache
def _pandas_reader() -> Callable[[str], Json]:
    from datasets.utils.json import ujson_loads

    reader: Callable[[str], Json] = ujson_loads
    return reader
