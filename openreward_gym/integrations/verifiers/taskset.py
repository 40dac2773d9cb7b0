"""The taskset: the tasks of a split with their prompts, and their reward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import verifiers.v1 as vf
from verifiers.v1.dialects import parse_message

from openreward_gym.integrations.episode import PROMPTS_AT_ONCE, Episodes
from openreward_gym.integrations.verifiers.source import source_options, task_name

INFO = "openreward"
"""Key of `trace.info` under which the harness leaves what it played."""


class OpenRewardTasksetConfig(vf.TasksetConfig):  # type: ignore[misc]  # verifiers has no types here
    """Options of the taskset, `--env.taskset.*` on the command line.

    Example:
        >>> OpenRewardTasksetConfig(environment="weather", options={"max_steps": 8}).split  # doctest: +SKIP
        'train'
    """

    environment: str = ""
    """Name of the environment: "weather" on one server, "owner/name" on the platform."""
    base_url: str | None = None
    """URL of the server. None takes OPENREWARD_URL, or the hosted platform."""
    split: str = "train"
    """Split that tasks come from."""
    output: str | None = None
    """Folder of the run in which every episode is recorded. None records nothing."""
    options: dict[str, Any] = {}  # noqa: RUF012  # pydantic copies defaults
    """Other options of the episodes as JSON: variant, max_steps, step_timeout_s, on_message, secrets_env, ..."""


class OpenRewardTaskData(vf.TaskData):  # type: ignore[misc]
    """A task as verifiers sends it to its workers and records it: what to play, and where.

    Example:
        >>> OpenRewardTaskData(source={"environment": "weather"}, task_index=0).task_index  # doctest: +SKIP
        0
    """

    source: dict[str, Any]
    """Options of `Episodes`."""
    task_index: int
    """Index of the task in its split."""


class OpenRewardTask(vf.Task[OpenRewardTaskData]):  # type: ignore[misc]
    """A task of an OpenReward environment. Its reward is the return of the episode that the harness played.

    Example:
        >>> OpenRewardTask(OpenRewardTaskData(source={"environment": "weather"}, task_index=0)).key  # doctest: +SKIP
        'weather/train/0'
    """

    @property
    def key(self) -> str:
        """The name of the task, which is stable over runs and servers."""
        return task_name(self.data.source, self.data.task_index)

    @vf.reward  # type: ignore[untyped-decorator]
    async def openreward(self, trace: Any) -> float:
        """Return the return of the episode.

        Raises:
            TaskError: There is none: another harness played, or a filter took the model's answer away.
        """
        played = trace.info.get(INFO)
        if played is None:
            raise vf.TaskError(
                f"the harness {trace.agent.config.harness.id!r} played no episode of {self.key}: leave the harness out, "
                "so that the taskset's own plays"
            )
        if played["reward"] is None:
            raise vf.TaskError(f"the episode of {self.key} has no reward: it ended with {played['stop_reason']!r}")
        return float(played["reward"])


class OpenRewardTaskset(vf.Taskset[OpenRewardTask, OpenRewardTasksetConfig]):  # type: ignore[misc]
    """The tasks of a split. Reading them opens a session for each, because the prompt is the session's; `-n 8` reads eight.

    Raises:
        ConfigurationError: An option is unknown or has a wrong value.

    Example:
        >>> taskset = OpenRewardTaskset(OpenRewardTasksetConfig(environment="weather"))  # doctest: +SKIP
    """

    def __init__(self, config: OpenRewardTasksetConfig) -> None:
        super().__init__(config)
        self.source = source_options(config.environment, config.base_url, config.split, config.output, config.options)

    def load(self) -> Iterator[OpenRewardTask]:
        """Yield the tasks, in the order of their indices.

        Raises:
            ConfigurationError, TransportError, ServerError, SessionLostError: The server cannot be reached, or failed.
        """
        episodes = Episodes(**{**self.source, "output": None})
        indices = range(episodes.num_tasks())
        for first in range(0, len(indices), PROMPTS_AT_ONCE):
            for row in episodes.rows(tasks=indices[first : first + PROMPTS_AT_ONCE]):
                name = task_name(self.source, row["task_index"])
                prompt = [parse_message(message) for message in row["prompt"]]
                data = OpenRewardTaskData(id=name, name=name, prompt=prompt, source=self.source, task_index=row["task_index"])
                yield OpenRewardTask(data, self.config.task)
