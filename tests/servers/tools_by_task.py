"""An environment of the official SDK in which task 1 has a tool that the others lack: `python tools_by_task.py PORT`."""

from __future__ import annotations

import sys
from typing import Any

from openreward.environments import Environment, ListToolsOutput, Server, Split, TextBlock, ToolOutput, ToolSpec, tool
from pydantic import BaseModel


class City(BaseModel):
    city: str


class ByTask(Environment):  # type: ignore[misc]  # the SDK is not typed
    """Its second task has a second tool."""

    @classmethod
    def list_splits(cls) -> list[Split]:
        return [Split(name="train", type="train")]

    @classmethod
    def list_tasks(cls, split: str) -> list[dict[str, Any]]:
        return [{"question": "One?", "number": 0}, {"question": "Two?", "number": 1}]

    async def get_prompt(self) -> list[TextBlock]:
        return [TextBlock(text=self.task_spec["question"])]

    @tool  # type: ignore[untyped-decorator]
    async def first(self, arguments: City) -> ToolOutput:
        """First"""
        return ToolOutput(blocks=[TextBlock(text="ok")], reward=1.0, finished=True)

    @tool(shared=False)  # type: ignore[untyped-decorator]
    async def second(self, arguments: City) -> ToolOutput:
        """Second"""
        return ToolOutput(blocks=[TextBlock(text="ok")], reward=1.0, finished=True)

    def list_task_tools(self) -> ListToolsOutput:
        own = [ToolSpec(name="second", description="Second", input_schema=City.model_json_schema())]
        return ListToolsOutput(tools=own if self.task_spec["number"] == 1 else [])


if __name__ == "__main__":
    Server([ByTask]).run(host="127.0.0.1", port=int(sys.argv[1]))
