"""Compare two ways of training with TRL on OpenReward environments: `grpo()` and TRL's own `OpenRewardSpec`.

    python benchmarks/trl_adapters.py

Both play the same tasks of the same servers with the same scripted turns, through the objects that `GRPOTrainer` uses. It prints
a table of what the model is shown and which reward the trainer gets. It needs the extras `server` and `train`.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("OPENREWARD_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("OPENREWARD_LOG_LEVEL", "CRITICAL")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "servers"))

from launch import HERE, served
from trl_rollouts import Turn, roll_out, tools_of

from openreward_gym import serve
from openreward_gym.integrations import trl

END = 0
"""Id of the token that ends each turn."""

Outcome = tuple[str, float | None]
"""What the last tool showed to the model, and the reward."""


@dataclass(frozen=True)
class Situation:
    """Scripted turns on a task of an environment.

    Attributes:
        name: Words for the table.
        server: The server: the environments of the tests, built-in ones, or odd tools.
        environment, task: The task.
        script: The model's turns.
        dies: Stop the server before the turn of this number. None leaves it alive.
    """

    name: str
    server: Literal["tests", "built-in", "odd"]
    environment: str
    task: int
    script: Sequence[Turn]
    dies: int | None = None


SITUATIONS = (
    Situation("a tool ends the episode: right", "tests", "echo", 0, [[("finish", {"text": "right"})], "Done."]),
    Situation("a tool ends the episode: wrong", "tests", "echo", 1, [[("finish", {"text": "wrong"})], "Done."]),
    Situation("two rewards of 0.5", "tests", "echo", 0, [[("echo", {"text": "a"})], [("echo", {"text": "b"})], "Done."]),
    Situation(
        "the environment judges the last message",
        "built-in",
        "weather",
        0,
        [[("get_weather", {"city": "Seattle"})], "It is cold in Seattle."],
    ),
    Situation("a tool returns text and an image", "tests", "echo", 0, [[("image", {})], "A pixel."]),
    Situation("a tool returns nothing", "tests", "echo", 0, [[("nothing", {})], "Done."]),
    Situation("a call with a wrong argument", "tests", "echo", 0, [[("echo", {"words": "a"})], "Done."]),
    Situation("a tool with an odd name", "odd", "oddtools", 0, [[("look-up", {"class": "a"})], "Done."]),
    Situation("a call after the end", "tests", "echo", 0, [[("finish", {"text": "right"})], [("count", {})], "Done."]),
    Situation(
        "the environment raises", "tests", "echo", 0, [[("echo", {"text": "a"})], [("fail", {"text": "no disk"})], "Done."]
    ),
    Situation(
        "the server dies in mid-episode", "tests", "echo", 0, [[("echo", {"text": "a"})], [("count", {})], "Done."], dies=1
    ),
    Situation("the server is dead at the reset", "tests", "echo", 0, [[("count", {})], "Done."], dies=0),
)


class Ours:
    """The adapter of `openreward_gym.integrations.trl`."""

    def __init__(self, url: str, environment: str, task: int) -> None:
        self.keywords = trl.grpo(environment, base_url=url, tasks=[task], open_attempts=1, retry_limits={"attempts": 1})
        parts = {
            "model": SimpleNamespace(),
            "processing_class": SimpleNamespace(eos_token_id=END, pad_token_id=END, image_processor=1),
        }
        self.keywords["callbacks"][0].on_init_end(SimpleNamespace(num_generations=1), None, None, **parts)
        self.row = self.keywords["train_dataset"][0]
        self.environment = self.keywords["environment_factory"][self.row["environment"]]()

    def reward(self, prompt: Any, completion: Any) -> float | None:
        (returns,) = self.keywords["reward_funcs"]
        columns = {"completions": [completion], "prompts": [prompt], "completion_ids": [[END]]}
        reward: float | None = returns(environments=[self.environment], **columns)[0]
        return reward

    def close(self) -> None:
        self.keywords["callbacks"][0].on_train_end(None, None, None)


class Theirs:
    """The adapter of `trl.experimental.openreward`."""

    def __init__(self, url: str, environment: str, task: int) -> None:
        from trl.experimental.openreward import OpenRewardSpec

        # The SDK's client puts "sessions." and "api." before the host of a URL, unless these say otherwise.
        os.environ.update(OPENREWARD_SESSION_URL=url, OPENREWARD_API_URL=url)
        self.spec = OpenRewardSpec(url, env_name=environment, indices=[task])
        self.row = self.spec.train_dataset[0]
        self.environment = self.spec.environment_factory()

    def reward(self, prompt: Any, completion: Any) -> float | None:
        reward: float | None = self.spec.reward_funcs(environments=[self.environment])[0]
        return reward

    def close(self) -> None:
        self.environment._close()


@contextmanager
def server_of(kind: str) -> Iterator[str]:
    """Serve the environments of a situation."""
    if kind == "built-in":
        with serve.local(["weather"]) as url:
            yield url
    else:
        with served(HERE / ("odd_tools.py" if kind == "odd" else "environments.py")) as url:
            yield url


def play(adapter: type[Ours] | type[Theirs], situation: Situation, url: str, stop: Callable[[], None]) -> Outcome:
    """Play the script of a situation, and return what the model was shown last and the reward."""
    made = adapter(url, situation.environment, situation.task)
    script = list(situation.script)
    if situation.dies == 0:
        stop()
    elif situation.dies:
        script[situation.dies] = _Stopping(script[situation.dies], stop)
    try:
        prompt, completion = roll_out(made.environment, made.row, script)
        shown = [entry["content"] for entry in completion if entry["role"] == "tool"][-1]
        return words_of(shown), made.reward(prompt, completion)
    except Exception as error:  # what TRL's trainer would end with
        return f"the training ends: {type(error).__name__}", None
    finally:
        made.close()


class _Stopping(Sequence[Any]):
    """Calls of a turn before which the server stops."""

    def __init__(self, calls: Any, stop: Callable[[], None]) -> None:
        self._calls, self._stop = calls, stop

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, index: Any) -> Any:
        self._stop()
        return self._calls[index]


def words_of(content: Any) -> str:
    """Return what the model is shown, in few words."""
    if isinstance(content, list):
        return " + ".join(part["text"] if part["type"] == "text" else "the image" for part in content)
    return str(content)


def compare(situations: Sequence[Situation] = SITUATIONS) -> Mapping[str, tuple[Outcome, Outcome]]:
    """Return the outcome of each situation by name: with TRL's own adapter, and with ours."""
    outcomes: dict[str, tuple[Outcome, Outcome]] = {}
    with ExitStack() as shared:
        urls: dict[str, str] = {}
        for situation in situations:
            both = []
            for adapter in (Theirs, Ours):
                with ExitStack() as own:
                    if situation.dies is not None:
                        url = own.enter_context(server_of(situation.server))
                    else:
                        if situation.server not in urls:
                            urls[situation.server] = shared.enter_context(server_of(situation.server))
                        url = urls[situation.server]
                    both.append(play(adapter, situation, url, own.close))
            outcomes[situation.name] = (both[0], both[1])
    return outcomes


def tools_offered() -> tuple[int, int, int]:
    """Return how many of the tools with odd names both adapters offer: all there are, TRL's own, ours."""
    with server_of("odd") as url:
        theirs, ours = Theirs(url, "oddtools", 0), Ours(url, "oddtools", 0)
        every = len(ours.keywords["environment_factory"]["oddtools"]._tools)
        return every, len(tools_of(theirs.environment)), len(tools_of(ours.environment))


def table(outcomes: Mapping[str, tuple[Outcome, Outcome]]) -> str:
    """Return the outcomes as a table in Markdown."""

    def cell(outcome: Outcome) -> str:
        text, reward = outcome
        short = " ".join(text.split()).replace("|", "\\|")
        return f"`{short[:60] + '…' if len(short) > 60 else short or ' '}` → {reward}"

    lines = ["| situation | `OpenRewardSpec` of TRL | `grpo()` |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {cell(theirs)} | {cell(ours)} |" for name, (theirs, ours) in outcomes.items())])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    print(table(compare()))
    every, theirs, ours = tools_offered()
    print(f"| tools of an environment with {every} tools of odd names | {theirs} | {ours} |")
