"""Labels over HTTP: a request names the fields that it sets, and everybody sees what the others wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym.store import RolloutStore, change_label, read_labels


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    RolloutStore(tmp_path / "runs" / "r").append(simple("a", "x"))
    with viewing(tmp_path / "runs") as url, httpx.Client(base_url=url, headers={"Origin": url}) as one:
        yield one


def post(client: httpx.Client, **change: Any) -> Any:
    answer = client.post("/api/label", json={"run": "r", "rollout": "a", **change})
    assert answer.status_code == 200, answer.text
    return answer.json()


def about(client: httpx.Client) -> Any:
    return client.get("/api/about", params={"run": "r", "id": "a"}).json()


def test_two_pages_and_a_script_lose_nothing(client: httpx.Client, tmp_path: Path) -> None:
    post(client, set={"rating": 5}, author="Ann")
    post(client, add=["guessed"], author="Ann")
    change_label(tmp_path / "runs" / "r", "a", add_tags=["short"], author="script")
    answer = post(client, set={"note": "in the prompt"}, author="Bo")
    assert answer["label"] == {"rating": 5, "tags": ["guessed", "short"], "note": "in the prompt"}
    assert answer == about(client)
    assert [change.get("author") for change in answer["history"]] == ["Ann", "Ann", "script", "Bo"]
    assert answer["history"][1] == {"rollout": "a", "add": ["guessed"], "author": "Ann", "time": answer["history"][1]["time"]}
    label = read_labels(tmp_path / "runs" / "r")["a"]
    assert (label.rating, label.tags, label.note) == (5, ("guessed", "short"), "in the prompt")


def test_fields_beside_the_rollout_are_set_alone(client: httpx.Client) -> None:
    post(client, rating=3)
    assert post(client, note="n")["label"] == {"rating": 3, "tags": [], "note": "n"}


def test_a_note_over_another_is_told(client: httpx.Client) -> None:
    post(client, set={"note": "first"}, author="Ann")
    post(client, set={"note": "hers"}, author="Ann", seen_note="first")
    answer = post(client, set={"note": "his"}, author="Bo", seen_note="first")
    assert answer["label"]["note"] == "his"
    over = answer["history"][-1]["overwritten"]
    assert (over["author"], over["note"]) == ("Ann", "hers")
    assert "seen" not in answer["history"][-1]


def test_a_change_by_a_script_is_seen_by_polling(client: httpx.Client, tmp_path: Path) -> None:
    first = client.get("/api/about", params={"run": "r", "id": "a"})
    etag = first.headers["etag"]
    assert client.get("/api/about", params={"run": "r", "id": "a"}, headers={"If-None-Match": etag}).status_code == 304
    change_label(tmp_path / "runs" / "r", "a", rating=2, author="script")
    while about(client)["label"]["rating"] != 2:
        pass
    assert about(client)["history"][0]["author"] == "script"


@pytest.mark.parametrize("wrong", [{"set": {"rating": 9}}, {"set": {"stars": 1}}, {"add": [""]}, {"author": "x" * 200}])
def test_wrong_changes_are_refused(client: httpx.Client, tmp_path: Path, wrong: dict[str, Any]) -> None:
    assert client.post("/api/label", json={"run": "r", "rollout": "a", **wrong}).status_code == 400
    assert not (tmp_path / "runs" / "r" / "labels.jsonl").exists()
