"""What partial batches, one process and sessions opened ahead are worth, against a real server on this machine.

    python benchmarks/vector.py tail --num-envs 64
    python benchmarks/vector.py memory --num-envs 256
    python benchmarks/vector.py prefetch --num-envs 4

On 2 cores, nothing else running, Python 3.11, Gymnasium 1.4:

    64 sessions, steps of 0.5 s in the median      recv 68.0 steps/s, step 7.1, AsyncVectorEnv 7.2: 9.4 times as fast
    memory of 256 sessions    171 MB (the sessions 19 of them), AsyncVectorEnv 3,351 MB: 19.6 times as much
    episodes of 0.1 s, set-up 1 s, 1 session       0.9 episodes/s without prefetch, 9.6 with 20 sessions ahead; ideal 10
    the same, 2 sessions                           1.8 without, 18.9 with 40 ahead; ideal 20

Steps of 0.1 s that end no episode reach 0.97 (1 session) and 0.95 (2) of the ideal: the messages' own time. Prefetch reaches
0.99 of that. With more sessions the server, which spends some 2 ms of a core on a message, is what limits.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from openreward.environments import Environment, tool
from openreward.environments import types as wire
from pydantic import BaseModel

import openreward_gym
from openreward_gym.envs.vector import OpenRewardVectorEnv

SETUP_S, EPISODE_S = 1.0, 0.1
MEDIAN_S, SIGMA, LONGEST_S = 0.5, 1.2, 25.0


class Seconds(BaseModel):
    seconds: float


class Slow(Environment):  # type: ignore[misc]
    """Takes as long as it is told: to be set up, and to answer."""

    @classmethod
    def list_splits(cls) -> list[str]:
        return ["train"]

    @classmethod
    def list_tasks(cls, split: str) -> list[dict[str, Any]]:
        return [{"setup_s": 0.0}]

    async def setup(self) -> None:
        await asyncio.sleep(self.task_spec["setup_s"])

    def get_prompt(self) -> list[wire.TextBlock]:
        return [wire.TextBlock(text="Wait.")]

    @tool  # type: ignore[untyped-decorator]
    async def work(self, params: Seconds) -> wire.ToolOutput:
        """Takes a while, and brings two kilobytes."""
        await asyncio.sleep(params.seconds)
        return wire.ToolOutput(blocks=[wire.TextBlock(text="x" * 2048)])

    @tool  # type: ignore[untyped-decorator]
    async def finish(self, params: Seconds) -> wire.ToolOutput:
        """Takes a while, and ends the episode."""
        await asyncio.sleep(params.seconds)
        return wire.ToolOutput(blocks=[wire.TextBlock(text="over")], reward=1.0, finished=True)


class SlowToSetUp(Slow):
    """Tasks that take a second to be set up."""

    @classmethod
    def list_tasks(cls, split: str) -> list[dict[str, Any]]:
        return [{"setup_s": SETUP_S}]


def work(seconds: float) -> dict[str, Any]:
    return {"name": "work", "arguments": {"seconds": float(seconds)}}


def durations(rng: np.random.Generator, n: int) -> list[float]:
    """Heavy-tailed step times in seconds."""
    return [float(s) for s in np.minimum(MEDIAN_S * rng.lognormal(0.0, SIGMA, n), LONGEST_S)]


def asynchronous(url: str, n: int) -> Any:
    return gym.make_vec("OpenReward-v0", n, vectorization_mode="async", environment="slow", base_url=url)


def ours(url: str, n: int) -> OpenRewardVectorEnv:
    return OpenRewardVectorEnv(n, environment="slow", base_url=url)


def barrier_rate(envs: Any, rounds: int) -> float:
    rng = np.random.default_rng(0)
    envs.reset(seed=0)
    begun = time.perf_counter()
    for _ in range(rounds):
        envs.step([work(seconds) for seconds in durations(rng, envs.num_envs)])
    return float(rounds * envs.num_envs / (time.perf_counter() - begun))


def partial_rate(envs: OpenRewardVectorEnv, steps: int) -> float:
    """Steps a second of envs that each get the next action as soon as they can take one."""
    rng = np.random.default_rng(0)
    envs.reset(seed=0)
    begun = time.perf_counter()
    envs.send([work(seconds) for seconds in durations(rng, envs.num_envs)])
    received = 0
    while received < steps:
        ids = envs.recv(min_envs=max(1, envs.num_envs // 16))[4]["env_id"]
        received += len(ids)
        envs.send([work(seconds) for seconds in durations(rng, len(ids))], ids)
    return received / (time.perf_counter() - begun)


def tail(url: str, n: int) -> None:
    with ours(url, n) as envs:
        partial = partial_rate(envs, 16 * n)
        print(f"recv(min_envs={max(1, n // 16)}) of {n}: {partial:8.1f} steps/s")
    with ours(url, n) as envs:
        print(f"step of {n}:              {barrier_rate(envs, 4):8.1f} steps/s")
    envs = asynchronous(url, n)
    barrier = barrier_rate(envs, 4)
    envs.close()
    print(f"AsyncVectorEnv of {n}:    {barrier:8.1f} steps/s; recv is {partial / barrier:.1f} times as fast")


def children(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(inner for child in found for inner in children(child))]


def megabytes(pids: list[int]) -> float:
    """Memory of some processes, what they share counted once (proportional set size)."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def memory(url: str, n: int) -> None:
    server = set(children(os.getpid())) - {os.getpid()}
    before = megabytes([os.getpid()])
    with ours(url, n) as envs:
        envs.reset(seed=0)
        envs.step([work(0.0)] * n)
        one = megabytes([os.getpid()])
    print(f"{n} sessions: {one:8.0f} MB, of which the sessions {one - before:.0f}")
    envs = asynchronous(url, n)
    envs.reset(seed=0)
    envs.step([work(0.0)] * n)
    many = megabytes([pid for pid in children(os.getpid()) if pid not in server])
    envs.close()
    print(f"AsyncVectorEnv of {n}: {many:8.0f} MB, {many / one:.1f} times as much")


def steps_rate(envs: OpenRewardVectorEnv, tool: str, seconds: float) -> float:
    """Steps of EPISODE_S a second: episodes, where the tool ends them."""
    action = {"name": tool, "arguments": {"seconds": EPISODE_S}}
    envs.send([action] * envs.num_envs)
    begun, ended = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        ids = envs.recv()[4]["env_id"]
        ended += len(ids)
        envs.send([action] * len(ids), ids)
    return ended / (time.perf_counter() - begun)


def prefetch(url: str, n: int) -> None:
    ahead = round(2 * n * SETUP_S / EPISODE_S)
    ideal = n / EPISODE_S
    print(f"set-up and messages free:        {ideal:6.1f} episodes/s")
    with OpenRewardVectorEnv(n, environment="slow", base_url=url) as envs:
        envs.reset(seed=0)
        steps = steps_rate(envs, "work", 10.0)
    print(f"steps that end no episode:       {steps:6.1f} a second, {steps / ideal:.2f} of that: the messages' share")
    for environment, depth in (("slow", 0), ("slow", ahead), ("slowtosetup", 0), ("slowtosetup", ahead)):
        with OpenRewardVectorEnv(
            n, environment=environment, base_url=url, prefetch=depth, share_tasks=True, autoreset_mode="SAME_STEP"
        ) as envs:
            envs.reset(seed=0)
            while depth and envs.stats()["ready_ahead"] < depth:
                time.sleep(0.05)
            rate = steps_rate(envs, "finish", 10.0)
            setup_s = SETUP_S if environment == "slowtosetup" else 0.0
            print(
                f"set-up {setup_s:.0f} s, prefetch={depth:3}: {rate:6.1f} episodes/s, {rate / ideal:.2f} of the first, "
                f"{rate / steps:.2f} of the second"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tail", "memory", "prefetch"])
    parser.add_argument("--num-envs", type=int, default=16)
    given = parser.parse_args()
    with openreward_gym.serve.local([Slow, SlowToSetUp]) as url:
        {"tail": tail, "memory": memory, "prefetch": prefetch}[given.what](url, given.num_envs)


if __name__ == "__main__":
    main()
