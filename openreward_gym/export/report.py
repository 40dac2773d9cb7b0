"""Report of an export: how many rollouts were read, what became of each, and remarks on them."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from openreward_gym.export.reader import Record, num_turns_of, task_of, tokens_of
from openreward_gym.export.select import reward_of
from openreward_gym.reports.statistics import mean, median
from openreward_gym.types import Json

FINDINGS = {
    "control_tokens": "rollouts in which a tool or user wrote a control token: drop or escape them with control_tokens=...",
    "hidden_reasoning": "rollouts with reasoning that the provider keeps hidden: it cannot be trained on",
    "tool_image_moved": "rollouts with an image from a tool: it follows in a user message",
    "untrained_turn": "rollouts with a turn of the model that is context without a loss (it ended otherwise, or is empty)",
    "parallel_calls_split": "rollouts whose parallel calls were split: the template renders one call per message",
    "context_changes": "rollouts in more than one row: the template renders earlier turns differently later",
    "system_merged": "rollouts whose system message was merged into the first user message: the template takes none",
    "call_ids_renamed": "rollouts whose calls have new ids: the template takes ids of nine letters and digits only",
    "context_differs": "rollouts with a turn in another context than the template gives a sampler (its rows say so in the column "
    "context_differs): a thought that the record lacks, or other chat_template_kwargs=...",
    "template_options_unwritten": "rollouts sampled with chat_template_kwargs that their rows lack: pass tokenizer=... or "
    "chat_template_kwargs=..., and compat='json'",
    "sampled_tokens_used": "rollouts whose recorded token ids were used",
    "sampled_tokens_partly": "rollouts with recorded token ids for some turns only: the others were rendered, and the "
    "log-probabilities of their tokens are NaN",
    "sampled_tokens_unused": "rollouts with recorded token ids that do not belong to this tokenizer, or that have images",
}
"""Remarks on rollouts that exclude nothing."""


@dataclass
class FormatReport:
    """Report on the rollouts in one format.

    Attributes:
        name: The format's name.
        read: Number of rollouts read.
        selected: Number of rollouts that are in the output.
        rows: Number of rows written.
        excluded: Number of rollouts left out, by reason; `read - selected` in all.
        dropped_rows: Number of rows left out of selected rollouts (or pairs), by reason.
        findings: Number of rollouts with a remark; see `FINDINGS`.
        files: Files written, relative to the output.
        bytes: Their size.

    Example:
        >>> report = FormatReport("sft", read=3, selected=1, rows=1)
        >>> report.exclude("status truncated")
        >>> report.exclude("status truncated")
        >>> print(report)
        sft: 1 row from 1 of 3 rollouts
          left out      2  status truncated
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

    def count_read(self, record: Record) -> None:
        """Count a rollout that was read."""
        self.read += 1
        self.tasks_read.add(task_of(record))

    def exclude(self, reason: str) -> None:
        """Count a rollout that is left out."""
        self.excluded[reason] += 1

    def count_selected(self, record: Record, findings: set[str]) -> None:
        """Count a rollout that is in the output."""
        self.selected += 1
        self.findings.update(findings)
        self.environments[(record.get("environment") or {}).get("name", "") or "unknown"] += 1
        self.tasks.add(task_of(record))
        reward, tokens = reward_of(record), tokens_of(record)
        # Infinities and counts beyond 64 bits fit no distribution: only the record has them.
        if reward is not None and math.isfinite(reward):
            self.rewards.append(reward)
        if tokens is not None and 0 <= tokens < 2**63:
            self.tokens.append(tokens)
        self.turns.append(num_turns_of(record))

    def to_dict(self) -> dict[str, Json]:
        """Return counts and summaries of the distributions as JSON values."""
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
            "rewards": _distribution(self.rewards),
            "turns": _distribution(self.turns),
            "tokens": _distribution(self.tokens),
        }

    def __str__(self) -> str:
        lines = [f"{self.name}: {_count(self.rows, 'row')} from {self.selected:,} of {_count(self.read, 'rollout')}"]
        lines += [f"  left out {number:>6,}  {reason}" for reason, number in self.excluded.most_common()]
        lines += [f"  no row   {number:>6,}  {reason}" for reason, number in self.dropped_rows.most_common()]
        lines += [f"  note     {number:>6,}  {FINDINGS.get(name, name)}" for name, number in self.findings.most_common()]
        lines += [f"  file     {name}" for name in self.files]
        return "\n".join(lines)


@dataclass
class ExportReport:
    """Report of `write` or `push`. As text it is the summary for a terminal.

    Attributes:
        output: The folder, or the URL of the repository.
        formats: A report for each format, by name.

    Example:
        >>> report = ExportReport("out", {"sft": FormatReport("sft", read=2, selected=2, rows=2)})
        >>> report.rows
        {'sft': 2}
    """

    output: str
    formats: dict[str, FormatReport] = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows written, by format."""
        return {name: report.rows for name, report in self.formats.items()}

    def to_dict(self) -> dict[str, Json]:
        """Return the report as JSON values."""
        return {"output": self.output, "formats": {name: report.to_dict() for name, report in self.formats.items()}}

    def __str__(self) -> str:
        return "\n".join([*(str(report) for report in self.formats.values()), f"in {self.output}"])


def _distribution(values: array[Any]) -> dict[str, float] | None:
    ordered = sorted(values)
    if not ordered:
        return None
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    ends = {"minimum": ordered[0], "median": median(ordered), "p90": p90, "maximum": ordered[-1]}
    return {"count": len(ordered), "mean": mean(ordered), **ends}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
