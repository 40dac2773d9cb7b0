"""The metrics that charts can show: the index's own, shares of what was discarded or ended badly, and a run's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openreward_gym.errors import ConfigurationError
from openreward_gym.viewer.answers.chart_tables import Numbers, Table, table_of
from openreward_gym.viewer.index import RunIndex

BUILT_IN_METRICS = {
    "reward": ("reward", "return of the episode"),
    "advantage": ("advantage", "advantage in its group"),
    "tokens": ("tokens", "output tokens"),
    "input_tokens": ("input_tokens", "input tokens"),
    "steps": ("turns", "assistant messages"),
    "calls": ("calls", "tool calls"),
    "errors": ("errors", "tool results that are errors"),
    "unnoticed_errors": ("unnoticed_errors", "tool errors that the model did not notice"),
    "duration": ("duration", "seconds from start to end"),
    "policy_s": ("policy_s", "seconds spent by the model"),
    "environment_s": ("environment_s", "seconds spent by the environment"),
    "cost": ("cost", "US dollars"),
}
"""The column and the description of each metric of the index."""

SHARES = {
    "discarded share": "share of the rollouts that were discarded",
    "errors share": "share of the rollouts that ended with an error",
    "truncated share": "share of the rollouts that were truncated",
}
GROUP_SHARES = {
    "zero-advantage groups": "share of the groups of several rollouts in which all rewards are equal",
    "all-0 groups": "share of the groups in which every reward is the lowest possible",
    "all-1 groups": "share of the groups in which every reward is the highest possible",
}
REASON = "discarded: "
"""Begins the name of the share of the rollouts that were discarded for one reason."""

WHICH = ("all", "kept", "discarded")


@dataclass(frozen=True, slots=True)
class Values:
    """A metric's values with their steps; NaN is the step of what has none."""

    steps: Any
    numbers: Numbers
    unit: str = "rollouts"
    """What has a value: "rollouts" or "groups"."""


def values_of(table: Table, metric: str, mask: Any, which: str) -> Values:
    """Return the values of a metric for those rollouts of the mask that are `which`: all, kept or discarded.

    Rollouts that are still running do not count. Shares are always of all rollouts. `metric.NAME` is the run's own metric of
    a name that a metric of the index has too.

    Raises:
        ConfigurationError: `which` is none of the three.
    """
    if which not in WHICH:
        raise ConfigurationError(f"the parameter 'which' must be one of {', '.join(WHICH)}, not {which[:30]!r}")
    mask = mask & (table.texts["status"] != "running")
    steps = table.numbers["step"].values
    own = metric if metric in table.metrics else metric.removeprefix("metric.")
    if metric not in BUILT_IN_METRICS:
        if metric in GROUP_SHARES:
            return _of_groups(table, metric, mask)
        if (share := _share(table, metric)) is not None:
            return Values(steps[mask], Numbers(share[mask].astype(float), np.ones(int(mask.sum()), dtype=bool)))
    if which != "all":
        mask = mask & ((table.numbers["discarded"].values > 0) == (which == "discarded"))
    built_in = metric in BUILT_IN_METRICS
    numbers = table.numbers.get(BUILT_IN_METRICS[metric][0]) if built_in else table.metrics.get(own)
    numbers = numbers or Numbers.missing(len(table))
    return Values(steps[mask], Numbers(numbers.values[mask], numbers.recorded[mask]))


def catalogue(index: RunIndex, runs: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """Return the metrics of runs that have values: those of the index, shares, and the runs' own.

    Each has a `name`, by which charts ask for it, and a description, `about`.
    """
    tables = [table_of(index, run) for run in runs]
    built_in = [
        {"name": name, "about": about}
        for name, (column, about) in BUILT_IN_METRICS.items()
        if name == "reward" or any(_has_values(table.numbers.get(column)) for table in tables)
    ]
    reasons = sorted({str(reason) for table in tables for reason in set(table.texts["discard"]) if reason})
    shares = [{"name": name, "about": about} for name, about in SHARES.items()]
    shares[1:1] = [
        {"name": REASON + reason, "about": f"share of the rollouts that were discarded with the reason {reason}"}
        for reason in reasons
    ]
    shares += [{"name": name, "about": about} for name, about in GROUP_SHARES.items()]
    taken = {*BUILT_IN_METRICS, *(share["name"] for share in shares)}
    own = dict.fromkeys(name for table in tables for name in table.metrics)
    names = [f"metric.{name}" if name in taken else name for name in own]
    return {"built_in": built_in, "shares": shares, "own": [{"name": name, "about": "recorded by the run"} for name in names]}


def names_of(metrics: dict[str, list[dict[str, str]]]) -> list[str]:
    """Return the names in a catalogue."""
    return [metric["name"] for section in metrics.values() for metric in section]


def _has_values(numbers: Numbers | None) -> bool:
    return numbers is not None and bool(numbers.recorded.any())


def _share(table: Table, metric: str) -> Any:
    """Return which rollouts a share counts; None if the metric is no share."""
    if metric == "discarded share":
        return table.numbers["discarded"].values > 0
    if metric == "errors share":
        return table.texts["status"] == "error"
    if metric == "truncated share":
        return table.texts["status"] == "truncated"
    if metric.startswith(REASON) and metric not in table.metrics:
        return table.texts["discard"] == metric[len(REASON) :]
    return None


def _of_groups(table: Table, metric: str, mask: Any) -> Values:
    """Return 1 for each group that the share counts and 0 for the others; groups of which no reward is a number are left out."""
    reward = table.numbers["reward"]
    mask = mask & reward.recorded & np.isfinite(reward.values)
    rewards, steps, names = reward.values[mask], table.numbers["step"].values[mask], table.texts["grp"][mask]
    if not len(rewards):
        return Values(steps, Numbers.missing(0), "groups")
    _, name = np.unique(names, return_inverse=True)
    # A group belongs to one step: rollouts of another step with the same group's name are another group.
    place = np.where(np.isnan(steps), -np.inf, steps)
    order = np.lexsort((name, place))
    rewards, steps, name, place = rewards[order], steps[order], name[order], place[order]
    starts = np.flatnonzero(np.r_[True, (name[1:] != name[:-1]) | (place[1:] != place[:-1])])
    sizes = np.diff(np.r_[starts, len(rewards)])
    low, high = np.minimum.reduceat(rewards, starts), np.maximum.reduceat(rewards, starts)
    several = sizes > 1
    least, most = table.reward_range
    counted = low == high if metric == "zero-advantage groups" else high <= least if metric == "all-0 groups" else low >= most
    numbers = Numbers(counted[several].astype(float), np.ones(int(several.sum()), dtype=bool))
    return Values(steps[starts][several], numbers, "groups")
