"""Environments for the tests of the server."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from openreward.environments import Environment, TextBlock, ToolOutput, tool
from pydantic import BaseModel


class Words(BaseModel):
    words: str


class Echo(Environment):  # type: ignore[misc]  # the SDK is not typed
    """Repeats its input."""

    @classmethod
    def list_splits(cls) -> list[str]:
        return ["train"]

    @classmethod
    def list_tasks(cls, split: str) -> list[Mapping[str, Any]]:
        return [{"n": 0}, {"n": 1}]

    def get_prompt(self) -> list[TextBlock]:
        return [TextBlock(text=f"task {self.task_spec['n']}")]

    @tool  # type: ignore[untyped-decorator]
    async def say(self, arguments: Words) -> ToolOutput:
        """Say it."""
        print(f"said {arguments.words}")
        return ToolOutput(blocks=[TextBlock(text=arguments.words)], reward=0.5)

    @tool  # type: ignore[untyped-decorator]
    async def read_input(self) -> ToolOutput:
        """Read standard input to its end."""
        return ToolOutput(blocks=[TextBlock(text=repr(os.read(0, 100)))])


class TearsDown(Echo):
    """Writes a file in its teardown."""

    def teardown(self) -> None:
        with open(self.task_spec["file"], "w") as file:
            file.write("torn down")


class NeverLetsGo(Echo):
    """Starts a program that outlives the tool, and its teardown does not return."""

    @tool  # type: ignore[untyped-decorator]
    def start(self) -> ToolOutput:
        """Start a program."""
        return ToolOutput(blocks=[TextBlock(text=str(subprocess.Popen(["sleep", "300"]).pid))])

    def teardown(self) -> None:
        time.sleep(300)


class Toolless(Environment):  # type: ignore[misc]
    """Has no tools, so the SDK refuses it."""

    @classmethod
    def list_splits(cls) -> list[str]:
        return ["train"]

    @classmethod
    def list_tasks(cls, split: str) -> list[Mapping[str, Any]]:
        return []

    def get_prompt(self) -> list[TextBlock]:
        return []


class Unfinished(Environment):  # type: ignore[misc]
    """Is abstract: two methods are missing."""
