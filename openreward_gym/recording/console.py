"""What a log prints while it records: pretty for people, structured for machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable

from openreward_gym.platform.events import message_events
from openreward_gym.types import Json
from openreward_gym.types.rollout import MessageRecord, now_iso

_TITLES = {
    "system_message": "System",
    "user_message": "User",
    "assistant_message": "Assistant",
    "reasoning": "Reasoning",
    "tool_call": "Tool call",
    "tool_result": "Tool result",
}


def echo(rollout_id: str, messages: Iterable[MessageRecord]) -> None:
    """Print messages to the standard output, as `OPENREWARD_ROLLOUT_LOGGING_FORMAT` says: "pretty" (the default) or
    "structured" (a line of JSON each). It is read at every call; any other value prints nothing.
    """
    form = os.environ.get("OPENREWARD_ROLLOUT_LOGGING_FORMAT", "pretty").lower()
    shape = {"pretty": _pretty, "structured": _structured}.get(form)
    if shape is None:
        return
    for message in messages:
        for event in message_events(message):
            sys.stdout.write(shape(rollout_id, event) + "\n")
    sys.stdout.flush()


def _pretty(rollout_id: str, event: dict[str, Json]) -> str:
    title = _TITLES[event["type"]]
    if event["type"] == "tool_call":
        title += f": {event['name']}"
    marks = [event["callId"]] if event.get("callId") else []
    if event.get("reward") is not None:
        marks.append(f"reward {event['reward']:g}")
    if event["isFinished"]:
        marks.append("finished")
    head = f"── {title}{' (' + ', '.join(marks) + ')' if marks else ''} ".ljust(80, "─")
    body = event.get("content") or event.get("summary") or ""
    if event["type"] in ("tool_call", "tool_result"):
        body = _indented(body)
    return _printable(f"{head}\n{body}" if body else head)


def _indented(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, (dict, list)) else text


def _printable(text: str) -> str:
    """Without what a terminal would obey, or could not encode."""
    shown = "".join(char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text)
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _structured(rollout_id: str, event: dict[str, Json]) -> str:
    line = {"event": "rollout_message", "rollout_id": rollout_id, "timestamp": now_iso(), "level": "info", **event}
    return json.dumps({name: value for name, value in line.items() if value is not None})
