"""Deterministic runs for the viewer: a small training with everything that the page can show."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    SystemMessage,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
    task_id,
)

STEPS, GROUPS, SAMPLES = 8, 4, 4
RANGES = {"reward": [0, 1], "format": [0, 1], "repetition": {"min": 0, "max": 1, "lower_is_better": True}}
SYSTEM = "You are a careful assistant with a shell. Think first, then act."
BEGIN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

MARKDOWN = """Here is **what I found**, with $E = mc^2$ and

$$\\int_0^1 x^2\\,dx = \\frac{1}{3}$$

```python
def total(values):
    return sum(values)  # all of them
```

| file | lines |
|---|---|
| a.txt | 3 |
| b.txt | 12 |
"""


def png(width: int = 64, height: int = 40) -> bytes:
    """Return a PNG file of a gradient."""
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in (4 * x % 256, 6 * y % 256, 140)) for y in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def training(folder: Path, *, name: str = "training", seed: int = 0, steps: int = STEPS) -> RolloutStore:
    """Write a run of `steps` steps in which samples improve and some are discarded."""
    draw = random.Random(seed)
    with RolloutStore(folder / name, run=name) as store:
        for step in range(steps):
            for group in range(GROUPS):
                for rollout in _group(draw, name, step, group, steps):
                    store.append(rollout)
    return store


def _group(draw: random.Random, run: str, step: int, group: int, steps: int) -> list[Rollout]:
    skill = 0.2 + 0.7 * step / max(1, steps - 1)
    rewards = [1.0 if draw.random() < skill else draw.choice([0.0, 0.25, 0.5]) for _ in range(SAMPLES)]
    mean = sum(rewards) / len(rewards)
    spread = (sum((r - mean) ** 2 for r in rewards) / len(rewards)) ** 0.5
    rollouts = []
    for sample, reward in enumerate(rewards):
        discard = "zero_advantage" if spread == 0 else "max_async" if step % 3 == 2 and sample == 3 else None
        rollouts.append(
            episode(
                draw, run=run, step=step, group=group, sample=sample, reward=reward,
                advantage=(reward - mean) / spread if spread else 0.0, discard=discard,
            )
        )  # fmt: skip
    return rollouts


def task_spec(group: int) -> dict[str, Any]:
    return {"directory": f"/data/set-{group}", "question": "How many lines are in all the files?"}


def episode(
    draw: random.Random, *, run: str, step: int, group: int, sample: int, reward: float, advantage: float, discard: str | None
) -> Rollout:
    spec = task_spec(group)
    started = BEGIN + timedelta(minutes=step * 7, seconds=group * 20 + sample)
    truncated = sample == 2 and group == 3
    question = f"Task {group}: how many lines are in all the files of /data/set-{group}?"
    messages = [
        SystemMessage(content=[TextBlock(SYSTEM)]),
        UserMessage(content=[TextBlock(question)]),
        *_turns(draw, group, sample, reward, truncated),
    ]
    tokens = sum(m.usage.output_tokens or 0 for m in messages if m.usage)
    return Rollout(
        id=f"{run}-{step}-{group}-{sample}", run=run, name=f"{run} {step}/{group}/{sample}",
        environment=RolloutEnvironment(name="counting", variant="files", split="train", origin="http://127.0.0.1:8080"),
        task=Task(
            id=task_id("counting", "train", spec), index=group, spec=spec, golden_answer=f"{15 + group}" if group != 1 else None
        ),
        group=f"step{step}-task{group}", sample=sample, step=step, advantage=advantage, discard_reason=discard,
        model={"name": "tiny-llm-1b", "type": "training", "checkpoint": f"step-{step}"}, sampling={"temperature": 1.0},
        messages=messages, reward=reward, final_reward=reward,
        metrics={"format": draw.choice([0.0, 1.0, 1.0]), "repetition": round(draw.random() / (1 + step), 3),
                 "entropy": round(2.0 - 0.1 * step + draw.random() / 4, 4), "broken": float("nan") if sample == 0 else None},
        status="truncated" if truncated else "completed", stop_reason="max_steps" if truncated else "finished",
        started_at=started.isoformat(), ended_at=(started + timedelta(seconds=4 + 3 * draw.random())).isoformat(),
        usage=Usage(input_tokens=300 + 40 * sample, output_tokens=tokens), seed=step * 100 + sample,
        metadata={"ranges": RANGES, "trainer": "simulated"},
    )  # fmt: skip


def _turns(draw: random.Random, group: int, sample: int, reward: float, truncated: bool) -> list[Message]:
    def usage() -> Usage:
        return Usage(output_tokens=draw.randrange(30, 400))

    first = AssistantMessage(
        sampled=Sampled(usage(), "tool_calls"),
        content=[
            ReasoningItem(content="I should list the files first, then count their lines."),
            TextBlock("Let me look at both files."),
            ToolCall(call_id="call-b", name="bash", arguments={"command": f"wc -l /data/set-{group}/b.txt"}),
            ToolCall(call_id="call-a", name="bash", arguments={"command": f"wc -l /data/set-{group}/a.txt"}),
        ],
    )  # fmt: skip
    results = [
        ToolMessage(call_id="call-a", name="bash", content=[TextBlock("3 a.txt")], reward=0.0),
        ToolMessage(call_id="call-b", name="bash", content=[TextBlock(f"{12 + group} b.txt")]),
    ]
    if sample == 1:
        results[1] = ToolMessage(call_id="call-b", name="bash", is_error=True, content=[TextBlock("wc: b.txt: No such file")])
    picture = ImageBlock(mime_type="image/png", data=base64.b64encode(png()).decode())
    hidden = ReasoningItem(summary="Weighing two counts.") if sample == 0 else ReasoningItem(content_reference="rs_0123")
    second = AssistantMessage(
        sampled=Sampled(usage(), "tool_calls"),
        content=[hidden, ToolCall(call_id="call-c", name="plot", arguments={"kind": "bar" if sample % 2 else "line"})],
    )  # fmt: skip
    shown = ToolMessage(call_id="call-c", name="plot", content=[TextBlock("A plot:"), picture])
    if truncated:
        return [first, *results, second, shown]
    answer = str(15 + group) if reward == 1.0 else str(draw.randrange(30))
    last = AssistantMessage(
        sampled=Sampled(usage(), "stop"),
        content=[
            TextBlock(f"<think>3 and {12 + group} make {15 + group}.</think>{MARKDOWN}\nThe answer is {answer}."),
            ToolCall(call_id="call-d", name="submit", arguments={"answer": answer}),
        ],
    )  # fmt: skip
    end = ToolMessage(
        call_id="call-d", name="submit", reward=reward, finished=True,
        content=[TextBlock("Right." if reward == 1.0 else "Wrong.")],
    )  # fmt: skip
    return [first, *results, second, shown, last, end]


def simple(identity: str, text: str, **fields: Any) -> Rollout:
    """Return a rollout of one question and the answer `text`."""
    messages = [
        UserMessage(content=[TextBlock("What do you say?")]),
        AssistantMessage(content=[TextBlock(text)]),
    ]
    values: dict[str, Any] = {"status": "completed", "stop_reason": "message", "group": "g", "sample": 0, **fields}
    return Rollout(id=identity, messages=messages, **values)
