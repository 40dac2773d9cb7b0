"""Text of `datasets.Json` cells, written so that `datasets` reads every number as it was.

`datasets` reads such a cell with the JSON reader of pandas, which gets one in a hundred everyday numbers wrong in the last
digit: 23.457 comes out as 23.456999999999997. Such a number is written another way, which every reader takes for the same
number, this one too. `survives_json_column` tells if that is impossible.
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


def column_bytes(value: Json) -> bytes:
    """Return `value` as the text of a `datasets.Json` cell, in UTF-8."""
    return jsonio.dumps(value) if reads_well(value) else _bytes_with_numbers(value)


def message_bytes(message: Json) -> bytes:
    """Return `column_bytes` of a chat message, which has numbers and nulls only in the arguments of its calls.

    Raises:
        DamagedNumberError: It has a number that `datasets` would read as another.
    """
    if "tool_calls" not in message:
        try:
            return orjson.dumps(message)
        except TypeError:
            return jsonio.dumps(message)
    for call in message["tool_calls"]:
        arguments = call["function"]["arguments"]
        if not reads_well(arguments):
            if not survives_json_column(arguments):
                raise DamagedNumberError
            return _bytes_with_numbers(message)
    return jsonio.dumps(message)


def survives_json_column(value: Json) -> bool:
    """Return True if every number in `value` can be written so that `datasets` reads it from a `Json` cell unchanged.

    Integers beyond 64 bits, NaN, the infinities, and some numbers at the ends of the range cannot.
    """
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return bool(-(2**63) <= value < 2**64)
    if kind is float:
        return value == 0 or 1e-22 < abs(value) < 1e22 or _column_number(value) is not None
    try:
        for item in value.values() if kind is dict else value:
            if type(item) is not str and not survives_json_column(item):
                return False
    except RecursionError:
        return False
    return True


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


def _bytes_with_numbers(value: Json) -> bytes:
    if isinstance(value, dict):
        return b"{" + b",".join(jsonio.dumps(key) + b":" + _bytes_with_numbers(item) for key, item in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(_bytes_with_numbers, value)) + b"]"
    text = _column_number(value) if isinstance(value, float) else None
    return jsonio.dumps(value) if text is None else text.encode()


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
