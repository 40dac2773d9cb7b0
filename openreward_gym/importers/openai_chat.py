"""Chats as OpenAI's fine-tuning takes them: a line with `messages`, and `tools` where there are some."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from openreward_gym.chat.completions import from_openai
from openreward_gym.importers.jsonl import read_lines
from openreward_gym.store.damage import Damage
from openreward_gym.types import Json
from openreward_gym.types.conversion import message_records, total_reward
from openreward_gym.types.rollout import Rollout, ToolRecord

_OWN = ("messages", "tools", "functions", "reward")


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """The chats of a file. A `reward` is the last message's; other fields go to `metadata`.

    Raises:
        StoreError: The file cannot be read.
    """
    return read_lines(path, rollout_of)


def rollout_of(row: Mapping[str, Json], identity: str) -> Rollout:
    """One line's rollout.

    Raises:
        ValueError: It has no messages, or one that is none.
    """
    if not isinstance(row.get("messages"), list) or not row["messages"]:
        raise ValueError('no "messages": this is not a line of OpenAI\'s chat format')
    records = [record for message in from_openai(row["messages"]) for record in message_records(message)]
    if row.get("reward") is not None:
        records[-1].reward = float(row["reward"])
    reward, final_reward = total_reward(record.reward for record in records)
    rest = {name: value for name, value in row.items() if name not in _OWN}
    tools = [*(row.get("tools") or ()), *({"function": function} for function in row.get("functions") or ())]
    return Rollout(
        id=identity,
        tools=[tool_of(tool) for tool in tools] or None,
        messages=records,
        reward=reward,
        final_reward=final_reward,
        status="completed",
        stop_reason="message" if records[-1].role == "assistant" else "",
        metadata=rest or None,
    )


def tool_of(tool: Mapping[str, Json]) -> ToolRecord:
    """A tool as chat completions name it: `{"type": "function", "function": {...}}`, or the function alone."""
    function = tool.get("function") or tool.get("custom") or tool
    return ToolRecord(
        name=function["name"], description=function.get("description") or "", input_schema=function.get("parameters")
    )
