"""Pictures of outputs: whether two are the same, and how large they are, for which no library of pictures is needed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from openreward_gym.types import Block, ImageBlock, ToolResult

MAX_IMAGE_BYTES = 2_000_000
"""The largest image that an answer holds to be seen; a larger one is told by its size alone."""

_JPEG_SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""JPEG's markers that begin with a size: all "start of frame", without the tables that stand among them."""


def images_compared(recorded: Sequence[Block], now: Sequence[Block]) -> list[dict[str, Any]]:
    """The images of a recorded output beside those of the one just made, in their order.

    Returns:
        For each pair `{"recorded", "now", "same"}`: an image is `{"mimeType", "bytes", "width", "height", "data"}`, sizes
        None where they cannot be told, `data` (base64) where the two differ and it is not too large; None where the other
        output has more images.
    """
    made = []
    for before, after in zip_longest(_images(recorded), _images(now)):
        same = before is not None and after is not None and _digest(before) == _digest(after)
        made.append({"recorded": _told(before, not same), "now": _told(after, not same), "same": same})
    return made


def _images(blocks: Sequence[Block]) -> Iterator[ImageBlock]:
    for block in blocks:
        if isinstance(block, ImageBlock):
            yield block
        elif isinstance(block, ToolResult):
            yield from _images(block.blocks)


def _bytes(image: ImageBlock) -> bytes:
    """The file's bytes; the data as it stands where it is no base64, so that it can be compared all the same."""
    try:
        return base64.b64decode("".join(image.data.split()), validate=True)
    except (binascii.Error, ValueError):
        return image.data.encode("utf-8", "surrogatepass")


def _digest(image: ImageBlock) -> str:
    kept = image.extra.get("sha256")  # a record whose images stand in files beside it
    return kept if not image.data and isinstance(kept, str) else hashlib.sha256(_bytes(image)).hexdigest()


def _told(image: ImageBlock | None, with_data: bool) -> dict[str, Any] | None:
    if image is None:
        return None
    if not image.data:
        return {"mimeType": image.mime_type, "bytes": None, "width": None, "height": None, "data": None}
    content = _bytes(image)
    width, height = size_in_pixels(content) or (None, None)
    shown = with_data and len(content) <= MAX_IMAGE_BYTES
    return {"mimeType": image.mime_type, "bytes": len(content), "width": width, "height": height,
            "data": image.data if shown else None}  # fmt: skip


def size_in_pixels(content: bytes) -> tuple[int, int] | None:
    """(width, height) of a PNG, JPEG, GIF, WebP or BMP file; None where it is none of them, or is broken off."""
    try:
        return _size(content)
    except (struct.error, IndexError):
        return None


def _size(content: bytes) -> tuple[int, int] | None:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", content, 16)
    elif content[:6] in (b"GIF87a", b"GIF89a"):
        width, height = struct.unpack_from("<HH", content, 6)
    elif content.startswith(b"BM"):
        width, height = struct.unpack_from("<ii", content, 18)
        height = abs(height)  # negative where the rows go from top to bottom
    elif content.startswith(b"\xff\xd8\xff"):
        return _jpeg(content)
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _webp(content)
    else:
        return None
    return width, height


def _jpeg(content: bytes) -> tuple[int, int] | None:
    at = 2
    while content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        else:
            (length,) = struct.unpack_from(">H", content, at + 2)
            at += 2 + length
    return None


def _webp(content: bytes) -> tuple[int, int] | None:
    kind = content[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(_part(content, 24, 3), "little"), 1 + int.from_bytes(_part(content, 27, 3), "little")
    if kind == b"VP8L":
        bits = int.from_bytes(_part(content, 21, 4), "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _part(content: bytes, start: int, length: int) -> bytes:
    found = content[start : start + length]
    if len(found) < length:
        raise IndexError(start)
    return found
