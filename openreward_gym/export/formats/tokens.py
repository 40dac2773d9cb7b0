"""Token ids and labels for a tokenizer: the loss is on the model's own text and on nothing else.

A turn is trained in the context in which it was sampled: the recorded ids where the record has them, else the rendering of the
history with the generation prompt. What the history with the turn shows after that is the model's text. That needs no
`{% generation %}` marks and works for every template. Where the context of a turn does not continue the row (most templates drop
earlier reasoning), a new row begins.
"""

from __future__ import annotations

import json
import math
import re
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import NamedTuple, TypeAlias

import numpy as np

from openreward_gym import jsonio
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.conversation import PROBLEMS, ChatMessage, ControlTokens, Conversation, images_in, texts_in
from openreward_gym.export.formats.base import Context, Format, LeftOut
from openreward_gym.export.reader import Record, sampled_of
from openreward_gym.export.tables import Columns, Row
from openreward_gym.export.template import ChatTemplate, refusal_reason, template_options_of
from openreward_gym.types import Json

_MAX_SHAPES = 4096
_MAX_SPLITTERS = 64
_TAIL = 80
_PROBE = "What follows?"
_NO_END = "the template ends a turn without a control token: the model would not learn to stop"
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_HINTS = {"reasoning": " (reasoning=False leaves it out)", "text": "", "call": ""}

Span: TypeAlias = tuple[int, int]
"""First token of a run, and the one after its last."""


class _TokenRow(NamedTuple):
    """The values of a row. `logprobs` is None if it knows none; a trained token without a log-probability has NaN."""

    ids: list[int]
    trained: list[Span]
    logprobs: list[float] | None
    images: list[bytes]
    differs: bool


class _TokenTurn(NamedTuple):
    """The ids of a turn, and those that it was sampled from."""

    context: list[int]
    sampled: list[int]
    logprobs: Sequence[float] | None
    differs: bool


class Tokens(Format):
    """`input_ids` and `labels` (-100: no loss), `logprobs`, and whether the context of a turn differs from its sampler's.

    A turn with recorded token ids keeps them, and their log-probabilities; the others are rendered. The ids of rollouts with
    images have the marks that the template writes. From these and the column `images`, the model's processor makes what the model
    takes.
    """

    name = "tokens"
    about = "input_ids and labels for one tokenizer, with the loss on the model's own text only"
    needs_tokenizer = True
    # Recorded ids have text, reasoning and calls in the order in which they were sampled.
    tolerates = frozenset({"interleaved"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if context.template is None:
            raise ConfigurationError("the format 'tokens' needs a tokenizer: pass tokenizer='a model's name or folder'")
        self._splitters = Splitters(context.template)

    def columns(self) -> Columns:
        return {"input_ids": "ids", "labels": "ids", "logprobs": "floats", "context_differs": "bool"}

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        splitter = self._splitters.of(template_options_of(conversation.record, self.options.chat_template_kwargs))
        if conversation.images and not splitter.template.image_mark:
            raise LeftOut("it has images: the template shows none (take a vision model's tokenizer, or sft)")
        recorded = self._recorded_turns(conversation, splitter.template)
        if "interleaved" in conversation.problems and not all(
            sampled_of(recorded.get(number, {})).get("prompt_token_ids") for number in conversation.targets
        ):
            raise LeftOut(PROBLEMS["interleaved"])
        rows = self._recorded_rows(conversation, recorded, splitter) if recorded else _rendered_rows(conversation, splitter)
        if len(rows) > 1:
            conversation.findings.add("context_changes")
        for row in rows:
            if row.differs:
                conversation.findings.add("context_differs")
            input_ids = np.fromiter(row.ids, np.int32, len(row.ids))
            labels = np.full_like(input_ids, -100)
            for begin, end in row.trained:
                labels[begin:end] = input_ids[begin:end]
            columns = {"logprobs": row.logprobs, "context_differs": row.differs, "images": row.images}
            yield self.row(conversation, input_ids=input_ids, labels=labels, **columns)

    def _recorded_turns(self, conversation: Conversation, template: ChatTemplate) -> dict[int, Record]:
        """Return the turns to train whose recorded ids can be used, by number."""
        records = conversation.record.get("messages") or ()
        turns = {number: records[number] for number in conversation.targets if sampled_of(records[number]).get("token_ids")}
        # The ids do not tell which image the sampler saw where.
        usable = {} if conversation.images else {n: turn for n, turn in turns.items() if matches_tokenizer(turn, template)}
        if usable:
            conversation.findings.add("sampled_tokens_used")
        if len(usable) < len(turns):
            conversation.findings.add("sampled_tokens_unused")
        elif usable and len(usable) < len(conversation.targets):
            conversation.findings.add("sampled_tokens_partly")
        return usable

    def _recorded_rows(self, conversation: Conversation, recorded: dict[int, Record], splitter: TurnSplitter) -> list[_TokenRow]:
        rows: list[_TokenRow] = []
        first_reason: LeftOut | None = None
        previous = -1
        for position in conversation.turns:
            number = conversation.sources[position]
            if number == previous and number in recorded:
                continue  # a further call of a turn that was split
            previous = number
            try:
                turn = _token_turn(conversation, position, recorded.get(number), splitter)
            except LeftOut as reason:
                first_reason = first_reason or reason
                self.context.report.dropped_rows[str(reason)] += 1
                continue
            if not rows or turn.context[: len(rows[-1].ids)] != rows[-1].ids:
                rows.append(_TokenRow([], [], [], [], False))
            row = rows[-1]
            assert row.logprobs is not None
            own = [math.nan] * len(turn.sampled) if turn.logprobs is None else map(float, turn.logprobs)
            row.logprobs.extend([*[0.0] * (len(turn.context) - len(row.ids)), *own])
            row.ids[:] = [*turn.context, *turn.sampled]
            row.trained.append((len(turn.context), len(row.ids)))
            rows[-1] = row._replace(differs=row.differs or turn.differs)
        if not rows and first_reason is not None:
            raise first_reason
        return [row._replace(logprobs=None) if _none_known(row) else row for row in rows]


def _none_known(row: _TokenRow) -> bool:
    return all(math.isnan((row.logprobs or ())[place]) for begin, end in row.trained for place in range(begin, end))


def _token_turn(conversation: Conversation, position: int, record: Record | None, splitter: TurnSplitter) -> _TokenTurn:
    """Return a turn's ids: those of `record`, and where it has none those of the rendering."""
    messages, tools = conversation.messages, conversation.tools
    report = sampled_of(record or {})
    if not report:
        turn = splitter.split(messages, tools, position)
        audit(turn.sampled, messages, position, splitter.template.special_tokens, other_texts(messages, conversation.turns))
        ids, ((begin, end),) = ids_and_spans(splitter.template, [Piece(turn.context, None), Piece(turn.sampled, position)])
        return _TokenTurn(ids[:begin], ids[begin:end], None, turn.differs)
    context = report.get("prompt_token_ids") or splitter.template.encode([splitter.context(messages, tools, position)])[0]
    logprobs = report.get("logprobs")
    known = logprobs is not None and len(logprobs) == len(report["token_ids"])
    return _TokenTurn(context, report["token_ids"], logprobs if known else None, False)


def _rendered_rows(conversation: Conversation, splitter: TurnSplitter) -> list[_TokenRow]:
    template = splitter.template
    rows = []
    for pieces, differs in splitter.rows(conversation.messages, conversation.turns, conversation.tools):
        images = _images_of(conversation, pieces, template.image_mark) if conversation.images else []
        rows.append(_TokenRow(*ids_and_spans(template, pieces), None, images, differs))
    return rows


def _images_of(conversation: Conversation, pieces: list[Piece], mark: str) -> list[bytes]:
    """Return the images of all messages up to the row's last turn."""
    last = max(piece.turn for piece in pieces if piece.turn is not None)
    images = conversation.images[: images_in(conversation.messages[:last])]
    if "".join(piece.text for piece in pieces).count(mark) != len(images):
        raise LeftOut("the template does not show every image once")
    return images


def matches_tokenizer(turn: Record, template: ChatTemplate) -> bool:
    """Return True if a turn's recorded ids, decoded by this tokenizer, contain its texts, its reasoning and its calls."""
    size = len(template.tokenizer)
    ids, prompt = sampled_of(turn)["token_ids"], sampled_of(turn).get("prompt_token_ids") or ()
    if not all(0 <= token < size for token in [*ids, *prompt]):
        return False
    sampled = template.decode(ids)
    blocks = turn.get("blocks", ())
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    texts += [block.get("content") or "" for block in blocks if block["type"] == "reasoning"]
    names = [block["name"] for block in blocks if block["type"] == "tool_call"]
    return all(text.strip() in sampled for text in (*texts, *names))


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a row's text. `turn` is the position of the message that is trained in it, None for a part without loss."""

    text: str
    turn: int | None


class TextRow(NamedTuple):
    """The text of a row. `differs`: a turn of it is in another context than the template gives a sampler."""

    pieces: list[Piece]
    differs: bool


class SplitTurn(NamedTuple):
    """The text that a turn was sampled from, and the model's text up to the end of its turn.

    `differs`: the template does not write the turn after the text with which it would be sampled, so that `context` is another.
    """

    context: str
    sampled: str
    differs: bool


class CannotSplit(LeftOut):
    """The template does not render the conversation as it was; the text is the reason."""


class TurnSplitter:
    """Splits conversations into pieces with and without loss, for one template.

    The exact way renders twice per turn: the history with the generation prompt, which is the turn's context, and the history
    with the turn. For a ChatML template and the turn "4":

        context    <|im_start|>user\\n2 + 2?<|im_end|>\\n<|im_start|>assistant\\n
        with turn  <|im_start|>user\\n2 + 2?<|im_end|>\\n<|im_start|>assistant\\n4<|im_end|>\\n
        sampled                                                                  4<|im_end|>

    One rendering is enough if a conversation of the same shape (roles, and which of text, reasoning and calls a message has)
    became one row before: its turns lie between the same control tokens.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template
        self._control = ControlTokens("flag", template.special_tokens)
        # For each shape the text before its turns, the ends of its turns, and whether a context differs.
        self._shapes: OrderedDict[Hashable, tuple[str, tuple[str, ...], bool] | None] = OrderedDict()
        # Shapes for which one rendering shows each turn in its context.
        self._plain_shapes: set[Hashable] = set()

    def rows(self, messages: list[ChatMessage], turns: list[int], tools: Json) -> list[TextRow]:
        """Return the text of each row. Over all rows, each message at one of the positions `turns` is trained once.

        Raises CannotSplit if the template refuses the conversation, or loses or changes a part of it.
        """
        if not turns or turns[0] == 0:
            raise CannotSplit("the model speaks first: there is no prompt" if turns else "the model took no turn")
        shape = _conversation_shape(messages, turns, tools)
        marks = None if self._has_control_tokens(messages) else self._shapes.get(shape)
        rows = None if marks is None else self._rows_by_marks(messages, tools, turns, *marks)
        if rows is None:
            rows = self._rows_exactly(messages, tools, turns)
            self._learn(shape, rows, messages, tools, turns)
        others = other_texts(messages, turns)
        for row in rows:
            for piece in row.pieces:
                if piece.turn is not None:
                    audit(piece.text, messages, piece.turn, self.template.special_tokens, others)
        return rows

    def _has_control_tokens(self, messages: list[ChatMessage]) -> bool:
        return any(self._control.found_in(text) for message in messages for text in texts_of(message))

    def _rows_exactly(self, messages: list[ChatMessage], tools: Json, turns: list[int]) -> list[TextRow]:
        rows: list[TextRow] = []
        so_far = ""
        for turn in turns:
            context, sampled, differs = self.split(messages, tools, turn)
            if not rows or not context.startswith(so_far):
                rows.append(TextRow([], False))
                so_far = ""
            rows[-1].pieces.extend([Piece(context[len(so_far) :], None), Piece(sampled, turn)])
            rows[-1] = rows[-1]._replace(differs=rows[-1].differs or differs)
            so_far = context + sampled
        return rows

    def context(self, messages: list[ChatMessage], tools: Json, turn: int) -> str:
        """Return the text that the template gives the sampler of a turn."""
        return self._render(messages[:turn], tools, generation=True)

    def split(self, messages: list[ChatMessage], tools: Json, turn: int) -> SplitTurn:
        """Return the text that a message was sampled from, and the model's text.

        The text after the context is the model's, less what templates put there of their own: the header once more, an empty
        thought, and the close of the conversation. It ends with the token that ends the turn.
        """
        context = self.context(messages, tools, turn)
        text = self._render(messages[: turn + 1], tools)
        has_thought = "reasoning_content" in messages[turn]
        differs = False
        if text.startswith(context):
            sampled = text[len(context) :]
        else:
            context, sampled, differs = self._join(context, text, self._render(messages[:turn], tools), has_thought)
        header = self.template.generation_prompt
        if header and sampled.startswith(header) and not context.endswith(header):
            # After a tool's result some generation prompts are empty, although the history then shows the header.
            sampled = sampled[len(header) :]
        if not has_thought and (length := self.template.empty_thought(sampled)):
            # The record has no such thought: the template writes it.
            context, sampled, differs = context + sampled[:length], sampled[length:], True
        if self.template.closing:
            sampled = sampled.rstrip().removesuffix(self.template.closing)
        end = self._end_of_turn(sampled)
        if end is not None:
            return SplitTurn(context, sampled[:end], differs)
        return SplitTurn(context, sampled.rstrip() + self._start_of_next(messages, tools, turn), differs)

    def keeps_contexts(self, messages: list[ChatMessage], turns: list[int], tools: Json) -> bool:
        """Return True if one rendering of all messages shows each turn in its sampler's context, without a thought it lacks.

        Raises CannotSplit if the template refuses the conversation.
        """
        shape = _conversation_shape(messages, turns, tools)
        if shape in self._plain_shapes and not self._has_control_tokens(messages):
            return True
        text = self._render(messages, tools)
        for turn in turns:
            context = self.context(messages, tools, turn)
            has_thought = "reasoning_content" in messages[turn]
            if not text.startswith(context) or (not has_thought and self.template.empty_thought(text[len(context) :])):
                return False
        if len(self._plain_shapes) < _MAX_SHAPES:
            self._plain_shapes.add(shape)
        return True

    def _join(self, context: str, text: str, history: str, has_thought: bool) -> SplitTurn:
        """Find a turn in a text that does not begin with its context, which is `history` and a generation prompt.

        First find the end of the history in the text, then compare what follows it with the generation prompt: the text shows
        all of the prompt, or another one (the turn's context is then what the text shows).
        """
        if not context.startswith(history):
            history = self.template.shared_start(context, history)
        prompt = context[len(history) :]
        if text.startswith(history):
            rest = text[len(history) :]
        else:
            # The history is rendered differently once the message follows it, but it ends in the same way.
            tail = history[-_TAIL:]
            place = text.rfind(tail)
            if place < 0:
                shared = self.template.shared_start(history, text)
                if not self._is_markup(history[len(shared) :]):
                    raise CannotSplit("the template shows the history in another way once the turn follows it")
                # It ends with a mark that it lacks once the message follows it.
                history, prompt, rest = shared, context[len(shared) :], text[len(shared) :]
            else:
                rest = text[place + len(tail) :]
        if rest.startswith(prompt):
            return SplitTurn(context, rest[len(prompt) :], False)
        header = self.template.generation_prompt
        if header and rest.startswith(header + prompt):
            return SplitTurn(context, rest[len(header + prompt) :], False)
        shared = self.template.shared_start(prompt, rest)
        prefilled, sampled = prompt[len(shared) :], rest[len(shared) :]
        if not prefilled.strip() or (not has_thought and self.template.ends_a_thought(prefilled)):
            return SplitTurn(context, sampled, False)
        # The prompt begins a thought that the turn does not have, for example.
        return SplitTurn(history + shared, sampled, True)

    def _start_of_next(self, messages: list[ChatMessage], tools: Json, turn: int) -> str:
        """Return the white space and the control token with which the next message begins.

        Some templates end a turn with nothing else. The model samples that token to end its turn.
        """
        role = messages[turn + 1]["role"] if turn + 1 < len(messages) else "user"
        following = {**messages[turn + 1], "content": _PROBE} if role == "tool" else {"role": "user", "content": _PROBE}
        message = messages[turn]
        if not message.get("tool_calls") and not any(text.strip() for text in texts_in(message)):
            # A thought alone is not shown any more when a user's message follows.
            message = {**message, "content": "It follows."}
        before = self._render([*messages[:turn], message, following], tools).split(_PROBE)[0]
        marks = [(before.rfind(token), token) for token in self.template.special_tokens if token in before]
        if marks:
            place, mark = max(marks)
            blank = before[:place][len(before[:place].rstrip()) :]
            # It is the message's own end only if the message's text stands right before it.
            near = before[max(0, place - 200) : place]
            if any(text.strip()[-20:] in near for text in texts_of(message) if text.strip()):
                return blank + mark
        raise CannotSplit(_NO_END)

    def _is_markup(self, text: str) -> bool:
        """Return True if a text has control tokens and white space only."""
        for token in self.template.special_tokens:
            text = text.replace(token, "")
        return not text.strip()

    def _end_of_turn(self, sampled: str) -> int | None:
        """Return the end of the last control token if only white space follows it."""
        text = sampled.rstrip()
        return len(text) if any(text.endswith(token) for token in self.template.special_tokens) else None

    def _render(self, messages: list[ChatMessage], tools: Json, *, generation: bool = False) -> str:
        try:
            return self.template.render(messages, tools, generation=generation)
        except Exception as error:  # a template raises errors of any type
            raise CannotSplit(refusal_reason(error)) from error

    def _learn(self, shape: Hashable, rows: list[TextRow], messages: list[ChatMessage], tools: Json, turns: list[int]) -> None:
        """Remember the marks around turns if they give the same pieces for this conversation."""
        if len(rows) != 1 or self._has_control_tokens(messages):
            return
        ((pieces, differs),) = rows
        special = self.template.special_tokens
        # The common end of the texts before the turns, at most 64 characters.
        start = _common_start([piece.text[-64:][::-1] for piece in pieces if piece.turn is None])[::-1]
        begin = max((start.rfind(token) for token in special), default=-1)
        if begin < 0:
            return
        start = start[begin:]
        sampled = [piece for piece in pieces if piece.turn is not None]
        ends = tuple(next((token for token in special if piece.text.endswith(token)), "") for piece in sampled)
        if all(ends) and self._rows_by_marks(messages, tools, turns, start, ends, differs) == rows:
            self._shapes[shape] = (start, ends, differs)
            if len(self._shapes) > _MAX_SHAPES:
                self._shapes.popitem(last=False)

    def _rows_by_marks(
        self, messages: list[ChatMessage], tools: Json, turns: list[int], start: str, ends: tuple[str, ...], differs: bool
    ) -> list[TextRow] | None:
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
        return [TextRow(row, differs)]


class Splitters:
    """The splitters of a template, one for each set of options that it is rendered with."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._splitters: dict[ChatTemplate, TurnSplitter] = {}

    def of(self, options: Mapping[str, Json]) -> TurnSplitter:
        """Return the splitter for options of the template."""
        template = self._template.with_options(options)
        if template not in self._splitters:
            if len(self._splitters) > _MAX_SPLITTERS:
                self._splitters.clear()
            self._splitters[template] = TurnSplitter(template)
        return self._splitters[template]


def _common_start(texts: list[str]) -> str:
    return commonprefix(texts)  # noqa: RUF071 - these are no paths


def _conversation_shape(messages: list[ChatMessage], turns: list[int], tools: Json) -> Hashable:
    return (tuple(map(_shape_of, messages)), tuple(turns), tools is None)


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
    for call in message.get("tool_calls", ()):
        arguments = call["function"]["arguments"]
        if isinstance(arguments, str) and arguments.strip() not in sampled:
            raise CannotSplit("the template writes the text of a malformed call in another way than the model")
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
