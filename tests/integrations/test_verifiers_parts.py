"""What the integration with verifiers does without verifiers: options of tasks, token ids of a turn, and the missing extra."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from openreward_gym.errors import ConfigurationError, MissingExtraError
from openreward_gym.integrations import verifiers
from openreward_gym.integrations.verifiers.source import source_of, source_options, task_name
from openreward_gym.integrations.verifiers.tokens import sampled_of
from openreward_gym.types import Sampled


def test_without_verifiers_the_error_says_what_to_install() -> None:
    words = r"pip install 'openreward-gym\[verifiers\]'"
    with pytest.raises(MissingExtraError, match=words):
        verifiers.load_environment("weather")
    with pytest.raises(MissingExtraError, match=words):
        _ = verifiers.OpenRewardTaskset
    with pytest.raises(MissingExtraError, match=words):
        importlib.import_module("openreward_gym_verifiers")


def test_a_task_carries_plain_options() -> None:
    given = source_options("weather", "http://127.0.0.1:1", "test", "runs/x", {"max_steps": 3, "variant": None})
    assert given == {
        "environment": "weather",
        "base_url": "http://127.0.0.1:1",
        "split": "test",
        "output": "runs/x",
        "max_steps": 3,
    }
    assert task_name(given, 2) == "weather/test/2"
    assert task_name({"environment": "weather", "variant": "hard"}, 2) == "weather/hard/train/2"


@pytest.mark.parametrize(
    ("environment", "base_url", "options", "words"),
    [
        ("", None, {}, "environment is not set"),
        ("weather", None, {"max_step": 3}, "max_steps"),
        ("weather", None, {"max_steps": 0}, "max_steps"),
        ("weather", "http://user:pa55@127.0.0.1:1", {}, "OPENREWARD_URL"),
        ("weather", None, {"env_overrides": {"KEY": "pa55"}}, "env_overrides"),
        ("weather", None, {"metadata": {"run": {1}}}, "JSON"),
        ("weather", None, {"metadata": {"run": float("nan")}}, "JSON"),
    ],
)
def test_options_that_a_task_cannot_carry(environment: str, base_url: str | None, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as raised:
        source_options(environment, base_url, "train", None, options)
    assert "pa55" not in str(raised.value)


def test_one_source_numbers_the_samples_of_each_group() -> None:
    options = {"environment": "weather", "base_url": "http://127.0.0.1:1"}
    source = source_of(options, model={"name": "m"})
    assert source_of(dict(reversed(options.items())), model={"name": "m"}) is source
    assert source_of(options, model={"name": "n"}) is not source
    assert [source.next_sample(group) for group in ("a", "a", "b")] == [0, 1, 0]
    source.return_sample("a", 0)
    assert [source.next_sample(group) for group in ("a", "a", "b")] == [0, 2, 1]


def node(parent: int | None, ids: list[int], mask: list[bool], logprobs: list[float]) -> SimpleNamespace:
    return SimpleNamespace(parent=parent, token_ids=ids, mask=mask, logprobs=logprobs)


def trace(*nodes: SimpleNamespace, called: int | None) -> SimpleNamespace:
    return SimpleNamespace(nodes=list(nodes), calls=[SimpleNamespace(node=called)])


def test_the_tokens_of_a_turn_are_those_of_the_path_to_it() -> None:
    graph = trace(
        node(None, [1, 2], [False, False], []),
        node(None, [7], [False], []),  # another branch
        node(0, [3, 4, 5], [False, True, True], [-0.5, -0.25]),
        called=2,
    )
    assert sampled_of(graph, Sampled(model="m")) == Sampled(
        model="m", token_ids=(4, 5), logprobs=(-0.5, -0.25), prompt_token_ids=(1, 2, 3)
    )


@pytest.mark.parametrize(
    "graph",
    [
        SimpleNamespace(nodes=[], calls=[]),
        trace(node(None, [], [], []), called=0),
        trace(node(None, [1], [True], []), called=None),
        trace(node(None, [1, 2], [False, False], []), called=0),
        trace(node(None, [1, 2], [True, False], [-1.0]), called=0),
    ],
)
def test_a_turn_without_ids_keeps_its_report(graph: SimpleNamespace) -> None:
    assert sampled_of(graph, None) is None
    assert sampled_of(graph, Sampled(model="m")) == Sampled(model="m")


def test_logprobs_that_do_not_fit_are_left_out() -> None:
    sampled = sampled_of(trace(node(None, [1, 2], [False, True], []), called=0), None)
    assert sampled == Sampled(token_ids=(2,), prompt_token_ids=(1,))
