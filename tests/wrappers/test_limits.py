"""Limits end an episode in the right step, with the right word, wherever they are put."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from byte_tokenizer import byte_tokenizer

from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.vector import OpenRewardVectorEnv
from openreward_gym.errors import ConfigurationError, ResetNeededError
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import AssistantMessage, Sampled, ToolCall, Usage
from openreward_gym.wrappers import LimitSeconds, LimitSteps, LimitTokens, RecordRollouts, Wrapper

ECHO = {"name": "echo", "arguments": {"text": "hi"}}
FINISH = {"name": "finish", "arguments": {"text": "right"}}


def said(usage: Usage | None = None, **sampled: Any) -> AssistantMessage:
    return AssistantMessage("", [ToolCall("echo", {"text": "hi"})], sampled=Sampled(usage=usage, **sampled))


def ends(env: gym.Env[Any, Any], *actions: Any) -> list[tuple[bool, bool, str]]:
    """(terminated, truncated, stop reason) of each step until the end."""
    env.reset(seed=0)
    seen = []
    for action in actions:
        _, _, terminated, truncated, info = env.step(action)
        seen.append((terminated, truncated, info["stop_reason"]))
        if terminated or truncated:
            break
    return seen


GOES_ON = (False, False, "")


@pytest.fixture
def echo(server_url: str) -> OpenRewardEnv:
    return OpenRewardEnv("echo", base_url=server_url)


def test_steps(echo: OpenRewardEnv) -> None:
    env = LimitSteps(echo, 2)
    for _ in range(2):
        assert ends(env, ECHO, ECHO, ECHO) == [GOES_ON, (False, True, "max_steps")]
    with pytest.raises(ResetNeededError):
        env.step(ECHO)
    assert echo.session_id is None
    assert ends(env, ECHO, FINISH) == [GOES_ON, (True, False, "finished")]
    env.close()


def test_steps_async(echo: OpenRewardEnv) -> None:
    async def run() -> list[tuple[bool, str]]:
        env = LimitSteps(echo, 2)
        seen = []
        for _ in range(2):
            await env.areset(seed=0)
            for _ in range(2):
                _, _, _, truncated, info = await env.astep(ECHO)
                seen.append((truncated, info["stop_reason"]))
        await env.aclose()
        return seen

    assert asyncio.run(run()) == [(False, ""), (True, "max_steps")] * 2


def test_seconds(echo: OpenRewardEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("openreward_gym.wrappers.limits.time.monotonic", lambda: now[0])
    env = LimitSeconds(echo, 1.5)
    for _ in range(2):
        env.reset()
        seen = []
        for passed in (1.0, 0.5):
            now[0] += passed
            _, _, _, truncated, info = env.step(ECHO)
            seen.append((truncated, info["stop_reason"]))
        assert seen == [(False, ""), (True, "deadline")]
    env.close()


def test_tokens_that_the_provider_counted(echo: OpenRewardEnv) -> None:
    env = LimitTokens(echo, 10)
    assert ends(env, said(Usage(100, 4)), said(token_ids=(1, 2, 3)), said(Usage(100, 3))) == [
        GOES_ON,
        GOES_ON,
        (False, True, "max_tokens"),
    ]
    assert env.tokens == 10
    env.reset()
    assert env.tokens == 0
    env = LimitTokens(echo, 100, of="context")
    assert ends(env, said(Usage(50, 4)), said(Usage(90, 10))) == [GOES_ON, (False, True, "context_overflow")]
    env.close()


def test_tokens_that_nobody_counted_are_not_guessed(echo: OpenRewardEnv) -> None:
    for env in (LimitTokens(echo, 10), LimitTokens(echo, 10, of="context")):
        env.reset()
        for message in (ECHO, said(), said(Usage(3, None))):
            with pytest.raises(ConfigurationError, match="tokenizer="):
                env.step(message)
    echo.close()


def test_tokens_that_a_tokenizer_counts(echo: OpenRewardEnv, tmp_path: Path) -> None:
    byte_tokenizer().save_pretrained(str(tmp_path / "bytes"))
    env = LimitTokens(echo, 60, tokenizer=str(tmp_path / "bytes"))
    assert ends(env, ECHO, ECHO, ECHO) == [GOES_ON, (False, True, "max_tokens")]
    assert env.tokens == 2 * len('[tool_call echo] {"text": "hi"}')
    env = LimitTokens(echo, 120, of="context", tokenizer=byte_tokenizer())
    seen = ends(env, ECHO, ECHO, ECHO)
    assert seen[-1] == (False, True, "context_overflow")
    assert 120 <= env.tokens < 300
    env.close()


@pytest.mark.parametrize("outside", [True, False])
def test_the_record_says_what_the_limit_did(echo: OpenRewardEnv, tmp_path: Path, outside: bool) -> None:
    env: Wrapper = RecordRollouts(LimitSteps(echo, 1), tmp_path) if outside else LimitSteps(RecordRollouts(echo, tmp_path), 1)
    assert ends(env, ECHO) == [(False, True, "max_steps")]
    env.close()
    (rollout,) = RolloutStore(tmp_path)
    assert (rollout.status, rollout.stop_reason) == ("truncated", "max_steps")


def test_the_first_of_several_limits_counts(echo: OpenRewardEnv) -> None:
    env = LimitSteps(LimitTokens(LimitSteps(echo, 3), 5), 2)
    assert ends(env, said(Usage(1, 1)), said(Usage(1, 1))) == [GOES_ON, (False, True, "max_steps")]
    assert ends(env, said(Usage(1, 5))) == [(False, True, "max_tokens")]
    env.close()


def test_inside_a_vector_env(server_url: str) -> None:
    envs = OpenRewardVectorEnv(
        2, environment="echo", base_url=server_url, autoreset_mode="Disabled", wrap=lambda env: LimitSteps(env, 2)
    )
    envs.reset(seed=0)
    assert not envs.step([ECHO, ECHO])[3].any()
    _, _, terminated, truncated, infos = envs.step([ECHO, FINISH])
    assert (list(terminated), list(truncated)) == ([False, True], [True, False])
    assert list(infos["stop_reason"]) == ["max_steps", "finished"]
    envs.close()


@pytest.mark.parametrize(
    ("wrapper", "arguments"),
    [
        (LimitSteps, {"max_steps": 0}),
        (LimitSteps, {"max_steps": 1.5}),
        (LimitSteps, {"max_steps": True}),
        (LimitSeconds, {"max_seconds": -1}),
        (LimitSeconds, {"max_seconds": float("nan")}),
        (LimitSeconds, {"max_seconds": "3"}),
        (LimitTokens, {"max_tokens": 0}),
        (LimitTokens, {"max_tokens": 5, "of": "input"}),
        (LimitTokens, {"max_tokens": 5, "tokenizer": "./no-such-folder"}),
        (LimitTokens, {"max_tokens": 5, "tokenizer": 3}),
    ],
)
def test_wrong_arguments(echo: OpenRewardEnv, wrapper: type[Any], arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        wrapper(echo, **arguments)
    with pytest.raises(ConfigurationError, match="wraps an OpenReward environment"):
        LimitSteps(gym.make("CartPole-v1"), 3)
