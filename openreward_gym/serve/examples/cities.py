"""What the `weather` environment knows: the questions people ask, and the weather of every city."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.types import Json

SYSTEM_PROMPT = "You are a helpful personal assistant that aims to be helpful and reduce any pain points the user has."

QUESTIONS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "train": (
        ("Seattle", "What's the weather like in Seattle?"),
        ("Boston", "I'm going out in Boston tonight"),
        ("Chicago", "Should I bring an umbrella in Chicago?"),
        ("New York", "How's the weather in New York?"),
        ("San Francisco", "What should I wear in San Francisco today?"),
    ),
    "test": (
        ("Lisbon", "Is it a good day for a walk in Lisbon?"),
        ("Nairobi", "What's it like outside in Nairobi?"),
        ("Osaka", "Do I need a coat in Osaka?"),
        ("Reykjavík", "We land in Reykjavík in an hour. What should we expect?"),
    ),
}
"""By split: the city that is asked about, and the question."""

# The adjective of the report, and how people say it in an answer.
_WEATHER: Mapping[str, str] = {
    "rainy": r"rain(y|ing|s)?",
    "cold": r"cold|chilly|freezing",
    "windy": r"wind(y|s)?",
    "foggy": r"fog(gy)?|mist(y)?",
    "sunny": r"sun(ny|shine)?",
    "snowy": r"snow(y|ing|s)?",
}


def task_specs(split: str) -> list[dict[str, Json]]:
    """The tasks of `split`: `{"city": ..., "question": ...}`."""
    return [{"city": city, "question": question} for city, question in QUESTIONS[split]]


def same_city(one: str, other: str) -> bool:
    """Whether two names mean one city: case, blanks around it and what follows a comma ("Seattle, WA") do not matter."""
    return _key(one) == _key(other)


def weather_in(city: str) -> str:
    """The weather of `city`, one word. Every city has one, always the same (a checksum of its name chooses it)."""
    words = list(_WEATHER)
    return words[zlib.crc32(_key(city).encode("utf-8", "surrogatepass")) % len(words)]


def report(city: str) -> str:
    """What the tool says about `city`."""
    return f"The weather in {city} is {weather_in(city)}."


def says_weather(answer: str, city: str) -> bool:
    """Whether `answer` tells the weather of `city`.

    It may name one kind of weather beside the right one ("rainy, not sunny"); an answer that lists more tells nothing.
    """
    named = {word for word, said in _WEATHER.items() if re.search(rf"\b({said})\b", answer, re.IGNORECASE)}
    return weather_in(city) in named and len(named) <= 2


def solution(task_spec: Mapping[str, Json]) -> list[str | dict[str, Any]]:
    """Asks the tool about the city, then says what it said."""
    city = task_spec.get("city")
    if not isinstance(city, str):
        raise ConfigurationError(f"not a task of 'weather', it names no city: {dict(task_spec)}")
    return [{"name": "get_weather", "arguments": {"city": city}}, report(city)]


def _key(city: str) -> str:
    return city.split(",")[0].strip().casefold()
