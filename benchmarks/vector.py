"""Gains of partial batches, of one process for all sessions, and of sessions opened in advance, with a real server.

    python benchmarks/vector.py tail --num-envs 64
    python benchmarks/vector.py memory --num-envs 256
    python benchmarks/vector.py prefetch --num-envs 4

Results on 2 idle cores, Python 3.11, Gymnasium 1.4:

    64 sessions, median step 0.5 s                 recv 68.0 steps/s, step 7.1, AsyncVectorEnv 7.2: 9.4 times as fast
    memory of 256 sessions    171 MB (19 MB for the sessions), AsyncVectorEnv 3,351 MB: 19.6 times as much
    episodes of 0.1 s, set-up 1 s, 1 session       0.9 episodes/s without prefetch, 9.6 with 20 sessions in advance; ideal 10
    the same, 2 sessions                           1.8 without, 18.9 with 40 in advance; ideal 20

Steps of 0.1 s that do not end the episode reach 0.97 (1 session) and 0.95 (2 sessions) of the ideal rate; messages take the rest
of the time. Prefetch reaches 0.99 of that. With more sessions the server is the bottleneck: it spends about 2 ms of a core per
message.
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
    """An environment whose set-up and answers take configurable times."""

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
        """Wait, then return two kilobytes."""
        await asyncio.sleep(params.seconds)
        return wire.ToolOutput(blocks=[wire.TextBlock(text="x" * 2048)])

    @tool  # type: ignore[untyped-decorator]
    async def finish(self, params: Seconds) -> wire.ToolOutput:
        """Wait, then end the episode."""
        await asyncio.sleep(params.seconds)
        return wire.ToolOutput(blocks=[wire.TextBlock(text="over")], reward=1.0, finished=True)


class SlowToSetUp(Slow):
    """An environment whose tasks take a second to set up."""

    @classmethod
    def list_tasks(cls, split: str) -> list[dict[str, Any]]:
        return [{"setup_s": SETUP_S}]


def work(seconds: float) -> dict[str, Any]:
    return {"name": "work", "arguments": {"seconds": float(seconds)}}


def durations(rng: np.random.Generator, n: int) -> list[float]:
    """Draw heavy-tailed step durations in seconds."""
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
    """Return steps per second when each env gets its next action as soon as it is free."""
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
    direct = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(inner for child in direct for inner in children(child))]


def megabytes(pids: list[int]) -> float:
    """Return the memory of processes in MB; shared pages count once (proportional set size)."""
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
    """Return steps of EPISODE_S per second; with a tool that ends the episode, episodes per second."""
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
    print(f"ideal, set-up and messages free: {ideal:6.1f} episodes/s")
    with OpenRewardVectorEnv(n, environment="slow", base_url=url) as envs:
        envs.reset(seed=0)
        steps = steps_rate(envs, "work", 10.0)
    print(f"steps within an episode:         {steps:6.1f} per second, {steps / ideal:.2f} of the ideal: the cost of messages")
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
                f"set-up {setup_s:.0f} s, prefetch={depth:3}: {rate:6.1f} episodes/s, {rate / ideal:.2f} of the ideal, "
                f"{rate / steps:.2f} of the steps"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurement", choices=["tail", "memory", "prefetch"])
    parser.add_argument("--num-envs", type=int, default=16)
    options = parser.parse_args()
    with openreward_gym.serve.local([Slow, SlowToSetUp]) as url:
        {"tail": tail, "memory": memory, "prefetch": prefetch}[options.measurement](url, options.num_envs)


if __name__ == "__main__":
    main()
