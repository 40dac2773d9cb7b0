"""Serve a Gymnasium environment to language models, and check that nothing is lost on the way.

    python examples/serve_gymnasium.py FrozenLake-v1 3

The env is bridged and served on this machine. A random policy plays it as a model would, with calls of the tool `step`. Each
episode is then repeated without a server, with the same seed and the same actions. Both must be equal.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import gymnasium as gym

import openreward_gym  # noqa: F401  (registers OpenReward-v0)
from openreward_gym import serve
from openreward_gym.serve import decode, encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("id", nargs="?", default="FrozenLake-v1", help="a registered id")
    parser.add_argument("episodes", nargs="?", type=int, default=3)
    options = parser.parse_args()
    with serve.local([options.id]) as base_url:
        env = gym.make("OpenReward-v0", environment=options.id, base_url=base_url)
        direct = gym.make(options.id)
        for seed in range(options.episodes):
            actions, steps, total = play(env, direct.action_space, seed)
            assert repeat(direct, seed, actions) == steps
            print(f"seed {seed}: {len(steps)} steps, return {total:g}, the same without the server")
        env.close()
        direct.close()


def play(env: gym.Env[Any, Any], actions: gym.Space[Any], seed: int) -> tuple[list[Any], list[Any], float]:
    """Play an episode of random actions.

    Returns:
        The actions, the (exact observation, reward, terminated, truncated) of each step, and the return.
    """
    prompt, _ = env.reset(seed=seed)
    if seed == 0:
        print(f"{prompt}\n")
    actions.seed(seed)
    played, steps, total = [], [], 0.0
    while True:
        action = encode(actions, actions.sample())
        _, reward, _, _, info = env.step({"name": "step", "arguments": {"action": action}})
        exact = json.loads(info["metadata"])
        played.append(action)
        steps.append((exact["observation"], float(reward), exact["terminated"], exact["truncated"]))
        total += float(reward)
        if exact["terminated"] or exact["truncated"]:
            return played, steps, total


def repeat(env: gym.Env[Any, Any], seed: int, actions: list[Any]) -> list[Any]:
    """Take the same actions in the env itself, and return its steps."""
    env.reset(seed=seed)
    steps = []
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(decode(env.action_space, action))
        steps.append((encode(env.observation_space, observation, []), float(reward), terminated, truncated))
    return steps


if __name__ == "__main__":
    main()
