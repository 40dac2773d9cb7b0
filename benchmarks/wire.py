"""Cost of a request for the client: our transports, the official SDK's clients, httpx, and a bare socket, side by side.

    python benchmarks/wire.py [--server cheap|sdk|both] [--sessions 1,16,64,256,1024] [--clients "NAME;..."] [--runs 5]
                              [--seconds 2] [--payload 200] [--uvloop]
    python benchmarks/wire.py --minutes 10 [--server cheap|sdk] [--sessions 1024] [--clients fast]

Each client plays the same episodes (create, prompt, ten calls, delete: fifteen requests) in a separate process, with the given
numbers of concurrent sessions. The clients take turns within each run, so that other load on the machine affects all of them.
Each figure is the median over the runs. A run takes `--seconds`, or longer where many sessions need it for two episodes each
(with the SDK's server 13 s at 256 sessions, 51 s at 1,024). `CPU us` is the client's CPU time per request (getrusage). `server`
is the server's CPU time as a share of one core. `x limit` and `x official` are ratios of CPU time, computed run by run, and `rate
x official` is the ratio of requests per second. `--payload 1024,16384,262144,4194304` measures results of those sizes, with the
cheap server. `--minutes` shows whether memory stays flat: it prints the client's MiB above the imports after each minute. The
cheap server (wire_server.py) sends prebuilt answers, so that the client is the bottleneck; with the SDK's server, the server is.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "servers"))

from launch import served
from wire_clients import ALL_NAMES, NAMES

HERE = Path(__file__).parent
LIMIT = "limit"
OFFICIAL = "official async"
LIBRARIES = ("openreward", "httpx", "aiohttp", "httpx-aiohttp", "httptools", "orjson", "uvloop")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
Cell = dict[str, float]
Cells = dict[tuple[str, int], list[Cell]]


class Player:
    """A client that plays in a separate process."""

    def __init__(self, name: str, url: str, loop: str) -> None:
        self.name, self.url, self.loop = name, url, loop
        self.begin()

    def begin(self) -> None:
        quiet = {"OPENREWARD_DISABLE_UPDATE_CHECK": "1", "OPENREWARD_LOG_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore"}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in `close`
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "wire_clients.py"), self.name, self.url, self.loop],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, **quiet, "OPENREWARD_API_KEY": ""},
            text=True,
        )
        self.receive()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            raise RuntimeError(f"{self.name} ended: {' '.join(self.errors.read().split()[-30:])}")
        message: dict[str, Any] = json.loads(line)
        return message

    def play(self, sessions: int, seconds: float, server: int) -> Cell:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"sessions": sessions, "seconds": seconds}) + "\n")
        self.process.stdin.flush()
        self.receive()
        before = used_by(server)
        self.receive()
        used_s = used_by(server) - before
        cell: Cell = self.receive()
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            # Some of its episodes did not end in time.
            self.close()
            self.begin()
        return {**cell, "server": 100 * used_s / seconds}

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def used_by(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


@contextmanager
def serving(kind: str, payload: int) -> Iterator[tuple[str, int]]:
    """Run a server; yield its URL and process id."""
    if kind == "sdk":
        with served() as url:
            port = int(url.rpartition(":")[2])
            yield url, _listening_on(port)
        return
    process = subprocess.Popen(
        [sys.executable, str(HERE / "wire_server.py"), str(payload)], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
    finally:
        process.kill()
        process.communicate()


def _listening_on(port: int) -> int:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(port).encode() in words and any(word.endswith(b"environments.py") for word in words):
                return int(folder.name)
    raise RuntimeError(f"no server listens on port {port}")


@dataclass(frozen=True)
class Plan:
    clients: Sequence[str]
    sessions: Sequence[int]
    runs: int
    seconds: float
    loop: str


def measured(kind: str, payload: int, plan: Plan) -> Cells:
    cells: Cells = defaultdict(list)
    with ExitStack() as stack:
        url, pid = stack.enter_context(serving(kind, payload))
        players: list[Player] = []
        for name in plan.clients:
            try:
                player = Player(name, url, plan.loop)
            except RuntimeError as error:
                print(f"left out (is its library installed?): {error}")
                continue
            stack.callback(player.close)
            players.append(player)
        for run in range(plan.runs):
            for count in plan.sessions:
                # Reversed in every second run, because the first client may meet a colder machine.
                for player in players[:: 1 if run % 2 == 0 else -1]:
                    try:
                        # Long enough for each session to play complete episodes, because creating, calling and deleting cost
                        # client and server different times.
                        seconds = max(plan.seconds, count / (64 if kind == "cheap" else 20))
                        cells[player.name, count].append(player.play(count, seconds, pid))
                    except RuntimeError as error:
                        print(f"left out from here on: {error}")
                        players.remove(player)
    return cells


def memory(kind: str, name: str, plan: Plan, minutes: int) -> None:
    """Print the memory of a client after each minute."""
    count = plan.sessions[-1]
    with serving(kind, 200) as (url, pid):
        player = Player(name, url, plan.loop)
        try:
            for minute in range(1, minutes + 1):
                cell = player.play(count, 60.0, pid)
                print(
                    f"{name}, {count} sessions, minute {minute}: {cell['above_mib']:.1f} MiB, {cell['rate']:,.0f} requests/s",
                    flush=True,
                )
        finally:
            player.close()


def table(cells: Cells, plan: Plan) -> list[str]:
    head = (
        "client | sessions | requests/s (min-max) | p50 ms | p99 ms | CPU us (min-max) | x limit | x official | rate x official"
    )
    lines = [f"| {head} | server % | MiB | above imports |", "|---|" + "---:|" * 11]
    for count in plan.sessions:
        for name in plan.clients:
            runs = cells.get((name, count))
            if not runs:
                continue
            ratios = [
                _ratio(runs, cells.get((LIMIT, count)), "cpu_us"),
                _ratio(cells.get((OFFICIAL, count)), runs, "cpu_us"),
                _ratio(runs, cells.get((OFFICIAL, count)), "rate"),
            ]
            lines.append(
                f"| {name} | {count} | {_spread(runs, 'rate')} | {_median(runs, 'p50_ms'):.2f} | {_median(runs, 'p99_ms'):.2f} | "
                f"{_spread(runs, 'cpu_us')} | {' | '.join(ratios)} | {_median(runs, 'server'):.0f} | "
                f"{_median(runs, 'rss_mib'):.0f} | {_median(runs, 'above_mib'):.0f} |"
            )
    return lines


def _median(runs: list[Cell], figure: str) -> float:
    return statistics.median(run[figure] for run in runs)


def _spread(runs: list[Cell], figure: str) -> str:
    values = [run[figure] for run in runs]
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"


def _ratio(runs: list[Cell] | None, others: list[Cell] | None, figure: str) -> str:
    """Return the median ratio of runs that took turns."""
    if not runs or not others:
        return ""
    pairs = zip(runs, others, strict=False)
    return f"{statistics.median(one[figure] / other[figure] if other[figure] else inf for one, other in pairs):.2f}"


def versions() -> str:
    texts = []
    for name in LIBRARIES:
        try:
            texts.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            texts.append(f"no {name}")
    return ", ".join(texts)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--server", choices=("cheap", "sdk", "both"), default="both")
    parser.add_argument("--sessions", default="1,16,64,256,1024")
    parser.add_argument("--clients", default=";".join(NAMES), help="names, separated by ;")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--payload", default="200")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--minutes", type=int, default=0)
    options = parser.parse_args()
    clients = [name.strip() for name in options.clients.split(";")]
    unknown = [name for name in clients if name not in ALL_NAMES]
    if unknown:
        parser.error(f"unknown client {unknown[0]!r}: choose from {'; '.join(ALL_NAMES)}")
    plan = Plan(
        clients,
        [int(count) for count in options.sessions.split(",")],
        options.runs,
        options.seconds,
        "uvloop" if options.uvloop else "asyncio",
    )
    print(
        f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}; {versions()}"
    )
    if options.minutes:
        for name in plan.clients if options.clients != ";".join(NAMES) else ["fast"]:
            memory("sdk" if options.server == "sdk" else "cheap", name, plan, options.minutes)
        return
    print(f"medians of {plan.runs} runs of {plan.seconds:g} s, in turns; {plan.loop}")
    for kind in ("cheap", "sdk") if options.server == "both" else (options.server,):
        for payload in [int(size) for size in options.payload.split(",")] if kind == "cheap" else [100]:
            print(f"\n## {'The cheap server' if kind == 'cheap' else 'The SDK server'}, results of {payload} characters\n")
            print("\n".join(table(measured(kind, payload, plan), plan)), flush=True)


if __name__ == "__main__":
    main()
