"""A wait that others can end: limits are kept in any order, and one timer serves them all."""

from __future__ import annotations

import asyncio

import pytest

from openreward_gym.protocol.interrupt import Interrupt

pytestmark = pytest.mark.anyio


async def waited(limit_s: float | None) -> float:
    """How long a wait took that only its interrupt ends."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    interrupt = Interrupt(limit_s)
    try:
        await loop.create_future()
    except asyncio.CancelledError:
        assert interrupt.over()
    return loop.time() - began


def timers(loop: asyncio.AbstractEventLoop) -> int:
    return sum(not handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]


async def test_each_wait_ends_at_its_own_limit() -> None:
    limits = [0.3, 0.1, 0.2, 0.1, 0.0]
    took = await asyncio.gather(*[waited(limit) for limit in limits])
    assert all(seconds >= limit - 0.01 for seconds, limit in zip(took, limits, strict=True))
    assert took[4] <= min(took[1], took[3]) <= took[2] <= took[0]


async def test_a_thousand_waits_take_one_timer() -> None:
    loop = asyncio.get_running_loop()
    others = timers(loop)
    for _ in range(1000):
        interrupt = Interrupt(60.0)
        assert timers(loop) <= others + 1
        assert not interrupt.over()


async def test_a_wait_that_is_over_is_not_ended_by_its_limit() -> None:
    interrupt = Interrupt(0.02)
    assert not interrupt.over()
    # The timer of the wait before rings meanwhile, and ends nothing but this one.
    assert await waited(0.05) >= 0.04


async def test_without_a_limit_only_now_ends_it() -> None:
    loop = asyncio.get_running_loop()
    interrupt = Interrupt(None)
    loop.call_soon(interrupt.now)
    with pytest.raises(asyncio.CancelledError):
        await loop.create_future()
    assert interrupt.over()
    assert not interrupt.over()


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def work() -> bool:
        interrupt = Interrupt(60.0)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return interrupt.over()
        return True

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    assert await task is False
