"""Groups of rollouts of one task, compared by the environment: what is sent and what comes back. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openreward_gym.errors import ConfigurationError
from openreward_gym.protocol.wire import dumps, encode_messages, expected
from openreward_gym.types import Json, Message, ToolSet

__all__ = ["GroupCandidate", "GroupScore", "encode_group", "read_scores", "refused_blocks"]


@dataclass(frozen=True, slots=True)
class GroupCandidate:
    """One rollout of a group to be compared. `metadata` is the caller's own and comes back to nobody but the environment."""

    messages: Sequence[Message]
    metadata: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class GroupScore:
    """The comparative reward of one candidate."""

    reward: float
    metadata: Json = None


def encode_group(group: Sequence[GroupCandidate]) -> bytes:
    """The body of `/score_group`.

    Raises:
        ConfigurationError: It has no JSON form.
    """
    body = [{"messages": encode_messages(entry.messages), "metadata": entry.metadata} for entry in group]
    try:
        return dumps({"candidates": body})
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise ConfigurationError(f"the group is not JSON: {problem}")


def refused_blocks(group: Sequence[GroupCandidate], tools: ToolSet) -> set[str]:
    """The types of blocks in `group` that the server does not take; one that says nothing takes text and images."""
    used = {block.type for entry in group for message in entry.messages for block in message.blocks}
    return used - set(tools.message_block_types or ("text", "image"))


def read_scores(value: Json, count: int) -> list[GroupScore]:
    """The answer of `/score_group`.

    Raises:
        ProtocolError: It is not as many scores as there were candidates.
    """
    raw = value.get("scores") if isinstance(value, dict) else None
    if not isinstance(raw, list) or len(raw) != count:
        raise expected(f"{count} scores", got=value)
    scores: list[GroupScore] = []
    for entry in raw:
        reward = entry.get("reward") if isinstance(entry, dict) else None
        if isinstance(reward, bool) or not isinstance(reward, int | float):
            raise expected("a score with a reward", got=entry)
        scores.append(GroupScore(float(reward), entry.get("metadata")))
    return scores
