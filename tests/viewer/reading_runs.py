"""Rollouts for the page of one rollout: a long one, and one with its sampled tokens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    Block,
    Message,
    ReasoningItem,
    Rollout,
    Sampled,
    SystemMessage,
    TextBlock,
    Timing,
    ToolCall,
    ToolMessage,
    UserMessage,
)

TURNS = 300
ERRORS = (40, 150, 299)
REWARDS = (90, 300)
BEGIN = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
PROMPT = "Find out why the nightly build fails on the second worker and mend it. " * 6


def long_rollout(identity: str = "long", turns: int = TURNS) -> Rollout:
    """A rollout of many turns of very different heights; a policy second and an environment second each."""
    messages: list[Message] = [SystemMessage("Work in small steps."), UserMessage(PROMPT)]
    moment = BEGIN + timedelta(seconds=2)
    for turn in range(1, turns + 1):
        said = moment + timedelta(seconds=1)
        lines = f"Turn {turn} looks further. " * (1 + turn * 37 % 60)
        call = ToolCall("look", {"at": f"file {turn}"}, call_id=f"c{turn}")
        blocks: list[Block] = [ReasoningItem("Hm."), TextBlock(lines), call, TextBlock("Meanwhile I think.")]
        messages.append(AssistantMessage(blocks, origin="policy", started_at=moment.isoformat(), ended_at=said.isoformat()))
        moment = said + timedelta(seconds=1)
        messages.append(
            ToolMessage(
                "a line\n" * (1 + turn * 53 % 40), call_id=f"c{turn}", name="look", is_error=turn in ERRORS,
                reward=0.5 if turn in REWARDS else None, started_at=said.isoformat(), ended_at=moment.isoformat(),
            )
        )  # fmt: skip
    return Rollout(
        id=identity, run="read", name="nightly-17", group="g", sample=0, messages=messages, status="truncated", reward=1.0,
        stop_reason="max_steps", started_at=BEGIN.isoformat(), ended_at=moment.isoformat(), timing=Timing(2.0, 300.0, 299.0),
        metrics={f"metric {number}": number / 20 for number in range(14)},
    )  # fmt: skip


def sampled_rollout(tokenizer: Any) -> Rollout:
    """A rollout with its tokens. The second turn is not trained; the prompt of the third is not what was sampled before."""

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    def turn(prompt: tuple[int, ...], ids: tuple[int, ...], text: str, **fields: Any) -> Message:
        logprobs = tuple(-0.01 if number % 7 else -5.0 for number in range(len(ids)))
        sampled = Sampled(token_ids=ids, logprobs=logprobs, prompt_token_ids=prompt)
        return AssistantMessage(text, origin="policy", sampled=sampled, **fields)

    texts = "The harbour ⚓ is full.", "Seven ships 🚢.", "Yes."
    ids = [encode(text) for text in texts]
    first = encode("<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n")
    second = first + ids[0] + encode("<|im_end|>\nSure?")
    third = second[:-5] + encode("Really?")
    messages = [
        UserMessage("How many?"), turn(first, ids[0], texts[0]), UserMessage("Sure?", origin="environment"),
        turn(second, ids[1], texts[1], weight=0.0), UserMessage("Really?", origin="environment"), turn(third, ids[2], texts[2]),
    ]  # fmt: skip
    return Rollout(id="sampled", run="read", group="g", sample=1, messages=messages, status="completed", reward=0.0)


def reading_run(folder: Path, tokenizer: Any) -> Path:
    """Write a run with these rollouts, and a short one."""
    with RolloutStore(folder / "read", run="read") as store:
        store.append(long_rollout())
        store.append(sampled_rollout(tokenizer))
        short = long_rollout("short", 41)
        short.group = "other"
        store.append(short)
    return folder / "read"
