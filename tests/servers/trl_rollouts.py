"""TRL's loop over the tools of an environment, with a script in the place of the model: as `GRPOTrainer` of TRL 1.16 has it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

Turn = str | Sequence[tuple[str, Any]]
"""What the model says: a text, or calls as names and arguments."""


def tools_of(environment: Any) -> dict[str, Any]:
    """Return the tools of an environment object by name, as TRL finds them."""
    members = [name for name, _ in inspect.getmembers(type(environment), predicate=inspect.isfunction)]
    chosen = [name for name in members if name not in ("reset", "get_reward") and not name.startswith("_")]
    return {tool.__name__: tool for tool in (getattr(environment, name) for name in chosen)}


def roll_out(environment: Any, row: Mapping[str, Any], script: Sequence[Turn], most_calls: int = 8) -> Any:
    """Reset an environment and play a script, and return the prompt and the completion.

    The rollout ends with the first text. Exceptions of tools become texts for the model, and so do calls of unknown tools.
    """
    row = {name: value for name, value in row.items() if name != "environment"}
    prompt = list(row["prompt"])
    observation = environment.reset(**row)
    if observation is not None:
        prompt = [*prompt[:-1], {**prompt[-1], "content": prompt[-1]["content"] + observation}]
    tools = tools_of(environment)
    completion: list[dict[str, Any]] = []
    for number, turn in enumerate(script):
        if isinstance(turn, str):
            completion.append({"role": "assistant", "content": turn})
            break
        calls = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in turn]
        completion.append({"role": "assistant", "content": "", "tool_calls": calls})
        if number == most_calls:
            break
        for name, arguments in turn:
            try:
                if name not in tools:
                    raise ValueError(f"Tool {name} not found.")
                result = tools[name](**arguments)
            except Exception as error:
                result = {"error": str(error)}
            content = result if isinstance(result, list) else str(result)
            completion.append({"role": "tool", "name": name, "content": content})
    return prompt, completion
