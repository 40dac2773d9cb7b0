"""A model plays a vector of environments: those that have answered are asked about together, the others are not waited for.

vllm serve Qwen/Qwen3-4B --port 8000 --enable-auto-tool-choice --tool-call-parser hermes
python examples/vector_policy.py weather --model Qwen/Qwen3-4B --policy-url http://127.0.0.1:8000/v1 --base-url http://127.0.0.1:8080
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
given = parser.parse_args()


async def main() -> list[float]:
    policy: Any = resolve(f"openai:{given.model}", url=given.policy_url, temperature=1.0)
    arguments = {"environment": given.environment, "base_url": given.base_url, "max_steps": 16, "share_tasks": True}
    envs = gym.make_vec("OpenReward-v0", given.num_envs, vectorization_mode="vector_entry_point", **arguments)
    vector: Any = envs.unwrapped
    vector.reset(seed=0)
    returns = [0.0] * given.num_envs
    finished: list[float] = []

    async def answer(number: int) -> Any:
        """What the session's transcript calls for; after its end, anything: the env begins its next task."""
        episode = vector.envs[number].unwrapped.episode
        return "" if episode.done else await policy(episode.messages, episode.tools)

    free = list(range(given.num_envs))
    while len(finished) < given.episodes:
        vector.send(await asyncio.gather(*(answer(number) for number in free)), free)
        _, rewards, terminated, truncated, infos = await asyncio.to_thread(vector.recv, 1)
        free = [int(number) for number in infos["env_id"]]
        for row, number in enumerate(free):
            returns[number] += float(rewards[row])
            if terminated[row] or truncated[row]:
                finished.append(returns[number])
                returns[number] = 0.0
    await policy.aclose()
    envs.close()
    return finished


returns = asyncio.run(main())
print(f"{len(returns)} episodes, mean return {sum(returns) / len(returns):.3f}")
