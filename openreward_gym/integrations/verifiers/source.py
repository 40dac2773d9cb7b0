"""What a task of verifiers says of the episodes to play: the options of `Episodes` as plain JSON, and one source per options."""

from __future__ import annotations

import functools
import heapq
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.integrations.episode import Episode, Episodes
from openreward_gym.integrations.written_options import refuse_secrets
from openreward_gym.types import Json

_NOT_JSON = "an option of a task has to be plain JSON, because verifiers sends and records it"


class SampledSource:
    """A source of episodes that numbers the episodes of each task.

    Example:
        >>> source = SampledSource({"environment": "weather", "base_url": "http://127.0.0.1:8080"})
        >>> source.next_sample("weather/train/0"), source.next_sample("weather/train/0"), source.next_sample("weather/train/1")
        (0, 1, 0)
    """

    def __init__(self, options: Mapping[str, Json]) -> None:
        self.episodes = Episodes(**dict(options))
        self._samples: Counter[str] = Counter()
        self._unused: dict[str, list[int]] = {}

    def episode(self) -> Episode:
        """Return an episode that has not begun."""
        return self.episodes.episode()

    def next_sample(self, group: str) -> int:
        """Return the number of the next episode of a group in this process, from 0."""
        if self._unused.get(group):
            return heapq.heappop(self._unused[group])
        self._samples[group] += 1
        return self._samples[group] - 1

    def return_sample(self, group: str, sample: int) -> None:
        """Let the next episode of a group have a number, because the one that got it has not begun."""
        heapq.heappush(self._unused.setdefault(group, []), sample)


@functools.cache
def _source(options: str) -> SampledSource:
    source = SampledSource(json.loads(options))
    _sources.append(source)
    return source


_sources: list[SampledSource] = []


def source_of(options: Mapping[str, Json], **run_info: Mapping[str, Json]) -> SampledSource:
    """Return the source of this process for the options of a task, with run info for the record.

    Raises:
        ConfigurationError: An option is unknown or has a wrong value.
    """
    return _source(json.dumps({**options, **run_info}, sort_keys=True))


def close_sources() -> None:
    """Close the shards that the sources of this process have written. The sources can be used again."""
    for source in _sources:
        source.episodes.close()


def source_options(
    environment: str, base_url: str | None, split: str, output: str | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options of `Episodes` as a task carries them.

    Raises:
        ConfigurationError: An option is unknown or has a wrong value, or must not be in a task, which verifiers records.
    """
    if not environment:
        raise ConfigurationError("environment is not set: name the environment to play (--env.taskset.environment weather)")
    refuse_secrets({"base_url": base_url, **options}, "verifiers sends and records the options of its tasks")
    chosen = {"environment": environment, "base_url": base_url, "split": split, "output": output, **options}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    try:
        plain: dict[str, Any] = json.loads(json.dumps(chosen, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{_NOT_JSON}: {error}") from None
    if not isinstance(plain["environment"], str):
        raise ConfigurationError(f"environment must be a name, not {plain['environment']!r}")
    Episodes(**{**plain, "output": None})
    return plain


def task_name(options: Mapping[str, Json], index: int) -> str:
    """Return the name of a task, which is stable over runs and servers.

    Example:
        >>> task_name({"environment": "weather", "split": "test"}, 3)
        'weather/test/3'
    """
    variant = options.get("variant")
    return "/".join(
        [f"{options['environment']}", *([f"{variant}"] if variant else []), f"{options.get('split', 'train')}", f"{index}"]
    )
