"""Cost of the sync interface: a call of the protocol, `astep` and `step` of one env, side by side.

    python benchmarks/sync_step.py [STEPS] [RUNS]

The server is the cheap one of wire_server.py. The three take turns in short rounds on one background event loop; each figure is
the median time of one call or step over the rounds, in microseconds. `step` minus `call` is the cost of Gymnasium's interface:
the episode's bookkeeping (`astep` minus `call`), and the way to the event loop's thread and back (`step` minus `astep`).
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from typing import Any

from wire import serving

from openreward_gym import OpenRewardEnv
from openreward_gym.protocol.loop import run

ROUND = 100
ARGUMENTS = {"text": "x" * 100}
ACTION = {"name": "echo", "arguments": ARGUMENTS}


async def calls(session: Any) -> float:
    """Return the mean duration of a call of the protocol, in seconds."""
    began = time.perf_counter()
    for _ in range(ROUND):
        await session.call("echo", ARGUMENTS)
    return (time.perf_counter() - began) / ROUND


async def async_steps(env: OpenRewardEnv) -> float:
    began = time.perf_counter()
    for _ in range(ROUND):
        await env.astep(ACTION)
    return (time.perf_counter() - began) / ROUND


def steps(env: OpenRewardEnv) -> float:
    began = time.perf_counter()
    for _ in range(ROUND):
        env.step(ACTION)
    return (time.perf_counter() - began) / ROUND


def main(rounds: int, runs: int) -> None:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with serving("cheap", 200) as (url, _):
        for _ in range(runs):
            env = OpenRewardEnv("echo", base_url=url, task_index=0)
            env.reset()
            times: dict[str, list[float]] = {"call": [], "astep": [], "step": []}
            for _ in range(rounds):
                times["call"].append(run(calls(env._bound.session)))
                times["astep"].append(run(async_steps(env)))
                times["step"].append(steps(env))
            env.close()
            call, astep, step = (statistics.median(times[name]) * 1e6 for name in ("call", "astep", "step"))
            print(f"call {call:6.1f} us   astep {astep:6.1f} us   step {step:6.1f} us   step - call {step - call:6.1f} us")


if __name__ == "__main__":
    arguments = [*sys.argv[1:], *["3000", "5"][len(sys.argv) - 1 :]]
    main(int(arguments[0]) // ROUND, int(arguments[1]))
