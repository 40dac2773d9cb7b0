"""Large rollouts are sent in pieces, which put together are the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym import viewer
from openreward_gym.errors import ConfigurationError
from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    Message,
    ReasoningItem,
    Rollout,
    Sampled,
    TextBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from openreward_gym.viewer.answers import pieces
from openreward_gym.viewer.index import RolloutPlace, RunIndex

LONG = "".join(f'line {number}: ünïcode 🚢 and "quotes"\n' for number in range(20_000))  # some 700,000 characters


def large() -> Rollout:
    """Return a rollout with many messages and long texts of all kinds."""
    messages: list[Message] = [UserMessage("Read all of it.")]
    for number in range(60):
        call = ToolCall("write", {"text": LONG if number == 3 else "short"}, f"c{number}")
        thought = ReasoningItem(content=LONG if number == 4 else "Hm.")
        sampled = Sampled(token_ids=(1,) * 500, logprobs=(-0.5,) * 500)
        messages.append(AssistantMessage([thought, TextBlock(f"Turn {number}."), call], sampled=sampled, reward=0.5))
        messages.append(ToolMessage(call_id=f"c{number}", content=[TextBlock(LONG if number % 20 == 0 else "x" * 30_000)]))
    return Rollout(id="big", status="completed", messages=messages, reward=30.0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pieces") / "runs"
    with RolloutStore(folder / "r") as store:
        store.append(large())
        store.append(simple("small", "x"))
    return folder


@pytest.fixture(scope="module")
def client(runs: Path) -> Iterator[httpx.Client]:
    with viewing(runs) as url, httpx.Client(base_url=url, timeout=30) as one:
        yield one


def get(client: httpx.Client, name: str, **parameters: Any) -> Any:
    answer = client.get(f"/api/{name}", params={"run": "r", "id": "big", **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


def without_tokens(message: dict[str, Any]) -> dict[str, Any]:
    sampled = {
        name: value for name, value in message.get("sampled", {}).items() if name not in ("token_ids", "logprobs", "left_out")
    }
    return {**message, **({"sampled": sampled} if "sampled" in message else {})}


def test_the_first_answer_is_small_and_has_the_outline(client: httpx.Client) -> None:
    answer = client.get("/api/rollout", params={"run": "r", "id": "big"})
    opened = answer.json()
    assert len(answer.content) < 2 * pieces.PIECE_BYTES
    messages = opened["rollout"]["messages"]
    assert 0 < len(messages) < 121
    assert opened["next"] == len(messages)
    assert opened["rollout"]["reward"] == 30.0
    assert len(opened["outline"]) == 121
    assert opened["outline"][1] == {
        "role": "assistant", "tools": ["write"], "reward": 0.5, "text": "Hm.", "length": 10
    }  # fmt: skip


def test_the_pieces_are_the_whole(client: httpx.Client) -> None:
    whole = orjson.loads(large().to_line())["messages"]
    opened = get(client, "rollout")
    messages, following = opened["rollout"]["messages"], opened["next"]
    while following is not None:
        piece = get(client, "messages", **{"from": following})
        assert piece["messages"]
        assert piece["running"] is None
        messages += piece["messages"]
        following = piece["next"]
    for number, message in enumerate(messages):
        for place, block in enumerate(message["blocks"]):
            for field, length in block.pop("cut", {}).items():
                text = block[field]
                assert len(text) == pieces.LONGEST_TEXT
                following = len(text)
                while following is not None:
                    part = get(client, "text", message=number, block=place, field=field, **{"from": following, "length": 300_000})
                    assert part["total"] == length
                    text += part["text"]
                    following = part["next"]
                if block["type"] == "tool_call":
                    block["arguments"] = orjson.loads(text)
                    del block["content"]
                else:
                    block[field] = text
    assert list(map(without_tokens, messages)) == list(map(without_tokens, whole))


def test_tokens_are_left_out_unless_they_are_asked_for(client: httpx.Client) -> None:
    (message, *_) = get(client, "messages", **{"from": 1})["messages"]
    assert message["sampled"] == {"left_out": {"tokens": 500}}
    (message, *_) = get(client, "messages", **{"from": 1, "tokens": "1"})["messages"]
    assert message["sampled"] == {"token_ids": [1] * 500, "logprobs": [-0.5] * 500}


def test_a_small_rollout_is_one_answer(client: httpx.Client) -> None:
    opened = client.get("/api/rollout", params={"run": "r", "id": "small"}).json()
    assert set(opened) == {"run", "place", "label", "rollout"}
    assert get(client, "messages", id="small", **{"from": 1})["messages"] == opened["rollout"]["messages"][1:]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"message": 999, "block": 0, "field": "text"}, 404),
        ({"message": 0, "block": 9, "field": "text"}, 404),
        ({"message": 0, "block": 0, "field": "data"}, 400),
        ({"message": 0, "block": 0}, 400),
        ({"message": "x", "block": 0, "field": "text"}, 400),
    ],
)
def test_texts_that_are_not_there(client: httpx.Client, wrong: dict[str, Any], status: int) -> None:
    assert client.get("/api/text", params={"run": "r", "id": "big", **wrong}).status_code == status


def test_a_large_line_is_parsed_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = RunIndex.read

    def noted(index: RunIndex, place: RolloutPlace) -> bytes:
        read.append(place.length)
        return original(index, place)

    monkeypatch.setattr(RunIndex, "read", noted)
    with viewing(runs) as url, httpx.Client(base_url=url, timeout=30) as client:
        get(client, "rollout")
        for first in (1, 50, 100):
            get(client, "messages", **{"from": first})
    assert len(read) == 1


def test_a_file_to_share_says_when_it_would_be_too_large(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"larger than 1 MB.*filter.*limit_mb"):
        viewer.write_html(runs, tmp_path / "page.html", limit_mb=1)
    assert viewer.write_html(runs, tmp_path / "page.html", filter='id == "small"', limit_mb=1) == 1
