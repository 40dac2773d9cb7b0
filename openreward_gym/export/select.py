"""Selection of rollouts by the criteria of `Select`. Each rollout that is left out has a reason, which is counted."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from openreward_gym.export.duplicates import Hashes, near_duplicates
from openreward_gym.export.options import RewardKind, Select
from openreward_gym.export.reader import Annotations, Record, model_of, num_turns_of, number_of, rewards_of, tokens_of
from openreward_gym.types import Rollout

ReadAnnotations = Callable[[Record], Annotations]


class RecordFilter:
    """Applies the criteria that look at one rollout at a time.

    `statuses` are taken if `select` names no status; None takes all. `scrub` removes personal data from reasons.
    """

    def __init__(
        self,
        select: Select,
        statuses: Collection[str] | None,
        annotations_of: ReadAnnotations,
        scrub: Callable[[str], str] = str,
    ) -> None:
        self._select = select
        self._scrub = scrub
        self._annotations_of = annotations_of
        wanted = as_names(select.status) if select.status is not None else statuses
        self._statuses = None if wanted is None or "any" in wanted else wanted
        named = {kind: getattr(select, f"{kind}s") for kind in ("environment", "split", "model", "run", "task", "group")}
        self._names = {kind: as_names(names) for kind, names in named.items() if names is not None}
        criteria = (select.labels, select.without_labels, select.min_rating, select.max_rating)
        self._looks_at_annotations = not select.discarded or criteria != (None, None, None, None)

    def reason_against(self, record: Record) -> str | None:
        """Return the reason for which a rollout is left out; None if it is taken."""
        if self._statuses is not None and record["status"] not in self._statuses:
            return f"status {record['status']}"
        reason = (
            self._by_reward(record)
            or (self._by_name(record) if self._names else None)
            or (self._by_annotations(record) if self._looks_at_annotations else None)
            or self._by_size(record)
        )
        if reason is None and self._select.where is not None and not self._select.where(Rollout.from_dict(record)):
            return "refused by `where`"
        return reason

    def _by_reward(self, record: Record) -> str | None:
        least, most = self._select.min_reward, self._select.max_reward
        if least is None and most is None:
            return None
        reward = reward_of(record, self._select.reward, self._annotations_of)
        if reward is None or math.isnan(reward):
            return "no reward"
        if least is not None and reward < least:
            return f"reward below {least:g}"
        if most is not None and reward > most:
            return f"reward above {most:g}"
        return None

    def _by_name(self, record: Record) -> str | None:
        environment = record.get("environment") or {}
        values = {
            "environment": environment.get("name", ""),
            "split": environment.get("split"),
            "model": model_of(record),
            "run": record.get("run", ""),
            "task": (record.get("task") or {}).get("id", ""),
            "group": record.get("group"),
        }
        return next((f"other {kind}" for kind, names in self._names.items() if values[kind] not in names), None)

    def _by_annotations(self, record: Record) -> str | None:
        select, annotations = self._select, self._annotations_of(record)
        if not select.discarded and annotations.discard_reason is not None:
            return f"discarded: {self._scrub(annotations.discard_reason)}"
        labels = set(annotations.labels)
        if select.labels is not None and not labels & as_names(select.labels):
            return "label missing"
        if select.without_labels is not None and labels & as_names(select.without_labels):
            return "label unwanted"
        if select.min_rating is not None or select.max_rating is not None:
            if annotations.rating is None:
                return "no rating"
            if select.min_rating is not None and annotations.rating < select.min_rating:
                return f"rating below {select.min_rating}"
            if select.max_rating is not None and annotations.rating > select.max_rating:
                return f"rating above {select.max_rating}"
        return None

    def _by_size(self, record: Record) -> str | None:
        select = self._select
        if select.steps is not None:
            first, last = select.steps
            step = record.get("step")
            if step is None or (first is not None and step < first) or (last is not None and step > last):
                return "other training step"
        if select.min_turns is not None or select.max_turns is not None:
            turns = num_turns_of(record)
            if select.min_turns is not None and turns < select.min_turns:
                return f"fewer than {select.min_turns} turns"
            if select.max_turns is not None and turns > select.max_turns:
                return f"more than {select.max_turns} turns"
        if select.max_tokens is not None:
            tokens = tokens_of(record)
            if tokens is None:
                return "tokens not observed"
            if tokens > select.max_tokens:
                return f"more than {select.max_tokens} tokens"
        return None


@dataclass(slots=True)
class Facts:
    """The properties of a rollout by which rollouts are compared."""

    number: int
    group: Hashable
    task: Hashable
    environment: str
    reward: float | None
    turns: int
    completed: bool = True
    content: bytes = b""
    """What `Select.dedupe` compares: a digest of the conversation, or its MinHash signature."""
    trainable: bool = True
    """Whether it has a turn to train."""
    rejectable: bool = True
    """Whether it has a turn for the worse side."""

    @property
    def rank(self) -> tuple[float, bool, int, int]:
        """A key by which better rollouts sort first: by reward, then completed ones, then fewer turns, then their order."""
        reward = self.reward if self.reward is not None and not math.isnan(self.reward) else -math.inf
        return (-reward, not self.completed, self.turns, self.number)


def choose(select: Select, facts: Iterable[Facts], shingles: Callable[[int], Hashes]) -> Iterator[tuple[Facts, str | None]]:
    """Apply the criteria that compare rollouts: yield each rollout with the reason against it, or None, in their order.

    `shingles` returns the runs of words of a rollout, for near-duplicates.
    """
    rollouts = list(facts)
    reasons: dict[int, str] = {}
    rng = random.Random(select.seed)

    def remaining(key: str) -> list[list[Facts]]:
        return partition((fact for fact in rollouts if fact.number not in reasons), key)

    def keep(part: list[Facts], kept: Iterable[Facts], reason: str) -> None:
        numbers = {fact.number for fact in kept}
        reasons.update({fact.number: reason for fact in part if fact.number not in numbers})

    if select.dedupe == "near":
        best_first = [fact.number for fact in sorted(rollouts, key=attrgetter("rank"))]
        signatures = {fact.number: fact.content for fact in rollouts}
        for number in near_duplicates(signatures, best_first, shingles, select.similarity):
            reasons[number] = "duplicate (near)"
    elif select.dedupe is not None:
        for part in partition(rollouts, "content"):
            keep(part, [min(part, key=attrgetter("rank"))], f"duplicate ({select.dedupe})")
    if select.best_of is not None:
        for part in remaining("group"):
            keep(part, [min(part[: select.best_of], key=attrgetter("rank"))], f"not the best of {select.best_of}")
    if select.top_k is not None:
        for part in remaining("group"):
            keep(part, sorted(part, key=attrgetter("rank"))[: select.top_k], f"not in the top {select.top_k}")
    if select.one_per_group:
        for part in remaining("group"):
            keep(part, [rng.choice(part)], "another of its group was drawn")
    if select.balance is not None:
        parts = remaining(select.balance)
        smallest = min(map(len, parts), default=0)
        for part in parts:
            keep(part, rng.sample(part, smallest), f"balanced by {select.balance}")
    for fact in rollouts:
        yield fact, reasons.get(fact.number)


def partition(facts: Iterable[Facts], attribute: str) -> list[list[Facts]]:
    """Return rollouts by the value of an attribute, in the order of the first ones."""
    parts: dict[Hashable, list[Facts]] = defaultdict(list)
    for fact in facts:
        parts[getattr(fact, attribute)].append(fact)
    return list(parts.values())


def reward_of(record: Record, kind: RewardKind = "sum", annotations_of: ReadAnnotations | None = None) -> float | None:
    """Return the rollout's reward; None if the environment gave none."""
    if kind == "sum":
        return number_of(record.get("reward"))
    if kind == "last":
        return number_of(record.get("final_reward"))
    if kind == "score":
        return annotations_of(record).score if annotations_of is not None else None
    return max(rewards_of(record), default=None)


def as_names(names: str | Collection[str]) -> set[str]:
    """Return names as a set; a string is one name."""
    return {names} if isinstance(names, str) else set(names)
