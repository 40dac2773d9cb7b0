"""Environments with one fault each, and a server of them: python bad_environments.py PORT [--keeps-sessions]."""

# mypy: disable-error-code="misc,untyped-decorator"

from __future__ import annotations

import itertools
import sys
import uuid
from typing import Any, ClassVar

import uvicorn
from openreward.environments import Environment, Server, TextBlock, ToolOutput, terminal, tool
from pydantic import BaseModel


class Text(BaseModel):
    text: str


class Good(Environment):
    """Has no fault."""

    @classmethod
    def list_splits(cls) -> list[str]:
        return ["train", "test"]

    @classmethod
    def list_tasks(cls, split: str) -> list[Any]:
        return [{"number": number} for number in range(4)]

    def get_prompt(self) -> list[TextBlock]:
        return [TextBlock(text=f"task {self.task_spec['number']}")]

    @tool
    async def say(self, params: Text) -> ToolOutput:
        """Say it."""
        return ToolOutput(blocks=[TextBlock(text=params.text)])

    @terminal
    @tool
    async def answer(self, params: Text) -> ToolOutput:
        """The answer."""
        return ToolOutput(blocks=[TextBlock(text="thanks")], reward=0.5, finished=True)


class NoTasks(Good):
    @classmethod
    async def num_tasks(cls, split: str) -> int:
        return 0


class Repeats(Good):
    """Says that there are four tasks, but has a task for every index."""

    @classmethod
    async def get_task(cls, split: str, index: int) -> Any:
        return {"number": index % 4}


class CountsWrong(Good):
    @classmethod
    async def num_tasks(cls, split: str) -> int:
        return 9


class NewTasks(Good):
    @classmethod
    async def get_task(cls, split: str, index: int) -> Any:
        return {"number": index, "id": str(uuid.uuid4())}


class Silent(Good):
    def get_prompt(self) -> list[TextBlock]:
        return []


class Alike(Good):
    def get_prompt(self) -> list[TextBlock]:
        return [TextBlock(text="the same for all")]


class Moody(Good):
    def get_prompt(self) -> list[TextBlock]:
        return [TextBlock(text=str(uuid.uuid4()))]


class Raises(Good):
    @tool
    async def divide(self) -> ToolOutput:
        """Divide by zero."""
        raise ZeroDivisionError("by zero")


class Forgets(Good):
    """Shares a counter between its sessions."""

    counter: ClassVar[Any] = itertools.count()

    @tool
    async def count(self) -> ToolOutput:
        """Return the number of calls."""
        return ToolOutput(blocks=[TextBlock(text=str(next(self.counter)))])


class NeverOver(Good):
    """Goes on after its end."""

    _episode_finished = property(lambda self: False, lambda self, value: None)


class Unrewarding(Good):
    @terminal
    @tool
    async def answer(self, params: Text) -> ToolOutput:
        """The answer."""
        return ToolOutput(blocks=[], finished=True)


class Picky(Good):
    @tool
    async def say(self, params: Text) -> ToolOutput:
        return ToolOutput(blocks=[TextBlock(text=params.text)])


class CannotBeMade(Good):
    def setup(self) -> None:
        raise RuntimeError("no disk left")


ENVIRONMENTS = [Good, *Good.__subclasses__()]


def main() -> None:
    server = Server(ENVIRONMENTS)
    if "--keeps-sessions" in sys.argv:
        delete = next(route for route in server.app.routes if getattr(route, "path", "") == "/delete")
        server.app.router.routes.remove(delete)

        @server.app.post("/delete")
        async def keep() -> dict[str, str]:
            return {}

    uvicorn.run(server.app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
