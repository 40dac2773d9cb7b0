"""What a thousand idle sessions cost their client, pinged every 10 s.

    python benchmarks/keepalive.py [SESSIONS] [SECONDS]

The CPU time of the client's process as a share of one core: of the keeper alone (its pings do nothing); then, over each
transport, of the pings alone (as many requests, sent evenly by a plain loop), and of the real thing. The server runs in a process
of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "servers"))

from fault_server import FaultServer

from openreward_gym.protocol.client import Client
from openreward_gym.protocol.keepalive import KeepAlive
from openreward_gym.protocol.loop import background_loop
from openreward_gym.protocol.session import Session
from openreward_gym.protocol.transport import TRANSPORTS

INTERVAL_S = 10.0


class Idle:
    """A session whose ping does nothing."""

    async def ping(self) -> None:
        return

    def mark_lost(self, reason: str) -> None:
        raise AssertionError(reason)


async def measured(seconds: float) -> float:
    """The share of one core that this process uses while it waits, in percent."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    await asyncio.sleep(seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 100.0 * used / (time.perf_counter() - began)


async def keeper_alone(count: int, seconds: float) -> float:
    sessions = [Idle() for _ in range(count)]
    keeper = KeepAlive(background_loop(), INTERVAL_S)
    for session in sessions:
        keeper.add(session)
    share = await measured(seconds)
    for session in sessions:
        keeper.discard(session)
    return share


async def in_turn(sessions: list[Session], ping: Callable[[Session], Coroutine[Any, Any, None]], seconds: float) -> float:
    """Pings as evenly as the keeper's, from a plain loop."""

    async def turn() -> None:
        due = time.perf_counter()
        while True:
            for session in sessions:
                due += INTERVAL_S / len(sessions)
                await asyncio.sleep(max(due - time.perf_counter(), 0))
                task = asyncio.create_task(ping(session))
                running.add(task)
                task.add_done_callback(running.discard)

    running: set[asyncio.Task[None]] = set()
    task = asyncio.create_task(turn())
    share = await measured(seconds)
    task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return share


def serve(pipe: Connection) -> None:
    async def main() -> None:
        async with FaultServer() as server:
            pipe.send(server.url)
            await asyncio.to_thread(pipe.recv)

    asyncio.run(main())


async def main(count: int, seconds: float, url: str) -> None:
    versions = (
        f"Python {platform.python_version()}, httpx {httpx.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{count} sessions, pinged every {INTERVAL_S:g} s, over {seconds:g} s; {versions}")
    print(f"keeper alone, pings that do nothing   {await keeper_alone(count, seconds):6.2f} % of a core")
    for transport in TRANSPORTS:
        await over(transport, count, seconds, url)


async def over(transport: str, count: int, seconds: float, url: str) -> None:
    print(f"over {transport}")
    async with Client(url, transport=transport, ping_interval_s=3600.0) as client:
        sessions = [client.environment("fault").session(split="train", index=0) for _ in range(count)]
        for start in range(0, count, 50):
            await asyncio.gather(*[session.open() for session in sessions[start : start + 50]])
        share = await in_turn(sessions, lambda session: session.ping(), seconds)
        print(f"pings alone, from a plain loop        {share:6.2f} % of a core")
        keeper = KeepAlive(background_loop(), INTERVAL_S)
        for session in sessions:
            keeper.add(session)
        print(f"keeper and pings                      {await measured(seconds):6.2f} % of a core")
        for session in sessions:
            keeper.discard(session)
        began = time.perf_counter()
    print(f"deleting all of them                  {time.perf_counter() - began:6.2f} s")


if __name__ == "__main__":
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,))
    process.start()
    given = [*sys.argv[1:], *["1000", "20"][len(sys.argv) - 1 :]]
    asyncio.run(main(int(given[0]), float(given[1]), here.recv()))
    here.send("stop")
    process.join()
