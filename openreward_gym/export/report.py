"""What an export did: how many rollouts were read, what became of each, what was found on the way."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Hashable
from dataclasses import asdict, dataclass, field
from typing import Any

from openreward_gym.export.select import reward_of, task_of, tokens_of, turns_of
from openreward_gym.export.source import Record
from openreward_gym.reports.statistics import mean, median

FINDINGS = {
    "control_tokens": "rollouts in which a tool or user wrote a control token: drop or escape them with control_tokens=...",
    "hidden_reasoning": "rollouts with reasoning that the provider keeps hidden: it cannot be trained on",
    "image_missing": "rollouts with an image whose bytes are not there, or are no image: the text says [image ...]",
    "result_without_call": "rollouts with a tool result that answers no call: it became a user message",
    "tool_image_moved": "rollouts with an image from a tool: it follows in a user message",
    "unknown_block": "rollouts with a block of an unknown type: it was left out, or is named in the text",
    "parallel_calls_split": "rollouts whose parallel calls were split: the template renders one call a message",
    "context_changes": "rollouts in more than one row: the template renders earlier turns differently later",
    "system_merged": "rollouts whose system message was merged into the first user message: the template takes none",
    "sampled_tokens_used": "rollouts whose recorded token ids were used",
}


@dataclass
class FormatReport:
    """What became of the rollouts in one format.

    Attributes:
        read: Rollouts read. selected: Rollouts that are in the output. rows: Rows written.
        excluded: How many rollouts were left out, by reason; `read - selected` in all.
        dropped_rows: Rows left out of selected rollouts (or pairs), by reason.
        findings: Rollouts with something worth knowing; see `FINDINGS`.
        files: What was written, relative to the output.
    """

    name: str
    read: int = 0
    selected: int = 0
    rows: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    dropped_rows: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)
    bytes: int = 0
    environments: Counter[str] = field(default_factory=Counter)
    tasks_read: set[Hashable] = field(default_factory=set)
    tasks: set[Hashable] = field(default_factory=set)
    rewards: array[float] = field(default_factory=lambda: array("d"))
    turns: array[int] = field(default_factory=lambda: array("q"))
    tokens: array[int] = field(default_factory=lambda: array("q"))
    with_images: bool = False

    def saw(self, record: Record) -> None:
        self.read += 1
        self.tasks_read.add(task_of(record))

    def exclude(self, reason: str) -> None:
        self.excluded[reason] += 1

    def took(self, record: Record, findings: set[str]) -> None:
        """Count a rollout that is in the output."""
        self.selected += 1
        if findings:
            self.findings.update(findings)
        self.environments[(record.get("environment") or {}).get("name", "") or "unknown"] += 1
        self.tasks.add(task_of(record))
        reward, tokens = reward_of(record), tokens_of(record)
        # What no distribution can hold (infinities, counts beyond 64 bits) is in the record alone.
        if reward is not None and math.isfinite(reward):
            self.rewards.append(reward)
        if tokens is not None and 0 <= tokens < 2**63:
            self.tokens.append(tokens)
        self.turns.append(turns_of(record))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: counts, and summaries of the distributions."""
        return {
            "read": self.read,
            "selected": self.selected,
            "rows": self.rows,
            "excluded": dict(self.excluded.most_common()),
            "dropped_rows": dict(self.dropped_rows.most_common()),
            "findings": dict(self.findings.most_common()),
            "files": self.files,
            "bytes": self.bytes,
            "environments": dict(self.environments.most_common()),
            "tasks": {"read": len(self.tasks_read), "exported": len(self.tasks)},
            "rewards": _summary(self.rewards),
            "turns": _summary(self.turns),
            "tokens": _summary(self.tokens),
        }

    def __str__(self) -> str:
        lines = [f"{self.name}: {_count(self.rows, 'row')} from {self.selected:,} of {_count(self.read, 'rollout')}"]
        lines += [f"  left out {number:>6,}  {reason}" for reason, number in self.excluded.most_common()]
        lines += [f"  no row   {number:>6,}  {reason}" for reason, number in self.dropped_rows.most_common()]
        lines += [f"  note     {number:>6,}  {FINDINGS.get(what, what)}" for what, number in self.findings.most_common()]
        lines += [f"  file     {name}" for name in self.files]
        return "\n".join(lines)


@dataclass
class Report:
    """What `write` did; as text, its summary.

    Attributes:
        output: The folder.
        formats: A report for each format, by name.
    """

    output: str
    formats: dict[str, FormatReport] = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, int]:
        """Rows written, by format."""
        return {name: report.rows for name, report in self.formats.items()}

    def to_dict(self) -> dict[str, Any]:
        return {"output": self.output, "formats": {name: report.to_dict() for name, report in self.formats.items()}}

    def __str__(self) -> str:
        return "\n".join([*(str(report) for report in self.formats.values()), f"in {self.output}"])


@dataclass(frozen=True)
class Summary:
    """A distribution in six numbers."""

    count: int
    mean: float
    minimum: float
    median: float
    p90: float
    maximum: float


def _summary(values: array[Any]) -> dict[str, float] | None:
    ordered = sorted(value for value in values if math.isfinite(value))
    if not ordered:
        return None
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return asdict(Summary(len(ordered), mean(ordered), ordered[0], median(ordered), p90, ordered[-1]))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
