"""Runs for the walks of a researcher: a tool that begins to fail, two models, errors that go unnoticed."""

from __future__ import annotations

from pathlib import Path

from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    Message,
    Rollout,
    RolloutEnvironment,
    SystemMessage,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
)

STEPS, TASKS, SAMPLES, FAILS_AT = 14, 4, 4, 9
EXAM_TASKS, LOST = 12, (3, 7, 8)
TURNS = 12


def failing(folder: Path) -> None:
    """Write the run `training`: from step 9 on the tool `lookup` fails in turn 7 of half of the samples, unnoticed."""
    with RolloutStore(folder / "training") as store:
        for step in range(STEPS):
            for task in range(TASKS):
                for sample in range(SAMPLES):
                    fails = step >= FAILS_AT and sample >= 2
                    reward = 0.1 if fails else 0.9 if (step + task + sample) % 3 else 0.7
                    store.append(_trained(step, task, sample, fails, reward))


def _trained(step: int, task: int, sample: int, fails: bool, reward: float) -> Rollout:
    messages: list[Message] = [
        SystemMessage(content=[TextBlock("You search a library.")]),
        UserMessage(content=[TextBlock(f"Question {task}: who wrote the book number {task}?")]),
    ]
    for turn in range(TURNS):
        broken = fails and turn == 6
        text = (
            "ConnectionError: the index is not there" if broken else "\n".join(f"Page {turn}, line {line}" for line in range(12))
        )
        call = ToolCall("lookup" if turn == 6 else "search", {"query": f"book {task}, page {turn}"}, f"c{turn}")
        messages += [
            AssistantMessage(content=[TextBlock(f"I look at page {turn}."), call]),
            ToolMessage([TextBlock(text)], call.call_id, call.name, broken),
        ]
    messages.append(AssistantMessage(content=[TextBlock("It was written by Anna Seghers.")]))
    return Rollout(
        id=f"t{step}-{task}-{sample}", messages=messages, status="completed", stop_reason="message", step=step, sample=sample,
        group=f"step {step}, book {task}", task=Task(id=f"book{task}", index=task), reward=reward, usage=Usage(output_tokens=200),
        environment=RolloutEnvironment(name="library", split="train"),
        discard_reason="max_async" if step == 12 and task == 0 and sample == 3 else None,
    )  # fmt: skip


def exams(folder: Path) -> None:
    """Write the runs `model-a` and `model-b` over the same tasks: B loses three of them, with another call in turn 2."""
    for run in ("model-a", "model-b"):
        with RolloutStore(folder / run) as store:
            for task in range(EXAM_TASKS):
                lost = run == "model-b" and task in LOST
                store.append(_examined(run, task, lost))


def _examined(run: str, task: int, lost: bool) -> Rollout:
    read = "setup.cfg" if lost else "README.md"
    messages: list[Message] = [
        UserMessage(content=[TextBlock(f"Problem {task}: which version is it?")]),
        AssistantMessage(content=[TextBlock("I list the files."), ToolCall("list", {"path": "."}, "c1")]),
        ToolMessage([TextBlock("README.md\nsetup.cfg")], "c1", "list"),
        AssistantMessage(content=[ToolCall("read", {"path": read}, "c2")]),
        ToolMessage([TextBlock("nothing" if lost else "version 2")], "c2", "read"),
        AssistantMessage(content=[TextBlock("I do not know." if lost else "It is version 2.")]),
    ]
    return Rollout(
        id=f"{run}-{task}", messages=messages, status="completed", stop_reason="message", sample=0, group=f"p{task}",
        task=Task(id=f"p{task}", index=task), reward=0.0 if lost else 1.0, usage=Usage(output_tokens=50),
        environment=RolloutEnvironment(name="exam", split="test"),
    )  # fmt: skip
