"""A small training, simulated: real puzzles of the built-in `reasoning` environment, answered better from step to step.

    python examples/training_run.py --output runs/training
    openreward-gym view runs/training

Nothing is trained: a pretended policy answers right more often as the steps go by. What is recorded is what a trainer
records: steps, groups, advantages, discarded samples and metrics. The tasks come round again, as in the epochs of a training.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from pathlib import Path
from statistics import fmean, pstdev

from openreward_gym.types.conversion import message_records, result_record, terminal_tool_record

from openreward_gym import Client, RolloutStore, serve
from openreward_gym.protocol.client import RemoteEnvironment
from openreward_gym.types import Task, ToolCall
from openreward_gym.types.rollout import (
    EnvironmentRecord,
    MessageRecord,
    Rollout,
    TaskRecord,
    TextPart,
    TokenUsage,
    now_iso,
    task_id,
)

RANGES = {"reward": [0, 1], "answered": [0, 1], "length": {"min": 0, "max": 600, "lower_is_better": True}}
THOUGHTS = (
    "Let me read the question again.", "First, what is given.", "Then, what is asked for.", "I try the simplest case.",
    "That does not fit yet.", "Once more, from the beginning.", "Now it fits.", "I check it against the question.",
)  # fmt: skip
DISCARD_SHARE = 0.05


async def play(environment: RemoteEnvironment, base_url: str, task: Task, said: str, **fields: object) -> Rollout:
    """One episode: the puzzle, what the pretended policy says, what the environment says to it."""
    started = now_iso()
    async with environment.session(task=task) as session:
        messages = [record for message in await session.messages() for record in message_records(message)]
        terminal = (await session.tools()).terminal
        asked = now_iso()
        output = await session.call_terminal(said)
    usage = TokenUsage(output_tokens=len(said) // 4)
    messages.append(MessageRecord(role="assistant", blocks=[TextPart(text=said)], usage=usage, stop_reason="stop"))
    messages.append(result_record(ToolCall(terminal.name if terminal else ""), output, started_at=asked, ended_at=now_iso()))
    spec = dict(task.spec or {})
    record = TaskRecord(id=task_id("reasoning", "train", spec), index=task.index, spec=spec, golden_answer=answer_to(task))
    return Rollout.model_validate(
        {
            "run": "training",
            "environment": EnvironmentRecord(name="reasoning", split="train", origin=base_url),
            "task": record,
            "terminal_tool": terminal_tool_record(terminal),
            "messages": messages,
            "reward": output.reward,
            "final_reward": output.reward,
            "metrics": {"answered": float("<answer>" in said), "length": float(len(said))},
            "status": "completed",
            "stop_reason": "finished",
            "started_at": started,
            "ended_at": now_iso(),
            "usage": usage,
            "metadata": {"ranges": RANGES},
            **fields,
        }
    )


def judge(group: list[Rollout], draw: random.Random) -> None:
    """Give the samples of a group their advantages, and throw away what a trainer would."""
    rewards = [rollout.reward or 0.0 for rollout in group]
    mean, spread = fmean(rewards), pstdev(rewards)
    for rollout, reward in zip(group, rewards, strict=True):
        rollout.advantage = (reward - mean) / spread if spread else 0.0
        late = draw.random() < DISCARD_SHARE
        rollout.discard_reason = "zero_advantage" if not spread else "max_async" if late else None


async def train(base_url: str, output: Path, *, steps: int, tasks: int, samples: int, seed: int) -> int:
    """Play all of it; gives how many rollouts were recorded."""
    draw = random.Random(seed)
    async with Client(base_url=base_url) as client:
        environment = client.environment("reasoning")
        pool = [await environment.task("train", index) for index in draw.sample(range(400), 3 * tasks)]
        with RolloutStore(output) as store:
            for step in range(steps):
                skill = 0.1 + 0.8 * step / max(1, steps - 1)
                for task in draw.sample(pool, tasks):
                    played = [
                        play(
                            environment, base_url, task, say(task, skill, draw), step=step, group=f"{step}-{task.index}",
                            sample=number, name=f"step {step}, task {task.index}, sample {number}",
                            model={"name": "pretended", "checkpoint": f"step-{step}"},
                        )
                        for number in range(samples)
                    ]  # fmt: skip
                    group = list(await asyncio.gather(*played))
                    judge(group, draw)
                    for rollout in group:
                        store.append(rollout)
    return steps * tasks * samples


def say(task: Task, skill: float, draw: random.Random) -> str:
    """What the pretended policy says: with more skill more often what is right, after fewer thoughts."""
    thoughts = draw.choices(THOUGHTS, k=1 + draw.randrange(round(14 - 10 * skill)))
    answer = answer_to(task) if draw.random() < skill else draw.choice(["", "0", "42", "I am not sure"])
    end = f"The answer is <answer>{answer}</answer>." if answer else "I cannot say."
    return f"<think>{' '.join(thoughts)}</think>\n{end}"


def answer_to(task: Task) -> str:
    """The puzzle's own answer."""
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
