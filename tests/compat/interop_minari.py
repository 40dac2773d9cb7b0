"""Collects two episodes with Minari's DataCollector and reads them back: `python interop_minari.py URL`."""

from __future__ import annotations

import json
import sys
from typing import Any

import gymnasium as gym
import minari

import openreward_gym  # noqa: F401  (registers OpenReward-v0)
from openreward_gym.wrappers import TextAction

CALL = {"name": "echo", "arguments": {"text": "hé"}}
FINISH = {"name": "finish", "arguments": {"text": "right"}}


def main(url: str) -> None:
    # Texts in, texts out: spaces that Minari knows how to store.
    env: gym.Env[Any, Any] = TextAction(gym.make("OpenReward-v0", environment="echo", base_url=url))
    collector = minari.DataCollector(env)
    for _ in range(2):
        collector.reset(seed=0)
        for call in (CALL, FINISH):
            collector.step(f"<tool_call>{json.dumps(call)}</tool_call>")
    data = collector.create_dataset("openreward/echo-v0")
    collector.close()
    for episode in data.iterate_episodes():
        print(json.dumps([list(episode.observations)[1:], [float(r) for r in episode.rewards], bool(episode.terminations[-1])]))


main(sys.argv[1])
