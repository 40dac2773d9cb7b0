"""Time per episode through each integration, beside the plain env, with scripted answers of the model.

    python benchmarks/integrations.py [--episodes 200] [--runs 5] [--only plain,episode,trl]

Every episode is one of `weather` on a server of this machine: a call of its tool, and the answer. The integrations are played as
their trainers play them, with the model's answers written beforehand, so that all that remains is the way of an answer to the
environment and back. Each runs in a process of its own, under the interpreter of `.venvs` that has its trainer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).parents[1]

Play: TypeAlias = Callable[[int, int], Awaitable[None]]
"""Plays a number of episodes, at most so many of them at a time."""

CITY = "Seattle"
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{CITY}"}}}}\n</tool_call>'
ANSWER = f"The weather in {CITY} is cold."


def in_turns(episode: Callable[[Any], Awaitable[float | None]], make: Callable[[], Any]) -> Play:
    """Return a function that plays episodes with objects that each play one after the other."""
    players: list[Any] = []

    async def play(count: int, at_once: int) -> None:
        players.extend(make() for _ in range(at_once - len(players)))
        numbers = iter(range(count))

        async def run(player: Any) -> None:
            for _ in numbers:
                reward = await episode(player)
                assert reward == 1.0, f"an episode had the reward {reward}, not 1.0: it was not played to its end"

        async with asyncio.TaskGroup() as group:
            for player in players[:at_once]:
                group.create_task(run(player))

    return play


async def plain(url: str, output: str) -> Play:
    from openreward_gym import OpenRewardEnv

    async def episode(env: Any) -> float | None:
        await env.areset(options={"task_index": 0})
        await env.astep({"name": "get_weather", "arguments": {"city": CITY}})
        return float((await env.astep(ANSWER))[1])

    return in_turns(episode, lambda: OpenRewardEnv("weather", base_url=url))


async def plain_recorded(url: str, output: str) -> Play:
    from openreward_gym import OpenRewardEnv
    from openreward_gym.wrappers import RecordRollouts

    async def episode(env: Any) -> float | None:
        await env.areset(options={"task_index": 0})
        await env.astep({"name": "get_weather", "arguments": {"city": CITY}})
        return float((await env.astep(ANSWER))[1])

    return in_turns(episode, lambda: RecordRollouts(OpenRewardEnv("weather", base_url=url), output))


async def gymnasium(url: str, output: str) -> Play:
    """Gymnasium's sync interface: a thread per env."""
    import gymnasium as gym

    import openreward_gym  # noqa: F401

    def steps(env: Any) -> float:
        env.reset(options={"task_index": 0})
        env.step({"name": "get_weather", "arguments": {"city": CITY}})
        return float(env.step(ANSWER)[1])

    async def episode(env: Any) -> float | None:
        return await asyncio.to_thread(steps, env)

    return in_turns(episode, lambda: gym.make("OpenReward-v0", environment="weather", base_url=url))


def _episodes(options: dict[str, Any]) -> Play:
    from openreward_gym.integrations import Episodes

    async def episode(player: Any) -> float | None:
        await player.begin(0)
        await player.act(CALL)
        await player.act(ANSWER)
        reward: float | None = player.reward
        return reward

    return in_turns(episode, Episodes("weather", **options).episode)


async def episode(url: str, output: str) -> Play:
    return _episodes({"base_url": url})


async def episode_recorded(url: str, output: str) -> Play:
    return _episodes({"base_url": url, "output": output})


async def token_episode(url: str, output: str) -> Play:
    sys.path.insert(0, str(ROOT / "examples"))
    from tiny_model import model_and_tokenizer

    from openreward_gym.integrations import Episodes
    from openreward_gym.integrations.tokens import TokenEpisode

    _, tokenizer = model_and_tokenizer("tiny")
    turns = [tokenizer.encode(f"{text}<|im_end|>") for text in (CALL, ANSWER)]
    source = Episodes("weather", base_url=url)

    async def episode(player: Any) -> float | None:
        await player.begin(0)
        for ids in turns:
            assert player.prompt_ids
            await player.act_tokens(ids, [-1.0] * len(ids))
        assert player.segments
        reward: float | None = player.reward
        return reward

    return in_turns(episode, lambda: TokenEpisode(source, tokenizer=tokenizer))


PLAYERS: dict[str, tuple[str, Callable[[str, str], Awaitable[Play]]]] = {
    "plain": ("", plain),
    "plain, recorded": ("", plain_recorded),
    "gymnasium": ("", gymnasium),
    "episode": ("", episode),
    "episode, recorded": ("", episode_recorded),
    "token episode": ("", token_episode),
}
"""For each integration the interpreter in `.venvs` that has its trainer (empty: this one), and what plays it."""


async def measure(name: str, url: str, output: str, episodes: int, at_once: int, runs: int) -> tuple[float, float]:
    """Return the medians over the runs of the milliseconds per episode: of this process's CPU, and of the clock."""
    play = await PLAYERS[name][1](url, output)
    await play(2 * at_once, at_once)
    times = []
    for _ in range(runs):
        cpu, began = time.process_time(), time.perf_counter()
        await play(episodes, at_once)
        times.append(((time.process_time() - cpu) / episodes * 1e3, (time.perf_counter() - began) / episodes * 1e3))
    return statistics.median(cpu for cpu, _ in times), statistics.median(wall for _, wall in times)


def python_of(venv: str) -> str | None:
    """Return the interpreter of an environment of trainers. None if it is not there."""
    python = Path(sys.executable) if not venv else ROOT / ".venvs" / venv / "bin" / "python"
    return str(python) if python.exists() else None


def run(name: str, url: str, folder: str, options: argparse.Namespace, at_once: int) -> tuple[float, float] | None:
    """Measure an integration in a process of its own. None if its trainer is not installed."""
    python = python_of(PLAYERS[name][0])
    if python is None:
        return None
    command = [python, __file__, "--child", name, "--url", url, "--at-once", str(at_once)]
    command += ["--output", f"{folder}/{name.replace(' ', '')}-{at_once}"]
    command += ["--episodes", str(options.episodes), "--runs", str(options.runs)]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if ran.returncode:
        if "ModuleNotFoundError" in ran.stderr or "MissingExtraError" in ran.stderr:
            return None
        raise RuntimeError(f"{name}: {ran.stderr[-2000:]}")
    cpu_ms, wall_ms = json.loads(ran.stdout.strip().splitlines()[-1])["ms"]
    return cpu_ms, wall_ms


def main(options: argparse.Namespace) -> None:
    import tempfile

    from openreward_gym import serve

    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    chosen = options.only.split(",") if options.only else list(PLAYERS)
    print(f"{'':24}" + "".join(f"{number:5} at a time: CPU ms    more   wall ms" for number in options.at_once))
    plain_ms: list[float] = []
    with serve.local(["weather"]) as url, tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            times = [measured for number in options.at_once if (measured := run(name, url, folder, options, number))]
            if len(times) < len(options.at_once):
                print(f"{name:24} not installed", flush=True)
                continue
            plain_ms = plain_ms or [cpu for cpu, _ in times]
            cells = [f"{cpu:23.2f}{cpu - base:+8.2f}{wall:10.2f}" for (cpu, wall), base in zip(times, plain_ms, strict=True)]
            print(f"{name:24}{''.join(cells)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 32], help="episodes at a time")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        ms = asyncio.run(measure(given.child, given.url, given.output, given.episodes, given.at_once[0], given.runs))
        print(json.dumps({"ms": ms}))
    else:
        main(given)
