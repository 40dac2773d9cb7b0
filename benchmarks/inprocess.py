"""Cost of an environment in this process, beside the same environment on a server of this machine.

    python benchmarks/inprocess.py [CALLS]

Calls of one tool, and complete episodes (reset, one step, end) of the tests' environment `echo`: over HTTP with the client's own
transport, over HTTP with httpx, and in this process. The three take turns, five times; each figure is the median. CPU is the user
and system time of this process and, over HTTP, of the server process (measured on Linux only).

Results on 2 idle cores, Python 3.11, openreward 0.1.167:

                                      per second   CPU: client    server  together
    calls, 1 at once      in process    14.1 times fast's, 15.7 times less CPU
    calls, 16 at once     fast               991        114 us  1,025 us  1,144 us
                          httpx              671      1,484 us    875 us  2,337 us
                          in process      15,473         65 us         -     65 us    15.0 times fast's, 16.9 times less CPU
    episodes of one step  fast               210      1,451 us  4,375 us  5,826 us
                          httpx              118      6,653 us  4,500 us 11,061 us
                          in process         747      1,338 us         -  1,338 us    3.6 times fast's, 4.3 times less CPU

An episode constructs an environment, asks for its prompt and closes it, each in a worker thread, as the SDK's server does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "servers"))

from environments import Echo

from openreward_gym import Client, OpenRewardEnv, serve

ROUNDS = 5
TEXT = {"text": "x" * 200}


class Cost(NamedTuple):
    per_s: float
    client_us: float
    server_us: float


servers: list[int] = []
"""Process ids of running servers."""


def used() -> tuple[float, float]:
    """Return the CPU seconds used by this process and by the servers."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ticks = 0
    for pid in servers:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return own.ru_utime + own.ru_stime, ticks / os.sysconf("SC_CLK_TCK")


async def measured(count: int, work: Awaitable[None]) -> Cost:
    """Return the rate per second, and the CPU time of each process per unit of work."""
    before, began = used(), time.perf_counter()
    await work
    took_s, after = time.perf_counter() - began, used()
    client_us, server_us = ((b - a) / count * 1e6 for a, b in zip(before, after, strict=True))
    return Cost(count / took_s, client_us, server_us)


async def calls(sessions: int, count: int, base_url: str, transport: Any) -> Cost:
    """Measure `count` calls, shared by concurrent sessions."""
    async with Client(base_url, transport=transport) as client:
        opened = [client.environment("echo").session(split="train", index=0) for _ in range(sessions)]
        await asyncio.gather(*[session.open() for session in opened])

        async def play(session: Any, number: int) -> None:
            for _ in range(number):
                await session.call("echo", TEXT)

        await asyncio.gather(*[play(session, 5) for session in opened])
        work = asyncio.gather(*[play(session, count // sessions) for session in opened])

        async def wait() -> None:
            await work

        return await measured(count // sessions * sessions, wait())


async def episodes(count: int, **where: Any) -> Cost:
    """Measure `count` episodes of one step, one after the other."""
    env = OpenRewardEnv(**where)

    async def play(number: int) -> None:
        for _ in range(number):
            await env.areset(options={"task_index": 0})
            await env.astep({"name": "finish", "arguments": {"text": "right"}})

    await play(5)
    cost = await measured(count, play(count))
    await env.aclose()
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "calls", nargs="?", type=int, default=400, help="calls over HTTP per measurement; ten times as many in process"
    )
    count = parser.parse_args().calls
    host = serve.in_process(Echo)
    server = serve.local(Echo)
    with server as url:
        servers.append(server.pid or os.getpid())
        remote: dict[str, Any] = {"environment": "echo", "base_url": url}
        transports: dict[str, dict[str, Callable[[], Awaitable[Cost]]]] = {}
        for sessions in (1, 16):
            transports[f"calls, {sessions} at once"] = {
                "fast": lambda n=sessions: calls(n, count, url, "fast"),  # type: ignore[misc]
                "httpx": lambda n=sessions: calls(n, count, url, "httpx"),  # type: ignore[misc]
                "in process": lambda n=sessions: calls(n, count * 10, host.base_url, host),  # type: ignore[misc]
            }
        transports["episodes of one step"] = {
            "fast": lambda: episodes(count // 5, **remote, transport="fast"),
            "httpx": lambda: episodes(count // 5, **remote, transport="httpx"),
            "in process": lambda: episodes(count, environment=Echo),
        }
        print(f"{platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        print(f"{'':38}{'per second':>10}{'CPU: client':>14}{'server':>10}{'together':>10}")
        for workload, measurements in transports.items():
            costs: dict[str, list[Cost]] = {transport: [] for transport in measurements}
            for _ in range(ROUNDS):
                for transport, measure in measurements.items():
                    costs[transport].append(asyncio.run(_awaited(measure)))
            for transport, repeated in costs.items():
                per_s, client_us, server_us = (statistics.median(column) for column in zip(*repeated, strict=True))
                both_us = statistics.median(cost.client_us + cost.server_us for cost in repeated)
                print(f"{workload:24}{transport:14}{per_s:>10,.0f}{client_us:>11,.0f} us{server_us:>7,.0f} us{both_us:>7,.0f} us")
            pairs = list(zip(costs["in process"], costs["fast"], strict=True))
            faster = statistics.median(here.per_s / there.per_s for here, there in pairs)
            cheaper = statistics.median((there.client_us + there.server_us) / here.client_us for here, there in pairs)
            print(f"{'':24}in process against fast: {faster:.1f} times the rate, {cheaper:.1f} times less CPU\n")


async def _awaited(measure: Callable[[], Awaitable[Cost]]) -> Cost:
    return await measure()


if __name__ == "__main__":
    main()
