"""An environment whose tasks raise, of the official SDK: `python raising_environment.py PORT [exception|stacktrace|none]`."""

from __future__ import annotations

import sys
from typing import Any

from openreward.environments import Environment, Server, Split, TextBlock, ToolOutput, tool
from pydantic import BaseModel

CONSTRUCTOR, VALIDATION, SETUP, PROMPT, OUTAGE, FINE = range(6)


class Text(BaseModel):
    text: str


class Raising(Environment):
    """Task n raises in one of several places, the last one nowhere."""

    def __init__(self, task_spec: dict[str, Any], secrets: dict[str, str] | None = None) -> None:
        super().__init__(task_spec=task_spec, secrets=secrets or {})
        self.number = task_spec["number"]
        if self.number == CONSTRUCTOR:
            raise ValueError("number must not be 0")
        if self.number == VALIDATION:
            Text.model_validate({})

    async def setup(self) -> None:
        if self.number == SETUP:
            raise KeyError("setup")
        if self.number == OUTAGE:
            raise ConnectionError("the database is down")

    @classmethod
    def list_splits(cls) -> list[Split]:
        return [Split(name="train", type="train")]

    @classmethod
    def list_tasks(cls, split: str) -> list[dict[str, Any]]:
        return [{"number": number} for number in range(6)]

    async def get_prompt(self) -> list[TextBlock]:
        if self.number == PROMPT:
            raise TypeError("prompt")
        return [TextBlock(text="Say something.")]

    @tool
    async def say(self, arguments: Text) -> ToolOutput:
        """Say something"""
        return ToolOutput(blocks=[TextBlock(text="ok")], reward=1.0, finished=True)


if __name__ == "__main__":
    Server([Raising], return_errors=sys.argv[2]).run(host="127.0.0.1", port=int(sys.argv[1]))  # type: ignore[arg-type]
