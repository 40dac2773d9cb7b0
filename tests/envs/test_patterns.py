"""Patterns of schemas: other dialects of regular expressions, and patterns that take a backtracking matcher very long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openreward_gym.envs.spaces import ToolCallSpace
from openreward_gym.envs.spaces.patterns import read_pattern
from openreward_gym.envs.spaces.schema_limits import OutOfStepsError, StepBudget
from openreward_gym.types import ToolSpec


def matches(pattern: str, text: str, steps: int = 100_000) -> bool:
    compiled = read_pattern(pattern)
    assert compiled is not None
    return compiled.matches(text, StepBudget(steps))


@pytest.mark.parametrize(
    ("pattern", "text", "other"),
    [
        (r"^\p{Lu}+$", "ÉTÉ", "été"),
        (r"^\p{Uppercase_Letter}\P{L}$", "A1", "AB"),
        (r"^[\p{L}\d_-]+$", "žluť_1-", "a b"),
        (r"^\p{Script=Greek}+$", "αβ", "ab"),
        (r"^\p{Han}+$", "漢字", "kanji"),
        (r"^\p{sc=Cyrillic}\p{gc=Nd}$", "ж7", "z7"),
        (r"^(?<year>\d{4})-\k<year>$", "1999-1999", "1999-2000"),
        (r"^\u{1F600}\cA\i$", "\U0001f600\x01i", "x"),
        (r"^\uD83D\uDE00$", "\U0001f600", "x"),
        (r"^[[a&&~~||]$", "[", "b"),
        (r"^[\w-.]+$", "a-.", "a/"),
        (r"^a[^]b$", "a\nb", "ab"),
    ],
)
def test_patterns_of_other_dialects(pattern: str, text: str, other: str) -> None:
    assert matches(pattern, text)
    assert not matches(pattern, other)


@pytest.mark.parametrize("pattern", ["(", "[a", r"\p{NoSuchClass}", "a{99999999999}", "(a)\\2", "\\", "x" * 200_000])
def test_what_cannot_be_read_is_no_pattern(pattern: str) -> None:
    assert read_pattern(pattern) is None
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": pattern}}, "required": ["x"]}
    space = ToolCallSpace([ToolSpec("go", "", schema)], seed=1, strict=True)
    call = space.sample()
    assert isinstance(call["arguments"]["x"], str)
    assert call in space


EXPONENTIAL = [
    r"^(a+)+$",
    r"^(a|a)*$",
    r"^(a?){40}a{40}$",
    r"^(?:a*)*b",
    r"(x+x+)+y",
    r"^(\w+\s?)*$",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("pattern", EXPONENTIAL)
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    for text in ("a" * 2_000 + "!", "x" * 2_000, "a" * 60, "ab " * 500 + "!"):
        matches(pattern, text)
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": pattern}}, "patternProperties": {pattern: {}}}
    space = ToolCallSpace([ToolSpec("go", "", schema)], strict=True)
    assert {"name": "go", "arguments": {"x": "a" * 5_000 + "!", "a" * 300 + "!": 1}} not in space or pattern == r"^(?:a*)*b"


pieces = st.sampled_from(
    ["a", "b", "[ab]", "(a|b)", "(ab|a)", "a?", "(a+)+", "(b*)*", "(a|ab)*", "\\b", "^", "$", ".", "a{2,3}", "(?:ab){0,2}"]
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(pieces, min_size=1, max_size=5).map("".join), st.text("ab ", max_size=9))
def test_the_automaton_finds_what_the_backtracking_matcher_finds(pattern: str, text: str) -> None:
    compiled = read_pattern(pattern)
    assert compiled is not None
    assert compiled._automaton is not None
    assert compiled._automaton.matches(text, StepBudget(10_000)) == (re.search(pattern, text) is not None)


def test_a_budget_ends_a_match() -> None:
    with pytest.raises(OutOfStepsError):
        matches(r"^(a+)+$", "a" * 10_000, steps=100)
