"""Elements of every space become JSON that matches the space's schema and decodes to the same elements."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium_environments import Everything
from hypothesis import given
from hypothesis import strategies as st

from openreward_gym.envs.spaces import ToolCallSpace
from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.schemas import schema_of, words_of
from openreward_gym.serve.values import UnfitError, decode, encode, is_picture, png, read_png
from openreward_gym.types import ToolSpec

SPACES: list[spaces.Space[Any]] = [
    spaces.Discrete(5, start=-2),
    spaces.Box(-1, 1, (), np.float32),
    spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
    spaces.Box(np.array([-1, -np.inf, 0.1], np.float32), np.array([1, 5, np.inf], np.float32)),
    spaces.Box(-3, 7, (4,), np.int8),
    spaces.Box(0, 1, (2,), np.bool_),
    spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (3,), np.int64),
    spaces.Box(0, 255, (3, 4), np.uint8),
    spaces.Box(-1, 1, (3,), np.float16),
    spaces.Box(np.arange(40.0), np.arange(40.0) + 1, dtype=np.float64),
    spaces.Box(-1, 1, (0,), np.float32),
    spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    spaces.MultiDiscrete([3, 3], start=[1, -1]),
    spaces.MultiBinary((2, 2)),
    spaces.MultiBinary(1),
    spaces.Text(8),
    spaces.Text(3, min_length=2, charset="é漢\n\"\\"),
    spaces.Tuple((spaces.Discrete(2), spaces.Dict(a=spaces.MultiBinary(2)))),
    spaces.Sequence(spaces.Box(0, 1, (2,)), stack=True),
    spaces.Sequence(spaces.Text(2)),
    spaces.OneOf((spaces.Discrete(3), spaces.Tuple((spaces.Discrete(2),)))),
    Everything.inner,
]  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, np.ndarray | np.generic):
        return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
    return type(one) is type(other) and bool(one == other)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_samples_come_back_as_they_were(space: spaces.Space[Any]) -> None:
    schema = schema_of(space)
    jsonschema.Draft202012Validator.check_schema(schema)
    space.seed(0)
    for _ in range(50):
        element = space.sample()
        value = json.loads(json.dumps(encode(space, element), allow_nan=False))
        jsonschema.validate(value, schema)
        assert same(decode(space, value), element)
        assert space.contains(decode(space, value))
    assert words_of(space)


@pytest.mark.parametrize("space", [one for one in SPACES if not isinstance(one, spaces.Text) and one.shape != (40,)], ids=str)
def test_values_that_match_the_schema_are_elements(space: spaces.Space[Any]) -> None:
    schema = {"type": "object", "properties": {"action": schema_of(space)}, "required": ["action"]}
    calls = ToolCallSpace([ToolSpec("step", "", schema)], seed=0)
    fitting = 0
    for _ in range(30):
        value = calls.sample()["arguments"]["action"]
        try:
            fitting += space.contains(decode(space, value))
        except UnfitError:
            continue  # a number that is too large for a small float
    assert fitting > 10


@given(st.lists(st.floats(width=32), min_size=3, max_size=3))
def test_every_float32_is_written_exactly_and_short(numbers: list[float]) -> None:
    space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    array = np.array(numbers, np.float32)
    value = json.loads(json.dumps(encode(space, array), allow_nan=False))
    back = np.array([np.float32(one) for one in value], np.float32)
    assert np.array_equal(back, array, equal_nan=True)
    assert encode(space, np.array([0.1, 1e-7, 3], np.float32)) == [0.1, 1e-07, 3.0]


@pytest.mark.parametrize(
    ("space", "value", "problem"),
    [
        (spaces.Discrete(3), 3, "action must be an integer from 0 to 2, not 3"),
        (spaces.Discrete(3), True, "action must be an integer, not True"),
        (spaces.Discrete(3), 1.5, "integer, not 1.5"),
        (spaces.Discrete(3), "1", "integer, not '1'"),
        (spaces.Discrete(3), 1e400, "integer, not inf"),
        (spaces.Box(-1, 1, (2,)), [0.0, 1.5], r"action\[1\] must be from -1.0 to 1.0, not 1.5"),
        (spaces.Box(-1, 1, (2,)), [0.0], "action must be an array of length 2, not one of length 1"),
        (spaces.Box(-1, 1, (2,)), 0.0, "action must be an array of length 2, not 0.0"),
        (spaces.Box(-1, 1, (2,)), "ab", "action must be an array of length 2, not 'ab'"),
        (spaces.Box(-1, 1, (2,)), [0.0, "NaN"], r"action\[1\] must be from -1.0 to 1.0, not NaN"),
        (spaces.Box(-1, 1, (2,)), [None, 0], r"action\[0\] must be a number, not None"),
        (spaces.Box(-1, 1, ()), 10**400, "action must be a number that fits into float32"),
        (spaces.Box(0, 9, (1,), np.int8), [300], r"action\[0\] must be an integer from -128 to 127"),
        (spaces.Box(0, 1, (1,), np.bool_), [1], "must be true or false, not 1"),  # type: ignore[arg-type]
        (spaces.MultiDiscrete([2, 3]), [0, 3], r"action\[1\] must be an integer from 0 to 2, not 3"),
        (spaces.MultiBinary(2), [0, 2], r"action\[1\] must be 0 or 1, not 2"),
        (spaces.Text(2, charset="ab"), "abc", "action must have 1 to 2 characters, not 3"),
        (spaces.Text(2, charset="ab"), "ac", "action may not contain 'c'"),
        (spaces.Text(2), 3, "action must be a string, not 3"),
        (spaces.Dict(a=spaces.Discrete(2)), {}, "action lacks 'a'"),
        (spaces.Dict(a=spaces.Discrete(2)), {"a": 0, "b": 1}, "action has no 'b': it has a"),
        (spaces.Dict(a=spaces.Discrete(2)), {"a": 7}, r"action\.a must be an integer from 0 to 1, not 7"),
        (spaces.Dict(a=spaces.Discrete(2)), [0], "action must be an object with a, not"),
        (spaces.Tuple((spaces.Discrete(2),)), [2], r"action\[0\] must be"),
        (spaces.Sequence(spaces.Discrete(2)), [0, 2], r"action\[1\] must be"),
        (spaces.OneOf((spaces.Discrete(2),)), {"choice": 1, "value": 0}, r"action\.choice must be from 0 to 0, not 1"),
        (spaces.OneOf((spaces.Discrete(2),)), 0, "action must be an object with choice and value"),
    ],
)
def test_the_error_names_the_place_and_the_problem(space: spaces.Space[Any], value: Any, problem: str) -> None:
    with pytest.raises(UnfitError, match=problem):
        decode(space, value, at="action")


def test_other_spaces_are_refused() -> None:
    graph = spaces.Graph(spaces.Discrete(2), None)
    for space in (graph, spaces.Dict(a=graph), spaces.Tuple((graph,)), spaces.Sequence(graph)):
        with pytest.raises(ConfigurationError, match="Graph spaces cannot be bridged"):
            schema_of(space)
    with pytest.raises(ConfigurationError, match="cannot be bridged"):
        encode(graph, None)
    with pytest.raises(ConfigurationError, match="cannot be bridged"):
        decode(graph, None)
    with pytest.raises(ConfigurationError, match="unless its keys are strings"):
        schema_of(spaces.Dict({1: spaces.Discrete(2)}))  # type: ignore[dict-item]


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 1), (9, 8, 3), (9, 8, 4), (3, 9, 8), (1, 9, 8)])
def test_pictures_are_exact(shape: tuple[int, ...]) -> None:
    space = spaces.Dict(picture=spaces.Box(0, 255, shape, np.uint8), n=spaces.Discrete(2))
    assert is_picture(space["picture"])
    space.seed(1)
    element = space.sample()
    pictures: list[bytes] = []
    value = encode(space, element, pictures)
    assert value["picture"] == {"png": 0}
    assert same(decode(space, value, pictures), element)
    assert "picture of" in words_of(space)
    with pytest.raises(UnfitError, match="refers to picture 0, but there are 0"):
        decode(space, value, [])


def test_other_programs_read_the_png() -> None:
    import io

    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    with Image.open(io.BytesIO(png(pixels))) as opened:
        assert np.array_equal(np.asarray(opened), pixels)
    wrong: Any
    for wrong in (pixels.astype(np.float32), pixels[..., :2], pixels[:0]):
        with pytest.raises(ConfigurationError, match="a picture must be uint8"):
            png(wrong)
    filtered = io.BytesIO()
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1))).save(filtered, "PNG")
    for strange in (filtered.getvalue(), b"", b"GIF89a"):
        with pytest.raises(ConfigurationError, match="Pillow"):
            read_png(strange)
    assert not is_picture(spaces.Box(0, 255, (4, 4), np.uint8))
    assert not is_picture(spaces.Box(0, 1, (9, 9), np.float32))
