"""Long texts of one repeated unit are read in linear time: at these sizes quadratic time would be minutes to hours."""

from __future__ import annotations

import pytest
from text_readers import READERS, UNITS, repeated

SIZE = 1_000_000
QUADRATIC_ONCE = [
    ("chat: from_raw_text", "</s> "),
    ("chat: from_raw_text", "<|im_end|>"),
    ("chat: has_call_as_text", "<|eot_id|>\n"),
    ("policies: local models", " "),
    ("policies: local models", "\r\n"),
    ("export: scrub", "-----BEGIN PRIVATE KEY-----"),
    ("chat: failures", "<!--"),
    ("chat: failures", "maximum context length is 1"),
]


@pytest.mark.parametrize(("reader", "unit"), QUADRATIC_ONCE)
def test_a_megabyte_of_what_took_quadratic_time(reader: str, unit: str) -> None:
    READERS[reader](repeated(unit, SIZE))


@pytest.mark.parametrize("reader", sorted(READERS.keys() - {"chat: failures"}))
def test_every_unit_is_read(reader: str) -> None:
    for unit in UNITS:
        READERS[reader](repeated(unit, 4_000))
