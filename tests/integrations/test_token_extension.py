"""The text after a turn, for templates with different habits; the ids of it; and the edit distance."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from openreward_gym.chat.templates import template_messages
from openreward_gym.errors import MessageError, TokenHistoryError
from openreward_gym.export.template import ChatTemplate
from openreward_gym.integrations.distance import edit_distance
from openreward_gym.integrations.extension import TemplateExtender, extension_ids
from openreward_gym.integrations.token_history import TokenHistory
from openreward_gym.types import AssistantMessage, ImageBlock, TextBlock, ToolCall, UserMessage

sys.path.insert(0, str(Path(__file__).parents[1] / "export"))

from tiny_tokenizer import CHATML, tiny_tokenizer

END = "<|im_end|>"
USER: dict[str, Any] = {"role": "user", "content": "Hi"}
MORE: dict[str, Any] = {"role": "user", "content": "And?"}
CALL = {"id": "call00001", "type": "function", "function": {"name": "look", "arguments": {"place": "here"}}}
RESULT = {"role": "tool", "tool_call_id": "call00001", "name": "look", "content": "a door"}
CALLING: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [CALL]}
TOOLS = [
    {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object", "properties": {}}}}
]

# A model of this family ends its turn with the control token that begins the next one.
NEXT_ROLE = """{%- for message in messages %}{{- '<|' + ('observation' if message.role == 'tool' else message.role) + '|>\\n' }}
{{- message.content }}{%- for call in message.tool_calls or [] %}
{{- '<tool_call>' + call.function.name + ' ' + (call.function.arguments | tojson) + '</tool_call>' }}{%- endfor %}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}{# <|user|> <|observation|> #}"""

# One call a message, its results only after a call, and another end after a call.
HARMONY = """{%- set last = namespace(name=none) %}{%- for message in messages %}
{%- if message.role == 'tool' %}{%- if last.name is none %}{{ raise_exception('no call before the result') }}{%- endif %}
{{- '<|start|>' + last.name + '<|message|>' + message.content | tojson + '<|end|>' }}
{%- elif message.tool_calls %}{{- '<|start|>assistant to=' + message.tool_calls[0].function.name + '<|message|>' }}
{{- message.tool_calls[0].function.arguments | tojson + '<|call|>' }}{%- set last.name = message.tool_calls[0].function.name %}
{%- else %}{{- '<|start|>' + message.role + '<|message|>' + message.content }}
{{- '<|return|>' if loop.last and message.role == 'assistant' else '<|end|>' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}"""

# Mistral's: ids of nine letters, and roles that alternate.
STRICT = (
    """{%- for message in messages %}{%- for call in message.tool_calls or [] %}
{%- if call.id | length != 9 %}{{ raise_exception('Tool call ids should be of length 9') }}{%- endif %}{%- endfor %}
{%- if not loop.first and message.role == 'user' and loop.previtem.role == 'user' %}{{ raise_exception('roles must alternate') }}
{%- endif %}{%- endfor %}"""
    + CHATML
)

# The generation prompt begins a thought, and the history has no thoughts of earlier turns.
PREFILLED = CHATML.replace(
    "'<|im_start|>assistant\\n' }}{%- endif %}", "'<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
).replace(
    "{%- if message.reasoning_content %}{{- '<think>' + message.reasoning_content + '</think>' }}{%- endif %}",
    "{%- if message.role == 'assistant' and (loop.last or message.reasoning_content) %}"
    "{{- '<think>\\n' + (message.reasoning_content or '') + '\\n</think>\\n\\n' }}{%- endif %}",
)


def after(template: str, turn: dict[str, Any], *new: dict[str, Any], text: str, end: str = "", tools: Any = None) -> Any:
    extender = TemplateExtender(ChatTemplate(tiny_tokenizer(template, eos_token=END)))
    return extender.after([USER], turn, new, tools, raw_text=text, end=end)


def history(template: str, **variables: str) -> TokenHistory:
    tokenizer = tiny_tokenizer(template, **{"eos_token": END, **variables})
    return TokenHistory(TemplateExtender(ChatTemplate(tokenizer)), [USER], TOOLS)


def added(conversation: TokenHistory, text: str, turn: dict[str, Any], *new: dict[str, Any]) -> str:
    """Sample a turn as text, extend the conversation, and return the text that was added."""
    template = conversation.extender.template
    conversation.add_turn(template.encode([text])[0])
    before = conversation.prompt_ids
    conversation.extend(turn, new)
    assert conversation.prompt_ids[: len(before)] == before
    assert conversation.segment == 0
    return template.decode(conversation.prompt_ids[len(before) :])


def test_the_end_is_written_if_the_sampler_did_not() -> None:
    answer = {"role": "assistant", "content": "Hello."}
    rest = "\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n"
    for sampled, expected in (
        ("Hello.<|im_end|>", rest),
        ("Hello.<|im_end|>\n", rest[1:]),
        ("Hello.", f"<|im_end|>{rest}"),
        ("Hello.<|endoftext|>", f"<|im_end|>{rest}"),  # another control token than the template's
    ):
        assert added(history(CHATML, pad_token="<|endoftext|>"), sampled, answer, MORE) == expected
    # An empty turn, and one that is cut off inside its call.
    assert added(history(CHATML), "<|im_end|>", {"role": "assistant", "content": ""}, MORE) == rest
    cut = '<tool_call>{"name": "lo'
    assert added(history(CHATML), cut, {"role": "assistant", "content": cut}, MORE) == f"<|im_end|>{rest}"


def test_a_turn_that_ends_with_the_next_role() -> None:
    answer = {"role": "assistant", "content": "Hello."}
    assert added(history(NEXT_ROLE), "Hello.<|user|>", answer, MORE) == "\nAnd?<|assistant|>\n"
    assert added(history(NEXT_ROLE), "Hello.", answer, MORE) == "<|user|>\nAnd?<|assistant|>\n"
    call = '<tool_call>look {"place": "here"}</tool_call><|observation|>'
    assert added(history(NEXT_ROLE), call, CALLING, RESULT) == "\na door<|assistant|>\n"
    extender = history(NEXT_ROLE).extender
    assert {"<|user|>", "<|observation|>", END} <= extender.end_marks


def test_a_result_that_needs_its_call() -> None:
    expected = '<|start|>look<|message|>"a door"<|end|><|start|>assistant'
    assert added(history(HARMONY), ' to=look<|message|>{"place":"here"}<|call|>', CALLING, RESULT) == expected
    assert added(history(HARMONY), ' to=look<|message|>{"place":"here"}', CALLING, RESULT) == f"<|call|>{expected}"
    answer = {"role": "assistant", "content": "Hello."}
    added_text = added(history(HARMONY), "<|message|>Hello.<|return|>", answer, MORE)
    assert added_text == "<|end|><|start|>user<|message|>And?<|end|><|start|>assistant"
    assert history(HARMONY).extender.end_marks == {"<|call|>", "<|end|>", "<|return|>", END}
    # It shows one call of a message: the second is lost, and a segment begins.
    second = {**CALL, "id": "call00002"}
    found = after(HARMONY, {**CALLING, "tool_calls": [CALL, second]}, RESULT, {**RESULT, "tool_call_id": "call00002"}, text="x")
    assert found.rewritten == "it leaves out the turn's call 2"


def test_a_template_that_refuses_the_turn_gets_its_text() -> None:
    one_call = (
        "{%- for message in messages %}{%- if message.tool_calls and message.tool_calls | length > 1 %}"
        "{{ raise_exception('single tool-calls only') }}{%- endif %}{%- endfor %}" + CHATML
    )
    conversation = history(one_call)
    turn = {**CALLING, "tool_calls": [CALL, {**CALL, "id": "call00002"}]}
    text = '{"name": "look"}{"name": "look"}'
    expected = "\n<|im_start|>tool\na door<|im_end|>\n<|im_start|>assistant\n"
    assert added(conversation, f"{text}{END}", turn, RESULT) == expected
    assert conversation.messages[1] == {"role": "assistant", "content": text}
    assert conversation.drift == 0
    assert added(conversation, f"Done.{END}", {"role": "assistant", "content": "Done."}, MORE).endswith("assistant\n")


def test_a_template_that_refuses_the_messages() -> None:
    conversation = history(STRICT)
    conversation.add_turn([1])
    with pytest.raises(TokenHistoryError, match="roles must alternate"):
        conversation.extend({"role": "assistant", "content": "Hello."}, [MORE, MORE])
    assert ChatTemplate(tiny_tokenizer(STRICT)).nine_letter_ids
    expected = "\n<|im_start|>tool\na door<|im_end|>\n<|im_start|>assistant\n"
    assert added(history(STRICT), f'<tool_call>look {{"place": "here"}}</tool_call>{END}', CALLING, RESULT) == expected


def test_a_prompt_that_begins_a_thought_is_extended() -> None:
    conversation = history(PREFILLED)
    turn = {**CALLING, "reasoning_content": "I look."}
    text = f'I look.\n</think>\n\n\n<tool_call>look {{"place": "here"}}</tool_call>{END}'
    assert added(conversation, text, turn, RESULT).endswith("a door<|im_end|>\n<|im_start|>assistant\n<think>\n")
    assert conversation.drift == 0
    # The template leaves an empty thought out of the history: that is drift, and no other text.
    empty = f'\n</think>\n\n\n<tool_call>look {{"place": "here"}}</tool_call>{END}'
    again = added(conversation, empty, {**CALLING}, RESULT)
    assert again.endswith("<think>\n")
    assert conversation.drift == len("<think>\n\n</think>\n\n")


def test_what_a_template_shows_elsewhere_or_not_at_all() -> None:
    text_last = CHATML.replace("{{- message.content }}", "").replace(
        "{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add", "{{- message.content }}{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add"
    )
    turn = {**CALLING, "content": "I look."}
    found = after(text_last, turn, RESULT, text="x", end=END, tools=TOOLS)
    assert (found.rewritten, found.text) == (
        "it shows the turn's text after its calls",
        "<|im_end|>\n<|im_start|>tool\na door<|im_end|>\n<|im_start|>assistant\n",
    )
    no_text = CHATML.replace("{{- message.content }}", "{%- if not message.tool_calls %}{{- message.content }}{%- endif %}")
    assert after(no_text, turn, RESULT, text="x").rewritten == "it leaves out the turn's text"
    trimmed = CHATML.replace("{{- message.content }}", "{{- message.content.split('</b>')[-1] }}")
    assert after(trimmed, {"role": "assistant", "content": "a</b>b"}, MORE, text="x").rewritten == "it changes the turn's text"
    # A template without calls or reasoning shows the turn as its text.
    plain = "{%- for message in messages %}{{- '<|im_start|>' + message.role + message.content + '<|im_end|>' }}{%- endfor %}"
    found = after(plain, {**turn, "reasoning_content": "Hm."}, RESULT, text="Hm. look()")
    assert (found.rewritten, found.turn["content"]) == ("", "Hm. look()")
    found = after(plain, {"role": "assistant", "content": "Hello.", "reasoning_content": "Hm."}, MORE, text="x")
    assert (found.rewritten, found.turn["content"]) == ("", "<think>\nHm.\n</think>\n\nHello.")
    # One whose messages depend on the number of messages.
    counting = CHATML + "{{- messages | length }}"
    assert after("{{- messages | length }}" + counting, turn, RESULT, text="x").rewritten.startswith("it shows earlier messages")


def test_the_beginning_of_a_text_is_not_written_again() -> None:
    """BOS comes once, and a tokenizer that puts a blank before a text puts none before the added one."""
    with_bos = "{{- bos_token }}" + CHATML
    conversation = history(with_bos, bos_token="<|begin|>")
    added(conversation, f"Hello.{END}", {"role": "assistant", "content": "Hello."}, MORE)
    begin = conversation.extender.template.tokenizer.bos_token_id
    assert conversation.prompt_ids.count(begin) == 1

    letters = sorted({*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?.|<>_ \n{}\"':,▁", "<0x0A>"})
    backend = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[], unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    tokens = ["<|im_start|>", END]
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, additional_special_tokens=tokens, eos_token=END)
    fast.chat_template = CHATML
    template = ChatTemplate(fast)
    assert not template.concatenates
    answer = {"role": "assistant", "content": "Hello."}
    one = TokenHistory(TemplateExtender(template), [USER], None)
    rendered = template.encode([template.render([USER, answer, MORE], None, generation=True)])[0]
    one.add_turn(rendered[len(one.prompt_ids) : rendered.index(fast.eos_token_id, len(one.prompt_ids)) + 1])
    one.extend(answer, [MORE])
    assert one.prompt_ids == rendered
    assert one.drift == 0


def test_ids_that_the_sampler_wrote_are_not_added_again() -> None:
    template = ChatTemplate(tiny_tokenizer(CHATML + "{# <|end_response|> #}", eos_token=END))
    (text,) = template.encode(["<|end_response|><|im_end|>\nx"])
    for sampled, dropped in (("a<|end_response|><|im_end|>", 2), ("a<|im_end|>", 2), ("a<|end_response|>", 1), ("a", 0)):
        (ids,) = template.encode([sampled])
        assert extension_ids(template, ids, "<|end_response|><|im_end|>\nx") == text[dropped:]


def test_the_edit_distance_is_that_of_the_textbook() -> None:
    def plain(first: list[int], second: list[int]) -> int:
        row = list(range(len(second) + 1))
        for number, one in enumerate(first, 1):
            above, row = row, [number]
            for place, other in enumerate(second, 1):
                row.append(min(above[place] + 1, row[-1] + 1, above[place - 1] + (one != other)))
        return row[-1]

    chance = random.Random(0)
    for _ in range(2000):
        first, second = ([chance.randrange(4) for _ in range(chance.randrange(14))] for _ in range(2))
        assert edit_distance(first, second) == plain(first, second)
    long = [chance.randrange(9) for _ in range(300)]
    changed = [token for token in long if chance.random() < 0.9]
    assert edit_distance(long, changed) == plain(long, changed)


def test_messages_for_templates() -> None:
    picture = UserMessage((TextBlock("Look."), ImageBlock("aGk=")))
    with pytest.raises(MessageError, match="the role user has a part of the type 'image_url'"):
        template_messages([picture])
    (message,) = template_messages([picture], images=True)
    assert message["content"] == [{"type": "text", "text": "Look."}, {"type": "image"}]
    calling = AssistantMessage(tool_calls=[ToolCall("look", None, "c1", "{")])
    assistant, result = template_messages([calling])
    assert assistant["tool_calls"][0]["function"]["arguments"] == {}
    assert result["role"] == "tool"
