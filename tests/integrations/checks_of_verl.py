"""Checks of the agent loop with verl's own workers, which run where verl is installed: `pytest checks_of_verl.py`.

The model servers are a stand-in; the servers of the environments are real.
"""

from __future__ import annotations

import asyncio
import doctest
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import verl
from fault_server import Fault, FaultServer, running
from hydra import compose, initialize_config_dir
from verl.experimental.agent_loop import AgentLoopWorker
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.protocol import DataProto
from verl.trainer.ppo.v1 import agent_loop_tq
from verl.utils import tensordict_utils
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
from verl.workers.rollout.replica import TokenOutput
from weather_model import THINKING, ids_of, weather_turn

from openreward_gym import RolloutStore, collect
from openreward_gym.integrations.verl import EpisodeAgentLoop, VerlFiles, prepare
from openreward_gym.types import AssistantMessage, ToolCall

sys.path.insert(0, str(Path(__file__).parents[1] / "export"))

from tiny_tokenizer import CHATML, VISION, tiny_tokenizer

CONFIG = Path(verl.__file__).parent / "trainer" / "config"
STEP = '<tool_call>\n{"name": "big", "arguments": {"size": 9}}\n</tool_call>'
FORGETFUL = CHATML.replace("{%- if message.reasoning_content %}", "{%- if message.reasoning_content and loop.last %}")
FAST: dict[str, Any] = {"retry_limits": {"attempts": 1}, "open_attempts": 1}


class ModelServers:
    """A stand-in of verl's client of its model servers."""

    def __init__(self, tokenizer: Any, model: Callable[[str], str] = weather_turn) -> None:
        self.tokenizer, self.model = tokenizer, model
        self.requests: list[tuple[str, list[int], dict[str, Any]]] = []
        self.sampled: list[list[int]] = []

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any) -> Any:
        self.requests.append((request_id, prompt_ids, sampling_params))
        text = self.tokenizer.decode(prompt_ids)
        ids = ids_of(self.tokenizer, self.model(text), sampling_params["max_tokens"])
        self.sampled.append(ids)
        steps = {"global_steps": 7, "min_global_steps": 7, "max_global_steps": 7}
        return TokenOutput(token_ids=ids, log_probs=[-0.5] * len(ids), stop_reason="completed", extra_fields=steps)


class MemoryQueue:
    """A stand-in of TransferQueue: the rows and tags that verl's worker puts."""

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, dict[str, Any]] = {}

    def init(self, *_: Any) -> None:
        pass

    async def async_kv_put(self, *, key: str, tag: dict[str, Any], **_: Any) -> None:
        self.tags.setdefault(key, {}).update(tag)

    async def async_kv_batch_put(self, *, keys: list[str], fields: Any, tags: list[dict[str, Any]], **_: Any) -> None:
        for number, (key, tag) in enumerate(zip(keys, tags, strict=True)):
            self.tags[key] = tag
            self.rows[key] = {name: fields[number][name] for name in fields.keys()}  # noqa: SIM118 - a TensorDict


class Trainer:
    """What verl's trainer does around its workers: configuration, dataset, batches."""

    def __init__(self, files: VerlFiles, model: Path, *overrides: str) -> None:
        with initialize_config_dir(str(CONFIG), version_base=None):
            self.config = compose(
                "ppo_trainer",
                overrides=[
                    *files.overrides,
                    f"actor_rollout_ref.model.path={model}",
                    "actor_rollout_ref.rollout.name=vllm",
                    "actor_rollout_ref.rollout.n=2",
                    "data.max_prompt_length=1024",
                    "data.max_response_length=512",
                    *overrides,
                ],
            )

    def rows(self, tokenizer: Any, count: int) -> dict[str, Any]:
        dataset = RLHFDataset(self.config.data.train_files, tokenizer, self.config.data)
        rows: dict[str, Any] = collate_fn([dataset[number] for number in range(count)])
        rows["uid"] = np.array([f"u{number}" for number in range(count)], dtype=object)
        return rows

    def older(self, servers: ModelServers, count: int = 2) -> Any:
        """Play rows in the worker that takes one sequence per sample."""
        worker = AgentLoopWorker(self.config, servers)
        batch = DataProto.from_single_dict(self.rows(servers.tokenizer, count))
        batch.meta_info = {"global_steps": 7}
        return asyncio.run(worker.generate_sequences(batch))

    def newest(self, servers: ModelServers, queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch, count: int = 2) -> None:
        """Play rows in the worker of the trainer, with `rollout.n` samples each."""
        monkeypatch.setattr(agent_loop_tq, "tq", queue)
        worker = agent_loop_tq.AgentLoopWorkerTQ.__ray_actor_class__(self.config, servers)
        batch = tensordict_utils.get_tensordict(self.rows(servers.tokenizer, count))
        tensordict_utils.assign_non_tensor_data(batch, "global_steps", 7)

        async def play() -> None:
            await worker.generate_sequences(batch)
            await asyncio.gather(*worker.background_tasks)

        asyncio.run(play())


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer(CHATML, eos_token="<|im_end|>", pad_token="<|pad|>")


@pytest.fixture(scope="module")
def model(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tokenizer, tmp_path_factory.mktemp("model"))


def saved(tokenizer: Any, folder: Path) -> Path:
    from transformers import Qwen2Config

    tokenizer.save_pretrained(folder)
    size = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 16,
    }
    Qwen2Config(vocab_size=len(tokenizer), architectures=["Qwen2ForCausalLM"], **size).save_pretrained(folder)
    return folder


@pytest.fixture
def weather(examples: str, tmp_path: Path) -> VerlFiles:
    return prepare("weather", tmp_path / "data", base_url=examples, output=tmp_path / "run", **FAST)


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[tuple[FaultServer, VerlFiles]]:
    with running() as server:
        server.texts_alone = True
        files = prepare("fault", tmp_path / "data", base_url=server.url, output=tmp_path / "run", max_turns=3, **FAST)
        yield server, files


def sampled_only(batch: Any, row: int) -> list[int]:
    mask = batch.batch["response_mask"][row].bool()
    ids: list[int] = batch.batch["responses"][row][mask].tolist()
    return ids


def test_rewards_and_tokens_in_the_older_worker(
    weather: VerlFiles, model: Path, tokenizer: Any, examples: str, tmp_path: Path
) -> None:
    servers = ModelServers(tokenizer)
    batch = Trainer(weather, model).older(servers, 5)

    def policy(transcript: Any, tools: Any) -> AssistantMessage:
        words = weather_turn("\n".join(message.text for message in transcript))
        if "<tool_call>" not in words:
            return AssistantMessage(words)
        city = words.split('"city": "')[1].split('"')[0]
        return AssistantMessage((ToolCall("get_weather", {"city": city}, call_id="c"),))

    collected = collect("weather", policy, base_url=examples, output=tmp_path / "collected")
    rewards = {rollout.task.index: rollout.reward for rollout in collected.store if rollout.task}
    assert batch.batch["rm_scores"].sum(-1).tolist() == [rewards[index] for index in range(5)] == [1.0] * 5
    for row in range(5):
        turns = [
            ids for (_, prompt, _), ids in zip(servers.requests, servers.sampled, strict=True) if _belongs(batch, row, prompt)
        ]
        assert sampled_only(batch, row) == [token for turn in turns for token in turn]
        known = batch.batch["rollout_log_probs"][row]
        assert known[batch.batch["response_mask"][row].bool()].tolist() == [-0.5] * sum(map(len, turns))
        assert known[~batch.batch["response_mask"][row].bool()].abs().sum() == 0
    assert batch.non_tensor_batch["__num_turns__"].tolist() == [5] * 5
    assert batch.non_tensor_batch["spoiled"].tolist() == [0.0] * 5
    # Two spaces in the call: rendering it again would have written one.
    assert (batch.non_tensor_batch["drift"] > 0).all()
    assert {rollout.group for rollout in RolloutStore(tmp_path / "run")} == {"0", "1", "2", "3", "4"}


def _belongs(batch: Any, row: int, prompt: list[int]) -> bool:
    first = batch.batch["prompts"][row]
    ids = first[batch.batch["attention_mask"][row][: len(first)].bool()].tolist()
    return bool(prompt[: len(ids)] == ids)


def test_groups_in_the_trainers_worker(
    weather: VerlFiles, model: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, servers = MemoryQueue(), ModelServers(tokenizer)
    Trainer(weather, model).newest(servers, queue, monkeypatch)
    assert [queue.tags[uid]["status"] for uid in ("u0", "u1")] == ["finished", "finished"]
    assert sorted(queue.rows) == ["u0_0_0", "u0_1_0", "u1_0_0", "u1_1_0"]
    for key, row in queue.rows.items():
        assert row["rm_scores"].sum() == 1.0
        assert row["response_mask"][-1] == 1  # nothing follows the last sampled turn
        assert (queue.tags[key]["min_global_steps"], queue.tags[key]["max_global_steps"]) == (7, 7)
    recorded = [(rollout.step, rollout.group, rollout.sample, rollout.reward) for rollout in RolloutStore(tmp_path / "run")]
    assert sorted(recorded) == [(7, group, sample, 1.0) for group in "01" for sample in (0, 1)]
    (said, *_) = [message for message in next(iter(RolloutStore(tmp_path / "run"))).messages if message.origin == "policy"]
    assert said.token_ids in servers.sampled
    assert said.logprobs == [-0.5] * len(said.token_ids or [])


def test_template_that_rewrites_history(weather: VerlFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer(FORGETFUL, eos_token="<|im_end|>", pad_token="<|pad|>")
    (tmp_path / "model").mkdir()
    trainer = Trainer(weather, saved(tokenizer, tmp_path / "model"), "data.max_prompt_length=2048")
    queue, servers = MemoryQueue(), ModelServers(tokenizer, lambda prompt: weather_turn(prompt, thought=THINKING))
    trainer.newest(servers, queue, monkeypatch, 1)
    assert sorted(queue.rows) == ["u0_0_0", "u0_0_1", "u0_1_0", "u0_1_1"]
    assert [row["rm_scores"].sum().item() for row in queue.rows.values()] == [1.0] * 4
    exact = sorted((prompt, ids) for (_, prompt, _), ids in zip(servers.requests, servers.sampled, strict=True))
    assert sorted((row["prompts"].tolist(), row["responses"].tolist()) for row in queue.rows.values()) == exact
    batch = trainer.older(servers, 1)
    assert sampled_only(batch, 0) == servers.sampled[-1]


def test_session_that_dies_is_played_again(
    faulty: tuple[FaultServer, VerlFiles], model: Path, tokenizer: Any, tmp_path: Path
) -> None:
    server, files = faulty
    server.inject("/call", Fault("cut", at="answer"))
    batch = Trainer(files, model).older(ModelServers(tokenizer, lambda _: STEP), 1)
    assert batch.non_tensor_batch["spoiled"].tolist() == [0.0]
    assert batch.non_tensor_batch["stop_reason"].tolist() == ["max_turns"]
    assert batch.batch["response_mask"].sum() > 0
    assert sorted((rollout.status, rollout.attempt) for rollout in RolloutStore(tmp_path / "run")) == [
        ("error", 0),
        ("truncated", 1),
    ]


@pytest.mark.parametrize("reason", ["abort", "aborted"])  # of SGLang, of vLLM
def test_a_request_that_the_engine_aborted_is_no_turn(
    reason: str, weather: VerlFiles, model: Path, tokenizer: Any, tmp_path: Path
) -> None:
    class Aborting(ModelServers):
        async def generate(self, *args: Any, **options: Any) -> Any:
            output = await super().generate(*args, **options)
            output.stop_reason = reason
            return output

    batch = Trainer(weather, model).older(Aborting(tokenizer), 1)
    assert batch.batch["response_mask"].sum() == 0
    assert batch.non_tensor_batch["spoiled"].tolist() == [1.0]
    assert {rollout.stop_reason for rollout in RolloutStore(tmp_path / "run")} == {"policy_unavailable"}


@pytest.mark.parametrize("route", ["/create", "/call"])
def test_lost_sample_is_left_out_by_the_trainer(
    route: str,
    faulty: tuple[FaultServer, VerlFiles],
    model: Path,
    tokenizer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, files = faulty
    server.inject(route, Fault("status", status=502), times=2)
    trainer = Trainer(files, model)
    queue, servers = MemoryQueue(), ModelServers(tokenizer, lambda _: STEP)
    trainer.config.actor_rollout_ref.rollout.n = 1
    trainer.newest(servers, queue, monkeypatch, 1)
    assert queue.tags == {"u0": {"status": "failure"}}
    assert queue.rows == {}
    trainer.newest(servers, queue, monkeypatch, 1)
    assert queue.tags["u0"]["status"] == "finished"
    assert list(queue.rows) == ["u0_0_0"]
    store = RolloutStore(tmp_path / "run")
    if route == "/create":
        assert [failure.stage for failure in store.failures()] == ["open", "open"]
        assert [rollout.status for rollout in store] == ["truncated"]
    else:
        assert sorted(rollout.status for rollout in store) == ["error", "error", "truncated"]


def test_lost_sample_has_no_trained_token_in_the_older_worker(
    faulty: tuple[FaultServer, VerlFiles], model: Path, tokenizer: Any
) -> None:
    server, files = faulty
    server.inject("/create", Fault("status", status=502), times=2)
    batch = Trainer(files, model).older(ModelServers(tokenizer, lambda _: STEP), 1)
    assert batch.batch["response_mask"].sum() == 0
    assert batch.batch["rollout_log_probs"].abs().sum() == 0
    assert batch.non_tensor_batch["spoiled"].tolist() == [1.0]


def test_answers_that_are_cut_off_end_with_the_response_length(
    weather: VerlFiles, model: Path, tokenizer: Any, tmp_path: Path
) -> None:
    servers = ModelServers(tokenizer, lambda _: "It rains and rains. " * 40)
    batch = Trainer(weather, model).older(servers, 1)
    assert [params["max_tokens"] for _, _, params in servers.requests] == [512]
    assert batch.batch["response_mask"].sum() == 512
    assert batch.non_tensor_batch["stop_reason"].tolist() == ["context_overflow"]
    assert batch.non_tensor_batch["truncated"].tolist() == [1.0]
    (rollout,) = RolloutStore(tmp_path / "run")
    assert (rollout.status, rollout.stop_reason, rollout.reward) == ("truncated", "context_overflow", None)


def test_prompt_that_does_not_fit(weather: VerlFiles, model: Path, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=r"task 0 has \d+ tokens.*max_prompt_length is 64"):
        Trainer(weather, model, "data.max_prompt_length=64").older(ModelServers(tokenizer), 1)


def test_error_of_the_model_server_goes_to_verl(weather: VerlFiles, model: Path, tokenizer: Any, tmp_path: Path) -> None:
    def broken(prompt: str) -> str:
        if "weather_description" in prompt:
            raise RuntimeError("the engine died")
        return weather_turn(prompt)

    with pytest.raises(RuntimeError, match="engine died"):
        Trainer(weather, model).older(ModelServers(tokenizer, broken), 1)
    (rollout,) = RolloutStore(tmp_path / "run")
    assert (rollout.status, rollout.stop_reason) == ("truncated", "policy_unavailable")


def test_row_without_a_task(weather: VerlFiles, model: Path, tokenizer: Any) -> None:
    trainer = Trainer(weather, model)
    rows = trainer.rows(tokenizer, 1)
    rows["extra_info"][0].pop("task_index")
    worker = AgentLoopWorker(trainer.config, ModelServers(tokenizer))
    with pytest.raises(ValueError, match=r"extra_info\.task_index"):
        asyncio.run(worker.generate_sequences(DataProto.from_single_dict(rows)))


class Processor:
    """A stand-in of a vision model's processor: three placeholders per image."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.image_processor, self.chat_template = tokenizer, object(), tokenizer.chat_template
        self.image_token_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")

    def apply_chat_template(self, *args: Any, **options: Any) -> Any:
        return self.tokenizer.apply_chat_template(*args, **options)

    def __call__(self, text: list[str], images: list[Any], **_: Any) -> Any:
        return self.tokenizer([text[0].replace("<|image_pad|>", "<|image_pad|>" * 3)], add_special_tokens=False)


def test_images_go_to_the_engine_and_to_the_trainer(server_url: str, model: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(VISION, eos_token="<|im_end|>", pad_token="<|pad|>")
    files = prepare("echo", tmp_path / "data", base_url=server_url, max_turns=3, limit=1)
    trainer, seen = Trainer(files, model, "data.max_prompt_length=4096"), []

    class Servers(ModelServers):
        async def generate(self, request_id: str, *, image_data: Any = None, **keywords: Any) -> Any:
            seen.append(len(image_data or ()))
            return await super().generate(request_id, **keywords)

    loop = EpisodeAgentLoop(
        trainer_config=DictConfigWrap(trainer.config),
        server_manager=Servers(tokenizer, lambda _: '<tool_call>\n{"name": "image", "arguments": {}}\n</tool_call>'),
        tokenizer=tokenizer,
        processor=Processor(tokenizer),
        dataset_cls=RLHFDataset,
        data_config=DictConfigWrap(trainer.config.data),
        episodes={"environment": "echo", "base_url": server_url},
        max_turns=3,
    )
    output: Any = asyncio.run(loop.run({}, **{name: values[0] for name, values in trainer.rows(tokenizer, 1).items()}))
    assert seen == [0, 1, 2]
    # The image of the last tool result follows the last sampled turn, and is not in the sequence.
    assert len(output.multi_modal_data["images"]) == 2
    assert [*output.prompt_ids, *output.response_ids].count(tokenizer.convert_tokens_to_ids("<|image_pad|>")) == 2 * 3


def test_examples_in_docstrings() -> None:
    checked = importlib.import_module("openreward_gym.integrations.verl.dataset")
    failed, attempted = doctest.testmod(checked, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert (failed, attempted > 0) == (0, True)
