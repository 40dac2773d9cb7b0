"""A policy that plays what a file says: for tests, demos and replays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openreward_gym.chat import parse_action
from openreward_gym.errors import ConfigurationError
from openreward_gym.policies.base import Policy, Transcript
from openreward_gym.types import AssistantMessage, Task, ToolCall, ToolSet


def play_steps(steps: Sequence[Any]) -> Policy:
    """The policy that plays `steps` one after the other, whatever it is told; then it says that it is done.

    A step is what `OpenRewardEnv.step` takes: a call, a list of calls, or text.
    """
    messages = [_with_call_ids(parse_action(step), turn) for turn, step in enumerate(steps)]

    async def play(transcript: Transcript, tools: ToolSet) -> AssistantMessage:
        # The prompt may hold assistant turns of its own, as plain Messages; a policy's are AssistantMessages.
        turn = sum(isinstance(message, AssistantMessage) for message in transcript)
        return messages[turn] if turn < len(messages) else AssistantMessage("I am done.")

    return play


def _with_call_ids(message: AssistantMessage, turn: int) -> AssistantMessage:
    blocks: list[Any] = []
    for index, block in enumerate(message.blocks):
        if isinstance(block, ToolCall) and not block.call_id:
            block = ToolCall(block.name, block.arguments, f"call_{turn}_{index}", block.content)
        blocks.append(block)
    return AssistantMessage(blocks, sampled=message.sampled)


class ScriptedPolicy:
    """Plays the steps that a JSONL file has for a task.

    A line is `{"steps": [...], "task_index": 3, "split": "train", "sample": 0}`; without `task_index`, `split` or
    `sample` it stands for all of them. Of several lines that fit, the one that names more wins, then the later one.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = f"scripted:{Path(path).name}"
        self._scripts = _read_scripts(Path(path))
        digest = hashlib.sha256(json.dumps(self._scripts, sort_keys=True).encode())
        self.settings = {"script": digest.hexdigest()}

    def begin(self, task: Task, sample: int, seed: int) -> Policy:
        facts = {"task_index": task.index, "split": task.split, "sample": sample}
        best: tuple[int, Sequence[Any]] | None = None
        for script in self._scripts:
            named = [name for name in facts if name in script]
            if all(script[name] == facts[name] for name in named) and (best is None or len(named) >= best[0]):
                best = (len(named), script["steps"])
        return play_steps(() if best is None else best[1])


def _read_scripts(path: Path) -> list[Mapping[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ConfigurationError(f"cannot read the script {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the script {str(path)!r} is not text in UTF-8: {error}") from None
    scripts: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            script = json.loads(line)
            if not isinstance(script, dict) or not isinstance(script.get("steps"), list):
                raise ValueError('it needs "steps", a list')
            for step in script["steps"]:
                parse_action(step)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{path}, line {number} is no script: {error}") from None
        scripts.append(script)
    return scripts
