from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from built_in import Play

from openreward_gym.errors import TaskNotFoundError
from openreward_gym.protocol.client import Client

# Prints the questions and answers of the reasoning-gym package, to be run with another hash seed.
ANSWERS = """
import json, sys, reasoning_gym
made = []
for family, seed, item in json.load(sys.stdin):
    puzzle = reasoning_gym.create_dataset(family, size=1000, seed=seed)[item]
    made.append([puzzle["question"], puzzle["answer"]])
json.dump(made, sys.stdout)
"""


async def read(base_url: str) -> dict[str, Any]:
    async with Client(base_url) as client:
        reasoning = client.environment("reasoning")
        prompts = {}
        for split in ("train", "test"):
            for index in range(36):
                async with reasoning.session(split=split, index=index) as session:
                    prompts[split, index] = (await session.messages())[1].text
        return {
            "train": await reasoning.num_tasks("train"),
            "test": await reasoning.num_tasks("test"),
            "specs": {(split, i): (await reasoning.task(split, i)).spec for split in ("train", "test") for i in range(36)},
            "prompts": prompts,
        }


@pytest.fixture(scope="module")
def tasks(examples: str) -> dict[str, Any]:
    return asyncio.run(read(examples))


@pytest.fixture(scope="module")
def truth(tasks: dict[str, Any]) -> dict[tuple[str, int], tuple[str, str]]:
    queries = [
        (spec["family"], 0 if split == "train" else 1_000_000_000, spec["item"]) for (split, _), spec in tasks["specs"].items()
    ]
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    made = subprocess.run(
        [sys.executable, "-c", ANSWERS], input=json.dumps(queries), env=environment, capture_output=True, check=True, text=True
    )
    return dict(zip(tasks["specs"], json.loads(made.stdout), strict=True))


def test_thousands_of_tasks_by_index(examples: str, tasks: dict[str, Any]) -> None:
    assert (tasks["train"], tasks["test"]) == (18_000, 1_800)
    assert len({spec["family"] for spec in tasks["specs"].values()}) == 18

    async def beyond() -> None:
        async with Client(examples) as client:
            reasoning = client.environment("reasoning")
            assert (await reasoning.task("train", 17_999)).spec == {"family": "word_sorting", "split": "train", "item": 999}
            with pytest.raises(TaskNotFoundError):
                await reasoning.task("train", 18_000)
            with pytest.raises(Exception, match="index"):
                await reasoning.tasks("train")

    asyncio.run(beyond())


def test_a_task_is_the_same_in_every_process(tasks: dict[str, Any], truth: dict[Any, Any]) -> None:
    assert {key: question for key, (question, _) in truth.items()} == tasks["prompts"]
    assert len(set(tasks["prompts"].values())) == len(tasks["prompts"])


def test_the_spec_does_not_give_the_answer_away(tasks: dict[str, Any]) -> None:
    assert all(spec.keys() == {"family", "split", "item"} for spec in tasks["specs"].values())


@pytest.mark.parametrize("index", range(18))
def test_the_right_answer_is_rewarded_and_another_is_not(play: Play, truth: dict[Any, Any], index: int) -> None:
    answer = truth["test", index][1]
    (right,) = play(
        "reasoning", [f"Let me think. <answer>wrong</answer> No:\n<answer> {answer} </answer>"], split="test", index=index
    )
    (plain,) = play("reasoning", [answer], split="test", index=index)
    (wrong,) = play("reasoning", ["<answer>\x00 no idea</answer>"], split="test", index=index)
    (empty,) = play("reasoning", [""], split="test", index=index)
    assert [(output.reward, output.finished) for output in (right, plain)] == [(1.0, True)] * 2
    assert all(output.reward is not None and output.reward < 0.5 and output.finished for output in (wrong, empty))


def test_a_verifier_that_raises_means_a_wrong_answer(play: Play) -> None:
    spec = {"family": "prime_factorization", "split": "train", "item": 7}
    (output,) = play("reasoning", ["<answer>not numbers</answer>"], task_spec=spec)
    assert (output.reward, output.finished) == (0.0, True)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"family": "alchemy", "split": "train", "item": 0}, "no family 'alchemy'"),
        ({"family": "gcd", "split": "train", "item": 1000}, "no puzzle 1000"),
        ({"family": "gcd", "split": "other", "item": 0}, "no puzzle 0 in split 'other'"),
        ({"family": "gcd"}, "'item'"),
    ],
)
def test_a_wrong_spec_is_refused_with_what_is_wrong(play: Play, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words):
        play("reasoning", [], task_spec=spec)
