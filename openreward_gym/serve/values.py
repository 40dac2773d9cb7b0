"""Elements of Gymnasium spaces as JSON and back, exactly.

    Discrete                integer
    Box                     number, or nested arrays of its shape; NaN and infinities as "NaN", "Infinity", "-Infinity"
    MultiDiscrete, -Binary  nested arrays of integers
    Text                    string
    Dict                    object            Tuple      array of its length
    Sequence                array             OneOf      {"choice": index of the space, "value": its element}

A float has the fewest digits that restore it in its own dtype. A picture in an observation is not written as numbers but as
`{"png": n}`: the PNG of index n in a list beside the JSON. `zlib` is enough to write and read these PNGs.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array, iterate

from openreward_gym.errors import ConfigurationError
from openreward_gym.types import Json

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

MIN_PICTURE_SIDE = 8
"""Pixels; an array with a shorter side is a table, not a picture."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES: Mapping[int, int] = {1: 0, 3: 2, 4: 6}
_CHANNELS: Mapping[int, int] = {kind: channels for channels, kind in _COLOUR_TYPES.items()}


class UnfitError(ValueError):
    """A JSON value is not an element of the space. The message tells a model where and why."""


def unsupported(space: spaces.Space[Any]) -> ConfigurationError:
    """Return the error for a space that cannot be written as JSON."""
    return ConfigurationError(
        f"{type(space).__name__} spaces cannot be bridged (this one is {space!r}): Discrete, Box, MultiDiscrete, MultiBinary, "
        "Text, Dict, Tuple, Sequence and OneOf can. Wrap the environment so that it has one of these."
    )


def encode(space: spaces.Space[Any], value: Any, pictures: list[bytes] | None = None) -> Json:
    """Return an element of `space` as JSON.

    Args:
        space: The space.
        value: The element. Values outside the bounds are written too.
        pictures: A list to which the PNGs of pictures are appended; the JSON refers to them. None writes pixels as numbers.

    Raises:
        ConfigurationError: The space cannot be written as JSON.

    Example:
        >>> encode(spaces.Box(-1, 1, (2,), np.float32), np.array([0.1, -1], np.float32))
        [0.1, -1.0]
    """
    match space:
        case spaces.Discrete():
            return int(value)
        case spaces.Box() if pictures is not None and is_picture(space):
            pixels = np.asarray(value, dtype=np.uint8).reshape(space.shape)
            pictures.append(png(np.moveaxis(pixels, 0, -1) if _channels_first(space.shape) else pixels))
            return {"png": len(pictures) - 1}
        case spaces.Box() | spaces.MultiDiscrete() | spaces.MultiBinary():
            return _numbers(np.asarray(value))
        case spaces.Text():
            return str(value)
        case spaces.Dict():
            return {str(key): encode(inner, value[key], pictures) for key, inner in space.spaces.items()}
        case spaces.Tuple():
            return [encode(inner, element, pictures) for inner, element in zip(space.spaces, value, strict=True)]
        case spaces.Sequence():
            elements: Iterable[Any] = iterate(space.stacked_feature_space, value) if space.stack else value
            return [encode(space.feature_space, element, pictures) for element in elements]
        case spaces.OneOf():
            choice = int(value[0])
            return {"choice": choice, "value": encode(space.spaces[choice], value[1], pictures)}
    raise unsupported(space)


def number(value: Any) -> Json:
    """Return one number as JSON. A float has the fewest digits that restore it in its own dtype."""
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


def decode(space: spaces.Space[Any], value: Json, pictures: Sequence[bytes] = (), *, at: str = "value") -> Any:
    """Return the element of `space` that `encode` wrote as `value`.

    Args:
        space: The space.
        value: JSON as `encode` writes it.
        pictures: The PNGs that `encode` wrote beside it.
        at: The name of `value` in error messages.

    Raises:
        UnfitError: `value` has another form, or is outside the space.
        ConfigurationError: The space cannot be written as JSON.

    Example:
        >>> decode(spaces.MultiDiscrete([2, 3]), [1, 2])
        array([1, 2])
    """
    match space:
        case spaces.Discrete():
            first, last = int(space.start), int(space.start + space.n - 1)
            integer = _integer(value, at)
            if not first <= integer <= last:
                raise UnfitError(f"{at} must be an integer from {first} to {last}, not {value}")
            return np.dtype(space.dtype).type(integer)
        case spaces.Box() if isinstance(value, Mapping) and is_picture(space):
            index = value.get("png")
            if not isinstance(index, int) or not 0 <= index < len(pictures):
                raise UnfitError(f"{at} refers to picture {index!r}, but there are {len(pictures)}")
            return _read_picture(space, pictures[index])
        case spaces.Box():
            return _array(space, value, at, space.low, space.high, "from {} to {}")
        case spaces.MultiDiscrete():
            return _array(space, value, at, space.start, space.start + space.nvec - 1, "an integer from {} to {}")
        case spaces.MultiBinary():
            return _array(space, value, at, np.zeros(space.shape, np.int8), np.ones(space.shape, np.int8), "{} or {}")
        case spaces.Text():
            return _text(space, value, at)
        case spaces.Dict():
            _check_names(space, value, at)
            return {name: decode(inner, value[name], pictures, at=f"{at}.{name}") for name, inner in space.spaces.items()}
        case spaces.Tuple():
            elements = enumerate(_list(value, at, len(space.spaces)))
            return tuple(decode(space.spaces[i], element, pictures, at=f"{at}[{i}]") for i, element in elements)
        case spaces.Sequence():
            inner = space.feature_space
            parts = [decode(inner, element, pictures, at=f"{at}[{i}]") for i, element in enumerate(_list(value, at, None))]
            if not space.stack:
                return tuple(parts)
            stacked: Any = create_empty_array(inner, len(parts))
            return concatenate(inner, parts, stacked) if parts else stacked
        case spaces.OneOf():
            if not isinstance(value, Mapping) or set(value) != {"choice", "value"}:
                raise UnfitError(f"{at} must be an object with choice and value, not {value!r}")
            choice = _integer(value["choice"], f"{at}.choice")
            if not 0 <= choice < len(space.spaces):
                raise UnfitError(f"{at}.choice must be from 0 to {len(space.spaces) - 1}, not {choice}")
            return np.int64(choice), decode(space.spaces[choice], value["value"], pictures, at=f"{at}.value")
    raise unsupported(space)


def _check_names(space: spaces.Dict, value: Json, at: str) -> None:
    """Raise UnfitError if `value` is not an object with exactly the names of `space`."""
    if not isinstance(value, Mapping):
        raise UnfitError(f"{at} must be an object with {', '.join(map(str, space.spaces))}, not {value!r}")
    for name in (*space.spaces, *value):
        if str(name) not in value:
            raise UnfitError(f"{at} lacks {name!r}")
        if name not in space.spaces:
            raise UnfitError(f"{at} has no {name!r}: it has {', '.join(map(str, space.spaces))}")


def _text(space: spaces.Text, value: Json, at: str) -> str:
    if not isinstance(value, str):
        raise UnfitError(f"{at} must be a string, not {value!r}")
    if not space.min_length <= len(value) <= space.max_length:
        raise UnfitError(f"{at} must have {space.min_length} to {space.max_length} characters, not {len(value)}")
    other = sorted(set(value) - set(space.characters))
    if other:
        raise UnfitError(f"{at} may not contain {', '.join(map(repr, other[:10]))}")
    return value


def _array(space: spaces.Space[Any], value: Json, at: str, low: Array, high: Array, bounds: str) -> Array:
    """Return nested lists of numbers as an array of `space`. `bounds` words the limits `low` and `high` of an element."""
    shape, dtype = space.shape or (), np.dtype(space.dtype)
    leaves: list[Any] = []

    def walk(part: Json, shape: tuple[int, ...], place: str) -> None:
        if not shape:
            leaves.append(_leaf(part, dtype, place))
            return
        for i, element in enumerate(_list(part, place, shape[0])):
            walk(element, shape[1:], f"{place}[{i}]")

    walk(value, shape, at)
    array = np.array(leaves, dtype).reshape(shape)
    with np.errstate(invalid="ignore"):
        inside = (array >= low) & (array <= high)
    if not inside.all():
        place = tuple(np.argwhere(~inside)[0])
        where = at + "".join(f"[{i}]" for i in place)
        limits = bounds.format(number(low[place]), number(high[place]))
        raise UnfitError(f"{where} must be {limits}, not {number(array[place])}")
    return array


def _leaf(value: Json, dtype: np.dtype[Any], at: str) -> Any:
    if dtype.kind in "iu":
        integer = int(value) if isinstance(value, bool) else _integer(value, at)
        limits = np.iinfo(dtype)
        if not limits.min <= integer <= limits.max:
            raise UnfitError(f"{at} must be an integer from {limits.min} to {limits.max}, not {value}")
        return integer
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


def _integer(value: Json, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
        raise UnfitError(f"{at} must be an integer, not {value!r}")
    return int(value)


def _list(value: Json, at: str, length: int | None) -> Sequence[Json]:
    if isinstance(value, str) or not isinstance(value, Sequence) or (length is not None and len(value) != length):
        of_length = "" if length is None else f" of length {length}"
        actual = f"one of length {len(value)}" if isinstance(value, list) else repr(value)
        raise UnfitError(f"{at} must be an array{of_length}, not {actual}")
    return value


def is_picture(space: spaces.Space[Any]) -> bool:
    """Return True if elements of `space` are pictures: uint8 of shape (H, W), (H, W, 1|3|4) or (1|3, H, W)."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return False
    shape = space.shape
    if len(shape) == 3:
        shape = shape[1:] if _channels_first(shape) else shape[:2] if shape[2] in _COLOUR_TYPES else ()
    return len(shape) == 2 and min(shape) >= MIN_PICTURE_SIDE


def _read_picture(space: spaces.Box, data: bytes) -> Pixels:
    """Return the element of a picture space that `encode` wrote as PNG."""
    pixels = read_png(data)
    if _channels_first(space.shape):
        pixels = np.moveaxis(pixels, -1, 0)
    return np.ascontiguousarray(pixels.reshape(space.shape))


def png(pixels: Pixels) -> bytes:
    """Return `pixels`, uint8 of shape (H, W) or (H, W, 1|3|4), as PNG, or raise a ConfigurationError."""
    pixels = np.asarray(pixels)
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1] if pixels.ndim == 3 else 0
    if pixels.dtype != np.uint8 or channels not in _COLOUR_TYPES or not pixels.size:
        actual = f"{pixels.dtype} of shape {pixels.shape}"
        raise ConfigurationError(f"a picture must be uint8 of shape (H, W) or (H, W, 1|3|4), not {actual}")
    height, width = pixels.shape[:2]
    # Each line starts with the number of its filter; 0 means none.
    lines = np.zeros((height, 1 + width * channels), np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack("!IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(lines.tobytes())) + _chunk(b"IEND", b"")


def read_png(data: bytes) -> Pixels:
    """Return the pixels of a PNG that `png` wrote, with shape (H, W, channels), or raise a ConfigurationError."""
    chunks: dict[bytes, bytes] = {}
    at = len(_SIGNATURE)
    while data.startswith(_SIGNATURE) and at + 8 <= len(data):
        length, kind = struct.unpack_from("!I4s", data, at)
        chunks[kind] = chunks.get(kind, b"") + data[at + 8 : at + 8 + length]
        at += length + 12
    if b"IHDR" in chunks and b"IDAT" in chunks:
        width, height, depth, colours, _, _, interlaced = struct.unpack("!IIBBBBB", chunks[b"IHDR"])
        if depth == 8 and colours in _CHANNELS and not interlaced:
            channels = _CHANNELS[colours]
            lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width * channels)
            if not lines[:, 0].any():
                return np.ascontiguousarray(lines[:, 1:]).reshape(height, width, channels)
    raise ConfigurationError("the picture was not written by the bridge: read it with Pillow instead")


def _channels_first(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in _COLOUR_TYPES


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack("!I", len(content)) + kind + content + struct.pack("!I", zlib.crc32(kind + content))
