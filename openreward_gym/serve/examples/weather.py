"""`weather`: a user asks about the weather of a city; the model looks it up and answers.

An episode has two steps: a call of `get_weather`, and the answer as a plain message, which goes to the hidden terminal tool
and ends the episode. The reward is 1.0 if the right city was looked up and the answer states its weather, else 0.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from openreward_gym.serve.examples import weather_tasks
from openreward_gym.serve.examples.sdk import Environment, Split, TextBlock, ToolOutput, conversation, terminal, text_output, tool


class City(BaseModel):
    model_config = ConfigDict(extra="forbid")
    city: str = Field(description="City name")


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    message: str = Field(description="What you tell the user")


class Weather(Environment):  # type: ignore[misc]  # the SDK is not typed
    """Questions about the weather of weather_tasks."""

    def __init__(self, task_spec: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> None:
        super().__init__(task_spec=task_spec, secrets=dict(secrets or {}))
        if not {"city", "question"} <= task_spec.keys():
            raise ValueError(f"a task of `weather` must be {{'city': ..., 'question': ...}}, not {dict(task_spec)}")
        self.city = str(task_spec["city"])
        self.question = str(task_spec["question"])
        self.looked_up = False

    @classmethod
    def list_splits(cls) -> list[Split]:
        return [Split(name="train", type="train"), Split(name="test", type="test")]

    @classmethod
    def list_tasks(cls, split: str) -> list[Any]:
        return weather_tasks.task_specs(split)

    async def get_prompt(self) -> list[TextBlock]:
        return [TextBlock(text=weather_tasks.SYSTEM_PROMPT), TextBlock(text=self.question)]

    async def get_messages(self) -> list[Any]:
        return conversation(weather_tasks.SYSTEM_PROMPT, self.question)

    @tool
    async def get_weather(self, arguments: City) -> ToolOutput:
        """Get weather information for a city"""
        self.looked_up = self.looked_up or weather_tasks.same_city(arguments.city, self.city)
        description = weather_tasks.report(arguments.city)
        return text_output(json.dumps({"city": arguments.city, "weather_description": description}, ensure_ascii=False))

    @terminal
    @tool
    async def answer(self, arguments: Answer) -> ToolOutput:
        """Answer the user. This ends the conversation."""
        says_weather = weather_tasks.says_weather(arguments.message, self.city)
        reward, verdict = 0.0, f"The answer does not say what the weather in {self.city} is."
        if not self.looked_up:
            verdict = f"The weather in {self.city} was never looked up."
        elif says_weather:
            reward, verdict = 1.0, "The user knows what the weather is."
        return text_output(verdict, reward=reward, finished=True, looked_up=self.looked_up, says_weather=says_weather)
