"""What the viewer is given from outside, because it knows neither exports nor environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from openreward_gym.types.rollout import Rollout

Others: TypeAlias = Callable[[], Sequence[Rollout]]
Lens: TypeAlias = Callable[[Rollout, Others, str], Mapping[str, Any]]
"""What an export makes of a rollout: `(rollout, the others of its group, format)` to `{"rows": [{"row", "spans"}], "dropped":
why there is none, or None}`."""
Replay: TypeAlias = Callable[[Rollout], Mapping[str, Any]]
"""Runs a rollout's calls again: to `{"calls": [{"name", "recorded", "now", "same", ...}], "same": ...}`."""


@dataclass(frozen=True, slots=True)
class Powers:
    """Export lens and replay check.

    Attributes:
        lens: The export lens; None for none. lens_formats: (name, what it is for) of each of its formats.
        replay: The replay check; None for none. replay_at: Where it plays, to be shown.
    """

    lens: Lens | None = None
    lens_formats: tuple[tuple[str, str], ...] = ()
    replay: Replay | None = None
    replay_at: str = ""
