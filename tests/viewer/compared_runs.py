"""Two runs whose rollouts begin alike and part, for the pages that compare."""

from __future__ import annotations

from pathlib import Path

from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    Message,
    ReasoningItem,
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

TASKS = 130


def played(run: str, task: int, sample: int, reward: float) -> Rollout:
    """Return a rollout that lists files, then reads one in a way that depends on its reward, and answers."""
    # The same call with its arguments in another order and another reasoning.
    order = ("path", "depth") if sample else ("depth", "path")
    arguments = {name: {"path": ".", "depth": 1}[name] for name in order}
    read = "README.md" if reward == 1.0 else "setup.cfg"
    messages: list[Message] = [
        SystemMessage(content=[TextBlock("You read programs.")]),
        UserMessage(content=[TextBlock(f"Question {task}: which version is it?")]),
        AssistantMessage(content=[ReasoningItem(content=f"I look, {run}."), ToolCall("list", arguments, "c1")]),
        ToolMessage([TextBlock("README.md\nsetup.cfg")], "c1", "list"),
        AssistantMessage(content=[TextBlock("Now I read."), ToolCall("read", {"path": read}, "c2")]),
        ToolMessage([TextBlock("version 2" if reward == 1.0 else "no such key")], "c2", "read", reward < 1.0),
        AssistantMessage(content=[TextBlock("It is version 2." if reward == 1.0 else "It is version 1.")]),
    ]
    return Rollout(
        id=f"{run}-{task}-{sample}", messages=messages, status="completed", stop_reason="message", sample=sample,
        task=Task(id=f"q{task}", index=task), environment=RolloutEnvironment(name="versions", split="test"), group=f"q{task}",
        reward=reward, usage=Usage(output_tokens=100 + task), started_at="2026-03-01T10:00:00+00:00",
        ended_at="2026-03-01T10:00:12+00:00",
    )  # fmt: skip


def compared(folder: Path) -> None:
    """Write the runs `older` and `newer`: `newer` loses question 3, wins 7 and 8, and alone has question 130."""
    for run in ("older", "newer"):
        with RolloutStore(folder / run) as store:
            for task in range(TASKS):
                lost = {"older": (7, 8), "newer": (3,)}[run]
                for sample in range(2):
                    store.append(played(run, task, sample, 0.0 if task in lost and sample == 0 else 1.0))
            if run == "newer":
                store.append(played(run, TASKS, 0, 1.0))
