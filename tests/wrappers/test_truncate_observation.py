"""TruncateObservation: short texts stay unchanged, and a marker says how much of a long one is missing."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import pytest
from byte_tokenizer import byte_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.spaces import UnicodeText
from openreward_gym.envs.vector import OpenRewardVectorEnv
from openreward_gym.errors import ConfigurationError
from openreward_gym.store.store import RolloutStore
from openreward_gym.wrappers import RecordRollouts, TruncateObservation

KEEPS: list[Literal["both", "head", "tail"]] = ["both", "head", "tail"]
MARKER = re.compile(r"\n\[\.\.\. (\d+) (characters|tokens) cut \.\.\.\]\n")


def echo(text: str) -> dict[str, Any]:
    return {"name": "echo", "arguments": {"text": text}}


def make(server_url: str, obs_mode: Literal["text", "blocks", "messages"] = "text", **arguments: Any) -> TruncateObservation:
    return TruncateObservation(OpenRewardEnv("echo", base_url=server_url, obs_mode=obs_mode), **arguments)


@given(st.text(max_size=300), st.integers(1, 120), st.sampled_from(KEEPS))
@settings(max_examples=300, deadline=None)
def test_any_text_fits_and_the_marker_is_honest(text: str, most: int, keep: Literal["both", "head", "tail"]) -> None:
    wrapper = TruncateObservation(OpenRewardEnv("echo", base_url="http://127.0.0.1:9"), max_chars=most, keep=keep)
    fits, cut = wrapper.cut_text(text)
    assert len(fits) <= most
    if len(text) <= most:
        assert (fits, cut) == (text, 0)
        return
    marker = MARKER.search(fits)
    if marker is not None and most > 40:
        head, tail = fits[: marker.start()], fits[marker.end() :]
        assert text.startswith(head)
        assert text.endswith(tail)
        assert int(marker[1]) == cut == len(text) - len(head) - len(tail)
        assert not (tail if keep == "head" else head if keep == "tail" else "")
    else:
        assert most <= 40
        assert cut > 0


TOKENIZERS = [byte_tokenizer(), byte_tokenizer(("a", "b"), ("ab", "ab"), ("Ċ", "a"), ("]", "Ċ"))]


@given(st.text(alphabet="ab \n]é😀x", max_size=300), st.integers(1, 120), st.sampled_from(KEEPS), st.sampled_from(TOKENIZERS))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_fits_in_tokens(text: str, most: int, keep: Literal["both", "head", "tail"], tokenizer: Any) -> None:
    wrapper = TruncateObservation(
        OpenRewardEnv("echo", base_url="http://127.0.0.1:9"), max_tokens=most, tokenizer=tokenizer, keep=keep
    )
    fits, cut = wrapper.cut_text(text)
    count = len(tokenizer.encode(text, add_special_tokens=False))
    if count <= most:
        assert (fits, cut) == (text, 0)
        return
    assert len(tokenizer.encode(fits, add_special_tokens=False)) <= most
    assert "\ufffd" not in fits
    marker = MARKER.search(fits)
    if marker is not None:
        head, tail = fits[: marker.start()], fits[marker.end() :]
        assert text.startswith(head)
        assert text.endswith(tail)
        assert cut == len(text) - len(head) - len(tail)
        assert 0 < int(marker[1]) <= count
    else:
        assert most < 60


def test_the_record_and_the_info_keep_everything(server_url: str, tmp_path: Path) -> None:
    env = RecordRollouts(make(server_url, max_chars=60), tmp_path)
    assert env.observation_space == UnicodeText(60)
    env.reset()
    observation, *_, info = env.step(echo("x" * 500))
    assert len(observation) <= 60
    assert observation in env.observation_space
    assert info["obs_truncated_chars"] == 500 - observation.count("x")
    assert info["blocks"][0]["text"] == "x" * 500
    observation, *_, info = env.step(echo("short"))
    assert (observation, info["obs_truncated_chars"]) == ("short", 0)
    env.close()
    (rollout,) = RolloutStore(tmp_path)
    assert [message.text for message in rollout.messages if message.role == "tool"] == ["x" * 500, "short"]


def test_blocks_and_messages(server_url: str) -> None:
    env = make(server_url, "blocks", max_chars=60)
    env.reset()
    (block,) = env.step(echo("x" * 500))[0]
    assert len(block["text"]) <= 60
    assert env.step({"name": "image", "arguments": {}})[0][1]["type"] == "image"
    env.close()
    env = make(server_url, "messages", max_chars=60)
    first, _ = env.reset()
    assert len(first[0]["content"]) <= 60
    observation = env.step(echo("x" * 500))[0]
    assert [message["role"] for message in observation] == ["user", "assistant", "tool"]
    assert "x" * 500 in str(observation[1]["tool_calls"])
    assert "cut ...]" in str(observation[2]["content"])
    assert observation in env.observation_space
    env.close()


def test_async_and_inside_a_vector_env(server_url: str) -> None:
    async def run() -> Any:
        env = make(server_url, max_chars=60)
        await env.areset()
        observation = (await env.astep(echo("x" * 500)))[0]
        await env.aclose()
        return observation

    assert len(asyncio.run(run())) <= 60
    envs = OpenRewardVectorEnv(
        2, environment="echo", base_url=server_url, wrap=lambda env: TruncateObservation(env, max_chars=60)
    )
    envs.reset(seed=0)
    observations, *_, infos = envs.step([echo("x" * 500), echo("y")])
    assert [len(text) <= 60 for text in observations] == [True, True]
    assert list(infos["obs_truncated_chars"]) == [500 - observations[0].count("x"), 0]
    envs.close()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"max_chars": 5, "max_tokens": 5, "tokenizer": "x"},
        {"max_tokens": 5},
        {"max_chars": 5, "tokenizer": "x"},
        {"max_chars": 0},
        {"max_chars": "5"},
        {"max_tokens": True, "tokenizer": "x"},
        {"max_chars": 5, "keep": "middle"},
        {"max_tokens": 5, "tokenizer": "./no-such-folder"},
    ],
)
def test_wrong_arguments(server_url: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        make(server_url, **arguments)
    with pytest.raises(ConfigurationError):
        TruncateObservation(gym.make("CartPole-v1"), max_chars=5)
