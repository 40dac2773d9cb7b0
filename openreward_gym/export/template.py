"""A tokenizer's chat template: its text of a conversation, and what it can render."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from openreward_gym.errors import ConfigurationError
from openreward_gym.export.conversation import ChatMessage, with_text_arguments
from openreward_gym.types import Json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

Tokenizer: TypeAlias = "str | os.PathLike[str] | PreTrainedTokenizerBase | ProcessorMixin"
"""A model's name, a folder, or a transformers tokenizer or processor."""

_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "probe_tool", "description": "A probe.", "parameters": {"type": "object", "properties": {}}},
}


class ChatTemplate:
    """A transformers tokenizer, or a processor that has one, and its chat template."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        if not getattr(processor, "chat_template", None) and not getattr(self.tokenizer, "chat_template", None):
            name = getattr(self.tokenizer, "name_or_path", "") or type(self.tokenizer).__name__
            raise ConfigurationError(
                f"the tokenizer {name!r} has no chat template: take an instruct model's tokenizer, or set its chat_template"
            )

    @classmethod
    def of(cls, tokenizer: Tokenizer | ChatTemplate) -> ChatTemplate:
        """Return the template of a tokenizer, a processor, a model's name, or a folder.

        Raises:
            ConfigurationError: The tokenizer cannot be loaded, or it has no chat template.
        """
        if isinstance(tokenizer, ChatTemplate):
            return tokenizer
        if isinstance(tokenizer, (str, os.PathLike)):
            from transformers import AutoTokenizer

            name = os.fspath(tokenizer)
            try:
                tokenizer = AutoTokenizer.from_pretrained(name)
            except Exception as error:  # of the files, the Hub or the network
                reason = (str(error).strip().splitlines() or [repr(error)])[0]
                raise ConfigurationError(f"the tokenizer {name!r} cannot be loaded: {reason}") from error
        if not hasattr(tokenizer, "apply_chat_template"):
            raise ConfigurationError(
                f"a {type(tokenizer).__name__} is not a tokenizer: pass a transformers tokenizer, a model's name, or a folder"
            )
        return cls(tokenizer)

    def render(self, messages: list[ChatMessage], tools: Json, *, generation: bool = False) -> str:
        """Return the text of a conversation; with `generation`, the prompt for the assistant's next turn follows it.

        A template raises errors of any type about a conversation that it refuses.
        """
        if self._text_arguments:
            messages = list(map(with_text_arguments, messages))
        return self._apply(messages, tools, generation)

    def _apply(self, messages: list[ChatMessage], tools: Json, generation: bool) -> str:
        return str(self.processor.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=generation))

    def renders(self, messages: list[ChatMessage], tools: Json) -> bool:
        """Return True if the template accepts the conversation."""
        return self._rendered(messages, tools) is not None

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """The tokens that the tokenizer reads as control tokens."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        own = {str(token) for token in added.values() if getattr(token, "special", False)}
        return tuple(sorted({*own, *map(str, self.tokenizer.all_special_tokens)}, key=len, reverse=True))

    @cached_property
    def added_tokens(self) -> tuple[str, ...]:
        """The special tokens, and all others that are never cut in two (`<think>`, `<tool_call>` ...)."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        return tuple({*self.special_tokens, *map(str, added.values())})

    @cached_property
    def _text_arguments(self) -> bool:
        # DeepSeek-V3's own template concatenates the arguments with text.
        objects = _conversation_with_calls({"x": "probe_value"})

        def accepts(messages: list[ChatMessage]) -> bool:
            try:
                self._apply(messages, [_TOOL], False)
            except Exception:  # a template raises errors of any type
                return False
            return True

        return not accepts(objects) and accepts(list(map(with_text_arguments, objects)))

    @cached_property
    def has_tools(self) -> bool:
        """True if the text shows calls and their results."""
        return self._shows(_conversation_with_calls({"x": "probe_value"}), "probe_tool", "probe_value", "probe_result")

    @cached_property
    def parallel_calls(self) -> bool:
        """True if the text shows several calls of one message."""
        return self._shows(_conversation_with_calls({"x": "probe_value"}, {"x": "probe_other"}), "probe_value", "probe_other")

    @cached_property
    def system(self) -> bool:
        """True if the template accepts a system message."""
        return self._shows([{"role": "system", "content": "probe_system"}, {"role": "user", "content": "hello"}], "probe_system")

    def _shows(self, messages: list[ChatMessage], *words: str) -> bool:
        text = self._rendered(messages, [_TOOL]) or ""
        return all(word in text for word in words)

    @cached_property
    def image_mark(self) -> str:
        """The text that stands for an image; empty if the template shows no images."""
        with_image = [{"type": "image"}, {"type": "text", "text": "probe_text"}]
        shown = self._rendered([{"role": "user", "content": with_image}], [_TOOL])
        plain = self._rendered([{"role": "user", "content": with_image[1:]}], [_TOOL])
        if shown is None or plain is None or "probe_text" not in plain:
            return ""
        before, _, after = plain.partition("probe_text")
        mark = shown.removeprefix(before).removesuffix("probe_text" + after)
        return mark.strip() if shown == before + mark + "probe_text" + after else ""

    @cached_property
    def generation_prompt(self) -> str:
        """The text between a user's message and the assistant's answer; empty if it cannot be told apart from the message."""
        question: list[ChatMessage] = [{"role": "user", "content": "hello"}]
        try:
            before, after = self.render(question, None), self.render(question, None, generation=True)
        except Exception:  # a template raises errors of any type
            return ""
        return after[len(before) :] if after.startswith(before) else ""

    def _rendered(self, messages: list[ChatMessage], tools: Json) -> str | None:
        """Return the text of a conversation; None if the template refuses it."""
        try:
            return self.render(messages, tools)
        except Exception:  # a template raises errors of any type
            return None

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of each text, without added ones."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
            return ids
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the token ids, and for each its first and last position in `text`."""
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoding["input_ids"], encoding["offset_mapping"]

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids, special tokens included."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    @cached_property
    def concatenates(self) -> bool:
        """True if the ids of two texts, concatenated, are the ids of their concatenation; some tokenizers insert a blank."""
        parts = ["Hello world\n", "It is it.\n", " Yes"]
        return self.decode([token for ids in self.encode(parts) for token in ids]) == "".join(parts)


def _conversation_with_calls(*arguments: dict[str, Any]) -> list[ChatMessage]:
    calls = [
        {"id": f"probe{n:04d}", "type": "function", "function": {"name": "probe_tool", "arguments": call}}
        for n, call in enumerate(arguments)
    ]
    results = [{"role": "tool", "tool_call_id": call["id"], "name": "probe_tool", "content": "probe_result"} for call in calls]
    user = {"role": "user", "content": "hello"}
    return [user, {"role": "assistant", "content": "", "tool_calls": calls}, *results, {"role": "assistant", "content": "done"}]
