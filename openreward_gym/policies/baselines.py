"""Policies without a model: random calls, and scripts read from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openreward_gym.chat import parse_action
from openreward_gym.envs.spaces import ToolCallSpace
from openreward_gym.errors import ConfigurationError
from openreward_gym.policies.policy import Policy, Transcript, with_call_ids
from openreward_gym.types import AssistantMessage, Task, ToolCall, ToolSet

DONE = "I am done."


class RandomPolicy:
    """Calls random tools with random valid arguments, the same for the same seed: for smoke tests, and as a floor for models.

    After `calls` calls it says that it is done, which ends an episode that nothing else has ended.

    Args:
        calls: Largest number of calls per episode.

    Raises:
        ConfigurationError: `calls` is not positive.

    Example:
        >>> from openreward_gym.collect import collect  # doctest: +SKIP
        >>> collect("weather", RandomPolicy(), base_url="http://127.0.0.1:8080")  # doctest: +SKIP
    """

    name = "random"

    def __init__(self, calls: int = 16) -> None:
        if calls < 1:
            raise ConfigurationError(f"the random policy makes at least 1 call, not {calls}")
        self.calls = calls
        self.settings = {"calls": calls}

    def begin(self, task: Task, sample: int, seed: int) -> Policy:
        """Return the policy of one episode."""
        space: ToolCallSpace | None = None

        async def play(transcript: Transcript, tools: ToolSet) -> AssistantMessage:
            nonlocal space
            if not tools.tools:
                return AssistantMessage("I have no tools to call.")
            turn = _turn(transcript)
            if turn >= self.calls:
                return AssistantMessage(DONE)
            if space is None:
                space = ToolCallSpace(tools.tools, tools.terminal, seed=seed)
            call = space.sample()
            return AssistantMessage(tool_calls=[ToolCall(call["name"], call["arguments"], f"call_{turn}")])

        return play


class ScriptedPolicy:
    """Plays the steps that a JSONL file lists for a task: for tests, demos and replays.

    A line is `{"steps": [...], "task_index": 3, "split": "train", "sample": 0}`. A line without `task_index`, `split` or
    `sample` applies to all of them. If several lines apply, the one that names more of the three wins, then the later one.

    Raises:
        ConfigurationError: The file cannot be read, or a line is not a script.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "script.jsonl"
        >>> _ = path.write_text('{"steps": [{"name": "get_weather", "arguments": {"city": "Oslo"}}]}')
        >>> ScriptedPolicy(path).name
        'scripted:script.jsonl'
    """

    def __init__(self, path: str | Path) -> None:
        self.name = f"scripted:{Path(path).name}"
        self._scripts = _read_scripts(Path(path))
        self.settings = {"script": hashlib.sha256(json.dumps(self._scripts, sort_keys=True).encode()).hexdigest()}

    def begin(self, task: Task, sample: int, seed: int) -> Policy:
        """Return the policy that plays the task's script."""
        episode = {"task_index": task.index, "split": task.split, "sample": sample}
        most, steps = 0, []
        for script in self._scripts:
            named = [name for name in episode if name in script]
            if all(script[name] == episode[name] for name in named) and len(named) >= most:
                most, steps = len(named), script["steps"]
        return play_steps(steps)


def play_steps(steps: Sequence[Any]) -> Policy:
    """Return a policy that plays `steps` in order, whatever the environment answers, and then says that it is done.

    Args:
        steps: Actions as `OpenRewardEnv.step` takes them: a call, a list of calls, or text.

    Example:
        >>> import asyncio
        >>> policy = play_steps([{"name": "get_weather", "arguments": {"city": "Oslo"}}])
        >>> asyncio.run(policy((), ToolSet(()))).tool_calls[0].name
        'get_weather'
    """
    messages = [with_call_ids(parse_action(step), f"call_{turn}") for turn, step in enumerate(steps)]

    async def play(transcript: Transcript, tools: ToolSet) -> AssistantMessage:
        turn = _turn(transcript)
        return messages[turn] if turn < len(messages) else AssistantMessage(DONE)

    return play


def _turn(transcript: Transcript) -> int:
    # Assistant turns of the prompt are plain Messages; those of the policy are AssistantMessages.
    return sum(isinstance(message, AssistantMessage) for message in transcript)


def _read_scripts(path: Path) -> list[Mapping[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ConfigurationError(f"cannot read the script {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the script {str(path)!r} is not UTF-8 text: {error}") from None
    scripts: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            script = json.loads(line)
            if not isinstance(script, dict) or not isinstance(script.get("steps"), list):
                raise ValueError('it needs "steps", a list of actions')
            for step in script["steps"]:
                parse_action(step)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{path}, line {number} is not a script: {error}") from None
        scripts.append(script)
    return scripts
