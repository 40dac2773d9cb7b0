"""Environments of the official SDK for the tests, without mocks.

`python tests/servers/environments.py PORT` serves them.
"""

# mypy: disable-error-code="misc,untyped-decorator"
# (the SDK has no types)

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from typing import Any

os.environ.setdefault("OPENREWARD_DISABLE_UPDATE_CHECK", "1")

import uvicorn
from openreward.environments import Environment, Server, tool
from openreward.environments import types as wire
from openreward.environments.environment import terminal
from pydantic import BaseModel, Field

TASKS = 10_000
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def hostile_texts(count: int, seed: int, longest: int = 20_000) -> list[str]:
    """Return random texts that parsers find hard. The same seed gives the same texts on the server and in the test."""
    source = random.Random(seed)
    pieces = [" ", "  ", " " * 50, "\u2028", "\u2029", "\u0085", "\x00", "\r", "\n", "\r\n", "\t", "\x0b", "\x0c", "\x1c"]
    pieces += ["🦊", "é", "data: ", "event: end", ":", "a", "Z", '"', "\\", "\ufeff", "漢", "\U0010ffff"]
    texts: list[str] = []
    for _ in range(count):
        length = source.choice([0, 1, 2, 10, 100, 4095, 4096, 4097, source.randrange(longest + 1)])
        text = "".join(source.choices(pieces, k=length))
        texts.append(text[:length])
    return texts


class Text(BaseModel):
    text: str


class Seconds(BaseModel):
    # The schema allows a random action a short wait only; the server takes what a test asks for.
    seconds: float = Field(json_schema_extra={"minimum": 0.0, "maximum": 0.05})


class Anything(BaseModel):
    value: Any = None


class Texts(BaseModel):
    count: int
    seed: int


class _Base(Environment):
    def __init__(self, task_spec: Any = {}, secrets: dict[str, str] = {}) -> None:  # noqa: B006
        super().__init__(task_spec)
        self.secrets = dict(secrets)
        self.prompts = 0
        self.calls = 0

    @classmethod
    def list_splits(cls) -> list[str]:
        return ["train", "test"]

    @classmethod
    def list_tasks(cls, split: str) -> list[dict[str, Any]]:
        return [{"number": number, "split": split} for number in range(5 if split == "train" else 2)]

    def get_prompt(self) -> list[wire.TextBlock]:
        self.prompts += 1
        return [wire.TextBlock(text=f"task {json.dumps(self.task_spec, sort_keys=True)}, asked {self.prompts} times")]


class Echo(_Base):
    """Returns its input in every shape that an output can have."""

    @tool
    async def echo(self, params: Text) -> wire.ToolOutput:
        """Gives `text` back."""
        self.calls += 1
        return wire.ToolOutput(blocks=[wire.TextBlock(text=params.text)], reward=0.5)

    @tool
    async def value(self, params: Anything) -> wire.ToolOutput:
        """Gives `value` back as metadata, and its repr as text."""
        return wire.ToolOutput(blocks=[wire.TextBlock(text=repr(params.value))], metadata={"value": params.value})

    @tool
    async def texts(self, params: Texts) -> wire.ToolOutput:
        """Random texts, one block each."""
        return wire.ToolOutput(blocks=[wire.TextBlock(text=text) for text in hostile_texts(params.count, params.seed)])

    @tool
    async def count(self) -> wire.ToolOutput:
        """The number of runs of `echo`."""
        return wire.ToolOutput(blocks=[wire.TextBlock(text=str(self.calls))], metadata={"prompts": self.prompts})

    @tool
    async def slow(self, params: Seconds) -> wire.ToolOutput:
        """Takes a while."""
        await asyncio.sleep(params.seconds)
        return wire.ToolOutput(blocks=[wire.TextBlock(text="done")])

    @tool
    async def fail(self, params: Text) -> wire.ToolOutput:
        """Raises."""
        raise RuntimeError(params.text)

    @tool
    async def image(self) -> wire.ToolOutput:
        """A picture beside a text with detail."""
        picture = wire.ImageBlock(data=PIXEL, mimeType="image/png", detail={"alt": "a pixel"})
        return wire.ToolOutput(
            blocks=[wire.TextBlock(text="look", detail={"n": 1}), picture], metadata={"a": [1, None]}, reward=0.0
        )

    @tool
    async def nothing(self) -> wire.ToolOutput:
        """No block at all."""
        return wire.ToolOutput(blocks=[])

    @tool
    async def secret(self, params: Text) -> wire.ToolOutput:
        """The length of the secret with that name (never the secret)."""
        return wire.ToolOutput(blocks=[wire.TextBlock(text=str(len(self.secrets.get(params.text, ""))))])

    @tool
    async def finish(self, params: Text) -> wire.ToolOutput:
        """Ends the episode; 1.0 for "right"."""
        return wire.ToolOutput(blocks=[wire.TextBlock(text="over")], reward=1.0 if params.text == "right" else 0.0, finished=True)


class Large(_Base):
    """Ten thousand tasks, by index alone."""

    @classmethod
    def list_tasks(cls, split: str) -> list[dict[str, Any]]:
        raise NotImplementedError

    @classmethod
    async def num_tasks(cls, split: str) -> int:
        return TASKS

    @classmethod
    async def get_task(cls, split: str, index: int) -> dict[str, Any]:
        if not 0 <= index < TASKS:
            raise IndexError(index)
        return {"number": index}

    @tool
    async def answer(self, params: Text) -> wire.ToolOutput:
        """Ends the episode; 1.0 for the task's number."""
        right = params.text.strip() == str(self.task_spec["number"])
        return wire.ToolOutput(blocks=[wire.TextBlock(text="right" if right else "wrong")], reward=float(right), finished=True)


class Dialogue(_Base):
    """A conversation as the task, a plain message as the answer, groups compared, tools of the task's own."""

    def get_messages(self) -> list[wire.Message]:
        self.prompts += 1
        return [
            wire.Message(role="system", blocks=[wire.TextBlock(text="Be short.")]),
            wire.Message(role="user", blocks=[wire.TextBlock(text=f"Say {self.task_spec['number']}.")]),
        ]

    get_prompt = Environment.get_prompt

    def list_task_tools(self) -> wire.ListToolsOutput:
        name = f"only_in_{self.task_spec['number']}"
        return wire.ListToolsOutput(tools=[wire.ToolSpec(name=name, description="The task's own.", input_schema=None)])

    async def score_group(self, candidates: Any) -> list[wire.GroupScore]:
        texts = ["".join(getattr(b, "text", "") for m in c.messages for b in m.blocks) for c in candidates]
        if any("refuse" in text for text in texts):
            raise ValueError("no judge today")
        return [wire.GroupScore(reward=float(len(text)), metadata={"text": text}) for text in texts]

    @tool
    async def look(self) -> wire.ToolOutput:
        """The number of requests for the prompt."""
        return wire.ToolOutput(blocks=[wire.TextBlock(text=str(self.prompts))])

    @terminal
    @tool
    async def submit(self, params: Text) -> wire.ToolOutput:
        """Takes the assistant's message."""
        right = params.text == str(self.task_spec["number"])
        return wire.ToolOutput(blocks=[wire.TextBlock(text="thanks")], reward=float(right), finished=True)


class SlowStart(_Base):
    """Takes a while to set up."""

    async def setup(self) -> None:
        await asyncio.sleep(float(self.task_spec.get("setup_s", 0.3)))

    @tool
    async def ready(self) -> wire.ToolOutput:
        """Say that it is ready."""
        return wire.ToolOutput(blocks=[wire.TextBlock(text="ready")])


class Broken(_Base):
    """Raises in its setup."""

    def setup(self) -> None:
        raise RuntimeError("no disk left")

    @tool
    async def never(self) -> wire.ToolOutput:
        """Never runs."""
        return wire.ToolOutput(blocks=[])


class Guarded(_Base):
    """Needs a secret."""

    def setup(self) -> None:
        if "judge_api_key" not in self.secrets:
            raise ValueError(f"task {self.task_spec['number']} needs the secret judge_api_key")

    @tool
    async def never(self) -> wire.ToolOutput:
        """Never runs."""
        return wire.ToolOutput(blocks=[])


def make_server() -> Server:
    """Return a server of the environments that also reports its number of open sessions."""
    server = Server([Echo, Large, Dialogue, SlowStart, Broken, Guarded])
    app = server.app

    @app.get("/health/sessions")
    async def open_sessions() -> dict[str, int]:
        return {"sessions": len(server._active_envs)}

    return server


def main() -> None:
    uvicorn.run(make_server().app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
