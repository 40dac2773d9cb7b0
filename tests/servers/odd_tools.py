"""An environment of the official SDK whose tools have odd names and schemas: `python odd_tools.py PORT`."""

from __future__ import annotations

import json
import sys
from typing import Any

from openreward.environments import Environment, ListToolsOutput, Server, Split, TextBlock, ToolOutput, ToolSpec, tool
from pydantic import BaseModel, ConfigDict

DESCRIPTION = "Look something up.\n\nArgs: none of Python's.\n    key: a colon\nReturns:\n    nothing"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "class": {"type": "string", "enum": ["a", "b"], "description": "Kind: one of Args:\nor not (choices: no)"},
        "from-to": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
        "self": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "nested": {
            "type": "object",
            "properties": {"depth": {"type": "integer", "minimum": 0}},
            "required": ["depth"],
            "additionalProperties": False,
        },
        "anything": {},
        "either": {"type": ["string", "integer"], "default": 3},
    },
    "required": ["class"],
    "additionalProperties": {"type": "number"},
}
NAMES = ("look-up", "reset", "get_reward", "_hidden", "class", "tool_reset", "call")


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


class OddTools(Environment):  # type: ignore[misc]  # the SDK is not typed
    """Its tools give back what they were called with."""

    @classmethod
    def list_splits(cls) -> list[Split]:
        return [Split(name="train", type="train")]

    @classmethod
    def list_tasks(cls, split: str) -> list[dict[str, Any]]:
        return [{"number": number} for number in range(2)]

    async def get_prompt(self) -> list[TextBlock]:
        return [TextBlock(text="Use any tool.")]

    @tool  # type: ignore[untyped-decorator]
    async def plain(self) -> ToolOutput:
        """A tool without arguments."""
        return ToolOutput(blocks=[TextBlock(text="plain")], reward=0.25)

    def list_task_tools(self) -> ListToolsOutput:
        return ListToolsOutput(tools=[ToolSpec(name=name, description=DESCRIPTION, input_schema=SCHEMA) for name in NAMES])


def _named(name: str) -> Any:
    async def answer(self: Any, arguments: Anything) -> ToolOutput:
        said = json.dumps(arguments.model_dump(), sort_keys=True)
        return ToolOutput(blocks=[TextBlock(text=f"{name} {said}")], reward=0.25)

    return tool(shared=False)(answer)


for _name in NAMES:
    setattr(OddTools, _name, _named(_name))


if __name__ == "__main__":
    Server([OddTools]).run(host="127.0.0.1", port=int(sys.argv[1]))
