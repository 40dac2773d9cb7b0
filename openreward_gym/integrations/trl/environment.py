"""The environment objects that TRL resets, and whose tools it calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openreward_gym.integrations.trl.play import Play, PlaySource
from openreward_gym.integrations.trl.state import TrainingState
from openreward_gym.integrations.trl.tools import Tool, attribute_names, tool_methods


class EpisodeText(str):
    """A text that remembers the episode of its rollout.

    `AsyncGRPOTrainer` calls reward functions without the environments, and gives an environment to another rollout before it
    scores the first. The prompt is all that is the rollout's own: TRL adds the text that `reset` returned to its end. The text
    returned here is empty, and its sum with the prompt knows the episode. A pickle or a copy of the sum is plain text.

    Example:
        >>> EpisodeText("", "the episode").__radd__("How warm is it?").play
        'the episode'
    """

    play: Any

    def __new__(cls, text: str, play: Any) -> EpisodeText:
        self = super().__new__(cls, text)
        self.play = play
        return self

    def __radd__(self, before: str) -> EpisodeText:
        return EpisodeText(before + str(self), self.play)

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


def play_of(prompt: Any) -> Play | None:
    """Return the episode that a prompt of TRL remembers; None if it remembers none."""
    content = prompt[-1].get("content") if isinstance(prompt, list) and prompt else None
    return content.play if isinstance(content, EpisodeText) else None


class TrlEnvironment:
    """An environment of TRL: `reset` begins an episode, and the attributes of a subclass are the tools.

    TRL makes as many as it plays rollouts at the same time, and resets them again and again.
    """

    def __init__(self, source: PlaySource, tools: Sequence[Mapping[str, Any]], state: TrainingState) -> None:
        self._source = source
        self._state = state
        self._tools = tools
        self._play: Play | None = None
        definitions = {tool["function"]["name"]: tool for tool in tools}
        for name, attribute in attribute_names(definitions).items():
            vars(self)[attribute] = Tool(definitions[name], self._call)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._source.name!r}>"

    def reset(self, task_index: int, split: str | None = None, prompt: Any = None, **row: Any) -> str | None:
        """Begin an episode of a task, without waiting for its session. TRL's example has the prompt already."""
        self._play = Play(self._source, self._state, task_index, split, self._tools)
        content = prompt[-1].get("content") if prompt else None
        return EpisodeText("", self._play) if isinstance(content, str) else None

    def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        return "" if self._play is None else self._play.call(name, arguments)


class EnvironmentFactory:
    """A function without arguments that makes environments of TRL. It can be pickled.

    Args:
        source: Source of the episodes.
        tools: The tools in OpenAI's format.
        state: What the trainer tells.
    """

    def __init__(self, source: PlaySource, tools: Sequence[Mapping[str, Any]], state: TrainingState) -> None:
        self._source = source
        self._tools = list(tools)
        self._state = state
        self._class: type[TrlEnvironment] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_class": None}

    def __call__(self) -> TrlEnvironment:
        if self._class is None:
            names = attribute_names(tool["function"]["name"] for tool in self._tools)
            self._class = type("TrlEnvironment", (TrlEnvironment,), dict(tool_methods(names)))
        return self._class(self._source, self._tools, self._state)

    def __repr__(self) -> str:
        return f"EnvironmentFactory({self._source.name!r}, {len(self._tools)} tools)"
