"""The spaces as Gymnasium's own are tested: elements, samples, masks, seeds, equality, copies, JSON."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from openreward_gym.envs.spaces import BlocksSpace, MessagesSpace, ToolCallSpace, UnicodeText
from openreward_gym.errors import ConfigurationError
from openreward_gym.types import AssistantMessage, TerminalTool, ToolCall, ToolSpec

WEATHER = ToolSpec(
    "get_weather",
    "The weather.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}, "days": {"type": "integer", "maximum": 7}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
TOOLS = (WEATHER, ToolSpec("submit", "", {"type": "object", "properties": {"answer": {"type": "string"}}}), ToolSpec("wait"))
SPACES: dict[str, gym.Space[Any]] = {
    "text": UnicodeText(),
    "short text": UnicodeText(5),
    "empty text": UnicodeText(0),
    "blocks": BlocksSpace(),
    "messages": MessagesSpace(),
    "calls": ToolCallSpace(TOOLS),
    "calls and messages": ToolCallSpace(TOOLS, TerminalTool("end"), message=True, strict=True),
    "messages alone": ToolCallSpace((), message=True),
}


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> gym.Space[Any]:
    return copy.deepcopy(SPACES[request.param])


def mask(*values: int) -> Any:
    return np.array(values, dtype=np.int8)


# ---- every space ----


def test_samples_are_elements(space: gym.Space[Any]) -> None:
    space.seed(0)
    assert all(space.sample() in space for _ in range(200))


def test_the_same_seed_gives_the_same_samples(space: gym.Space[Any]) -> None:
    assert space.seed(42) == 42
    first = [space.sample() for _ in range(20)]
    space.seed(42)
    assert [space.sample() for _ in range(20)] == first
    assert isinstance(space.seed(), int)


def test_copies_are_equal_and_go_on_alike(space: gym.Space[Any]) -> None:
    space.seed(1)
    space.sample()
    for twin in (copy.deepcopy(space), copy.copy(space), pickle.loads(pickle.dumps(space))):
        assert twin == space
        assert repr(twin) == repr(space)
    twins = copy.deepcopy(space), pickle.loads(pickle.dumps(space))
    expected = [space.sample() for _ in range(5)]
    for twin in twins:
        assert [twin.sample() for _ in range(5)] == expected


def test_a_copy_of_an_unseeded_space_is_unseeded(space: gym.Space[Any]) -> None:
    assert copy.deepcopy(space)._np_random is None
    assert pickle.loads(pickle.dumps(space))._np_random is None


def test_different_spaces_differ() -> None:
    spaces = list(SPACES.values())
    for i, a in enumerate(spaces):
        for j, b in enumerate(spaces):
            assert (a == b) == (i == j)
    assert UnicodeText() != gym.spaces.Text(5)
    assert gym.spaces.Text(5) != UnicodeText(5)
    assert ToolCallSpace(TOOLS) != ToolCallSpace(TOOLS[:2])
    assert ToolCallSpace(TOOLS) != ToolCallSpace([ToolSpec("get_weather"), *TOOLS[1:]])


def test_json_round_trip(space: gym.Space[Any]) -> None:
    space.seed(3)
    samples = [space.sample() for _ in range(10)]
    encoded = json.dumps(space.to_jsonable(samples))
    decoded = space.from_jsonable(json.loads(encoded))
    assert decoded == samples
    assert all(element in space for element in decoded)


def test_nothing_else_is_an_element(space: gym.Space[Any]) -> None:
    for alien in (
        None,
        1,
        1.5,
        b"bytes",
        object(),
        {},
        {"name": 1},
        {1, 2},
        np.zeros(3),
        [1],
        (None,),
        [[[]]],
        {"type": "image"},
    ):
        assert alien not in space


def test_representations_are_short(space: gym.Space[Any]) -> None:
    assert len(repr(space)) < 100


def test_shape_and_dtype(space: gym.Space[Any]) -> None:
    assert space.shape is None
    assert not space.is_np_flattenable
    assert space.dtype is None or isinstance(space, gym.spaces.Text)


def test_samples_do_not_depend_on_the_process() -> None:
    program = (
        "from test_spaces import SPACES\n"
        "import hashlib\n"
        "for space in SPACES.values():\n"
        "    space.seed(9)\n"
        "    print(hashlib.sha256(repr([space.sample() for _ in range(20)]).encode()).hexdigest())\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().split()) == len(SPACES)


# ---- text ----


@given(st.text(st.characters(codec=None)))
def test_any_text_is_an_element(text: str) -> None:
    assert text in UnicodeText()
    assert (text in UnicodeText(3)) == (len(text) <= 3)


def test_text_is_one_for_who_asks() -> None:
    assert isinstance(UnicodeText(), gym.spaces.Text)
    assert "" in UnicodeText()
    assert "\ud800\0" in UnicodeText()
    assert repr(UnicodeText()) == "UnicodeText()"
    assert repr(UnicodeText(7)) == "UnicodeText(max_length=7)"


def test_text_samples_stay_short() -> None:
    assert max(len(UnicodeText(seed=i).sample()) for i in range(50)) <= 32
    assert max(len(UnicodeText(4, seed=i).sample()) for i in range(50)) == 4


def test_text_takes_the_masks_of_text() -> None:
    text = UnicodeText(seed=0)
    letters = np.zeros(len(text.character_list), np.int8)
    letters[0] = 1
    assert set(text.sample(mask=(5, letters))) == {text.character_list[0]}
    assert len(text.sample(mask=(5, None))) == 5
    assert len(text.sample(mask=(None, None))) <= 32
    assert set(text.sample(probability=(5, letters.astype(np.float64)))) == {text.character_list[0]}


@pytest.mark.parametrize("length", [-1, 1.5, "3", True])
def test_text_refuses_odd_lengths(length: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_length"):
        UnicodeText(length)


# ---- blocks and messages ----


def test_blocks() -> None:
    blocks = BlocksSpace()
    text, image = {"type": "text", "text": ""}, {"type": "image", "data": b"", "mime": "image/png"}
    assert () in blocks
    assert (text, image, {**text, "detail": 1}) in blocks
    for wrong in ([text], ({"type": "text"},), ({**image, "data": "text"},), ({**image, "mime": None},), ({"type": "sound"},)):
        assert wrong not in blocks


def test_sampled_images_can_be_opened() -> None:
    blocks = BlocksSpace(seed=0)
    pictures = [block for _ in range(30) for block in blocks.sample() if block["type"] == "image"]
    assert pictures
    for picture in pictures:
        with Image.open(io.BytesIO(picture["data"])) as opened:
            opened.load()
            assert opened.size == (1, 1)


def test_messages() -> None:
    messages = MessagesSpace()
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{"}}
    assert () in messages
    assert (
        {"role": "system", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
    ) in messages
    for wrong in (
        [{"role": "user", "content": ""}],
        ({"role": "nobody", "content": ""},),
        ({"role": "user", "content": 1},),
        ({"role": "user", "content": ["text"]},),
        ({"role": "tool", "content": "no id"},),
        ({"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]},),
        ({"role": ["user"], "content": ""},),
    ):
        assert wrong not in messages


@pytest.mark.parametrize("space", [BlocksSpace(), MessagesSpace()])
def test_transcripts_take_no_mask(space: gym.Space[Any]) -> None:
    with pytest.raises(ConfigurationError, match="mask"):
        space.sample(mask=mask(1))
    with pytest.raises(ConfigurationError, match="probability"):
        space.sample(probability=np.ones(1))


# ---- tool calls: elements ----

CALL = {"name": "get_weather", "arguments": {"city": "Oslo"}}


@pytest.mark.parametrize(
    "action",
    [
        CALL,
        {**CALL, "id": "call_1"},
        {"name": "of this task alone", "arguments": {}},
        [CALL],
        (CALL, ToolCall("wait", {})),
        ToolCall("get_weather", {"city": "Oslo"}),
        AssistantMessage("I look.", [ToolCall("wait", {})]),
        json.dumps(CALL),
        json.dumps([CALL, CALL]),
    ],
)
def test_forms_of_calls(action: Any) -> None:
    assert action in ToolCallSpace(TOOLS)
    assert action in ToolCallSpace(TOOLS, message=True)


@pytest.mark.parametrize("action", ["", "It is warm.", '{"name": "get', "[]", "[1]", AssistantMessage("It is warm.")])
def test_plain_messages(action: Any) -> None:
    assert action not in ToolCallSpace(TOOLS)
    assert action in ToolCallSpace(TOOLS, message=True)
    assert ToolCallSpace(TOOLS, message=True, strict=True).contains(action)


@pytest.mark.parametrize(
    "action",
    [
        {"name": "get_weather"},
        {"arguments": {}},
        {"name": "", "arguments": {}},
        {"name": "get_weather", "arguments": "{}"},
        {"name": "get_weather", "arguments": None},
        {"name": None, "arguments": {}},
        [],
        (),
        [CALL, "text"],
        [[CALL]],
        [CALL, None],
        ToolCall("get_weather", content="{broken"),
    ],
)
def test_what_has_not_the_form_of_an_action(action: Any) -> None:
    assert action not in ToolCallSpace(TOOLS, message=True)
    assert ToolCallSpace(TOOLS, message=True).validate(action) != []


def test_strict_spaces_hold_right_calls_alone() -> None:
    strict = ToolCallSpace(TOOLS, strict=True)
    assert CALL in strict
    assert {"name": "get_weather", "arguments": {}} not in strict
    assert {"name": "unknown", "arguments": {}} not in strict
    assert [CALL, {"name": "wait", "arguments": {"for": 5}}] not in strict


# ---- tool calls: validation ----


def test_errors_tell_a_model_what_to_do() -> None:
    calls = ToolCallSpace(TOOLS)
    assert calls.validate(CALL) == []
    assert calls.validate({"name": "get_wether", "arguments": {}}) == [
        "there is no tool 'get_wether'; did you mean 'get_weather'? the tools are: get_weather, submit, wait"
    ]
    assert calls.validate({"name": "get_weather", "arguments": {"unit": "k", "days": 9}}) == [
        "arguments: 'city' is a required property",
        "arguments.days: 9 is greater than the maximum of 7",
        "arguments.unit: 'k' is not one of ['c', 'f']",
    ]
    assert calls.validate([CALL, {"name": "wait", "arguments": {"a": 1}}]) == [
        "call 2: arguments: Additional properties are not allowed ('a' was unexpected)"
    ]
    assert calls.validate("It is warm.") == [
        "this is plain text; call one of the tools instead: get_weather, submit, wait",
    ]
    assert calls.validate(ToolCall("get_weather", content="{broken")) == [
        "the arguments of get_weather must be a JSON object, got None"
    ]
    assert calls.validate(AssistantMessage("I think.")) == ["no tool is called; call one of: get_weather, submit, wait"]
    assert calls.validate(17) == ['not a tool call: expected {"name": ..., "arguments": {...}}, got 17']


def test_errors_name_the_nearest_branch() -> None:
    schema = {
        "type": "object",
        "properties": {"x": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "integer"}}]}},
    }
    (error,) = ToolCallSpace([ToolSpec("t", "", schema)]).validate({"name": "t", "arguments": {"x": [1, "2"]}})
    assert error == "arguments.x: [1, '2'] is not valid under any of the given schemas: '2' is not of type 'integer'"


def test_errors_are_few_and_short() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    errors = ToolCallSpace([ToolSpec("t", "", schema)]).validate(
        {"name": "t", "arguments": {f"k{i}": "v" * 10_000 for i in range(50)}}
    )
    assert len(errors) == 11
    assert errors[-1] == "and 40 more errors"
    assert all(len(error) < 400 for error in errors)
    assert errors[0].startswith("arguments.k0: 'vvv")
    assert errors[0].endswith("is not of type 'integer'")


def test_formats_are_checked() -> None:
    schema = {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}}
    calls = ToolCallSpace([ToolSpec("t", "", schema)])
    assert calls.validate({"name": "t", "arguments": {"day": "2024-02-29"}}) == []
    assert calls.validate({"name": "t", "arguments": {"day": "2023-02-29"}}) == ["arguments.day: '2023-02-29' is not a 'date'"]


def test_a_schema_elsewhere_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was asked for a schema")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    schema = {"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:9/schema.json"}}, "required": ["x"]}
    calls = ToolCallSpace([ToolSpec("t", "", schema)], seed=0)
    assert "x" in calls.sample()["arguments"]
    assert calls.validate({"name": "t", "arguments": {"x": 1}}) == []


def test_the_library_is_loaded_when_it_is_needed() -> None:
    program = (
        "import sys\n"
        "from openreward_gym.envs.spaces import ToolCallSpace\n"
        "from openreward_gym.types import ToolSpec\n"
        "space = ToolCallSpace([ToolSpec('t', '', {'type': 'object', 'properties': {'x': {'type': 'string'}}})])\n"
        "space.contains(space.sample())\n"
        "assert 'jsonschema' not in sys.modules\n"
        "space.validate(space.sample())\n"
        "assert 'jsonschema' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# ---- tool calls: masks ----


def drawn(calls: ToolCallSpace, n: int = 60, **weights: Any) -> set[str]:
    return {calls.sample(**weights)["name"] for _ in range(n)}


def test_masks_choose_tools() -> None:
    calls = ToolCallSpace(TOOLS, seed=0)
    assert drawn(calls) == {"get_weather", "submit", "wait"}
    assert drawn(calls, mask=mask(1, 0, 1)) == {"get_weather", "wait"}
    assert drawn(calls, mask={"tool": mask(0, 1, 0)}) == {"submit"}
    assert drawn(calls, mask={"tool": None}) == {"get_weather", "submit", "wait"}
    assert drawn(calls, probability=np.array([0.5, 0.5, 0.0])) == {"get_weather", "submit"}
    assert drawn(calls, probability={"tool": np.array([0.0, 0.0, 1.0])}) == {"wait"}


def test_probabilities_are_followed() -> None:
    calls = ToolCallSpace(TOOLS, seed=0)
    names = [calls.sample(probability=np.array([0.8, 0.2, 0.0]))["name"] for _ in range(1_000)]
    assert 740 < names.count("get_weather") < 860


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"mask": mask(1, 1, 1), "probability": np.ones(3) / 3}, "a mask or probabilities"),
        ({"mask": mask(0, 0, 0)}, "allows none"),
        ({"mask": mask(1, 1)}, r"shape \(3,\), got int8 of shape \(2,\)"),
        ({"mask": np.ones(3)}, "array of int8"),
        ({"mask": [1, 1, 1]}, "got list"),
        ({"mask": mask(1, 2, 0)}, "of 0 and 1"),
        ({"mask": {"tools": mask(1, 1, 1)}}, "keys 'tool' and 'arguments'"),
        ({"probability": mask(1, 0, 0)}, "array of float64"),
        ({"probability": np.array([0.5, 0.1, 0.1])}, "sum to 1"),
        ({"probability": np.array([1.5, -0.5, 0.0])}, "0 or more"),
        ({"probability": np.array([np.nan, 0.5, 0.5])}, "sum to 1"),
        ({"mask": {"arguments": {"get_weather": {"city": mask(1)}}, "tool": mask(1, 0, 0)}}, "no enumerated values"),
    ],
)
def test_wrong_masks_are_refused(weights: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ToolCallSpace(TOOLS, seed=0).sample(**weights)


def test_a_space_without_tools_samples_a_message_or_says_why_not() -> None:
    assert isinstance(ToolCallSpace((), message=True).sample(), str)
    with pytest.raises(ConfigurationError, match="no tools"):
        ToolCallSpace(()).sample()
    with pytest.raises(ConfigurationError, match="no tools"):
        ToolCallSpace((), message=True).sample(mask=mask())


def test_long_tool_lists_are_shortened() -> None:
    space = ToolCallSpace([ToolSpec(f"tool_{i}") for i in range(100)], message=True)
    assert repr(space) == "ToolCallSpace([tool_0, tool_1, tool_2, tool_3, tool_4, ... 95 more], message=True)"
