"""The official SDK's judges and sandboxes beside this package: rank recorded rollouts, and run a command in a container.

    python examples/judging_and_sandboxes.py

Without a key a rule of this file stands in for the judge's model, and the sandbox is only described. With `CHAT_API_KEY` (or
`OPENAI_API_KEY`) a model judges; with `OPENREWARD_API_KEY` and `--environment OWNER/NAME` the command runs in a sandbox.
Needs the SDK: pip install 'openreward-gym[server]'.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
from pathlib import Path
from typing import Any

from openreward import OpenReward, SandboxSettings
from openreward.chat_backends import resolve_backend
from openreward.chat_backends.base import ChatBackend, ChatCompletion
from openreward.judging import PairwiseJudge, rank_group

from openreward_gym import AssistantMessage, Recorder, RolloutStore, UserMessage

QUESTION = "Why is the sky blue? One sentence."
ANSWERS = [
    "Air scatters short wavelengths of sunlight much more than long ones, and the scattered light reaches us from everywhere.",
    "It reflects the sea.",
    "Because it is.",
]


class LongestAnswer(ChatBackend):  # type: ignore[misc]
    """Stands in for a judge's model: it prefers the longer of two answers."""

    name = "longest-answer"

    async def create(
        self, *, model: str, messages: list[dict[str, Any]], max_completion_tokens: int | None = None, **kwargs: Any
    ) -> ChatCompletion:
        parts = messages[-1]["content"]
        text = parts if isinstance(parts, str) else "\n".join(part["text"] for part in parts)
        first, second = (re.findall(rf"<candidate_{name}>(.*?)</candidate_{name}>", text, re.DOTALL)[-1] for name in "ab")
        winner = "tie" if len(first) == len(second) else "A" if len(first) > len(second) else "B"
        return ChatCompletion(text=f'{{"winner": "{winner}"}}', model=model)


def record(run: str) -> None:
    """Record one rollout per answer, as a loop of one's own does."""
    with Recorder(run) as recorder:
        for number, answer in enumerate(ANSWERS):
            with recorder.rollout(name=f"answer-{number}", prompt=[UserMessage(QUESTION)], group="sky", sample=number) as rollout:
                rollout.log(AssistantMessage(answer), is_finished=True)


async def ranks(run: str, model: str) -> dict[str, float]:
    """Return the share of comparisons that each rollout of a run wins."""
    rollouts = sorted(RolloutStore(run), key=lambda rollout: rollout.sample or 0)
    has_key = any(os.environ.get(name) for name in ("CHAT_API_KEY", "OPENAI_API_KEY"))
    backend = resolve_backend() if has_key else LongestAnswer()
    judge = PairwiseJudge(model=model, backend=backend, principles=["Prefer the answer that explains the cause."])
    scores = await rank_group([rollout.messages[-1].text for rollout in rollouts], judge)
    await backend.aclose()
    return {rollout.name: score for rollout, score in zip(rollouts, scores, strict=True)}


def run_in_sandbox(environment: str, command: str) -> None:
    """Run a command in a container of the platform, or say what is missing for it."""
    settings = SandboxSettings(environment=environment, image="python:3.12-slim", machine_size="0.5:1", block_network=True)
    if not os.environ.get("OPENREWARD_API_KEY"):
        print(f"sandbox: {settings.image}, {settings.machine_size}; set OPENREWARD_API_KEY to run {command!r} in it")
        return
    with OpenReward().sandbox(settings) as sandbox:
        output, code = sandbox.run(command)
    print(f"sandbox: exit code {code}\n{output}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--run", default="runs/judged", help="folder of the run")
    arguments.add_argument("--model", default="gpt-5.2", help="the model that judges")
    arguments.add_argument("--environment", default="GeneralReasoning/CTF", help="environment that the sandbox belongs to")
    options = arguments.parse_args()
    if not Path(options.run).exists():
        record(options.run)
    for name, score in asyncio.run(ranks(options.run, options.model)).items():
        print(f"{name}: wins {score:.0%} of its comparisons")
    run_in_sandbox(options.environment, "python -c 'print(6 * 7)'")


if __name__ == "__main__":
    main()
