"""What a request costs its client: our transports, the official SDK's clients, httpx, and a bare socket, side by side.

    python benchmarks/wire.py [--server cheap|sdk|both] [--sessions 1,16,64,256,1024] [--clients "NAME;..."] [--runs 5]
                              [--seconds 2] [--payload 200] [--uvloop]
    python benchmarks/wire.py --minutes 10 [--server cheap|sdk] [--sessions 1024] [--clients fast]

Every client plays the same episodes (create, prompt, ten calls, delete: fifteen requests) in a process of its own, with so
many sessions at once. The clients take turns, one cell after the other, run after run, so that what else the machine does
meets all of them; each figure is the median over the runs (of `--seconds`, and longer where many sessions need it for two
episodes each: against the SDK's server 13 s at 256, 51 s at 1,024). `CPU us` is the client's own CPU time a request
(getrusage); `server` is the server's CPU as a share of one core; `x limit` and `x official` are ratios of CPU time, taken run by
run; `rate x official` of requests a second. `--payload 1024,16384,262144,4194304` measures results of those sizes instead,
against the cheap server. `--minutes` shows whether memory stays flat: the client plays for so long, and its MiB above the imports
are printed after each minute. The cheap server (wire_server.py) is prebuilt answers, so that the client is what is measured; the
SDK's own is the bottleneck.
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
    """A client in its process."""

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
        self.heard()

    def heard(self) -> dict[str, Any]:
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
        self.heard()
        before = used_by(server)
        self.heard()
        used_s = used_by(server) - before
        cell: Cell = self.heard()
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            # It had episodes that did not come to an end.
            self.close()
            self.begin()
        return {**cell, "server": 100 * used_s / seconds}

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def used_by(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


@contextmanager
def serving(kind: str, payload: int) -> Iterator[tuple[str, int]]:
    """The URL and the process of a server."""
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
                # Turned around every other time: whoever comes first may find a colder machine.
                for player in players[:: 1 if run % 2 == 0 else -1]:
                    try:
                        # Long enough for every session to play whole episodes, and not only to create one: creating, calling
                        # and deleting cost client and server different times.
                        seconds = max(plan.seconds, count / (64 if kind == "cheap" else 20))
                        cells[player.name, count].append(player.play(count, seconds, pid))
                    except RuntimeError as error:
                        print(f"left out from here: {error}")
                        players.remove(player)
    return cells


def memory(kind: str, name: str, plan: Plan, minutes: int) -> None:
    """Print, minute by minute, what a client holds."""
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


def _median(runs: list[Cell], what: str) -> float:
    return statistics.median(run[what] for run in runs)


def _spread(runs: list[Cell], what: str) -> str:
    values = [run[what] for run in runs]
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"


def _ratio(runs: list[Cell] | None, others: list[Cell] | None, what: str) -> str:
    """The median of the ratios of runs that were neighbours."""
    if not runs or not others:
        return ""
    pairs = zip(runs, others, strict=False)
    return f"{statistics.median(one[what] / other[what] if other[what] else inf for one, other in pairs):.2f}"


def versions() -> str:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--server", choices=("cheap", "sdk", "both"), default="both")
    parser.add_argument("--sessions", default="1,16,64,256,1024")
    parser.add_argument("--clients", default=";".join(NAMES), help="names, with ; between them")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--payload", default="200")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--minutes", type=int, default=0)
    given = parser.parse_args()
    clients = [name.strip() for name in given.clients.split(";")]
    unknown = [name for name in clients if name not in ALL_NAMES]
    if unknown:
        parser.error(f"no client {unknown[0]!r}: choose of {'; '.join(ALL_NAMES)}")
    plan = Plan(
        clients,
        [int(count) for count in given.sessions.split(",")],
        given.runs,
        given.seconds,
        "uvloop" if given.uvloop else "asyncio",
    )
    print(
        f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}; {versions()}"
    )
    if given.minutes:
        for name in plan.clients if given.clients != ";".join(NAMES) else ["fast"]:
            memory("sdk" if given.server == "sdk" else "cheap", name, plan, given.minutes)
        return
    print(f"medians of {plan.runs} runs of {plan.seconds:g} s, in turn; {plan.loop}")
    for kind in ("cheap", "sdk") if given.server == "both" else (given.server,):
        for payload in [int(size) for size in given.payload.split(",")] if kind == "cheap" else [100]:
            print(f"\n## {'The cheap server' if kind == 'cheap' else 'The SDK server'}, results of {payload} characters\n")
            print("\n".join(table(measured(kind, payload, plan), plan)), flush=True)


if __name__ == "__main__":
    main()
