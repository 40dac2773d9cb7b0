"""JSON without loss: digits, big integers, NUL and lone surrogates come out as they went in.

`datasets.Json` columns store text, and this text is written here. What `datasets` reads them with is not exact:
`column_bytes` writes numbers so that they come out right all the same, and `survives_json_column` says where none does.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache, lru_cache

import orjson

from openreward_gym.types import Json

_DIGITS = bytes(48 if 48 <= byte <= 57 else 32 for byte in range(256))
_LONG_NUMBER = b"0" * 19
_SURROGATE = re.compile("[\ud800-\udfff]")


class DamagedNumberError(Exception):
    """A number that a `Json` column cannot give back."""


def decode(line: bytes) -> tuple[Json, bool]:
    """(the JSON value of a line, whether all of its text is valid UTF-8).

    Raises:
        ValueError, RecursionError: It is not JSON.
    """
    # orjson is three times as fast, but reads integers beyond 64 bits as floats.
    if _LONG_NUMBER not in line.translate(_DIGITS):
        try:
            return orjson.loads(line), True
        except orjson.JSONDecodeError:
            pass
    value = json.loads(line)
    return value, is_utf8(value)


def is_utf8(value: Json) -> bool:
    """Whether no text inside `value` has a lone surrogate."""
    return _SURROGATE.search(json.dumps(value, ensure_ascii=False)) is None


def encode(value: Json) -> str:
    """`value` as JSON text that is valid UTF-8; a lone surrogate becomes its escape, a NaN `NaN`."""
    return encode_bytes(value).decode()


def encode_bytes(value: Json) -> bytes:
    """The same in UTF-8."""
    try:
        data = orjson.dumps(value)
    except TypeError:
        # Integers beyond 64 bits, keys that are not text, lone surrogates, very deep nesting.
        return _encode_slowly(value)
    # orjson writes NaN and the infinities as null.
    return _encode_slowly(value) if b"null" in data else data


def _encode_slowly(value: Json) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def clean(value: Json) -> Json:
    """`value` with each lone surrogate written as `\\udXXX`: tokenizers and Arrow take valid UTF-8 only."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode() if _SURROGATE.search(value) else value
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    return value


def column_bytes(value: Json) -> bytes:
    """`value` as the text of a `datasets.Json` cell, in UTF-8.

    What `datasets` reads such a cell with (the JSON reader of pandas) gets one in a hundred everyday numbers wrong in the
    last digit: 23.457 comes out as 23.456999999999997. Such a number is written another way, which every reader takes for
    the same number, this one too.
    """
    return encode_bytes(value) if reads_well(value) else _bytes_with_numbers(value)


def message_bytes(message: Json) -> bytes:
    """`column_bytes` of a chat message, which has numbers and nulls in its calls' arguments alone.

    Raises:
        DamagedNumberError: It has a number that `datasets` would give back as another.
    """
    if "tool_calls" not in message:
        try:
            return orjson.dumps(message)
        except TypeError:
            return _encode_slowly(message)
    for call in message["tool_calls"]:
        arguments = call["function"]["arguments"]
        if not reads_well(arguments):
            if not survives_json_column(arguments):
                raise DamagedNumberError
            return _bytes_with_numbers(message)
    return encode_bytes(message)


def survives_json_column(value: Json) -> bool:
    """Whether every number in `value` can be written so that `datasets` reads it from a `Json` cell as it is.

    It cannot with integers beyond 64 bits, with NaN and the infinities, and with some numbers at the ends of the range.
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
    """Whether the JSON reader of pandas gets every number in `value` right as it is commonly written."""
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
    return math.isfinite(number) and bool(_pandas_reads(repr(number)) == number)


def _bytes_with_numbers(value: Json) -> bytes:
    if isinstance(value, dict):
        return b"{" + b",".join(encode_bytes(key) + b":" + _bytes_with_numbers(item) for key, item in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(_bytes_with_numbers, value)) + b"]"
    text = _column_number(value) if isinstance(value, float) else None
    return encode_bytes(value) if text is None else text.encode()


def _column_number(number: float) -> str | None:
    """A way of writing `number` that the JSON reader of pandas gets right; None if there is none."""
    if not math.isfinite(number):
        return None
    for text in _ways_to_write(number):
        try:
            if float(text) == number and _pandas_reads(text) == number:
                return text
        except ValueError:
            continue
    return None


def _ways_to_write(number: float) -> Iterator[str]:
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


def _pandas_reads(text: str) -> Json:
    return _reader_of_pandas()(text)


@cache
def _reader_of_pandas() -> Callable[[str], Json]:
    from datasets.utils.json import ujson_loads

    reader: Callable[[str], Json] = ujson_loads
    return reader
