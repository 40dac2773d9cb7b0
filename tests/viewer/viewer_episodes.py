"""Episodes really played on a server of the built-in environments."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from openreward_gym import Client
from openreward_gym.types import ToolCall
from openreward_gym.types.conversion import message_records, result_record, terminal_tool_record
from openreward_gym.types.rollout import EnvironmentRecord, MessageRecord, Rollout, TaskRecord, TextPart, ToolCallPart


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
            messages = [record for message in await session.messages() for record in message_records(message)]
            call = ToolCall("get_weather", {"city": city or task.spec["city"]}, call_id="c1")
            output = await session.call(call.name, call.arguments)
            said = answer or output.text
            verdict = await session.call_terminal(said)
            terminal = (await session.tools()).terminal
    messages += [
        MessageRecord(role="assistant", blocks=[ToolCallPart(id="c1", name=call.name, input=dict(call.arguments or {}))]),
        result_record(call, output),
        MessageRecord(role="assistant", blocks=[TextPart(text=said)]),
        result_record(ToolCall("answer"), verdict),
    ]
    return Rollout(
        id=identity, run="played", environment=EnvironmentRecord(name="weather", split="train", origin=base_url),
        task=TaskRecord(index=0, spec=dict(task.spec)), group="g", messages=messages, reward=verdict.reward,
        terminal_tool=terminal_tool_record(terminal), status="completed", stop_reason="finished",
    )  # fmt: skip
