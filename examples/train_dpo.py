"""Train with DPO: pairs from the groups of a run, through the `preference` format, into TRL's DPOTrainer.

    openreward-gym demo --output runs/demo
    python examples/train_dpo.py runs/demo/weather --model Qwen/Qwen3-0.6B

It needs the extras `server` and `train`. Pairs come from rollouts of the same task with different rewards, so collect several
samples per task (`--repeats 4`). A pair is one assistant message of each rollout, at the first turn in which the two differ,
after an identical history.
"""

from __future__ import annotations

from typing import Any

import compare_rollouts
from trl import DPOConfig, DPOTrainer


def train(run: str, model: str = "tiny", min_gap: float = 0.0, steps: int = 5, output: str = "out/dpo") -> Any:
    """Train for `steps` steps and return the trainer."""
    return compare_rollouts.train(DPOTrainer, DPOConfig, run, "preference", 1, model, steps, output, min_gap=min_gap)


def main() -> None:
    parser = compare_rollouts.parser(__doc__, "out/dpo")
    parser.add_argument("--min-gap", type=float, default=0.0, help="minimum difference of the rewards in a pair")
    options = parser.parse_args()
    compare_rollouts.print_losses(train(options.run, options.model, options.min_gap, options.steps, options.output))


if __name__ == "__main__":
    main()
