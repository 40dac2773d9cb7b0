"""Pictures as PNG and back, exactly; nothing but zlib is needed for the few kinds that environments have."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from openreward_gym.errors import ConfigurationError

__all__ = ["is_picture", "png", "read_picture", "read_png", "write_picture"]

Pixels = npt.NDArray[np.uint8]

SMALLEST = 8
"""Pixels a side; a smaller array of bytes is a table, not a picture."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
_CHANNELS = {kind: channels for channels, kind in _COLOUR_TYPES.items()}


def is_picture(space: spaces.Space[Any]) -> bool:
    """Whether elements of `space` are pictures: bytes of shape (H, W), (H, W, 1|3|4) or (1|3, H, W)."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return False
    shape = space.shape
    if len(shape) == 3:
        shape = shape[1:] if _channels_first(shape) else shape[:2] if shape[2] in _COLOUR_TYPES else ()
    return len(shape) == 2 and min(shape) >= SMALLEST


def write_picture(space: spaces.Box, value: Any) -> bytes:
    """The PNG of an element of a space for which `is_picture` holds."""
    pixels = np.asarray(value, dtype=np.uint8).reshape(space.shape)
    return png(np.moveaxis(pixels, 0, -1) if _channels_first(space.shape) else pixels)


def read_picture(space: spaces.Box, data: bytes) -> Pixels:
    """The element whose PNG `data` is."""
    pixels = read_png(data)
    if _channels_first(space.shape):
        pixels = np.moveaxis(pixels, -1, 0)
    return np.ascontiguousarray(pixels.reshape(space.shape))


def png(pixels: Pixels) -> bytes:
    """A PNG of `pixels`, uint8 of shape (H, W) or (H, W, 1|3|4).

    Raises:
        ConfigurationError: They are of no such shape or type.
    """
    pixels = np.asarray(pixels)
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1] if pixels.ndim == 3 else 0
    if pixels.dtype != np.uint8 or channels not in _COLOUR_TYPES or not pixels.size:
        raise ConfigurationError(
            f"a picture is uint8 of shape (H, W) or (H, W, 1|3|4), not {pixels.dtype} of shape {pixels.shape}"
        )
    height, width = pixels.shape[:2]
    # Each line begins with the number of its filter: 0, none.
    lines = np.zeros((height, 1 + width * channels), np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack("!IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(lines.tobytes())) + _chunk(b"IEND", b"")


def read_png(data: bytes) -> Pixels:
    """The pixels, of shape (H, W, channels), of a PNG that `png` made.

    Raises:
        ConfigurationError: Another program made it, in a way that is not read here.
    """
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
    raise ConfigurationError("this is no PNG that the bridge made: open it with Pillow")


def _channels_first(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in _COLOUR_TYPES


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack("!I", len(content)) + kind + content + struct.pack("!I", zlib.crc32(kind + content))
