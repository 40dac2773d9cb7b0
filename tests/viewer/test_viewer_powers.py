"""What the viewer is given from outside: the export lens and the replay check."""

from __future__ import annotations

import random
import re
from pathlib import Path

import httpx
import pytest
from tiny_tokenizer import tiny_tokenizer
from viewer_episodes import weather_episode
from viewer_runs import episode, simple, training
from viewer_serving import viewing

from openreward_gym.cli.lens import ExportLens
from openreward_gym.cli.replay import ReplayCheck
from openreward_gym.cli.viewing import powers
from openreward_gym.errors import ConfigurationError, OpenRewardGymError
from openreward_gym.rollouts.record import Rollout, TaskRecord, TextPart, ToolCallPart

BAD_ADDRESS = "http://127.0.0.1:9"


def sample(number: int = 0, *, group: int = 0, reward: float = 1.0) -> Rollout:
    draw = random.Random(number)
    return episode(draw, run="r", step=0, group=group, sample=number, reward=reward, advantage=0.0, discard=None)


def alone() -> list[Rollout]:
    return []


def test_the_lens_says_what_is_trained() -> None:
    lens = ExportLens()
    made = lens(sample(), alone, "sft")
    assert made["dropped"] is None
    uses = [(span["role"], span["use"]) for span in made["rows"][0]["spans"]]
    assert uses[:3] == [("system", "context"), ("user", "context"), ("assistant", "trained")]
    assert {use for role, use in uses if role == "tool"} == {"context"}
    (image,) = made["rows"][0]["row"]["images"]
    assert re.fullmatch(r"\([\d,]+ bytes\)", image)
    assert any("keeps hidden" in finding for finding in made["findings"])
    assert "tokens" not in dict(lens.formats)


@pytest.mark.parametrize(("name", "trained"), [("sharegpt", True), ("axolotl", True), ("openai", True), ("prompts", False)])
def test_the_lens_knows_every_shape_of_conversation(name: str, trained: bool) -> None:
    made = ExportLens()(simple("a", "Yes."), alone, name)
    assert bool([span for span in made["rows"][0]["spans"] if span["use"] == "trained" and span["text"] == "Yes."]) is trained


def test_the_lens_says_why_a_rollout_is_left_out() -> None:
    lens = ExportLens()
    assert lens(sample(2, group=3), alone, "sft")["dropped"] == "status truncated"
    assert lens(sample(), alone, "preference")["dropped"] == "alone in its group"
    broken = simple("a", "x")
    broken.messages[-1].blocks = [ToolCallPart(name="bash", input_text="{not json")]
    assert lens(broken, alone, "sft")["dropped"] == "a call's arguments are not a JSON object"
    with pytest.raises(ConfigurationError, match="no format"):
        lens(broken, alone, "no-such")


def test_the_lens_compares_a_rollout_with_its_group() -> None:
    better, worse = simple("a", "Yes.", reward=1.0), simple("b", "No.", reward=0.0, sample=1)
    made = ExportLens()(worse, lambda: [better], "preference")
    assert made["compared"] == 1
    (row,) = made["rows"]
    assert [(span["column"], span["text"], span["use"]) for span in row["spans"]] == [
        ("prompt", "What do you say?", "context"),
        ("chosen", "Yes.", "trained"),
        ("rejected", "No.", "rejected"),
    ]
    (row,) = ExportLens()(worse, lambda: [better], "kto")["rows"]
    assert row["spans"][-1]["use"] == "rejected"


def test_the_lens_shows_tokens_with_a_tokenizer() -> None:
    lens = ExportLens(tiny_tokenizer())
    assert "tokens" in dict(lens.formats)
    spans = lens(simple("a", "Yes."), alone, "tokens")["rows"][0]["spans"]
    assert [(span["use"], "Yes." in span["text"]) for span in spans[:2]] == [("context", False), ("trained", True)]
    assert spans[1]["role"].endswith(" tokens")


def test_a_replay_that_is_the_same(examples: str) -> None:
    answer = ReplayCheck(examples)(weather_episode(examples))
    assert answer["same"] is True
    assert [(call["turn"], call["name"], call["same"]) for call in answer["calls"]] == [
        (1, "get_weather", True),
        (2, "answer", True),
    ]
    assert answer["calls"][1]["recorded_reward"] == answer["calls"][1]["now_reward"] == 1.0


def test_a_replay_shows_what_is_different_now(examples: str) -> None:
    rollout = weather_episode(examples)
    results = [message for message in rollout.messages if message.role == "tool"]
    results[0].blocks = [TextPart(text="Snow.")]
    results[1].reward = 0.5
    rollout.messages[0].blocks = [TextPart(text="Another prompt.")]
    answer = ReplayCheck(examples)(rollout)
    assert (answer["same"], answer["prompt"]["same"], answer["error"]) == (False, False, None)
    assert [call["same"] for call in answer["calls"]] == [False, False]
    assert answer["calls"][0]["recorded"] == "Snow."
    assert "weather_description" in answer["calls"][0]["now"]


def test_a_call_that_reached_no_tool_is_not_sent(examples: str) -> None:
    rollout = weather_episode(examples)
    first = next(message for message in rollout.messages if message.role == "assistant")
    first.blocks = [ToolCallPart(id="c1", name="get_weather", input_text="{city")]
    answer = ReplayCheck(examples)(rollout)
    assert answer["calls"][0]["now"] is None
    assert answer["calls"][1]["now_reward"] == 0.0, "nothing was looked up this time"


def test_a_replay_that_cannot_be(examples: str) -> None:
    rollout = weather_episode(examples)
    with pytest.raises(OpenRewardGymError):
        ReplayCheck(BAD_ADDRESS)(rollout)
    with pytest.raises(ConfigurationError, match="cannot be run again"):
        ReplayCheck(examples)(rollout.model_copy(update={"task": TaskRecord()}))


def test_they_are_wired_into_the_viewer(examples: str, tmp_path: Path) -> None:
    training(tmp_path / "runs", steps=1)
    with (
        viewing(tmp_path / "runs", powers=powers(examples)) as url,
        httpx.Client(base_url=url, headers={"Origin": url}) as client,
    ):
        told = client.get("/api/powers").json()
        assert told["replay"] == examples
        assert {"sft", "preference", "rollouts"} <= {name for name, _ in told["lens"]}
        asked = {"run": "training", "id": "training-0-0-0"}
        row = client.get("/api/lens", params={**asked, "format": "sft"}).json()["rows"][0]["row"]
        assert row["rollout_id"] == "training-0-0-0"
        assert client.get("/api/lens", params={**asked, "format": "x"}).status_code == 400
        refused = client.post("/api/replay", json=asked)
        assert (refused.status_code, "counting" in refused.json()["error"]) == (400, True)
    assert powers().replay is None
