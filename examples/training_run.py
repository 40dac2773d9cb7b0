"""Simulate a small training: puzzles of the built-in `reasoning` environment, answered better with each step.

    python examples/training_run.py --output runs/training
    openreward-gym view runs/training &

Nothing is trained: a simulated policy gives the right answer more often with each step. The run has what a trainer records:
steps, groups, advantages, discarded samples and metrics. Tasks repeat, as in the epochs of a training.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from openreward_gym import Client, RolloutStore, serve
from openreward_gym.protocol import RemoteEnvironment
from openreward_gym.types import AssistantMessage, Rollout, RolloutEnvironment, Sampled, Task, ToolCall, Usage, task_id
from openreward_gym.types.rollout import now_iso

RANGES = {"reward": [0, 1], "answered": [0, 1], "length": {"min": 0, "max": 600, "lower_is_better": True}}
THOUGHTS = (
    "Let me read the question again.", "First, what is given.", "Then, what is asked for.", "I try the simplest case.",
    "That does not fit yet.", "Once more, from the beginning.", "Now it fits.", "I check it against the question.",
)  # fmt: skip
DISCARD_SHARE = 0.05


async def play(environment: RemoteEnvironment, base_url: str, task: Task, text: str, **fields: Any) -> Rollout:
    """Play one episode: the puzzle, the simulated policy's `text`, and the environment's answer."""
    started = now_iso()
    async with environment.session(task=task) as session:
        prompt = [message.replace(origin="given") for message in await session.messages()]
        terminal = (await session.tools()).terminal
        called = now_iso()
        output = await session.call_terminal(text)
    usage = Usage(output_tokens=len(text) // 4)
    answer = AssistantMessage(text, origin="policy", ended="stop", sampled=Sampled(usage=usage, stop_reason="stop"))
    result = output.answer(ToolCall(terminal.name if terminal else ""), started_at=called, ended_at=now_iso())
    return Rollout(
        status="completed",
        stop_reason="finished",
        run="training",
        environment=RolloutEnvironment(name="reasoning", split="train", origin=base_url),
        task=replace(task, id=task_id("reasoning", "train", task.spec), golden_answer=answer_to(task)),
        terminal_tool=terminal,
        messages=[*prompt, answer, result],
        reward=output.reward,
        final_reward=output.reward,
        metrics={"answered": float("<answer>" in text), "length": float(len(text))},
        started_at=started,
        ended_at=now_iso(),
        usage=usage,
        metadata={"ranges": RANGES},
        **fields,
    )


def judge(group: list[Rollout], rng: random.Random) -> None:
    """Set the advantages of a group's samples, and discard those that a trainer would discard."""
    rewards = [rollout.reward or 0.0 for rollout in group]
    mean, spread = fmean(rewards), pstdev(rewards)
    for rollout, reward in zip(group, rewards, strict=True):
        rollout.advantage = (reward - mean) / spread if spread else 0.0
        late = rng.random() < DISCARD_SHARE
        rollout.discard_reason = "zero_advantage" if not spread else "max_async" if late else None


async def train(base_url: str, output: Path, *, steps: int, tasks: int, samples: int, seed: int) -> int:
    """Play and record all steps; return the number of rollouts."""
    rng = random.Random(seed)
    async with Client(base_url=base_url) as client:
        environment = client.environment("reasoning")
        pool = [await environment.task("train", index) for index in rng.sample(range(400), 3 * tasks)]
        with RolloutStore(output) as store:
            for step in range(steps):
                skill = 0.1 + 0.8 * step / max(1, steps - 1)
                for task in rng.sample(pool, tasks):
                    played = [
                        play(
                            environment, base_url, task, answer_with(task, skill, rng), step=step, group=f"{step}-{task.index}",
                            sample=number, name=f"step {step}, task {task.index}, sample {number}",
                            model={"name": "simulated", "checkpoint": f"step-{step}"},
                        )
                        for number in range(samples)
                    ]  # fmt: skip
                    group = list(await asyncio.gather(*played))
                    judge(group, rng)
                    for rollout in group:
                        store.append(rollout)
    return steps * tasks * samples


def answer_with(task: Task, skill: float, rng: random.Random) -> str:
    """Return the simulated policy's answer: with more skill it is right more often, after fewer thoughts."""
    thoughts = rng.choices(THOUGHTS, k=1 + rng.randrange(round(14 - 10 * skill)))
    answer = answer_to(task) if rng.random() < skill else rng.choice(["", "0", "42", "I am not sure"])
    end = f"The answer is <answer>{answer}</answer>." if answer else "I cannot say."
    return f"<think>{' '.join(thoughts)}</think>\n{end}"


def answer_to(task: Task) -> str:
    """Return the right answer of a puzzle."""
    import reasoning_gym

    from openreward_gym.serve.examples.reasoning import ITEMS

    spec = dict(task.spec or {})
    puzzles = reasoning_gym.create_dataset(spec["family"], size=ITEMS["train"], seed=0)
    answer = puzzles[spec["item"]]["answer"]
    return answer if isinstance(answer, str) else json.dumps(answer)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--output", type=Path, default=Path("runs/training"))
    arguments.add_argument("--steps", type=int, default=12)
    arguments.add_argument("--tasks", type=int, default=6, help="tasks per step")
    arguments.add_argument("--samples", type=int, default=4, help="rollouts per task")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    with serve.local(["reasoning"]) as base_url:
        count = asyncio.run(
            train(base_url, options.output, steps=options.steps, tasks=options.tasks, samples=options.samples, seed=options.seed)
        )
    print(f"{count} rollouts in {options.output}; show them: openreward-gym view {options.output}")


if __name__ == "__main__":
    main()
