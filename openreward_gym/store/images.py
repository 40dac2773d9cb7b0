"""Images of rollouts: one file per image, named by its SHA-256, in the `images/` folder of a run."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from openreward_gym.errors import StoreError
from openreward_gym.images import EXTENSIONS, extension_of
from openreward_gym.store.folder import Folder

_SHA256 = re.compile(r"[0-9a-f]{64}")


def move_out(record: dict[str, Any], folder: Folder, *, sync: bool = False) -> None:
    """Write the images inside `record` (a rollout as a dictionary) to the folder and leave their SHA-256 in their place.

    An image whose data is not plain base64 stays in the record, because it could not be restored exactly.
    """
    for part in _images(record):
        content = _decode(part.get("data"))
        if content is None:
            continue
        sha256 = hashlib.sha256(content).hexdigest()
        name = f"images/{sha256}.{extension_of(_mime_type(part))}"
        if not folder.has(name):
            folder.write_bytes(name, content, sync=sync)
        del part["data"]
        part["sha256"] = sha256


def move_in(
    record: dict[str, Any], read_image: Callable[[str], bytes], on_error: Callable[[StoreError], None] | None = None
) -> None:
    """Put the data of the images back into `record`, in place of their SHA-256.

    Args:
        record: The rollout as a dictionary.
        read_image: Returns the bytes of an image, or raises StoreError.
        on_error: Called with that error for an image, which keeps its SHA-256; None raises it.
    """
    for part in _images(record):
        if part.get("data") is None and isinstance(part.get("sha256"), str):
            try:
                content = read_image(part["sha256"])
            except StoreError as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            part["data"] = base64.b64encode(content).decode("ascii")
            del part["sha256"]


def read(folder: Folder, sha256: str) -> bytes:
    """Return the bytes of an image.

    Raises:
        StoreError: There is no such image, its name is not a SHA-256, or its bytes are not what was written.
    """
    if not _SHA256.fullmatch(sha256):
        raise StoreError(f"{sha256[:80]!r} is not a SHA-256 (64 lower-case hexadecimal digits)")
    for extension in (*EXTENSIONS, "bin"):
        try:
            content = folder.read_bytes(f"images/{sha256}.{extension}")
        except FileNotFoundError:
            continue
        if hashlib.sha256(content).hexdigest() != sha256:
            raise StoreError(f"{folder}/images/{sha256}.{extension}: damaged: its bytes are not those of its name")
        return content
    raise StoreError(f"{folder}: no image {sha256}: copy the run's images/ folder along with its rollouts")


def _images(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for message in record.get("messages", ()):
        for part in message.get("blocks", ()):
            if part.get("type") == "image":
                yield part


def _mime_type(part: dict[str, Any]) -> str:
    return str(part.get("mimeType", "image/png")).lower()


def _decode(data: Any) -> bytes | None:
    if not isinstance(data, str) or not data:
        return None
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
    return content if base64.b64encode(content).decode("ascii") == data else None
