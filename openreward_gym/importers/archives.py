"""Members of zip archives that would unpack to something much larger than they are."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from openreward_gym.store.files import FREE_BYTES, MOST_RATIO, open_regular

_ZSTD = 93
_CHUNK = 1 << 16
_HEADER = struct.Struct("<26xHH")


class Archive:
    """A zip archive, of which nothing is unpacked to the disk: names that lead out of a folder are only names.

    Args:
        path: The archive.

    Raises:
        zipfile.BadZipFile: It is none.

    Example:
        >>> with zipfile.ZipFile("log.eval", "w") as file:
        ...     file.writestr("header.json", "{}")
        >>> archive = Archive("log.eval")
        >>> archive.names, archive.reason_against("header.json")
        (['header.json'], None)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.path.realpath(path)
        with open_regular(self._path) as file, zipfile.ZipFile(file) as archive:
            # Of several members of one name, the last one is read.
            self._members = {member.filename: member for member in archive.infolist()}

    @property
    def names(self) -> list[str]:
        """The names of the members."""
        return list(self._members)

    def reason_against(self, name: str) -> str | None:
        """Return why a member must not be unpacked into memory; None for one that may, or does not exist.

        The member is unpacked piece by piece, because the size that an archive states may be wrong.
        """
        member = self._members.get(name)
        if member is None:
            return None
        limit = max(FREE_BYTES, MOST_RATIO * member.compress_size)
        size = member.file_size
        with open_regular(self._path) as file:
            for piece in _pieces(file, member):
                if size > limit:
                    break
                size = max(size, piece)
        if size <= limit:
            return None
        return f"{name!r} unpacks to more than {MOST_RATIO} times its size, as only bombs do: not read"


def _pieces(file: IO[bytes], member: zipfile.ZipInfo) -> Iterator[int]:
    """Yield the number of bytes unpacked so far. What cannot be unpacked ends it: whoever reads the member says so."""
    file.seek(member.header_offset)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return
    file.seek(sum(_HEADER.unpack(header)), io.SEEK_CUR)
    size, left = 0, member.compress_size
    try:
        if member.compress_type == zipfile.ZIP_DEFLATED:
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            while left > 0 and not unpacker.eof and (chunk := file.read(min(_CHUNK, left))):
                left -= len(chunk)
                while chunk:
                    size += len(unpacker.decompress(chunk, 1 << 20))
                    chunk = unpacker.unconsumed_tail
                    yield size
        elif member.compress_type == _ZSTD:
            stream = _zstd_stream(file)
            while data := stream.read(1 << 20):
                size += len(data)
                yield size
    except (zlib.error, OSError):
        return


def _zstd_stream(file: IO[bytes]) -> Any:
    # A heavy import, which only these archives need.
    import pyarrow

    return pyarrow.CompressedInputStream(file, "zstd")
