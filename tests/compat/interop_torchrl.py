"""Plays an episode through TorchRL's GymWrapper: `python interop_torchrl.py URL`."""

from __future__ import annotations

import json
import sys
from typing import Any

import gymnasium as gym
from torchrl.envs import GymWrapper

import openreward_gym  # noqa: F401  (registers OpenReward-v0)
from openreward_gym.wrappers import TextAction

CALLS = ({"name": "echo", "arguments": {"text": "hé"}}, {"name": "finish", "arguments": {"text": "right"}})


def main(url: str) -> None:
    # Texts in, texts out: what TorchRL calls NonTensor.
    env = GymWrapper(TextAction(gym.make("OpenReward-v0", environment="echo", base_url=url)))
    state = env.reset()
    steps: list[Any] = []
    for call in CALLS:
        state["action"] = f"<tool_call>{json.dumps(call)}</tool_call>"
        steps.append(env.step(state)["next"])
        state = steps[-1].exclude("reward")
    rewards = [float(step["reward"]) for step in steps]
    print(json.dumps([[step["observation"] for step in steps], rewards, bool(steps[-1]["terminated"])]))
    env.close()


main(sys.argv[1])
