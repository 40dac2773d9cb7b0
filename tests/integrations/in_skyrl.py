"""Tests with SkyRL's own generators, which `test_skyrl_environment.py` runs with the interpreter that has SkyRL.

The inference engine is a stand-in that answers with texts; tokenizer, dataset, generators and the environments' servers are real.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import skyrl_gym
from fault_server import Fault, FaultServer, running
from skyrl.backends.skyrl_train.utils.ppo_utils import compute_grpo_outcome_advantage
from skyrl.train.config import SkyRLTrainConfig
from skyrl.train.dataset import PromptDataset
from skyrl.train.generators import SkyRLGymGenerator
from skyrl.train.generators.utils import prepare_generator_input
from tiny_tokenizer import tiny_tokenizer

from openreward_gym import RolloutStore
from openreward_gym.errors import ConfigurationError, SessionLostError
from openreward_gym.integrations import Episode, skyrl
from openreward_gym.serve.examples import weather_tasks

Policy = Callable[[str, int, int], str]
"""The text of the model, from the prompt's text, the number of the repetition and the number of the turn."""

LOOK = '<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
STEP = '<tool_call>\n{"name": "big", "arguments": {"size": 20}}\n</tool_call>'


def weather_model(prompt: str, repetition: int, turn: int) -> str:
    """Look the city up, and tell its weather in even repetitions."""
    city = next(spec["city"] for spec in weather_tasks.task_specs("train") if spec["question"] in prompt)
    if turn == 0:
        return f"<think>\nI look.\n</think>\n\n{LOOK.format(city=city)}"
    return weather_tasks.report(city) if repetition % 2 == 0 else "I do not know."


class Engine:
    """A stand-in for the inference engine. Answers are `policy`'s, cut off after `limit` tokens."""

    model_name = "tiny"

    def __init__(self, tokenizer: Any, policy: Policy, limit: int = 10_000) -> None:
        self.tokenizer = tokenizer
        self.policy = policy
        self.limit = limit
        self.turns: dict[str, int] = {}
        self.prompts: list[tuple[str, list[int]]] = []
        self.finished: list[str] = []

    async def generate(self, input_batch: Mapping[str, Any], model: str | None = None) -> dict[str, Any]:
        (session,), (prompt,) = input_batch["session_ids"], input_batch["prompt_token_ids"]
        turn = self.turns.get(session, 0)
        self.turns[session] = turn + 1
        self.prompts.append((session, list(prompt)))
        text = self.policy(self.tokenizer.decode(prompt), int(session.rpartition("_")[2]), turn)
        ids = [*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id]
        cut = len(ids) > self.limit
        ids = ids[: self.limit]
        return {
            "responses": [self.tokenizer.decode(ids, skip_special_tokens=True)],
            "response_ids": [ids],
            "stop_reasons": ["length" if cut else "stop"],
            "response_logprobs": [[-0.5] * len(ids)],
        }

    async def finish_session(self, session_id: str) -> None:
        self.finished.append(session_id)
        self.turns.pop(session_id, None)

    async def render_chat_completion(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        messages = payload["json"]["messages"]
        flat = [{**message, "content": _rendered(message["content"])} for message in messages]
        return {"token_ids": _ids(self.tokenizer, flat), "features": None}


def _rendered(content: Any) -> str:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return "".join(part.get("text", "<|image_pad|>") for part in parts)


def _ids(tokenizer: Any, messages: Any) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    return ids


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A tokenizer with Qwen 2.5's template."""
    return tiny_tokenizer(template("qwen2_5"), eos_token="<|im_end|>", pad_token="<|endoftext|>")


def template(name: str) -> str:
    spec = find_spec("trl")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


@pytest.fixture
def fault() -> Iterator[FaultServer]:
    with running() as server:
        server.texts_alone = True
        yield server


def configuration(*overrides: str) -> Any:
    base = ["generator.max_turns=4", "generator.max_input_length=8000", "generator.sampling_params.logprobs=0"]
    return SkyRLTrainConfig.from_cli_overrides([*base, "generator.batched=false", *overrides])


def batch_of(dataset: Path, tokenizer: Any, samples: int, step: int = 3) -> tuple[Any, list[str]]:
    """Read a dataset as SkyRL's trainer does, and prepare all of it as one batch."""
    prompts = PromptDataset(str(dataset), tokenizer, max_prompt_length=8000, num_workers=1)
    rows = prompts.collate_fn([prompts[place] for place in range(len(prompts))])
    batch: tuple[Any, list[str]] = prepare_generator_input(rows, samples, {"logprobs": 0}, "gsm8k", "train", step)
    return batch


def generate(cfg: Any, tokenizer: Any, engine: Engine, batch: Any, **options: Any) -> Any:
    return asyncio.run(skyrl.generator(cfg, tokenizer, engine, **options).generate(batch, disable_tqdm=True))


def fault_batch(server: FaultServer, tmp_path: Path, tokenizer: Any, samples: int) -> Any:
    skyrl.write_dataset(tmp_path / "tasks.jsonl", "fault", limit=1, base_url=server.url, retry_limits={"attempts": 1})
    skyrl.register(output=str(tmp_path / "run"), open_attempts=1)
    return batch_of(tmp_path / "tasks.jsonl", tokenizer, samples)[0]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_generator_plays_to_the_environments_rewards(suffix: str, examples: str, tokenizer: Any, tmp_path: Path) -> None:
    count = skyrl.write_dataset(tmp_path / f"train.{suffix}", "weather", base_url=examples, split="train")
    skyrl.register(output=str(tmp_path / "run"))
    batch, uids = batch_of(tmp_path / f"train.{suffix}", tokenizer, 2)
    engine = Engine(tokenizer, weather_model)
    output = generate(configuration(), tokenizer, engine, batch)
    assert len(uids) == 2 * count
    assert [sum(reward) for reward in output["rewards"]] == [1.0, 0.0] * count
    for ids, mask, prompt in zip(output["response_ids"], output["loss_masks"], output["prompt_token_ids"], strict=True):
        text = tokenizer.decode([token for token, kept in zip(ids, mask, strict=True) if kept])
        assert text.startswith("<think>\nI look.")
        assert "tool_response" not in text
        assert "<tool_response>" in tokenizer.decode(ids)
        assert "# Tools" in tokenizer.decode(prompt)
    metrics = output["rollout_metrics"]
    assert (metrics["environment/return"], metrics["environment/turns"]) == (0.5, 2.0)
    assert metrics["environment/stop_reason/finished"] == 1.0
    rollouts = list(RolloutStore(tmp_path / "run"))
    assert sorted((rollout.group, rollout.sample) for rollout in rollouts) == sorted(
        (uid, sample) for uid in set(uids) for sample in (0, 1)
    )
    assert {rollout.step for rollout in rollouts} == {3}
    assert {rollout.metadata["phase"] for rollout in rollouts if rollout.metadata} == {"train"}
    # What was sampled is recorded, and is what the trainer trains on.
    first = next(rollout for rollout in rollouts if (rollout.group, rollout.sample) == ("0", 0))
    sampled = [token for message in first.messages if message.origin == "policy" for token in message.token_ids or ()]
    kept = [token for token, kept in zip(output["response_ids"][0], output["loss_masks"][0], strict=True) if kept]
    assert sampled == kept
    assert sorted(engine.finished) == sorted({f"{uid}_{sample}" for uid in uids for sample in (0, 1)})


def test_rewards_are_those_of_an_episode(examples: str, tokenizer: Any, tmp_path: Path) -> None:
    """One environment, stepped through `skyrl_gym.make`, and one episode."""
    skyrl.register(output=str(tmp_path / "run"))
    (row,) = skyrl.rows("weather", limit=1, base_url=examples)
    environment = skyrl_gym.make("openreward", extras={**row, "max_turns": 5})
    messages, _ = environment.init(row["prompt"])
    assert messages == row["prompt"]
    episode = Episode("weather", base_url=examples)

    async def play(texts: list[str]) -> list[Any]:
        await episode.begin(0)
        answers = [await episode.act(text) for text in texts]
        await episode.aclose()
        return answers

    texts = [weather_model(str(messages), 0, 0), '<tool_call>{"name": 3</tool_call>', weather_model(str(messages), 0, 1)]
    for text, answer in zip(texts, asyncio.run(play(texts)), strict=True):
        output = environment.step(text)
        assert (output["reward"], output["done"]) == (answer.reward or 0.0, answer.done)
        if not answer.done:
            (observation,) = output["observations"]
            assert observation == {"role": "user", "content": f"<tool_response>\n{answer.text}\n</tool_response>"}
    assert environment.get_metrics()["tool_errors"] == 1
    environment.close()
    with pytest.raises(ConfigurationError, match="ended"):
        environment.step("Again.")
    (rollout,) = RolloutStore(tmp_path / "run")
    assert (rollout.reward, rollout.stop_reason) == (episode.reward, "finished")


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3"])
def test_prompt_is_what_the_models_own_template_writes(name: str, examples: str) -> None:
    """The conversation with tools as text renders to the same ids as the template with `tools`, calls and results."""
    own = tiny_tokenizer(template(name), eos_token="<|im_end|>", pad_token="<|endoftext|>")
    skyrl.register()
    (row,) = skyrl.rows("weather", limit=1, base_url=examples)
    environment = skyrl_gym.make("openreward", extras={**row, "max_turns": 5})
    messages, _ = environment.init(row["prompt"])
    text = LOOK.format(city="Seattle")
    observations = environment.step(text)["observations"]
    episode = environment._episode
    told = [*episode.prompt, {"role": "assistant", "content": text}, *episode.messages[-1:]]
    assert episode.messages[-1]["role"] == "tool"
    arguments: Any = {"tools": episode.tools, "add_generation_prompt": True, "tokenize": False}
    ours = own.apply_chat_template(
        [*messages, {"role": "assistant", "content": text}, *observations], add_generation_prompt=True, tokenize=False
    )
    assert ours == own.apply_chat_template(told, **arguments)
    environment.close()


def test_session_that_dies_is_played_again(fault: FaultServer, tokenizer: Any, tmp_path: Path) -> None:
    batch = fault_batch(fault, tmp_path, tokenizer, samples=2)
    fault.inject("/call", Fault("cut", at="request"), times=1)
    output = generate(configuration(), tokenizer, Engine(tokenizer, lambda *_: STEP), batch)
    assert output["stop_reasons"] == ["stop", "stop"]
    assert all(any(mask) for mask in output["loss_masks"])
    rollouts = sorted(RolloutStore(tmp_path / "run"), key=lambda rollout: rollout.status)
    assert [rollout.status for rollout in rollouts] == ["error", "truncated", "truncated"]
    assert rollouts[0].reward is None
    assert {(rollout.metadata or {})["attempt"] for rollout in rollouts} == {0, 1}


@pytest.mark.parametrize("steps", ["false", "true"])
def test_trajectory_that_cannot_be_played_neither_trains_nor_moves_the_baseline(
    steps: str, fault: FaultServer, tokenizer: Any, tmp_path: Path
) -> None:
    import torch

    batch = fault_batch(fault, tmp_path, tokenizer, samples=4)

    def model(prompt: str, repetition: int, turn: int) -> str:
        # The third trajectory asks for a tool that raises, which ends the episode.
        return STEP.replace("big", "fail") if repetition == 2 else STEP if turn < repetition else "Done."

    engine = Engine(tokenizer, model)
    output = generate(configuration(f"generator.step_wise_trajectories={steps}"), tokenizer, engine, batch, attempts=2)
    last = output["is_last_step"] or [True] * 4
    ends = [place for place, is_last in enumerate(last) if is_last]
    returns = [sum(output["rewards"][place]) for place in ends]
    assert [output["stop_reasons"][place] for place in ends] == ["stop", "stop", "error", "stop"]
    assert output["loss_masks"][ends[2]] == [0]
    played = [value for number, value in enumerate(returns) if number != 2]
    assert returns[2] == pytest.approx(sum(played) / 3)
    assert len(set(played)) > 1
    assert output["rollout_metrics"]["generate/num_error_trajectories"] == 1
    # GRPO's advantages of the others are those of the group of three, without the norm of the deviation.
    rewards = [torch.tensor([[value] for value in values]) for values in (returns, played)]
    advantages = [
        compute_grpo_outcome_advantage(
            token_level_rewards=each, response_mask=torch.ones_like(each), index=["0"] * len(each), grpo_norm_by_std=False
        )[0].flatten()
        for each in rewards
    ]
    assert torch.allclose(advantages[0][[0, 1, 3]], advantages[1])
    assert advantages[0][2].abs() < 1e-6
    failed = [rollout for rollout in RolloutStore(tmp_path / "run") if rollout.sample == 2]
    assert [(rollout.status, rollout.reward) for rollout in failed] == [("error", None)] * 2


def test_no_trajectory_of_the_batch_can_be_played(tokenizer: Any, tmp_path: Path) -> None:
    with running() as server:
        server.texts_alone = True
        batch = fault_batch(server, tmp_path, tokenizer, samples=2)
    with pytest.raises(SessionLostError, match="every trajectory"):
        generate(configuration(), tokenizer, Engine(tokenizer, lambda *_: STEP), batch, attempts=1)
    assert {failure.kind for failure in RolloutStore(tmp_path / "run").failures()} == {"unreachable"}


def test_generator_of_skyrl_stops_at_a_failure(fault: FaultServer, tokenizer: Any, tmp_path: Path) -> None:
    batch = fault_batch(fault, tmp_path, tokenizer, samples=1)
    cfg = configuration()

    def stock() -> Any:
        generator = SkyRLGymGenerator(cfg.generator, cfg.environment.skyrl_gym, Engine(tokenizer, lambda *_: STEP), tokenizer)
        return asyncio.run(generator.generate(batch, disable_tqdm=True))

    assert len(stock()["rewards"]) == 1
    fault.inject("/call", Fault("status", status=404))
    with pytest.raises(SessionLostError, match="no reward"):
        stock()


def test_ends_that_the_generator_decides(fault: FaultServer, tokenizer: Any, tmp_path: Path) -> None:
    """Turns that are used up, and a conversation that is too long, are recorded as such."""
    batch = fault_batch(fault, tmp_path, tokenizer, samples=1)
    output = generate(configuration("generator.max_turns=2"), tokenizer, Engine(tokenizer, lambda *_: STEP), batch)
    assert output["rollout_metrics"]["environment/stop_reason/max_turns"] == 1.0
    (prompt,) = output["prompt_token_ids"]
    cfg = configuration("generator.max_turns=9", f"generator.max_input_length={len(prompt) + 60}")
    output = generate(cfg, tokenizer, Engine(tokenizer, lambda *_: STEP), batch)
    assert output["stop_reasons"] == ["length"]
    assert output["rollout_metrics"]["environment/stop_reason/context_overflow"] == 1.0
    stops = [(rollout.status, rollout.stop_reason) for rollout in RolloutStore(tmp_path / "run")]
    assert stops == [("truncated", "max_turns"), ("truncated", "context_overflow")]


def test_call_that_the_token_limit_cut_off_is_not_run(fault: FaultServer, tokenizer: Any, tmp_path: Path) -> None:
    batch = fault_batch(fault, tmp_path, tokenizer, samples=1)
    before = fault.executed["big"]
    output = generate(configuration("generator.max_turns=1"), tokenizer, Engine(tokenizer, lambda *_: STEP + "x", 61), batch)
    assert fault.executed["big"] == before
    assert output["stop_reasons"] == ["length"]
    (rollout,) = RolloutStore(tmp_path / "run")
    assert [message.ended for message in rollout.messages if message.origin == "policy"] == ["length"]


def test_whole_return_is_on_the_last_step_of_steps(fault: FaultServer, tokenizer: Any, tmp_path: Path) -> None:
    """SkyRL's trainer reads the reward of the last step alone where steps are sequences of their own."""
    batch = fault_batch(fault, tmp_path, tokenizer, samples=1)

    def model(prompt: str, repetition: int, turn: int) -> str:
        return STEP if turn < 2 else "Done."

    whole = generate(configuration(), tokenizer, Engine(tokenizer, model), batch)
    steps = generate(configuration("generator.step_wise_trajectories=true"), tokenizer, Engine(tokenizer, model), batch)
    assert [sum(reward) for reward in whole["rewards"]] == [sum(steps["rewards"][-1])]
    assert [sum(reward) for reward in steps["rewards"][:-1]] == [0.0, 0.0]
    assert sum(steps["rewards"][-1]) > 0


def test_images(server_url: str, tokenizer: Any, tmp_path: Path) -> None:
    """A text model's training stops at an image; SkyRL's generator for vision models gets it."""
    call = json.dumps({"name": "image", "arguments": {}})
    skyrl.write_dataset(tmp_path / "tasks.jsonl", "echo", limit=1, base_url=server_url)
    skyrl.register(output=str(tmp_path / "run"))
    batch = batch_of(tmp_path / "tasks.jsonl", tokenizer, 1)[0]

    def model(prompt: str, repetition: int, turn: int) -> str:
        return (
            f"<tool_call>{call}</tool_call>" if turn == 0 else "I see <|image_pad|>." if "<|image_pad|>" in prompt else "Nothing."
        )

    with pytest.raises(ConfigurationError, match="image"):
        generate(configuration(), tokenizer, Engine(tokenizer, model), batch)
    cfg = configuration("generator.vision_language_generator=true")
    output = generate(cfg, tokenizer, Engine(tokenizer, model), batch)
    assert "I see" in tokenizer.decode(output["response_ids"][0])


def test_options_that_are_refused(examples: str, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="batched"):
        skyrl.generator(configuration("generator.batched=true"), tokenizer, Engine(tokenizer, weather_model))
    with pytest.raises(ConfigurationError, match="attempts"):
        skyrl.generator(configuration(), tokenizer, Engine(tokenizer, weather_model), attempts=0)
    skyrl.register()
    with pytest.raises(ConfigurationError, match="write_dataset"):
        skyrl_gym.make("openreward", extras={"prompt": []})
    with pytest.raises(ConfigurationError, match="base_urll"):
        skyrl.register(base_urll=examples)
