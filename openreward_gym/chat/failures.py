"""Failures of a provider: bodies that have an error in place of an answer, whatever their HTTP status, and what they mean."""

from __future__ import annotations

import functools
import html
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence

from openreward_gym.chat.plain import json_text, rest_of, shown
from openreward_gym.chat.provider_words import WORDINGS
from openreward_gym.chat.wording import FailureKind
from openreward_gym.credentials import without_secrets
from openreward_gym.jsonio import Json
from openreward_gym.types import AssistantMessage, Block, Ended, Message, OpaqueBlock, ReasoningItem, Sampled, TextBlock

# Fields of answers, messages and calls. An object with one of them is not the body of an error.
_CONTENT = ("role", "choices", "output", "candidates", "content", "parts", "name", "function")
# The fields of errors that hold words for people, and those that hold codes, in the order in which they are looked for.
_MESSAGES = (
    "error",
    "title",
    "message",
    "Message",
    "msg",
    "detail",
    "error_message",
    "error_msg",
    "status_msg",
    "base_resp",
    "errors",
)
_CODES = ("code", "status_code", "type", "status", "reason", "error_type", "error_code", "__type")
_NESTED = ("innererror", "metadata", "details")
_MOST_CHARACTERS = 2000
# What an error means is in the first or the last words of its body; searching megabytes would stop every other episode.
_MOST_PARTS = 100
_MOST_SEARCHED = 20_000
_TRANSIENT = frozenset({408, 409, 424, 425, 498, 499})
# Texts of errors that give the requested tokens of the answer and the window, of which the answer alone fills the whole.
_OUTPUT_AND_WINDOW = tuple(
    re.compile(
        pattern.replace("OUTPUT", r"(?P<output>\d[\d,]*)").replace("WINDOW", r"(?P<window>\d[\d,]*)"), re.IGNORECASE | re.DOTALL
    )
    for pattern in (
        r"maximum context length is WINDOW.{0,400}?OUTPUT (?:in|for) the (?:completion|output)",
        r"requested OUTPUT output tokens.{0,400}?context length is only WINDOW",
        r"is too large: OUTPUT\. This model's maximum context length is WINDOW",
        r"maximum context length (?:is|of) WINDOW.{0,400}?OUTPUT (?:output tokens|tokens for the completion)",
        r"exceed context limit: \d+ \+ OUTPUT > WINDOW",
        r"must be <= WINDOW.{0,400}? and OUTPUT `max_new_tokens`",
    )
)


def is_failure(data: Mapping[str, Json]) -> bool:
    """Return whether an object is the body of an error, as providers and gateways send it, also with status 200.

    Example:
        >>> is_failure({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
        True
        >>> is_failure({"role": "assistant", "content": "404", "error": None})
        False
    """
    if any(data.get(name) for name in _CONTENT):
        return False
    kind = data.get("type")
    return kind == "error" or data.get("object") == "error" or (kind is None and bool(data.get("error")))


def read_failure(data: Mapping[str, Json]) -> AssistantMessage:
    """Return the body of an error as a turn without words, with the error in `sampled.metadata["error"]`."""
    if data.get("error"):
        fields = rest_of(data, *(["type"] if data.get("type") == "error" else []))
    else:  # vLLM and the events of OpenAI have the error's fields in the body itself
        is_event = data.get("type") == "error"
        fields = {"error": rest_of(data, "error", "object", *(["type", "sequence_number"] if is_event else []))}
    return AssistantMessage(sampled=Sampled(metadata=without_secrets(fields)), ended=ended_of_error(fields["error"]))


def withheld(body: Json) -> AssistantMessage:
    """Return the body of an error that says that a filter withheld the answer, as a turn without words."""
    if isinstance(body, list) and len(body) == 1:  # Gemini
        body = body[0]
    message = read_failure(body if isinstance(body, dict) else {"error": body})
    return message.replace(ended="content_filter")


def ended_of_error(error: Json) -> Ended | None:
    """Return how a turn with this error ended: by a filter or by a failure; None for a value that says no error."""
    if not error:
        return None
    return "content_filter" if kind_of_failure(None, {"error": error}) == "content_filter" else "error"


def error_of(message: Message) -> Json:
    """Return the error that a provider sent in place of a turn; None without one."""
    fields = (message.sampled.metadata or {}) if message.sampled is not None else {}
    # MiniMax sends its errors with status 200 and an empty answer.
    return fields.get("error") or fields.get("base_resp")


def has_content(block: Block) -> bool:
    """Return whether a block holds something of the model's: a text, reasoning (hidden or not), a call, an image, ...

    Example:
        >>> has_content(TextBlock("")), has_content(ReasoningItem("Hm"))
        (False, True)
    """
    if isinstance(block, TextBlock):
        return bool(block.text)
    if isinstance(block, ReasoningItem):  # a signature alone signs nothing
        fields = [fields for fields in block.extra.values() if isinstance(fields, Mapping)]
        is_hidden = any(value.get("encrypted_content") for value in fields)
        return bool(block.content or block.summary or block.content_reference or is_hidden)
    if isinstance(block, OpaqueBlock):  # a number or `false` in place of a text has no type
        return bool(block.raw.get("type") or len(block.raw) > 2)
    return True


def is_withheld(message: Message) -> bool:
    """Return whether a filter, the provider's refusal or the end of the context window took an answer away.

    A refusal in the model's own words is an answer.

    Example:
        >>> is_withheld(AssistantMessage("I would rather not.", ended="refusal")), is_withheld(AssistantMessage(ended="refusal"))
        (False, True)
    """
    is_refused = message.ended == "refusal" and (message.stop_reason == "refusal" or not message.text)
    return is_refused or message.ended in ("content_filter", "context_overflow")


def error_text(message: Message) -> str:
    """Return the provider's words on a turn that failed."""
    return failure_words({"error": error_of(message)}) if error_of(message) else "the provider gave no answer"


def kind_of_failure(status: int | None, body: Json) -> FailureKind:
    """Return what an answer with an error means.

    Args:
        status: The HTTP status. None, or 200, for an error in place of an answer: then a status in the error's `code` counts.
        body: The answer's body, as JSON or text.

    Example:
        >>> kind_of_failure(400, {"error": "the input length exceeds the context length"}), kind_of_failure(520, "")
        ('context_overflow', 'unavailable')
    """
    if status is None or status < 300:
        status = next((int(code) for code in _codes(body) if re.fullmatch("[45][0-9]{2}", str(code))), None)
    if status == 402:
        return "quota"
    # A code that is a number alone is told from the other numbers of an error by the name before it.
    codes = [f"code={code}"[:200] for code in itertools.islice(_codes(body), 50)]
    text = _without_middle(" ".join((*codes, _words(body))))
    wording = next((kind for kind, pattern in _patterns() if pattern.search(text)), None)
    if wording == "context_overflow":
        return "refused" if _is_answer_too_long(text) else wording
    if wording in ("content_filter", "quota", "rate_limited"):
        return wording
    if status in (401, 403):
        return "bad_key"
    if status == 429 and wording in (None, "unavailable"):
        return "rate_limited"
    if wording is not None:
        return wording
    return "unavailable" if status is None or status in _TRANSIENT or status >= 500 else "refused"


def failure_words(body: Json) -> str:
    """Return what a server says of a failure, whatever the form of its answer: without secrets, on one line, and cut.

    Example:
        >>> failure_words({"detail": [{"loc": ["body", "model"], "msg": "Field required", "input": {}}]})
        'body.model: Field required'
    """
    text = " ".join(json_text(without_secrets(_without_middle(_words(body)))).split())
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def parsed_body(text: str) -> Json:
    """Return the body of an answer as JSON values, or as text if it is none."""
    try:
        return json.loads(text) if text.lstrip()[:1] in ("{", "[", '"') else text
    except (ValueError, RecursionError):
        return text


def _without_middle(text: str) -> str:
    half = _MOST_SEARCHED // 2
    return text if len(text) <= _MOST_SEARCHED else f"{text[:half]} ... {text[-half:]}"


@functools.cache
def _patterns() -> tuple[tuple[FailureKind, re.Pattern[str]], ...]:
    return tuple((wording.kind, re.compile(wording.pattern, re.IGNORECASE)) for wording in WORDINGS)


def _is_answer_too_long(text: str) -> bool:
    """Return whether the tokens requested for the answer alone fill the window: a wrong parameter, at the first request too."""
    found = next((match for pattern in _OUTPUT_AND_WINDOW if (match := pattern.search(text))), None)
    return found is not None and _number(found["output"]) >= _number(found["window"])


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _words(body: Json, depth: int = 0) -> str:
    """Return the words for people in the body of an error. What a server repeats of the request is not among them."""
    if isinstance(body, str):
        inner = parsed_body(body) if depth < 5 else body
        return _text_of_page(_without_middle(body)) if isinstance(inner, str) else _words(inner, depth + 1)
    if depth > 5 or body is None:
        return ""
    if isinstance(body, Sequence) and not isinstance(body, bytes):
        return "; ".join(dict.fromkeys(_words(item, depth + 1) or _as_text(item) for item in body[:_MOST_PARTS]))
    if not isinstance(body, Mapping):
        return _as_text(body)
    texts: list[str] = []
    for name in _MESSAGES:
        value = body.get(name)
        inner_text = _words(value, depth + 1) if isinstance(value, str | Mapping | list) else ""
        if inner_text and not any(inner_text in other for other in texts):
            texts.append(inner_text)
    text = ": ".join(texts)
    place = body.get("loc")
    if text and isinstance(place, Sequence) and not isinstance(place, str):  # a validation error of FastAPI
        text = f"{'.'.join(map(str, place))}: {text}"
    metadata = body.get("metadata")
    upstream = metadata.get("raw") if isinstance(metadata, Mapping) else None  # OpenRouter: the words of the server behind it
    if upstream:
        text = ": ".join(part for part in dict.fromkeys((text, _words(upstream, depth + 1))) if part)
    if not text and not depth:
        rest = {name: value for name, value in body.items() if value not in (None, "")}
        text = _as_text(rest) if rest else ""
    return text


def _as_text(value: Json) -> str:
    try:
        return json_text(value)
    except (ValueError, TypeError, RecursionError):  # too many digits or levels, or an object of a caller's
        return shown(value)


def _codes(body: Json, depth: int = 0) -> Iterator[str | int]:
    """Yield the codes in the body of an error, the outer ones first."""
    if depth > 6:
        return
    if isinstance(body, str):
        inner = parsed_body(body)
        if not isinstance(inner, str):
            yield from _codes(inner, depth + 1)
    elif isinstance(body, Mapping):
        codes = (body.get(name) for name in _CODES)
        yield from (code for code in codes if type(code) is str or (type(code) is int and code.bit_length() < 64))
        for name in (*_MESSAGES, *_NESTED):
            if not isinstance(body.get(name), str):
                yield from _codes(body.get(name), depth + 1)
        if isinstance(body.get("raw"), str):
            yield from _codes(body["raw"], depth + 1)
    elif isinstance(body, Sequence) and not isinstance(body, bytes):
        for item in body[:_MOST_PARTS]:
            yield from _codes(item, depth + 1)


def _text_of_page(text: str) -> str:
    """Return the text of a gateway's HTML page; other text unchanged."""
    if not re.match(r"\s*<(?:!doctype|html|head|body|\?xml|!--)", text, re.IGNORECASE):
        return text
    title = re.search(r"<title[^<>]*>(.*?)(?:</title>|\Z)", text, re.IGNORECASE | re.DOTALL)
    # What is not closed reaches to the end, so that no place is searched twice.
    page = re.sub(r"<(script|style|title)\b(?:.*?</\1>|.*)|<!--(?:.*?-->|.*)", " ", text, flags=re.IGNORECASE | re.DOTALL)
    page = " ".join(html.unescape(re.sub(r"<[^<>]*>?", " ", page)).split())[:300]
    return " - ".join(part for part in (" ".join(html.unescape(title[1]).split()) if title else "", page) if part)
