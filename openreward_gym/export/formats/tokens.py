"""Token ids and labels, for a named tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from openreward_gym.errors import ConfigurationError
from openreward_gym.export.conversation import Conversation
from openreward_gym.export.formats.base import Context, Format, LeftOut, images_in
from openreward_gym.export.masks import CannotMask, Masks, Piece, Span, ids_and_spans, labels_of, plain
from openreward_gym.export.source import Record
from openreward_gym.export.tables import Columns, Row
from openreward_gym.export.template import ChatTemplate


class Tokens(Format):
    """`input_ids` and `labels` (-100: no loss); the sampler's own ids and log-probabilities where all turns have them."""

    name = "tokens"
    # Of rollouts with images: the marks as the template makes them; a processor makes of them and the pixels what a model takes.
    about = "input_ids and labels, the loss on what the model said alone, checked for the tokenizer that was given"
    needs_tokenizer = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if context.template is None:
            raise ConfigurationError("the format 'tokens' needs a tokenizer: tokenizer='a model's name or folder'")
        self._template: ChatTemplate = context.template
        self._masks = Masks(context.template)

    def columns(self) -> Columns:
        return {"input_ids": "ids", "labels": "ids", "logprobs": "floats"}

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        if conversation.images and not self._template.image_mark:
            raise LeftOut("it has images: the template shows none (take a vision model's tokenizer, or sft)")
        rows = self._sampled(conversation)
        if rows is not None:
            conversation.findings.add("sampled_tokens_used")
        else:
            rows = self._rendered(conversation)
        if len(rows) > 1:
            conversation.findings.add("context_changes")
        for ids, spans, logprobs, images in rows:
            if self.options.max_length is not None and len(ids) > self.options.max_length:
                self.context.report.dropped_rows[f"longer than {self.options.max_length} tokens"] += 1
                continue
            input_ids = np.fromiter(ids, np.int32, len(ids))
            yield self.row(
                conversation, input_ids=input_ids, labels=labels_of(input_ids, spans), logprobs=logprobs, images=images
            )

    def _rendered(self, conversation: Conversation) -> list[_Tokens]:
        try:
            rows = self._masks.rows(conversation.messages, conversation.tools)
        except CannotMask as reason:
            raise LeftOut(str(reason)) from None
        return [(*ids_and_spans(self._template, row), None, self._images(conversation, row)) for row in rows]

    def _images(self, conversation: Conversation, row: list[Piece]) -> list[bytes]:
        """The images that the row shows: those of all messages up to its last turn."""
        if not conversation.images:
            return []
        last = max(piece.turn for piece in row if piece.turn is not None)
        images = conversation.images[: images_in(conversation.messages[:last])]
        if plain(row).count(self._template.image_mark) != len(images):
            raise LeftOut("the template shows other images than there are")
        return images

    def _sampled(self, conversation: Conversation) -> list[_Tokens] | None:
        """Rows of the recorded ids; None where a turn has none, or they are another tokenizer's."""
        turns = [message for message in conversation.record.get("messages") or () if message["role"] == "assistant"]
        if not turns or not all(turn.get("token_ids") and turn.get("prompt_token_ids") for turn in turns):
            return None
        if not all(self._is_ours(turn) for turn in turns):
            return None
        with_logprobs = all(len(turn.get("logprobs") or ()) == len(turn["token_ids"]) for turn in turns)
        if conversation.images:
            # Where the sampler saw which image, its ids do not say.
            return None
        rows: list[_Tokens] = []
        ids: list[int] = []
        spans: list[Span] = []
        logprobs: list[float] = []
        for turn in turns:
            prompt, said = turn["prompt_token_ids"], turn["token_ids"]
            if ids and prompt[: len(ids)] != ids:
                rows.append((ids, spans, logprobs if with_logprobs else None, []))
                ids, spans, logprobs = [], [], []
            new = len(prompt) - len(ids)
            ids = [*prompt, *said]
            spans = [*spans, (len(prompt), len(ids))]
            if with_logprobs:
                logprobs = [*logprobs, *[0.0] * new, *map(float, turn["logprobs"])]
        return [*rows, (ids, spans, logprobs if with_logprobs else None, [])]

    def _is_ours(self, turn: Record) -> bool:
        """Whether the recorded ids, read by this tokenizer, say what the message says."""
        size = len(self._template.tokenizer)
        ids = turn["token_ids"]
        if not all(0 <= token < size for token in [*ids, *turn["prompt_token_ids"]]):
            return False
        said = self._template.decode(ids)
        texts = (part["text"] for part in turn.get("blocks", ()) if part["type"] == "text")
        names = (part["name"] for part in turn.get("blocks", ()) if part["type"] == "tool_call")
        return all(text.strip() in said for text in (*texts, *names))


_Tokens = tuple[list[int], list[Span], list[float] | None, list[bytes]]
