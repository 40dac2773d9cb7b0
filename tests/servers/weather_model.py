"""A stand-in of a model that plays `weather`, on a tokenizer with one token per byte: it looks up the city and repeats the
report."""

from __future__ import annotations

import re
from typing import Any

THINKING = "<think>I look it up.</think>"


def weather_turn(prompt: str, *, looks_up: bool = True, thought: str = "") -> str:
    """Return the model's next turn, without its end.

    Args:
        prompt: The text of the whole prompt, as the tokens of the last turn say it.
        looks_up: Whether the model uses the tool. One that does not is wrong.
        thought: What the turn begins with.
    """
    report = re.findall(r'"weather_description": "([^"]*)"', prompt)
    if report:
        return f"{thought}{report[-1]}"
    city = re.search(r"in (Seattle|Boston|Chicago|New York|San Francisco)", prompt)
    if city is None or not looks_up:
        return f"{thought}It is sunny."
    return f'{thought}I look.\n<tool_call>\n{{"name":  "get_weather", "arguments": {{"city": "{city[1]}"}}}}\n</tool_call>'


def ids_of(tokenizer: Any, text: str, limit: int | None = None) -> list[int]:
    """Return the ids of a turn with its end, cut off after `limit` tokens."""
    ids: list[int] = tokenizer.encode(f"{text}<|im_end|>", add_special_tokens=False)
    return ids if limit is None else ids[:limit]
