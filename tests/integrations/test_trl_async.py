"""The rollout worker of TRL's asynchronous trainer: what a tiny model learns with it, and what it makes of failures."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_server import Fault, FaultServer, running
from learning import rewards_by_step, rise_of

from openreward_gym import RolloutStore, serve
from openreward_gym.errors import PolicyError
from openreward_gym.integrations import Episodes

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

LOOK = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Seattle"}}\n</tool_call>'


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread. For a model of this size, several only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
        "max_steps": 36,
        "per_device_train_batch_size": 16,
        "num_generations": 16,
        "max_completion_length": 4,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
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
        trainer = trainer_of(["bandit"], url, folder, args, str(tmp_path / "run"), weight_transfer=WeightsOverHTTP(vllm.url))
        trainer.train()
    logs = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(logs) == 36
    rise = rise_of([entry["reward"] for entry in logs])
    assert rise.rise > 0.2, rise
    assert rise.p_value < 0.001, rise
    # The sampler has the trainer's weights, and gave the trainer the log-probabilities that these have.
    assert vllm.updates == 37
    trained = dict(trainer.model.named_parameters())
    assert all(torch.equal(weights, trained[name]) for name, weights in model.named_parameters())
    assert logs[0]["ratio"] == pytest.approx(1.0, abs=1e-3)
    assert max(entry["sample/staleness_max"] for entry in logs) <= 2
    # The record has the steps, the groups and their samples, and the same rise.
    rollouts = [rollout for rollout in RolloutStore(tmp_path / "run") if rollout.status != "cancelled"]
    assert {rollout.step for rollout in rollouts} <= set(range(37))
    assert rise_of(rewards_by_step(rollouts)).p_value < 0.001
    groups = {rollout.group for rollout in rollouts}
    assert {rollout.sample for rollout in rollouts if rollout.group == "0"} == set(range(16))
    assert groups >= {str(number) for number in range(30)}
    assert all(turn.sampled and turn.sampled.token_ids for turn in rollouts[0].messages if turn.role == "assistant")


class Scripted:
    """A model that says what a function of the conversation's text says, as token ids with log-probabilities."""

    def __init__(self, tokenizer: Any, say: Callable[[str], str]) -> None:
        from vllm_stand_in import VLLMStandIn

        class Model(VLLMStandIn):
            def complete(self, request: dict[str, Any]) -> dict[str, Any]:
                self.sampled += 1
                ids = tokenizer.encode(say(tokenizer.decode(request["prompt"])))
                kept = ids[: request["max_tokens"]]
                ended = "stop" if kept == ids else "length"
                return {
                    "choices": [{"token_ids": kept, "logprobs": {"token_logprobs": [-0.5] * len(kept)}, "finish_reason": ended}]
                }

        self.server = Model(None, tokenizer, max_model_len=2048)


def looks_and_tells(text: str) -> str:
    """What a model says of the weather: it looks, and then tells what it saw."""
    if "weather_description" in text:
        return "It is cold.<|im_end|>"
    return f"{LOOK}<|im_end|>"


@contextlib.contextmanager
def working(sources: Any, tokenizer: Any, say: Callable[[str], str], folder: Path, **options: Any) -> Iterator[Any]:
    """Yield a worker that plays with a scripted model. It is started, and stopped at the end."""
    from openreward_gym.integrations.trl.rollout_worker import RolloutWorker

    settings = {"num_generations": 2, "per_device_train_batch_size": 2, "max_completion_length": 256, **options}
    refuse, limit = settings.pop("refuse", 0), settings.pop("limit", None)
    with Scripted(tokenizer, say).server as vllm:
        vllm.refuse = refuse
        args = arguments(vllm.url, folder / "out", max_inflight_tasks=4, **settings)
        patience = {"failed_groups": 3, "sampling_attempts": 3}
        worker = RolloutWorker(sources, model="m", tokenizer=tokenizer, args=args, limit=limit, **patience)
        worker.update_model_version(1)
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()


def failure_of(worker: Any) -> str:
    """Wait until the worker has failed, and return what the trainer is told."""
    for _ in range(600):
        try:
            worker.check_health(30.0)
        except PolicyError as error:
            return str(error)
        time.sleep(0.05)
    raise AssertionError("the worker has not failed")


def test_samples_have_the_sampled_ids_and_rewards(url: str, tiny: Any, tmp_path: Path) -> None:
    _, tokenizer, _ = tiny
    source = Episodes("weather", base_url=url, output=tmp_path / "run")
    with working([source], tokenizer, looks_and_tells, tmp_path, refuse=2) as worker:
        samples = [worker.rollout_buffer.get(timeout=30) for _ in range(6)]
    said = [*tokenizer.encode(f"{LOOK}<|im_end|>"), *tokenizer.encode("It is cold.<|im_end|>")]
    for sample in samples:
        mask = sample.completion_mask.astype(bool)
        assert sample.input_ids[mask].tolist() == said
        assert set(sample.old_log_probs[mask]) == {-0.5}
        assert set(sample.old_log_probs[~mask]) == {0.0}
        assert [message["role"] for message in sample.completion][:3] == ["assistant", "tool", "assistant"]
        assert (sample.model_version, sample.advantage) == (1, 0.0)
    # Seattle is cold, and the other cities are not asked for.
    recorded = {rollout.group: rollout for rollout in RolloutStore(tmp_path / "run") if rollout.status == "completed"}
    for sample in samples:
        assert sample.metrics["reward"] == recorded[str(sample.group_id)].reward
    assert {rollout.task.index for rollout in recorded.values() if rollout.reward == 1.0} <= {0}
    metrics = [worker.metrics_queue.get_nowait() for _ in range(worker.metrics_queue.qsize())]
    assert all(entry["rollout/spoiled_total"] == 0.0 for entry in metrics if "rollout/spoiled_total" in entry)


def test_a_dead_environment_has_no_reward_and_ends_the_training(tiny: Any, tmp_path: Path) -> None:
    _, tokenizer, _ = tiny
    with serve.local(["bandit"]) as url:
        source = Episodes(
            "bandit", base_url=url, output=tmp_path / "run", open_attempts=1, retry_limits={"attempts": 1, "first_wait_s": 0.0}
        )
        source.num_tasks()
        with working([source], tokenizer, lambda _: "a<|im_end|>", tmp_path) as alive:
            alive.rollout_buffer.get(timeout=30)
    # Its tasks are known, and nobody answers any more.
    source.num_tasks = lambda split=None: 8  # type: ignore[method-assign]
    with working([source], tokenizer, lambda _: "a<|im_end|>", tmp_path) as worker:
        told = failure_of(worker)
        assert "the last 3 groups of rollouts have no reward" in told
        assert "no server answers" in told or "onnect" in told
        assert worker.rollout_buffer.empty()
    assert len(list(RolloutStore(tmp_path / "run").failures())) >= 6


class PlainFaultServer(FaultServer):
    """A fault server whose prompt a chat template can show."""

    def _do_prompt(self, request: Any, sid: str) -> Any:
        return [{"type": "text", "text": "Take a step."}]


def test_a_lost_session_gives_no_sample(tiny: Any, tmp_path: Path) -> None:
    _, tokenizer, _ = tiny
    turns = iter(['<tool_call>\n{"name": "step", "arguments": {}}\n</tool_call><|im_end|>'])
    with running(kind=PlainFaultServer) as faulty:
        source = Episodes("fault", base_url=faulty.url, output=tmp_path / "run", retry_limits={"attempts": 1}, open_attempts=1)
        faulty.inject("/call", Fault("status", status=404))
        with working([source], tokenizer, lambda _: next(turns, "Done.<|im_end|>"), tmp_path) as worker:
            samples = [worker.rollout_buffer.get(timeout=30) for _ in range(3)]
    (spoiled,) = [rollout for rollout in RolloutStore(tmp_path / "run") if rollout.error]
    assert (spoiled.reward, spoiled.stop_reason) == (None, "session_lost")
    # The advantage of the other one of its group is that of a group of one.
    (other,) = [sample for sample in samples if str(sample.group_id) == spoiled.group]
    assert other.advantage == 0.0


@pytest.mark.parametrize(
    ("say", "options", "stop_reason"),
    [
        (lambda _: f"{LOOK}<|im_end|>", {"max_tool_calling_iterations": 2}, "max_turns"),
        (lambda _: f"{'word ' * 100}{LOOK}<|im_end|>", {}, "context_overflow"),
    ],
)
def test_limits_of_the_trainer_truncate_episodes(
    say: Callable[[str], str], options: dict[str, Any], stop_reason: str, url: str, tiny: Any, tmp_path: Path
) -> None:
    _, tokenizer, _ = tiny
    source = Episodes("weather", base_url=url, output=tmp_path / "run")
    with working([source], tokenizer, say, tmp_path, **{"max_completion_length": 1024, **options}) as worker:
        sample = worker.rollout_buffer.get(timeout=30)
    assert sample.metrics["reward"] == 0.0
    ended = [rollout for rollout in RolloutStore(tmp_path / "run") if rollout.status != "cancelled"]
    assert {rollout.stop_reason for rollout in ended} == {stop_reason}


def test_a_dead_model_ends_the_training(url: str, tiny: Any, tmp_path: Path) -> None:
    _, tokenizer, _ = tiny
    source = Episodes("weather", base_url=url)
    with working([source], tokenizer, looks_and_tells, tmp_path, refuse=10**6) as worker:
        told = failure_of(worker)
    assert "did not answer /v1/completions in 3 attempts: HTTP 503" in told
