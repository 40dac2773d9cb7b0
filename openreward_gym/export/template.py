"""A tokenizer's chat template: its text of a conversation, and what it can render."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from os.path import commonprefix
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from openreward_gym import jsonio
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.conversation import ChatMessage, Conversation, with_text_arguments
from openreward_gym.export.options import RESERVED_TEMPLATE_OPTIONS
from openreward_gym.export.reader import Record
from openreward_gym.types import Json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

Tokenizer: TypeAlias = "str | os.PathLike[str] | PreTrainedTokenizerBase | ProcessorMixin"
"""A model's name, a folder, or a transformers tokenizer or processor."""

_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "probe_tool", "description": "A probe.", "parameters": {"type": "object", "properties": {}}},
}


_HELLO: ChatMessage = {"role": "user", "content": "hello"}
_MAX_VARIANTS = 64
_CALL_ID = re.compile(r"[a-zA-Z0-9]{9}")


class ThoughtMarks(NamedTuple):
    """The texts around a thought: `<think>` (empty if the generation prompt has it), `</think>`, and the white space after it."""

    begin: str
    end: str
    blank: str


class ChatTemplate:
    """A transformers tokenizer, or a processor that has one, and its chat template.

    Args:
        processor: The tokenizer or processor.
        options: Arguments that every rendering passes to the template (`chat_template_kwargs`).
    """

    def __init__(self, processor: Any, options: Mapping[str, Json] | None = None) -> None:
        self.processor = processor
        self.options = dict(options or {})
        self._variants: OrderedDict[bytes, ChatTemplate] = OrderedDict()
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
                lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
                words = " ".join(lines[:3]) if lines[0].endswith(":") else lines[0]
                raise ConfigurationError(
                    f"the tokenizer {name!r} cannot be loaded: {words} (it must be a model's name on the Hub, or a folder)"
                ) from error
        if not hasattr(tokenizer, "apply_chat_template"):
            raise ConfigurationError(
                f"a {type(tokenizer).__name__} is not a tokenizer: pass a transformers tokenizer, a model's name, or a folder"
            )
        return cls(tokenizer)

    def with_options(self, options: Mapping[str, Json]) -> ChatTemplate:
        """Return the same template with other options."""
        if options == self.options:
            return self
        key = jsonio.dumps(options)
        if key not in self._variants:
            variant = self._variants[key] = ChatTemplate(self.processor, options)
            # Properties of the tokenizer, which no option changes.
            variant.special_tokens, variant.concatenates = self.special_tokens, self.concatenates
            if len(self._variants) > _MAX_VARIANTS:
                self._variants.popitem(last=False)
        return self._variants[key]

    def render(self, messages: list[ChatMessage], tools: Json, *, generation: bool = False) -> str:
        """Return the text of a conversation; with `generation`, the prompt for the assistant's next turn follows it.

        A template raises errors of any type about a conversation that it refuses.
        """
        if self._text_arguments:
            messages = list(map(with_text_arguments, messages))
        if self._content_parts:
            messages = list(map(_with_content_parts, messages))
        return self._apply(messages, tools, generation)

    def _apply(self, messages: list[ChatMessage], tools: Json, generation: bool) -> str:
        return str(
            self.processor.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=generation, **self.options
            )
        )

    def renders(self, messages: list[ChatMessage], tools: Json) -> bool:
        """Return True if the template accepts the conversation."""
        return self._rendered(messages, tools) is not None

    def refusal(self, messages: list[ChatMessage], tools: Json, *, generation: bool = False) -> str | None:
        """Return the template's reason against these very messages, with no change to them; None if it renders them."""
        try:
            self._apply(messages, tools, generation)
        except Exception as error:  # a template raises errors of any type
            return refusal_reason(error)
        return None

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
    def _content_parts(self) -> bool:
        # Some vision models' templates loop over the parts of a content, and show nothing of a text.
        parts = [{"role": "user", "content": [{"type": "text", "text": "probe_text"}]}]

        def shows(messages: list[ChatMessage]) -> bool:
            try:
                return "probe_text" in self._apply(messages, None, False)
            except Exception:  # a template raises errors of any type
                return False

        return not shows([{"role": "user", "content": "probe_text"}]) and shows(parts)

    @cached_property
    def nine_letter_ids(self) -> bool:
        """True if the template takes call ids of nine letters and digits only, as Mistral's do."""
        calls = _conversation_with_calls({"x": "probe_value"})
        return self.renders(calls, [_TOOL]) and not self.renders(_with_ids(calls, {"probe0000": "call_probe0"}), [_TOOL])

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
        try:
            before, after = self.render([_HELLO], None), self.render([_HELLO], None, generation=True)
        except Exception:  # a template raises errors of any type
            return ""
        return after[len(before) :] if after.startswith(before) else ""

    def shared_start(self, first: str, second: str) -> str:
        """Return the beginning that both texts share, without cutting a token in two."""
        length = len(commonprefix([first, second]))  # noqa: RUF071 - these are no paths
        for token in self.added_tokens:
            begin = max(first.rfind(token, 0, length + len(token) - 1), second.rfind(token, 0, length + len(token) - 1))
            if 0 <= begin < length < begin + len(token):
                length = begin
        return first[:length]

    @cached_property
    def closing(self) -> str:
        """The text at the end of a conversation that follows the last turn's end and that no sampler writes; often empty."""
        turn: list[ChatMessage] = [_HELLO, {"role": "assistant", "content": "probe_text"}]
        text, longer = (self._rendered(turn, None) or "").rstrip(), self._rendered([*turn, _HELLO], None) or ""
        end = self.shared_start(text, longer).rstrip()
        return text[len(end) :].strip() if end.endswith(self.special_tokens) else ""

    @cached_property
    def thought_marks(self) -> ThoughtMarks | None:
        """The marks around a thought; None if the template shows none."""
        answer: ChatMessage = {"role": "assistant", "content": "probe_text", "reasoning_content": "probe_thought"}
        text = self._rendered([_HELLO, answer], None) or ""
        before, thought, rest = text.partition("probe_thought")
        between, shown, _ = rest.partition("probe_text")
        end = between.strip()
        if not thought or not shown or not end:
            return None
        context = self.render([_HELLO], None, generation=True)
        begin = before[len(self.shared_start(context, before)) :]
        return ThoughtMarks(begin.strip(), end, between[len(between.rstrip()) :])

    def empty_thought(self, sampled: str) -> int:
        """Return the length of the empty thought with which a turn's text begins; 0 without one."""
        if self.thought_marks is None:
            return 0
        begin, end, blank = self.thought_marks
        text = sampled.lstrip()
        if begin and text.startswith(begin):
            text = text[len(begin) :].lstrip()
        if not text.startswith(end):
            return 0
        text = text[len(end) :].removeprefix(blank)
        return len(sampled) - len(text)

    def ends_a_thought(self, text: str) -> bool:
        """Return True if a text ends with the end of a thought, white space aside."""
        return text.rstrip().endswith("</think>" if self.thought_marks is None else self.thought_marks.end)

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
    answer = {"role": "assistant", "content": "done"}
    return [_HELLO, {"role": "assistant", "content": "", "tool_calls": calls}, *results, answer]


def refusal_reason(error: Exception) -> str:
    """Return the reason for which a template refuses a conversation, in its own words."""
    reason = str(error).splitlines()[0][:100] if str(error).strip() else repr(error)
    return f"the template refuses it: {reason}"


def template_options_of(record: Record, options: Mapping[str, Json] | None) -> dict[str, Json]:
    """Return the options of the template for a rollout: those of the export, or else those that it was sampled with."""
    if options is not None:
        return dict(options)
    sampling = record.get("sampling") or {}
    recorded = sampling.get("chat_template_kwargs") or (sampling.get("extra_body") or {}).get("chat_template_kwargs") or {}
    return {name: value for name, value in recorded.items() if name not in RESERVED_TEMPLATE_OPTIONS}


def rename_call_ids(conversation: Conversation) -> bool:
    """Rename the calls to ids of nine letters and digits, in place; return whether one had another id."""
    used = {call["id"] for message in conversation.messages for call in message.get("tool_calls", ())}
    others = [name for name in used if not _CALL_ID.fullmatch(name)]
    if not others:
        return False
    free = (name for number in range(10**5) if (name := f"call{number:05d}") not in used)
    order = [call["id"] for message in conversation.messages for call in message.get("tool_calls", ())]
    names = dict(zip((name for name in order if not _CALL_ID.fullmatch(name)), free, strict=False))
    conversation.messages[:] = _with_ids(conversation.messages, names)
    return True


def _with_ids(messages: list[ChatMessage], names: Mapping[str, str]) -> list[ChatMessage]:
    renamed = []
    for message in messages:
        if "tool_calls" in message:
            calls = [{**call, "id": names.get(call["id"], call["id"])} for call in message["tool_calls"]]
            message = {**message, "tool_calls": calls}
        elif "tool_call_id" in message:
            message = {**message, "tool_call_id": names.get(message["tool_call_id"], message["tool_call_id"])}
        renamed.append(message)
    return renamed


def _with_content_parts(message: ChatMessage) -> ChatMessage:
    content = message["content"]
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message
