"""Work that goes on when whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
import gc

import pytest

from openreward_gym.protocol.steady import Steady

pytestmark = pytest.mark.anyio


async def test_a_cancelled_waiter_harms_neither_the_work_nor_the_others() -> None:
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> int:
        return await gate

    steady = Steady(work())
    first, second = (asyncio.create_task(steady.result()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set_result(7)
    assert await second == 7
    assert await steady.result() == 7


async def test_every_waiter_is_told_how_it_failed() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        raise ValueError("no")

    steady = Steady(work())
    told = await asyncio.gather(steady.result(), steady.result(), return_exceptions=True)
    assert [str(error) for error in told] == ["no", "no"]
    with pytest.raises(ValueError, match="no"):
        await steady.result()


@pytest.mark.parametrize("turns", [0, 1])
async def test_work_that_is_cancelled_cancels_those_who_wait(turns: int) -> None:
    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    steady = Steady(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    waiter = asyncio.create_task(steady.result())
    await asyncio.sleep(0)
    steady.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter


async def test_a_failure_that_nobody_waits_for_is_not_reported() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))

    async def work() -> None:
        raise ValueError("no")

    steady = Steady(work())
    await asyncio.wait([steady.task])
    await asyncio.sleep(0)
    del steady
    gc.collect()
    assert reported == []


async def test_who_waits_is_told_in_the_turn_after_the_work() -> None:
    loop = asyncio.get_running_loop()
    gate: asyncio.Future[None] = loop.create_future()
    seen: list[str] = []

    async def work() -> None:
        await gate
        seen.append("work")
        loop.call_soon(seen.append, "next turn")

    async def wait(steady: Steady[None]) -> None:
        await steady.result()
        seen.append("told")

    waiter = asyncio.create_task(wait(Steady(work())))
    await asyncio.sleep(0)
    gate.set_result(None)
    await waiter
    assert seen == ["work", "next turn", "told"]
