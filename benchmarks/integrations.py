"""Time per episode through each integration, beside the plain env, with scripted answers of the model.

    python benchmarks/integrations.py [--episodes 200] [--runs 5] [--only plain,episode,trl]

Every episode is one of `weather` on a server of this machine: a call of its tool, and the answer. The integrations are played as
their trainers play them, with the model's answers written beforehand, so that all that remains is the way of an answer to the
environment and back. Each runs in a process of its own, under the interpreter of `.venvs` that has its trainer; one that is not
there is skipped with a note. CPU is that of this process, so it counts what the trainer's own functions do, and not the server.

CPU per episode in ms (medians of 3 runs of 96 episodes; AMD EPYC, 2 cores, otherwise idle, Python 3.11.7):

                                1 at a time    32 at a time
    plain env                          1.26            0.93
    plain env, recorded                2.23            1.58
    gymnasium, sync in threads         2.21            1.28
    Episode                            1.51            1.38
    Episode, recorded                  3.31            1.68
    TokenEpisode                       2.69            2.10    renders the prompt once, and extends it
    TRL                                3.53            1.71
    SkyRL                              5.40            1.71
    tinker-cookbook                    7.04            2.76    its rollouts, over TokenEpisode
    verl                               9.05            5.42    its agent loop, over TokenEpisode
    OpenEnv                            7.28            4.15    client and server in this process
    NeMo Gym                          17.29           12.19    its two servers; the model's server is not counted
    Inspect                           21.79           18.72    with its log
    verifiers                         21.62           24.43    with its interception server and results files

`Episode` adds 0.2 to 0.5 ms to the env. What verifiers, Inspect and NeMo Gym add is mostly their own evaluation.
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
    _helpers("examples")
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


def _helpers(*folders: str) -> None:
    """Put folders of the repository on the path, for the stand-ins that are there."""
    sys.path[:0] = [str(ROOT / folder) for folder in folders]


async def trl(url: str, output: str) -> Play:
    """TRL's loop over the tools of an environment object, in a thread per rollout."""
    _helpers("tests/servers")
    from trl_rollouts import roll_out

    from openreward_gym.integrations.trl.dataset import tool_groups
    from openreward_gym.integrations.trl.environment import EnvironmentFactory
    from openreward_gym.integrations.trl.play import PlaySource
    from openreward_gym.integrations.trl.rewards import EpisodeReturn
    from openreward_gym.integrations.trl.state import TrainingState
    from openreward_gym.protocol import loop

    source = PlaySource("weather", base_url=url, on_length="truncate")
    (group,) = await asyncio.to_thread(lambda: loop.run(tool_groups(source, [0], None)))
    state = TrainingState()
    state.end_token_ids = frozenset({0})
    make, score = EnvironmentFactory(source, group.tools, state), EpisodeReturn(state)
    script: list[Any] = [[("get_weather", {"city": CITY})], ANSWER]

    def play(environment: Any) -> float | None:
        prompt, completion = roll_out(environment, group.rows[0], script)
        (reward,) = score([completion], prompts=[prompt], completion_ids=[[5, 0]], environments=[environment])
        return None if reward is None else float(reward)

    async def episode(environment: Any) -> float | None:
        return await asyncio.to_thread(play, environment)

    return in_turns(episode, make)


async def skyrl(url: str, output: str) -> Play:
    """The text environment of skyrl-gym, in a thread per trajectory as SkyRL's generator has it."""
    import skyrl_gym

    from openreward_gym.integrations import skyrl

    skyrl.register()
    (row,) = (await asyncio.to_thread(lambda: list(skyrl.rows("weather", base_url=url))))[:1]

    def play(_: Any) -> float | None:
        environment = skyrl_gym.make("openreward", extras={**row, "max_turns": 8})
        environment.init(row["prompt"])
        environment.step(CALL)
        reward = environment.step(ANSWER)["reward"]
        environment.close()
        return float(reward)

    async def episode(player: Any) -> float | None:
        return await asyncio.to_thread(play, player)

    return in_turns(episode, object)


async def tinker(url: str, output: str) -> Play:
    """Groups of one, rolled out by tinker-cookbook with scripted tokens."""
    _helpers("examples", "tests/export", "tests/servers")
    from tinker_cookbook.completers import TokenCompleter, TokensWithLogprobs
    from tinker_cookbook.rl.rollouts import do_group_rollout
    from tiny_tokenizer import CHATML, tiny_tokenizer

    from openreward_gym.integrations import Episodes, tinker
    from openreward_gym.types import Task

    tokenizer = tiny_tokenizer(CHATML, eos_token="<|im_end|>", pad_token="<|pad|>")
    turns = [tokenizer.encode(f"{text}<|im_end|>", add_special_tokens=False) for text in (CALL, ANSWER)]
    source = Episodes("weather", base_url=url)

    class Sampler(TokenCompleter):
        def __init__(self) -> None:
            self.said = 0

        async def __call__(self, model_input: Any, stop: Any, **_: Any) -> Any:
            ids = turns[self.said]
            self.said += 1
            return TokensWithLogprobs(ids, [-0.5] * len(ids), "stop")

    async def episode(_: Any) -> float | None:
        group = tinker.EpisodeGroupBuilder(source, Task("train", 0), 1, tokenizer)
        (reward,) = (await do_group_rollout(group, Sampler())).get_total_rewards()
        return float(reward)

    return in_turns(episode, object)


async def verl(url: str, output: str) -> Play:
    """The agent loop, made for every sample as verl's workers make it, with scripted tokens."""
    _helpers("tests/export", "tests/servers")
    from pathlib import Path

    from hydra import compose, initialize_config_dir
    from tiny_tokenizer import CHATML, tiny_tokenizer
    from verl import trainer
    from verl.experimental.agent_loop.agent_loop import DictConfigWrap
    from verl.utils.dataset.rl_dataset import RLHFDataset
    from verl.workers.rollout.replica import TokenOutput

    from openreward_gym.integrations.verl import EpisodeAgentLoop

    tokenizer = tiny_tokenizer(CHATML, eos_token="<|im_end|>", pad_token="<|pad|>")
    turns = [tokenizer.encode(f"{text}<|im_end|>", add_special_tokens=False) for text in (CALL, ANSWER)]
    overrides = ["data.max_prompt_length=2048", "data.max_response_length=1024", "actor_rollout_ref.rollout.name=vllm"]
    with initialize_config_dir(str(Path(trainer.__file__).parent / "config"), version_base=None):
        config = compose("ppo_trainer", overrides=overrides)

    class Servers:
        async def generate(self, *, request_id: str, prompt_ids: list[int], **_: Any) -> Any:
            said = tokenizer.decode(prompt_ids).count("<tool_call>")
            ids = turns[said]
            return TokenOutput(token_ids=ids, log_probs=[-0.5] * len(ids), stop_reason="completed")

    servers = Servers()

    async def episode(_: Any) -> float | None:
        agent_loop = EpisodeAgentLoop(
            DictConfigWrap(config),
            servers,
            tokenizer,
            None,
            RLHFDataset,
            DictConfigWrap(config.data),
            episodes={"environment": "weather", "base_url": url},
        )
        (sequence,) = await agent_loop.run({}, session_id=0, extra_info={"split": "train", "task_index": 0})
        return float(sequence.reward_score)

    return in_turns(episode, object)


async def openenv(url: str, output: str) -> Play:
    """OpenEnv's client over its WebSocket; the server of the integration is in a thread of this process."""
    import threading

    import uvicorn
    from openenv.core import GenericEnvClient

    from openreward_gym.integrations import openenv

    app = await asyncio.to_thread(openenv.app, "weather", base_url=url)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    async def episode(_: Any) -> float | None:
        async with GenericEnvClient(base_url=f"http://127.0.0.1:{port}") as env:
            await env.reset(split="train", index=0)
            await env.step({"type": "message", "message": CALL})
            result = await env.step({"type": "message", "message": ANSWER})
            return None if result.reward is None else float(result.reward)

    return in_turns(episode, object)


async def nemo_gym(url: str, output: str) -> Play:
    """Rows that NeMo Gym's agent and resources server play, in a process whose CPU is counted; the model is a stand-in here."""
    _helpers("tests/servers")
    import contextlib

    import httpx
    import psutil
    from launch import free_port
    from providers import providing

    from openreward_gym.integrations import nemo_gym

    interpreter, peers = (ROOT / ".venvs" / name for name in ("nemo-gym-0.4", "nemo-gym-peers"))
    if not (interpreter / ".ready").exists() or not (peers / ".ready").exists():
        raise ModuleNotFoundError("NeMo Gym: tests/integrations/test_nemo_gym_server.py installs it")
    stack = contextlib.ExitStack()
    model = stack.enter_context(providing())
    folder = Path(output)
    os.makedirs(folder)
    rows = await asyncio.to_thread(nemo_gym.rows, "weather", base_url=url, limit=1)
    configuration = json.loads(nemo_gym.write_servers(folder, environment="weather", base_url=url).read_text(encoding="utf-8"))
    places = {"openreward_agent": "responses_api_agents", "openreward_resources_server": "resources_servers"}
    for name, kind in places.items():
        (fields,) = configuration[name][kind].values()
        fields |= {"host": "127.0.0.1", "port": free_port()}
    agent = configuration["openreward_agent"]["responses_api_agents"]["openreward_agent"]
    place = {"host": "127.0.0.1", "port": httpx.URL(model.url).port, "entrypoint": "app.py"}
    configuration |= {
        "policy_model": {"responses_api_models": {"stand_in": place}},
        "head_server": {"host": "127.0.0.1", "port": 9},
    }
    (folder / "configuration.json").write_text(json.dumps(configuration), encoding="utf-8")
    pair = await asyncio.to_thread(_nemo_pair, folder, interpreter, peers)
    client = httpx.AsyncClient(timeout=60)
    params = {**rows[0]["responses_create_params"], "model": "good"}
    row = {**rows[0], "responses_create_params": params, "_ng_task_index": 0, "_ng_rollout_index": 0}

    async def episode(_: Any) -> float | None:
        answer = await client.post(f"http://127.0.0.1:{agent['port']}/run", json=row)
        return float(answer.json()["reward"])

    play = in_turns(episode, object)
    vars(play).update(cpu_s=lambda: sum(psutil.Process(pair.pid).cpu_times()[:2]), model=stack)  # the model serves as long
    return play


def _nemo_pair(folder: Path, interpreter: Path, peers: Path) -> subprocess.Popen[str]:
    """Start NeMo Gym's servers, and wait until they are ready. They end with this process."""
    metadata = folder / "metadata" / "openreward_gym-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: openreward-gym\nVersion: 0\n", encoding="utf-8")
    program = ROOT / "tests" / "integrations" / "nemo_pair.py"
    command = [str(interpreter / "bin" / "python"), str(program), str(folder / "configuration.json")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, peers, metadata.parent)))}
    pair = subprocess.Popen(command, env=environ, cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert pair.stdout is not None
    while (line := pair.stdout.readline()) and line.strip() != "ready":
        pass
    return pair


async def inspect(url: str, output: str) -> Play:
    """An evaluation with Inspect's mock model; its log is written, too."""
    import uuid

    from inspect_ai import eval_async, task_with
    from inspect_ai.model import ChatMessageAssistant, ModelOutput, ModelUsage, get_model
    from inspect_ai.tool import ToolCall

    from openreward_gym.integrations import inspect

    async def model(messages: list[Any], *_: Any) -> ModelOutput:
        calls = [ToolCall("c", "get_weather", {"city": CITY})] if messages[-1].role == "user" else None
        message = ChatMessageAssistant(content="" if calls else ANSWER, tool_calls=calls, id=uuid.uuid4().hex)
        said = ModelOutput.from_message(message, stop_reason="tool_calls" if calls else "stop")
        return said.model_copy(update={"usage": ModelUsage(input_tokens=7, output_tokens=3, total_tokens=10)})

    task = await asyncio.to_thread(inspect.task, "weather", base_url=url)
    task = task_with(task, model=get_model("mockllm/model", custom_outputs=model))

    async def play(count: int, at_once: int) -> None:
        options: dict[str, Any] = {"log_dir": output, "limit": 1, "epochs": count, "max_samples": at_once}
        (log,) = await eval_async(task, max_connections=at_once, **options)
        assert log.status == "success", log.error

    return play


async def verifiers(url: str, output: str) -> Play:
    """An evaluation by verifiers' runner; the model is a server in this process, and the results are written, too."""
    _helpers("tests/servers")
    from chat_model import ChatModel
    from verifiers.v1.cli.eval.runner import run_eval
    from verifiers.v1.configs.cli.eval import EvalConfig

    from openreward_gym.integrations.verifiers import load_environment

    environment = load_environment("weather", base_url=url)

    class Model(ChatModel):
        def reply(self, request: dict[str, Any]) -> dict[str, Any]:
            calls = request["messages"][-1]["role"] == "user"
            call = self._call("c", "get_weather", {"city": CITY})
            message = {"role": "assistant", "content": None if calls else ANSWER, **({"tool_calls": [call]} if calls else {})}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
            usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
            return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}

    model = Model("")
    model.__enter__()

    async def play(count: int, at_once: int) -> None:
        client = {"type": "eval", "base_url": model.url}
        more: dict[str, Any] = {"select": {"limit": 1}, "num_rollouts": count, "push": False, "rich": None}
        run = EvalConfig(env=environment.config, model="m", client=client, output_dir=output, max_concurrent=at_once, **more)
        episodes = await run_eval(run)
        assert all(trace.reward == 1.0 for episode in episodes for trace in episode.traces)

    return play


PLAYERS: dict[str, tuple[str, Callable[[str, str], Awaitable[Play]]]] = {
    "plain": ("", plain),
    "plain, recorded": ("", plain_recorded),
    "gymnasium": ("", gymnasium),
    "episode": ("", episode),
    "episode, recorded": ("", episode_recorded),
    "token episode": ("", token_episode),
    "trl": ("", trl),
    "inspect": ("", inspect),
    "skyrl": ("skyrl", skyrl),
    "tinker": ("tinker", tinker),
    "verl": ("verl", verl),
    "openenv": ("openenv", openenv),
    "nemo_gym": ("", nemo_gym),
    "verifiers": ("verifiers", verifiers),
}
"""For each integration the interpreter in `.venvs` that has its trainer (empty: this one), and what plays it."""


async def measure(name: str, url: str, output: str, episodes: int, at_once: int, runs: int) -> tuple[float, float]:
    """Return the medians over the runs of the milliseconds per episode: of this process's CPU, and of the clock."""
    play = await PLAYERS[name][1](url, output)
    cpu_s: Callable[[], float] = getattr(play, "cpu_s", time.process_time)
    await play(2 * at_once, at_once)
    times = []
    for _ in range(runs):
        cpu, began = cpu_s(), time.perf_counter()
        await play(episodes, at_once)
        times.append(((cpu_s() - cpu) / episodes * 1e3, (time.perf_counter() - began) / episodes * 1e3))
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
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore", "INSPECT_DISPLAY": "none"}
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
