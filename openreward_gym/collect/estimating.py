"""What a collection would do, told before it does anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openreward_gym.collect.attempts import Coverage, Outcomes
from openreward_gym.collect.inventory import Inventory
from openreward_gym.collect.plan import Plan
from openreward_gym.reports.summary import summarize
from openreward_gym.store.store import RolloutStore


@dataclass(frozen=True, slots=True)
class Estimate:
    """A run that is not played yet.

    Attributes:
        coverage: As it stands: `missing` and `failed` would be played.
        to_play: How many rollouts would be made.
        seconds, output_tokens, cost_usd: What that takes, by the mean of the run's finished rollouts; None where it has
            none, or they do not tell.
    """

    coverage: Coverage
    to_play: int
    seconds: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None

    def to_text(self) -> str:
        """For people."""
        tail = [] if self.coverage.successful == 0 else [f"{self.coverage.successful} are there"]
        tail += [f"{self.coverage.omitted} are left out"] if self.coverage.omitted else []
        lines = [
            f"{self.to_play} of {self.coverage.expected} rollouts would be played" + "".join(f", {part}" for part in tail) + "."
        ]
        if self.seconds is None:
            lines.append("How long it takes is not known: collect a few first (--limit 5), then ask again with their --output.")
        else:
            lines.append(f"By the rollouts that are there, it takes about {self.seconds:.0f} s.")
        if self.output_tokens is not None:
            lines.append(f"About {self.output_tokens:,.0f} output tokens.")
        if self.cost_usd is not None:
            lines.append(f"About ${self.cost_usd:.2f}.")
        return "\n".join(lines)


def estimate_collection(plan: Plan, inventory: Inventory) -> Estimate:
    """Look at what is there; nothing is written."""
    outcomes = Outcomes(inventory)
    path = None if plan.output is None else Path(plan.output)
    if path is not None:
        outcomes.read(path)
    if plan.limit is not None:
        outcomes.omit_beyond(plan.limit)
    coverage = outcomes.coverage()
    to_play = coverage.missing + coverage.failed
    if path is None or not coverage.successful:
        return Estimate(coverage, to_play)
    summary = summarize(RolloutStore(path))
    each = to_play / summary.rollouts
    seconds = summary.mean_duration_s
    return Estimate(
        coverage,
        to_play,
        None if seconds is None else seconds * to_play / min(plan.concurrency, max(to_play, 1)),
        None if summary.output_tokens is None else summary.output_tokens * each,
        None if summary.cost_usd is None else summary.cost_usd * each,
    )
