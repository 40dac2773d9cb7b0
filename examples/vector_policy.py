"""Let a model play a vector of environments: it answers for the envs that are free, without waiting for the others.

vllm serve Qwen/Qwen3-4B --port 8000 --enable-auto-tool-choice --tool-call-parser hermes &
openreward-gym serve weather --port 8080 &
python examples/vector_policy.py weather --model Qwen/Qwen3-4B --base-url http://127.0.0.1:8080
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import gymnasium as gym

from openreward_gym.policies import resolve

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("environment")
parser.add_argument("--base-url")
parser.add_argument("--model", default="Qwen/Qwen3-4B")
parser.add_argument("--policy-url", default="http://127.0.0.1:8000/v1")
parser.add_argument("--num-envs", type=int, default=4)
parser.add_argument("--episodes", type=int, default=10)
arguments = parser.parse_args()


async def main() -> list[float]:
    policy: Any = resolve(f"openai:{arguments.model}", url=arguments.policy_url, temperature=1.0)
    options = {"environment": arguments.environment, "base_url": arguments.base_url, "max_steps": 16, "share_tasks": True}
    envs = gym.make_vec("OpenReward-v0", arguments.num_envs, vectorization_mode="vector_entry_point", **options)
    vector: Any = envs.unwrapped
    vector.reset(seed=0)
    returns = [0.0] * arguments.num_envs
    finished: list[float] = []

    async def answer(env_id: int) -> Any:
        """Return the policy's answer. After an episode's end the env ignores it and begins the next task."""
        episode = vector.envs[env_id].unwrapped.episode
        return "" if episode.done else await policy(episode.messages, episode.tools)

    free = list(range(arguments.num_envs))
    while len(finished) < arguments.episodes:
        vector.send(await asyncio.gather(*(answer(env_id) for env_id in free)), free)
        _, rewards, terminated, truncated, infos = await asyncio.to_thread(vector.recv, 1)
        free = [int(env_id) for env_id in infos["env_id"]]
        for row, env_id in enumerate(free):
            returns[env_id] += float(rewards[row])
            if terminated[row] or truncated[row]:
                finished.append(returns[env_id])
                returns[env_id] = 0.0
    await policy.aclose()
    envs.close()
    return finished


returns = asyncio.run(main())
print(f"{len(returns)} episodes, mean return {sum(returns) / len(returns):.3f}")
