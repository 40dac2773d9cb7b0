"""The tasks of `weather`: the questions, the weather of every city, and the verifier of answers."""

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
"""The city and the question of each task, by split."""

# The adjective in the report, and a pattern of the words for it in an answer.
_WEATHER: Mapping[str, str] = {
    "rainy": r"rain(y|ing|s)?",
    "cold": r"cold|chilly|freezing",
    "windy": r"wind(y|s)?",
    "foggy": r"fog(gy)?|mist(y)?",
    "sunny": r"sun(ny|shine)?",
    "snowy": r"snow(y|ing|s)?",
}


def task_specs(split: str) -> list[dict[str, Json]]:
    """Return the tasks of `split`: `{"city": ..., "question": ...}`."""
    return [{"city": city, "question": question} for city, question in QUESTIONS[split]]


def same_city(one: str, other: str) -> bool:
    """Return True if two names mean the same city. Case, surrounding spaces and a suffix after a comma do not matter."""
    return _key(one) == _key(other)


def weather_in(city: str) -> str:
    """Return the weather of `city` as one word. A checksum of the name selects it, so it is always the same."""
    words = list(_WEATHER)
    return words[zlib.crc32(_key(city).encode("utf-8", "surrogatepass")) % len(words)]


def report(city: str) -> str:
    """Return the weather report for `city`, as the tool gives it."""
    return f"The weather in {city} is {weather_in(city)}."


def says_weather(answer: str, city: str) -> bool:
    """Return True if `answer` states the weather of `city`.

    An answer may name one other kind of weather beside the right one ("rainy, not sunny"). One that lists more is wrong.
    """
    named = {word for word, pattern in _WEATHER.items() if re.search(rf"\b({pattern})\b", answer, re.IGNORECASE)}
    return weather_in(city) in named and len(named) <= 2


def solution(task_spec: Mapping[str, Json]) -> list[str | dict[str, Any]]:
    """Return the call of the tool for the city, then the answer with its report."""
    city = task_spec.get("city")
    if not isinstance(city, str):
        raise ConfigurationError(f"a task of 'weather' needs a 'city', but this one is {dict(task_spec)}")
    return [{"name": "get_weather", "arguments": {"city": city}}, report(city)]


def _key(city: str) -> str:
    return city.split(",")[0].strip().casefold()
