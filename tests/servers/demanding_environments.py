"""Environments that need a secret, add tools per task, or are slow; for the commands `tasks` and `check`."""
# mypy: ignore-errors

from __future__ import annotations

import asyncio

from openreward.environments import Environment, ListToolsOutput, TextBlock, ToolOutput, ToolSpec, tool
from pydantic import BaseModel


class Text(BaseModel):
    text: str


class Open(Environment):
    @classmethod
    def list_splits(cls):
        return ["train", "test"]

    @classmethod
    def list_tasks(cls, split):
        return [{"number": number} for number in range(3)]

    def get_prompt(self):
        return [TextBlock(text=f"Task {self.task_spec['number']}")]

    @tool
    async def answer(self, params: Text) -> ToolOutput:
        """Answer the task."""
        return ToolOutput(blocks=[TextBlock(text="ok")], reward=1.0, finished=True)


class Endless(Open):
    @tool
    async def answer(self, params: Text) -> ToolOutput:
        """Answer the task: right for "yes" only."""
        return ToolOutput(blocks=[TextBlock(text="ok")], finished=params.text == "yes", reward=float(params.text == "yes"))


class Locked(Open):
    def __init__(self, task_spec, secrets=()):
        super().__init__(task_spec, dict(secrets))
        self.key = secrets["api_key"]


class LockedSetup(Open):
    def __init__(self, task_spec, secrets=()):
        super().__init__(task_spec, dict(secrets))
        self.given = dict(secrets)

    async def setup(self):
        if "judge_key" not in self.given:
            raise ValueError("the secret judge_key is missing")


class TaskTools(Open):
    def list_task_tools(self):
        schema = {"type": "object", "properties": {"query": {"type": "string"}}}
        name = f"special_{self.task_spec['number']}"
        return ListToolsOutput(tools=[ToolSpec(name=name, description="Only of this task.", input_schema=schema)])


class Slow(Open):
    async def setup(self):
        await asyncio.sleep(1.5)
