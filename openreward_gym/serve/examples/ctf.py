"""`ctf`: find a flag in a file tree with a read-only shell, and submit it.

An episode has several steps. Shell commands have no reward; a submission has 1.0 or 0.0. The episode ends with the right flag
or the third wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from openreward_gym.serve.examples import ctf_tasks
from openreward_gym.serve.examples.sdk import Environment, Split, TextBlock, ToolOutput, text_output, tool
from openreward_gym.serve.examples.shell import Shell
from openreward_gym.serve.examples.shell_programs import PROGRAMS, FileTree


class Command(BaseModel):
    model_config = ConfigDict(extra="forbid")
    command: str = Field(description="The command line to run")


class Flag(BaseModel):
    model_config = ConfigDict(extra="forbid")
    answer: str = Field(description="The flag, like flag{0123456789abcdef}")


class CTF(Environment):  # type: ignore[misc]  # the SDK is not typed
    """Capture-the-flag challenges with a read-only shell."""

    def __init__(self, task_spec: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> None:
        super().__init__(task_spec=task_spec, secrets=dict(secrets or {}))
        self.challenge = ctf_tasks.build(str(task_spec.get("id")))
        self.shell = Shell(FileTree(self.challenge.files, home=ctf_tasks.HOME))
        self.submissions_left = ctf_tasks.SUBMISSIONS

    @classmethod
    def list_splits(cls) -> list[Split]:
        return [Split(name="train", type="train"), Split(name="test", type="test")]

    @classmethod
    def list_tasks(cls, split: str) -> list[Any]:
        return ctf_tasks.task_specs(split)

    async def get_prompt(self) -> list[TextBlock]:
        return [
            TextBlock(
                text=f"{self.challenge.story}\n\n"
                "A flag looks like flag{0123456789abcdef}. Look around with `bash`: a read-only shell "
                f"that knows {', '.join(sorted(PROGRAMS))}, pipes, &&, || and ;. You are in {ctf_tasks.HOME}.\n"
                f"Hand the flag in with `submit_answer`. You may submit {ctf_tasks.SUBMISSIONS} times."
            )
        ]

    @tool
    async def bash(self, arguments: Command) -> ToolOutput:
        """Run a command line in a read-only shell and see what it prints."""
        outcome = self.shell.run(arguments.command)
        return text_output(outcome.output, exit_code=outcome.exit_code)

    @tool
    async def submit_answer(self, arguments: Flag) -> ToolOutput:
        """Submit the flag. The right one ends the episode, and so does the last wrong one."""
        self.submissions_left -= 1
        if arguments.answer.strip() == self.challenge.flag:
            return text_output("That is the flag.", reward=1.0, finished=True, submissions_left=self.submissions_left)
        if not self.submissions_left:
            verdict = "That is not the flag, and it was the last submission."
            return text_output(verdict, reward=0.0, finished=True, submissions_left=0)
        left = "1 submission" if self.submissions_left == 1 else f"{self.submissions_left} submissions"
        return text_output(f"That is not the flag. You have {left} left.", reward=0.0, submissions_left=self.submissions_left)
