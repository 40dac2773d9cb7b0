"""Retry budgets, alone: waits are random below a doubling bound, ends are certain."""

from __future__ import annotations

import asyncio
import time

import pytest

from openreward_gym.collect.inventory import Inventory, TaskChoice
from openreward_gym.collect.retries import BUDGETS, RetryTracker, UnitQueue
from openreward_gym.options import RetryBudget


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_full_jitter_below_a_doubling_bound() -> None:
    for draw in (0.0, 0.5, 1.0):
        patience = RetryTracker({"x": RetryBudget(6, 1.0, 4.0)}, clock=Clock(), draw=lambda draw=draw: draw)  # type: ignore[misc]
        waits = [patience.wait_s(0, "x") for _ in range(6)]
        assert waits == [draw, 2 * draw, 4 * draw, 4 * draw, 4 * draw, None]


def test_the_deadline_counts_from_the_first_failure() -> None:
    clock = Clock()
    patience = RetryTracker({"x": RetryBudget(100, 1.0, 1.0, deadline_s=10.0)}, clock=clock, draw=lambda: 1.0)
    assert patience.wait_s(0, "x") == 1.0
    clock.now = 8.9
    assert patience.wait_s(0, "x") == 1.0
    clock.now = 9.1
    assert patience.wait_s(0, "x") is None


def test_what_the_server_asks_for_is_waited_where_it_fits() -> None:
    patience = RetryTracker({"x": RetryBudget(5, 1.0, 1.0, deadline_s=60.0)}, clock=Clock(), draw=lambda: 0.5)
    assert patience.wait_s(0, "x", 30.0) == 30.0
    assert patience.wait_s(0, "x", 0.1) == 0.5
    assert patience.wait_s(0, "x", 61.0) is None


def test_kinds_and_units_have_budgets_of_their_own() -> None:
    patience = RetryTracker({"x": RetryBudget(2), "y": RetryBudget(2)}, draw=lambda: 0.0)
    assert patience.wait_s(0, "x") == patience.wait_s(0, "y") == patience.wait_s(1, "x") == 0.0
    assert patience.wait_s(0, "x") is None
    assert patience.wait_s(0, "no such kind") is None


def test_nothing_retries_forever() -> None:
    for kind, budget in BUDGETS.items():
        clock = Clock()
        patience = RetryTracker(clock=clock)
        for _ in range(budget.attempts):
            wait_s = patience.wait_s(0, kind)
            clock.now += wait_s or 0.0
        assert wait_s is None
        assert clock.now <= budget.deadline_s


def test_a_schedule_hands_out_each_unit_and_failed_ones_again() -> None:
    inventory = Inventory("e", None, [TaskChoice("train", n) for n in range(3)], 1)

    async def run() -> list[int]:
        queue = UnitQueue(iter(inventory))
        played: list[int] = []

        async def work() -> None:
            while (unit := await queue.take()) is not None:
                played.append(unit.number)
                await asyncio.sleep(0)
                if unit.number == 1 and played.count(1) < 3:
                    queue.retry(unit, 0.02)
                else:
                    queue.settle()

        begun = time.monotonic()
        await asyncio.gather(*(work() for _ in range(5)))
        assert time.monotonic() - begun >= 0.04
        return played

    assert sorted(asyncio.run(run())) == [0, 1, 1, 1, 2]


def test_what_has_waited_goes_before_what_is_new_and_what_waits_holds_nothing_up() -> None:
    inventory = Inventory("e", None, [TaskChoice("train", n) for n in range(4)], 1)

    async def run() -> list[int]:
        queue = UnitQueue(iter(inventory))
        taken = [await queue.take(), await queue.take()]
        assert taken[0] is not None
        assert taken[1] is not None
        queue.retry(taken[0], 60.0)
        queue.retry(taken[1], 0.0)
        taken += [await queue.take() for _ in range(3)]
        return [unit.number for unit in taken if unit is not None]

    assert asyncio.run(run()) == [0, 1, 1, 2, 3]


def test_a_drained_schedule_hands_out_nothing() -> None:
    inventory = Inventory("e", None, [TaskChoice("train", n) for n in range(3)], 1)

    async def run() -> None:
        queue = UnitQueue(iter(inventory))
        first = await queue.take()
        assert first is not None
        queue.retry(first, 60.0)
        for _ in range(2):
            assert await queue.take() is not None
            queue.settle()
        waiting = asyncio.create_task(queue.take())
        await asyncio.sleep(0)
        queue.drain()
        assert await asyncio.wait_for(waiting, 30) is None

    asyncio.run(run())


@pytest.mark.parametrize("turns", range(6))
def test_a_wait_for_a_unit_ends_when_it_is_cancelled_soon_after_a_change(turns: int) -> None:
    inventory = Inventory("e", None, [TaskChoice("train", n) for n in range(3)], 1)

    async def run() -> bool:
        queue = UnitQueue(iter(inventory))
        taken = [await queue.take() for _ in range(3)]
        assert taken[0] is not None
        queue.retry(taken[0], 60.0)
        waiting = asyncio.create_task(queue.take())
        await asyncio.sleep(0)
        queue.settle()
        for _ in range(turns):  # of the event loop: the change reaches the waiting task through several callbacks
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting], timeout=1.0)
        return waiting.cancelled()

    assert asyncio.run(run())
