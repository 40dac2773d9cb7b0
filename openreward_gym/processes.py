"""Objects that belong to one process, and the number of files that a process may have open."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

from openreward_gym.errors import ConfigurationError

_pid = os.getpid()


def process_id() -> int:
    """Return `os.getpid()` without a system call: each tool call needs it twice."""
    return _pid


def _after_fork_in_child() -> None:
    global _pid
    _pid = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def check_process(owner: int, name: str, instead: str = "make another in this process") -> None:
    """Refuse an object in a forked child: its connections, threads and locks are those of its parent.

    Args:
        owner: The id of the process that the object belongs to.
        name: The object, for the message: "this client".
        instead: What to do.

    Raises:
        ConfigurationError: `owner` is another process.
    """
    if owner != _pid:
        raise ConfigurationError(f"{name} belongs to process {owner}, and this is another process ({_pid}): {instead}")


class NotPicklableError(ConfigurationError, TypeError):
    """The object cannot be pickled. A TypeError, as for other objects that pickle refuses."""


class ProcessBound:
    """Mixin of objects that only the process that made them can use: a fork copies no thread, and pickle no connection.

    Subclasses call `_check_process` before they touch a lock, an event loop or a file. `_noun` names the object, and
    `_instead` says what to do in another process.
    """

    _noun: ClassVar[str] = "object"
    _instead: ClassVar[str] = "make another in this process"
    _owner: int

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        self._owner = _pid
        return self

    @property
    def _is_foreign(self) -> bool:
        """True if the object belongs to another process."""
        return self._owner != _pid

    def _check_process(self) -> None:
        if self._owner != _pid:
            check_process(self._owner, f"this {self._noun}", self._instead)

    def __reduce__(self) -> Any:
        raise NotPicklableError(
            f"a {self._noun} cannot be pickled or copied, because it holds connections or files of process {self._owner}. In "
            f"another process: {self._instead}"
        )


def remove_folder(folder: Path, owner: int) -> None:
    """Delete a temporary folder of process `owner`. A forked child inherits the finalizer, but not the folder."""
    if _pid == owner:
        shutil.rmtree(folder, ignore_errors=True)


RESERVED_FILES = 24
"""Open files that a program needs besides its connections: shards, images, logs, locks, and modules that are imported."""


def is_out_of_files(error: BaseException | None) -> bool:
    """Return True if an error, or what led to it, is that no further file or connection can be opened."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        # asyncio joins the errors of several addresses in one text.
        if isinstance(error, OSError) and "Too many open files" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def open_files_hint() -> str:
    """Return what to do if no further file can be opened: the limit, and how to raise it."""
    limit = open_file_limit()
    shown = "" if limit is None else f" (ulimit -n is {limit})"
    return f"this process has too many open files{shown}: raise the limit with `ulimit -n`, or play fewer sessions at once"


def open_file_limit() -> int | None:
    """Return the number of files that this process may have open. None if there is no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def raise_open_file_limit(wanted: int) -> None:
    """Raise the limit on open files to `wanted`, or as far as the system allows. For programs, not for libraries."""
    limit = open_file_limit()
    if limit is None or limit >= wanted:
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    except (OSError, ValueError):  # macOS has a further limit of its own
        return


def free_file_count() -> int | None:
    """Return how many further files this process may open. None if there is no limit."""
    limit = open_file_limit()
    if limit is None:
        return None
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return max(limit - len(os.listdir(folder)) + 1, 0)
        except FileNotFoundError:
            continue
        except OSError:
            return 0
    return limit
