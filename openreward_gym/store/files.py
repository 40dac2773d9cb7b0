"""Files of a folder that somebody else may have made.

Only regular files are opened, and no link that leads out of the folder is followed.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import IO, Any, cast

from openreward_gym.errors import StoreError

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# Without it, opening a FIFO waits for its writer.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | _NO_LINK | _NO_WAIT

FREE_BYTES = 32_000_000
"""What a packed file may always unpack to."""
MOST_RATIO = 200
"""How many times its packed size a larger one may unpack to."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}


def inside(folder: Path, name: str, *, new: bool = False) -> Path:
    """Return the path of the regular file `name` in a folder, without links below the folder.

    Args:
        folder: The folder, which may be a link itself.
        name: A path inside the folder, with `/`.
        new: Whether the file may be missing, or be a folder: then only links are checked.

    Raises:
        FileNotFoundError: The file does not exist.
        StoreError: A link leads out of the folder, the file is no regular file, or the folder cannot be read.
    """
    path = os.fspath(folder)
    mode = 0
    try:
        for part in name.split("/"):
            path = f"{path}/{part}"
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                path, mode = _through_links(folder, name)
                break
    except FileNotFoundError:
        if not new:
            raise
        return folder / name
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder / name}: cannot be read: {_words(error)}") from None
    if not new and not stat.S_ISREG(mode):
        raise StoreError(f"{folder / name}: not a file but {kind_of(mode)}")
    return Path(path)


def _through_links(folder: Path, name: str) -> tuple[str, int]:
    """Return the real path of a file on whose way are links, and its mode."""
    root = os.path.realpath(folder)
    path = os.path.realpath(folder / name)
    if os.path.commonpath([root, path]) != root:
        raise StoreError(f"{folder / name}: a link that leads out of {folder} is not followed")
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        if not os.path.lexists(folder / name):
            raise
        mode = stat.S_IFLNK
    # The real path of a loop of links is one of them.
    if stat.S_ISLNK(mode):
        raise StoreError(f"{folder / name}: a link that leads nowhere")
    return path, mode


def kind_of(mode: int) -> str:
    """Return the name of a kind of file, by its mode.

    >>> kind_of(os.stat("/").st_mode)
    'a folder'
    """
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def open_descriptor(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open the regular file at `path`, which must be no link, and return its descriptor.

    Raises:
        FileNotFoundError: There is no such file.
        StoreError: It is no regular file, or cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | _FLAGS, 0o644)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        is_link = isinstance(error, OSError) and error.errno == errno.ELOOP
        raise StoreError(f"{path}: cannot be opened: {'it is a link' if is_link else _words(error)}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise StoreError(f"{path}: not a file but {kind_of(mode)}")
    return descriptor


def open_regular(path: str | os.PathLike[str], buffering: int = -1) -> IO[bytes]:
    """Open the regular file at `path` to read its bytes; raises as `open_descriptor`."""
    return cast(IO[bytes], os.fdopen(open_descriptor(path), "rb", buffering))


class Unpacked(io.RawIOBase):
    """A stream that is unpacked while it is read, and ends with an error where it would be a bomb.

    Args:
        stream: The unpacked bytes.
        packed: The file they come from; its position says how much of it was read.
        name: The name of that file, for messages.

    Raises:
        StoreError: From `read`, beyond `FREE_BYTES` and `MOST_RATIO` times the packed bytes.
    """

    def __init__(self, stream: Any, packed: IO[bytes], name: str | os.PathLike[str]) -> None:
        super().__init__()
        self._stream, self._packed, self._name = stream, packed, name
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        # `read` would lose what comes before the end of a torn file.
        data: bytes = self._stream.read1(len(view))
        view[: len(data)] = data
        self._count += len(data)
        if self._count > FREE_BYTES and self._count > MOST_RATIO * self._packed.tell():
            raise StoreError(
                f"{self._name}: unpacks to more than {MOST_RATIO} times its size, as only bombs do: not read further; "
                "if it is right, unpack it first"
            )
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._packed.close()
        super().close()


def _words(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
