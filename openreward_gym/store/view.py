"""Some rollouts of a store, and how they are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from openreward_gym.errors import ConfigurationError
from openreward_gym.store.index import Place
from openreward_gym.types.rollout import Rollout

if TYPE_CHECKING:
    from openreward_gym.store.store import RolloutStore


class RolloutView(Sequence[Rollout]):
    """Some rollouts of a store, read when they are asked for; stays the same while the store grows.

    Attributes:
        store: The store.
        places: Where in the store they are, in order.
    """

    def __init__(self, store: RolloutStore, places: list[Place]) -> None:
        self.store = store
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Rollout: ...
    @overload
    def __getitem__(self, index: slice) -> RolloutView: ...
    def __getitem__(self, index: int | slice) -> Rollout | RolloutView:
        if isinstance(index, slice):
            return RolloutView(self.store, self.places[index])
        return self.store.read(self.places[index])

    def __iter__(self) -> Iterator[Rollout]:
        return map(self.store.read, self.places)

    def filter(self, where: Callable[[Rollout], bool] | None = None, **criteria: Any) -> RolloutView:
        """Those of them for which `where` is true and that meet every criterion; see `RolloutStore.filter`."""
        meets = criteria_met(criteria)
        read = ((place, self.store.read(place)) for place in self.places)
        found = [place for place, rollout in read if meets(rollout) and (where is None or where(rollout))]
        return RolloutView(self.store, found)

    def __repr__(self) -> str:
        return f"<{len(self)} rollouts of {self.store!r}>"


_CRITERIA: Mapping[str, Callable[[Rollout], Any]] = {
    "run": lambda rollout: rollout.run,
    "environment": lambda rollout: rollout.environment.name,
    "split": lambda rollout: rollout.environment.split,
    "task": lambda rollout: rollout.task.id,
    "group": lambda rollout: rollout.group,
    "status": lambda rollout: rollout.status,
    "stop_reason": lambda rollout: rollout.stop_reason,
}


def criteria_met(criteria: Mapping[str, Any]) -> Callable[[Rollout], bool]:
    """A function that says whether a rollout meets all of `criteria` (those of `RolloutStore.filter`).

    Raises:
        ConfigurationError: There is no such criterion.
    """
    unknown = sorted(set(criteria) - set(_CRITERIA) - {"min_reward", "max_reward"})
    if unknown:
        known = ", ".join([*_CRITERIA, "min_reward", "max_reward"])
        raise ConfigurationError(f"no such criterion: {', '.join(unknown)} (there are {known}, and `where` for anything else)")
    low, high = criteria.get("min_reward"), criteria.get("max_reward")
    wanted = {
        name: value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
        for name, value in criteria.items()
        if name in _CRITERIA
    }

    def meets(rollout: Rollout) -> bool:
        if low is not None and not (rollout.reward is not None and rollout.reward >= low):
            return False
        if high is not None and not (rollout.reward is not None and rollout.reward <= high):
            return False
        return all(_CRITERIA[name](rollout) in values for name, values in wanted.items())

    return meets
