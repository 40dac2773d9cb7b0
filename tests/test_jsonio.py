"""Tests of the exact JSON reader and writer."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreward_gym.jsonio import beginning, dumps, escape_surrogates, is_utf8, loads


def paired(text: str) -> str:
    """Join surrogates that make a character: JSON's escapes cannot tell them apart."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()), max_size=20).map(paired),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(value=values)
def test_values_survive_exactly(value: Any) -> None:
    """Integers of any size, exact floats and lone surrogates, as `json` writes them and as we do."""
    for data in (
        dumps(value),
        json.dumps(value).encode(),
        json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"),
        json.dumps(value),
    ):
        assert repr(loads(data)) == repr(value)


@given(value=values)
def test_written_text_is_what_the_standard_library_reads(value: Any) -> None:
    data = dumps(value)
    assert repr(json.loads(data.decode())) == repr(value)
    assert b"\n" not in data


@pytest.mark.parametrize("padding", ["", "x" * 10_000, "1,2" * 10_000])
@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**30])
def test_integers_stay_integers(number: int, padding: str) -> None:
    value = loads(b'{"a":[{"b":%d}],"c":"%s"}' % (number, padding.encode()))
    assert value == {"a": [{"b": number}], "c": padding}
    assert type(value["a"][0]["b"]) is int


def test_floats_with_many_digits_stay_floats() -> None:
    for text in ("0.00012345678901234567", "12345678901234567890.5", "1e19"):
        assert loads(text.encode()) == float(text)
        assert type(loads(text.encode())) is float


def test_not_quite_json_is_read() -> None:
    assert math.isnan(loads(b"NaN"))
    assert loads(b"[1e400]") == [math.inf]
    assert loads(b'"\\ud800"') == "\ud800"
    assert loads("\ud800".join('""').encode("utf-8", "surrogatepass")) == "\ud800"
    assert loads(b'\xef\xbb\xbf{"byte": "order mark"}') == {"byte": "order mark"}


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", '{"a": 1e400}'])
def test_strict_reading_refuses_non_finite_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"strict|range"):
        loads(text, allow_nan=False)
    assert loads("[1.5, 1e30]", allow_nan=False) == [1.5, 1e30]


@pytest.mark.parametrize("data", [b"", b"<html>no</html>", b"{", b"[" * 100_000, b'"\xff"', b"9" * 5000, b"\x00"])
def test_other_text_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"Expecting|UTF|utf|deep|limit"):
        loads(data)


@dataclasses.dataclass
class Point:
    x: int = 0


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", lambda: None, Point(), datetime.datetime(2024, 1, 1)])
def test_objects_that_are_not_json_are_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        dumps(value)
    assert dumps({"a": value}, default=lambda _: "converted") == b'{"a":"converted"}'


def test_deep_and_circular_values_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    ring: list[Any] = []
    ring.append(ring)
    for value in (deep, ring):
        for non_finite in ("literal", "text", "error"):
            with pytest.raises(ValueError, match=r"deep|[Cc]ircular"):
                dumps(value, non_finite=non_finite)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float64("nan")])
@pytest.mark.parametrize("shape", [lambda x: x, lambda x: [None, {"a": (x, 1)}], lambda x: {"big": 2**70, "x": x}])
def test_non_finite_numbers(number: float, shape: Any) -> None:
    value = shape(number)
    assert repr(json.loads(dumps(value))) == repr(json.loads(json.dumps(value)))
    assert str(float(number)) in dumps(value, non_finite="text").decode()
    json.loads(dumps(value, non_finite="text"), parse_constant=pytest.fail)
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps(value, non_finite="error")


def test_lone_surrogates_are_found_and_escaped() -> None:
    value = {"k\udfff": ["fine", "\ud800x", 3]}
    assert not is_utf8(value)
    assert escape_surrogates(value) == {"k\\udfff": ["fine", "\\ud800x", 3]}
    assert is_utf8(escape_surrogates(value))
    assert dumps(value).isascii()
    assert dumps("é") == '"é"'.encode()


@pytest.mark.parametrize("text", ["", "1" * 19, "id-" + "7" * 40, '\\"' + "8" * 20, ": " + "9" * 25])
@pytest.mark.parametrize("number", [2**63, 2**64, -(2**70), 10**30])
@pytest.mark.parametrize("space", ["", " ", "\n\t"])
def test_a_big_integer_is_exact_beside_texts_of_digits(text: str, number: int, space: str) -> None:
    document = f'{{"id":{space}"{text}","values":[{space}{number},{space}{number}{space}]}}'.encode()
    assert loads(document)["values"] == [number, number]
    assert loads(f"{space}{number}".encode()) == number


def test_an_integer_with_more_digits_than_python_writes_is_described() -> None:
    assert beginning({"a": 10**5000}) == f"{{'a': an integer of {(10**5000).bit_length()} bits}}"
