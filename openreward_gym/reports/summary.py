"""What a run's rollouts come to: rewards with their interval, turns, tokens, durations, endings, task by task."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from openreward_gym.reports.statistics import mean, passes
from openreward_gym.types.rollout import MessageRecord, Rollout

BOOTSTRAP_SAMPLES = 2000


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """One task's rollouts. Means are None where nothing was observed.

    Attributes:
        task: The task's id. index: its position in the split, None for a task given by its spec.
        rollouts: How many there are. rewarded: how many of them have a reward.
        mean_reward, mean_turns, mean_duration_s: Over those that have one.
    """

    task: str
    environment: str
    split: str | None
    index: int | None
    rollouts: int
    rewarded: int
    mean_reward: float | None
    mean_turns: float
    mean_duration_s: float | None


@dataclass(frozen=True, slots=True)
class ToolSummary:
    """One tool's calls. `mean_duration_s` is over those whose times are known; None where none is."""

    name: str
    calls: int
    errors: int
    mean_duration_s: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """All of it. Means are None where nothing was observed; unknown is not zero.

    Attributes:
        rollouts: How many. rewarded: how many have a reward.
        mean_reward: Over those; `reward_interval` is its 95 % interval: Wilson's where every reward is 0 or 1,
            otherwise a bootstrap over tasks. None for fewer than two.
        mean_turns: Assistant messages a rollout. mean_duration_s: seconds from start to end.
        input_tokens, output_tokens: Totals; None where no message told.
        cost_usd: Total; None where no message told.
        statuses, stop_reasons: How often each.
        pass_at_k, pass_hat_k: By k, over tasks; a rollout passes with a reward of 1 or more, and one without a reward does
            not count. Empty where a task has none.
        tools: Tool by tool, the most called first.
        tasks: Task by task, by environment, split and index.
    """

    rollouts: int = 0
    rewarded: int = 0
    mean_reward: float | None = None
    reward_interval: tuple[float, float] | None = None
    mean_turns: float | None = None
    mean_duration_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    statuses: dict[str, int] = field(default_factory=dict)
    stop_reasons: dict[str, int] = field(default_factory=dict)
    pass_at_k: dict[int, float] = field(default_factory=dict)
    pass_hat_k: dict[int, float] = field(default_factory=dict)
    tools: tuple[ToolSummary, ...] = ()
    tasks: tuple[TaskSummary, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self, *, most: int = 20) -> str:
        """A table for people: the first `most` tasks, then the totals."""
        rows = [("task", "rollouts", "reward", "turns", "seconds")]
        for task in self.tasks[:most]:
            name = f"{task.environment} {task.split or ''} {task.index if task.index is not None else task.task}"
            rows.append(
                (name, str(task.rollouts), _number(task.mean_reward), f"{task.mean_turns:.1f}", _number(task.mean_duration_s))
            )
        if len(self.tasks) > most:
            rows.append((f"... {len(self.tasks) - most} more tasks", "", "", "", ""))
        rows.append(
            ("all", str(self.rollouts), _number(self.mean_reward), _number(self.mean_turns, 1), _number(self.mean_duration_s))
        )
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]) for row in rows
        ]
        lines.insert(1, "-" * len(lines[0]))
        lines.insert(-1, "-" * len(lines[0]))
        lines.append("")
        if self.reward_interval is not None:
            low, high = self.reward_interval
            lines.append(f"mean reward {_number(self.mean_reward)}, 95 % interval {low:.3f} to {high:.3f}")
        for name, by_k in (("pass@k", self.pass_at_k), ("pass^k", self.pass_hat_k)):
            if len(by_k) > 1:
                lines.append(f"{name}: " + ", ".join(f"{k}: {value:.3f}" for k, value in by_k.items()))
        for tool in self.tools[:most]:
            errors = f", {tool.errors} wrong" if tool.errors else ""
            lines.append(f"tool {tool.name}: {tool.calls} calls{errors}, {_number(tool.mean_duration_s)} s each")
        if self.rewarded < self.rollouts:
            lines.append(f"{self.rollouts - self.rewarded} rollouts have no reward")
        lines.append("ended: " + (", ".join(f"{name} {count}" for name, count in self.stop_reasons.items()) or "-"))
        if self.output_tokens is not None:
            lines.append(f"tokens: {self.input_tokens or 0:,} in, {self.output_tokens:,} out")
        if self.cost_usd is not None:
            lines.append(f"cost: ${self.cost_usd:.4f}")
        return "\n".join(lines)


@dataclass(slots=True)
class _Group:
    environment: str
    split: str | None
    index: int | None
    rewards: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)


@dataclass(slots=True)
class _Tool:
    calls: int = 0
    errors: int = 0
    seconds: float = 0.0
    timed: int = 0

    def add(self, message: MessageRecord) -> None:
        self.calls += 1
        self.errors += message.is_error
        if message.started_at is not None and message.ended_at is not None:
            ended, begun = (datetime.fromisoformat(moment) for moment in (message.ended_at, message.started_at))
            self.seconds += (ended - begun).total_seconds()
            self.timed += 1

    def summary(self, name: str) -> ToolSummary:
        return ToolSummary(name, self.calls, self.errors, self.seconds / self.timed if self.timed else None)


def summarize(rollouts: Iterable[Rollout]) -> Summary:
    """Read the rollouts once and sum them up; a reward that is not a number counts as none."""
    groups: dict[str, _Group] = {}
    statuses: Counter[str] = Counter()
    endings: Counter[str] = Counter()
    tokens: dict[str, int] = {}
    costs: list[float] = []
    tools: dict[str, _Tool] = {}
    for rollout in rollouts:
        for message in rollout.messages:
            if message.role == "tool" and message.name:
                tools.setdefault(message.name, _Tool()).add(message)
        key = rollout.task.id or f"{rollout.environment.name}/{rollout.environment.split}/{rollout.task.index}"
        group = groups.get(key)
        if group is None:
            # Names and numbers alone: a run may have a hundred thousand tasks.
            group = groups[key] = _Group(rollout.environment.name, rollout.environment.split, rollout.task.index)
        group.turns.append(rollout.num_turns)
        if rollout.reward is not None and math.isfinite(rollout.reward):
            group.rewards.append(rollout.reward)
        if (duration := rollout.duration_s) is not None:
            group.durations.append(duration)
        statuses[rollout.status] += 1
        endings[rollout.stop_reason or rollout.status] += 1
        for name in ("input_tokens", "output_tokens"):
            count = getattr(rollout.usage, name, None)
            if count is not None:
                tokens[name] = tokens.get(name, 0) + count
        if rollout.cost_usd is not None:
            costs.append(rollout.cost_usd)
    found = list(groups.values())
    rewards = [reward for group in found for reward in group.rewards]
    turns = [count for group in found for count in group.turns]
    pass_at_k, pass_hat_k = passes([(len(group.rewards), sum(reward >= 1.0 for reward in group.rewards)) for group in found])
    return Summary(
        rollouts=len(turns),
        rewarded=len(rewards),
        mean_reward=_mean(rewards),
        reward_interval=reward_interval([group.rewards for group in found]),
        mean_turns=_mean(turns),
        mean_duration_s=_mean([seconds for group in found for seconds in group.durations]),
        input_tokens=tokens.get("input_tokens"),
        output_tokens=tokens.get("output_tokens"),
        cost_usd=sum(costs) if costs else None,
        statuses=dict(statuses.most_common()),
        stop_reasons=dict(endings.most_common()),
        pass_at_k=pass_at_k,
        pass_hat_k=pass_hat_k,
        tools=tuple(sorted((tool.summary(name) for name, tool in tools.items()), key=lambda tool: (-tool.calls, tool.name))),
        tasks=tuple(sorted((_task(key, group) for key, group in groups.items()), key=_place)),
    )


def _task(key: str, group: _Group) -> TaskSummary:
    return TaskSummary(
        task=key,
        environment=group.environment,
        split=group.split,
        index=group.index,
        rollouts=len(group.turns),
        rewarded=len(group.rewards),
        mean_reward=_mean(group.rewards),
        mean_turns=mean(group.turns),
        mean_duration_s=_mean(group.durations),
    )


def _place(task: TaskSummary) -> tuple[str, str, float, str]:
    return task.environment, task.split or "", math.inf if task.index is None else task.index, task.task


def reward_interval(by_task: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """The 95 % interval of the mean reward; None for fewer than two rewards.

    Where every reward is 0 or 1, Wilson's score interval (Wilson 1927); otherwise the 2.5 % and 97.5 % quantiles of a
    bootstrap over tasks, seeded, so that the same rewards give the same interval.
    """
    rewards = [reward for task in by_task for reward in task]
    if len(rewards) < 2:
        return None
    if set(rewards) <= {0.0, 1.0}:
        return wilson_interval(sum(rewards), len(rewards))
    tasks = [task for task in by_task if task]
    draw = random.Random(0)
    means = sorted(
        mean(reward for task in draw.choices(tasks, k=len(tasks)) for reward in task) for _ in range(BOOTSTRAP_SAMPLES)
    )
    return means[int(0.025 * BOOTSTRAP_SAMPLES)], means[int(0.975 * BOOTSTRAP_SAMPLES) - 1]


def wilson_interval(successes: float, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion; `z` is the normal quantile (1.96 for 95 %)."""
    share = successes / trials
    centre = share + z * z / (2 * trials)
    margin = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)


def _mean(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
