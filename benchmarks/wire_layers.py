"""Duration of a call by layer of the client: each layer above the one below it, without the kernel.

    python benchmarks/wire_layers.py [ROUNDS]

An object replaces the socket; it answers in the event loop's next iteration with the prebuilt bytes of wire_server.py. The rest
is Python: two iterations of the event loop, the parser, the stream, the retry rule, the call itself. `limit` is the bare client
of wire.py over the same object. Each figure is the minimum of many rounds, in microseconds; the garbage collector is off.

Results on a quiet virtual machine with two cores (Python 3.11, 300 rounds), beside the state before answers had limits of size,
each question a deadline for the whole of it, and objects a check of their process (means of two runs, in turns):

                                                before    now
    limit: prebuilt bytes, the answer's end       4.3     4.4
    transport, an answer of JSON                  6.9     7.2
    transport, an event stream                    9.2     9.3
    session.call                                 18.4    20.8
    env.astep                                    44.4    47.0
"""

from __future__ import annotations

import asyncio
import gc
import json
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from typing import cast

import wire_clients
from wire_server import prebuilt

from openreward_gym import Client, OpenRewardEnv
from openreward_gym.protocol.connection import Connection
from openreward_gym.protocol.fast import FastTransport
from openreward_gym.protocol.request import Headers, Request
from openreward_gym.protocol.sse import CallStream
from openreward_gym.protocol.wire import dumps_call

URL = "http://127.0.0.1:1"
ANSWERS = prebuilt(200)
IN_A_ROUND = 100


class Wire:
    """A transport that answers requests with prebuilt bytes."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol
        self.loop = asyncio.get_running_loop()

    def write(self, data: bytes) -> None:
        begin = data.index(b" ") + 1
        path = data[begin : data.index(b" ", begin)]
        self.loop.call_soon(self.protocol.data_received, ANSWERS[path.rpartition(b"/")[2]])

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.protocol.connection_lost(None)

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return 0


def wired(protocol: asyncio.Protocol) -> None:
    protocol.connection_made(cast(asyncio.Transport, Wire(protocol)))


class Wireless(FastTransport):
    """The fast transport, with `Wire` objects in place of connections."""

    async def _connect(self, idle: dict[Connection, None], request: Request) -> Connection:
        connection = Connection(idle, self._gone, asyncio.get_running_loop())
        wired(connection)
        self._adopt(connection, asyncio.get_running_loop())
        return connection


async def least_us(work: Callable[[], Awaitable[object]], rounds: int) -> float:
    least = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(IN_A_ROUND):
            await work()
        least = min(least, (time.perf_counter() - began) / IN_A_ROUND)
    return least * 1e6


async def measured(rounds: int) -> list[tuple[str, float]]:
    limit, bare = wire_clients.Limit(URL), wire_clients.Bare()
    wired(bare)
    prebuilt_call = limit.bytes_of("POST /echo/call", "s", json.dumps({"name": "echo", "input": wire_clients.ARGUMENTS}).encode())
    transport, headers, body = Wireless(URL), Headers({"X-Session-ID": "s"}), dumps_call("echo", wire_clients.ARGUMENTS)

    async def bare_bytes() -> None:
        await bare.ask(prebuilt_call)

    async def sent() -> None:
        await transport.send(Request("POST", f"{URL}/echo/prompt", headers, body))

    async def streamed() -> None:
        await transport.send(Request("POST", f"{URL}/echo/call", headers, body, CallStream().feed))

    async with Client(URL, transport=Wireless(URL)) as client:
        session = client.environment("echo").session(split="train", index=0)
        await session.open()
        env = OpenRewardEnv("echo", base_url=URL, transport=Wireless(URL), task_index=0)
        await env.areset()
        action = {"name": "echo", "arguments": wire_clients.ARGUMENTS}
        figures = [
            ("limit: prebuilt bytes, the answer's end", await least_us(bare_bytes, rounds)),
            ("transport, an answer of JSON", await least_us(sent, rounds)),
            ("transport, an event stream", await least_us(streamed, rounds)),
            ("session.call", await least_us(lambda: session.call("echo", wire_clients.ARGUMENTS), rounds)),
            ("env.astep", await least_us(lambda: env.astep(action), rounds)),
        ]
        await env.aclose()
        await session.close()
    await transport.aclose()
    return figures


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    gc.disable()
    print(f"Python {platform.python_version()}; minimum of {rounds} rounds of {IN_A_ROUND}")
    below = 0.0
    for name, us in asyncio.run(measured(rounds)):
        print(f"{name:40} {us:6.1f} us  ({us - below:+.1f})")
        below = us


if __name__ == "__main__":
    main()
