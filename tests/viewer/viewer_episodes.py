"""Episodes really played on a server of the built-in environments."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from openreward_gym import Client
from openreward_gym.types import AssistantMessage, Rollout, RolloutEnvironment, Task, ToolCall, ToolMessage


def weather_episode(base_url: str, *, identity: str = "a", city: str | None = None, answer: str = "") -> Rollout:
    """An episode of `weather`: one call, one answer; `city` None asks for the right one, and tells what it heard."""
    with ThreadPoolExecutor(1) as elsewhere:  # a browser's driver has the event loop of this thread
        return elsewhere.submit(asyncio.run, _weather(base_url, identity, city, answer)).result()


async def _weather(base_url: str, identity: str, city: str | None, answer: str) -> Rollout:
    async with Client(base_url) as client:
        environment = client.environment("weather")
        task = await environment.task("train", 0)
        assert task.spec is not None
        async with environment.session(split="train", index=0) as session:
            messages = [message.replace(origin="given") for message in await session.messages()]
            call = ToolCall("get_weather", {"city": city or task.spec["city"]}, call_id="c1")
            output = await session.call(call.name, call.arguments)
            said = answer or output.text
            verdict = await session.call_terminal(said)
            terminal = (await session.tools()).terminal
    messages += [
        AssistantMessage(tool_calls=[call], origin="policy"),
        ToolMessage(output.blocks, call.call_id, call.name, reward=output.reward, finished=output.finished, origin="environment"),
        AssistantMessage(said, origin="policy"),
        ToolMessage(verdict.blocks, "", "answer", reward=verdict.reward, finished=verdict.finished, origin="environment"),
    ]
    return Rollout(
        id=identity, run="played", environment=RolloutEnvironment(name="weather", split="train", origin=base_url),
        task=Task(index=0, spec=dict(task.spec)), group="g", messages=messages, reward=verdict.reward,
        terminal_tool=terminal, status="completed", stop_reason="finished",
    )  # fmt: skip
