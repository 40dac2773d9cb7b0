"""The token ids of a turn, from the graph of messages that verifiers keeps while it samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from openreward_gym.types import Sampled


def sampled_of(trace: Any, sampled: Sampled | None) -> Sampled | None:
    """Return the report on the last sampled turn of a trace, with the ids and log-probabilities that its client tracks.

    verifiers stores the tokens of each message once: the ids of a turn are those that its mask marks, and its prompt is all that
    is before them on the path to the turn. The evaluator's client has no ids, so that the report stays as it is.

    Args:
        trace: The trace of a rollout, just after a turn was sampled.
        sampled: What the completion says of the turn.
    """
    position = trace.calls[-1].node if trace.calls else None
    if position is None or not trace.nodes[position].token_ids:
        return sampled
    node = trace.nodes[position]
    size = sum(node.mask)
    first = len(node.token_ids) - size
    if not size or not all(node.mask[first:]):
        return sampled
    before: list[list[int]] = []
    parent = node.parent
    while parent is not None:
        before.append(trace.nodes[parent].token_ids)
        parent = trace.nodes[parent].parent
    prompt = [token for ids in reversed(before) for token in ids]
    logprobs = tuple(node.logprobs) if len(node.logprobs) == size else None
    return replace(
        sampled or Sampled(),
        token_ids=tuple(node.token_ids[first:]),
        logprobs=logprobs,
        prompt_token_ids=(*prompt, *node.token_ids[:first]),
    )
