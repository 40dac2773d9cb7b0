from __future__ import annotations

import asyncio
import json

import pytest
from built_in import Play

from openreward_gym.protocol.client import Client
from openreward_gym.serve.examples import solution, weather_tasks

LOOK = {"name": "get_weather", "arguments": {"city": "Seattle"}}


def test_the_five_questions_of_the_tutorial_are_the_training_tasks(examples: str) -> None:
    async def read() -> None:
        async with Client(examples) as client:
            weather = client.environment("weather")
            assert [split.name for split in await weather.splits()] == ["train", "test"]
            tasks = await weather.tasks("train")
            assert [task.spec and task.spec["city"] for task in tasks] == [
                "Seattle",
                "Boston",
                "Chicago",
                "New York",
                "San Francisco",
            ]
            tools = await weather.tools()
            assert [tool.name for tool in tools] == ["get_weather"]
            assert tools.terminal is not None
            assert (tools.terminal.name, tools.terminal.arg) == ("answer", "message")
            async with weather.session(split="train", index=2) as session:
                system, user = await session.messages()
                assert (system.role, user.role) == ("system", "user")
                assert system.text.startswith("You are a helpful personal assistant")
                assert user.text == "Should I bring an umbrella in Chicago?"
            async with weather.session(split="train", index=2) as session:
                assert [getattr(block, "text", "") for block in await session.prompt()] == [system.text, user.text]

    asyncio.run(read())


def test_the_tool_answers_as_in_the_tutorial(play: Play) -> None:
    (output,) = play("weather", [LOOK], split="train", index=0)
    assert json.loads(output.text) == {"city": "Seattle", "weather_description": "The weather in Seattle is cold."}
    assert (output.reward, output.finished) == (None, False)


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_scripted_solution_is_rewarded(play: Play, split: str) -> None:
    for index, spec in enumerate(weather_tasks.task_specs(split)):
        *_, last = play("weather", solution("weather", spec), split=split, index=index)
        assert (last.reward, last.finished) == (1.0, True), spec


@pytest.mark.parametrize(
    ("steps", "reward"),
    [
        ([LOOK, "The weather in Seattle is cold. You might want to bring a jacket!"], 1.0),
        ([{"name": "get_weather", "arguments": {"city": " seattle, WA"}}, "Cold."], 1.0),
        ([LOOK, {"name": "get_weather", "arguments": {"city": "Boston"}}, "It is freezing, not sunny."], 1.0),
        (["The weather in Seattle is cold."], 0.0),
        ([{"name": "get_weather", "arguments": {"city": "Boston"}}, "It is cold."], 0.0),
        ([LOOK, "I cannot say."], 0.0),
        ([LOOK, ""], 0.0),
        ([LOOK, "It is sunny in Seattle."], 0.0),
        ([LOOK, "A scold."], 0.0),
        ([LOOK, "It is cold, sunny, rainy, windy, foggy or snowy."], 0.0),
    ],
)
def test_the_verifier_wants_the_right_city_and_its_weather(play: Play, steps: list[object], reward: float) -> None:
    *_, last = play("weather", steps, split="train", index=0)
    assert (last.reward, last.finished) == (reward, True)


@pytest.mark.parametrize("arguments", [{}, {"city": 3}, {"city": None}, {"city": "Seattle", "country": "US"}])
def test_wrong_arguments_are_answered_not_rewarded(play: Play, arguments: dict[str, object]) -> None:
    wrong, right = play("weather", [{"name": "get_weather", "arguments": arguments}, LOOK], split="train", index=0)
    assert wrong.error_kind == "input_validation"
    assert (wrong.reward, wrong.finished) == (None, False)
    assert not right.error


def test_nothing_can_be_done_after_the_answer(play: Play) -> None:
    *_, late = play("weather", [LOOK, "Cold.", LOOK], split="train", index=0)
    assert late.error_kind == "episode_finished"


def test_every_city_has_a_weather_of_its_own_and_keeps_it() -> None:
    names = [*(city for split in weather_tasks.QUESTIONS.values() for city, _ in split), "", "São Paulo", "\ud800"]
    assert [weather_tasks.weather_in(city) for city in names] == [weather_tasks.weather_in(city) for city in names]
    assert len({weather_tasks.weather_in(city) for city in names}) >= 5
    assert all(weather_tasks.says_weather(weather_tasks.report(city), city) for city in names)


def test_a_task_without_a_city_is_refused_with_what_is_missing(play: Play) -> None:
    with pytest.raises(Exception, match="'city'"):
        play("weather", [], task_spec={"question": "?"})
