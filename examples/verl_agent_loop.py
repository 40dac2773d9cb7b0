"""Train with verl on an environment: writes the files, and starts verl's trainer with them.

    openreward-gym serve weather --port 8080 &
    python examples/verl_agent_loop.py http://127.0.0.1:8080 actor_rollout_ref.model.path=Qwen/Qwen3-0.6B

The arguments after the URL go to verl: any override of its configuration, and `--cfg job`, which prints the configuration in
place of training. It needs the extras `server` and `verl`, an engine for rollouts such as vLLM, and a GPU.
"""

from __future__ import annotations

import subprocess
import sys

from openreward_gym.integrations import verl

SETTINGS = ["algorithm.adv_estimator=grpo", "actor_rollout_ref.rollout.name=vllm", "actor_rollout_ref.rollout.n=8"]


def main(base_url: str, *overrides: str) -> int:
    """Train, and return the exit code of verl's trainer."""
    files = verl.prepare("weather", "data/weather", base_url=base_url, output="runs/verl", validation_split="test", max_turns=8)
    command = [sys.executable, "-m", "verl.trainer.main_ppo", *files.overrides, *SETTINGS, *overrides]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
