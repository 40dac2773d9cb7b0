"""Let a model play a vector of environments without waiting for the slowest: it answers the environments that are ready.

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
options = parser.parse_args()


async def main() -> list[float]:
    policy: Any = resolve(f"openai:{options.model}", url=options.policy_url, temperature=1.0)
    arguments = {"environment": options.environment, "base_url": options.base_url, "max_steps": 16, "share_tasks": True}
    envs = gym.make_vec("OpenReward-v0", options.num_envs, vectorization_mode="vector_entry_point", **arguments)
    vector: Any = envs.unwrapped
    vector.reset(seed=0)
    returns = [0.0] * options.num_envs
    finished: list[float] = []

    async def answer(number: int) -> Any:
        """Return the model's answer to a transcript. After the end of an episode any action begins the next task."""
        episode = vector.envs[number].unwrapped.episode
        return "" if episode.done else await policy(episode.messages, episode.tools)

    free = list(range(options.num_envs))
    while len(finished) < options.episodes:
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
