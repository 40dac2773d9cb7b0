"""examples/train_grpo.py: TRL trains on two environments, tools run on their server, rewards are the environments'."""

from __future__ import annotations

import inspect
import math
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openreward_gym import serve
from openreward_gym.store.store import RolloutStore

pytestmark = pytest.mark.train

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    with warnings.catch_warnings():
        # What TRL, transformers and torch say to each other is not ours.
        warnings.simplefilter("ignore")
        import train_grpo

        yield train_grpo


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve.local(["weather", "ctf"]) as url:
        yield url


def says(trainer: Any, tokenizer: Any) -> Any:
    """Replace the random model's answers by those of one that looks the weather up and passes it on. The losses stay."""
    cities = ("Seattle", "Boston", "Chicago", "New York", "San Francisco")

    def turn(prompt_ids: list[list[int]], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        answers = []
        for number, ids in enumerate(prompt_ids):
            text = tokenizer.decode(ids)
            city = next((city for city in cities if city in text.rpartition("<|im_start|>user")[2]), "")
            if "<tool_response>" in text:
                answer = text.rpartition("<tool_response>")[2].partition("</tool_response>")[0].strip()
            elif city and number % 2 == 0:
                answer = f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
            else:
                answer = "I do not know."
            answers.append(tokenizer.encode(answer + "<|im_end|>"))
        return answers, None

    trainer._generate_single_turn = turn
    return trainer


def test_tools_are_methods_with_names_types_and_words(example: Any, url: str, tmp_path: Path) -> None:
    cls = example.environment_class("weather", url, str(tmp_path / "run"))
    signature = inspect.signature(cls.get_weather)
    assert list(signature.parameters) == ["self", "city"]
    assert signature.parameters["city"].annotation is str
    assert "city: " in cls.get_weather.__doc__
    environment = cls()
    environment.reset(task_index=0, prompt=[], more="columns")
    assert "cold" in environment.get_weather(city="Seattle")
    assert environment._finish("It is cold in Seattle.") == 1.0
    assert environment.get_weather(city="Seattle") == "The episode is over."
    # A model's mistake is an answer, not an exception.
    environment.reset(task_index=0)
    assert "city" in environment.get_weather(town="Seattle")
    environment._recorder.close()
    assert [rollout.status for rollout in RolloutStore(tmp_path / "run")] == ["completed", "cancelled"]


def test_pictures_of_tools_are_pictures(example: Any, server_url: str, tmp_path: Path) -> None:
    environment = example.environment_class("echo", server_url, str(tmp_path / "run"))()
    environment.reset(task_index=1)
    text, picture = environment.image()
    assert text == {"type": "text", "text": "look"}
    assert (picture["type"], picture["image"].size) == ("image", (1, 1))
    # The episode had not ended when the model's tokens did: what it got by then counts.
    assert environment._finish("") == 0.0
    environment._recorder.close()


def test_an_infrastructure_failure_has_no_reward(example: Any, tmp_path: Path) -> None:
    with serve.local(["weather"]) as url:
        environment = example.environment_class("weather", url, str(tmp_path / "run"))()
        environment.reset(task_index=0)
        env = environment._recorder.unwrapped
        env.options = replace(env.options, limits=replace(env.options.limits, step_timeout_s=5.0))
    environment.get_weather(city="Seattle")
    assert environment._finish("It is cold.") is None
    environment._recorder.close()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_two_environments_train_together(example: Any, url: str, tmp_path: Path) -> None:
    trainer = example.trainer_of(["weather", "ctf"], url, tasks=2, steps=3, generations=2, output=str(tmp_path / "out"))
    trainer.args.max_completion_length = trainer.max_completion_length = 512
    says(trainer, trainer.processing_class).train()
    logs = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(logs) == 3
    assert all(math.isfinite(entry["loss"]) for entry in logs)
    for environment in (one for pool in trainer._environment_pool.values() for one in pool):
        environment._recorder.close()
    played = list(RolloutStore(tmp_path / "out" / "rollouts"))
    assert {rollout.environment.name for rollout in played} == {"weather", "ctf"}
    assert len(played) == 6
    # Of each group of the weather one looked and told, the other did not: an advantage, and a gradient.
    weather = [rollout for rollout in played if rollout.environment.name == "weather"]
    assert {rollout.reward for rollout in weather} == {0.0, 1.0}
    assert any(entry["grad_norm"] > 0 for entry in logs)
    assert any(entry["tools/call_frequency"] > 0 for entry in logs)
