"""The texts of recorded tokens, and the recorded line of a rollout, as the viewer's server answers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from reading_runs import reading_run, sampled_rollout
from starlette.testclient import TestClient
from tiny_tokenizer import tiny_tokenizer

from openreward_gym.store import RolloutStore
from openreward_gym.types import ToolMessage
from openreward_gym.viewer.answers.tokens import pieces
from openreward_gym.viewer.app import create_app
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.server import make_extensions


def as_bytes(ids: list[int]) -> str:
    return bytes(ids).decode("utf-8", "replace")


def with_blanks(ids: list[int]) -> str:
    """A tokenizer that drops the blank at the beginning of a text, as SentencePiece's do."""
    return "".join([" one", " two", "s", " three"][token] for token in ids).removeprefix(" ")


@pytest.mark.parametrize("seed", range(20))
def test_the_pieces_joined_are_the_text(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice("abc é⚓🚢\n\u202e字") for _ in range(200))
    found = pieces(as_bytes, list(text.encode()))
    assert "".join(piece or "" for piece in found) == text
    assert len(found) == len(text.encode())


def test_bytes_of_one_character_are_shown_with_the_last() -> None:
    assert pieces(as_bytes, list("a⚓b".encode())) == ["a", None, None, "⚓", "b"]


def test_a_blank_that_a_tokenizer_drops_at_the_beginning_is_kept_between_tokens() -> None:
    assert pieces(with_blanks, [0, 1, 2, 3]) == ["one", " two", "s", " three"]


def test_bytes_that_never_become_a_character_end() -> None:
    found = pieces(as_bytes, [255] * 40 + [65])
    assert found[-1] is not None
    assert found[-1].endswith("A")
    assert len(found) == 41
    assert pieces(as_bytes, []) == []


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return reading_run(tmp_path / "runs", tiny_tokenizer())


@pytest.fixture
def client(run: Path) -> Iterator[TestClient]:
    index = RunIndex([run], run.parent.parent / "index.sqlite")
    index.refresh()
    app = create_app(index, extensions=make_extensions(tokenizer=tiny_tokenizer()))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def test_tokens_are_decoded(client: TestClient) -> None:
    assert client.get("/api/extensions").json()["tokens"] is True
    answer = client.get("/api/tokens", params={"run": "read", "id": "sampled", "message": 1}).json()
    assert "".join(piece or "" for piece in answer["pieces"]) == "The harbour ⚓ is full."
    prompt = client.get("/api/tokens", params={"run": "read", "id": "sampled", "message": 1, "prompt": "1"}).json()
    assert "".join(prompt["pieces"]).startswith("<|im_start|>user")
    recorded = sampled_rollout(tiny_tokenizer()).messages[1]
    assert len(answer["pieces"]) == len(recorded.token_ids or ())


@pytest.mark.parametrize(
    ("parameters", "status", "words"),
    [
        ({"message": 0}, 404, "No tokens were recorded"),
        ({"message": 99}, 404, "no message 99"),
        ({}, 400, "'message' is missing"),
        ({"message": 1, "id": "nobody"}, 404, ""),
    ],
)
def test_what_has_no_tokens_is_said(client: TestClient, parameters: dict[str, str | int], status: int, words: str) -> None:
    answer = client.get("/api/tokens", params={"run": "read", "id": "sampled", **parameters})
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_without_a_tokenizer_there_are_no_texts(run: Path) -> None:
    index = RunIndex([run], run.parent.parent / "other.sqlite")
    index.refresh()
    with TestClient(create_app(index, extensions=make_extensions()), base_url="http://127.0.0.1") as client:
        assert client.get("/api/extensions").json()["tokens"] is False
        assert client.get("/api/tokens", params={"run": "read", "id": "sampled", "message": 1}).status_code == 404


def test_the_line_is_what_is_in_the_file(client: TestClient, run: Path) -> None:
    answer = client.get("/api/line", params={"run": "read", "id": "sampled"})
    lines = [line for file in (run / "rollouts").glob("*.jsonl") for line in file.read_bytes().splitlines()]
    assert answer.content.strip() in lines
    assert json.loads(answer.content)["id"] == "sampled"


def test_the_tokens_of_a_large_rollout_are_decoded(tmp_path: Path) -> None:
    rollout = sampled_rollout(tiny_tokenizer())
    rollout.messages.append(ToolMessage("x" * 2_100_000, call_id="c"))
    RolloutStore(tmp_path / "runs" / "read").append(rollout)
    index = RunIndex([tmp_path / "runs" / "read"], tmp_path / "index.sqlite")
    index.refresh()
    app = create_app(index, extensions=make_extensions(tokenizer=tiny_tokenizer()))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        asked: dict[str, str | int] = {"run": "read", "id": "sampled", "message": 1}
        opened = client.get("/api/rollout", params={"run": "read", "id": "sampled"}).json()
        assert opened["rollout"]["messages"][1]["sampled"]["left_out"] == {"tokens": 24}
        assert (
            "".join(piece or "" for piece in client.get("/api/tokens", params=asked).json()["pieces"])
            == "The harbour ⚓ is full."
        )
        assert client.get("/api/tokens", params={**asked, "message": 6}).status_code == 404
