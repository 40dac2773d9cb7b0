"""A tokenizer's chat template: what it can render, and which part of what it renders the model said."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.export.conversation import ChatMessage
from openreward_gym.export.messages import with_text_arguments
from openreward_gym.types import Json

_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "probe_tool", "description": "A probe.", "parameters": {"type": "object", "properties": {}}},
}


class ChatTemplate:
    """A tokenizer and its chat template.

    Args:
        processor: A transformers tokenizer, or a processor that has one.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        if not getattr(processor, "chat_template", None) and not getattr(self.tokenizer, "chat_template", None):
            name = getattr(self.tokenizer, "name_or_path", "") or type(self.tokenizer).__name__
            raise ConfigurationError(f"the tokenizer {name!r} has no chat template: take an instruct model's, or set one")

    @classmethod
    def of(cls, tokenizer: Any) -> ChatTemplate:
        """A template of a tokenizer, a processor, a model's name, or a folder."""
        if isinstance(tokenizer, ChatTemplate):
            return tokenizer
        if isinstance(tokenizer, (str, os.PathLike)):
            from transformers import AutoTokenizer

            name = os.fspath(tokenizer)
            try:
                tokenizer = AutoTokenizer.from_pretrained(name)
            except Exception as error:  # whatever the files, the Hub or the network say
                said = str(error).strip().splitlines()
                raise ConfigurationError(f"no tokenizer {name!r}: {said[0] if said else error!r}") from error
        if not hasattr(tokenizer, "apply_chat_template"):
            raise ConfigurationError(f"a {type(tokenizer).__name__} is no tokenizer: give one, a model's name, or a folder")
        return cls(tokenizer)

    def render(self, messages: list[ChatMessage], tools: Json, *, generation: bool = False) -> str:
        """The text of a conversation; `generation`: with the prompt for the assistant's next turn at its end.

        Raises:
            Exception: Whatever the template raises about what it does not take.
        """
        if self._text_arguments:
            messages = [_with_text_arguments(message) for message in messages]
        return self._apply(messages, tools, generation)

    def _apply(self, messages: list[ChatMessage], tools: Json, generation: bool) -> str:
        text = self.processor.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=generation)
        return str(text)

    def renders(self, messages: list[ChatMessage], tools: Json) -> bool:
        """Whether the template takes the conversation."""
        try:
            self.render(messages, tools)
        except Exception:  # a template raises what it likes
            return False
        return True

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """The tokens that the tokenizer reads as control tokens."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        own = {str(token) for token in added.values() if getattr(token, "special", False)}
        return tuple(sorted({*own, *map(str, self.tokenizer.all_special_tokens)}, key=len, reverse=True))

    @cached_property
    def added_tokens(self) -> tuple[str, ...]:
        """Those, and all others that are never cut in two (`<think>`, `<tool_call>` ...)."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        return tuple({*self.special_tokens, *map(str, added.values())})

    @cached_property
    def _text_arguments(self) -> bool:
        # DeepSeek-V3's own template joins the arguments to text.
        objects = _called({"x": "probe_value"})
        return not self._takes(objects) and self._takes([_with_text_arguments(message) for message in objects])

    @cached_property
    def has_tools(self) -> bool:
        """Whether calls and their results are in the text."""
        text = self._text_of(_called({"x": "probe_value"}))
        return text is not None and "probe_tool" in text and "probe_value" in text and "probe_result" in text

    @cached_property
    def parallel_calls(self) -> bool:
        """Whether several calls of one message are in the text."""
        text = self._text_of(_called({"x": "probe_value"}, {"x": "probe_other"}))
        return text is not None and "probe_value" in text and "probe_other" in text

    @cached_property
    def system(self) -> bool:
        """Whether it takes a system message."""
        text = self._text_of([{"role": "system", "content": "probe_system"}, {"role": "user", "content": "hello"}])
        return text is not None and "probe_system" in text

    @cached_property
    def image_mark(self) -> str:
        """What stands for an image; empty where the template shows none."""
        with_image = [{"type": "image"}, {"type": "text", "text": "probe_text"}]
        shown = self._text_of([{"role": "user", "content": with_image}])
        plain = self._text_of([{"role": "user", "content": with_image[1:]}])
        if shown is None or plain is None or "probe_text" not in plain:
            return ""
        before, _, after = plain.partition("probe_text")
        mark = shown.removeprefix(before).removesuffix("probe_text" + after)
        return mark.strip() if shown == before + mark + "probe_text" + after else ""

    @cached_property
    def generation_prompt(self) -> str:
        """What stands before the assistant's answer to a user; empty where that is not one text of its own."""
        asked: list[ChatMessage] = [{"role": "user", "content": "hello"}]
        try:
            before, whole = self.render(asked, None), self.render(asked, None, generation=True)
        except Exception:  # a template raises what it likes
            return ""
        return whole[len(before) :] if whole.startswith(before) else ""

    def _takes(self, messages: list[ChatMessage]) -> bool:
        try:
            self._apply(messages, [_TOOL], False)
        except Exception:  # a template raises what it likes
            return False
        return True

    def _text_of(self, messages: list[ChatMessage]) -> str | None:
        try:
            return self.render(messages, [_TOOL])
        except Exception:  # a template raises what it likes
            return None

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The token ids of each text, none added."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
            return ids
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """(the token ids, where each begins and ends in `text`)."""
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoding["input_ids"], encoding["offset_mapping"]

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    @cached_property
    def joins(self) -> bool:
        """Whether the ids of two texts are, one after the other, the ids of the whole; some tokenizers put a blank before."""
        whole = "Hello world\nIt is it.\n Yes"
        parts = ["Hello world\n", "It is it.\n", " Yes"]
        return self.decode([token for ids in self.encode(parts) for token in ids]) == whole


def _called(*arguments: dict[str, Any]) -> list[ChatMessage]:
    calls = [
        {"id": f"probe{n:04d}", "type": "function", "function": {"name": "probe_tool", "arguments": given}}
        for n, given in enumerate(arguments)
    ]
    results = [{"role": "tool", "tool_call_id": call["id"], "name": "probe_tool", "content": "probe_result"} for call in calls]
    user = {"role": "user", "content": "hello"}
    return [user, {"role": "assistant", "content": "", "tool_calls": calls}, *results, {"role": "assistant", "content": "done"}]


def _with_text_arguments(message: ChatMessage) -> ChatMessage:
    if "tool_calls" not in message:
        return message
    return {**message, "tool_calls": [with_text_arguments(call) for call in message["tool_calls"]]}
