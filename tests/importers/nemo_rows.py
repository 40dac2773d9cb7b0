"""Rollouts of every kind that a row of NeMo Gym has to hold, and the faults that such rows must not have."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from typing import Any

from openreward_gym.importers import nemo_gym
from openreward_gym.jsonio import dumps, loads
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolSpec,
    Usage,
    UserMessage,
)

PICTURE = ImageBlock(base64.b64encode(b"GIF89a\x01\x00\x01\x00").decode(), "image/gif")
TOKENS = Sampled(token_ids=(5, 6), logprobs=(-0.5, -0.25), prompt_token_ids=(1, 2))
DIG = ToolSpec("dig", "Dig a hole.", {"type": "object", "properties": {"depth": {"type": "integer"}}})


def said(text: str = "", *calls: ToolCall, **fields: Any) -> Message:
    return AssistantMessage(text, list(calls), origin="policy", **fields)


def parts(*blocks: Any, **fields: Any) -> Message:
    return AssistantMessage(list(blocks), origin="policy", **fields)


def told(content: Any, call_id: str | None = None, **fields: Any) -> Message:
    return ToolMessage(content, call_id, origin="environment", **fields)


def user(content: Any = "Dig.", **fields: Any) -> Message:
    return UserMessage(content, **{"origin": "given", **fields})


def call(call_id: str = "", name: str = "dig", **fields: Any) -> ToolCall:
    return ToolCall(name, fields.pop("arguments", {"depth": 3}), call_id, extra=fields)


def rollout(*messages: Message, **fields: Any) -> Rollout:
    defaults = {
        "status": "completed",
        "stop_reason": "finished",
        "environment": RolloutEnvironment("garden", split="train"),
        "task": Task("train", 3, None, "garden-3"),
        "group": "garden-3",
        "sample": 1,
        "tools": [DIG],
        "reward": 1.0,
        "final_reward": 1.0,
    }
    record = Rollout(messages=list(messages), **{**defaults, **fields})
    return Rollout.from_line(record.to_line())


def _developer(text: str) -> Message:
    return Message("system", (TextBlock(text),), origin="given", metadata={"role": "developer"})


KINDS: Mapping[str, Rollout] = {
    "text": rollout(user(), said("Dug.", ended="stop")),
    "developer": rollout(_developer("Be brief."), user(), said("Dug.")),
    "reasoning": rollout(user(), parts(ReasoningItem("Stone."), TextBlock("Dug."))),
    "summary": rollout(user(), parts(ReasoningItem(summary="Stone", content_reference="rs_1"), TextBlock("Dug."))),
    "hidden reasoning": rollout(user(), parts(ReasoningItem(), ReasoningItem(signature="s"), TextBlock("Dug."))),
    "calls": rollout(user(), said("", call("a")), told("3 m", "a"), said("", call("b")), told("6 m", "b"), said("Dug.")),
    "parallel calls": rollout(user(), said("Both.", call("a"), call("b")), told("6 m", "b"), told("3 m", "a"), said("Dug.")),
    "calls without ids": rollout(user(), said("", call(), call()), told("3 m"), told("6 m"), said("Dug.")),
    "ids again": rollout(user(), said("", call("a")), told("3 m", "a"), said("", call("a")), told("6 m", "a"), said("Dug.")),
    "ids again at once": rollout(user(), said("", call("a"), call("a")), told("3 m", "a"), told("6 m", "a"), said("Dug.")),
    "item ids again": rollout(
        user(), *[parts(TextBlock("One.", extra={"openai": {"item": {"id": "msg_1", "status": "completed"}}}))] * 2
    ),
    "empty ids": rollout(user(), parts(TextBlock("One.", extra={"openai": {"item": {"id": "", "status": None}}}))),
    "malformed call": rollout(
        user(), said("", ToolCall("dig", content='{"depth":', call_id="a")), told("no", "a", is_error=True)
    ),
    "custom call": rollout(
        user(),
        said("", ToolCall("patch", content="*** Begin", call_id="a", extra={"openai": {"type": "custom_tool_call"}})),
        told("done", "a", metadata={"openai": {"type": "custom_tool_call_output", "id": "ctco_1"}}),
        said("Patched."),
    ),
    "call without result": rollout(user(), said("", call("a"), call("b")), told("3 m", "a"), status="truncated"),
    "call at the end": rollout(user(), said("", call("a"))),
    "result without call": rollout(user(), said("I look."), told("3 m", "zz"), said("Dug."), told("6 m", "zz")),
    "given result without call": rollout(user(), told("3 m", "zz").replace(origin="given"), said("Dug.")),
    "result before its call": rollout(user(), said("Wait."), told("3 m", "a"), said("", call("a"))),
    "results in a turn": rollout(user(), parts(call("a"), ToolResult("3 m", "a"), ToolResult("?", "zz"), TextBlock("Dug."))),
    "verdict": rollout(user(), said("Dug."), told("graded", reward=1.0, finished=True)),
    "verdict after an open call": rollout(user(), said("", call("a")), said("Dug."), told("graded", "", finished=True)),
    "several users": rollout(user(), said("How deep?"), user("3 m.", origin="environment"), said("Dug.")),
    "verdicts": rollout(user(), said("2"), told("wrong", reward=0.0), said("3"), told("right", reward=1.0, finished=True)),
    "given turns": rollout(user("Hi."), AssistantMessage("Hello.", origin="given"), user(), said("Dug.")),
    "given calls": rollout(
        user(), AssistantMessage("", [call("a")], origin="given"), told("3 m", "a").replace(origin="given"), said("Dug.")
    ),
    "refusal": rollout(user(), parts(TextBlock("I cannot.", extra={"openai": {"type": "refusal"}}), ended="refusal")),
    "image": rollout(user([TextBlock("What?"), PICTURE]), said("A dot.")),
    "image with words of its own": rollout(
        user([ImageBlock(PICTURE.data, "image/gif", extra={"openai": {"detail": "original"}})]), said("A dot.")
    ),
    "image of the assistant": rollout(user(), parts(TextBlock("See:"), PICTURE)),
    "image in a result": rollout(user(), said("", call("a")), told([TextBlock("See:"), PICTURE], "a"), said("A dot.")),
    "texts in a result": rollout(user(), said("", call("a")), told([TextBlock("One."), TextBlock("Two.")], "a"), said("Dug.")),
    "empty result": rollout(user(), said("", call("a")), told("", "a"), said("Dug.")),
    "unknown parts": rollout(user([OpaqueBlock({"type": "audio", "x": 1})]), parts(OpaqueBlock({"type": "thing", "id": "t"}))),
    "empty answer": rollout(user(), said("", ended="stop"), status="truncated", stop_reason="no_action", reward=None),
    "empty answer with tokens": rollout(user(), said("", ended="stop", sampled=TOKENS)),
    "no turn": rollout(user(), status="error", stop_reason="session_lost", error="the server went away", reward=None),
    "no messages": rollout(status="cancelled", stop_reason="cancelled", reward=None),
    "failed turn": rollout(user(), said("", ended="error"), status="error", error="502 from the model server", reward=None),
    "cut off": rollout(user(), said("Du", ended="length"), status="truncated", stop_reason="length"),
    "window full": rollout(user(), said("", ended="context_overflow"), status="truncated", stop_reason="context_overflow"),
    "token limit": rollout(user(), said("Dug."), status="truncated", stop_reason="max_tokens"),
    "filtered": rollout(user(), said("", ended="content_filter"), status="truncated", stop_reason="content_filter"),
    "step limit": rollout(
        user(), said("", call("a")), told("3 m", "a"), status="truncated", stop_reason="max_steps", reward=None
    ),
    "tokens": rollout(user(), said("", call("a"), call("b"), sampled=TOKENS), told("3 m", "a"), said("Dug.", sampled=TOKENS)),
    "tokens without numbers": rollout(user(), said("Dug.", sampled=Sampled(token_ids=(5, 6), prompt_token_ids=(1,)))),
    "tokens that do not fit": rollout(
        user(), said("Dug.", sampled=Sampled(token_ids=(5,), logprobs=(-0.5, -1.0), prompt_token_ids=(1,)))
    ),
    "usage": rollout(user(), said("Dug."), usage=Usage(10, 4, 2, 1)),
    "usage in part": rollout(user(), said("Dug."), usage=Usage(10)),
    "usage without details": rollout(user(), said("Dug."), usage=Usage(10, 4)),
    "annotations": rollout(
        user(), parts(TextBlock("Dug.", extra={"openai": {"annotations": [{"type": "note"}, 3], "logprobs": [{"token": "D"}]}}))
    ),
    "surrogates": rollout(user("\ud800"), said("\udfff", call("\ud800", "\ud801")), told("\ud802", "\ud800")),
    "infinite reward": rollout(user(), said("Dug."), reward=float("inf")),
    "no number": rollout(user(), said("Dug."), reward=float("nan")),
}

WITH_IMAGE_IN_RESULT = ("image in a result",)
"""Kinds that NeMo Gym's types before version 0.5 have no place for: outputs of calls were text."""

WITH_USER_IN_OUTPUT = ("several users", "verdicts", "result without call", "result before its call")
"""Kinds whose response has messages of the user, as NeMo Gym's own have; OpenAI's `Response` has no such item."""


def written(record: Rollout) -> dict[str, Any]:
    """Return the row of a rollout as it is read from its line."""
    row: dict[str, Any] = loads(dumps(nemo_gym.row_of(record), non_finite="text"))
    return row


def faults(row: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the items of a row: outputs without a call, ids that are empty or do not tell items apart."""
    given = row["responses_create_params"]["input"]
    items = [*(given if isinstance(given, list) else []), *row["response"]["output"]]
    found: list[str] = []
    waiting: set[str] = set()
    for item in items:
        call_id = item.get("call_id")
        if item["type"] == "function_call":
            found += [f"the call id {call_id!r} is empty or that of a waiting call"] if not call_id or call_id in waiting else []
            waiting.add(call_id)
        elif item["type"] == "function_call_output":
            found += [] if call_id in waiting else [f"the output {call_id!r} answers no waiting call"]
            waiting.discard(call_id)
    ids = Counter(item["id"] for item in items if "id" in item)
    return found + [f"{count} times the id {value!r}" for value, count in ids.items() if count > 1 or not value]


def has_user(row: Mapping[str, Any]) -> bool:
    """Return whether the response has a message of the user."""
    return any(item.get("role") in ("user", "system", "developer") for item in row["response"]["output"])
