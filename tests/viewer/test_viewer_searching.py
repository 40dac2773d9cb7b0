"""Search: words, phrases and expressions, what restricts them, and all hits of a rollout."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym.errors import ConfigurationError
from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    ReasoningItem,
    Rollout,
    SystemMessage,
    TextBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from openreward_gym.viewer.answers.queries import Query, parse_query
from openreward_gym.viewer.answers.searching import hits_of, search
from openreward_gym.viewer.index import RunIndex


def shell() -> Rollout:
    return Rollout(
        id="shell",
        status="error",
        error="the bash server went away",
        messages=[
            SystemMessage(content=[TextBlock("Use bash.")]),
            UserMessage(content=[TextBlock("What is in it?")]),
            AssistantMessage(
                content=[
                    ReasoningItem(content="bash it is"),
                    ToolCall(call_id="1", name="bash", arguments={"command": 'echo "a\nb"\té', "limits": {"n": [7, None]}}),
                    ToolCall("plot", call_id="2", content='{"title": "say \\"caf\\u00e9\\""}'),
                ]
            ),
            ToolMessage(call_id="1", is_error=True, content=[TextBlock("bash: no; bash: no")]),
            ToolMessage(call_id="2", content=[TextBlock("bash, drawn")]),
            AssistantMessage(content=[ReasoningItem(summary="Bash failed"), TextBlock("Done.")]),
        ],
    )


@pytest.fixture
def index(tmp_path: Path) -> RunIndex:
    with RolloutStore(tmp_path / "runs" / "one") as store:
        store.append(shell())
        store.append(simple("a", "brown bread, and bread"))
    with RolloutStore(tmp_path / "runs" / "two") as store:
        store.append(simple("b", "bread"))
    index = RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite")
    index.refresh()
    return index


def found(index: RunIndex, query: str, regex: bool = False) -> list[tuple[int, int]]:
    """Return (message, hits) of the rollout `shell`."""
    answer = hits_of(index, query, regex=regex, run="one", rollout="shell")
    assert answer["count"] == sum(one["count"] for one in answer["snippets"]) == sum(answer["roles"].values())
    assert answer["messages"] == len(answer["snippets"])
    return [(one["message"], one["count"]) for one in answer["snippets"]]


def test_all_hits_of_a_rollout_are_counted(index: RunIndex) -> None:
    answer = search(index, "bread", regex=False, run=None, filter_="", after=0)
    assert [(hit["run"], hit["id"], hit["count"], hit["messages"]) for hit in answer["hits"]] == [
        ("one", "a", 2, 1),
        ("two", "b", 1, 1),
    ]
    assert (answer["searched"], answer["total"], answer["next"]) == (3, 3, None)
    (snippet,) = answer["hits"][0]["snippets"]
    assert snippet == {
        "message": 1, "role": "assistant", "turn": 1, "tool": "", "count": 2, "before": "brown ", "match": "bread",
        "after": ", and bread",
    }  # fmt: skip
    only = search(index, "bread", regex=False, run="two", filter_="", after=0)
    assert [hit["id"] for hit in only["hits"]] == ["b"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("bash", [(-1, 1), (0, 1), (2, 2), (3, 2), (4, 1), (5, 1)]),
        ("role:tool bash", [(3, 2), (4, 1)]),
        ("role:system role:tool bash", [(0, 1), (3, 2), (4, 1)]),
        ("role:reasoning bash", [(2, 1), (5, 1)]),
        ("role:assistant bash", [(2, 2), (5, 1)]),
        ("tool:BASH bash", [(2, 1), (3, 2)]),
        ("tool:plot", [(2, 1), (4, 1)]),
        ("is:error bash", [(-1, 1), (3, 2)]),
        ("is:error role:tool", [(3, 1)]),
        ("is:error tool:plot", []),
        ('"role:tool"', []),
        ("bash nowhere", []),
        ('"a\nb"', [(2, 1)]),
        ("limits 7 null", [(2, 3)]),
        ("É", [(2, 2)]),
        ("café", [(2, 1)]),
        ("", []),
    ],
)
def test_role_tool_and_error_restrict_what_is_searched(index: RunIndex, query: str, expected: list[tuple[int, int]]) -> None:
    assert found(index, query) == expected


def test_expressions_say_what_they_matched(index: RunIndex) -> None:
    answer = hits_of(index, r"role:tool (?i)BASH: \w+", regex=True, run="one", rollout="shell")
    assert (answer["count"], answer["matches"]) == (2, ["bash: no"])
    assert found(index, "x*", regex=True) == [], "an empty match is no hit"
    assert found(index, "is:error", regex=True) == [(-1, 1), (3, 1)]


@pytest.mark.parametrize("query", ["role:nobody x", "is:odd", "x" * 501])
def test_what_cannot_be_searched(index: RunIndex, query: str) -> None:
    with pytest.raises(ConfigurationError):
        search(index, query, regex=False, run=None, filter_="", after=0)


def test_a_query_is_read() -> None:
    assert parse_query('role:TOOL tool:"my tool" is:error "two words" x x') == Query(
        ("two words", "x"), None, ("tool",), ("my tool",), True
    )
    assert parse_query("http://x.y xrole:tool").words == ("http://x.y", "xrole:tool")
    assert parse_query('a "b c').words == ("a", "b c")
    assert parse_query("tool:x a.*b  c", regex=True).expression.pattern == "a.*b  c"


def test_the_place_of_a_hit_is_exact_and_a_snippet_can_be_written(tmp_path: Path) -> None:
    line = orjson.dumps(
        {
            "schema": "openreward-gym/rollout/1",
            "id": "a",
            "status": "completed",
            "messages": [{"role": "assistant", "blocks": [{"type": "text", "text": f"{'İ' * 100}Here{'😀' * 200}"}]}],
        }
    )
    lone = line.replace(b'"a"', b'"b"').replace(b"Here", b"Here\\ud83d")
    folder = tmp_path / "runs" / "one" / "rollouts"
    folder.mkdir(parents=True)
    (folder / "x.jsonl").write_bytes(line + b"\n" + lone + b"\n")
    index = RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite")
    index.refresh()
    answer = orjson.loads(orjson.dumps(search(index, "here", regex=False, run=None, filter_="", after=0)))
    first = answer["hits"][0]["snippets"][0]
    assert (first["before"], first["match"], first["after"]) == ("İ" * 80, "Here", "😀" * 80)


def test_a_search_of_much_text_ends_in_time_and_goes_on(tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "runs" / "one") as store:
        for number in range(250):
            store.append(simple(f"r{number:03d}", "word " * 10))
        store.append(simple("long", "many words " * 1_000_000 + "needle"))
    index = RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite")
    index.refresh()
    after: int | None = 0
    ids: list[str] = []
    answers = 0
    while after is not None:
        started = time.monotonic()
        answer: dict[str, Any] = search(index, "word", regex=False, run=None, filter_="", after=after)
        assert time.monotonic() - started < 8
        ids += [hit["id"] for hit in answer["hits"]]
        after, answers = answer["next"], answers + 1
    assert ids == [*(f"r{number:03d}" for number in range(250)), "long"]
    assert answers == 3
    assert search(index, "needle", regex=False, run=None, filter_="", after=0)["hits"][0]["count"] == 1


def test_hits_are_asked_for_by_address(index: RunIndex, tmp_path: Path) -> None:
    index.close()
    with viewing(tmp_path / "runs") as url, httpx.Client(base_url=url) as client:
        answer = client.get("/api/hits", params={"run": "one", "id": "shell", "query": "is:error bash"}).json()
        assert [one["message"] for one in answer["snippets"]] == [-1, 3]
        assert client.get("/api/hits", params={"run": "one", "id": "nobody", "query": "x"}).status_code == 404
        assert client.get("/api/search", params={"query": "role:nobody"}).status_code == 400
