"""Every field of every type of the SDKs is kept, and what can be written again is written as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic.types as at
import anthropic.types.beta as abt
import pytest
from google.genai import types as gt
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from openai.types.responses import Response, ResponseInputItem, ResponseOutputItem
from pydantic import BaseModel
from sdk_values import Walker, leaves, members

from openreward_gym import chat
from openreward_gym.recording.recorder import Recorder
from openreward_gym.types import Message, codec


def written(messages: list[Message]) -> str:
    return json.dumps([codec.write(message) for message in messages], ensure_ascii=False)


def missing(value: Any, text: str) -> list[str]:
    """Return the texts and numbers of a value that are not in a JSON text, which may have JSON texts inside."""
    plain = text.replace('\\"', '"')
    return [leaf for leaf in leaves(value) if leaf not in plain]


def cases(kinds: list[Any], **fixed: Any) -> list[Any]:
    found = []
    for kind in dict.fromkeys(kinds):
        values = Walker(**fixed).values(kind)
        found += [pytest.param(kind, value, id=f"{kind.__name__}-{n}") for n, value in enumerate(values)]
    return found


RESPONSE_ITEMS = cases([*members(ResponseInputItem), *members(ResponseOutputItem)])


@pytest.mark.parametrize(("kind", "item"), RESPONSE_ITEMS)
def test_items_of_a_response_are_written_as_they_were(kind: Any, item: dict[str, Any]) -> None:
    for value in (item, kind.model_validate(item)):
        messages = chat.from_openai_responses([value])
        assert chat.to_openai_responses(messages) == [item]
        assert missing(item, written(messages)) == []
        back = [codec.read_as(Message, codec.write(message)) for message in messages]
        assert chat.to_openai_responses(back) == [item]


@pytest.mark.parametrize(("kind", "item"), cases(members(ResponseInputItem)))
def test_items_with_their_necessary_fields_alone(kind: type[BaseModel], item: dict[str, Any]) -> None:
    fields = {field.alias or name for name, field in kind.model_fields.items() if field.is_required()}
    least = {name: value for name, value in item.items() if name in fields or name == "type"}
    assert chat.to_openai_responses(chat.from_openai_responses([least])) == [least]
    nulls = {**least, **{name: None for name in item if name not in least}}
    assert chat.to_openai_responses(chat.from_openai_responses([nulls])) == [nulls]


OUTPUTS = [kind for kind in members(ResponseInputItem) if kind.__name__.endswith(("CallOutput", "ApprovalResponse"))]


@pytest.mark.parametrize(("kind", "item"), cases(OUTPUTS))
def test_outputs_of_calls_are_results(kind: Any, item: dict[str, Any]) -> None:
    (message,) = chat.from_openai_responses([item])
    assert message.role == "tool"
    identity = item.get("call_id") or item.get("approval_request_id") or item["id"]
    assert message.call_id == identity


@pytest.mark.parametrize(("kind", "answer"), cases([Response], output=[]))
def test_a_logged_response_is_kept_whole(kind: Any, answer: dict[str, Any], tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        log.log_openai_response(Response.model_validate(answer))
    assert missing({**answer, "object": None}, log.rollout.to_line()) == []


@pytest.mark.parametrize(("kind", "answer"), cases([ChatCompletion]))
def test_a_chat_completion_is_kept_whole(kind: Any, answer: dict[str, Any]) -> None:
    for value in (answer, ChatCompletion.model_validate(answer)):
        assert missing({**answer, "object": None}, written(chat.from_openai(value))) == []


@pytest.mark.parametrize(("kind", "message"), cases(members(ChatCompletionMessageParam)))
def test_messages_of_a_chat_are_kept_whole(kind: Any, message: dict[str, Any]) -> None:
    (read,) = chat.from_openai([message])
    assert missing({**message, "role": None}, written([read])) == []


ANTHROPIC_BLOCKS = [
    *members(at.content_block_param.ContentBlockParam),
    *members(at.content_block.ContentBlock),
    *members(abt.BetaContentBlockParam),
    *members(abt.BetaContentBlock),
]


@pytest.mark.parametrize(("kind", "block"), cases(ANTHROPIC_BLOCKS))
def test_anthropic_blocks_are_written_as_they_were(kind: Any, block: dict[str, Any]) -> None:
    for role in ("user", "assistant"):
        messages = chat.from_anthropic([{"role": role, "content": [block]}])
        assert chat.to_anthropic(messages)[1] == [{"role": role, "content": [block]}]
        assert missing(block, written(messages)) == []


@pytest.mark.parametrize(("kind", "answer"), cases([at.Message, abt.BetaMessage]))
def test_an_anthropic_answer_is_kept_whole(kind: Any, answer: dict[str, Any]) -> None:
    for value in (answer, at.Message.model_validate(answer)) if kind is at.Message else (answer,):
        usage = {**answer["usage"], "input_tokens": None}  # counted with the cached ones
        assert missing({**answer, "type": None, "usage": usage}, written(chat.from_anthropic(value))) == []


GEMINI_CONTENT = ("text", "function_call", "function_response", "inline_data")


@pytest.mark.parametrize("content", GEMINI_CONTENT)
@pytest.mark.parametrize(("kind", "part"), cases([gt.Part]))
def test_gemini_parts_are_written_as_they_were(kind: Any, part: dict[str, Any], content: str) -> None:
    part = {snake: part[alias] for alias in part if (snake := alias_to_snake(alias)) not in GEMINI_CONTENT or snake == content}
    for value in (part, gt.Part.model_validate(part)):
        messages = chat.from_gemini([{"role": "user", "parts": [value]}])
        assert missing(part, written(messages)) == []
        (turn,) = chat.to_gemini(messages)[1]
        assert missing(part, json.dumps(turn, ensure_ascii=False)) == []
        gt.Content.model_validate(turn)


def alias_to_snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


@pytest.mark.parametrize(("kind", "answer"), cases([gt.GenerateContentResponse], parsed={}))
def test_a_gemini_answer_is_kept_whole(kind: Any, answer: dict[str, Any]) -> None:
    answer["candidates"][0]["content"]["role"] = "model"
    counts = {**answer["usageMetadata"], "candidatesTokenCount": None}  # counted with the thoughts
    for value in (answer, kind.model_validate(answer)):
        assert missing({**answer, "usageMetadata": counts}, written(chat.from_gemini(value))) == []
