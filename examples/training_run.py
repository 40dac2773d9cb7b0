"""A small training, simulated: real puzzles of the built-in `reasoning` environment, answered better from step to step.

    python examples/training_run.py --output runs/training
    openreward-gym view runs/training

Nothing is trained: a pretended policy answers right more often as the steps go by. What is recorded is what a trainer
records: steps, groups, advantages, discarded samples and metrics.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from pathlib import Path
from statistics import fmean, pstdev

from openreward_gym import Client, RolloutStore, serve
from openreward_gym.rollouts.record import (
    EnvironmentRecord,
    MessageRecord,
    Rollout,
    TaskRecord,
    TextPart,
    TokenUsage,
    now_iso,
    task_id,
)

RANGES = {"reward": [0, 1], "answered": [0, 1], "length": {"min": 0, "max": 400, "lower_is_better": True}}


async def sample(client: Client, index: int, answer: str, *, step: int, number: int) -> Rollout:
    """One episode: the puzzle, the pretended policy's answer, what the environment says to it."""
    environment = client.environment("reasoning")
    task = await environment.task("train", index)
    started = now_iso()
    async with environment.session(split="train", index=index) as session:
        prompt = await session.prompt()
        output = await session.call_terminal(f"<answer>{answer}</answer>")
    said = f"<think>{'Let me see. ' * (1 + (index + number) % 7)}</think>\nThe answer is <answer>{answer}</answer>"
    spec = dict(task.spec or {})
    return Rollout(
        run="training", name=f"step {step}, task {index}, sample {number}", step=step, group=f"{step}-{index}", sample=number,
        environment=EnvironmentRecord(name="reasoning", split="train"),
        task=TaskRecord(id=task_id("reasoning", "train", spec), index=index, spec=spec),
        model={"name": "pretended", "checkpoint": f"step-{step}"},
        messages=[
            MessageRecord(role="user", blocks=[TextPart(text=getattr(block, "text", "")) for block in prompt]),
            MessageRecord(role="assistant", blocks=[TextPart(text=said)], usage=TokenUsage(output_tokens=len(said) // 4)),
            MessageRecord(role="tool", blocks=[TextPart(text=output.text)], reward=output.reward, finished=output.finished),
        ],
        reward=output.reward, final_reward=output.reward, metrics={"answered": float(bool(answer)), "length": float(len(said))},
        status="completed", stop_reason="finished", started_at=started, ended_at=now_iso(),
        usage=TokenUsage(output_tokens=len(said) // 4), metadata={"ranges": RANGES},
    )  # fmt: skip


def judge(group: list[Rollout], draw: random.Random) -> None:
    """Give the samples of a group their advantages, and throw away what a trainer would."""
    rewards = [rollout.reward or 0.0 for rollout in group]
    mean, spread = fmean(rewards), pstdev(rewards)
    for rollout, reward in zip(group, rewards, strict=True):
        rollout.advantage = (reward - mean) / spread if spread else 0.0
        rollout.discard_reason = "zero_advantage" if not spread else "max_async" if draw.random() < 0.05 else None


async def train(base_url: str, output: Path, *, steps: int, tasks: int, samples: int, seed: int) -> int:
    """Play all of it; gives how many rollouts were recorded."""
    draw = random.Random(seed)
    count = 0
    async with Client(base_url=base_url) as client:
        with RolloutStore(output) as store:
            for step in range(steps):
                for index in draw.sample(range(200), tasks):
                    skill = 0.1 + 0.8 * step / max(1, steps - 1)
                    answers = [
                        _answer(index) if draw.random() < skill else draw.choice(["", "0", "unsure"]) for _ in range(samples)
                    ]
                    group = await asyncio.gather(
                        *(sample(client, index, answer, step=step, number=number) for number, answer in enumerate(answers))
                    )
                    judge(list(group), draw)
                    for rollout in group:
                        store.append(rollout)
                        count += 1
    return count


def _answer(index: int) -> str:
    import reasoning_gym

    from openreward_gym.serve.examples.reasoning import FAMILIES, ITEMS

    puzzles = reasoning_gym.create_dataset(FAMILIES[index % len(FAMILIES)], size=ITEMS["train"], seed=0)
    answer = puzzles[index // len(FAMILIES)]["answer"]
    return answer if isinstance(answer, str) else json.dumps(answer)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--output", type=Path, default=Path("runs/training"))
    arguments.add_argument("--steps", type=int, default=12)
    arguments.add_argument("--tasks", type=int, default=6, help="tasks a step")
    arguments.add_argument("--samples", type=int, default=4, help="rollouts a task")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    with serve.local(["reasoning"]) as base_url:
        count = asyncio.run(
            train(base_url, given.output, steps=given.steps, tasks=given.tasks, samples=given.samples, seed=given.seed)
        )
    print(f"{count} rollouts in {given.output}; look at them: openreward-gym view {given.output}")


if __name__ == "__main__":
    main()
