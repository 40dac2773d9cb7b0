"""Every fault at every step of an episode: the caller's result, and the number of runs of the tool.

`python tests/servers/fault_matrix.py` writes docs/fault-matrix.md. A test compares that page with a run over every transport. It
checks in every cell that no tool ran twice, that no session was left, and that nothing exceeded its time limit.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fault_server import TEXT, Fault, FaultServer

from openreward_gym.errors import OpenRewardGymError
from openreward_gym.options import RetryLimits
from openreward_gym.protocol.client import Client

PAGE = Path(__file__).parents[2] / "docs" / "fault-matrix.md"
LIMITS = RetryLimits(attempts=3, first_wait_s=0.02, longest_wait_s=0.1, starting_s=3.0, resume_s=4.0)
SILENCE_S = 1.5
"""Seconds of silence after which a server counts as dead; the defaults are 30 and 60."""
DEADLINE_S = 20.0
"""Maximum seconds per cell: a few silences and waits, with room for a busy machine."""
FOREVER = 1000

STEPS = {
    "list": "/list_environments",
    "create_session": "/create_session",
    "create": "/create",
    "prompt": "/prompt",
    "tools": "/task_tools",
    "call": "/call",
    "resumed call": "/call",
    "ping": "/ping",
    "delete": "/delete",
}
BEFORE = dict(zip(STEPS, ["/health", *list(STEPS.values())[:6], "/call", "/ping"], strict=True))
ROUGH = Fault("cut", "task_id")


@dataclass(frozen=True)
class Row:
    """A fault, and the number of requests that meet it."""

    name: str
    fault: Fault | None
    times: int = 1
    only: tuple[str, ...] = ()


def _status(status: int, words: str = "", **headers: str) -> Fault:
    return Fault("status", status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, detail=words or "no")


ROWS = [
    Row("none", None),
    Row("connection refused for a moment", Fault("refused")),
    Row("connection refused for good", Fault("refused"), FOREVER),
    Row("reset before the request is read", Fault("reset")),
    Row("reset before the request is read, every time", Fault("reset"), FOREVER),
    Row("reset after the request was read", Fault("cut", "request")),
    Row("closed after the request was read", Fault("cut", "request", "close")),
    Row("silence after the request", Fault("cut", "request", "stall")),
    Row("reset after it ran", Fault("cut", "answer")),
    Row("reset after it ran, every time", Fault("cut", "answer"), FOREVER),
    Row("silence after it ran", Fault("cut", "answer", "stall")),
    Row("reset after the head, before task_id", Fault("cut", "head")),
    Row("silence after the head", Fault("cut", "head", "stall")),
    Row("reset after task_id", Fault("cut", "task_id")),
    Row("reset after task_id, every time", Fault("cut", "task_id"), FOREVER),
    Row("closed after task_id", Fault("cut", "task_id", "close")),
    Row("silence after task_id, no keep-alives", Fault("cut", "task_id", "stall")),
    Row("reset inside a chunk", Fault("cut", "chunk")),
    Row("silence inside a chunk", Fault("cut", "chunk", "stall")),
    Row("reset inside a UTF-8 character", Fault("cut", "utf8")),
    Row("stream ended without `end`", Fault("cut", "end", "close")),
    Row("silence after the end, body not closed", Fault("cut", "after", "stall")),
    Row("429", _status(429)),
    Row("429 with Retry-After", _status(429, Retry_After="1")),
    Row("429, every time", _status(429), FOREVER),
    Row("500", _status(500)),
    Row("502", _status(502)),
    Row("502 after it ran", Fault("status", status=502, executed=True)),
    Row("502, every time", _status(502), FOREVER),
    Row("503", _status(503)),
    Row("503 with Retry-After", _status(503, Retry_After="1")),
    Row("503 `starting`, five times", _status(503, X_Backend_State="starting", Retry_After="2"), 5),
    Row("503 `starting`, every time", _status(503, X_Backend_State="starting"), FOREVER),
    Row("504", _status(504)),
    Row("401", _status(401)),
    Row("404 Active environment not found", _status(404, "Active environment not found")),
    Row("410", _status(410, "Session deleted")),
    Row("308 in a circle", Fault("redirect_loop"), FOREVER),
    Row("308 to another server", Fault("redirect_away")),
    Row("HTML instead of JSON", Fault("html")),
    Row("wrong content type", Fault("wrong_type")),
    Row("broken JSON", Fault("not_json")),
    Row("invalid UTF-8", Fault("invalid_utf8")),
    Row("1 byte at a time", Fault("one_byte")),
    Row("gzip", Fault("gzip")),
    Row("slow headers", Fault("slow_head")),
    Row("events twice", Fault("duplicated")),
    Row("CR, CRLF and LF mixed, after a byte order mark", Fault("line_ends")),
    Row("the server forgot the task", Fault("forget"), only=("resumed call",)),
    Row("the server starts a second run", Fault("second_run"), only=("resumed call",)),
]
SECOND_RUN = "the server starts a second run"
"""The only fault in which a tool runs twice. The server starts the second run although it was asked to continue the first. The
caller gets an error."""


UNDELETABLE = {
    (name, step)
    for name, steps in {
        "connection refused for good": ("create", "prompt", "tools", "call", "resumed call", "ping", "delete"),
        "reset before the request is read, every time": ("create", "prompt", "tools", "call", "resumed call", "ping", "delete"),
        "429, every time": ("delete",),
        "502, every time": ("delete",),
        "503 `starting`, every time": ("delete",),
        "308 in a circle": ("delete",),
        "404 Active environment not found": ("delete",),
        "410": ("delete",),
        # A teardown may be at work: `/delete` is not sent again, and `/delete_session` gives the machine back.
        "silence after the request": ("delete",),
    }.items()
    for step in steps
}
"""Cells in which no session can be deleted: the server is gone for good, refuses every deletion, or denies the session."""


HEAD = """\
# The fault matrix

What a caller of `Session` sees when a fault happens at one step of an episode, and how often the tool of that episode ran.
The episode is: list the environments, open a session (`/create_session`, `/create`), read prompt and tools, make one call,
ping, close. `ok` means that the whole episode went through with every byte as it was sent. An error is raised by the step
in the column's head unless it says otherwise, and the session is deleted afterwards in every cell in which the server can
be reached. `resumed call`: the call's first stream broke after its `task_id`, and the fault meets the request that asks
for the run again.

The faults are played by a real server on real sockets, with the waits of the retry rule shortened. Every cell is the same
over the fast transport and over httpx; a test plays them all over both. This page is generated:
`python tests/servers/fault_matrix.py`."""
FOOT = """\
How to read the calls: before the server named a `task_id`, a lost connection is `OutcomeUnknownError` and the call is not
sent again, whether it ran (1) or not (0), for nobody on this side can know. After it, the run is asked for again by its
`task_id`, and the server answers with the one run. `the server starts a second run` is a server that breaks the standard:
the tool ran twice there, and the caller is told instead of being given the second result. `ProtocolError` at a call: it
ran, and what came back cannot be read."""


@dataclass(frozen=True)
class Cell:
    """The result of a fault at a step.

    Attributes:
        seen: The caller's result: `ok`, or the error's name.
        at: The step at which the error was raised; empty for `ok`.
        runs: The number of runs of the tool.
        whole: True if everything arrived as it was sent.
        left: Environments left on the server.
        seconds: The duration of the episode.
    """

    seen: str
    at: str
    runs: int
    whole: bool
    left: int
    seconds: float

    def shown(self, step: str) -> str:
        where = f" at {self.at}" if self.at and self.at != step else ""
        return f"{self.seen}{where} · {self.runs}"


async def run_cell(row: Row, step: str, transport: str = "fast") -> Cell:
    """Play one episode with the fault at its step."""
    began = time.monotonic()
    async with FaultServer() as server:
        client = Client(
            server.url,
            transport=transport,
            retry_limits=LIMITS,
            idle_timeout_s=SILENCE_S,
            request_timeout_s=SILENCE_S,
            ping_interval_s=3600.0,
        )
        _prepare(server, row, step)
        at = "list"
        whole = True
        session = client.environment("fault").session(split="train", index=0, open_timeout_s=SILENCE_S * 4)
        try:
            await client.health()
            await client.list_environments()
            at = "open"
            await session.open()
            session._set_up = True
            at = "prompt"
            whole = whole and (await session.prompt())[0].text == TEXT  # type: ignore[union-attr]
            at = "tools"
            whole = whole and len(await session.tools()) == 4
            at = "call"
            whole = whole and (await session.call("step")).text == TEXT * 150 + "\n[hologram block]"
            at = "ping"
            await session.ping()
            seen, at = "ok", ""
        except OpenRewardGymError as error:
            seen = type(error).__name__
        await session.close()
        await client.aclose()
        return Cell(seen, at, server.executed["step"], whole, len(server.sessions), time.monotonic() - began)


def _prepare(server: FaultServer, row: Row, step: str) -> None:
    if row.fault is None:
        return
    if step == "resumed call":
        server.inject("/call", ROUGH)
    if row.fault.kind == "refused":
        server.refuse_after(BEFORE[step], 0.03 if row.times == 1 else FOREVER)
    elif row.fault.kind == "reset":
        server.reset_after(BEFORE[step], row.times)
    else:
        server.inject(STEPS[step], row.fault, row.times)


async def run_matrix(transport: str = "fast") -> dict[tuple[str, str], Cell]:
    """Return all cells. Several run at once."""
    gate = asyncio.Semaphore(12)
    cells: dict[tuple[str, str], Cell] = {}

    async def fill(row: Row, step: str) -> None:
        async with gate:
            cells[row.name, step] = await asyncio.wait_for(run_cell(row, step, transport), DEADLINE_S * 3)

    await asyncio.gather(*[fill(row, step) for row in ROWS for step in STEPS if step in (row.only or STEPS)])
    return cells


def as_markdown(cells: dict[tuple[str, str], Cell]) -> str:
    """Return the page as Markdown."""
    lines = [
        *HEAD.splitlines(),
        "",
        f"| fault | {' | '.join(STEPS)} |",
        f"|---|{'---|' * len(STEPS)}",
    ]
    for row in ROWS:
        shown = [cells[row.name, step].shown(step) if (row.name, step) in cells else "" for step in STEPS]
        lines.append(f"| {row.name} | {' | '.join(shown)} |")
    lines += ["", *FOOT.splitlines()]
    return "\n".join(lines) + "\n"


def main() -> None:
    PAGE.write_text(as_markdown(asyncio.run(run_matrix())), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")


if __name__ == "__main__":
    main()
