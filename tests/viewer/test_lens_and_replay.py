"""The export lens and the replay check, alone and in the viewer."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import struct
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from environments import PIXEL
from tiny_tokenizer import tiny_tokenizer
from viewer_episodes import weather_episode
from viewer_runs import episode, png, simple, training
from viewer_serving import viewing

from openreward_gym import cli
from openreward_gym.errors import ConfigurationError, OpenRewardGymError
from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Message,
    Rollout,
    RolloutEnvironment,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from openreward_gym.viewer.lens import ExportLens
from openreward_gym.viewer.replay import ReplayCheck, size_in_pixels
from openreward_gym.viewer.server import make_extensions

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
    broken.messages[-1] = AssistantMessage([ToolCall("bash", content="{not json")])
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


def mixed(identity: str, answer: str, *, reward: float = 1.0, sample: int = 0) -> Rollout:
    """Return an episode with an answer of the prompt, one of weight 0, and one that is trained."""
    rollout = simple(identity, answer, reward=reward, sample=sample)
    turns = [("Given.", "given", None), ("Of no weight.", "policy", 0.0), (answer, "policy", None)]
    messages = [Message("system", (TextBlock("Be brief."),), origin="given")]
    for text, origin, weight in turns:
        messages.append(Message("user", (TextBlock("And now?"),), origin="given"))
        messages.append(Message("assistant", (TextBlock(text),), origin=origin, weight=weight))  # type: ignore[arg-type]
    rollout.messages = messages
    return rollout


def uses_of(lens: ExportLens, rollout: Rollout, others: list[Rollout], name: str) -> list[list[tuple[str, str]]]:
    """Return the texts of the model in each row, with their uses."""
    made = lens(rollout, lambda: others, name)
    assert made["dropped"] is None, made["dropped"]
    texts = {"Given.", "Of no weight.", "Yes.", "No."}
    return [
        [(text, span["use"]) for span in row["spans"] for text in texts if text in span["text"].split("\n")]
        for row in made["rows"]
    ]


@pytest.mark.parametrize("name", ["openai", "axolotl", "llama_factory_v1"])
def test_the_lens_shows_weights_of_zero_as_context(name: str) -> None:
    (uses,) = uses_of(ExportLens(), mixed("a", "Yes."), [], name)
    assert uses == [("Given.", "context"), ("Of no weight.", "context"), ("Yes.", "trained")]


@pytest.mark.parametrize("name", ["preference", "openai_dpo", "sharegpt_preference"])
def test_the_lens_shows_the_two_sides_of_every_kind_of_pair(name: str) -> None:
    (uses,) = uses_of(ExportLens(), mixed("a", "Yes."), [mixed("b", "No.", reward=0.0, sample=1)], name)
    assert uses == [("Given.", "context"), ("Of no weight.", "context"), ("Yes.", "trained"), ("No.", "rejected")]


@pytest.mark.parametrize("name", ["preference", "openai_dpo", "sharegpt_preference"])
def test_the_lens_shows_only_the_pairs_of_its_rollout(name: str) -> None:
    rewards = {"Yes.": 1.0, "Perhaps.": 0.5, "No.": 0.0}
    best, middle, worst = (simple(text, text, reward=reward, sample=n) for n, (text, reward) in enumerate(rewards.items()))
    made = ExportLens()(worst, lambda: [best, middle], name)
    pairs = [tuple(span["text"] for span in row["spans"] if span["use"] != "context") for row in made["rows"]]
    assert sorted(pairs) == [("Perhaps.", "No."), ("Yes.", "No.")]


@pytest.mark.parametrize("name", ["kto", "sharegpt_kto"])
def test_the_lens_shows_the_labelled_turn_alone_as_trained(name: str) -> None:
    better, worse = mixed("a", "Yes."), mixed("b", "No.", reward=0.0, sample=1)
    history = [("Given.", "context"), ("Of no weight.", "context")]
    assert uses_of(ExportLens(), better, [worse], name) == [[*history, ("Yes.", "trained")]]
    assert uses_of(ExportLens(), worse, [better], name) == [[*history, ("No.", "rejected")]]


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
    first, second = (number for number, message in enumerate(rollout.messages) if message.role == "tool")
    rollout.messages[first] = rollout.messages[first].replace(blocks=(TextBlock("Snow."),))
    rollout.messages[second] = rollout.messages[second].replace(reward=0.5)
    rollout.messages[0] = rollout.messages[0].replace(blocks=(TextBlock("Another prompt."),))
    answer = ReplayCheck(examples)(rollout)
    assert (answer["same"], answer["prompt"]["same"], answer["error"]) == (False, False, None)
    assert [call["same"] for call in answer["calls"]] == [False, False]
    assert answer["calls"][0]["recorded"] == "Snow."
    assert "weather_description" in answer["calls"][0]["now"]


def test_a_call_that_reached_no_tool_is_not_sent(examples: str) -> None:
    rollout = weather_episode(examples)
    first = next(number for number, message in enumerate(rollout.messages) if message.role == "assistant")
    rollout.messages[first] = AssistantMessage([ToolCall("get_weather", call_id="c1", content="{city")])
    answer = ReplayCheck(examples)(rollout)
    assert answer["calls"][0]["now"] is None
    assert answer["calls"][1]["now_reward"] == 0.0, "nothing was looked up this time"


def test_a_replay_that_cannot_be(examples: str) -> None:
    rollout = weather_episode(examples)
    with pytest.raises(OpenRewardGymError):
        ReplayCheck(BAD_ADDRESS)(rollout)
    with pytest.raises(ConfigurationError, match="cannot be run again"):
        ReplayCheck(examples)(replace(rollout, task=Task()))


def test_they_are_wired_into_the_viewer(examples: str, tmp_path: Path) -> None:
    training(tmp_path / "runs", steps=1)
    with (
        viewing(tmp_path / "runs", extensions=make_extensions(examples)) as url,
        httpx.Client(base_url=url, headers={"Origin": url}) as client,
    ):
        extensions = client.get("/api/extensions").json()
        assert extensions["replay"] == examples
        assert {"sft", "preference", "rollouts"} <= {name for name, _ in extensions["lens"]}
        request = {"run": "training", "id": "training-0-0-0"}
        row = client.get("/api/lens", params={**request, "format": "sft"}).json()["rows"][0]["row"]
        assert row["rollout_id"] == "training-0-0-0"
        assert client.get("/api/lens", params={**request, "format": "x"}).status_code == 400
        refusal = client.post("/api/replay", json=request)
        assert (refusal.status_code, "counting" in refusal.json()["error"]) == (400, True)
    assert make_extensions().replay is None


def pictured(base_url: str, *blocks: Block) -> Rollout:
    """Return a recorded call of a tool that returns a text and a picture; the record has `blocks` in the picture's place."""
    messages = [
        UserMessage(content=[TextBlock('task {"number": 0}, asked 1 times')]),
        AssistantMessage(content=[ToolCall(call_id="c1", name="image", arguments={})]),
        ToolMessage(call_id="c1", name="image", reward=0.0, content=[TextBlock("look"), *blocks]),
    ]
    environment = RolloutEnvironment(name="echo", split="train", origin=base_url)
    return Rollout(id="a", environment=environment, task=Task(spec={"number": 0}), messages=messages, status="completed")


def test_a_replay_compares_images_by_their_bytes(server_url: str) -> None:
    same = ReplayCheck(server_url)(pictured(server_url, ImageBlock(data=PIXEL)))
    assert (same["same"], [image["same"] for image in same["calls"][0]["images"]]) == (True, [True])
    beside = hashlib.sha256(base64.b64decode(PIXEL)).hexdigest()
    assert ReplayCheck(server_url)(pictured(server_url, ImageBlock(sha256=beside)))["same"] is True

    other = png(20, 10)
    answer = ReplayCheck(server_url)(pictured(server_url, ImageBlock(data=base64.b64encode(other).decode())))
    (call,) = answer["calls"]
    assert call["recorded"] == call["now"], "the texts, where an image is a word, are the same"
    assert (answer["same"], call["same"]) == (False, False)
    (pair,) = call["images"]
    assert [pair["recorded"][name] for name in ("width", "height", "bytes")] == [20, 10, len(other)]
    assert [pair["now"][name] for name in ("width", "height", "bytes", "data")] == [1, 1, 70, PIXEL]

    (call,) = ReplayCheck(server_url)(pictured(server_url))["calls"]
    assert (call["same"], call["images"][0]["recorded"]) == (False, None)
    (call,) = ReplayCheck(server_url)(pictured(server_url, ImageBlock(data="not base64!")))["calls"]
    assert (call["same"], call["images"][0]["recorded"]["width"]) == (False, None)


def test_an_image_of_another_size_or_kind_is_measured() -> None:
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc0\x00\x11\x08\x00\x0a\x00\x14"
    webp = {
        b"VP8X": b"\x0a\0\0\0\0\0\0\0\x13\0\0\x09\0\0",
        b"VP8L": b"\0\0\0\0\x2f" + (19 | 9 << 14).to_bytes(4, "little"),
        b"VP8 ": b"\0\0\0\0\0\0\0\x9d\x01\x2a\x14\0\x0a\0",
    }
    files = [png(20, 10), jpeg, b"GIF89a\x14\0\x0a\0", b"BM" + bytes(16) + struct.pack("<ii", 20, -10)]
    files += [b"RIFF\0\0\0\0WEBP" + kind + rest for kind, rest in webp.items()]
    assert [size_in_pixels(file) for file in files] == [(20, 10)] * len(files)
    broken = [file[:cut] for file in files for cut in (0, 3, 8, len(file) - 1) if file[:8] != b"\x89PNG\r\n\x1a\n"]
    assert {size_in_pixels(file) for file in broken} == {None}
    assert size_in_pixels(b"<svg xmlns='http://www.w3.org/2000/svg'/>") is None


def test_a_replay_gives_its_sessions_secrets_and_shows_none(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = 's3cret "value" 81f2'
    monkeypatch.setenv("MY_JUDGE_KEY", secret)
    calls = [("secret", "judge"), ("echo", f"it is {secret}"), ("echo", json.dumps(secret)), ("fail", f"no {secret}!")]
    messages: list[Message] = [UserMessage("Go.")]
    for number, (name, text) in enumerate(calls):
        messages += [
            AssistantMessage(content=[ToolCall(call_id=f"c{number}", name=name, arguments={"text": text})]),
            ToolMessage(call_id=f"c{number}", name=name, content=[TextBlock(str(len(secret)))]),
        ]
    rollout = replace(pictured(server_url), messages=messages)
    answer = ReplayCheck(server_url, {"judge": "MY_JUDGE_KEY"})(rollout)
    assert answer["calls"][0]["same"] is True, "the environment was given the secret"
    outputs = [call["now"] for call in answer["calls"]]
    assert outputs[1:3] == ["it is [secret]", '"[secret]"']
    assert "[secret]" in outputs[3]
    assert secret not in json.dumps(outputs)
    assert json.dumps(secret)[1:-1] not in json.dumps(outputs)

    (call,) = ReplayCheck(server_url)(replace(rollout, messages=messages[:3]))["calls"]
    assert (call["same"], call["now"]) == (False, "0")
    monkeypatch.delenv("MY_JUDGE_KEY")
    with pytest.raises(ConfigurationError, match="MY_JUDGE_KEY, which is not set"):
        ReplayCheck(server_url, {"judge": "MY_JUDGE_KEY"})(rollout)


def test_a_secret_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def usage_error(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            cli.main(["view", *arguments])
        assert stop.value.code == 2
        return capsys.readouterr().err

    replay = ("--replay", BAD_ADDRESS)
    assert "--secret needs --replay" in usage_error("--secret", "judge=MY_JUDGE_KEY")
    for option in ("sk-81f2", "judge=sk-81f2", "=sk-81f2", "judge=sk81f2"):
        message = usage_error(*replay, "--secret", option)
        assert "--secret" in message
        assert "81f2" not in message, "it may be the secret itself"
