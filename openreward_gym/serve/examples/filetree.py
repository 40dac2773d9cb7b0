"""Files that exist only in memory, and a place to stand among them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


class ShellError(Exception):
    """A command line, or a use of a command, that is refused; its text is what a terminal would show."""


@dataclass(slots=True)
class FileTree:
    """A read-only file tree and the directory one is in.

    Attributes:
        files: Contents by absolute path. Directories are those that the paths, `home` and `cwd` pass through.
        home: What `~` means, and where one starts.
        cwd: The current directory.
    """

    files: Mapping[str, bytes]
    home: str = "/"
    cwd: str = ""
    directories: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.cwd = self.cwd or self.home
        found = {"/", self.home, self.cwd}
        for path in [*self.files, *found]:
            while path != "/":
                path = posixpath.dirname(path)
                found.add(path)
        self.directories = frozenset(found)

    def resolve(self, path: str) -> str:
        """`path` as an absolute, normal path."""
        if path == "~" or path.startswith("~/"):
            path = self.home + path[1:]
        return "/" + posixpath.normpath(posixpath.join(self.cwd, path)).lstrip("/")

    def is_directory(self, path: str) -> bool:
        return self.resolve(path) in self.directories

    def read(self, path: str) -> bytes:
        """The contents of a file.

        Raises:
            ShellError: It is a directory, or there is none.
        """
        full = self.resolve(path)
        if full in self.directories:
            raise ShellError(f"{path}: Is a directory")
        if full not in self.files:
            raise ShellError(f"{path}: No such file or directory")
        return self.files[full]

    def entries(self, directory: str) -> list[str]:
        """The names in a directory, sorted."""
        full = self.resolve(directory)
        paths = {*self.files, *self.directories} - {"/"}
        return sorted(posixpath.basename(path) for path in paths if posixpath.dirname(path) == full)

    def walk(self, path: str) -> Iterator[str]:
        """`path` and everything below it, depth first, each as `path` was spelled."""
        yield path
        if self.is_directory(path):
            for name in self.entries(path):
                yield from self.walk(posixpath.join(path, name))
