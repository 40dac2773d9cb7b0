"""Chats in the format of OpenAI's fine-tuning: a line with `messages`, and with `tools` if there are any.

Origin: assistant messages are the policy's, with the `weight` that the file gives them. Messages before the first of them
are given; those after it are the environment's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from openreward_gym.chat import from_openai
from openreward_gym.importers.jsonl import GroupBy, read_lines, tool_of
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import Rollout, with_origins
from openreward_gym.types.rollout import total_reward

_OWN = ("messages", "tools", "functions", "reward")


def read(path: str | os.PathLike[str], group_by: GroupBy | None = None) -> Iterator[Rollout | Damage]:
    """Yield the chats of a file. A `reward` is the last message's; other fields go to `metadata`."""
    return read_lines(path, rollout_of, group_by)


def rollout_of(row: Mapping[str, Json], identity: str) -> Rollout:
    """Return the rollout of one line; raise ValueError for a line without messages, or with one that is not a chat message."""
    if not isinstance(row.get("messages"), list) or not row["messages"]:
        raise ValueError('no "messages": this is not a line of OpenAI\'s chat format')
    messages = with_origins(from_openai(row["messages"]))
    if row.get("reward") is not None:
        messages[-1] = messages[-1].replace(reward=float(row["reward"]))
    reward, final_reward = total_reward(messages)
    tools = [*(row.get("tools") or ()), *({"function": function} for function in row.get("functions") or ())]
    return Rollout(
        id=identity,
        tools=[tool_of(tool) for tool in tools] or None,
        messages=messages,
        reward=reward,
        final_reward=final_reward,
        status="completed",
        stop_reason="message" if messages[-1].role == "assistant" else "",
        metadata={name: value for name, value in row.items() if name not in _OWN} or None,
    )
