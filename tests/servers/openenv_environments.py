"""Environments written with OpenEnv's base classes, and an OpenReward environment behind OpenEnv's server.

`python openenv_environments.py PORT BASE_URL OUTPUT BASE_URL OUTPUT` serves them below `/counter`, `/tools`, `/echo` and
`/dying`. The last two are of the OpenReward servers at the two URLs. Needs the package `openenv`.
"""

# mypy: disable-error-code="misc,untyped-decorator,import-not-found"
# (the types of OpenEnv are not read, and FastMCP comes with it)

from __future__ import annotations

import os
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastmcp import FastMCP
from fastmcp.utilities.types import Image
from openenv.core.env_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, EnvironmentMetadata, Observation, State
from pydantic import Field

from openreward_gym.integrations import openenv

GOAL = 3


class Move(Action):
    by: int = Field(description="Number to add", ge=-2, le=2)


class Count(Observation):
    total: int
    goal: int


class Counter(Environment):
    """Add numbers up to the goal. The seed is where the total begins; the server has no tasks."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    open = 0

    def __init__(self) -> None:
        super().__init__()
        self._total = self._steps = 0
        Counter.open += 1

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: Any) -> Count:
        self._total, self._steps = -(seed or 0), 0
        return Count(total=self._total, goal=GOAL)

    def step(self, action: Move, timeout_s: float | None = None, **options: Any) -> Count:
        if action.by == -2:
            raise RuntimeError("the disk is full")
        if action.by == -1:
            os._exit(1)
        self._total, self._steps = self._total + action.by, self._steps + 1
        done = self._total >= GOAL
        return Count(total=self._total, goal=GOAL, done=done, reward=1.0 if done else None)

    @property
    def state(self) -> State:
        return State(step_count=self._steps)

    def close(self) -> None:
        Counter.open -= 1

    def get_metadata(self) -> EnvironmentMetadata:
        return EnvironmentMetadata(name="counter", description=f"Reach {GOAL}.")


class Tools(MCPEnvironment):
    """Tools of MCP, with tasks: say the word of the task."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    words = ("red", "green", "blue")

    def __init__(self) -> None:
        server = FastMCP("tools")
        self._word, self._said = "", ""

        @server.tool
        def say(word: str) -> str:
            """Say a word."""
            self._said = word
            return f"you said {word}"

        @server.tool
        def look() -> Image:
            """See a picture."""
            return Image(data=b"GIF89a", format="gif")

        super().__init__(server)

    def reset(self, seed: int | None = None, episode_id: str | None = None, split: str = "train", index: int = 0) -> Observation:
        self._word, self._said = self.words[index], ""
        return Observation(metadata={"task": f"Say {self._word}."})

    async def step_async(self, action: Action, timeout_s: float | None = None, **options: Any) -> Observation:
        observation = await super().step_async(action, timeout_s=timeout_s, **options)
        if isinstance(observation, CallToolObservation) and self._said:
            observation.done, observation.reward = True, float(self._said == self._word)
        return observation

    def _step_impl(self, action: Action, timeout_s: float | None = None, **options: Any) -> Observation:
        raise NotImplementedError

    @property
    def state(self) -> State:
        return State()

    def list_splits(self) -> list[str]:
        return ["train"]

    def num_tasks(self, split: str) -> int:
        return len(self.words)


def make_app(base_url: str, output: str, dying: str, dying_output: str) -> FastAPI:
    """Return an application with the environments below `/counter`, `/tools`, `/echo` and `/dying`."""
    app = FastAPI()
    app.get("/health")(lambda: {"status": "healthy"})
    app.get("/open")(lambda: Counter.open)
    app.mount("/counter", create_app(Counter, Move, Count, env_name="counter", max_concurrent_envs=8))
    app.mount("/tools", create_app(Tools, CallToolAction, CallToolObservation, env_name="tools", max_concurrent_envs=8))
    for path, url, run in (("/echo", base_url, output), ("/dying", dying, dying_output)):
        app.mount(path, openenv.app("echo", base_url=url, output=run, max_sessions=4, open_attempts=1))
    return app


if __name__ == "__main__":
    uvicorn.run(make_app(*sys.argv[2:]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
