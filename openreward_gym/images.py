"""Image formats: the only table of signatures, MIME types and file extensions; and `data:` URLs."""

from __future__ import annotations

import re
from typing import NamedTuple

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class _Format(NamedTuple):
    mime_type: str
    extension: str
    signature: re.Pattern[bytes]


_FORMATS = (
    _Format("image/png", "png", re.compile(re.escape(PNG_SIGNATURE))),
    _Format("image/jpeg", "jpg", re.compile(rb"\xff\xd8\xff")),
    _Format("image/gif", "gif", re.compile(rb"GIF8[79]a")),
    # WAV and AVI are RIFF files too.
    _Format("image/webp", "webp", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    # The file's size, then two reserved fields that are 0: "BM" alone begins many texts.
    _Format("image/bmp", "bmp", re.compile(rb"BM.{4}\0{4}", re.DOTALL)),
    # The root element, after a byte order mark, an XML declaration, comments and a document type. The possessive repetition
    # keeps the time linear.
    _Format(
        "image/svg+xml",
        "svg",
        re.compile(
            rb"(?:\xef\xbb\xbf)?(?:\s|<\?.*?\?>|<!--.*?-->|<!DOCTYPE\s+(?:\w+:)?svg[^\[>]*(?:\[.*?\]\s*)?>)*+<(?:\w+:)?svg[\s/>]",
            re.DOTALL,
        ),
    ),
)
_EXTENSIONS = {image.mime_type: image.extension for image in _FORMATS}
# An SVG's root element follows at most this many bytes of declarations and comments.
_HEAD_BYTES = 4096
_DATA_URL = re.compile(r"data:(?P<mime>[\w.+-]+/[\w.+-]+);base64,(?P<data>.*)", re.DOTALL)

EXTENSIONS = (*_EXTENSIONS.values(), "bin")
"""All results of `extension_of`."""


def mime_type_of(content: bytes) -> str | None:
    """Return the MIME type that an image file's first bytes show; None for bytes that are not a known image format.

    >>> mime_type_of(b"GIF89a...")
    'image/gif'
    >>> mime_type_of(b"RIFF....WAVE") is None
    True
    """
    head = content[:_HEAD_BYTES]
    return next((image.mime_type for image in _FORMATS if image.signature.match(head)), None)


def is_raster(content: bytes) -> bool:
    """Return True for an image file of pixels, which Pillow and a model's image processor can read; False for SVG."""
    return mime_type_of(content) not in (None, "image/svg+xml")


def extension_of(mime_type: str | None) -> str:
    """Return a file extension without the dot; "bin" for None and for types that are not in the table.

    >>> extension_of("image/jpeg")
    'jpg'
    """
    return _EXTENSIONS.get((mime_type or "").lower(), "bin")


def data_url(data: str, mime_type: str) -> str:
    """Return a `data:` URL; `data` is base64 text.

    >>> data_url("R0lGODlh", "image/gif")
    'data:image/gif;base64,R0lGODlh'
    """
    return f"data:{mime_type};base64,{data}"


def parse_data_url(url: str) -> tuple[str, str] | None:
    """Return the MIME type and the base64 text of a `data:` URL; None for any other URL.

    >>> parse_data_url("data:image/gif;base64,R0lGODlh")
    ('image/gif', 'R0lGODlh')
    """
    match = _DATA_URL.fullmatch(url)
    return (match["mime"], match["data"]) if match else None
