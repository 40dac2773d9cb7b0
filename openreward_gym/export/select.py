"""Which rollouts are exported: a selection is a value, and what it leaves out is counted by reason."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

from openreward_gym.errors import ConfigurationError
from openreward_gym.export import exact
from openreward_gym.export.source import Notes, Record
from openreward_gym.types.rollout import Rollout

Names: TypeAlias = str | Collection[str] | None
Which: TypeAlias = Literal["sum", "last", "max", "score"]
"""Which of a rollout's rewards counts."""


@dataclass(frozen=True)
class Select:
    """Which rollouts are exported. Every criterion left at its default lets all through.

    The order: each rollout by itself (`status` to `where`), then `dedupe`, then within each group `best_of`, `top_k` and
    `one_per_group`, then `balance`, then `limit`. A rollout that cannot be trained on is gone before groups are looked at.

    Attributes:
        status: Status or statuses; None takes those a format is for: "completed" for what imitates, "truncated" too for
            what compares, all for `rollouts` and `prompts`. "any" takes all.
        min_reward: Inclusive, as is `max_reward`; a rollout without a reward meets neither.
        reward: Which reward counts: the "sum" of all, the "last", the "max", or the "score" that the environment gave it
            beside the others of its group. `preference` and `kto` compare by it too.
        environments, splits, models, runs, tasks, groups: Names; None for all. Tasks by id.
        labels: A rollout needs one of these: the record's own labels, and the tags that readers gave in the viewer.
            `without_labels`: it may have none of these.
        min_rating, max_rating: Of the readers, 1 to 5, inclusive; a rollout without a rating meets neither.
        discarded: False leaves out what a collection or a trainer discarded (in `groups/` or in the record).
        steps: First and last training step, inclusive; None leaves an end open.
        min_turns, max_turns: Of the assistant.
        max_tokens: Length of the conversation in tokens, as the provider counted at the last turn.
        where: A function of the `Rollout`.
        dedupe: "exact" keeps the first of equal conversations, "normalized" of those that differ only in case,
            punctuation and white space.
        best_of: Of each group's first n rollouts, the best one.
        top_k: Of each group, the k best.
        one_per_group: Of each group, one by chance.
        balance: Thin out by chance until each "task", "environment" or "reward" has as many rollouts as the rarest.
        limit: At most so many, the first ones.
        seed: For every choice by chance.
    """

    status: Names = None
    min_reward: float | None = None
    max_reward: float | None = None
    reward: Which = "sum"
    environments: Names = None
    splits: Names = None
    models: Names = None
    runs: Names = None
    tasks: Names = None
    groups: Names = None
    labels: Names = None
    without_labels: Names = None
    min_rating: int | None = None
    max_rating: int | None = None
    discarded: bool = True
    steps: tuple[int | None, int | None] | None = None
    min_turns: int | None = None
    max_turns: int | None = None
    max_tokens: int | None = None
    where: Callable[[Rollout], bool] | None = None
    dedupe: Literal["exact", "normalized"] | None = None
    best_of: int | None = None
    top_k: int | None = None
    one_per_group: bool = False
    balance: Literal["task", "environment", "reward"] | None = None
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("best_of", "top_k", "limit", "min_turns", "max_turns", "max_tokens", "min_rating", "max_rating"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigurationError(f"{name}={value!r}: it is a number of at least 1, or None")
        for name, allowed in (
            ("reward", get_args(Which)),
            ("dedupe", (None, "exact", "normalized")),
            ("balance", (None, "task", "environment", "reward")),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: it is one of {', '.join(map(repr, allowed))}")
        if self.min_reward is not None and self.max_reward is not None and self.min_reward > self.max_reward:
            raise ConfigurationError(f"min_reward={self.min_reward} is above max_reward={self.max_reward}: nothing could be left")

    @property
    def looks_at_others(self) -> bool:
        """Whether a rollout's fate depends on other rollouts, so that all must be read before the first is written."""
        return bool(self.best_of or self.top_k or self.one_per_group or self.balance)

    def refuses(self, record: Record, statuses: Collection[str] | None, notes_of: Callable[[Record], Notes]) -> str | None:
        """Why the rollout is left out, looking at nothing else; None if it stays.

        Args:
            record: The rollout.
            statuses: What `status=None` stands for; None for all.
            notes_of: Gives what was said about a rollout.
        """
        wanted = _names(self.status) if self.status is not None else statuses
        if wanted is not None and "any" not in wanted and record["status"] not in wanted:
            return f"status {record['status']}"
        if self.min_reward is not None or self.max_reward is not None:
            reward = reward_of(record, self.reward, notes_of)
            if reward is None or math.isnan(reward):
                return "no reward"
            if self.min_reward is not None and reward < self.min_reward:
                return f"reward below {self.min_reward:g}"
            if self.max_reward is not None and reward > self.max_reward:
                return f"reward above {self.max_reward:g}"
        return (
            self._refuses_by_name(record)
            or self._refuses_by_notes(record, notes_of)
            or self._refuses_by_size(record)
            or self._refuses_by_function(record)
        )

    @cached_property
    def _names_are_free(self) -> bool:
        return all(wanted is None for wanted in (self.environments, self.splits, self.models, self.runs, self.tasks, self.groups))

    def _refuses_by_name(self, record: Record) -> str | None:
        if self._names_are_free:
            return None
        environment = record.get("environment") or {}
        for what, wanted, value in (
            ("environment", self.environments, environment.get("name", "")),
            ("split", self.splits, environment.get("split")),
            ("model", self.models, model_of(record)),
            ("run", self.runs, record.get("run", "")),
            ("task", self.tasks, (record.get("task") or {}).get("id", "")),
            ("group", self.groups, record.get("group")),
        ):
            if wanted is not None and value not in _names(wanted):
                return f"other {what}"
        return None

    def _refuses_by_notes(self, record: Record, notes_of: Callable[[Record], Notes]) -> str | None:
        if self.discarded and all(
            wanted is None for wanted in (self.labels, self.without_labels, self.min_rating, self.max_rating)
        ):
            return None
        notes = notes_of(record)
        if not self.discarded and notes.discard_reason is not None:
            return f"discarded: {notes.discard_reason}"
        labels = set(notes.labels)
        if self.labels is not None and not labels & _names(self.labels):
            return "label missing"
        if self.without_labels is not None and labels & _names(self.without_labels):
            return "label unwanted"
        if self.min_rating is not None or self.max_rating is not None:
            if notes.rating is None:
                return "no rating"
            if self.min_rating is not None and notes.rating < self.min_rating:
                return f"rating below {self.min_rating}"
            if self.max_rating is not None and notes.rating > self.max_rating:
                return f"rating above {self.max_rating}"
        return None

    def _refuses_by_size(self, record: Record) -> str | None:
        if self.steps is not None:
            first, last = self.steps
            step = record.get("step")
            if step is None or (first is not None and step < first) or (last is not None and step > last):
                return "other training step"
        if self.min_turns is not None or self.max_turns is not None:
            turns = turns_of(record)
            if self.min_turns is not None and turns < self.min_turns:
                return f"fewer than {self.min_turns} turns"
            if self.max_turns is not None and turns > self.max_turns:
                return f"more than {self.max_turns} turns"
        if self.max_tokens is not None:
            tokens = tokens_of(record)
            if tokens is None:
                return "tokens not observed"
            if tokens > self.max_tokens:
                return f"more than {self.max_tokens} tokens"
        return None

    def _refuses_by_function(self, record: Record) -> str | None:
        if self.where is not None and not self.where(Rollout.from_dict(record)):
            return "refused by `where`"
        return None


@dataclass(slots=True)
class Facts:
    """What choosing between rollouts looks at."""

    number: int
    group: Hashable
    task: Hashable
    environment: str
    reward: float | None
    turns: int

    @property
    def rank(self) -> tuple[float, int, int]:
        """Smaller is better: by reward, then fewer turns, then the one that was first."""
        reward = self.reward if self.reward is not None and not math.isnan(self.reward) else -math.inf
        return (-reward, self.turns, self.number)


def facts_of(number: int, record: Record, reward: float | None) -> Facts:
    environment = (record.get("environment") or {}).get("name", "")
    return Facts(number, group_of(record), task_of(record), environment, reward, turns_of(record))


def choose(select: Select, facts: Iterable[Facts]) -> Iterator[tuple[Facts, str | None]]:
    """(rollout, why it is left out, or None), for the criteria that look at others; in the order of `facts`."""
    found = list(facts)
    reasons: dict[int, str] = {}
    chance = random.Random(select.seed)

    def stays(key: Callable[[Facts], Hashable]) -> Iterator[list[Facts]]:
        parts: dict[Hashable, list[Facts]] = defaultdict(list)
        for fact in found:
            if fact.number not in reasons:
                parts[key(fact)].append(fact)
        yield from parts.values()

    def keep(part: list[Facts], kept: Iterable[Facts], reason: str) -> None:
        numbers = {fact.number for fact in kept}
        reasons.update({fact.number: reason for fact in part if fact.number not in numbers})

    if select.best_of is not None:
        for part in stays(lambda fact: fact.group):
            keep(part, [min(part[: select.best_of], key=lambda fact: fact.rank)], f"not the best of {select.best_of}")
    if select.top_k is not None:
        for part in stays(lambda fact: fact.group):
            keep(part, sorted(part, key=lambda fact: fact.rank)[: select.top_k], f"not in the top {select.top_k}")
    if select.one_per_group:
        for part in stays(lambda fact: fact.group):
            keep(part, [chance.choice(part)], "another of its group was drawn")
    if select.balance is not None:
        parts = list(stays(_balance_key(select.balance)))
        least = min(map(len, parts), default=0)
        for part in parts:
            keep(part, chance.sample(part, least), f"balanced by {select.balance}")
    for fact in found:
        yield fact, reasons.get(fact.number)


def _balance_key(balance: str) -> Callable[[Facts], Hashable]:
    return {"task": lambda fact: fact.task, "environment": lambda fact: fact.environment, "reward": lambda fact: fact.reward}[
        balance
    ]


class Deduplication:
    """Remembers conversations by their digest, 16 bytes each."""

    def __init__(self, how: Literal["exact", "normalized"]) -> None:
        self._how = how
        self._seen: set[bytes] = set()

    def seen(self, messages: list[dict[str, Any]]) -> bool:
        """Whether an equal conversation was seen before; remembers this one."""
        text = exact.encode([_without_ids(message) for message in messages])
        if self._how == "normalized":
            text = re.sub(r"\\[nrt]|[\W_]+", " ", text).casefold()
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if digest in self._seen:
            return True
        self._seen.add(digest)
        return False


def _without_ids(message: dict[str, Any]) -> list[Any]:
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return [message["role"], message["content"], message.get("reasoning_content"), calls, message.get("name")]


def reward_of(record: Record, how: Which = "sum", notes_of: Callable[[Record], Notes] | None = None) -> float | None:
    """The rollout's reward; None where none was given."""
    if how == "sum":
        value = record.get("reward")
    elif how == "last":
        value = record.get("final_reward")
    elif how == "score":
        value = notes_of(record).score if notes_of is not None else None
    else:
        value = max(rewards_of(record), default=None)
    return None if value is None else float(value)


def rewards_of(record: Record) -> list[float]:
    """The rewards that were given, in order."""
    return [float(message["reward"]) for message in record.get("messages") or () if message.get("reward") is not None]


def turns_of(record: Record) -> int:
    return sum(1 for message in record.get("messages") or () if message["role"] == "assistant")


def tokens_of(record: Record) -> int | None:
    """Tokens of the whole conversation, as the provider counted at the last turn; None where it was not observed."""
    for message in reversed(record.get("messages") or ()):
        if message["role"] == "assistant":
            usage = message.get("usage") or {}
            read, said = usage.get("input_tokens"), usage.get("output_tokens")
            return None if read is None or said is None else int(read) + int(said)
    return None


def model_of(record: Record) -> str | None:
    model = record.get("model") or {}
    name = model.get("name") or model.get("model") or model.get("checkpoint")
    return None if name is None else str(name)


def task_of(record: Record) -> Hashable:
    """What is equal for equal tasks."""
    task, environment = record.get("task") or {}, record.get("environment") or {}
    if task.get("id"):
        return str(task["id"])
    if task.get("index") is not None:
        return (environment.get("name"), environment.get("variant"), environment.get("split"), task["index"])
    return ("rollout", record["id"])


def group_of(record: Record) -> Hashable:
    """What is equal for rollouts that are compared: their `group`, or else their task."""
    return ("group", record["group"]) if record.get("group") else task_of(record)


def _names(names: str | Collection[str]) -> set[str]:
    return {names} if isinstance(names, str) else set(names)
