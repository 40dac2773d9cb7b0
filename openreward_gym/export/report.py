"""Report of an export: how many rollouts were read, what became of each, and remarks on them."""

from __future__ import annotations

import math
import textwrap
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openreward_gym.export.reader import Record, num_turns_of, task_of, tokens_of
from openreward_gym.export.reasons import FINDINGS, hint_of
from openreward_gym.export.select import reward_of
from openreward_gym.export.splits import TRAIN, split_order
from openreward_gym.reports.statistics import mean, median
from openreward_gym.types import Json

_ARROW, _INDENT = f"{'':11}-> ", f"{'':14}"


class LeftOutWarning(UserWarning):
    """Rollouts are not in the dataset that `to_dataset` returned."""


@dataclass
class FormatReport:
    """Report on the rollouts in one format.

    Attributes:
        name: The format's name; in a folder with the rows of several runs in this format, a name made with that of the run.
        format, runs, source: The format, the names of the runs, and a digest of their paths, as far as `write` knows them.
        kept: True if there is no row, and the files of an earlier export with rows were left as they are.
        read: Number of rollouts read.
        selected: Number of rollouts that are in the output.
        rows: Number of rows written. splits: The same by dataset split.
        excluded: Number of rollouts left out, by reason; `read - selected` in all.
        dropped_rows: Number of rows left out of selected rollouts (or pairs), by reason.
        findings: Number of rollouts with a remark; see `FINDINGS`.
        files: Files written, relative to the output.
        bytes: Their size.
        pictures: Pictures for the card, relative to the output.
        about, file, compat, columns: The format's purpose, the kind of its file, `ExportOptions.compat`, and its columns with
            their kinds (see `openreward_gym.export.tables.Columns`).

    Example:
        >>> report = FormatReport("sft", read=3, selected=1, rows=1)
        >>> report.exclude("status truncated")
        >>> report.exclude("status truncated")
        >>> print(report)
        sft: 1 row from 1 of 3 rollouts
          left out      2  status truncated
                           -> Select(status="any") takes all, status=["completed", "truncated"] those too
    """

    name: str
    read: int = 0
    selected: int = 0
    rows: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    dropped_rows: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)
    bytes: int = 0
    about: str = ""
    file: str = "parquet"
    compat: str = "json"
    columns: Mapping[str, str] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    environments: Counter[str] = field(default_factory=Counter)
    tasks_read: set[Hashable] = field(default_factory=set)
    tasks: dict[Hashable, str] = field(default_factory=dict)
    torn_tasks: set[Hashable] = field(default_factory=set)
    rewards: array[float] = field(default_factory=lambda: array("d"))
    turns: array[int] = field(default_factory=lambda: array("q"))
    tokens: array[int] = field(default_factory=lambda: array("q"))
    with_images: bool = False
    format: str = ""
    runs: Sequence[str] = ()
    source: str = ""
    kept: bool = False

    def count_read(self, record: Record) -> None:
        """Count a rollout that was read."""
        self.read += 1
        self.tasks_read.add(task_of(record))

    def count_repeated(self, number: int) -> None:
        """Count rollouts that are not read because another one has the same id."""
        if number:
            self.read += number
            self.excluded["another rollout has the same id: the last one written is taken"] += number

    def exclude(self, reason: str) -> None:
        """Count a rollout that is left out."""
        self.excluded[reason] += 1

    def count_selected(self, record: Record, findings: set[str], split: str = "train") -> None:
        """Count a rollout that is in a split of the output."""
        self.selected += 1
        self.findings.update(findings)
        self.environments[(record.get("environment") or {}).get("name", "") or "unknown"] += 1
        task = task_of(record)
        if self.tasks.setdefault(task, split) != split:
            self.torn_tasks.add(task)
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
            "splits": {name: self.splits[name] for name in sorted(self.splits, key=split_order)},
            "excluded": dict(self.excluded.most_common()),
            "dropped_rows": dict(self.dropped_rows.most_common()),
            "hints": {reason: hint_of(reason) for reason in (*self.excluded, *self.dropped_rows)},
            "findings": dict(self.findings.most_common()),
            "files": self.files,
            "bytes": self.bytes,
            "environments": dict(self.environments.most_common()),
            "tasks": {
                "read": len(self.tasks_read),
                "exported": len(self.tasks),
                "in_several_splits": len(self.torn_tasks),
            },
            "rewards": _distribution(self.rewards),
            "turns": _distribution(self.turns),
            "tokens": _distribution(self.tokens),
            "format": self.format or self.name,
            "runs": list(self.runs),
            "source": self.source,
            "about": self.about,
            "file": self.file,
            "compat": self.compat,
            "columns": dict(self.columns),
            "pictures": self.pictures,
        }

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, wording: Callable[[str], str] = str, width: int | None = None) -> str:
        """Return the report as text.

        Args:
            wording: Rewrites the hints, which name arguments of Python functions.
            width: Number of columns at which reasons and notes are wrapped. None wraps only the hints.
        """
        lines = [f"{self.name}: {count_of(self.rows, 'row')} from {self.selected:,} of {count_of(self.read, 'rollout')}"]
        if self.splits.keys() - {TRAIN}:
            lines += [f"  split    {self.splits[name]:>6,}  {name}" for name in sorted(self.splits, key=split_order)]
        for label, counts in (("left out", self.excluded), ("no row  ", self.dropped_rows)):
            for reason, number in counts.most_common():
                lines += _wrapped(f"  {label} {number:>6,}  ", reason, width)
                lines += textwrap.wrap(wording(hint_of(reason)), 80, initial_indent=_ARROW, subsequent_indent=_INDENT)
        if self.torn_tasks:
            lines += _wrapped(
                f"  note     {len(self.torn_tasks):>6,}  ", "tasks with rollouts in several splits: the source says so", width
            )
        for name, number in self.findings.most_common():
            lines += _wrapped(f"  note     {number:>6,}  ", wording(FINDINGS.get(name, name)), width)
        lines += [f"  file     {name}" for name in self.files]
        return "\n".join(lines)


@dataclass
class ExportReport:
    """Report of `write` or `push`. As text it is the summary for a terminal.

    Attributes:
        output: The folder, or the URL of the repository.
        formats: A report for each format of this export, by name.
        earlier: The formats of earlier exports to the same output, as `report.json` has them.

    Example:
        >>> report = ExportReport("out", {"sft": FormatReport("sft", read=2, selected=2, rows=2)})
        >>> report.rows
        {'sft': 2}
    """

    output: str
    formats: dict[str, FormatReport] = field(default_factory=dict)
    earlier: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        rows = ", ".join(f"{name} {count_of(number, 'row')}" for name, number in self.rows.items())
        return f"<ExportReport {self.output}: {rows or 'no formats'}>"

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows written, by format."""
        return {name: report.rows for name, report in self.formats.items()}

    def to_dict(self) -> dict[str, Json]:
        """Return the report of this export as JSON values."""
        return {"output": self.output, "formats": {name: report.to_dict() for name, report in self.formats.items()}}

    def all_formats(self) -> dict[str, dict[str, Any]]:
        """Return the reports of all formats in the output, those of earlier exports too, as JSON values."""
        return {**self.earlier, **{name: report.to_dict() for name, report in self.formats.items() if not report.kept}}

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, wording: Callable[[str], str] = str, width: int | None = None) -> str:
        """Return the report as text for a terminal; see `FormatReport.to_text`."""
        return "\n".join([*(report.to_text(wording, width) for report in self.formats.values()), f"in {self.output}"])


def _wrapped(start: str, text: str, width: int | None) -> list[str]:
    """Return a text whose first line has `start` before it."""
    if width is None:
        return [start + text]
    return textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False) or [start]


def _distribution(values: array[Any]) -> dict[str, float] | None:
    ordered = sorted(values)
    if not ordered:
        return None
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    ends = {"minimum": ordered[0], "median": median(ordered), "p90": p90, "maximum": ordered[-1]}
    return {"count": len(ordered), "mean": mean(ordered), **ends}


def count_of(number: int, noun: str) -> str:
    """Return "1 row", "2,000 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
