"""Evaluate over all tasks of a split, many sessions at once, every episode recorded: a dozen lines.

openreward-gym serve ctf --port 8080 &
python examples/evaluate_vector.py ctf --base-url http://127.0.0.1:8080
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym

from openreward_gym import RolloutStore
from openreward_gym.reports import summarize
from openreward_gym.wrappers import RecordRollouts

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("environment")
parser.add_argument("--base-url")
parser.add_argument("--num-envs", type=int, default=8)
parser.add_argument("--tasks", type=int, default=10)
parser.add_argument("--output", default="runs/evaluation")
given = parser.parse_args()

store = RolloutStore(given.output)
envs: Any = gym.make_vec(
    "OpenReward-v0",
    num_envs=given.num_envs,
    vectorization_mode="vector_entry_point",
    environment=given.environment,
    base_url=given.base_url,
    max_steps=8,
    share_tasks=True,
    wrap=lambda env: RecordRollouts(env, store),
).unwrapped
envs.reset(seed=0)
envs.send(envs.action_space.sample())
done: set[int] = set()
while len(done) < given.tasks:
    observations, rewards, terminated, truncated, infos = envs.recv(min_envs=1)
    done.update(infos["task_index"][terminated | truncated])
    actions = [envs.single_action_space.sample() for _ in observations]  # your model here
    envs.send(actions, infos["env_id"])
envs.close()
print(summarize(store.filter(status=["completed", "truncated"])).to_text())
