"""Which part of a rendered conversation the model said.

For each assistant message, the text it was sampled from (the history with the generation prompt) is taken away from the
text of the history with the message: what is left is what the model said. That needs no `{% generation %}` marks, works for
every template, and shows where a template renders earlier turns differently later on: there a new row begins, so that every
message is trained in the context it was sampled in.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from openreward_gym.export import exact
from openreward_gym.export.control import ControlTokens
from openreward_gym.export.conversation import ChatMessage
from openreward_gym.export.template import ChatTemplate
from openreward_gym.types import Json

_SHAPES = 4096
_TAIL = 80
_PROBE = "What follows?"
_NO_END = "the template ends a turn with no control token: the model would not learn to stop"
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_HINTS = {"reasoning": " (reasoning=False leaves it out)", "text": "", "call": ""}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a row's text. `turn`: the position of the message that is trained in it; None for no training."""

    text: str
    turn: int | None


Span: TypeAlias = tuple[int, int]
"""Where a run of tokens begins, and where it ends."""

Ids: TypeAlias = npt.NDArray[np.int32]


class CannotMask(Exception):  # noqa: N818 - not an error: a conversation that a template cannot render, with the reason
    """The template does not render the conversation as it was; the text says how."""


class Masks:
    """Splits conversations into pieces, for one template.

    The exact way renders twice for each turn. Where a conversation of the same shape (roles, and which of text, reasoning
    and calls a message has) was split the exact way before and became one row, one rendering is enough: its turns lie
    between the same control tokens.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._control = ControlTokens("flag", template.special_tokens)
        self._shapes: OrderedDict[Hashable, tuple[str, tuple[str, ...]] | None] = OrderedDict()

    def rows(self, messages: list[ChatMessage], tools: Json) -> list[list[Piece]]:
        """The pieces of each row; together, the trained ones are all that the assistant said, once.

        Raises:
            CannotMask: The template refuses the conversation, or loses or changes a part of it.
        """
        turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        if not turns or turns[0] == 0:
            raise CannotMask("the assistant speaks first: there is no prompt" if turns else "the assistant said nothing")
        shape = (tuple(map(_shape_of, messages)), tools is None)
        marks = None if self._has_control_tokens(messages) else self._shapes.get(shape)
        rows = None if marks is None else self._rows_by_marks(messages, tools, turns, *marks)
        if rows is None:
            rows = self._rows_exactly(messages, tools, turns)
            self._learn(shape, rows, messages, tools, turns)
        heard = heard_in(messages)
        for row in rows:
            for piece in row:
                if piece.turn is not None:
                    audit(piece.text, messages, piece.turn, self._template.special_tokens, heard)
        return rows

    def _has_control_tokens(self, messages: list[ChatMessage]) -> bool:
        return any(self._control.found_in(text) for message in messages for text in texts_of(message))

    def _rows_exactly(self, messages: list[ChatMessage], tools: Json, turns: list[int]) -> list[list[Piece]]:
        rows: list[list[Piece]] = []
        row: list[Piece] = []
        so_far = ""
        for turn in turns:
            context, said = self._said(messages, tools, turn)
            if row and not context.startswith(so_far):
                rows.append(row)
                row, so_far = [], ""
            row += [Piece(context[len(so_far) :], None), Piece(said, turn)]
            so_far = context + said
        return [*rows, row]

    def _said(self, messages: list[ChatMessage], tools: Json, turn: int) -> tuple[str, str]:
        """(what the message was sampled from, what the model said to the end of its turn)."""
        context = self._render(messages[:turn], tools, generation=True)
        whole = self._render(messages[: turn + 1], tools)
        if not whole.startswith(context):
            tail = context[-_TAIL:]
            place = whole.rfind(tail)
            if place >= 0:
                # The history before is rendered differently once the message is there; where it ends is the same.
                whole = context + whole[place + len(tail) :]
            else:
                # Some generation prompts end with what the history then does not show (an empty thought, say).
                context = context[: self._common_length(context, whole)]
        said = whole[len(context) :]
        header = self._template.generation_prompt
        if header and said.startswith(header) and not context.endswith(header):
            # After a tool's result some generation prompts are empty, and the history then shows the header all the same.
            context, said = context + header, said[len(header) :]
        end = self._end_of_turn(said)
        if end is not None:
            return context, said[:end]
        return context, said.rstrip() + self._mark_of_next(messages, tools, turn)

    def _mark_of_next(self, messages: list[ChatMessage], tools: Json, turn: int) -> str:
        """White space and the control token with which the next message begins: some templates end a turn with nothing else.

        The model samples that token to end its turn.
        """
        role = messages[turn + 1]["role"] if turn + 1 < len(messages) else "user"
        following = {**messages[turn + 1], "content": _PROBE} if role == "tool" else {"role": "user", "content": _PROBE}
        before = self._render([*messages[: turn + 1], following], tools).split(_PROBE)[0]
        marks = [(before.rfind(token), token) for token in self._template.special_tokens if token in before]
        if marks:
            place, mark = max(marks)
            blank = before[:place][len(before[:place].rstrip()) :]
            # It is the message's own end: the message stands right before.
            near = before[max(0, place - 200) : place]
            if any(text.strip()[-20:] in near for text in texts_of(messages[turn]) if text.strip()):
                return blank + mark
        raise CannotMask(_NO_END)

    def _common_length(self, context: str, whole: str) -> int:
        """Up to where both are equal, no token cut in two."""
        length = _common_length(context, whole)
        for token in self._template.added_tokens:
            begin = max(context.rfind(token, 0, length + len(token) - 1), whole.rfind(token, 0, length + len(token) - 1))
            if begin < length < begin + len(token):
                length = begin
        return length

    def _end_of_turn(self, said: str) -> int | None:
        """Where the last control token ends, if nothing but white space follows it."""
        text = said.rstrip()
        return len(text) if any(text.endswith(token) for token in self._template.special_tokens) else None

    def _render(self, messages: list[ChatMessage], tools: Json, *, generation: bool = False) -> str:
        try:
            return self._template.render(messages, tools, generation=generation)
        except Exception as error:  # a template raises what it likes
            raise CannotMask(f"the template refuses it: {str(error).splitlines()[0][:100] if str(error) else error!r}") from error

    def _learn(
        self, shape: Hashable, rows: list[list[Piece]], messages: list[ChatMessage], tools: Json, turns: list[int]
    ) -> None:
        """Remember the marks around turns, if they find the same pieces in this conversation."""
        if len(rows) != 1 or self._has_control_tokens(messages):
            return
        said = [piece for piece in rows[0] if piece.turn is not None]
        before = [piece.text for piece in rows[0] if piece.turn is None]
        start = _common_end(before)
        begin = max((start.rfind(token) for token in self._template.special_tokens), default=-1)
        if begin < 0:
            return
        start = start[begin:]
        ends = tuple(next((token for token in self._template.special_tokens if piece.text.endswith(token)), "") for piece in said)
        if all(ends) and self._rows_by_marks(messages, tools, turns, start, ends) == rows:
            self._shapes[shape] = (start, ends)
            if len(self._shapes) > _SHAPES:
                self._shapes.popitem(last=False)

    def _rows_by_marks(
        self, messages: list[ChatMessage], tools: Json, turns: list[int], start: str, ends: tuple[str, ...]
    ) -> list[list[Piece]] | None:
        """One row from one rendering; None where the marks are not where they should be."""
        text = self._render(messages[: turns[-1] + 1], tools)
        if text.count(start) != len(turns):
            return None
        row: list[Piece] = []
        position = 0
        for turn, end in zip(turns, ends, strict=True):
            begin = text.find(start, position) + len(start)
            stop = text.find(end, begin)
            if begin < len(start) or stop < 0:
                return None
            row += [Piece(text[position:begin], None), Piece(text[begin : stop + len(end)], turn)]
            position = stop + len(end)
        return [row]


def _common_length(a: str, b: str) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _common_end(texts: list[str]) -> str:
    """What all of `texts` end with, at most 64 characters."""
    end = texts[0][-64:]
    for text in texts[1:]:
        tail = text[-64:]
        length = _common_length(end[::-1], tail[::-1])
        end = end[len(end) - length :]
    return end


def _shape_of(message: ChatMessage) -> Hashable:
    content = message["content"]
    text = isinstance(content, str) and bool(content.strip())
    return (message["role"], text, bool(message.get("reasoning_content")), len(message.get("tool_calls", ())))


def texts_of(message: ChatMessage) -> Iterator[str]:
    """All texts of a message: content, reasoning, names and the texts in arguments."""
    content = message["content"]
    if isinstance(content, str):
        yield content
    else:
        yield from (part["text"] for part in content if part["type"] == "text")
    if "reasoning_content" in message:
        yield message["reasoning_content"]
    for call in message.get("tool_calls", ()):
        yield call["function"]["name"]
        yield from leaves_of(call["function"]["arguments"])


def leaves_of(value: Json) -> Iterator[str]:
    """The texts inside a JSON value, keys included."""
    kind = type(value)
    if kind is str:
        yield value
    elif kind is list:
        for item in value:
            yield from leaves_of(item)
    elif kind is dict:
        for key, item in value.items():
            yield key
            if type(item) is str:
                yield item
            else:
                yield from leaves_of(item)


def heard_in(messages: list[ChatMessage]) -> list[tuple[int, str]]:
    """(position, text) of all texts of others than the assistant that are long enough to be told from chance."""
    return [
        (number, stripped)
        for number, message in enumerate(messages)
        if message["role"] != "assistant"
        for text in texts_of(message)
        if len(stripped := text.strip()) >= 12
    ]


def audit(
    said: str, messages: list[ChatMessage], turn: int, special_tokens: tuple[str, ...], heard: list[tuple[int, str]]
) -> None:
    """Check a trained text: all of the message is in it, it ends with a control token, and nobody else's words are in it.

    Raises:
        CannotMask: It is not so.
    """
    message = messages[turn]
    if not said.endswith(special_tokens):
        raise CannotMask(_NO_END)
    for what, text in _parts_of(message):
        if not _is_in(text, said):
            raise CannotMask(f"the template loses or changes the assistant's {what}{_HINTS[what]}")
    length = len(said)
    for number, text in heard:
        if number > turn:
            break
        if len(text) <= length and text in said and not any(text in mine for mine in texts_of(message)):
            raise CannotMask("the template puts what others said into the assistant's turn")


def _parts_of(message: ChatMessage) -> Iterator[tuple[str, str]]:
    content = message["content"]
    yield "text", content if isinstance(content, str) else "\n".join(texts_of({"content": content}))
    if "reasoning_content" in message:
        yield "reasoning", message["reasoning_content"]
    for call in message.get("tool_calls", ()):
        yield "call", call["function"]["name"]
        for text in leaves_of(call["function"]["arguments"]):
            yield "call", text
        for number in _numbers_of(call["function"]["arguments"]):
            yield "call", number


def _numbers_of(value: Json) -> Iterator[str]:
    kind = type(value)
    if kind is int or kind is float:
        yield exact.encode(value)
    elif kind is list or kind is dict:
        for item in value.values() if kind is dict else value:
            if type(item) is not str:
                yield from _numbers_of(item)


def _is_in(text: str, said: str) -> bool:
    """Whether `text` stands in `said`, as it is or with the escapes of JSON or Python."""
    stripped = text.strip()
    if stripped in said:
        return True
    if json.dumps(stripped, ensure_ascii=False)[1:-1] in said or json.dumps(stripped)[1:-1] in said:
        return True
    return stripped in _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), said)


def plain(row: list[Piece]) -> str:
    """The row's whole text."""
    return "".join(piece.text for piece in row)


def ids_and_spans(template: ChatTemplate, row: list[Piece]) -> tuple[list[int], list[Span]]:
    """(token ids, which runs of them are trained). Each piece is tokenized by itself, as it was when it was sampled."""
    spans: list[Span] = []
    if template.joins:
        ids: list[int] = []
        for piece, tokens in zip(row, template.encode([piece.text for piece in row]), strict=True):
            if piece.turn is not None:
                spans.append((len(ids), len(ids) + len(tokens)))
            ids += tokens
        return ids, spans
    ids, offsets = template.encode_with_offsets(plain(row))
    position = 0
    for piece in row:
        end = position + len(piece.text)
        if piece.turn is not None:
            inside = [number for number, (first, last) in enumerate(offsets) if position <= first and last <= end]
            if inside:
                spans.append((inside[0], inside[-1] + 1))
        position = end
    return ids, spans


def labels_of(ids: Ids, spans: Iterable[Span]) -> Ids:
    """The ids where they are trained, -100 elsewhere."""
    labels = np.full_like(ids, -100)
    for begin, end in spans:
        labels[begin:end] = ids[begin:end]
    return labels
