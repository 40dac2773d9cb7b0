"""The text that a chat template writes after a turn of the assistant: its end, the messages that followed, the next prompt.

The turn itself is never rendered. In its place stands a turn of the same form with marks for its parts:

    rendered    <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nMARK<|im_end|>\\n<|im_start|>user\\nAnd?<|im_end|>\\n...
    the text                                                             <|im_end|>\\n<|im_start|>user\\nAnd?<|im_end|>\\n...

The marks also tell whether the template keeps the history: a template that leaves out the reasoning of earlier turns does not
show the mark of the reasoning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from openreward_gym.errors import TokenHistoryError
from openreward_gym.export.conversation import ChatMessage, texts_in
from openreward_gym.export.template import ChatTemplate, refusal_reason
from openreward_gym.types import Json

_HELLO: ChatMessage = {"role": "user", "content": "hello"}
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "probe_tool", "description": "A probe.", "parameters": {"type": "object", "properties": {}}},
}
_RESULT = "probe_result"
_MOST_END_MARKS = 8
_NO_END = "it does not show where the turn ends"
_MOVED = "it shows the turn's text after its calls"


@dataclass(frozen=True, slots=True)
class Continuation:
    """What follows a sampled turn in the next prompt.

    Attributes:
        text: The template's text after the turn's own words, marks of its end included. None if the template does not show where
            the turn ends.
        rewritten: How the template rewrites what came before; empty if the history stays as it was.
        rendered: The template's text of the whole conversation, new messages and generation prompt included.
        turn: The turn in the form in which it is rendered there: as it is, or as the template accepts it.
        is_whole: Whether this form has all parts of the turn.

    Example:
        >>> turn = {"role": "assistant", "content": "Hi"}
        >>> Continuation("<|im_end|>\\n", "", "<|im_start|>assistant\\nHi<|im_end|>\\n", turn, True).rewritten
        ''
    """

    text: str | None
    rewritten: str
    rendered: str
    turn: ChatMessage
    is_whole: bool


@dataclass(frozen=True, slots=True)
class _Form:
    """A form of a turn: as it is, and with marks in place of its parts."""

    turn: ChatMessage
    marked: ChatMessage
    parts: dict[str, str]
    is_whole: bool


class TemplateExtender:
    """Extends conversations of sampled turns, for one chat template.

    Args:
        template: The template.

    Example:
        >>> from openreward_gym.export.template import ChatTemplate  # doctest: +SKIP
        >>> extender = TemplateExtender(ChatTemplate.of("Qwen/Qwen3-0.6B"))  # doctest: +SKIP
        >>> history, turn = [{"role": "user", "content": "Hi"}], {"role": "assistant", "content": "Hello."}  # doctest: +SKIP
        >>> extender.after(history, turn, [{"role": "user", "content": "And?"}], None, raw_text="Hello.").text  # doctest: +SKIP
        '<|im_end|>\\n<|im_start|>user\\nAnd?<|im_end|>\\n<|im_start|>assistant\\n'
    """

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template
        self._closing = _closing_of_calls(template)
        self._shows_thoughts = _shows(template, {"role": "assistant", "content": "probe_text", "reasoning_content": "probe_mark"})
        self._shows_calls = _shows(template, _call_turn("probe_mark"))
        self._empty_thought = _empty_thought(template)
        self.end_marks = frozenset(self._end_marks())
        """The control tokens with which the template ends a turn of the assistant, as texts."""

    def after(
        self,
        history: Sequence[ChatMessage],
        turn: ChatMessage,
        new: Sequence[ChatMessage],
        tools: Json,
        *,
        raw_text: str,
        end: str = "",
        before: str | None = None,
    ) -> Continuation:
        """Return what the template writes after a turn.

        Args:
            history: The messages before the turn.
            turn: The turn, as it was read from what was sampled.
            new: The messages after it.
            tools: The tools, in OpenAI's format.
            raw_text: The sampled text, without its end. A turn that the template refuses is shown as this text.
            end: The control token with which the sampled turn ended; empty if it was cut off.
            before: The template's text of `history` with the generation prompt, with which the new text should begin. None
                renders it.

        Raises:
            TokenHistoryError: The template refuses the conversation in every form.
        """
        if turn.get("tool_calls") and not self._shows_calls:
            turn = {"role": "assistant", "content": raw_text}
        elif not self._shows_thoughts:
            turn = _with_thought_as_text(turn)
        mark = _unused_word([*history, *new], tools)
        refusal: Exception | None = None
        for form in _forms(turn, raw_text, mark):
            try:
                rendered = self.template.render([*history, form.turn, *new], tools, generation=True)
                text = self.template.render([*history, form.marked, *new], tools, generation=True)
            except Exception as error:  # a template raises errors of any type
                refusal = refusal or error
                continue
            rewritten = (
                self._changed_history(text, history, tools, before)
                or _changed_turn(text, form.parts)
                or _changed_text(rendered, form.turn)
            )
            tail = self._tail(text, form, end)
            if tail is None and form.marked.get("tool_calls") and form.marked["content"]:
                # The template shows the turn's text after the calls, or even after their results.
                tail, rewritten = self._tail_without_text(history, form, new, tools, end), rewritten or _MOVED
            if tail is None:
                rewritten = rewritten or _NO_END
            return Continuation(tail, rewritten, rendered, form.turn, form.is_whole)
        assert refusal is not None
        reason = refusal_reason(refusal)
        raise TokenHistoryError(f"the chat template cannot continue the conversation: {reason}", reason=reason) from refusal

    def _tail_without_text(
        self, history: Sequence[ChatMessage], form: _Form, new: Sequence[ChatMessage], tools: Json, end: str
    ) -> str | None:
        """Return the text after a turn with calls whose own text the template shows elsewhere."""
        calls = _Form(form.turn, {**form.marked, "content": ""}, {}, form.is_whole)
        try:
            return self._tail(self.template.render([*history, calls.marked, *new], tools, generation=True), calls, end)
        except Exception:  # a template raises errors of any type
            return None

    def _changed_history(self, text: str, history: Sequence[ChatMessage], tools: Json, before: str | None) -> str:
        """Return how a text differs from the text of the history before it; empty if it continues it.

        Four differences change nothing of what was said, and count as drift alone: white space, empty thoughts, which some
        templates write in the latest turns only, control tokens at the end, and the generation prompt.
        """
        if before is None:
            before = self.template.render(list(history), tools, generation=True)
        if text.startswith(before):
            return ""
        words, words_before = self._words(text), self._words(before)
        shared = len(self.template.shared_start(words, words_before))
        rest = words_before[shared:]
        for token in self.template.special_tokens:
            rest = rest.replace(token, "")
        if not rest:
            return ""
        try:
            plain = self._words(self.template.render(list(history), tools))
        except Exception:  # a template raises errors of any type
            plain = words_before
        if shared >= len(self.template.shared_start(words_before, plain)):
            return ""
        return "it shows earlier messages in another way once new ones follow"

    def _words(self, text: str) -> str:
        """Return a text without white space and without empty thoughts."""
        return "".join((text if self._empty_thought is None else self._empty_thought.sub("", text)).split())

    def _tail(self, text: str, form: _Form, end: str) -> str | None:
        """Return the text after the turn's own words."""
        anchor = _last_mark(form)
        _before, found, tail = text.rpartition(anchor)
        if not found or any(mark in tail for mark in form.parts.values()):
            return None
        if not form.marked.get("tool_calls"):
            return tail
        if self._closing is not None and tail.startswith(self._closing):
            return tail[len(self._closing) :]
        if end and end in tail:
            return tail[tail.index(end) :]
        return None

    def _end_marks(self) -> Iterator[str]:
        """Yield the control tokens that a sampler may end a turn with."""
        tokenizer = self.template.tokenizer
        if tokenizer.eos_token:
            yield str(tokenizer.eos_token)
        text: ChatMessage = {"role": "assistant", "content": "probe_text"}
        call = _call_turn("probe_mark")
        for turn, new in ((text, [_HELLO]), (call, [_result()]), (text, []), (call, [])):
            try:
                rendered = self.template.render([_HELLO, turn, *new], [_TOOL])
            except Exception:  # a template raises errors of any type
                continue
            found, tail = rendered.rpartition("probe_text" if turn is text else "probe_mark")[1:]
            if turn is call and self._closing is not None:
                tail = tail.removeprefix(self._closing)
            first = min(((tail.find(token), token) for token in self.template.special_tokens if token in tail), default=None)
            if found and first is not None and (turn is text or self._closing is not None):
                yield first[1]


def extension_ids(template: ChatTemplate, sampled: Sequence[int], text: str, encode: Any = None) -> list[int]:
    """Return the ids of a continuation, without the marks of the turn's end that the sampler wrote itself.

    Args:
        template: The template.
        sampled: The sampled ids of the turn.
        text: The text of the continuation.
        encode: Encodes a text with images. None takes the tokenizer.

    Example:
        >>> from openreward_gym.export.template import ChatTemplate  # doctest: +SKIP
        >>> template = ChatTemplate.of("Qwen/Qwen3-0.6B")  # doctest: +SKIP
        >>> extension_ids(template, [9707, 151645], "<|im_end|>\\n")  # doctest: +SKIP
        [198]
    """
    ids = _encode_after(template, sampled, text) if encode is None else list(encode(text))
    control = control_ids(template)
    for length in range(min(len(sampled), len(ids), _MOST_END_MARKS), 0, -1):
        written = list(sampled[-length:])
        if written == ids[:length] and not control.isdisjoint(written):
            return ids[length:]
    if sampled[-1] in control:
        for place, token in enumerate(ids[:_MOST_END_MARKS]):
            if token not in control and template.decode([token]).strip():
                break
            if token == sampled[-1]:
                return ids[place + 1 :]
    return ids


def control_ids(template: ChatTemplate) -> frozenset[int]:
    """Return the ids of the tokenizer's control tokens.

    Example:
        >>> from openreward_gym.export.template import ChatTemplate  # doctest: +SKIP
        >>> 151645 in control_ids(ChatTemplate.of("Qwen/Qwen3-0.6B"))  # doctest: +SKIP
        True
    """
    return frozenset(template.tokenizer.convert_tokens_to_ids(list(template.special_tokens)))


def _encode_after(template: ChatTemplate, sampled: Sequence[int], text: str) -> list[int]:
    """Return the ids of a text that follows the sampled ids."""
    (ids,) = template.encode([text])
    if template.concatenates:
        return ids
    # The tokenizer writes a blank before a text, unless a control token comes first.
    first = next(iter(template.special_tokens), "")
    (anchor,), (whole,) = template.encode([first]), template.encode([first + text])
    return whole[len(anchor) :] if anchor and whole[: len(anchor)] == anchor else ids


def _forms(turn: ChatMessage, raw_text: str, mark: str) -> Iterator[_Form]:
    """Yield forms of a turn that a template may accept: the turn itself, its sampled text, a part of its calls, an empty turn."""
    calls: list[dict[str, Any]] = turn.get("tool_calls") or []
    has_text, has_thought = any(text.strip() for text in texts_in(turn)), bool((turn.get("reasoning_content") or "").strip())
    yield _marked(turn, mark, has_text, has_thought, True)
    if raw_text.strip():
        yield _marked(_plain({"content": raw_text}), mark, True, False, True)
    if calls and (has_text or has_thought):
        yield _marked(_plain({"tool_calls": calls, "content": ""}), mark, False, False, False)
    if len(calls) > 1:
        yield _marked(_plain({"tool_calls": calls[:1], "content": ""}), mark, False, False, False)
    yield _marked(_plain({"content": "."}), mark, True, False, False)


def _plain(fields: dict[str, Any]) -> ChatMessage:
    return {"role": "assistant", **fields}


def _marked(turn: ChatMessage, mark: str, has_text: bool, has_thought: bool, is_whole: bool) -> _Form:
    calls = turn.get("tool_calls") or []
    parts: dict[str, str] = {}
    marked = dict(turn)
    if has_thought:
        marked["reasoning_content"] = parts["reasoning"] = f"{mark}R"
    else:
        marked.pop("reasoning_content", None)
    if has_text:
        marked["content"] = parts["text"] = f"{mark}T"
    elif not calls:
        marked["content"] = f"{mark}T"
    if calls:
        marked["tool_calls"] = []
        for number, call in enumerate(calls):
            parts[f"call {number + 1}"] = f"{mark}C{number}Q"
            arguments = {"probe": f"{mark}C{number}Q"}
            marked["tool_calls"].append({**call, "function": {**call["function"], "arguments": arguments}})
    return _Form(turn, marked, parts, is_whole)


def _last_mark(form: _Form) -> str:
    calls = form.marked.get("tool_calls")
    if calls:
        return str(calls[-1]["function"]["arguments"]["probe"])
    content = form.marked["content"]
    return str(content)


def _changed_turn(text: str, parts: dict[str, str]) -> str:
    lost = [part for part, mark in parts.items() if mark not in text]
    return f"it leaves out the turn's {' and '.join(lost)}" if lost else ""


def _changed_text(rendered: str, turn: ChatMessage) -> str:
    """Return how the text of a turn is changed, white space aside; empty if it is shown as it is."""
    text = "".join("".join(texts_in(turn)).split())
    return "" if text in "".join(rendered.split()) else "it changes the turn's text"


def _unused_word(messages: Sequence[ChatMessage], tools: Json) -> str:
    """Return a word that is in none of the messages."""
    written, number = repr((messages, tools)), 0
    while (word := f"probe{number}mark") in written:
        number += 1
    return word


def _call_turn(mark: str) -> ChatMessage:
    call = {"id": "probe0000", "type": "function", "function": {"name": "probe_tool", "arguments": {"probe": mark}}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def _result() -> ChatMessage:
    return {"role": "tool", "tool_call_id": "probe0000", "name": "probe_tool", "content": _RESULT}


def _shows(template: ChatTemplate, turn: ChatMessage) -> bool:
    """Return whether a template shows all parts of a turn, one of which is `probe_mark`."""
    try:
        return "probe_mark" in template.render([_HELLO, turn], [_TOOL])
    except Exception:  # a template raises errors of any type
        return False


def _empty_thought(template: ChatTemplate) -> re.Pattern[str] | None:
    """Return the pattern of a thought without words; None if the template shows no reasoning."""
    marks = template.thought_marks
    if marks is None:
        return None
    begin, end = marks.begin or "<think>", marks.end
    return re.compile(rf"{re.escape(begin)}\s*(?:{re.escape(end)}\s*|$)")


def _with_thought_as_text(turn: ChatMessage) -> ChatMessage:
    """Return a turn whose reasoning is part of its text, for a template that knows no reasoning."""
    thought = turn.get("reasoning_content")
    if not thought or not isinstance(turn["content"], str):
        return turn
    others = {name: value for name, value in turn.items() if name != "reasoning_content"}
    return {**others, "content": f"<think>\n{thought}\n</think>\n\n{turn['content']}"}


def _closing_of_calls(template: ChatTemplate) -> str | None:
    """Return the text between the last argument of a call and the end of its turn, such as `"}}\\n</tool_call>`.

    None if the template shows no calls, or not where they end.
    """
    mark = "probe_mark"

    def tail(turn: ChatMessage, *new: ChatMessage) -> str:
        try:
            rendered = template.render([_HELLO, turn, *new], [_TOOL], generation=bool(new))
        except Exception:  # a template raises errors of any type
            return ""
        return rendered.rpartition(mark)[2] if mark in rendered else ""

    called, said = tail(_call_turn(mark), _result()), tail({"role": "assistant", "content": mark}, _result())
    if said and _RESULT in said and called.endswith(said):
        return called[: len(called) - len(said)]
    # It shows results only after a call, or ends a turn with calls in another way: the last control token is the end.
    alone = tail(_call_turn(mark)).rstrip()
    end = max(((alone.rfind(token), token) for token in template.special_tokens if token in alone), default=None)
    if end is None or not called.startswith(alone[: end[0]]):
        return None
    return alone[: end[0]]
