"""Each name that a user types in Python: a misspelt one is an error that says the right one."""

# mypy: disable-error-code="arg-type,call-arg,call-overload,dict-item"

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from openreward_gym import (
    Client,
    OpenRewardEnv,
    Recorder,
    RolloutStore,
    UserMessage,
    collect,
    export,
    register,
    serve,
)
from openreward_gym.errors import ConfigurationError, EnvironmentNotFoundError, SplitNotFoundError
from openreward_gym.options import RetryBudget
from openreward_gym.policies import resolve
from openreward_gym.suggestions import nearest
from openreward_gym.wrappers import LimitSteps, RecordRollouts, TextAction, TruncateObservation


def made(url: str, **options: Any) -> None:
    env = gymnasium.make("OpenReward-v0", **{"environment": "echo", "base_url": url, **options})
    try:
        env.reset()
    finally:
        env.close()


def made_vector(url: str, **options: Any) -> None:
    mode = "vector_entry_point"
    envs = gymnasium.make_vec("OpenReward-v0", 2, mode, **{"environment": "echo", "base_url": url, **options})
    try:
        envs.reset()
    finally:
        envs.close()


def asked(url: str, environment: str, split: str) -> None:
    async def ask() -> None:
        async with Client(url) as client:
            await client.environment(environment).num_tasks(split)

    asyncio.run(ask())


@pytest.mark.parametrize("door", [made, made_vector])
def test_a_split_that_is_not_there(server_url: str, door: Callable[..., None]) -> None:
    with pytest.raises(SplitNotFoundError, match=r"echo has no split 'trian': did you mean 'train'\? The splits are train"):
        door(server_url, split="trian")
    with pytest.raises(SplitNotFoundError, match=r"echo has no split 'dev': the splits are train"):
        door(server_url, split="dev")


@pytest.mark.parametrize("door", [made, made_vector])
def test_an_environment_that_is_not_there(server_url: str, door: Callable[..., None]) -> None:
    with pytest.raises(EnvironmentNotFoundError, match=r"has no environment 'ecko': did you mean 'echo'\? The environments are "):
        door(server_url, environment="ecko")
    with pytest.raises(EnvironmentNotFoundError, match=r"'echo \(variant ecko\)': did you mean 'echo'\?"):
        door(server_url, variant="ecko")


def test_a_collection_and_a_client_say_the_same(server_url: str, tmp_path: Path) -> None:
    with pytest.raises(SplitNotFoundError, match=r"did you mean 'train'\?"):
        collect("echo", "random", base_url=server_url, split="trian", output=tmp_path / "run", progress=False)
    with pytest.raises(SplitNotFoundError, match=r"did you mean 'train'\?"):
        asked(server_url, "echo", "Train")
    with pytest.raises(EnvironmentNotFoundError, match=r"did you mean 'echo'\?"):
        asked(server_url, "ecko", "train")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"obs_mode": "mesages"}, "obs_mode must be one of text, blocks, messages, not 'mesages': did you mean 'messages'?"),
        ({"task_order": "sequental"}, "did you mean 'sequential'?"),
        ({"on_message": "nudg"}, "did you mean 'nudge'?"),
        ({"on_failure": "Truncate"}, "did you mean 'truncate'?"),
        ({"transport": "htpx"}, "there is no transport 'htpx'. Did you mean 'httpx'?"),
        ({"retry_limits": {"attemps": 2}}, "RetryLimits has no option 'attemps'. Did you mean 'attempts'?"),
        ({"max_step": 2}, "OpenRewardEnv has no option 'max_step'. Did you mean 'max_steps'?"),
        ({"bas_url": "x"}, "OpenRewardEnv has no option 'bas_url'. Did you mean 'base_url'?"),
        ({"environment": "http://u:secret@127.0.0.1:1", "base_url": None}, "pass the address as base_url="),
    ],
)
def test_options_of_an_env(server_url: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        made(server_url, **options)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def env() -> OpenRewardEnv:
    return OpenRewardEnv("echo", base_url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda: export.Select(min_rewrd=0.5), "Select has no option 'min_rewrd'. Did you mean 'min_reward'?"),
        (lambda: export.ExportOptions(hodout=0.1), "ExportOptions has no option 'hodout'. Did you mean 'holdout'?"),
        (lambda: OpenRewardEnv("e", render_mode="humn"), "did you mean 'human'?"),
        (lambda: RetryBudget(attempt=2), "RetryBudget has no option 'attempt'. Did you mean 'attempts'?"),
        (lambda: export.to_dataset([], format="sfft"), "there is no format 'sfft': did you mean 'sft'? The formats are sft, "),
        (lambda: export.to_dataset([], format="zzz"), "there is no format 'zzz': the formats are sft, "),
        (lambda: RolloutStore("r", compresion="zstd"), "RolloutStore has no option 'compresion'. Did you mean 'compression'?"),
        (lambda: RolloutStore("r", compression="zst"), "compression must be one of"),
        (lambda: RolloutStore("r", fsync="alwys"), "fsync='alwys': did you mean 'always'? The values are always, close, never"),
        (lambda: RolloutStore("r", fsync=-1.0), "fsync must be a number from 0"),
        (lambda: RolloutStore("r").filter(min_rewrd=1), "no criterion 'min_rewrd': did you mean 'min_reward'?"),
        (lambda: Recorder("r", uplod=True), "Recorder has no option 'uplod'. Did you mean 'upload'?"),
        (lambda: Client(base_ur="x"), "Client has no option 'base_ur'. Did you mean 'base_url'?"),
        (lambda: Client("http://127.0.0.1:9").environment("e").session(toolst="x"), "Did you mean 'toolset'?"),
        (lambda: serve.local(["weather"], prt=1), "local() has no option 'prt'. Did you mean 'port'?"),
        (lambda: serve.local(["wether"]), "there is no environment 'wether' to serve: did you mean 'weather'?"),
        (lambda: register("a/b", splt="x"), "Did you mean 'split'?"),
        (lambda: UserMessage("x", orign="given"), "UserMessage has no option 'orign'. Did you mean 'origin'?"),
        (lambda: UserMessage("x").replace(rewrd=1), "Did you mean 'reward'?"),
        (lambda: LimitSteps(env(), max_step=3), "LimitSteps has no option 'max_step'. Did you mean 'max_steps'?"),
        (lambda: TextAction(env(), format=["x"]), "Did you mean 'formats'?"),
        (lambda: TruncateObservation(env(), max_char=3), "Did you mean 'max_chars'?"),
        (lambda: RecordRollouts(env(), RolloutStore("r"), modle={}), "Did you mean 'model'?"),
        (lambda: resolve("randm"), "there is no policy 'randm': did you mean 'random'? The policies are openai:MODEL, "),
        (lambda: resolve("openia:gpt-5"), "Did you mean 'openai:gpt-5'?"),
        (
            lambda: resolve("openai:m", url="http://127.0.0.1:9", temprature=1),
            "openai:m has no option 'temprature'. Did you mean 'temperature'? Fields that only this server knows go into",
        ),
        (lambda: resolve("openai:m", url="http://127.0.0.1:9", api="responses", temprature=1), "Did you mean 'temperature'?"),
        (lambda: resolve("anthropic:m", url="http://127.0.0.1:9", max_token=1), "Did you mean 'max_tokens'?"),
        (lambda: resolve("google:m", url="http://127.0.0.1:9", temprature=1), "Did you mean 'temperature'?"),
        (
            lambda: collect("e", "random", retries={"tool_faild": RetryBudget(1)}),
            "retries has no kind 'tool_faild': did you mean 'tool_failed'?",
        ),
        (lambda: collect("e", "random", fail_on_erro=1), "collect() has no option 'fail_on_erro'. Did you mean 'fail_on_error'?"),
    ],
)
def test_names_in_python(mistake: Callable[[], object], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        mistake()
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_nearest_name() -> None:
    assert nearest("NEXTSTEP", ["NEXT_STEP", "SAME_STEP"]) == "NEXT_STEP"
    assert nearest("t", ["test", "train"]) is None
    assert nearest(3, ["a"]) is None
    assert nearest("", ["a"]) is None
    assert nearest("x" * 1_000_000, ["x" * 1_000_000, "train"]) == "x" * 1_000_000
