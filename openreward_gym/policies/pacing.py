"""How fast a provider is asked: its limits where they are known, and slower at once where it says 429."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Pace:
    """Lets requests through one after the other, as fast as the limits allow.

    After a 429 nobody asks for as long as the provider wants, then at half the pace; each answer makes it a little faster
    again (additive increase, multiplicative decrease).

    Args:
        requests_per_minute: A known limit; None starts without one.
        tokens_per_minute: Input and output tokens, counted as answers tell; None for no limit.
        clock: Seconds, for tests.
    """

    FIRST_PACE = 2.0
    """Requests a second that a provider without a known limit gets after its first 429, at least."""

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._most = None if requests_per_minute is None else requests_per_minute / 60
        self.per_second = self._most
        self._tokens_per_second = None if tokens_per_minute is None else tokens_per_minute / 60
        self._next = 0.0
        self._recent: list[float] = []

    async def turn(self) -> None:
        """Wait for one's turn to ask."""
        wait_s = self.reserve()
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def reserve(self) -> float:
        """Take the next turn; seconds until it is."""
        now = self._clock()
        self._recent = [moment for moment in self._recent[-1000:] if now - moment < 10.0]
        self._recent.append(now)
        begins = max(self._next, now)
        self._next = begins if self.per_second is None else begins + 1 / self.per_second
        return begins - now

    def answered(self, tokens: int) -> None:
        """An answer came, which took so many tokens."""
        if self._tokens_per_second is not None:
            self._next = max(self._next, self._clock()) + tokens / self._tokens_per_second
        if self.per_second is not None:
            faster = self.per_second + 0.1
            self.per_second = faster if self._most is None else min(faster, self._most)

    def refused(self, retry_after_s: float | None) -> None:
        """A 429 came."""
        observed = len(self._recent) / 10.0
        before = self.per_second if self.per_second is not None else max(observed, self.FIRST_PACE)
        self.per_second = max(before / 2, 0.05)
        self._next = max(self._next, self._clock() + (1.0 if retry_after_s is None else retry_after_s))
