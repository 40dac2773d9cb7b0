# mypy: ignore-errors
"""An environment that every generation of the SDK can serve: `python server.py PORT`. Run by the SDK's own interpreter."""

import asyncio
import os
import sys

os.environ.setdefault("OPENREWARD_DISABLE_UPDATE_CHECK", "1")

import uvicorn
from pydantic import BaseModel

try:
    from openreward.environments import Environment, Server, TextBlock, ToolOutput, tool
except ImportError:
    from ors import Environment, Server, TextBlock, ToolOutput, tool


class Text(BaseModel):
    text: str


class Seconds(BaseModel):
    seconds: float


class Echo(Environment):
    def __init__(self, task_spec={}, secrets={}):  # noqa: B006
        super().__init__(task_spec=task_spec, secrets=secrets)
        self.task_spec = task_spec
        self.secrets = dict(secrets)
        self.calls = 0

    @classmethod
    def list_splits(cls):
        return ["train", "test"]

    @classmethod
    def list_tasks(cls, split):
        return [{"number": number} for number in range(3)]

    async def setup(self):
        await asyncio.sleep(0.2)

    def get_prompt(self):
        return [TextBlock(text=f"task {self.task_spec['number']}")]

    @tool
    async def echo(self, params: Text) -> ToolOutput:
        """Gives `text` back."""
        self.calls += 1
        return ToolOutput(blocks=[TextBlock(text=params.text)], reward=0.5, metadata={"calls": self.calls})

    @tool
    async def slow(self, params: Seconds) -> ToolOutput:
        """Takes a while."""
        await asyncio.sleep(params.seconds)
        return ToolOutput(blocks=[TextBlock(text="done")])

    @tool
    async def fail(self, params: Text) -> ToolOutput:
        """Raises."""
        raise RuntimeError(params.text)

    @tool
    async def secret(self, params: Text) -> ToolOutput:
        """Return the length of a secret."""
        return ToolOutput(blocks=[TextBlock(text=str(len(self.secrets.get(params.text, ""))))])

    @tool
    async def finish(self, params: Text) -> ToolOutput:
        """Ends the episode."""
        return ToolOutput(blocks=[], reward=float(params.text == "right"), finished=True)


class Second(Echo):
    """A variant."""


server = Server([Echo, Second])


@server.app.get("/health/sessions")
async def open_sessions():
    return {"sessions": len(server._active_envs)}


uvicorn.run(server.app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
