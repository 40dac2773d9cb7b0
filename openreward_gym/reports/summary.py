"""Summaries of rollouts: rewards with their interval, turns, tokens, durations and endings, in total and per task."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from openreward_gym.reports.statistics import mean, passes, reward_interval, task_key
from openreward_gym.types import Message, Rollout
from openreward_gym.types.rollout import moment_of

TASK_COLUMNS: tuple[str, ...] = ("task", "rollouts", "reward", "turns", "seconds")


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """The rollouts of one task. A mean is None if no rollout has the value.

    Attributes:
        task: The task's id.
        environment: The environment's name.
        split: The split; None for a task given by its spec.
        index: The position in the split; None for a task given by its spec.
        rollouts: The number of rollouts.
        rewarded: The number of rollouts with a reward.
        mean_reward: The mean over the rollouts with a reward.
        mean_turns: Assistant messages per rollout.
        mean_duration_s: Seconds per rollout, over those whose times are known.

    Example:
        >>> from openreward_gym import Rollout
        >>> summarize([Rollout(status="completed", reward=0.5)]).tasks[0].mean_reward
        0.5
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

    def cells(self) -> tuple[str, ...]:
        """Return the figures as a row of a table with `TASK_COLUMNS`."""
        name = f"{self.environment} {self.split or ''} {self.index if self.index is not None else self.task}"
        return _cells(name, self)


@dataclass(frozen=True, slots=True)
class ToolSummary:
    """The calls of one tool.

    Attributes:
        name: The tool's name.
        calls: The number of the policy's calls with a result.
        errors: The number of results that are errors.
        mean_duration_s: Seconds per call, over the calls whose times are known; None without one.

    Example:
        >>> ToolSummary("bash", calls=4, errors=1, mean_duration_s=2.0).errors
        1
    """

    name: str
    calls: int
    errors: int
    mean_duration_s: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a set of rollouts. A figure is None if no rollout has the value: unknown is not zero.

    Attributes:
        rollouts: The number of rollouts.
        rewarded: The number of rollouts with a reward.
        mean_reward: The mean over the rollouts with a reward.
        reward_interval: The 95 % interval of `mean_reward`, see `openreward_gym.reports.reward_interval`.
        mean_turns: Assistant messages per rollout.
        mean_duration_s: Seconds from start to end per rollout.
        input_tokens: The total number of input tokens.
        output_tokens: The total number of output tokens.
        cost_usd: The total cost in US dollars.
        statuses: The number of rollouts by status.
        stop_reasons: The number of rollouts by stop reason.
        pass_at_k: pass@k by k, over tasks. A rollout passes with a reward of at least 1; rollouts without a reward do not
            count. Empty if a task has no reward.
        pass_hat_k: pass^k by k, counted in the same way.
        tools: The tools' figures, the most called first.
        tasks: The tasks' figures, by environment, split and index.

    Example:
        >>> print(Summary(rollouts=2, stop_reasons={"finished": 2}).to_text())
        task  rollouts  reward  turns  seconds
        --------------------------------------
        --------------------------------------
        all          2       -      -        -
        <BLANKLINE>
        2 rollouts have no reward
        ended: finished 2
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
        """Return the figures as plain dictionaries, lists and numbers."""
        return asdict(self)

    def to_text(self, *, most: int = 20) -> str:
        """Return a table for people: the first `most` tasks, then the totals."""
        rows = [TASK_COLUMNS, *(task.cells() for task in self.tasks[:most])]
        if len(self.tasks) > most:
            rows.append((f"... {len(self.tasks) - most} more tasks", "", "", "", ""))
        rows.append(_cells("all", self))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        lines.insert(1, "-" * len(lines[0]))
        lines.insert(-1, "-" * len(lines[0]))
        lines.append("")
        if self.reward_interval is not None:
            interval = interval_text(self.reward_interval)
            lines.append(f"mean reward {number_text(self.mean_reward)}, 95 % interval {interval}")
        for name, by_k in (("pass@k", self.pass_at_k), ("pass^k", self.pass_hat_k)):
            if len(by_k) > 1:
                lines.append(f"{name}: " + ", ".join(f"{k}: {value:.3f}" for k, value in by_k.items()))
        for tool in self.tools[:most]:
            errors = f", {tool.errors} errors" if tool.errors else ""
            lines.append(f"tool {tool.name}: {tool.calls} calls{errors}, {number_text(tool.mean_duration_s)} s each")
        if self.rewarded < self.rollouts:
            lines.append(f"{self.rollouts - self.rewarded} rollouts have no reward")
        lines.append("ended: " + (", ".join(f"{name} {count}" for name, count in self.stop_reasons.items()) or "-"))
        if self.output_tokens is not None:
            lines.append(f"tokens: {self.input_tokens or 0:,} in, {self.output_tokens:,} out")
        if self.cost_usd is not None:
            lines.append(f"cost: ${self.cost_usd:.4f}")
        return "\n".join(lines)


@dataclass(slots=True)
class _TaskRollouts:
    """Numbers of a task's rollouts; the rollouts are not kept, because a run may have a hundred thousand tasks."""

    environment: str
    split: str | None
    index: int | None
    rewards: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)

    def add(self, rollout: Rollout) -> None:
        self.turns.append(rollout.num_turns)
        if rollout.reward is not None and math.isfinite(rollout.reward):
            self.rewards.append(rollout.reward)
        if (duration := rollout.duration_s) is not None:
            self.durations.append(duration)

    def summary(self, task: str) -> TaskSummary:
        means = _mean(self.rewards), mean(self.turns), _mean(self.durations)
        return TaskSummary(task, self.environment, self.split, self.index, len(self.turns), len(self.rewards), *means)


@dataclass(slots=True)
class _ToolCalls:
    calls: int = 0
    errors: int = 0
    seconds: float = 0.0
    timed: int = 0

    def add(self, message: Message) -> None:
        self.calls += 1
        self.errors += message.is_error
        started, ended = moment_of(message.started_at), moment_of(message.ended_at)
        if started is not None and ended is not None:
            self.seconds += (ended - started).total_seconds()
            self.timed += 1

    def summary(self, name: str) -> ToolSummary:
        return ToolSummary(name, self.calls, self.errors, self.seconds / self.timed if self.timed else None)


def summarize(rollouts: Iterable[Rollout]) -> Summary:
    """Summarize rollouts. They are read once; a reward that is NaN or infinite counts as missing.

    Example:
        >>> from openreward_gym import Rollout
        >>> summary = summarize([Rollout(status="completed", reward=1.0), Rollout(status="completed")])
        >>> summary.rollouts, summary.rewarded, summary.mean_reward
        (2, 1, 1.0)
    """
    groups: dict[str, _TaskRollouts] = {}
    statuses: Counter[str] = Counter()
    endings: Counter[str] = Counter()
    tokens: dict[str, int] = {}
    costs: list[float] = []
    tools: dict[str, _ToolCalls] = {}
    for rollout in rollouts:
        for name, message in _results(rollout):
            tools.setdefault(name, _ToolCalls()).add(message)
        key = task_key(rollout)
        if key not in groups:
            groups[key] = _TaskRollouts(rollout.environment.name, rollout.environment.split, rollout.task.index)
        groups[key].add(rollout)
        statuses[rollout.status] += 1
        endings[rollout.stop_reason or rollout.status] += 1
        for name in ("input_tokens", "output_tokens"):
            count = getattr(rollout.usage, name, None)
            if count is not None:
                tokens[name] = tokens.get(name, 0) + count
        if rollout.cost_usd is not None:
            costs.append(rollout.cost_usd)
    by_task = list(groups.values())
    rewards = [reward for group in by_task for reward in group.rewards]
    turns = [count for group in by_task for count in group.turns]
    pass_at_k, pass_hat_k = passes([(len(group.rewards), sum(reward >= 1.0 for reward in group.rewards)) for group in by_task])
    return Summary(
        rollouts=len(turns),
        rewarded=len(rewards),
        mean_reward=_mean(rewards),
        reward_interval=reward_interval([group.rewards for group in by_task]),
        mean_turns=_mean(turns),
        mean_duration_s=_mean([seconds for group in by_task for seconds in group.durations]),
        input_tokens=tokens.get("input_tokens"),
        output_tokens=tokens.get("output_tokens"),
        cost_usd=sum(costs) if costs else None,
        statuses=dict(statuses.most_common()),
        stop_reasons=dict(endings.most_common()),
        pass_at_k=pass_at_k,
        pass_hat_k=pass_hat_k,
        tools=tuple(sorted((tool.summary(name) for name, tool in tools.items()), key=lambda tool: (-tool.calls, tool.name))),
        tasks=tuple(sorted((group.summary(key) for key, group in groups.items()), key=_sort_key)),
    )


def _results(rollout: Rollout) -> Iterator[tuple[str, Message]]:
    """Yield the results of the policy's calls, each with the tool's name: its own, or that of its call."""
    names: dict[str, str] = {}
    for message in rollout.messages:
        if message.role == "assistant":
            names |= {call.call_id: call.name for call in message.tool_calls if call.call_id}
        elif message.role == "tool" and message.origin != "given":
            name = message.name or names.get(message.call_id or "")
            if name:
                yield name, message


def _sort_key(task: TaskSummary) -> tuple[str, str, float, str]:
    return task.environment, task.split or "", math.inf if task.index is None else task.index, task.task


def _mean(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


def _cells(name: str, figures: TaskSummary | Summary) -> tuple[str, ...]:
    means = number_text(figures.mean_reward), number_text(figures.mean_turns, 1), number_text(figures.mean_duration_s)
    return name, str(figures.rollouts), *means


def interval_text(interval: tuple[float, float] | None) -> str:
    """Return the bounds of an interval; None is a dash."""
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def number_text(value: float | None, digits: int = 3) -> str:
    """Return `value` with a fixed number of digits; None is a dash."""
    return "-" if value is None else f"{value:.{digits}f}"
