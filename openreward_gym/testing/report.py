"""What a set of checks found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from openreward_gym.types import Json

Result = Literal["passed", "warning", "failed", "skipped"]

_MARKS: Mapping[Result, str] = {"passed": "ok  ", "warning": "warn", "failed": "FAIL", "skipped": "-   "}


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, what became of it, and in words why."""

    name: str
    result: Result
    detail: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What all checks found. `print(report)` shows it as a table."""

    environment: str
    base_url: str | None
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed. Warnings are things to look at, not failures."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.result == "failed")

    @property
    def warnings(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.result == "warning")

    def raise_for_failures(self) -> None:
        """Raise an AssertionError with the whole report if anything failed."""
        if not self.ok:
            raise AssertionError(str(self))

    def to_dict(self) -> dict[str, Json]:
        """The report as JSON values."""
        return {**asdict(self), "checks": [asdict(check) for check in self.checks], "ok": self.ok}

    def __str__(self) -> str:
        counts = {result: sum(check.result == result for check in self.checks) for result in _MARKS}
        lines = [f"{self.environment} at {self.base_url or 'the hosted platform'}"]
        for check in self.checks:
            detail = check.detail.replace("\n", "\n" + " " * 22)
            lines.append(f"  {_MARKS[check.result]}  {check.name:<14}{detail}".rstrip())
        return "\n".join([*lines, ", ".join(f"{count} {result}" for result, count in counts.items() if count)])
