"""Messages on the standard output as they are logged: for people, or as lines of JSON. The forms are the official client's."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from itertools import chain

from openreward_gym.jsonio import Json, finite
from openreward_gym.platform.events import message_events
from openreward_gym.redaction import RecordRedactor
from openreward_gym.types import Message
from openreward_gym.types.rollout import now_iso
from openreward_gym.variables import rollout_logging_format

_WIDTH = 80
_BOLD, _DIM, _BLUE, _GREEN, _YELLOW, _CYAN = "1", "2", "34", "32", "33", "36"
# The symbol, the title and the styles of the events that have nothing else in their title.
_TITLES = {
    "reasoning": ("💭 Reasoning", (_BOLD, _DIM)),
    "assistant_message": ("🤖 Assistant", (_BOLD, _BLUE)),
    "user_message": ("👤 User", (_BOLD,)),
    "system_message": ("⚙ System", (_DIM,)),
}


def print_messages(rollout_id: str, messages: Iterable[Message], redactor: RecordRedactor | None = None) -> None:
    """Print messages to the standard output, in the format of `OPENREWARD_ROLLOUT_LOGGING_FORMAT`, read at every call.

    What `redactor` cuts out of records is not printed either. The formats are "pretty" and "structured", one line of JSON per
    event.

    Raises:
        ConfigurationError: There is no format of that name.
    """
    form = rollout_logging_format()
    styles = _Styles(form == "pretty" and uses_colour())
    for event in chain.from_iterable(map(message_events, messages)):
        if redactor is not None and not redactor.is_empty:
            event = redactor.free(event)
        text = styles.shown(event) if form == "pretty" else _structured(rollout_id, event)
        sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_start(rollout_id: str, url: str) -> None:
    """Print the address of a rollout that begins: a line of JSON, or a line on the standard error."""
    if rollout_logging_format() == "structured":
        started = {"event": "rollout_started", "rollout_id": rollout_id, "url": url, "timestamp": now_iso(), "level": "info"}
        sys.stdout.write(json.dumps(started) + "\n")
        sys.stdout.flush()
    else:
        sys.stderr.write(f"Recording rollout {url}\n")


def uses_colour() -> bool:
    """Return whether the standard output is a terminal that shows colours, and `NO_COLOR` does not forbid them."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and sys.stdout.isatty()


class _Styles:
    """Writes events for people, with or without colours."""

    def __init__(self, with_colour: bool) -> None:
        self._with_colour = with_colour

    def _styled(self, text: str, *codes: str) -> str:
        return f"\033[{';'.join(codes)}m{text}\033[0m" if self._with_colour and text else text

    def shown(self, event: dict[str, Json]) -> str:
        """Return an event: a title between two lines, and its text."""
        rule = self._styled("─" * _WIDTH, _DIM)
        kind = event["type"]
        if kind in _TITLES:
            title, codes = _TITLES[kind]
            text = event.get("content") or ""
            if kind == "reasoning":
                text = event.get("summary") or text
            dims = (_DIM,) if kind in ("reasoning", "system_message") else ()
            # The official client indents the reasoning and puts an empty line before each text.
            body = f"\n{'  ' if kind == 'reasoning' else ''}{self._styled(_printable(text), *dims)}\n" if text else ""
            return f"{rule}\n{self._styled(title, *codes)}\n{rule}\n{body}"
        title = self._call_title(event) if kind == "tool_call" else self._result_title(event)
        body = _printable(_indented(event.get("content") or ""))
        return f"{rule}\n{title}\n{rule}\n" + (f"{body}\n" if body else "")

    def _call_title(self, event: dict[str, Json]) -> str:
        name, call_id = _on_one_line(event["name"]), self._styled(f"(call_id: {_on_one_line(event.get('callId'))})", _DIM)
        return f"{self._styled('⚡ Tool Call:', _YELLOW)} {self._styled(name, _BOLD)}  {call_id}"

    def _result_title(self, event: dict[str, Json]) -> str:
        state = self._styled("✓ done", _GREEN) if event["isFinished"] else self._styled("… continuing", _CYAN)
        reward = event.get("reward")
        earned = "" if reward is None else "  " + self._styled(f"reward={reward}", _DIM)
        call_id = self._styled(f"(call_id: {_on_one_line(event.get('callId'))})", _DIM)
        return f"{self._styled('↩ Tool Result:', _GREEN)}  {call_id}  [{state}{earned}]"


def _indented(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, (dict, list)) else text


def _on_one_line(text: Json) -> str:
    return " ".join(_printable(str(text)).split())


def _printable(text: str) -> str:
    """Return `text` with escapes in place of control characters and of characters that the terminal cannot encode."""
    shown = "".join(char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text)
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _structured(rollout_id: str, event: dict[str, Json]) -> str:
    """Return an event as a line of JSON: the official client's keys, always, and what else the event has."""
    known = {
        "rollout_id": rollout_id,
        "type": event["type"],
        "name": event.get("name"),
        "call_id": event.get("callId"),
        "summary": event.get("summary"),
        "reward": event.get("reward"),
        "isFinished": event["isFinished"],
    }
    more = {name: event[name] for name in ("content", "contentReference", "metadata") if event.get(name)}
    return json.dumps(finite({**known, **more, "event": "rollout_message", "timestamp": now_iso(), "level": "info"}))
