"""Tests of shared tasks and call timeouts."""

from __future__ import annotations

import asyncio
import gc

import pytest

from openreward_gym.protocol.concurrency import CallTimeout, SharedTask, TimeoutClock

pytestmark = pytest.mark.anyio


async def test_cancelling_a_waiter_cancels_neither_the_task_nor_other_waiters() -> None:
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> int:
        return await gate

    shared = SharedTask(work())
    first, second = (asyncio.create_task(shared.result()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set_result(7)
    assert await second == 7
    assert await shared.result() == 7


async def test_every_waiter_receives_the_error() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        raise ValueError("no")

    shared = SharedTask(work())
    errors = await asyncio.gather(shared.result(), shared.result(), return_exceptions=True)
    assert [str(error) for error in errors] == ["no", "no"]
    with pytest.raises(ValueError, match="no"):
        await shared.result()


@pytest.mark.parametrize("turns", [0, 1])
async def test_cancelling_the_task_cancels_its_waiters(turns: int) -> None:
    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    shared = SharedTask(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    waiter = asyncio.create_task(shared.result())
    await asyncio.sleep(0)
    shared.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter


async def test_an_error_without_waiters_is_not_logged() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))

    async def work() -> None:
        raise ValueError("no")

    shared = SharedTask(work())
    await asyncio.wait([shared.task])
    await asyncio.sleep(0)
    del shared
    gc.collect()
    assert reported == []


async def test_waiters_resume_in_the_turn_after_the_task() -> None:
    loop = asyncio.get_running_loop()
    gate: asyncio.Future[None] = loop.create_future()
    seen: list[str] = []

    async def work() -> None:
        await gate
        seen.append("work")
        loop.call_soon(seen.append, "next turn")

    async def wait(shared: SharedTask[None]) -> None:
        await shared.result()
        seen.append("waiter")

    waiter = asyncio.create_task(wait(SharedTask(work())))
    await asyncio.sleep(0)
    gate.set_result(None)
    await waiter
    assert seen == ["work", "next turn", "waiter"]


async def waited(limit_s: float | None, clock: TimeoutClock) -> float:
    """Return the seconds of a wait that only its timeout ends."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    timeout = CallTimeout(limit_s, clock)
    try:
        await loop.create_future()
    except asyncio.CancelledError:
        assert timeout.stop()
    return loop.time() - began


def timers(loop: asyncio.AbstractEventLoop) -> int:
    return sum(not handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]


async def test_each_call_ends_at_its_own_limit() -> None:
    limits = [0.3, 0.1, 0.2, 0.1, 0.0]
    clock = TimeoutClock()
    took = await asyncio.gather(*[waited(limit, clock) for limit in limits])
    assert all(seconds >= limit - 0.01 for seconds, limit in zip(took, limits, strict=True))
    assert took[4] <= min(took[1], took[3]) <= took[2] <= took[0]


async def test_a_thousand_limits_need_one_timer() -> None:
    loop = asyncio.get_running_loop()
    others, clock = timers(loop), TimeoutClock()
    for _ in range(1000):
        timeout = CallTimeout(60.0, clock)
        assert timers(loop) <= others + 1
        assert not timeout.stop()


async def test_a_stopped_limit_does_not_expire() -> None:
    clock = TimeoutClock()
    timeout = CallTimeout(0.02, clock)
    assert not timeout.stop()
    # The timer of the first limit fires meanwhile, and does not end the second.
    assert await waited(0.05, clock) >= 0.04


async def test_without_a_limit_only_expire_ends_it() -> None:
    loop = asyncio.get_running_loop()
    timeout = CallTimeout(None, TimeoutClock())
    loop.call_soon(timeout.expire)
    with pytest.raises(asyncio.CancelledError):
        await loop.create_future()
    assert timeout.stop()
    assert not timeout.stop()


async def test_a_cancellation_by_other_code_is_told_apart() -> None:
    async def work() -> bool:
        timeout = CallTimeout(60.0, TimeoutClock())
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return timeout.stop()
        return True

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    assert await task is False
