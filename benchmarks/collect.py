"""Episodes a second and memory of `collect`: `python benchmarks/collect.py [--episodes 2000] [--concurrency 32] [--rounds 5]`.

Three questions, each answered side by side in one run, rounds taken in turn, medians shown:

1. The official SDK's server with the built-in `reasoning` environment and a policy that answers at once: `collect`, everything
   recorded and summed up, beside the same requests sent by the protocol's bare client, nothing recorded (the server's ceiling).
2. A server whose answers are prebuilt bytes (tests/servers/prebuilt.py), so that clients are what is measured: `collect` beside
   the official SDK driven by asyncio, with its own rollout logging on (the same server takes its rollouts).
3. The process's memory after 1,000 and after `--memory` episodes of `reasoning`.

Seen on 2 cores, nothing else running, Python 3.11, `--episodes 1500 --rounds 3`; episodes a second, milliseconds of CPU each:

    prebuilt server     bare 2,305 (0.43), collect 990 (1.01), official 111 (9.45): 8.9 times the official SDK
    SDK's server        collect 214 (1.71), bare 246 (0.90): 0.87 of the ceiling (under load 1.4 and 4 it was 0.91 and 1.01)
    memory, prebuilt    74.0 MB after 1,000 episodes, 75.1 MB after 10,000, 77.8 MB after 20,000
    memory, SDK's       74.5 MB after 1,000 episodes, 90.2 MB after 10,000 (load 13)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "servers"))

from launch import served

from openreward_gym import AssistantMessage, Client, collect, serve
from openreward_gym.types import Message, ToolSet

ANSWER = "<answer>42</answer>"
PREBUILT = Path(__file__).resolve().parent.parent / "tests" / "servers" / "prebuilt.py"


async def answer(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    return AssistantMessage(ANSWER)


async def many(episode: Callable[[int], Awaitable[None]], episodes: int, concurrency: int) -> float:
    """Seconds for `episodes` of them, `concurrency` at once."""
    numbers = iter(range(episodes))

    async def work() -> None:
        for number in numbers:
            await episode(number)

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return time.perf_counter() - begun


async def bare(url: str, name: str, episodes: int, concurrency: int) -> float:
    """The requests of an episode, by the protocol's client alone."""
    async with Client(url) as client:
        environment = client.environment(name)

        async def episode(number: int) -> None:
            await environment.task("train", number)
            async with environment.session(split="train", index=number) as session:
                await session.messages()
                await session.tools()
                await session.call_terminal(ANSWER)

        return await many(episode, episodes, concurrency)


def ours(url: str, name: str, episodes: int, concurrency: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        result = collect(
            name,
            answer,
            base_url=url,
            tasks=range(episodes),
            concurrency=concurrency,
            output=Path(folder) / "run",
            progress=False,
        )
        seconds = time.perf_counter() - begun
        assert result.coverage.successful == episodes
        assert result.metrics.mean_reward is not None
    return seconds


async def official(url: str, name: str, episodes: int, concurrency: int) -> float:
    """The official SDK as its documents have it: a session, its prompt and tools, a call, every message logged."""
    os.environ |= {"OPENREWARD_API_URL": url, "OPENREWARD_SESSION_URL": url, "OPENREWARD_DISABLE_UPDATE_CHECK": "1"}
    import openreward

    logging.disable(logging.WARNING)
    client: Any = openreward.AsyncOpenReward(api_key="of-the-benchmark")
    environment = client.environments.get(name, base_url=url)

    async def episode(number: int) -> None:
        task = await environment.get_task("train", number)
        rollout = client.rollout.create(run_name="benchmark", environment=name, split="train", task_spec=task.task_spec)
        async with environment.session(task) as session:
            prompt = await session.get_prompt()
            await session.list_tools()
            rollout.log(openreward.UserMessage("".join(block.text for block in prompt)))
            rollout.log(openreward.AssistantMessage(ANSWER))
            output = await session.call_tool("answer", {"message": ANSWER})
            text = "".join(block.text for block in output.blocks)
            rollout.log(openreward.ToolResult(text, call_id="0"), reward=output.reward, is_finished=output.finished)

    begun = time.perf_counter()
    await many(episode, episodes, concurrency)
    client.rollout.close()
    seconds = time.perf_counter() - begun
    await client.environments.aclose()
    return seconds


def alone(what: str, url: str, name: str, episodes: int, concurrency: int) -> dict[str, float]:
    """Episodes a second and CPU milliseconds an episode of one of the three, in a process of its own, warm."""
    command = [sys.executable, __file__, "--one", what, url, name, str(episodes), str(concurrency)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{what}: {ran.stderr[-2000:]}")
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def one(what: str, url: str, name: str, episodes: int, concurrency: int) -> None:
    def run(count: int) -> float:
        if what == "collect":
            return ours(url, name, count, concurrency)
        return asyncio.run((bare if what == "bare" else official)(url, name, count, concurrency))

    run(min(2 * concurrency, episodes))
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = run(episodes)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"per_second": episodes / seconds, "cpu_ms": 1000 * cpu / episodes}))


def compared(title: str, kinds: dict[str, int], url: str, name: str, concurrency: int, rounds: int) -> None:
    """`kinds`: what is measured, with how many episodes; the others' ratio to the last is shown."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, episodes in kinds.items():
            found[kind].append(alone(kind, url, name, episodes, concurrency))
    print(f"\n{title}, {concurrency} at once, medians of {rounds} rounds (least to most)")
    last = statistics.median(figure["per_second"] for figure in found[list(kinds)[-1]])
    for kind, figures in found.items():
        rates = sorted(figure["per_second"] for figure in figures)
        middle = statistics.median(rates)
        cpu = statistics.median(figure["cpu_ms"] for figure in figures)
        span = f"{rates[0]:.0f} to {rates[-1]:.0f}"
        print(f"  {kind:9} {middle:8.1f} episodes/s ({span}), {cpu:6.2f} ms of CPU each, x {middle / last:.2f}")


def memory_mb() -> float:
    """This process's memory now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def memory(url: str, episodes: int, concurrency: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        arguments: dict[str, Any] = {"base_url": url, "output": Path(folder) / "run", "concurrency": concurrency}
        arguments |= {"tasks": range(episodes), "progress": False}
        collect("reasoning", answer, limit=min(1000, episodes), **arguments)
        first = memory_mb()
        begun = time.perf_counter()
        result = collect("reasoning", answer, resume=True, **arguments)
        seconds = time.perf_counter() - begun
        assert result.coverage.successful == episodes
        print(f"\nmemory: {first:.1f} MB after 1,000 episodes, {memory_mb():.1f} MB after {episodes:,} ({seconds:.0f} s more)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=10_000, help="episodes; 0 leaves it out")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        what, url, name, episodes, concurrency = given.one
        one(what, url, name, int(episodes), int(concurrency))
        return
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f} before")
    with served(PREBUILT) as url:
        kinds = {"bare": given.episodes, "collect": given.episodes, "official": max(given.episodes // 8, 200)}
        compared("prebuilt server", kinds, url, "prebuilt", given.concurrency, given.rounds)
    with serve.local(["reasoning"]) as url:
        few = max(given.episodes // 4, 200)
        compared("SDK's server", {"collect": few, "bare": few}, url, "reasoning", given.concurrency, given.rounds)
        if given.memory:
            memory(url, given.memory, given.concurrency)


if __name__ == "__main__":
    main()
