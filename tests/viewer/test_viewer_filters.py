"""The filter language."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreward_gym.errors import ConfigurationError
from openreward_gym.viewer import index, index_file
from openreward_gym.viewer.filters import compile_filter, complete

ROWS: list[dict[str, Any]] = [
    {"id": "a", "reward": 0.25, "turns": 12, "tools": '["bash"]', "status": "completed", "metrics": '{"format": 1.0}'},
    {"id": "b", "reward": 1.0, "turns": 3, "tools": '["bash", "python"]', "status": "truncated", "metrics": '{"format": 0.0}'},
    {"id": "c", "reward": None, "turns": 40, "tools": "[]", "status": "error", "metrics": "{}"},
]


@pytest.fixture
def database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.create_function("regexp", 2, index_file.matches, deterministic=True)
    connection.executescript(index_file.SCHEMA)
    connection.execute("INSERT INTO runs (run, key, folder, name) VALUES (1, 'r', '/r', 'r')")
    connection.execute("""INSERT INTO labels VALUES ('/r', 'a', 4, '["good", "short"]', 'see the end')""")
    for row in ROWS:
        names = ", ".join(["run", "discarded", *row])
        connection.execute(f"INSERT INTO rollouts ({names}) VALUES (1, 0, {', '.join('?' * len(row))})", list(row.values()))
    return connection


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("", "abc"),
        ('reward < 0.5 and tool == "bash" and steps > 10 and label == "good"', "a"),
        ("reward < 0.5", "a"),
        ("not reward < 0.5", "bc"),
        ("reward == none", "c"),
        ("reward != none", "ab"),
        ("reward >= 1 or status == error", "bc"),
        ("(reward >= 1 or status == error) and steps > 10", "c"),
        ("not (reward >= 1 or status == error)", "a"),
        ('tool != "python"', "ac"),
        ("tool == none", "c"),
        ('tool ~ "^py"', "b"),
        ('status in ("completed", "error")', "ac"),
        ('label in ("great", "good")', "a"),
        ("label == none", "bc"),
        ("rating >= 4", "a"),
        ('note ~ "THE END"', "a"),
        ("format == 1", "a"),
        ("metric.format < 1", "b"),
        ("nothing_like_it > 0", ""),
        ("status ~ 'trunc|err'", "bc"),
        ('status !~ "e.r"', "ab"),
        ("Reward >= .25 AND steps<13", "ab"),
        ("id = \"x' OR '1'='1\"", ""),
    ],
)
def test_a_filter_chooses(database: sqlite3.Connection, expression: str, expected: str) -> None:
    condition = compile_filter(expression)
    rows = database.execute(f"SELECT r.id FROM {index.JOINED} WHERE {condition.text} ORDER BY 1", condition.parameters)
    assert "".join(row[0] for row in rows) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("reward", "after 'reward', one of"),
        ("reward <", "ends where a number"),
        ("reward < 'high'", "is a number"),
        ("and reward < 1", "expected"),
        ("reward < 1 steps > 2", "`and` or `or`"),
        ("(reward < 1", "`)`"),
        ('status == "open', "does not end"),
        ("status ~ '('", "regular expression"),
        ("reward < none", "none can only be compared with"),
        ("tool < 'a'", "compared with"),
        ("reward < 1; DROP TABLE rollouts", "cannot be read"),
        ("(" * 100 + "reward < 1", "nested"),
        ("x" * 3000, "at most"),
    ],
)
def test_a_wrong_filter_is_explained(expression: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        compile_filter(expression)


WORDS = ["reward", "tool", "label", "==", "<", "~", "in", "and", "or", "not", "(", ")", ",", '"a"', "'b'", "1", "none"]


@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_whatever_is_typed_is_a_condition_or_explained(expression: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.create_function("regexp", 2, index_file.matches, deterministic=True)
    connection.executescript(index_file.SCHEMA)
    try:
        condition = compile_filter(expression)
    except ConfigurationError:
        return
    finally:
        complete(expression, len(expression))
    connection.execute(f"SELECT r.id FROM {index.JOINED} WHERE {condition.text}", condition.parameters).fetchall()
    connection.close()


def test_completion_knows_what_may_come_next() -> None:
    assert [name for name, _ in complete("rew", 3, ["rewrite"]).suggestions] == ["reward", "rewrite"]
    assert complete("reward ", 7).kind == "operator"
    completion = complete('reward < 1 and tool == "ba', 26)
    assert (completion.kind, completion.field, completion.start) == ("value", "tool", 23)
    assert [word for word, _ in complete("reward < 1 ", 11).suggestions] == ["and", "or"]
    assert "status" in [name for name, _ in complete("reward < 1 and ", 15).suggestions]
    assert complete('status in ("a", ', 16).field == "status"
