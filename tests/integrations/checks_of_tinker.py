"""Checks of the environment with tinker-cookbook's own functions, which run where it is installed: `pytest checks_of_tinker.py`.

The sampler is a stand-in; the servers of the environments are real.
"""

from __future__ import annotations

import asyncio
import doctest
import importlib
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tinker as service
from fault_server import Fault, FaultServer, running
from tinker_cookbook.completers import TokenCompleter, TokensWithLogprobs
from tinker_cookbook.rl.data_processing import trajectory_to_data
from tinker_cookbook.rl.metric_util import RLTestSetEvaluator
from tinker_cookbook.rl.rollout_limits import RolloutLimits
from tinker_cookbook.rl.rollout_strategy import MinViableGroup, RetryOnFailure
from tinker_cookbook.rl.rollouts import (
    do_group_rollout,
    do_group_rollout_and_filter_constant_reward,
    do_single_rollout,
)
from weather_model import THINKING, ids_of, weather_turn

from openreward_gym import RolloutStore, collect
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, SessionLostError
from openreward_gym.integrations import Episodes, tinker
from openreward_gym.types import AssistantMessage, Task, ToolCall

sys.path.insert(0, str(Path(__file__).parents[1] / "export"))

from tiny_tokenizer import CHATML, VISION, tiny_tokenizer

pytestmark = pytest.mark.anyio

STEP = '<tool_call>\n{"name": "big", "arguments": {"size": 9}}\n</tool_call>'
FORGETFUL = CHATML.replace("{%- if message.reasoning_content %}", "{%- if message.reasoning_content and loop.last %}")
FAST: dict[str, Any] = {"retry_limits": {"attempts": 1}, "open_attempts": 1}


class Sampler(TokenCompleter):
    """A stand-in of the policy: it samples the turns of a function from the prompt's text to the turn's."""

    def __init__(self, tokenizer: Any, model: Callable[[str], str] = weather_turn, limit: int | None = None) -> None:
        self.tokenizer, self.model, self.limit = tokenizer, model, limit
        self.prompts: list[Any] = []
        self.stops: list[Any] = []

    async def __call__(self, model_input: Any, stop: Any, *, max_tokens: int | None = None) -> Any:
        self.prompts.append(model_input)
        self.stops.append(stop)
        text = self.tokenizer.decode([token for chunk in model_input.chunks for token in getattr(chunk, "tokens", ())])
        limit = min((limit for limit in (self.limit, max_tokens) if limit is not None), default=None)
        ids = ids_of(self.tokenizer, self.model(text), limit)
        return TokensWithLogprobs(ids, [-0.5] * len(ids), "stop" if ids[-1] in stop else "length")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer(CHATML, eos_token="<|im_end|>", pad_token="<|pad|>")


@pytest.fixture
def faulty() -> Iterator[FaultServer]:
    with running() as server:
        server.texts_alone = True
        yield server


def group_of(server: FaultServer, tokenizer: Any, tmp_path: Path, size: int = 2, **options: Any) -> Any:
    episodes = Episodes("fault", base_url=server.url, output=tmp_path / "run", **FAST)
    limits = RolloutLimits(max_turns=2)
    return tinker.EpisodeGroupBuilder(episodes, Task("train", 0), size, tokenizer, **{"limits": limits, "step": 3, **options})


def records(tmp_path: Path) -> list[tuple[Any, ...]]:
    return sorted((rollout.status, rollout.stop_reason, rollout.sample) for rollout in RolloutStore(tmp_path / "run"))


async def test_rewards_and_tokens(examples: str, tokenizer: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"base_url": examples, "output": tmp_path / "run"}
    model = tmp_path / "model"
    tokenizer.save_pretrained(model)
    builder = tinker.dataset("weather", model_name=str(model), group_size=2, groups_per_batch=3, test_split="test", **options)
    train, test = await pickle.loads(pickle.dumps(builder))()
    assert (len(train), len(test)) == (2, 2)
    assert [len(train.get_batch(index)) for index in range(2)] == [3, 2]
    tasks = [group.task.index for index in range(2) for group in train.get_batch(index)]
    assert sorted(tasks) == list(range(5))
    assert tasks != list(range(5))
    assert [group.task for group in test.get_batch(1)] == [Task("test", 3)]

    sampler, rewards = Sampler(tokenizer), {}
    for index in range(2):
        for group in train.get_batch(index):
            played = await do_group_rollout(pickle.loads(pickle.dumps(group)), sampler)
            rewards[group.task.index] = played.get_total_rewards()
            assert [trajectory.stop_reason for trajectory in played.trajectories_G] == ["tool_stopped"] * 2
            assert group.logging_tags() == ["weather"]
    turns = list(sampler.prompts)
    assert sampler.stops[0] == [tokenizer.eos_token_id]

    def policy(transcript: Any, tools: Any) -> AssistantMessage:
        words = weather_turn("\n".join(message.text for message in transcript))
        if "<tool_call>" not in words:
            return AssistantMessage(words)
        return AssistantMessage((ToolCall("get_weather", {"city": words.split('"city": "')[1].split('"')[0]}, call_id="c"),))

    collected = await asyncio.to_thread(collect, "weather", policy, base_url=examples, output=tmp_path / "collected")
    assert rewards == {rollout.task.index: [rollout.reward] * 2 for rollout in collected.store if rollout.task}
    assert {reward for group in rewards.values() for reward in group} == {1.0}

    (datum,) = trajectory_to_data(played.trajectories_G[0], 1.0)
    transitions = played.trajectories_G[0].transitions
    assert sum(datum.loss_fn_inputs["mask"].data) == sum(len(transition.ac.tokens) for transition in transitions)
    assert transitions[1].ob.to_ints()[: transitions[0].ob.length] == transitions[0].ob.to_ints()
    assert transitions[-1].metrics["drift"] > 0  # two spaces in the call: rendering it again would have written one
    assert len(turns) == 20
    recorded = [(rollout.step, rollout.group, rollout.sample) for rollout in RolloutStore(tmp_path / "run")]
    assert sorted(recorded) == sorted((tasks.index(task) // 3, str(task), sample) for task in range(5) for sample in (0, 1))

    metrics = await RLTestSetEvaluator(test, max_tokens=512).eval_token_completer(sampler)
    assert any(name.endswith("reward/total") for name in metrics)


async def test_template_that_rewrites_history(examples: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(FORGETFUL, eos_token="<|im_end|>", pad_token="<|pad|>")
    builder = tinker.EpisodeGroupBuilder(Episodes("weather", base_url=examples), Task("train", 0), 1, tokenizer)
    sampler = Sampler(tokenizer, lambda prompt: weather_turn(prompt, thought=THINKING))
    (trajectory,) = (await do_group_rollout(builder, sampler)).trajectories_G
    data = trajectory_to_data(trajectory, 1.0)
    assert len(data) == 2
    assert [sum(datum.loss_fn_inputs["mask"].data) for datum in data] == [len(t.ac.tokens) for t in trajectory.transitions]


async def test_limits_of_the_cookbooks_runner_are_recorded(faulty: FaultServer, tokenizer: Any, tmp_path: Path) -> None:
    played = await do_group_rollout(group_of(faulty, tokenizer, tmp_path), Sampler(tokenizer, lambda _: STEP))
    assert played.get_total_rewards() == [2.0, 2.0]
    assert [trajectory.stop_reason for trajectory in played.trajectories_G] == ["max_turns"] * 2
    assert records(tmp_path) == [("truncated", "max_turns", 0), ("truncated", "max_turns", 1)]


async def test_context_that_is_full(faulty: FaultServer, tokenizer: Any, tmp_path: Path) -> None:
    sampler = Sampler(tokenizer, lambda _: STEP)
    builder = group_of(faulty, tokenizer, tmp_path, 1, limits=RolloutLimits(max_trajectory_tokens=2000))
    (trajectory,) = (await do_group_rollout(builder, sampler)).trajectories_G
    assert trajectory.stop_reason == "max_tokens"
    assert sum(transition.reward for transition in trajectory.transitions) >= 2.0
    ((status, stop_reason, _),) = records(tmp_path)
    assert (status, stop_reason) == ("truncated", "max_tokens")


async def test_answer_that_is_cut_off_runs_nothing(faulty: FaultServer, tokenizer: Any, tmp_path: Path) -> None:
    (trajectory,) = (
        await do_group_rollout(group_of(faulty, tokenizer, tmp_path, 1), Sampler(tokenizer, lambda _: STEP, 12))
    ).trajectories_G
    assert [transition.reward for transition in trajectory.transitions] == [0.0, 0.0]
    assert "cut off" in trajectory.transitions[0].logs["answer"]
    assert faulty.executed["big"] == 0


@pytest.mark.parametrize("route", ["/create", "/call"])
async def test_lost_sample_is_played_again(route: str, faulty: FaultServer, tokenizer: Any, tmp_path: Path) -> None:
    faulty.inject(route, Fault("status", status=502))
    played = await do_group_rollout(group_of(faulty, tokenizer, tmp_path), Sampler(tokenizer, lambda _: STEP), RetryOnFailure())
    assert played.get_total_rewards() == [2.0, 2.0]
    assert len(played.rollout_errors) == 1
    # The sample that replaces a lost one has its number.
    whole = [("truncated", "max_turns", 0), ("truncated", "max_turns", 1)]
    assert [record for record in records(tmp_path) if record[0] != "error"] == whole
    store = RolloutStore(tmp_path / "run")
    assert len(list(store.failures())) + len([rollout for rollout in store if rollout.status == "error"]) == 1
    assert faulty.machines == set()


async def test_lost_sample_is_left_out(faulty: FaultServer, tokenizer: Any, tmp_path: Path) -> None:
    faulty.inject("/create", Fault("status", status=502))
    strategy = MinViableGroup(min_successful=1, max_retries=0)
    played = await do_group_rollout(group_of(faulty, tokenizer, tmp_path), Sampler(tokenizer, lambda _: STEP), strategy)
    assert played.get_total_rewards() == [2.0]
    assert len(played.rollout_errors) == 1


async def test_dead_server_ends_the_group_and_is_no_reward(faulty: FaultServer, tokenizer: Any, tmp_path: Path) -> None:
    faulty.inject("/call", Fault("cut", at="answer"), times=9)
    with pytest.raises(SessionLostError, match="task 0 was lost"):
        await do_group_rollout(group_of(faulty, tokenizer, tmp_path), Sampler(tokenizer, lambda _: STEP))

    class SamplingClient:
        async def sample_async(self, prompt: Any, num_samples: int, sampling_params: Any) -> Any:
            ids = ids_of(tokenizer, STEP)
            sequence = type("Sequence", (), {"tokens": ids, "logprobs": [-0.5] * len(ids), "stop_reason": "stop"})
            return type("Response", (), {"sequences": [sequence]})

    faulty.inject("/call", Fault("cut", at="answer"), times=99)
    builder = group_of(faulty, tokenizer, tmp_path)
    skipped = await do_group_rollout_and_filter_constant_reward(
        SamplingClient(), builder, 64, 1.0, False, enable_logging=False, strategy=RetryOnFailure(max_retries=1)
    )
    assert skipped is None


async def test_sampler_that_fails_leaves_no_session_open(faulty: FaultServer, tokenizer: Any, tmp_path: Path) -> None:
    answers = iter([STEP])
    with pytest.raises(RuntimeError, match="StopIteration"):
        await do_group_rollout(group_of(faulty, tokenizer, tmp_path, 1), Sampler(tokenizer, lambda _: next(answers)))
    assert records(tmp_path) == [("cancelled", "cancelled", 0)]
    assert faulty.machines == set()


async def test_a_sample_in_the_place_of_one_whose_sampler_failed_has_a_number(
    faulty: FaultServer, tokenizer: Any, tmp_path: Path
) -> None:
    answers = iter([STEP])

    def once_broken(_: str) -> str:
        return next(answers, None) or (next(broken, None) and 1 / 0) or STEP  # type: ignore[return-value]

    broken = iter([True])
    builder = group_of(faulty, tokenizer, tmp_path, 2)
    await do_group_rollout(builder, Sampler(tokenizer, once_broken), RetryOnFailure(max_retries=1))
    assert {sample for status, _, sample in records(tmp_path) if status == "truncated"} <= {0, 1, 2}
    assert len(records(tmp_path)) == len({sample for *_, sample in records(tmp_path)})


class Processor:
    """A stand-in of a vision model's processor: three placeholders per image."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.image_processor, self.chat_template = tokenizer, object(), tokenizer.chat_template
        self.image_token_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")

    def apply_chat_template(self, *args: Any, **options: Any) -> Any:
        return self.tokenizer.apply_chat_template(*args, **options)

    def __call__(self, text: list[str], images: list[Any], **_: Any) -> Any:
        assert text[0].count("<|image_pad|>") == len(images)
        return self.tokenizer([text[0].replace("<|image_pad|>", "<|image_pad|>" * 3)], add_special_tokens=False)


async def test_images_are_chunks(server_url: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(VISION, eos_token="<|im_end|>", pad_token="<|pad|>")
    sampler = Sampler(tokenizer, lambda _: '<tool_call>\n{"name": "image", "arguments": {}}\n</tool_call>')
    episodes = Episodes("echo", base_url=server_url)
    builder = tinker.EpisodeGroupBuilder(
        episodes, Task("train", 0), 1, tokenizer, processor=Processor(tokenizer), limits=RolloutLimits(max_turns=3)
    )
    (trajectory,) = (await do_group_rollout(builder, sampler)).trajectories_G
    assert [[chunk.type for chunk in prompt.chunks] for prompt in sampler.prompts] == [
        ["encoded_text"],
        ["encoded_text", "image", "encoded_text"],
        ["encoded_text", "image", "encoded_text", "image", "encoded_text"],
    ]
    picture = sampler.prompts[1].chunks[1]
    assert (picture.format, picture.expected_tokens, picture.data[:4]) == ("png", 3, b"\x89PNG")
    (datum,) = trajectory_to_data(trajectory, 1.0)
    assert sum(isinstance(chunk, service.types.ImageChunk) for chunk in datum.model_input.chunks) == 2
    without = tinker.EpisodeGroupBuilder(episodes, Task("train", 0), 1, tokenizer)
    with pytest.raises(ConfigurationError, match="processor"):
        await do_group_rollout(without, sampler)


async def test_single_rollout_and_wrong_options(examples: str, tokenizer: Any) -> None:
    builder = tinker.EpisodeGroupBuilder(Episodes("weather", base_url=examples), Task("train", 1), 1, tokenizer)
    (env,) = await builder.make_envs()
    assert sum(transition.reward for transition in (await do_single_rollout(Sampler(tokenizer), env)).transitions) == 1.0
    await env.aclose()
    with pytest.raises(ConfigurationError, match="group_size"):
        tinker.dataset("weather", model_name="m", group_size=0)
    for secret in ({"base_url": "http://user:pa55@127.0.0.1:9"}, {"env_overrides": {"KEY": "pa55"}}):
        with pytest.raises(ConfigurationError, match="the cookbook writes") as raised:
            tinker.dataset("weather", model_name="m", **secret)
        assert "pa55" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="output"):
        tinker.dataset("weather", model_name="m", output_dir="runs")  # type: ignore[call-arg]
    with pytest.raises(OpenRewardGymError):
        await tinker.dataset("weather", model_name="m", base_url="http://127.0.0.1:9", **FAST)()


def test_examples_in_docstrings() -> None:
    checked = importlib.import_module("openreward_gym.integrations.tinker.tasks")
    failed, attempted = doctest.testmod(checked, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert (failed, attempted > 0) == (0, True)
