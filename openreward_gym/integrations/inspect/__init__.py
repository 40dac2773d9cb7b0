"""OpenReward environments as tasks of the UK AI Security Institute's Inspect.

    from inspect_ai import task
    from openreward_gym.integrations import inspect


    @task
    def weather():
        return inspect.task("weather", base_url="http://127.0.0.1:8080")

With the package installed, `inspect eval openreward_gym/openreward -T environment=weather` needs no file. A sample is a task of
the split, with the id "test-3". The solver plays an episode of it and the score is the episode's reward.

Only an answer of the model is scored. A session that cannot be opened or is lost, and a model that does not answer, are errors of
the sample, which Inspect's `--retry-on-error`, `--no-fail-on-error` and `eval-retry` handle. An episode whose answer a content
filter took away is not scored. One of Inspect's limits truncates the episode, which keeps the reward so far.

The log holds everything that a record of ours holds: `openreward-gym import inspect` reads it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Unpack

from openreward_gym.errors import MissingExtraError
from openreward_gym.integrations.episode import EpisodeOptions

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.scorer import Scorer
    from inspect_ai.solver import Solver

__all__ = ["scorer", "solver", "task"]


def task(environment: str | type[Any], **options: Unpack[EpisodeOptions]) -> Task:
    """Return a task of Inspect that plays every task of a split.

    Other fields of the task are set with Inspect's `task_with`.

    Args:
        environment: Name of the environment, or a class to play in this process.
        **options: The options of `Episodes`: `split` (by default "test"), `base_url`, `output` (a folder in which the
            episodes are recorded as well), `max_steps`, `step_timeout_s`, `secrets_env`, ...

    Raises:
        ConfigurationError: An option is wrong, or the environment or split does not exist.
        TransportError, ServerError: The server cannot be asked for the number of tasks.
        MissingExtraError: Inspect is not installed.

    Example:
        >>> from openreward_gym import serve
        >>> with serve.local(["weather"]) as base_url:
        ...     weather = task("weather", base_url=base_url, split="train")
        >>> weather.name, [sample.id for sample in weather.dataset][:2]
        ('weather', ['train-0', 'train-1'])
    """
    return _library().make_task(environment, **options)


def solver(environment: str | type[Any], **options: Unpack[EpisodeOptions]) -> Solver:
    """Return the solver, for a task of your own: it plays the task whose index is in the sample's metadata as `task_index`.

    Example:
        >>> play = solver("weather", base_url="http://127.0.0.1:8080", split="train")
    """
    return _library().openreward_solver(environment, **options)


def scorer() -> Scorer:
    """Return the scorer, whose value is the reward of the episode that the solver played.

    Example:
        >>> reward = scorer()
    """
    return _library().openreward_reward()


def _library() -> Any:
    try:
        importlib.import_module("inspect_ai")
    except ImportError:
        raise MissingExtraError("tasks of Inspect need its library: pip install 'openreward-gym[inspect]'") from None
    return importlib.import_module("openreward_gym.integrations.inspect.tasks")
