"""Servers that do not answer: the requests that wait for each of them, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from openreward_gym.store import Failure

SILENCE_S = 10.0
"""Seconds without an answer after which a server that has answered before counts as silent."""
FIRST_ANSWER_S = 7.0
"""Seconds without an answer after which a server that has never answered counts as silent: its address may be wrong."""
FIRST_ERROR_S = 4.0
"""The same for a server to which no connection could be made."""
_LONGEST_ERROR = 300


@dataclass(frozen=True, slots=True)
class ServerState:
    """The state of one server, as a collection sees it.

    Attributes:
        address: The server's address without credentials, or a description of the policy.
        waiting: Number of requests that wait for it.
        silent_s: Seconds for which requests have waited and none was answered. 0 if none waits and none has failed.
        answered_s: Seconds since its last answer. None before the first one.
        error: The last error of a request since the last answer, or an empty string.

    Example:
        >>> print(ServerState("http://127.0.0.1:9/v1", waiting=3, silent_s=12.4, error="connection refused"))
        no answer from http://127.0.0.1:9/v1 for 12 s (3 requests waiting): connection refused
    """

    address: str
    waiting: int = 0
    silent_s: float = 0.0
    answered_s: float | None = None
    error: str = ""

    def __str__(self) -> str:
        noun = "request" if self.waiting == 1 else "requests"
        waiting = f" ({self.waiting} {noun} waiting)" if self.waiting else ""
        error = f": {' '.join(self.error.split())[:_LONGEST_ERROR]}" if self.error else ""
        return f"no answer from {self.address} for {self.silent_s:.0f} s{waiting}{error}"


class ServerWatch:
    """Counts the requests that wait for one server. `address` may be known only later; tests replace `clock`."""

    def __init__(self, address: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._clock = clock
        self._waiting = 0
        self._since: float | None = None
        self._answered: float | None = None
        self._error = ""

    @property
    def address(self) -> str:
        """The server's address without credentials, or a description of the policy."""
        return self._address()

    def begin(self) -> None:
        """Note that a request waits from now on."""
        self._waiting += 1
        if self._since is None:
            self._since = self._clock()

    def note_error(self, error: str) -> None:
        """Note that a request failed and is sent again."""
        self._error = error

    def end(self, *, answered: bool, error: str = "") -> None:
        """Note that a request waits no longer: it was answered, failed with `error`, or was given up."""
        self._waiting -= 1
        if answered:
            self._answered, self._error = self._clock(), ""
            self._since = self._answered if self._waiting else None
            return
        self._error = error or self._error
        if not self._waiting and not self._error:
            self._since = None

    def state(self) -> ServerState:
        """Return the current state."""
        now = self._clock()
        silent_s = 0.0 if self._since is None else now - self._since
        answered_s = None if self._answered is None else now - self._answered
        return ServerState(self.address, self._waiting, silent_s, answered_s, self._error)


@dataclass(frozen=True, slots=True)
class News:
    """What happened in attempts that are still in flight.

    Attributes:
        retried: Requests that failed and were sent again since the last news.
        servers: The states of the servers.
    """

    retried: list[Failure] = field(default_factory=list)
    servers: list[ServerState] = field(default_factory=list)


def merge_news(parts: Iterable[News]) -> News:
    """Merge the news of several processes. A server that answers one of them is not silent."""
    retried: list[Failure] = []
    states: dict[str, list[ServerState]] = {}
    for part in parts:
        retried += part.retried
        for state in part.servers:
            states.setdefault(state.address, []).append(state)
    return News(retried, [_merged(address, several) for address, several in states.items()])


def _merged(address: str, states: list[ServerState]) -> ServerState:
    answered = [state.answered_s for state in states if state.answered_s is not None]
    silent_s = min([max(state.silent_s for state in states), *answered])
    error = next((state.error for state in states if state.error), "")
    return ServerState(address, sum(state.waiting for state in states), silent_s, min(answered, default=None), error)
