"""A user's program, with types: `tests/typed/test_user_types.py` checks it as `mypy --strict` does, and never runs it."""

from __future__ import annotations

from typing import assert_type

from openreward_gym import (
    AssistantMessage,
    Message,
    OpenRewardEnv,
    OpenRewardVectorEnv,
    Recorder,
    RolloutStore,
    ToolCall,
    ToolSet,
    UserMessage,
    collect,
    export,
    serve,
)
from openreward_gym.chat import from_openai, to_anthropic
from openreward_gym.collect import CollectOptions
from openreward_gym.envs import (
    BlocksObservation,
    ChatMessage,
    Info,
    InfoErrorKind,
    InfoStopReason,
    MessagesObservation,
    VectorInfo,
)
from openreward_gym.options import EnvKeywords, RetryBudget
from openreward_gym.types import Ended, Origin, Role, Status
from openreward_gym.wrappers import RecordRollouts, TruncateObservation


def play(base_url: str) -> float:
    env: OpenRewardEnv[str] = OpenRewardEnv("weather", base_url=base_url, obs_mode="text", task_order="shuffle", max_steps=8)
    observation, info = env.reset(seed=0)
    assert_type(observation, str)
    assert_type(info, Info)
    assert_type(info["task_index"], int)
    names = [tool["name"] for tool in info["tools"]]
    total = 0.0
    terminated = truncated = False
    while not (terminated or truncated):
        observation, reward, terminated, truncated, info = env.step({"name": names[0], "arguments": {"city": "Oslo"}})
        total += reward
        if info["error_kind"] == "infrastructure" or info["stop_reason"] == "max_steps":
            break
    assert_type(info["stop_reason"], InfoStopReason)
    assert_type(info["error_kind"], InfoErrorKind)
    images = [element["data"] for element in info["blocks"] if element["type"] == "image"]
    assert_type(images, list[bytes])
    env.close()
    return total


def play_messages(base_url: str) -> None:
    env: OpenRewardEnv[MessagesObservation] = OpenRewardEnv("weather", base_url=base_url, obs_mode="messages")
    messages, _ = env.reset()
    assert_type(messages, tuple[ChatMessage, ...])
    for message in messages:
        print(message["role"], message.get("reasoning_content", ""), message.get("is_error", False))
    system, turns = to_anthropic(from_openai(messages))
    print(system, turns)
    blocks_env: OpenRewardEnv[BlocksObservation] = OpenRewardEnv("weather", base_url=base_url, obs_mode="blocks")
    for element in blocks_env.reset()[0]:
        print(element["text"] if element["type"] == "text" else element["mime"])


def play_many(base_url: str) -> None:
    options: EnvKeywords = {"on_message": "nudge", "on_length": "truncate", "on_failure": "raise"}
    envs = OpenRewardVectorEnv(4, environment="weather", base_url=base_url, **options)
    _, infos = envs.reset(seed=0)
    assert_type(infos, VectorInfo)
    _, rewards, _, _, infos = envs.step(["I am done."] * 4)
    print(rewards.sum(), infos["task_index"].max(), infos["_task_index"].all())


async def policy(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    origins: list[Origin | None] = [message.origin for message in transcript]
    ended: Ended | None = transcript[-1].ended
    role: Role = transcript[-1].role
    print(origins, ended, role)
    return AssistantMessage(tool_calls=[ToolCall(tools[0].name, {"city": "Oslo"})])


def plain_policy(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    return AssistantMessage("I am done.")


def play_a_run(base_url: str) -> None:
    more: CollectOptions = {"base_url": base_url, "progress": "none", "engine": "local", "advantages": "leave_one_out"}
    result = collect("weather", policy, base_url=base_url, on_failure="truncate", retries={"timeout": RetryBudget(2)})
    collect("weather", plain_policy, **more)
    status: Status = result.store[0].status
    print(status, result.coverage.complete)
    export.to_dataset(result.store, format="sft", select=export.Select(min_reward=0.5))


def record() -> None:
    with serve.local(["weather"]) as base_url:
        env = RecordRollouts(TruncateObservation(OpenRewardEnv("weather", base_url=base_url), max_chars=100), RolloutStore("run"))
        _, info = env.reset()
        print(info["task_index"], env.unwrapped.messages)
    with Recorder("run", upload=False) as recorder:
        recorder.create(run_name="a", rollout_name="b").log(UserMessage("Hi", origin="given"), reward=1.0)
