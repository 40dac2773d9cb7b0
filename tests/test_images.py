"""The table of image signatures."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from openreward_gym.images import EXTENSIONS, data_url, extension_of, is_raster, mime_type_of, parse_data_url

SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


@pytest.mark.parametrize("name", ["png", "jpeg", "gif", "webp", "bmp"])
def test_files_of_pixels_are_recognised_by_their_first_bytes(name: str) -> None:
    """A real file of each format has its type, and is readable as pixels."""
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (200, 10, 10)).save(file, format=name)
    assert mime_type_of(file.getvalue()) == f"image/{name}"
    assert is_raster(file.getvalue())


@pytest.mark.parametrize(
    "content",
    [
        SVG,
        b"\xef\xbb\xbf" + SVG,
        b"<svg:svg xmlns:svg='http://www.w3.org/2000/svg'/>",
        b"<?xml version='1.0'?>\n<!-- made by <a> program -->\n" + SVG,
        b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://x/svg11.dtd" [\n<!ENTITY a "b">\n]>\n' + SVG,
    ],
)
def test_svg_is_recognised_by_its_root_element(content: bytes) -> None:
    """SVG is an image that has no pixels."""
    assert mime_type_of(content) == "image/svg+xml"
    assert not is_raster(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"RIFF\x24\0\0\0AVI LIST",
        b"BMW is a maker of cars",
        b"GIF files are old",
        b"\x89PNG",
        b"<html><body><svg></svg></body></html>",
        b"<!DOCTYPE html><svg/>",
        b"<svgx/>",
        b"<!-- <svg> -->",
        b"%PDF-1.7",
    ],
)
def test_other_files_are_no_images(content: bytes) -> None:
    """Sounds, films, texts and web pages are not taken for images."""
    assert mime_type_of(content) is None
    assert not is_raster(content)


MARKUP = st.lists(st.sampled_from([b" ", b"<?", b"?>", b"<!--", b"-->", b"<!DOCTYPE svg [", b"]>"])).map(b"".join)


@given(st.binary(max_size=200) | MARKUP)
def test_any_bytes_have_a_type_or_none(content: bytes) -> None:
    """No bytes raise."""
    mime_type = mime_type_of(content)
    assert extension_of(mime_type) in EXTENSIONS
    assert (extension_of(mime_type) == "bin") == (mime_type is None)


def test_many_declarations_take_linear_time() -> None:
    """A file made to slow the SVG pattern down is answered."""
    assert mime_type_of(b"<?x?> " * 700) is None
    assert mime_type_of(b"<!DOCTYPE svg [" * 300) is None


def test_extensions() -> None:
    """A type has one extension, in whatever case it is written."""
    assert [extension_of(kind) for kind in ("image/PNG", "image/jpeg", "image/svg+xml", "image/tiff", None)] == [
        "png",
        "jpg",
        "svg",
        "bin",
        "bin",
    ]


@pytest.mark.parametrize("url", ["https://example.org/a.png", "data:,text", "data:image/png,raw", "image/png;base64,AA", ""])
def test_urls_without_base64_data_are_none(url: str) -> None:
    """A URL that does not hold base64 data is not an image's data."""
    assert parse_data_url(url) is None


def test_data_urls_round_trip() -> None:
    """Type and data come out as they went in."""
    assert parse_data_url(data_url("AAA=", "image/svg+xml")) == ("image/svg+xml", "AAA=")
