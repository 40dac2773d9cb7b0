"""Elements of Gymnasium's spaces as JSON and back, exactly.

    Discrete                integer
    Box                     number, or nested arrays of its shape; NaN and infinities are the texts "NaN", "Infinity", "-Infinity"
    MultiDiscrete, -Binary  nested arrays of integers
    Text                    text
    Dict                    object            Tuple      array of its length
    Sequence                array             OneOf      {"choice": number of the space, "value": element of it}

A float is written with the fewest digits that give it back in its own dtype. A picture among observations is not written as
numbers but as `{"png": n}`: number n of the pictures that come along.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array, iterate

from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.pictures import is_picture, read_picture, write_picture
from openreward_gym.types import Json

__all__ = ["UnfitError", "decode", "encode", "number", "unsupported"]

Array = npt.NDArray[Any]


class UnfitError(ValueError):
    """A JSON value is no element of the space; the message says where and why, to a model."""


def unsupported(space: spaces.Space[Any]) -> ConfigurationError:
    """The error for a space that has no JSON form here."""
    return ConfigurationError(
        f"{type(space).__name__} spaces cannot be bridged (this one is {space!r}): Discrete, Box, MultiDiscrete, MultiBinary, "
        "Text, Dict, Tuple, Sequence and OneOf can. Wrap the environment so that it has one of those."
    )


# Elements to JSON -----------------------------------------------------------------------------------------------------------


@singledispatch
def encode(space: spaces.Space[Any], value: Any, pictures: list[bytes] | None = None) -> Json:
    """`value`, an element of `space`, as JSON.

    Args:
        space: The space.
        value: Its element. What lies outside its bounds is written all the same.
        pictures: Takes the PNGs of pictures, in place of which their numbers are written; None writes pictures as numbers.

    Raises:
        ConfigurationError: A space of that kind has no JSON form here.
    """
    raise unsupported(space)


@encode.register
def _(space: spaces.Discrete, value: Any, pictures: list[bytes] | None = None) -> Json:
    return int(value)


@encode.register(spaces.Box)
@encode.register(spaces.MultiDiscrete)
@encode.register(spaces.MultiBinary)
def _(space: Any, value: Any, pictures: list[bytes] | None = None) -> Json:
    if pictures is not None and is_picture(space):
        pictures.append(write_picture(space, value))
        return {"png": len(pictures) - 1}
    return _numbers(np.asarray(value))


@encode.register
def _(space: spaces.Text, value: Any, pictures: list[bytes] | None = None) -> Json:
    return str(value)


@encode.register
def _(space: spaces.Dict, value: Any, pictures: list[bytes] | None = None) -> Json:
    return {str(key): encode(inner, value[key], pictures) for key, inner in space.spaces.items()}


@encode.register(spaces.Tuple)
def _(space: Any, value: Any, pictures: list[bytes] | None = None) -> Json:
    return [encode(inner, element, pictures) for inner, element in zip(space.spaces, value, strict=True)]


@encode.register
def _(space: spaces.Sequence, value: Any, pictures: list[bytes] | None = None) -> Json:
    elements: Iterable[Any] = iterate(space.stacked_feature_space, value) if space.stack else value
    return [encode(space.feature_space, element, pictures) for element in elements]


@encode.register(spaces.OneOf)
def _(space: Any, value: Any, pictures: list[bytes] | None = None) -> Json:
    choice = int(value[0])
    return {"choice": choice, "value": encode(space.spaces[choice], value[1], pictures)}


def number(value: Any) -> Json:
    """One number as JSON: a float with the fewest digits that give it back in its own dtype."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if not np.isfinite(value):
        return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    short = float(str(value))
    return short if type(value)(short) == value else float(value)


def _numbers(array: Array) -> Json:
    if array.dtype.kind in "biu" or (array.dtype == np.float64 and np.isfinite(array).all()):
        return array.tolist()
    flat = np.empty(array.size, object)
    flat[:] = [number(element) for element in array.ravel()]
    return flat.reshape(array.shape).tolist()


# JSON to elements -----------------------------------------------------------------------------------------------------------


def decode(space: spaces.Space[Any], value: Json, pictures: Sequence[bytes] = (), *, at: str = "value") -> Any:
    """The element of `space` that `encode` wrote as `value`.

    Args:
        space: The space.
        value: JSON of the form that `encode` gives.
        pictures: The PNGs that came along.
        at: What `value` is called in an error.

    Raises:
        UnfitError: `value` is not of that form, or not in the space.
        ConfigurationError: A space of that kind has no JSON form here.
    """
    return _decode(space, value, at, pictures)


@singledispatch
def _decode(space: spaces.Space[Any], value: Json, at: str, pictures: Sequence[bytes]) -> Any:
    raise unsupported(space)


@_decode.register
def _(space: spaces.Discrete, value: Json, at: str, pictures: Sequence[bytes]) -> Any:
    first, last = int(space.start), int(space.start + space.n - 1)
    whole = _whole(value, at)
    if not first <= whole <= last:
        raise UnfitError(f"{at} must be a whole number from {first} to {last}, not {value}")
    return _type(space)(whole)


@_decode.register
def _(space: spaces.Box, value: Json, at: str, pictures: Sequence[bytes]) -> Any:
    if isinstance(value, Mapping) and is_picture(space):
        index = value.get("png")
        if not isinstance(index, int) or not 0 <= index < len(pictures):
            raise UnfitError(f"{at} names picture {index!r} of {len(pictures)}")
        return read_picture(space, pictures[index])
    array = _array(space, value, at)
    with np.errstate(invalid="ignore"):
        wrong = ~((array >= space.low) & (array <= space.high))
    for place in np.argwhere(wrong)[:1]:
        where, place = at + "".join(f"[{i}]" for i in place), tuple(place)
        low, high = number(space.low[place]), number(space.high[place])
        raise UnfitError(f"{where} must be from {low} to {high}, not {number(array[place])}")
    return array


@_decode.register
def _(space: spaces.MultiDiscrete, value: Json, at: str, pictures: Sequence[bytes]) -> Any:
    array = _array(space, value, at)
    wrong = (array < space.start) | (array >= space.start + space.nvec)
    for place in np.argwhere(wrong)[:1]:
        where, place = at + "".join(f"[{i}]" for i in place), tuple(place)
        first, last = int(space.start[place]), int(space.start[place] + space.nvec[place] - 1)
        raise UnfitError(f"{where} must be a whole number from {first} to {last}, not {int(array[place])}")
    return array


@_decode.register
def _(space: spaces.MultiBinary, value: Json, at: str, pictures: Sequence[bytes]) -> Any:
    array = _array(space, value, at)
    for place in np.argwhere((array != 0) & (array != 1))[:1]:
        raise UnfitError(f"{at}{''.join(f'[{i}]' for i in place)} must be 0 or 1, not {int(array[tuple(place)])}")
    return array


@_decode.register
def _(space: spaces.Text, value: Json, at: str, pictures: Sequence[bytes]) -> Any:
    if not isinstance(value, str):
        raise UnfitError(f"{at} must be a text, not {value!r}")
    if not space.min_length <= len(value) <= space.max_length:
        raise UnfitError(f"{at} must have {space.min_length} to {space.max_length} characters, not {len(value)}")
    strange = sorted(set(value) - set(space.characters))
    if strange:
        raise UnfitError(f"{at} may not contain {', '.join(map(repr, strange[:10]))}")
    return value


@_decode.register
def _(space: spaces.Dict, value: Json, at: str, pictures: Sequence[bytes]) -> Any:
    if not isinstance(value, Mapping):
        raise UnfitError(f"{at} must be an object with {', '.join(map(str, space.spaces))}, not {value!r}")
    for name in (*space.spaces, *value):
        if str(name) not in value:
            raise UnfitError(f"{at} lacks {name!r}")
        if name not in space.spaces:
            raise UnfitError(f"{at} has no {name!r}: it has {', '.join(map(str, space.spaces))}")
    return {name: _decode(inner, value[name], f"{at}.{name}", pictures) for name, inner in space.spaces.items()}


@_decode.register(spaces.Tuple)
def _(space: Any, value: Json, at: str, pictures: Sequence[bytes]) -> Any:
    elements = _list(value, at, len(space.spaces))
    return tuple(
        _decode(inner, e, f"{at}[{i}]", pictures) for i, (inner, e) in enumerate(zip(space.spaces, elements, strict=True))
    )


@_decode.register
def _(space: spaces.Sequence, value: Json, at: str, pictures: Sequence[bytes]) -> Any:
    inner = space.feature_space
    elements = [_decode(inner, element, f"{at}[{i}]", pictures) for i, element in enumerate(_list(value, at, None))]
    if not space.stack:
        return tuple(elements)
    room: Any = create_empty_array(inner, len(elements))
    return concatenate(inner, elements, room) if elements else room


@_decode.register(spaces.OneOf)
def _(space: Any, value: Json, at: str, pictures: Sequence[bytes]) -> Any:
    if not isinstance(value, Mapping) or set(value) != {"choice", "value"}:
        raise UnfitError(f"{at} must be an object with choice and value, not {value!r}")
    choice = _whole(value["choice"], f"{at}.choice")
    if not 0 <= choice < len(space.spaces):
        raise UnfitError(f"{at}.choice must be from 0 to {len(space.spaces) - 1}, not {choice}")
    return np.int64(choice), _decode(space.spaces[choice], value["value"], f"{at}.value", pictures)


def _array(space: Any, value: Json, at: str) -> Array:
    """Nested lists of numbers as an array of the space's shape and dtype."""
    dtype = np.dtype(space.dtype)
    leaves: list[Any] = []

    def walk(part: Json, shape: tuple[int, ...], place: str) -> None:
        if not shape:
            leaves.append(_leaf(part, dtype, place))
            return
        for i, element in enumerate(_list(part, place, shape[0])):
            walk(element, shape[1:], f"{place}[{i}]")

    walk(value, tuple(space.shape), at)
    return np.array(leaves, dtype).reshape(space.shape)


def _leaf(value: Json, dtype: np.dtype[Any], at: str) -> Any:
    if dtype.kind in "iu":
        whole = int(value) if isinstance(value, bool) else _whole(value, at)
        limits = np.iinfo(dtype)
        if not limits.min <= whole <= limits.max:
            raise UnfitError(f"{at} must be a whole number from {limits.min} to {limits.max}, not {value}")
        return whole
    if dtype.kind == "b":
        if not isinstance(value, bool):
            raise UnfitError(f"{at} must be true or false, not {value!r}")
        return value
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return dtype.type(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnfitError(f"{at} must be a number, not {value!r}")
    try:
        with np.errstate(over="ignore"):
            return dtype.type(value)
    except OverflowError:
        raise UnfitError(f"{at} must be a number that fits into {dtype}") from None


def _whole(value: Json, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
        raise UnfitError(f"{at} must be a whole number, not {value!r}")
    return int(value)


def _list(value: Json, at: str, length: int | None) -> Sequence[Json]:
    if isinstance(value, str) or not isinstance(value, Sequence) or (length is not None and len(value) != length):
        of_length = "" if length is None else f" of length {length}"
        found = f"one of length {len(value)}" if isinstance(value, list) else repr(value)
        raise UnfitError(f"{at} must be an array{of_length}, not {found}")
    return value


def _type(space: spaces.Space[Any]) -> Any:
    return np.dtype(space.dtype).type
