"""TextAction: raw text in, calls at the server, errors as observations."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env

from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.spaces import UnicodeText
from openreward_gym.envs.vector import OpenRewardVectorEnv
from openreward_gym.errors import ConfigurationError
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import AssistantMessage, Sampled, ToolCall
from openreward_gym.wrappers import RecordRollouts, TextAction

HERMES = '<tool_call>{"name": "echo", "arguments": {"text": "hi"}}</tool_call>'
QWEN = "<tool_call>\n<function=slow>\n<parameter=seconds>\n0\n</parameter>\n</function>\n</tool_call>"
LLAMA = '<|python_tag|>{"name": "echo", "parameters": {"text": "hi"}}<|eom_id|>'
PLAIN = '{"name": "echo", "arguments": {"text": "hi"}}'


@pytest.fixture
def env(server_url: str) -> TextAction:
    return TextAction(OpenRewardEnv("echo", base_url=server_url, on_message="nudge"))


@pytest.mark.parametrize(("text", "answer"), [(HERMES, "hi"), (QWEN, "done"), (LLAMA, "hi"), (PLAIN, "hi")])
def test_calls_reach_the_server(env: TextAction, text: str, answer: str) -> None:
    env.reset()
    assert env.step(text)[0] == answer
    env.close()


def test_several_calls_and_words_between_them(env: TextAction, tmp_path: Path) -> None:
    recorded = RecordRollouts(env, tmp_path)
    recorded.reset()
    text = f"<think>both</think>First {HERMES} then {QWEN}"
    observation, reward, *_, info = recorded.step(text)
    assert observation == "[echo]\nhi\n\n[slow]\ndone"
    assert (reward, info["n_calls"], info["error"]) == (0.5, 2, "")
    recorded.close()
    (rollout,) = RolloutStore(tmp_path)
    answer = next(message for message in rollout.messages if message.role == "assistant")
    assert (answer.reasoning, answer.text, [call.name for call in answer.tool_calls]) == ("both", "Firstthen", ["echo", "slow"])
    assert answer.metadata == {"raw_text": text}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('<tool_call>{"name": "echo", "arguments": {"text": </tool_call>', "malformed"),
        ("<tool_call>echo(hi)</tool_call>", "malformed"),
        ("<function=echo><parameter=text>cut o", "malformed"),
        ('<tool_call>{"name": "echo", "arguments": [1]}</tool_call>', "malformed"),
        ('<tool_call>{"name": "nope", "arguments": {}}</tool_call>', "not_found"),
        ('<tool_call>{"arguments": {}}</tool_call>', "malformed"),
        ("<tool_call></tool_call>", "malformed"),
        ('<tool_call>{"name": "echo", "arguments": {"text": 3}}</tool_call>', "input_validation"),
    ],
)
def test_what_is_wrong_is_an_observation(env: TextAction, text: str, kind: str) -> None:
    env.reset()
    observation, reward, terminated, truncated, info = env.step(text)
    assert (reward, terminated, truncated, info["error_kind"]) == (0.0, False, False, kind)
    assert observation == info["error"] != ""
    assert env.step(HERMES)[0] == "hi"
    env.close()


def test_text_without_a_call_is_a_message(server_url: str) -> None:
    env = TextAction(OpenRewardEnv("dialogue", base_url=server_url))
    env.reset(seed=3)
    assert env.step("<think>three</think>3<|im_end|>")[1:3] == (1.0, True)
    env.close()


def test_messages_pass_and_keep_what_the_provider_told(env: TextAction) -> None:
    env.reset()
    sampled = Sampled(token_ids=(1, 2), stop_reason="stop")
    read = AssistantMessage("", [ToolCall("echo", {"text": "hi"})], sampled=sampled)
    for message in (AssistantMessage(HERMES, sampled=sampled), read):
        assert env.step(message)[0] == "hi"
        step = env.unwrapped.last_step
        assert step is not None
        assert step.action.sampled == sampled
        assert step.action.tool_calls[0].arguments == {"text": "hi"}
    assert env.step({"role": "assistant", "content": HERMES})[0] == "hi"
    assert env.step({"name": "echo", "arguments": {"text": "hi"}})[0] == "hi"
    env.close()


def test_async_and_inside_a_vector_env(server_url: str, env: TextAction) -> None:
    async def run() -> Any:
        await env.areset()
        observation = (await env.astep(HERMES))[0]
        await env.aclose()
        return observation

    assert asyncio.run(run()) == "hi"
    envs = OpenRewardVectorEnv(2, environment="echo", base_url=server_url, wrap=TextAction)
    envs.reset(seed=0)
    assert envs.step([HERMES, LLAMA])[0] == ("hi", "hi")
    envs.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_in_the_vector_envs_of_gymnasium(server_url: str, mode: str) -> None:
    envs = gym.make_vec("OpenReward-v0", 2, mode, wrappers=[TextAction], environment="echo", base_url=server_url)
    assert envs.single_action_space == UnicodeText()
    envs.reset(seed=0)
    observations = envs.step((HERMES, QWEN))[0]
    assert [str(text) for text in observations] == ["hi", "done"]
    envs.close()


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_gymnasium_finds_nothing_wrong(server_url: str) -> None:
    env = TextAction(gym.make("OpenReward-v0", environment="dialogue", base_url=server_url))
    assert env.action_space == UnicodeText()
    check_env(env, skip_render_check=True)
    env.close()


@pytest.mark.parametrize("formats", [["hermes"], [], "json", [3]])
def test_wrong_formats(server_url: str, formats: Any) -> None:
    with pytest.raises(ConfigurationError, match="tool_call, function, llama, json"):
        TextAction(OpenRewardEnv("echo", base_url=server_url), formats=formats)
