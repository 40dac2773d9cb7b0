"""Removal of personal data from records before they are converted (`ExportOptions.scrub`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from os.path import commonprefix
from typing import Any

from openreward_gym import jsonio
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.options import Scrub
from openreward_gym.export.reader import Annotations, Record, label_names
from openreward_gym.types import (
    Message,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Task,
    TerminalTool,
    Timing,
    ToolSpec,
    Usage,
    blocks,
    text_separator,
)
from openreward_gym.types.codec import codec_of
from openreward_gym.types.rollout import moment_of

PATTERNS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "emails": (
        re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}\b"),
        "[email]",
    ),
    # A number of a country, or at least nine digits in groups, as they are written by hand; no decimal and no date.
    "phones": (
        re.compile(
            r"(?<![\w.+/-])(?:\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}|\(\d{2,5}\)[ .-]?\d{2,5}(?:[ .-]?\d{2,5}){1,3}"
            r"|0\d{1,4}(?:[ /-]\d{2,5}){2,4}|\d{3}([ .-])\d{3}\1\d{4})(?![\w/-]|\.\d)"
        ),
        "[phone]",
    ),
    # Keys of well-known services by their prefixes, JSON web tokens, private keys, and what follows a word for a secret.
    "keys": (
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:(?!-----BEGIN )[\s\S])*?-----END [A-Z ]{0,40}PRIVATE KEY-----"
            r"|\b(?:sk|pk|rk)[-_](?:[A-Za-z]+[-_])*[A-Za-z0-9_-]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
            r"|\bglpat-[\w-]{16,}|\bhf_[A-Za-z0-9]{20,}|\bxox[abprs]-[\w-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}"
            r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}|(?<=[Bb]earer )[\w.~+/-]{16,}=*"
            r"|(?i:(?<=password=)|(?<=api_key=)|(?<=apikey=)|(?<=token=)|(?<=secret=))[^\s&\"'\\,;]{6,}"
        ),
        "[key]",
    ),
}
"""For each kind of personal data, what it looks like, and the text that replaces it."""

_BLOCKS = {"text": blocks.TextBlock, "image": blocks.ImageBlock, "reasoning": blocks.ReasoningItem, "tool_call": blocks.ToolCall}
# The record's own objects and lists of them, by their keys. All others (arguments, metadata, specs) are free JSON.
_OBJECTS: Mapping[str, type[Any]] = {
    "environment": RolloutEnvironment,
    "task": Task,
    "tools": ToolSpec,
    "terminal_tool": TerminalTool,
    "messages": Message,
    "sampled": Sampled,
    "usage": Usage,
    "timing": Timing,
}
# Keys whose values are words of the record, one of a few.
_WORDS = frozenset({"schema", "status", "role", "ended"})
# Keys whose values refer to something: equal ones stay equal, and different ones different.
_REFERENCES = frozenset({"id", "run", "group", "call_id", "name", "variant", "split"})
_MOMENTS = frozenset({"started_at", "ended_at"})
# Keys of lists and objects that spell the old texts, token by token.
_TOKENS = re.compile(r"(?:.*_)?(?:token_ids|log_?probs)")
# Keys of objects that follow each other in a list and are pieces of one text.
_PIECES = ("text", "delta", "token")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]*=*\s*")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


class Scrubber:
    """Replaces personal data in all texts of records, keys of free JSON and names of things included.

    Example:
        >>> Scrubber("emails").text("Write to ada@example.org.")
        'Write to [email].'
    """

    def __init__(self, scrub: Scrub) -> None:
        self._function: Callable[[str], str] | None = scrub if callable(scrub) else None
        kinds = () if scrub is None or callable(scrub) else (scrub,) if isinstance(scrub, str) else scrub
        self._patterns = [PATTERNS[kind] for kind in kinds]
        # The new names of things by their old ones, and the other way round.
        self._names: dict[str, str] = {}
        self._old_names: dict[str, str] = {}

    def text(self, text: str) -> str:
        r"""Return a text without personal data; also without data that stands in it with JSON's escapes (`\u0040`).

        Raises:
            ConfigurationError: The caller's function failed, or did not return a text.
        """
        scrubbed = self._replaced(text)
        if "\\u" in scrubbed:
            plain = _ESCAPE.sub(_character, scrubbed)
            without_escapes = self._replaced(plain)
            if without_escapes != plain:
                return without_escapes
        return scrubbed

    def _replaced(self, text: str) -> str:
        if self._function is not None:
            return self._call(self._function, text)
        for pattern, replacement in self._patterns:
            text = pattern.sub(replacement, text)
        return text

    @staticmethod
    def _call(function: Callable[[str], str], text: str) -> str:
        name = getattr(function, "__qualname__", None) or repr(function)
        try:
            result: object = function(text)
        except Exception as error:
            raise ConfigurationError(f"scrub: the function {name} failed: {error!r}; it is called with every text") from error
        if not isinstance(result, str):
            raise ConfigurationError(
                f"scrub: the function {name} returned {result!r}, not a string; it must return the whole new text, "
                "and a text without personal data unchanged"
            )
        return result

    def name(self, name: str) -> str:
        """Return a name without personal data: the same for the same name, and another one for another name."""
        new = self._names.get(name)
        if new is None:
            text = self.text(name)
            if text == name:
                return name
            new = text
            for number in count(2):
                if new not in self._old_names:
                    break
                new = f"{text}_{number}"
            self._names[name], self._old_names[new] = new, name
        return new

    def annotations(self, record: Record, annotations_of: Callable[[Record], Annotations]) -> Annotations:
        """Return the annotations of a record that was scrubbed, without personal data."""
        annotations = annotations_of({**record, "id": self._old_names.get(record["id"], record["id"])})
        own = {*label_names(record), record.get("discard_reason")}  # of the record, where they were scrubbed
        reason = annotations.discard_reason
        return replace(
            annotations,
            labels=[label if label in own else self.text(label) for label in annotations.labels],
            discard_reason=reason if reason is None or reason in own else self.text(reason),
        )

    def record(self, record: Record) -> Record:
        """Return a record without personal data; the same object if it has none."""
        scrubbed: Record = self._object(record, Rollout)
        return scrubbed if scrubbed is record else _without_tokens(scrubbed)

    def _object(self, value: Any, kind: type[Any] | None) -> Any:
        """Return an object of the record's own, with other texts; the same object if none changes."""
        if not isinstance(value, dict):
            return self._free(value)
        known = codec_of(kind).schemas if kind is not None else {}
        result: dict[str, Any] = {}
        changed = False
        for key, item in value.items():
            new_key = key if key in known or key in ("schema", "type") else self.name(key)
            new = self._field(value, key, item, kind)
            changed |= new is not item or new_key != key
            result[new_key] = new
        return _with_call_text(result) if changed else value

    def _field(self, owner: Record, key: str, value: Any, kind: type[Any] | None) -> Any:
        """Return the value of a field of the record's own."""
        if isinstance(value, str):
            if (key in _WORDS and kind in (Rollout, Message)) or (key == "origin" and kind is Message):
                return value
            if (key == "type" and value in _BLOCKS) or (key in _MOMENTS and moment_of(value) is not None):
                return value
            if kind is blocks.ImageBlock and (key == "sha256" or (key == "data" and _BASE64.fullmatch(value))):
                return value
            new = self.name(value) if key in _REFERENCES else self.text(value)
            return value if new == value else new
        if key == "blocks" and kind is Message and isinstance(value, list):
            return self._blocks(value, text_separator(str(owner.get("role"))))
        if key in _OBJECTS and kind in (Rollout, Message, Sampled):
            own = _OBJECTS[key]
            return (
                _same(value, [self._object(item, own) for item in value]) if isinstance(value, list) else self._object(value, own)
            )
        return self._free(value)

    def _blocks(self, items: list[Any], separator: str) -> list[Any]:
        new = [self._object(item, _BLOCKS.get(str(item.get("type"))) if isinstance(item, dict) else None) for item in items]
        for key, kind, between in (
            ("text", "text", separator),
            ("text", "text", ""),
            ("content", "reasoning", ""),
            ("summary", "reasoning", ""),
        ):
            places = [n for n, item in enumerate(new) if isinstance(item, dict) and item.get("type") == kind]
            new = self._pieces(new, [n for n in places if isinstance(new[n].get(key), str)], key, between)
        return _same(items, new)

    def _pieces(self, items: list[Any], places: Sequence[int], key: str, separator: str) -> list[Any]:
        """Return objects whose texts, read as one, have no personal data: what spans several of them goes to the first."""
        if len(places) < 2:
            return items
        texts = [items[place][key] for place in places]
        old = separator.join(texts)
        new = self.text(old)
        if new == old:
            return items
        start = len(commonprefix([old, new]))  # noqa: RUF071 - these are no paths
        end = len(commonprefix([old[start:][::-1], new[start:][::-1]]))  # noqa: RUF071
        stop, replacement = len(old) - end, new[start : len(new) - end]
        result, position = list(items), 0
        for place, text in zip(places, texts, strict=True):
            before, after = text[: max(0, start - position)], text[max(0, stop - position) :]
            if position + len(text) > start or place == places[-1]:
                before, replacement = before + replacement, ""
            result[place] = {**items[place], key: before + after}
            position += len(text) + len(separator)
        return result

    def _free(self, value: Any) -> Any:
        """Return free JSON with other texts and keys; the same object if none changes."""
        if isinstance(value, str):
            text = self.text(value)
            return value if text == value else text
        if isinstance(value, list):
            items = _same(value, [self._free(item) for item in value])
            for key in _PIECES:
                places = [n for n, item in enumerate(items) if isinstance(item, dict) and isinstance(item.get(key), str)]
                items = self._pieces(items, places, key, "")
            return items
        if isinstance(value, dict):
            new = {self.name(key): self._free(item) for key, item in value.items()}
            return value if new.keys() == value.keys() and all(new[key] is value[key] for key in value) else new
        return value


def _same(old: list[Any], new: list[Any]) -> list[Any]:
    """Return the old list if the new one has the same objects."""
    return old if all(one is other for one, other in zip(old, new, strict=True)) else new


def _with_call_text(block: Record) -> Record:
    """Return a call whose text says the same as its arguments."""
    if block.get("type") != "tool_call" or not isinstance(block.get("content"), str) or not block.get("arguments"):
        return block
    if blocks.ToolCall("", content=block["content"]).arguments == block["arguments"]:
        return block
    return {**block, "content": jsonio.dumps(block["arguments"]).decode()}


def _character(escape: re.Match[str]) -> str:
    """Return the character of an escape of JSON; the escape itself where a text in quotes cannot have the character."""
    code = int(escape[1], 16)
    return escape[0] if code < 32 or chr(code) in '"\\' or 0xD800 <= code < 0xE000 else chr(code)


def _without_tokens(value: Any) -> Any:
    """Return JSON without recorded tokens: they spell the old texts. Arguments and tasks stay as they are."""
    if isinstance(value, dict):
        return {
            key: item if key in ("arguments", "task", "tools") else _without_tokens(item)
            for key, item in value.items()
            if not (_TOKENS.fullmatch(key) and isinstance(item, (list, dict)))
        }
    return list(map(_without_tokens, value)) if isinstance(value, list) else value
