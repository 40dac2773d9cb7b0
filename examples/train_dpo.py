"""Prefer what did better: pairs from a run's groups, through the `preference` format, into TRL's DPOTrainer.

    pip install 'openreward-gym[train]'
    python examples/train_dpo.py runs/my-run --model Qwen/Qwen3-0.6B

Collect with `--repeats 4` or so: pairs come from rollouts of the same task with different rewards. A pair is one assistant
message each, at the first turn in which two rollouts part, after a history that is the same byte for byte.
"""

from __future__ import annotations

from typing import Any

import compare_rollouts
from trl import DPOConfig, DPOTrainer


def train(run: str, model: str = "tiny", min_gap: float = 0.0, steps: int = 5, output: str = "out/dpo") -> Any:
    """Train for `steps` steps; returns the trainer."""
    return compare_rollouts.train(DPOTrainer, DPOConfig, run, "preference", 1, model, steps, output, min_gap=min_gap)


def main() -> None:
    parser = compare_rollouts.parser(__doc__, "out/dpo")
    parser.add_argument("--min-gap", type=float, default=0.0, help="the least difference of rewards within a pair")
    given = parser.parse_args()
    compare_rollouts.print_losses(train(given.run, given.model, given.min_gap, given.steps, given.output))


if __name__ == "__main__":
    main()
