"""The base of objects that hold connections."""

from __future__ import annotations

from typing import Any

from openreward_gym.processes import NotPicklableError


class Connected:
    """Mixin of objects that cannot be pickled, because they hold connections and keys."""

    def __reduce__(self) -> Any:
        raise NotPicklableError(f"{type(self).__name__} holds connections and cannot be pickled: make it in the other process")
