"""The history that policies send: every server can parse it, whatever the model wrote, and the record keeps the model's text."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rollout_strategies import EXAMPLES, objects, texts
from strict_requests import (
    StrictModel,
    check_anthropic,
    check_chat,
    check_gemini,
    check_responses,
    strict_model,
)

from openreward_gym import collect
from openreward_gym.policies import resolve
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    ReasoningItem,
    Rollout,
    SystemMessage,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolSet,
    ToolSpec,
    UserMessage,
    codec,
)

# The SDK of Google's does what its HTTP library warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

APIS = ["openai", "responses", "anthropic", "google"]
CHECKS: dict[str, Any] = {
    "openai": check_chat,
    "responses": check_responses,
    "anthropic": check_anthropic,
    "google": check_gemini,
}


def policy_of(api: str, url: str = "http://127.0.0.1:9", **options: Any) -> Any:
    if api == "responses":
        return resolve("openai:m", url=f"{url}/v1", api="responses", patience_s=0.5, **options)
    path = "/v1" if api == "openai" else ""
    return resolve(f"{api}:m", url=url + path, patience_s=0.5, **options)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "secret-key")
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)


# Played with a strict server --------------------------------------------------------------------------------------------------

GOOD = ("b", "get_weather", {"city": "Boston"})
ODD_CALLS = {
    "torn": ("a", "get_weather", '{"city": "Bost'),
    "a list": ("a", "get_weather", ["Boston"]),
    "a number in a text": ("a", "get_weather", "17"),
    "null in a text": ("a", "get_weather", "null"),
    "not a number": ("a", "get_weather", {"city": float("nan")}),
    "true": ("a", "get_weather", True),
    "an object with text inside": ("a", "get_weather", '"{\\"city\\": \\"Boston\\"}"'),
    "no name": ("a", None, {"city": "Boston"}),
    "an empty name": ("a", "", {"city": "Boston"}),
    "a name that is a number": ("a", 5, {"city": "Boston"}),
    "a name with spaces": ("a", "get weather!", {"city": "Boston"}),
    "a name of signs": ("a", "<|tool|>?", {"city": "Boston"}),
    "a long name": ("a", "get_weather" * 30, {"city": "Boston"}),
    "half a character in the name": ("a", "get_\udc01", {"city": "Boston"}),
    "half a character": ("a", "get_weather", {"city": "\ud83d"}),
    "the id of the next call": ("b", "no_such_tool", {}),
    "no id": (None, "no_such_tool", {}),
    "an empty id": ("", "no_such_tool", {}),
    "a number as id": (7, "no_such_tool", {}),
}


def as_text(call: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """Return a call as OpenAI's APIs write it, with text for arguments."""
    return (call[0], call[1], call[2] if isinstance(call[2], str) else json.dumps(call[2]))


@pytest.mark.parametrize("api", APIS)
def test_odd_calls_are_observations(examples: str, tmp_path: Path, api: str) -> None:
    calls = [*ODD_CALLS.values(), GOOD]
    if api in ("openai", "responses"):
        calls = [as_text(call) for call in calls]
    with strict_model(StrictModel([*([call] for call in calls), "It is cold."])) as model:
        options = {"api": "responses"} if api == "responses" else {}
        result = collect(
            "weather",
            f"{'openai' if api == 'responses' else api}:m",
            policy_url=model.url + ("/v1" if api in ("openai", "responses") else ""),
            policy_options={"patience_s": 0.5, **options},
            base_url=examples,
            output=tmp_path,
            tasks="1",
            progress=False,
        )
    assert model.refusals == []
    assert not list(result.store.failures())
    (rollout,) = result.store
    assert rollout.status == "completed"
    assert len(model.requests) == len(calls) + 1
    turns = [turn for turn in rollout.turns if turn.tool_calls]
    answers = [message for message in rollout.messages if message.role == "tool"]
    assert len({call.call_id for turn in turns for call in turn.tool_calls}) == len(calls)
    for kind, written, turn, answer in zip([*ODD_CALLS, "good"], calls, turns, answers, strict=False):
        (call,) = turn.tool_calls
        assert (answer.call_id, answer.is_error) == (call.call_id, kind != "good"), kind
        if isinstance(written[2], str) and call.arguments is None:
            assert call.content == written[2], kind
            assert call.extra["history"]["arguments"] == "{}", kind
            assert repr(written[2])[1:-1] in answer.text, kind
        if not call.name:
            assert call.extra["history"]["name"] == "unknown_tool"
            assert "get_weather" in answer.text
        if written[0] and call.call_id != str(written[0]):
            assert call.extra["provider_call_id"] == str(written[0]), kind
            assert len(call.call_id) == 9
    assert Rollout.from_line(rollout.to_line()).to_line() == rollout.to_line()


def test_the_text_of_a_long_malformed_call_is_in_its_answer(examples: str, tmp_path: Path) -> None:
    text = '{"city": "' + "x" * 9000 + '" oops'
    with strict_model(StrictModel([[("a", "get_weather", text)], "Sorry."])) as model:
        url, output = f"{model.url}/v1", tmp_path
        result = collect("weather", "openai:m", policy_url=url, base_url=examples, output=output, tasks="0", progress=False)
    (rollout,) = result.store
    answer = next(message.text for message in rollout.messages if message.role == "tool")
    assert "left out" in answer
    assert "oops" in answer
    assert len(answer) < 5000
    assert next(iter(rollout.turns)).tool_calls[0].content == text


ID_REFUSALS = [
    ("[a-zA-Z0-9]{9}", "Tool call id was call_a_foreign_one but must be a-z, A-Z, 0-9, with a length of 9."),
    ("[a-zA-Z0-9]{9}", "Tool call IDs should be alphanumeric strings with length 9!"),
    ("[!-~]{1,19}", "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum length 19."),
]
FEW_SHOT = (
    UserMessage("Weather of Oslo?", origin="given"),
    Message("assistant", (ToolCall("get_weather", {"city": "Oslo"}, "call_a_foreign_one_0"),), origin="given"),
    ToolMessage("3 C", "call_a_foreign_one_0", "get_weather", origin="given"),
    UserMessage("And of Boston?", origin="given"),
)
WEATHER = ToolSet((ToolSpec("get_weather", "", {"type": "object", "properties": {"city": {"type": "string"}}}),))


async def asked(policy: Any, transcript: Any, tools: ToolSet = WEATHER) -> AssistantMessage:
    try:
        answer: AssistantMessage = await policy(tuple(transcript), tools)
        return answer
    finally:
        await policy.aclose()


@pytest.mark.parametrize(("pattern", "words"), ID_REFUSALS)
def test_ids_that_a_server_refuses_are_rewritten(pattern: str, words: str) -> None:
    few_shot = [m.replace(origin="policy") if m.role == "assistant" else m for m in FEW_SHOT]
    with strict_model(StrictModel(["Hi."], id_pattern=pattern, words=words)) as model:
        policy = policy_of("openai", model.url)

        async def all_at_once() -> None:
            try:
                await asyncio.gather(*(policy(few_shot, WEATHER) for _ in range(4)))
                await policy(few_shot, WEATHER)
            finally:
                await policy.aclose()

        asyncio.run(all_at_once())
    assert len(model.refusals) in range(1, 5)
    assert len(model.requests) == len(model.refusals) + 5
    call, result = model.requests[-1]["messages"][1]["tool_calls"][0], model.requests[-1]["messages"][2]
    assert call["id"] == result["tool_call_id"]
    assert len(call["id"]) == 9


def test_a_server_that_refuses_nine_characters_too_is_believed() -> None:
    words = "Tool call id was x but must be a-z, A-Z, 0-9, with a length of 9."
    with strict_model(StrictModel(["Hi."], id_pattern="never", words=words)) as model:
        with pytest.raises(Exception, match="length of 9"):
            asyncio.run(asked(policy_of("openai", model.url), FEW_SHOT))
        assert len(model.requests) == 2


def test_mistral_s_own_api_gets_nine_characters_from_the_start() -> None:
    policy: Any = resolve("openai:mistral-large", url="https://api.mistral.ai/v1")
    check_chat(policy.request(FEW_SHOT, WEATHER), "[a-zA-Z0-9]{9}")
    other: Any = resolve("openai:m", url="https://api.notmistral.ai/v1")
    assert other.request(FEW_SHOT, WEATHER)["messages"][1]["tool_calls"][0]["id"] == "call_a_foreign_one_0"


# Reasoning --------------------------------------------------------------------------------------------------------------------


def completion(**fields: Any) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": "{}"}
    calls = [{"id": "c1", "type": "function", "function": function}]
    message = {"role": "assistant", "content": None, "tool_calls": calls, **fields}
    return {"object": "chat.completion", "choices": [{"message": message, "finish_reason": "tool_calls"}]}


DETAILS = [{"type": "reasoning.text", "text": "Hm.", "signature": "s", "format": "f", "index": 0}]


@pytest.mark.parametrize(
    ("arrived", "sent"),
    [
        ({"reasoning_content": "Hm."}, {"reasoning_content": "Hm."}),
        ({"reasoning": "Hm."}, {"reasoning": "Hm."}),
        ({"reasoning": "Hm.", "reasoning_details": DETAILS}, {"reasoning_details": DETAILS}),
        ({"reasoning_content": ""}, {"reasoning_content": ""}),
        ({"reasoning_content": "", "reasoning": "Hm."}, {"reasoning": "Hm."}),
        ({"reasoning_content": None}, {}),
        ({}, {}),
    ],
)
def test_reasoning_goes_back_in_the_field_in_which_it_arrived(arrived: dict[str, Any], sent: dict[str, Any]) -> None:
    policy = policy_of("openai")
    message = policy.read(completion(**arrived))
    history = (UserMessage("Go."), message, ToolMessage("7", "c1"))
    written = policy.request(history, WEATHER)["messages"][1]
    fields = ("reasoning", "reasoning_content", "reasoning_details")
    assert {name: written[name] for name in fields if name in written} == sent
    silent = policy_of("openai", reasoning_field="").request(history, WEATHER)["messages"][1]
    assert not silent.keys() & set(fields)


def test_a_turn_with_calls_has_the_field_of_the_others() -> None:
    policy = policy_of("openai")
    message = policy.read(completion(reasoning_content="Hm."))
    turns = policy.request((*FEW_SHOT, message, ToolMessage("7", "c1")), WEATHER)["messages"]
    assert [turn.get("reasoning_content") for turn in turns if turn["role"] == "assistant"] == ["", "Hm."]


def test_the_field_of_reasoning_is_a_setting() -> None:
    assert policy_of("openai").settings["reasoning_field"] == "auto"
    assert policy_of("openai", reasoning_field="reasoning").settings["reasoning_field"] == "reasoning"
    with pytest.raises(Exception, match="reasoning_field must be one of 'auto', ''"):
        policy_of("openai", reasoning_field="thinking")


# Names and schemas of tools ---------------------------------------------------------------------------------------------------

SCHEMAS: list[Any] = [
    None,
    {},
    {"type": "object"},
    {"type": "array", "items": {"type": "string"}},
    {"properties": {"a": True, "b": {"type": "array"}}, "required": ["a", "c"]},
    {"type": ["object", "null"], "properties": None},
    {"anyOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, {"type": "null"}]},
    {"oneOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"type": "integer"}}}], "title": "T"},
    {"allOf": [{"$ref": "#/$defs/A"}, {"required": ["b"], "properties": {"b": {}}}], "$defs": {"A": {"properties": {"a": {}}}}},
    {
        "$ref": "#/definitions/A",
        "definitions": {"A": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
    },
    {"$ref": "#"},
    {"enum": [{}], "type": "object"},
    {"not": {"required": ["a"]}},
]
NAMES = ["files.read", "files_read", "files read", "1st", "x" * 70, "x" * 70 + "y", "你好", "ok-name", "\ud800", "files:read"]


@pytest.mark.parametrize("api", APIS)
def test_tools_that_apis_refuse_are_mended(api: str) -> None:
    tools = ToolSet(tuple(ToolSpec(f"tool {number}", "", schema) for number, schema in enumerate(SCHEMAS)))
    tools = ToolSet((*tools.tools, *(ToolSpec(name, "half: \udc00") for name in NAMES)))
    policy = policy_of(api)
    request = policy.request((UserMessage("Go."),), tools)
    CHECKS[api](request)
    names = policy.names(tools)
    assert [names.own(names.sent(tool.name)) for tool in tools] == [tool.name for tool in tools]
    assert names.sent("ok-name") == "ok-name"
    assert names.sent("files_read") == "files_read"


def test_mended_schemas_say_what_the_environment_s_say() -> None:
    from openreward_gym.policies.functions import object_schema

    assert object_schema(SCHEMAS[6])["required"] == ["a"]
    assert object_schema(SCHEMAS[7]) == {
        "type": "object",
        "title": "T",
        "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
    }
    assert object_schema(SCHEMAS[8])["properties"] == {"a": {}, "b": {}}
    assert object_schema(SCHEMAS[9])["required"] == ["x"]
    assert object_schema(SCHEMAS[4])["properties"] == {"a": {}, "b": {"type": "array", "items": {}}, "c": {}}
    fine = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
    assert object_schema(fine) == fine


def test_the_record_has_the_environment_s_name_of_a_tool() -> None:
    tools = ToolSet((ToolSpec("files.read"), ToolSpec("files_read")))
    with strict_model(StrictModel([[("c", "files_read_2", "{}")]])) as model:
        message = asyncio.run(asked(policy_of("openai", model.url), [UserMessage("Go.")], tools))
        (call,) = message.tool_calls
        assert (call.name, call.extra["history"]) == ("files.read", {"name": "files_read_2"})
        history = [UserMessage("Go."), message, ToolMessage("text", call.call_id, call.name)]
        asyncio.run(asked(policy_of("openai", model.url), history, tools))
    assert model.refusals == []
    assert model.requests[-1]["messages"][1]["tool_calls"][0]["function"]["name"] == "files_read_2"


PHASES = (Phase.explicit, Phase.generate)
# Any conversation -------------------------------------------------------------------------------------------------------------

ids = st.sampled_from(["", "call_0", "call_1", "x" * 41, "functions.ls:0", "\ud800", "aB3dE5gH7", "ä"])
names = st.sampled_from(["ls", "files.read", "", "no such tool", "\udfff"]) | texts
contents = (
    st.none() | texts | st.sampled_from(['{"a": ', "[1]", "null", "NaN", '{"a": NaN}', '{"a": "\\ud83d"}', '{"a": 1}', " "])
)
calls = st.builds(ToolCall, names, st.none() | objects, ids, contents, extra=st.just({}) | st.just({"openai": {"index": 0}}))
words = st.builds(TextBlock, texts)
thoughts = st.builds(ReasoningItem, content=texts, signature=st.none() | st.just("c2ln"))
images = st.just(ImageBlock("aGk="))
results = st.builds(ToolResult, texts | st.lists(words | images, max_size=2), ids, names, st.booleans())
origins = st.sampled_from([None, "given", "policy"])
conversations = st.lists(
    st.one_of(
        st.builds(UserMessage, texts | st.lists(words | images | results, max_size=3)),
        st.builds(SystemMessage, texts),
        st.builds(AssistantMessage, st.lists(words | calls | thoughts, max_size=4), origin=origins),
        st.builds(
            ToolMessage,
            texts | st.lists(words | images, max_size=2),
            ids,
            names,
            st.booleans(),
            origin=st.just("environment"),
            metadata=st.none() | st.just({"openai": {"role": "judge"}, "role": "x"}),
        ),
    ),
    max_size=8,
)
TOOLS = ToolSet((ToolSpec("ls"), ToolSpec("files.read", "", {"anyOf": [{"properties": {"path": {"type": "string"}}}]})))


@pytest.mark.parametrize("api", APIS)
@settings(max_examples=4 * EXAMPLES, deadline=None, phases=PHASES)
@given(conversation=conversations)
def test_every_conversation_is_a_request_that_servers_take(api: str, conversation: list[Message]) -> None:
    transcript = [UserMessage("Go."), *conversation]
    before = [codec.write(message) for message in transcript]
    policy = policy_of_api(api)
    request = policy.request(tuple(transcript), TOOLS)
    # The server's own ids may have any form.
    is_own = api in ("openai", "responses") and any(message.origin == "policy" for message in conversation)
    CHECKS[api](request, **({"id_pattern": "(?s).+"} if is_own else {}))
    assert policy.request(tuple(transcript), TOOLS) == request
    assert [codec.write(message) for message in transcript] == before
    if api == "openai":
        policy.rules = policy_of("openai", "http://x.mistral.ai").rules
        check_chat(policy.request(tuple(transcript), TOOLS), "[a-zA-Z0-9]{9}")


def policy_of_api(api: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
            patch.setenv(name, "secret-key")
        return policy_of(api)


@settings(max_examples=EXAMPLES, deadline=None, phases=PHASES)
@given(turns=st.lists(st.lists(calls, min_size=1, max_size=3), min_size=1, max_size=4))
def test_calls_that_arrive_have_ids_of_their_own_and_keep_their_text(turns: list[list[ToolCall]]) -> None:
    policy = policy_of_api("openai")
    transcript: list[Message] = [UserMessage("Go.")]
    for turn in turns:
        message = policy._received(AssistantMessage(tool_calls=turn, origin="policy"), transcript, TOOLS)
        for call, recorded in zip(turn, message.tool_calls, strict=True):
            assert (recorded.content, recorded.arguments) == (call.content, call.arguments)
            assert recorded.name == call.name
            assert call.call_id in ("", recorded.call_id, recorded.extra.get("provider_call_id"))
        transcript += [message, *(ToolMessage("", call.call_id, call.name) for call in message.tool_calls)]
        request = policy.request(tuple(transcript), TOOLS)
        check_chat(request, "(?s).+")  # the server's own ids may have any form
        sent = [call for message in request["messages"] for call in message.get("tool_calls", [])]
        recorded_calls = [call for message in transcript for call in message.tool_calls]
        for call, one in zip(recorded_calls, sent, strict=True):
            note = call.extra.get("history", {})
            assert one["function"]["name"] == note.get("name", call.name)
            assert one["id"] == call.call_id
            if "arguments" in note:
                assert one["function"]["arguments"] == note["arguments"]
            else:
                assert json.loads(one["function"]["arguments"]) == call.arguments


def test_a_schema_of_alternatives_that_refer_to_the_whole_is_mended_in_linear_time() -> None:
    from openreward_gym.policies.functions import object_schema

    schema = {
        "properties": {"a": {}},
        "anyOf": [{"$ref": "#"}] * 50 + [{"properties": {"b": {"const": n}}, "required": ["b"]} for n in range(500)],
    }
    mended = object_schema(schema)
    assert mended["required"] == ["b"]
    assert len(mended["properties"]["b"]["anyOf"]) == 500
