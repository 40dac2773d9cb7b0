"""A session that answers calls from a list, for tests of single steps."""

from __future__ import annotations

from typing import Any

from openreward_gym.types import ToolOutput


class Session:
    """Answers each call with the next of `answers`; remembers what it was asked."""

    def __init__(self, *answers: ToolOutput | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def call(self, name: str, arguments: dict[str, Any], *, timeout_s: float | None = None) -> ToolOutput:
        self.asked.append((name, arguments))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer
