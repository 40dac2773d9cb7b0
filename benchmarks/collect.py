"""Episodes a second and memory of `collect`: `python benchmarks/collect.py [--episodes 2000] [--concurrency 32]`.

Against the official SDK's server (in a process of its own) with the built-in `reasoning` environment and a policy that answers
at once, so that what is measured is the engine, the recording and the server. Printed are: sessions played with the protocol's
client alone, nothing recorded (what the server gives on this machine); the same number with `collect`, everything recorded and
summed up; and what memory that took.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import time
from pathlib import Path

from openreward_gym import AssistantMessage, Client, collect, serve
from openreward_gym.types import Message, ToolSet


async def answer(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    return AssistantMessage("<answer>42</answer>")


async def alone(url: str, episodes: int, concurrency: int) -> float:
    """Seconds for `episodes` sessions, each opened, asked for its task, prompt and tools, answered and closed."""
    numbers = iter(range(episodes))
    async with Client(url) as client:
        environment = client.environment("reasoning")

        async def work() -> None:
            for number in numbers:
                await environment.task("train", number)
                async with environment.session(split="train", index=number) as session:
                    await session.messages()
                    await session.tools()
                    await session.call_terminal("<answer>42</answer>")

        begun = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return time.perf_counter() - begun


def memory_mb() -> float:
    """This process's memory now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=32)
    given = parser.parse_args()
    with serve.local(["reasoning"]) as url, tempfile.TemporaryDirectory() as folder:
        asyncio.run(alone(url, 18 * 4, given.concurrency))
        seconds = asyncio.run(alone(url, given.episodes, given.concurrency))
        print(f"protocol alone: {given.episodes / seconds:8.1f} episodes/s")
        half = given.episodes // 2
        run = {"base_url": url, "output": Path(folder) / "run", "concurrency": given.concurrency, "progress": False}
        begun = time.perf_counter()
        collect("reasoning", answer, tasks=range(given.episodes), limit=half, **run)
        after_half = memory_mb()
        result = collect("reasoning", answer, tasks=range(given.episodes), resume=True, **run)
        ours = time.perf_counter() - begun
        print(f"collect:        {result.coverage.successful / ours:8.1f} episodes/s ({seconds / ours:.2f} of the protocol alone)")
        print(f"memory:         {after_half:8.1f} MB after {half} episodes, {memory_mb():.1f} MB after {given.episodes}")


if __name__ == "__main__":
    main()
