"""Train with tinker-cookbook on an environment: every step plays 4 tasks, 4 times each.

    openreward-gym serve weather --port 8080 &
    export TINKER_API_KEY=...
    python examples/tinker_training.py http://127.0.0.1:8080 Qwen/Qwen3-8B

It needs the extras `server` and `tinker`, and a key of Tinker, on whose machines the model is. Episodes are recorded in
`runs/tinker`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from tinker_cookbook.rl import train
from tinker_cookbook.rl.rollout_limits import RolloutLimits

from openreward_gym.integrations import tinker


def main(base_url: str, model: str, max_tokens: str = "1024", steps: str = "100") -> None:
    """Train for some steps."""
    limits = RolloutLimits(max_turns=4, max_trajectory_tokens=32_000)
    options: dict[str, Any] = {"group_size": 4, "groups_per_batch": 4, "passes": 100, "limits": limits}
    tasks = tinker.dataset("weather", model_name=model, base_url=base_url, output="runs/tinker", **options)
    names = {"model_name": model, "recipe_name": "openreward_weather", "log_path": "out/tinker"}
    run = {"learning_rate": 1e-4, "max_tokens": int(max_tokens), "max_steps": int(steps), "rollout_error_tolerance": True}
    asyncio.run(train.main(train.Config(dataset_builder=tasks, **names, **run)))


if __name__ == "__main__":
    main(*sys.argv[1:])
