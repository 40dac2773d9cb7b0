"""Secrets that an environment prints are cut out of records before these are written."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

from openreward_gym import jsonio
from openreward_gym.credentials import revealed, sealed
from openreward_gym.errors import ConfigurationError
from openreward_gym.types import (
    Message,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Task,
    TerminalTool,
    ToolSpec,
    blocks,
)
from openreward_gym.types.codec import codec_of
from openreward_gym.types.rollout import line_of

__all__ = ["PATTERN", "SHORTEST_OWN", "RecordRedactor", "encodings_of"]

SHORTEST = 4
"""Characters of the shortest value that is cut out: shorter ones occur in ordinary words."""
SHORTEST_OWN = 8
"""The same for secrets that are cut out without being named."""
PATTERN = "pattern"
"""The name under which matches of patterns are counted."""

_SHORTEST_ENCODED = 6
_SHORTEST_LINE = 16
_BASE64 = "[A-Za-z0-9+/_-]"
# Texts of the record's own that are one of a few words, name something that was stored, or are checked against each other.
_STRUCTURE = frozenset({"schema", "status", "role", "ended", "origin", "type", "started_at", "ended_at", "id", "run", "sha256"})
# A pattern may match parts of names by chance. Units of a run are found again by their group.
_REFERENCES = frozenset({"group", "call_id"})
_OBJECTS: Mapping[str, type[Any]] = {
    "messages": Message,
    "sampled": Sampled,
    "environment": RolloutEnvironment,
    "task": Task,
    "tools": ToolSpec,
    "terminal_tool": TerminalTool,
}
_BLOCKS: Mapping[str, type[Any]] = {
    "text": blocks.TextBlock,
    "image": blocks.ImageBlock,
    "reasoning": blocks.ReasoningItem,
    "tool_call": blocks.ToolCall,
    "tool_result": blocks.ToolResult,
}
# Numbers that JSON cannot write, as they are written.
_NOT_FINITE = ("nan", "inf", "-inf")
_NUMBERS = frozenset({"usage", "timing", "metrics", "redacted"})
_TOKENS = re.compile(r"(?:.*_)?(?:token_ids|log_?probs)")
_TOKEN_KEY = re.compile(r'(?:token_ids|log_?probs)"')


def encodings_of(secret: str) -> dict[str, tuple[str, str]]:
    """Return the forms in which a text may stand in another one: form -> patterns of what belongs to it on both sides.

    The forms are the text itself, with the escapes of JSON (once and twice), of URLs and of HTML, in hexadecimal digits, and in
    base64, in which its position decides between three forms.

    Example:
        >>> forms = encodings_of("key-1234")
        >>> "key-1234" in forms, "6b65792d31323334" in forms, "a2V5LTEyMz" in forms
        (True, True, True)
    """
    data = secret.encode("utf-8", "surrogatepass")
    forms: dict[str, tuple[str, str]] = {secret: ("", "")}
    for ensure_ascii in (True, False):
        once = json.dumps(secret, ensure_ascii=ensure_ascii)[1:-1]
        twice = json.dumps(once, ensure_ascii=ensure_ascii)[1:-1]
        forms |= dict.fromkeys((once, once.replace("/", "\\/"), twice, repr(secret)[1:-1]), ("", ""))
    quoted = [quote(data, safe=""), quote(data), quote_plus(data)]
    percent = "".join(f"%{byte:02x}" for byte in data)
    quoted += [re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), text) for text in quoted]
    escaped = "".join(f"\\x{byte:02x}" for byte in data), "".join(f"\\u{ord(char):04x}" for char in secret)
    texts = [*quoted, percent, percent.upper(), *escaped, html.escape(secret), html.escape(secret, quote=False)]
    texts += [data.hex(), data.hex().upper(), data.hex(":"), data.hex(" "), data.hex(" ").upper()]
    forms |= {text: ("", "") for text in texts if len(text) >= _SHORTEST_ENCODED or text == secret}
    for offset in range(3):
        # Characters of base64 that hold bits of the secret alone; their neighbours hold some bits of it as well.
        first, last = -(-8 * offset // 6), 8 * (offset + len(data)) // 6
        before = f"{_BASE64}?" if offset else ""
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            form = encode(b"\0" * offset + data).decode("ascii")[first:last]
            if len(form) >= _SHORTEST_ENCODED or (not offset and len(form) >= 5):
                forms.setdefault(form, (before, f"(?:{_BASE64}?={{1,2}}|{_BASE64})?"))
    return forms


class RecordRedactor:
    """Cuts secrets and matches of patterns out of records, and counts the places.

    `[redacted NAME]` stands in the place of a secret, with the name of its variable, and `[redacted pattern]` in that of a match.
    Texts, names and keys of free data are searched, and whole numbers; images are not looked into.

    Args:
        names: Names of environment variables that hold secrets.
        patterns: Regular expressions. They apply to each text by itself.
        own: Names of variables whose values are credentials of the run itself; unset and short ones are ignored.
        texts: Further credentials, by the name that the mark shows.

    Raises:
        ConfigurationError: A variable is not set or its value is too short, or a pattern is wrong or matches an empty text.

    Example:
        >>> os.environ["DOCTEST_TOKEN"] = "tk-12345678"
        >>> RecordRedactor(["DOCTEST_TOKEN"]).text("Authorization: Bearer tk-12345678")
        'Authorization: Bearer [redacted DOCTEST_TOKEN]'
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        patterns: Iterable[str] = (),
        *,
        own: Iterable[str] = (),
        texts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._arguments = (tuple(names), tuple(patterns), tuple(own), dict(texts or {}))
        self._patterns = [check_pattern(pattern) for pattern in self._arguments[1]]
        values: dict[str, str] = {}
        for name in self._arguments[0]:
            values.setdefault(secret_of(name), name)
        for name in self._arguments[2]:
            value = os.environ.get(name, "").strip()
            if len(value) >= SHORTEST_OWN:
                values.setdefault(value, name)
        for name, further in self._arguments[3].items():
            for value in further:
                values.setdefault(value, name)
        self._digits = {value: name for value, name in values.items() if value.isascii() and value.isdigit()}
        forms: dict[str, tuple[str, tuple[str, str]]] = {}
        for value, name in values.items():
            lines = [line.strip() for line in value.splitlines()]
            for part in (value, *(line for line in lines if len(lines) > 1 and len(line) >= _SHORTEST_LINE)):
                for form, around in encodings_of(part).items():
                    forms.setdefault(form, (name, around))
        # The longest first, so that no part of a longer secret stays.
        ordered = sorted(forms.items(), key=lambda item: len(item[0]), reverse=True)
        self._forms = [(form, name, _compiled(form, around)) for form, (name, around) in ordered]
        in_lines = {json.dumps(form, ensure_ascii=ascii_only)[1:-1] for form in forms for ascii_only in (True, False)}
        self._in_lines = tuple(sorted(in_lines, key=len))

    def __reduce__(self) -> tuple[Any, ...]:
        names, patterns, own, texts = self._arguments
        return (_restored, (names, patterns, own, sealed(texts, all_of_it=True)))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to cut out."""
        return not self._forms and not self._patterns

    def may_change(self, line: str) -> bool:
        """Return whether a record may hold what is cut out, from its line of JSON: much faster than `record`."""
        return bool(self._patterns) or any(form in line for form in self._in_lines)

    def text(self, text: str) -> str:
        """Return a text without secrets and matches of patterns."""
        return self._text(text, Counter(), patterns=True)

    def rollout(self, rollout: Rollout) -> Rollout:
        """Return a rollout without secrets; the same object if it has none."""
        record = rollout.to_dict()
        if not self.may_change(line_of(record)):
            return rollout
        redacted = self.record(record)
        return rollout if redacted is record else Rollout.from_dict(redacted)

    def record(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return a rollout's record without secrets; the same object if it has none.

        A message of the policy that loses a text gets the weight 0, because the model wrote another one. Recorded tokens spell
        the texts, so a record that loses one loses all its tokens. Its `redacted` counts the places by name.
        """
        counts: Counter[str] = Counter()
        result: dict[str, Any] = self._object(record, Rollout, counts)
        if not counts:
            return record
        result = without_tokens(result)
        before = record.get("redacted")
        for name, count in (before if isinstance(before, Mapping) else {}).items():
            counts[name] += count
        return {**result, "redacted": dict(sorted(counts.items()))}

    def free(self, value: Any) -> Any:
        """Return JSON without secrets and matches of patterns, in its keys, texts and whole numbers."""
        return self._free(value, Counter())

    def counted(self, value: Any) -> tuple[Any, dict[str, int]]:
        """Return JSON as `free` does, with the number of places by name."""
        counts: Counter[str] = Counter()
        return self._free(value, counts), dict(sorted(counts.items()))

    def _text(self, text: str, counts: Counter[str], *, patterns: bool) -> str:
        for form, name, expression in self._forms:
            if form not in text:
                continue
            mark = f"[redacted {name}]"
            if expression is None:
                text, count = text.replace(form, mark), text.count(form)
            else:
                text, count = expression.subn(mark, text)
            counts[name] += count
        for pattern in self._patterns if patterns else ():
            text, count = pattern.subn(f"[redacted {PATTERN}]", text)
            if count:
                counts[PATTERN] += count
        return text

    def _object(self, value: Any, kind: type[Any], counts: Counter[str]) -> Any:
        """Return an object of the record's own without secrets."""
        if not isinstance(value, Mapping):
            return self._free(value, counts)
        known = codec_of(kind).schemas
        result: dict[str, Any] = {}
        own: Counter[str] = Counter()
        for key, item in value.items():
            if key in _STRUCTURE and isinstance(item, str):
                result[key] = item
            elif key in _REFERENCES and isinstance(item, str):
                result[key] = self._text(item, own, patterns=False)
            elif key in known and (isinstance(item, int | float | None) or (isinstance(item, str) and item in _NOT_FINITE)):
                result[key] = item
            elif key in _OBJECTS and key in known:
                inner = _OBJECTS[key]
                result[key] = (
                    [self._object(one, inner, own) for one in item] if isinstance(item, list) else self._object(item, inner, own)
                )
            elif key == "blocks" and kind is Message and isinstance(item, list):
                result[key] = [self._block(one, own) for one in item]
            elif key in _NUMBERS and key in known and isinstance(item, Mapping):
                result[key] = {self._text(str(name), own, patterns=False): number for name, number in item.items()}
            else:
                result[key if key in known else self._text(key, own, patterns=True)] = self._free(item, own)
        if kind is Message and +own and value.get("origin") in ("policy", None) and value.get("role") == "assistant":
            result["weight"] = 0.0
        counts.update(own)
        return result

    def _block(self, block: Any, counts: Counter[str]) -> Any:
        if not isinstance(block, Mapping):
            return self._free(block, counts)
        kind = _BLOCKS.get(str(block.get("type")))
        known = () if kind is None else codec_of(kind).schemas
        own: Counter[str] = Counter()
        result = {}
        for key, item in block.items():
            if key == "type" or (kind is blocks.ImageBlock and key in ("data", "sha256", "mimeType")):
                result[key] = item
            elif key == "call_id" and isinstance(item, str):
                result[key] = self._text(item, own, patterns=False)
            elif key == "blocks" and kind is blocks.ToolResult and isinstance(item, list):
                result[key] = [self._block(one, own) for one in item]
            elif key in known and (isinstance(item, int | float | None) or (isinstance(item, str) and item in _NOT_FINITE)):
                result[key] = item
            else:
                result[key if key in known else self._text(key, own, patterns=True)] = self._free(item, own)
        if +own and block.get("type") == "tool_call":
            _agree(result)
        counts.update(own)
        return result

    def _free(self, value: Any, counts: Counter[str]) -> Any:
        if isinstance(value, str):
            return self._text(value, counts, patterns=True)
        if isinstance(value, list | tuple):
            return [self._free(item, counts) for item in value]
        if isinstance(value, Mapping):
            return {self._text(str(key), counts, patterns=True): self._free(item, counts) for key, item in value.items()}
        if self._digits and type(value) is int and any(digits in str(value) for digits in self._digits):
            return self._text(str(value), counts, patterns=False)
        return value


def secret_of(name: str) -> str:
    """Return the value of the environment variable `name`, whose places are to be cut out; raise ConfigurationError without."""
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigurationError(
            f"redact names the environment variable {name!r}, which is not set: give the name of the variable that holds the "
            "secret, not the secret itself"
            if name.isidentifier()
            else "redact takes names of environment variables, and one of its values is none: never give the secret itself"
        )
    if len(value) < SHORTEST:
        raise ConfigurationError(
            f"the environment variable {name}, which redact names, has fewer than {SHORTEST} characters: they occur in ordinary "
            "words"
        )
    return value


def check_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern; raise ConfigurationError for one that is wrong, or that matches an empty text."""
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigurationError(f"redact_patterns: {pattern[:200]!r} is not a regular expression: {error}") from None
    if compiled.search("") is not None:
        raise ConfigurationError(f"redact_patterns: {pattern[:200]!r} matches an empty text, and so every text")
    return compiled


def _restored(
    names: Sequence[str], patterns: Sequence[str], own: Sequence[str], texts: Mapping[str, Sequence[str]]
) -> RecordRedactor:
    return RecordRedactor(names, patterns, own=own, texts=revealed(texts))


def _compiled(form: str, around: tuple[str, str]) -> re.Pattern[str] | None:
    before, after = around
    return re.compile(before + re.escape(form) + after) if before or after else None


def _agree(call: dict[str, Any]) -> None:
    """Let the arguments of a call be those of its text, as they were before."""
    content = call.get("content")
    if not isinstance(content, str) or not isinstance(call.get("arguments"), Mapping):
        return
    arguments = blocks.ToolCall("", content=content).arguments
    if arguments is None:
        call["content"] = jsonio.dumps(call["arguments"]).decode()
    else:
        call["arguments"] = arguments


def may_have_tokens(line: str) -> bool:
    """Return whether `without_tokens` may take something out of the record on a line of JSON."""
    return _TOKEN_KEY.search(line) is not None


def without_tokens(value: Any, key: str = "") -> Any:
    """Return a record without recorded tokens. Arguments, specs and schemas stay as they are."""
    if isinstance(value, Mapping):
        return {
            name: item if name in ("arguments", "task", "tools") else without_tokens(item, name)
            for name, item in value.items()
            if not (_TOKENS.fullmatch(name) and isinstance(item, list | dict))
        }
    return [without_tokens(item) for item in value] if isinstance(value, list) else value
