"""The rows of SkyRL's dataset, and the episodes that its environments play.

A row has everything that an environment of `skyrl-gym` needs in another process: the name of the environment, the task and the
options are JSON text in the column `openreward`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from openreward_gym import jsonio
from openreward_gym.chat.hermes import to_hermes
from openreward_gym.checks import writable_file
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.errors import ConfigurationError
from openreward_gym.integrations.episode import Episodes, openai_tools
from openreward_gym.integrations.written_options import refuse_secrets
from openreward_gym.protocol import loop
from openreward_gym.types import Ended, Json, Sampled

ENV_CLASS = "openreward"
"""Name of the environment at `skyrl_gym`, in the column `env_class`."""

COLUMN = "openreward"
"""The column with the environment, the task and the options, as JSON text."""


class PlayedEnvironment(Protocol):
    """The part of an environment that the generator uses."""

    @property
    def reward(self) -> float | None: ...

    def abandon(self) -> None: ...


@dataclass
class Trajectory:
    """What the generator knows of the trajectory that an environment plays.

    Attributes:
        step: Step of the training.
        phase: "train" or "eval".
        group, sample: The prompt's id and the number of the repetition.
        attempt: 0 for the first attempt.
        images: Whether the model sees images.
        ended, sampled: The end and the tokens of the latest answer.
        environment: The environment, once it exists.

    Example:
        >>> Trajectory(step=3, group="7", sample=0).phase
        'train'
    """

    step: int | None = None
    phase: str = "train"
    group: str | None = None
    sample: int | None = None
    attempt: int = 0
    images: bool = False
    ended: Ended | None = None
    sampled: Sampled | None = None
    environment: PlayedEnvironment | None = None


current_trajectory: ContextVar[Trajectory | None] = ContextVar("current_trajectory", default=None)
"""The trajectory of the running task. `SkyRLGymGenerator` makes the environment and calls the model's server in one task."""


class EpisodeSource:
    """Sources of episodes by their options, which all environments of a registration share.

    Args:
        options: Options of `Episodes` for all rows, and `images`. A row's own options come before them.

    Raises:
        ConfigurationError: An option is unknown or has a wrong value.

    Example:
        >>> source = EpisodeSource({"base_url": "http://127.0.0.1:8080"})
        >>> source.episodes({"environment": "weather"}) is source.episodes({"environment": "weather"})
        True
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = dict(options)
        self.images = bool(self.options.pop("images", False))
        Episodes(**{"environment": "environment", **self.options})  # checks them
        self._sources: dict[bytes, Episodes] = {}
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> EpisodeSource:
        # `skyrl_gym.make` copies the keywords of a registration for each environment.
        return self

    def episodes(self, row: Mapping[str, Any]) -> Episodes:
        """Return the source of a row's episodes.

        Raises:
            ConfigurationError: The row names no environment, or an option is unknown or has a wrong value.
        """
        options = {**self.options, **row}
        if not isinstance(options.get("environment"), str):
            raise ConfigurationError("a row names no environment: write the dataset with `skyrl.write_dataset`")
        key = jsonio.dumps(sorted(row.items()))
        with self._lock:
            if key not in self._sources:
                self._sources[key] = Episodes(**options)
            return self._sources[key]


def read_column(extras: Mapping[str, Any]) -> tuple[dict[str, Any], int | Mapping[str, Json]]:
    """Return the options and the task of a row.

    Raises:
        ConfigurationError: The row was not written by `write_dataset`.
    """
    text = extras.get(COLUMN)
    try:
        row = jsonio.loads(text) if isinstance(text, str) else None
    except ValueError:
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("task"), int | Mapping):
        raise ConfigurationError(
            f"the column {COLUMN!r} of a row is not what `skyrl.write_dataset` writes: {jsonio.beginning(text, 200)}"
        )
    return {name: value for name, value in row.items() if name != "task"}, row["task"]


def rows(
    environment: str, *, limit: int | None = None, tasks: Sequence[int] | None = None, **options: Any
) -> list[dict[str, Any]]:
    """Return a row per task for SkyRL's dataset: `prompt`, `env_class`, `data_source` and `openreward`.

    A session is opened for each task, because the prompt is the session's. The prompt describes the tools to the model.

    Args:
        environment: Name of the environment.
        limit: Largest number of tasks. None takes all.
        tasks: Indices of the tasks. None takes them from 0.
        **options: Options of `Episodes`, which the rows carry to the environments: `base_url`, `split`, `max_steps`, ... Those
            without a JSON form, and `output`, belong to `register`. With `images`, the prompt has its texts alone.

    Raises:
        ConfigurationError: An option is unknown or has a wrong value.
        TransportError, ServerError, SessionLostError, ...: A session could not be opened.

    Example:
        >>> from openreward_gym import serve
        >>> with serve.local(["weather"]) as base_url:
        ...     row = rows("weather", limit=1, base_url=base_url)[0]
        >>> row["env_class"], row["data_source"], [message["role"] for message in row["prompt"]]
        ('openreward', 'weather', ['system', 'user'])
    """
    images = bool(options.pop("images", False))
    refuse_secrets(options, "the rows are written to a file")
    try:
        jsonio.loads(jsonio.dumps(options, non_finite="error"))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the options of a row must be JSON: give the others to `skyrl.register` ({error})") from error
    if "output" in options:
        raise ConfigurationError("output belongs to `skyrl.register`, not to the rows of a dataset")
    episodes = Episodes(environment, **options)

    def row(index: int, env: OpenRewardEnv[Any]) -> dict[str, Any]:
        own = {"environment": episodes.name, **options, "task": index}
        prompt = to_hermes(env.messages, openai_tools(env.tools), images=images)
        return {
            "prompt": [{"role": message["role"], "content": _texts(message["content"])} for message in prompt],
            "env_class": ENV_CLASS,
            "data_source": episodes.name,
            COLUMN: jsonio.dumps(own).decode(),
        }

    return loop.run(episodes.aread_tasks(row, limit, tasks=tasks))


def _texts(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def write_dataset(
    path: str | os.PathLike[str], *environments: str, limit: int | None = None, tasks: Sequence[int] | None = None, **options: Any
) -> int:
    """Write the file of tasks that SkyRL's trainer reads (`data.train_data`, `data.val_data`), and return its number of rows.

    Args:
        path: A file that ends in .parquet or .jsonl.
        environments: Names of the environments. Their rows follow each other.
        limit, tasks, **options: As for `rows`, for each of the environments.

    Raises:
        ConfigurationError: As `rows`; no environment, or another ending of the file.

    Example:
        >>> from openreward_gym import serve
        >>> with serve.local(["weather"]) as base_url:
        ...     write_dataset("train.jsonl", "weather", base_url=base_url, split="train")
        5
    """
    target = Path(path)
    if target.suffix not in (".parquet", ".jsonl"):
        raise ConfigurationError(f"SkyRL reads .parquet and .jsonl files, not {target.name!r}")
    if not environments:
        raise ConfigurationError("write_dataset needs the name of an environment")
    writable_file("the path", path)
    made = [row for name in environments for row in rows(name, limit=limit, tasks=tasks, **options)]
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".jsonl":
        target.write_bytes(b"".join(jsonio.dumps(row) + b"\n" for row in made))
        return len(made)
    import pyarrow as pa
    import pyarrow.parquet as pq

    message = pa.struct({"role": pa.string(), "content": pa.string()})
    columns = {"prompt": pa.list_(message), "env_class": pa.string(), "data_source": pa.string(), COLUMN: pa.string()}
    pq.write_table(pa.Table.from_pylist(made, schema=pa.schema(columns)), target)
    return len(made)
