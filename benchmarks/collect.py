"""Episodes per second and memory of `collect`: `python benchmarks/collect.py [--episodes 2000] [--concurrency 32] [--rounds 5]`.

Three measurements in one run. The compared programs take turns in rounds, and medians are shown:

1. The official SDK's server with the built-in `reasoning` environment and a policy that answers at once: `collect`, which records
   and summarizes everything, beside the protocol's client, which sends the same requests and records nothing (the server's
   ceiling).
2. A server with prebuilt answers (tests/servers/prebuilt.py), so that the clients are the bottleneck: `collect` beside the
   official SDK on asyncio, with its own rollout logging enabled (the same server receives its rollouts).
3. The memory of the process after 1,000 and after `--memory` episodes of `reasoning`.

Results on 2 idle cores, Python 3.11, `--episodes 1500 --rounds 3`; episodes per second, and milliseconds of CPU per episode:

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
    """Return the seconds that `episodes` episodes take, `concurrency` at a time."""
    numbers = iter(range(episodes))

    async def work() -> None:
        for number in numbers:
            await episode(number)

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return time.perf_counter() - begun


async def bare(url: str, name: str, episodes: int, concurrency: int) -> float:
    """Send the requests of an episode with the protocol's client alone."""
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
    """Use the official SDK as its documentation does: a session, its prompt and tools, one call, all messages logged."""
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


def measured(client: str, url: str, name: str, episodes: int, concurrency: int) -> dict[str, float]:
    """Return episodes per second and CPU milliseconds per episode of one client, in a separate process, after a warm-up."""
    command = [sys.executable, __file__, "--one", client, url, name, str(episodes), str(concurrency)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{client}: {ran.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return figures


def one(client: str, url: str, name: str, episodes: int, concurrency: int) -> None:
    def run(count: int) -> float:
        if client == "collect":
            return ours(url, name, count, concurrency)
        return asyncio.run((bare if client == "bare" else official)(url, name, count, concurrency))

    run(min(2 * concurrency, episodes))
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = run(episodes)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"per_second": episodes / seconds, "cpu_ms": 1000 * cpu / episodes}))


def compare(title: str, clients: dict[str, int], url: str, name: str, concurrency: int, rounds: int) -> None:
    """Print the figures of `clients` (name -> episodes) and the ratio of each to the last client."""
    results: dict[str, list[dict[str, float]]] = {client: [] for client in clients}
    for _ in range(rounds):
        for client, episodes in clients.items():
            results[client].append(measured(client, url, name, episodes, concurrency))
    print(f"\n{title}, {concurrency} at once, medians of {rounds} rounds (minimum to maximum)")
    last = statistics.median(figure["per_second"] for figure in results[list(clients)[-1]])
    for client, figures in results.items():
        rates = sorted(figure["per_second"] for figure in figures)
        middle = statistics.median(rates)
        cpu = statistics.median(figure["cpu_ms"] for figure in figures)
        span = f"{rates[0]:.0f} to {rates[-1]:.0f}"
        print(f"  {client:9} {middle:8.1f} episodes/s ({span}), {cpu:6.2f} ms of CPU each, x {middle / last:.2f}")


def memory_mb() -> float:
    """Return the resident memory of this process in MB."""
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
    parser.add_argument("--memory", type=int, default=10_000, help="episodes of the memory measurement; 0 skips it")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        client, url, name, episodes, concurrency = options.one
        one(client, url, name, int(episodes), int(concurrency))
        return
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f} before")
    with served(PREBUILT) as url:
        clients = {"bare": options.episodes, "collect": options.episodes, "official": max(options.episodes // 8, 200)}
        compare("prebuilt server", clients, url, "prebuilt", options.concurrency, options.rounds)
    with serve.local(["reasoning"]) as url:
        few = max(options.episodes // 4, 200)
        compare("SDK's server", {"collect": few, "bare": few}, url, "reasoning", options.concurrency, options.rounds)
        if options.memory:
            memory(url, options.memory, options.concurrency)


if __name__ == "__main__":
    main()
