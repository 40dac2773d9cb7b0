"""Episodes played on a server of the built-in environments."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from openreward_gym import Client
from openreward_gym.types import AssistantMessage, Rollout, RolloutEnvironment, Task, ToolCall


def weather_episode(base_url: str, *, identity: str = "a", city: str | None = None, answer: str = "") -> Rollout:
    """Play an episode of `weather`: one call and one answer.

    `city` None looks up the right city; an empty `answer` repeats the result of the call.
    """
    with ThreadPoolExecutor(1) as executor:  # the browser's driver runs the event loop of this thread
        return executor.submit(asyncio.run, _weather(base_url, identity, city, answer)).result()


async def _weather(base_url: str, identity: str, city: str | None, answer: str) -> Rollout:
    async with Client(base_url) as client:
        environment = client.environment("weather")
        task = await environment.task("train", 0)
        assert task.spec is not None
        async with environment.session(split="train", index=0) as session:
            messages = [message.replace(origin="given") for message in await session.messages()]
            call = ToolCall("get_weather", {"city": city or task.spec["city"]}, call_id="c1")
            output = await session.call(call.name, call.arguments)
            text = answer or output.text
            verdict = await session.call_terminal(text)
            terminal = (await session.tools()).terminal
    messages += [
        AssistantMessage(tool_calls=[call], origin="policy"),
        output.answer(call, origin="environment"),
        AssistantMessage(text, origin="policy"),
        verdict.answer(ToolCall("answer"), origin="environment"),
    ]
    return Rollout(
        id=identity, run="played", environment=RolloutEnvironment(name="weather", split="train", origin=base_url),
        task=Task(index=0, spec=dict(task.spec)), group="g", messages=messages, reward=verdict.reward,
        terminal_tool=terminal, status="completed", stop_reason="finished",
    )  # fmt: skip
