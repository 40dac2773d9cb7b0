"""Token ids and labels for a tokenizer: the loss is on the model's own text and on nothing else.

For each of the model's turns, the text that it was sampled from (the history with the generation prompt) is removed from the
text of the history with the turn: the remainder is the model's. That needs no `{% generation %}` marks and works for every
template. Where a template renders earlier turns differently later on, a new row begins, so that every turn is trained in the
context in which it was sampled.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import NamedTuple, TypeAlias

import numpy as np

from openreward_gym import jsonio
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.conversation import ChatMessage, ControlTokens, Conversation, images_in, texts_in
from openreward_gym.export.formats.base import Context, Format, LeftOut
from openreward_gym.export.reader import Record, sampled_of
from openreward_gym.export.tables import Columns, Row
from openreward_gym.export.template import ChatTemplate
from openreward_gym.types import Json

_MAX_SHAPES = 4096
_TAIL = 80
_PROBE = "What follows?"
_NO_END = "the template ends a turn without a control token: the model would not learn to stop"
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_HINTS = {"reasoning": " (reasoning=False leaves it out)", "text": "", "call": ""}

Span: TypeAlias = tuple[int, int]
"""First token of a run, and the one after its last."""


class _TokenRow(NamedTuple):
    ids: list[int]
    trained: list[Span]
    logprobs: list[float] | None
    images: list[bytes]


class Tokens(Format):
    """`input_ids` and `labels` (-100: no loss); the sampler's own ids and log-probabilities where all turns have them.

    The ids of rollouts with images have the marks that the template writes. From these and the column `images`, the model's
    processor makes what the model takes.
    """

    name = "tokens"
    about = "input_ids and labels for one tokenizer, with the loss on the model's own text only"
    needs_tokenizer = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if context.template is None:
            raise ConfigurationError("the format 'tokens' needs a tokenizer: pass tokenizer='a model's name or folder'")
        self._template: ChatTemplate = context.template
        self._splitter = TurnSplitter(context.template)

    def columns(self) -> Columns:
        return {"input_ids": "ids", "labels": "ids", "logprobs": "floats"}

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        if conversation.images and not self._template.image_mark:
            raise LeftOut("it has images: the template shows none (take a vision model's tokenizer, or sft)")
        rows = self._sampled_rows(conversation)
        if rows is not None:
            conversation.findings.add("sampled_tokens_used")
        else:
            rows = self._rendered_rows(conversation)
        if len(rows) > 1:
            conversation.findings.add("context_changes")
        for row in rows:
            input_ids = np.fromiter(row.ids, np.int32, len(row.ids))
            labels = np.full_like(input_ids, -100)
            for begin, end in row.trained:
                labels[begin:end] = input_ids[begin:end]
            yield self.row(conversation, input_ids=input_ids, labels=labels, logprobs=row.logprobs, images=row.images)

    def _rendered_rows(self, conversation: Conversation) -> list[_TokenRow]:
        rows = self._splitter.rows(conversation.messages, conversation.turns, conversation.tools)
        return [_TokenRow(*ids_and_spans(self._template, row), None, self._images(conversation, row)) for row in rows]

    def _images(self, conversation: Conversation, row: list[Piece]) -> list[bytes]:
        """Return the images of all messages up to the row's last turn."""
        if not conversation.images:
            return []
        last = max(piece.turn for piece in row if piece.turn is not None)
        images = conversation.images[: images_in(conversation.messages[:last])]
        if "".join(piece.text for piece in row).count(self._template.image_mark) != len(images):
            raise LeftOut("the template does not show every image once")
        return images

    def _sampled_rows(self, conversation: Conversation) -> list[_TokenRow] | None:
        """Return rows of the recorded ids; None if a turn has none, or if they belong to another tokenizer."""
        records = conversation.record.get("messages") or ()
        turns = [message for number, message in enumerate(records) if number in conversation.targets]
        reports = list(map(sampled_of, turns))
        # The ids do not tell which image the sampler saw where.
        if not reports or conversation.images:
            return None
        if not all(report.get("token_ids") and report.get("prompt_token_ids") for report in reports):
            return None
        if not all(map(self._matches_tokenizer, turns)):
            return None
        with_logprobs = all(len(report.get("logprobs") or ()) == len(report["token_ids"]) for report in reports)
        rows: list[_TokenRow] = []
        for report in reports:
            prompt, sampled = report["prompt_token_ids"], report["token_ids"]
            if not rows or prompt[: len(rows[-1].ids)] != rows[-1].ids:
                rows.append(_TokenRow([], [], [] if with_logprobs else None, []))
            ids, spans, logprobs, _ = rows[-1]
            if logprobs is not None:
                logprobs += [*[0.0] * (len(prompt) - len(ids)), *map(float, report["logprobs"])]
            ids[:] = [*prompt, *sampled]
            spans.append((len(prompt), len(ids)))
        return rows

    def _matches_tokenizer(self, turn: Record) -> bool:
        """Return True if the recorded ids, decoded by this tokenizer, contain the message's texts and calls."""
        size = len(self._template.tokenizer)
        ids, prompt = sampled_of(turn)["token_ids"], sampled_of(turn)["prompt_token_ids"]
        if not all(0 <= token < size for token in [*ids, *prompt]):
            return False
        sampled = self._template.decode(ids)
        blocks = turn.get("blocks", ())
        texts = [block["text"] for block in blocks if block["type"] == "text"]
        names = [block["name"] for block in blocks if block["type"] == "tool_call"]
        return all(text.strip() in sampled for text in (*texts, *names))


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a row's text. `turn` is the position of the message that is trained in it, None for a part without loss."""

    text: str
    turn: int | None


class CannotSplit(LeftOut):
    """The template does not render the conversation as it was; the text is the reason."""


class TurnSplitter:
    """Splits conversations into pieces with and without loss, for one template.

    The exact way renders twice per turn. One rendering is enough if a conversation of the same shape (roles, and which of text,
    reasoning and calls a message has) became one row before: its turns lie between the same control tokens.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._control = ControlTokens("flag", template.special_tokens)
        self._shapes: OrderedDict[Hashable, tuple[str, tuple[str, ...]] | None] = OrderedDict()

    def rows(self, messages: list[ChatMessage], turns: list[int], tools: Json) -> list[list[Piece]]:
        """Return the pieces of each row. Over all rows, each message at one of the positions `turns` is trained once.

        Raises CannotSplit if the template refuses the conversation, or loses or changes a part of it.
        """
        if not turns or turns[0] == 0:
            raise CannotSplit("the model speaks first: there is no prompt" if turns else "the model took no turn")
        shape = (tuple(map(_shape_of, messages)), tuple(turns), tools is None)
        marks = None if self._has_control_tokens(messages) else self._shapes.get(shape)
        rows = None if marks is None else self._rows_by_marks(messages, tools, turns, *marks)
        if rows is None:
            rows = self._rows_exactly(messages, tools, turns)
            self._learn(shape, rows, messages, tools, turns)
        others = other_texts(messages, turns)
        for row in rows:
            for piece in row:
                if piece.turn is not None:
                    audit(piece.text, messages, piece.turn, self._template.special_tokens, others)
        return rows

    def _has_control_tokens(self, messages: list[ChatMessage]) -> bool:
        return any(self._control.found_in(text) for message in messages for text in texts_of(message))

    def _rows_exactly(self, messages: list[ChatMessage], tools: Json, turns: list[int]) -> list[list[Piece]]:
        rows: list[list[Piece]] = []
        row: list[Piece] = []
        so_far = ""
        for turn in turns:
            context, sampled = self._split_turn(messages, tools, turn)
            if row and not context.startswith(so_far):
                rows.append(row)
                row, so_far = [], ""
            row += [Piece(context[len(so_far) :], None), Piece(sampled, turn)]
            so_far = context + sampled
        return [*rows, row]

    def _split_turn(self, messages: list[ChatMessage], tools: Json, turn: int) -> tuple[str, str]:
        """Return the text that a message was sampled from, and the model's text up to the end of its turn."""
        context = self._render(messages[:turn], tools, generation=True)
        text = self._render(messages[: turn + 1], tools)
        if not text.startswith(context):
            tail = context[-_TAIL:]
            place = text.rfind(tail)
            if place >= 0:
                # The history is rendered differently once the message follows it, but it ends in the same way.
                text = context + text[place + len(tail) :]
            else:
                # Some generation prompts end with text that the history then lacks (an empty thought, for example).
                context = context[: self._shared_length(context, text)]
        sampled = text[len(context) :]
        header = self._template.generation_prompt
        if header and sampled.startswith(header) and not context.endswith(header):
            # After a tool's result some generation prompts are empty, although the history then shows the header.
            context, sampled = context + header, sampled[len(header) :]
        end = self._end_of_turn(sampled)
        if end is not None:
            return context, sampled[:end]
        return context, sampled.rstrip() + self._start_of_next(messages, tools, turn)

    def _start_of_next(self, messages: list[ChatMessage], tools: Json, turn: int) -> str:
        """Return the white space and the control token with which the next message begins.

        Some templates end a turn with nothing else. The model samples that token to end its turn.
        """
        role = messages[turn + 1]["role"] if turn + 1 < len(messages) else "user"
        following = {**messages[turn + 1], "content": _PROBE} if role == "tool" else {"role": "user", "content": _PROBE}
        before = self._render([*messages[: turn + 1], following], tools).split(_PROBE)[0]
        marks = [(before.rfind(token), token) for token in self._template.special_tokens if token in before]
        if marks:
            place, mark = max(marks)
            blank = before[:place][len(before[:place].rstrip()) :]
            # It is the message's own end only if the message's text stands right before it.
            near = before[max(0, place - 200) : place]
            if any(text.strip()[-20:] in near for text in texts_of(messages[turn]) if text.strip()):
                return blank + mark
        raise CannotSplit(_NO_END)

    def _shared_length(self, context: str, text: str) -> int:
        """Return the length up to which both texts are equal, without cutting a token in two."""
        length = len(_common_start([context, text]))
        for token in self._template.added_tokens:
            begin = max(context.rfind(token, 0, length + len(token) - 1), text.rfind(token, 0, length + len(token) - 1))
            if begin < length < begin + len(token):
                length = begin
        return length

    def _end_of_turn(self, sampled: str) -> int | None:
        """Return the end of the last control token if only white space follows it."""
        text = sampled.rstrip()
        return len(text) if any(text.endswith(token) for token in self._template.special_tokens) else None

    def _render(self, messages: list[ChatMessage], tools: Json, *, generation: bool = False) -> str:
        try:
            return self._template.render(messages, tools, generation=generation)
        except Exception as error:  # a template raises errors of any type
            reason = str(error).splitlines()[0][:100] if str(error) else repr(error)
            raise CannotSplit(f"the template refuses it: {reason}") from error

    def _learn(
        self, shape: Hashable, rows: list[list[Piece]], messages: list[ChatMessage], tools: Json, turns: list[int]
    ) -> None:
        """Remember the marks around turns if they give the same pieces for this conversation."""
        if len(rows) != 1 or self._has_control_tokens(messages):
            return
        sampled = [piece for piece in rows[0] if piece.turn is not None]
        special = self._template.special_tokens
        # The common end of the texts before the turns, at most 64 characters.
        start = _common_start([piece.text[-64:][::-1] for piece in rows[0] if piece.turn is None])[::-1]
        begin = max((start.rfind(token) for token in special), default=-1)
        if begin < 0:
            return
        start = start[begin:]
        ends = tuple(next((token for token in special if piece.text.endswith(token)), "") for piece in sampled)
        if all(ends) and self._rows_by_marks(messages, tools, turns, start, ends) == rows:
            self._shapes[shape] = (start, ends)
            if len(self._shapes) > _MAX_SHAPES:
                self._shapes.popitem(last=False)

    def _rows_by_marks(
        self, messages: list[ChatMessage], tools: Json, turns: list[int], start: str, ends: tuple[str, ...]
    ) -> list[list[Piece]] | None:
        """Return one row from one rendering; None if the marks are not where they should be."""
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


def _common_start(texts: list[str]) -> str:
    return commonprefix(texts)  # noqa: RUF071 - these are no paths


def _shape_of(message: ChatMessage) -> Hashable:
    content = message["content"]
    has_text = isinstance(content, str) and bool(content.strip())
    return (message["role"], has_text, bool(message.get("reasoning_content")), len(message.get("tool_calls", ())))


def texts_of(message: ChatMessage) -> Iterator[str]:
    """Yield all texts of a message: content, reasoning, names of tools and the texts in arguments."""
    yield from texts_in(message)
    if "reasoning_content" in message:
        yield message["reasoning_content"]
    for call in message.get("tool_calls", ()):
        yield call["function"]["name"]
        yield from leaves_of(call["function"]["arguments"])


def leaves_of(value: Json) -> Iterator[str]:
    """Yield the texts inside a JSON value, keys included."""
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


def other_texts(messages: list[ChatMessage], turns: list[int]) -> list[tuple[int, str]]:
    """Return position and text of everything that the model did not write and that is too long to be repeated by chance."""
    model = set(turns)
    return [
        (number, stripped)
        for number, message in enumerate(messages)
        if number not in model
        for text in texts_of(message)
        if len(stripped := text.strip()) >= 12
    ]


def audit(
    sampled: str, messages: list[ChatMessage], turn: int, special_tokens: tuple[str, ...], others: list[tuple[int, str]]
) -> None:
    """Raise CannotSplit unless a trained text has the whole message, ends with a control token, and has no text of others."""
    message = messages[turn]
    if not sampled.endswith(special_tokens):
        raise CannotSplit(_NO_END)
    for part, text in _parts_of(message):
        if not _contains(sampled, text):
            raise CannotSplit(f"the template loses or changes the model's {part}{_HINTS[part]}")
    length = len(sampled)
    for number, text in others:
        if number > turn:
            break
        if len(text) <= length and text in sampled and not any(text in own for own in texts_of(message)):
            raise CannotSplit("the template puts text of others into the model's turn")


def _parts_of(message: ChatMessage) -> Iterator[tuple[str, str]]:
    yield "text", "\n".join(texts_in(message))
    if "reasoning_content" in message:
        yield "reasoning", message["reasoning_content"]
    for call in message.get("tool_calls", ()):
        function = call["function"]
        for text in (function["name"], *leaves_of(function["arguments"]), *_numbers_of(function["arguments"])):
            yield "call", text


def _numbers_of(value: Json) -> Iterator[str]:
    kind = type(value)
    if kind is int or kind is float:
        yield jsonio.dumps(value).decode()
    elif kind is list or kind is dict:
        for item in value.values() if kind is dict else value:
            if type(item) is not str:
                yield from _numbers_of(item)


def _contains(sampled: str, text: str) -> bool:
    """Return True if `sampled` contains `text`, as it is or with the escapes of JSON or Python."""
    stripped = text.strip()
    if stripped in sampled:
        return True
    if json.dumps(stripped, ensure_ascii=False)[1:-1] in sampled or json.dumps(stripped)[1:-1] in sampled:
        return True
    return stripped in _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), sampled)


def ids_and_spans(template: ChatTemplate, row: list[Piece]) -> tuple[list[int], list[Span]]:
    """Return a row's token ids, and its trained runs. Each piece is tokenized separately, as it was when it was sampled."""
    spans: list[Span] = []
    if template.concatenates:
        ids: list[int] = []
        for piece, tokens in zip(row, template.encode([piece.text for piece in row]), strict=True):
            if piece.turn is not None:
                spans.append((len(ids), len(ids) + len(tokens)))
            ids += tokens
        return ids, spans
    ids, offsets = template.encode_with_offsets("".join(piece.text for piece in row))
    position = 0
    for piece in row:
        end = position + len(piece.text)
        if piece.turn is not None:
            inside = [number for number, (first, last) in enumerate(offsets) if position <= first and last <= end]
            if inside:
                spans.append((inside[0], inside[-1] + 1))
        position = end
    return ids, spans
