"""Summaries of rollouts: rewards with their interval, turns, tokens, durations and endings, in total and per task."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from openreward_gym.reports.statistics import (
    macro_mean,
    mean,
    mean_bounds,
    passes,
    reward_bounds,
    reward_interval,
    task_key,
)
from openreward_gym.reports.texts import bounds_text, count_text, counts_text, mean_text, number_text, pass_text
from openreward_gym.types import Json, Message, Rollout
from openreward_gym.types.rollout import moment_of

FEW_TASKS = 5
"""The largest number of tasks that a short text lists."""
_WORDS_OF_ERROR = 200

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
        first_error: The first words of the first result that is an error; empty without one.

    Example:
        >>> ToolSummary("bash", calls=4, errors=1, mean_duration_s=2.0).to_text()
        'tool bash: 4 calls, 1 error, 2.000 s each'
    """

    name: str
    calls: int
    errors: int
    mean_duration_s: float | None
    first_error: str = ""

    def to_text(self) -> str:
        """Return the figures as a line for people."""
        errors = f", {count_text(self.errors, 'error')}" if self.errors else ""
        refused = f"; {refused_text(self.calls, self.first_error)}" if self.errors == self.calls else ""
        return f"tool {self.name}: {count_text(self.calls, 'call')}{errors}, {number_text(self.mean_duration_s)} s each{refused}"


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a set of rollouts. A figure is None if no rollout has the value: unknown is not zero.

    Attributes:
        rollouts: The number of rollouts.
        rewarded: The number of rollouts with a reward.
        rewarded_tasks: The number of tasks with a reward.
        mean_reward: The mean of the tasks' mean rewards: each task counts once, however many rollouts it has.
        reward_interval: The 95 % interval of `mean_reward`, see `openreward_gym.reports.reward_interval`; None for fewer
            than five tasks.
        unrewarded: The number of rollouts without a reward by stop reason. A reward that is NaN or infinite counts as missing.
        not_finite: How many of these have a reward that is NaN or infinite.
        unplayed: The number of failed and missing units of a collection, which have no rollout.
        mean_bounds: (lowest, highest) `mean_reward` if every rollout and unit without a reward had the smallest or the
            largest reward possible; None if all have one, or none has.
        possible_rewards: These two rewards: 0 and 1 if all rewards are between them, else the observed range.
        mean_turns: Assistant messages per rollout.
        mean_duration_s: Seconds from start to end per rollout.
        input_tokens: The total number of input tokens.
        output_tokens: The total number of output tokens.
        cost_usd: The total cost in US dollars.
        mean_drift: Prompt ids per rollout that rendering the whole conversation again would have changed, over the rollouts that
            were sampled as token ids (`openreward_gym.integrations.TokenEpisode`).
        statuses: The number of rollouts by status.
        stop_reasons: The number of rollouts by stop reason.
        pass_at_k: pass@k by k, over the tasks with at least k rewards. A rollout passes with a reward of at least 1;
            rollouts without a reward do not count.
        pass_hat_k: pass^k by k, counted in the same way.
        pass_at_k_intervals: The 95 % intervals of `pass_at_k`; None for fewer than five tasks.
        pass_hat_k_intervals: The same of `pass_hat_k`.
        pass_tasks: The number of tasks that count, by k.
        redacted: The number of texts that were cut out of the records before they were written, by name.
        tools: The tools' figures, the most called first.
        tasks: The tasks' figures, by environment, split and index.

    Example:
        >>> print(Summary(rollouts=2, stop_reasons={"finished": 2}, unrewarded={"finished": 2}).to_text(brief=True))
        2 rollouts have no reward (finished 2)
        ended: finished 2
    """

    rollouts: int = 0
    rewarded: int = 0
    rewarded_tasks: int = 0
    mean_reward: float | None = None
    reward_interval: tuple[float, float] | None = None
    unrewarded: dict[str, int] = field(default_factory=dict)
    not_finite: int = 0
    unplayed: int = 0
    mean_bounds: tuple[float, float] | None = None
    possible_rewards: tuple[float, float] | None = None
    mean_turns: float | None = None
    mean_duration_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    mean_drift: float | None = None
    statuses: dict[str, int] = field(default_factory=dict)
    stop_reasons: dict[str, int] = field(default_factory=dict)
    pass_at_k: dict[int, float] = field(default_factory=dict)
    pass_hat_k: dict[int, float] = field(default_factory=dict)
    pass_at_k_intervals: dict[int, tuple[float, float] | None] = field(default_factory=dict)
    pass_hat_k_intervals: dict[int, tuple[float, float] | None] = field(default_factory=dict)
    pass_tasks: dict[int, int] = field(default_factory=dict)
    redacted: dict[str, int] = field(default_factory=dict)
    tools: tuple[ToolSummary, ...] = ()
    tasks: tuple[TaskSummary, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain dictionaries, lists and numbers."""
        return asdict(self)

    def to_text(self, *, most: int = 20, brief: bool = False) -> str:
        """Return the figures for people.

        Args:
            most: How many tasks and tools are listed.
            brief: Leave out the table of tasks if there are more than five.
        """
        lines = [] if brief and not 0 < len(self.tasks) <= FEW_TASKS else [*self._table(most), ""]
        if self.mean_reward is not None:
            lines.append(f"mean reward {self.mean_line}")
        lines += self.missing_lines
        if self.bounds_line:
            lines.append(f"with them the mean reward is {self.bounds_line}")
        for name, rates, intervals in (
            ("pass@k", self.pass_at_k, self.pass_at_k_intervals),
            ("pass^k", self.pass_hat_k, self.pass_hat_k_intervals),
        ):
            if len(rates) > 1:
                lines.append(f"{name}: {pass_text(rates, intervals, self.pass_tasks)}")
        if len(self.tools) > 1 and self.refused_line:
            lines.append(self.refused_line)
        lines += [tool.to_text() for tool in self.tools[:most]]
        lines.append(f"ended: {counts_text(self.stop_reasons) or '-'}")
        if self.redacted:
            lines.append(f"cut out of the records: {counts_text(self.redacted)}")
        if self.output_tokens is not None:
            lines.append(f"tokens: {self.input_tokens or 0:,} in, {self.output_tokens:,} out")
        if self.mean_drift is not None:
            lines.append(f"drift: {number_text(self.mean_drift, 1)} prompt tokens per rollout would change if rendered again")
        if self.cost_usd is not None:
            lines.append(f"cost: ${self.cost_usd:.4f}")
        return "\n".join(lines)

    def _table(self, most: int) -> list[str]:
        rows = [TASK_COLUMNS, *(task.cells() for task in self.tasks[:most])]
        if len(self.tasks) > most:
            rows.append((f"... {count_text(len(self.tasks) - most, 'more task')}", "", "", "", ""))
        rows.append(_cells("all", self))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        lines.insert(1, "-" * len(lines[0]))
        lines.insert(-1, "-" * len(lines[0]))
        return lines

    @property
    def mean_line(self) -> str:
        """The mean reward with its interval, or the reason why there is none."""
        return mean_text(self.mean_reward, self.reward_interval, self.rewarded_tasks)

    @property
    def missing_lines(self) -> list[str]:
        """Rollouts and units without a reward; empty if all have one."""
        lines = []
        if count := self.rollouts - self.rewarded:
            reasons = f" ({counts_text(self.unrewarded)})" if self.unrewarded else ""
            lines.append(f"{count_text(count, 'rollout')} {'has' if count == 1 else 'have'} no reward{reasons}")
        if count := self.not_finite:
            lines.append(f"{count_text(count, 'reward')} {'is' if count == 1 else 'are'} NaN or infinite and counted as missing")
        if count := self.unplayed:
            lines.append(f"{count_text(count, 'unit')} {'has' if count == 1 else 'have'} no rollout (failed or missing)")
        return lines

    @property
    def bounds_line(self) -> str:
        """What rollouts and units without a reward could do to the mean; empty if all have one."""
        return bounds_text(self.mean_bounds, self.possible_rewards)

    @property
    def refused_line(self) -> str:
        """That every call of the policy was refused, with the words of the first error; empty if one was not."""
        calls = sum(tool.calls for tool in self.tools)
        if not calls or any(tool.errors < tool.calls for tool in self.tools):
            return ""
        return refused_text(calls, self.tools[0].first_error)


def refused_text(calls: int, first_error: str) -> str:
    """Return that all calls were refused, and why the first was."""
    head = "the only call was refused" if calls == 1 else f"all {calls:,} calls were refused"
    return f"{head}: {first_error or 'the error has no words'}"


@dataclass(slots=True)
class _TaskRollouts:
    """Numbers of a task's rollouts; the rollouts are not kept, because a run may have a hundred thousand tasks."""

    environment: str
    split: str | None
    index: int | None
    rewards: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    missing: int = 0

    def add(self, rollout: Rollout) -> None:
        self.turns.append(rollout.num_turns)
        if rollout.reward is not None and math.isfinite(rollout.reward):
            self.rewards.append(rollout.reward)
        else:
            self.missing += 1
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
    first_error: str = ""

    def add(self, message: Message) -> None:
        self.calls += 1
        if message.is_error:
            if not self.errors:
                self.first_error = _first_words(message.text)
            self.errors += 1
        started, ended = moment_of(message.started_at), moment_of(message.ended_at)
        if started is not None and ended is not None:
            self.seconds += (ended - started).total_seconds()
            self.timed += 1

    def summary(self, name: str) -> ToolSummary:
        return ToolSummary(name, self.calls, self.errors, self.seconds / self.timed if self.timed else None, self.first_error)


@dataclass(slots=True)
class _Totals:
    """Counts and sums over all rollouts."""

    statuses: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    unrewarded: Counter[str] = field(default_factory=Counter)
    not_finite: int = 0
    redacted: Counter[str] = field(default_factory=Counter)
    tokens: dict[str, int] = field(default_factory=dict)
    costs: list[float] = field(default_factory=list)
    drifts: list[int] = field(default_factory=list)

    def add(self, rollout: Rollout) -> None:
        self.statuses[rollout.status] += 1
        self.redacted.update(rollout.redacted or {})
        ending = rollout.stop_reason or rollout.status
        self.endings[ending] += 1
        if rollout.reward is None or not math.isfinite(rollout.reward):
            self.unrewarded[ending] += 1
            self.not_finite += rollout.reward is not None
        for name in ("input_tokens", "output_tokens"):
            count = getattr(rollout.usage, name, None)
            if count is not None:
                self.tokens[name] = self.tokens.get(name, 0) + count
        if rollout.cost_usd is not None:
            self.costs.append(rollout.cost_usd)
        if (drift := drift_of(rollout)) is not None:
            self.drifts.append(drift)


def summarize(rollouts: Iterable[Rollout], *, unplayed: int = 0) -> Summary:
    """Summarize rollouts. They are read once; a reward that is NaN or infinite counts as missing.

    Args:
        rollouts: The rollouts.
        unplayed: The number of units of a collection that failed or were not played. They widen `mean_bounds`, under the
            assumption that every task has the same number of units, as in a collection. Where that cannot be, as with several
            collections of other tasks and repeats, `mean_bounds` is None.

    Example:
        >>> from openreward_gym import Rollout
        >>> summary = summarize([Rollout(status="completed", reward=1.0), Rollout(status="completed")])
        >>> summary.rollouts, summary.rewarded, summary.mean_reward
        (2, 1, 1.0)
    """
    groups: dict[str, _TaskRollouts] = {}
    totals = _Totals()
    tools: dict[str, _ToolCalls] = {}
    for rollout in rollouts:
        for name, message in _results(rollout):
            tools.setdefault(name, _ToolCalls()).add(message)
        key = task_key(rollout)
        if key not in groups:
            groups[key] = _TaskRollouts(rollout.environment.name, rollout.environment.split, rollout.task.index)
        groups[key].add(rollout)
        totals.add(rollout)
    by_task = list(groups.values())
    rewards = [group.rewards for group in by_task]
    turns = [count for group in by_task for count in group.turns]
    possible = reward_bounds(rewards)
    pass_at_k, pass_hat_k = passes([(len(of_task), sum(reward >= 1.0 for reward in of_task)) for of_task in rewards])
    return Summary(
        rollouts=len(turns),
        rewarded=sum(map(len, rewards)),
        rewarded_tasks=sum(map(bool, rewards)),
        mean_reward=macro_mean(rewards),
        reward_interval=reward_interval(rewards),
        unrewarded=dict(totals.unrewarded.most_common()),
        not_finite=totals.not_finite,
        unplayed=unplayed,
        mean_bounds=mean_bounds([(group.rewards, group.missing) for group in by_task], unplayed),
        possible_rewards=possible,
        mean_turns=_mean(turns),
        mean_duration_s=_mean([seconds for group in by_task for seconds in group.durations]),
        input_tokens=totals.tokens.get("input_tokens"),
        output_tokens=totals.tokens.get("output_tokens"),
        cost_usd=sum(totals.costs) if totals.costs else None,
        mean_drift=_mean(totals.drifts),
        statuses=dict(totals.statuses.most_common()),
        stop_reasons=dict(totals.endings.most_common()),
        pass_at_k={k: rate.mean for k, rate in pass_at_k.items()},
        pass_hat_k={k: rate.mean for k, rate in pass_hat_k.items()},
        pass_at_k_intervals={k: rate.interval for k, rate in pass_at_k.items()},
        pass_hat_k_intervals={k: rate.interval for k, rate in pass_hat_k.items()},
        pass_tasks={k: rate.tasks for k, rate in pass_at_k.items()},
        redacted=dict(totals.redacted.most_common()),
        tools=tuple(sorted((tool.summary(name) for name, tool in tools.items()), key=lambda tool: (-tool.calls, tool.name))),
        tasks=tuple(sorted((group.summary(key) for key, group in groups.items()), key=_sort_key)),
    )


def drift_of(rollout: Rollout) -> int | None:
    """Return the number of prompt ids that rendering the conversation again would have changed; None if that is not recorded.

    A turn that was sampled as token ids has in `sampled.metadata` its `segment`, and its `drift`: the edit distance between the
    ids of the conversation before it, as they were sampled and extended, and the ids of the template's rendering. Within a
    segment the drift of a turn includes that of the turns before it. Where a segment begins, the drift is that of the one before.
    """
    total = latest = 0
    segment: Json = None
    found = False
    for turn in rollout.turns:
        metadata = turn.sampled.metadata if turn.sampled is not None else None
        drift = metadata.get("drift") if isinstance(metadata, Mapping) else None
        if not isinstance(drift, int) or isinstance(drift, bool):
            continue
        assert metadata is not None
        if found and metadata.get("segment") != segment:
            total, latest = total + drift, 0
        else:
            latest = drift
        found, segment = True, metadata.get("segment")
    return total + latest if found else None


def _first_words(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _WORDS_OF_ERROR else f"{words[:_WORDS_OF_ERROR]}..."


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
