"""Random rollout files: lines that were changed, alone and in the folder of a run that is read, exported and reported."""

from __future__ import annotations

import io
import tempfile
import warnings
from contextlib import redirect_stderr
from pathlib import Path
from random import Random
from typing import Any

from hostile import Fuzzer, changed, changed_bytes, dumped, named

from openreward_gym import export
from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolSpec,
    Usage,
    UserMessage,
)

_LINES = 25


def _rollout(number: int) -> dict[str, Any]:
    call = ToolCall("go", {"a": 1}, "c1")
    messages = [
        UserMessage([TextBlock("Where?"), ImageBlock("iVBORw0KGgo=")]),
        AssistantMessage(
            [ReasoningItem("hm"), TextBlock("There."), call],
            sampled=Sampled(usage=Usage(input_tokens=3, output_tokens=2), token_ids=(1, 2), logprobs=(-0.5, -0.25), model="m"),
        ),
        ToolMessage([TextBlock("ok")], "c1", "go", reward=0.5, finished=True),
    ]
    return Rollout(
        id=f"r{number}",
        run="run",
        environment=RolloutEnvironment(name="weather", split="train"),
        task=Task(id="t0", index=0),
        group="g",
        messages=messages,
        tools=[ToolSpec("go", "Go.", {"type": "object", "properties": {"a": {"type": "integer"}}})],
        reward=0.5,
        status="completed",
    ).to_dict()


ROLLOUT = _rollout(0)


def _line(random: Random, number: int) -> bytes:
    record = changed(random, {**ROLLOUT, "id": f"r{number}"})
    line = dumped(record).encode()
    return changed_bytes(random, line, 2).replace(b"\n", b" ") if random.random() < 0.4 else line


def make_line(random: Random) -> bytes:
    return _line(random, 0)


def check_line(line: bytes) -> None:
    """A line is a rollout that can be written again, or a RecordError."""
    rollout = named(lambda: Rollout.from_line(line))
    if rollout is not None:
        written = named(rollout.to_line)
        assert written is None or Rollout.from_line(written).to_line() == written


def make_file(random: Random) -> tuple[bytes, str]:
    lines = b"\n".join(_line(random, number) for number in range(_LINES)) + random.choice((b"\n", b"", b"\n\n", b"\x00"))
    return lines, random.choice(("sft", "preference", "openai"))


def check_file(case: tuple[bytes, str]) -> None:
    """A file is read to its end, and each rollout is exported or left out."""
    lines, form = case
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        run = Path(folder) / "run"
        (run / "rollouts").mkdir(parents=True)
        (run / "rollouts" / "20260101T000000-host-1-00000000.jsonl").write_bytes(lines)
        store = RolloutStore(run)
        for place in range(named(lambda: len(store)) or 0):
            named(lambda place=place: store[place])  # type: ignore[misc]
        named(lambda: export.write(run, Path(folder) / "out", [form]))


FUZZERS = [
    Fuzzer("lines of rollouts", make_line, check_line, 400),
    Fuzzer("files of rollouts", make_file, check_file, 25_000, inputs=_LINES),
]
