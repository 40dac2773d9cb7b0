"""The rollout worker of TRL's asynchronous trainer: what a tiny model learns with it, and what it makes of failures."""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_server import Fault, running
from learning import rewards_by_step, rise_of

from openreward_gym import RolloutStore, serve
from openreward_gym.errors import ConfigurationError, PolicyError, TaskNotFoundError
from openreward_gym.integrations import Episodes

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

LOOK = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Seattle"}}\n</tool_call>'


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve.local(["bandit", "weather"]) as url:
        yield url


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, str]:
    """The tiny model, its tokenizer, and the folder in which they are."""
    import torch
    from tiny_model import model_and_tokenizer

    torch.manual_seed(0)
    model, tokenizer = model_and_tokenizer("tiny")
    folder = str(tmp_path_factory.mktemp("tiny"))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer, folder


def arguments(vllm: str, folder: Path, **options: Any) -> Any:
    from trl.experimental.async_grpo import AsyncGRPOConfig

    settings = {
        "max_steps": 24,
        "per_device_train_batch_size": 16,
        "num_generations": 16,
        "max_completion_length": 4,
        "learning_rate": 5e-3,
        "max_staleness": 2,
        "token_budget": 0,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }
    return AsyncGRPOConfig(str(folder), vllm_server_base_url=vllm, **{**settings, **options})


def test_the_reward_rises_while_episodes_are_played(url: str, tiny: Any, tmp_path: Path) -> None:
    import torch
    from train_async_grpo import trainer_of
    from vllm_stand_in import VLLMStandIn, WeightsOverHTTP, without_a_gpu

    model, tokenizer, folder = tiny
    with VLLMStandIn(model, tokenizer) as vllm, without_a_gpu(), contextlib.redirect_stdout(io.StringIO()):
        args = arguments(vllm.url, tmp_path / "out")
        trainer = trainer_of(
            ["bandit"], url, folder, args, str(tmp_path / "run"), weight_transfer=WeightsOverHTTP(vllm.url)
        )
        trainer.train()
    logs = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(logs) == 24
    rise = rise_of([entry["reward"] for entry in logs])
    assert rise.rise > 0.2, rise
    assert rise.p_value < 0.001, rise
    # The sampler has the trainer's weights, and gave the trainer the log-probabilities that these have.
    assert vllm.updates == 25
    trained = dict(trainer.model.named_parameters())
    assert all(torch.equal(weights, trained[name]) for name, weights in model.named_parameters())
    assert logs[0]["ratio"] == pytest.approx(1.0, abs=1e-3)
    assert max(entry["sample/staleness_max"] for entry in logs) <= 2
    # The record has the steps, the groups and their samples, and the same rise.
    rollouts = [rollout for rollout in RolloutStore(tmp_path / "run") if rollout.status == "completed"]
    assert {rollout.step for rollout in rollouts} >= set(range(22))
    assert rise_of(rewards_by_step(rollouts)).p_value < 0.001
    groups = {rollout.group for rollout in rollouts}
    assert {rollout.sample for rollout in rollouts if rollout.group == min(groups)} == set(range(16))
    assert all(turn.sampled.token_ids for turn in rollouts[0].messages if turn.role == "assistant")
