"""TRL trains on OpenReward environments: `grpo` returns the keywords for `GRPOTrainer` and `AsyncGRPOTrainer`.

    from trl import GRPOConfig, GRPOTrainer
    from openreward_gym.integrations import trl

    trainer = GRPOTrainer(
        model="Qwen/Qwen3-0.6B",
        args=GRPOConfig("out/grpo", max_completion_length=2048),
        **trl.grpo("weather", base_url="http://127.0.0.1:8080", output="runs/grpo"),
    )

A rollout is an episode in a session of its own. TRL samples, parses the calls, and calls the environment's tools, with the
environment's own schemas and images. The reward is the episode's return. It is None, which TRL leaves out of the group, where
infrastructure spoiled the episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

from openreward_gym.checks import integer
from openreward_gym.errors import ConfigurationError, MissingExtraError
from openreward_gym.integrations.episode import EpisodeOptions
from openreward_gym.integrations.trl.dataset import ToolGroup, examples, tool_groups
from openreward_gym.integrations.trl.environment import EnvironmentFactory
from openreward_gym.integrations.trl.play import PlaySource
from openreward_gym.integrations.trl.rewards import EpisodeReturn, guarded
from openreward_gym.integrations.trl.rollout_worker import RolloutWorker, async_grpo
from openreward_gym.integrations.trl.state import TrainingState, callback_for
from openreward_gym.protocol import loop

__all__ = ["RolloutWorker", "async_grpo", "grpo"]

OLDEST = (1, 15)
"""The first TRL that lists tools by the class of an environment, and so takes tools as dicts."""


def grpo(
    environments: str | type[Any] | Sequence[str | type[Any]],
    *,
    tasks: Sequence[int] | None = None,
    limit: int | None = None,
    reward_funcs: Sequence[Callable[..., Any]] = (),
    **options: Unpack[EpisodeOptions],
) -> dict[str, Any]:
    """Return the keywords with which a trainer of TRL plays environments.

    They are `train_dataset`, `environment_factory`, `reward_funcs` and `callbacks`: pass all of them. The model, and GRPO's own
    settings such as `num_generations`, stay the trainer's. The dataset of another call, such as `grpo(..., split="test")`, can be
    the trainer's `eval_dataset`.

    Args:
        environments: Name of the environment, or several names. Each example of the dataset names its environment.
        tasks: Indices of the tasks in the split. None takes all.
        limit: Largest number of tasks per environment. None takes all.
        reward_funcs: Reward functions of your own, added to the environment's reward. They have no say about an episode that
            infrastructure spoiled. Weights: `GRPOConfig(reward_weights=[1.0, 0.2])`, the environment's first.
        **options: The options of `openreward_gym.integrations.Episodes`: `base_url`, `output`, `split`, `max_steps`, ...

    Returns:
        The keywords. They can be pickled, as `AsyncGRPOTrainer` needs it.

    Raises:
        ConfigurationError: An environment, a split or a task does not exist, or an option is wrong.
        TransportError, ServerError, SessionLostError: A session for the prompt of a task could not be opened.
        MissingExtraError: TRL is not installed, or is too old.

    Example:
        with serve.local(["weather", "ctf"]) as base_url:
            keywords = trl.grpo(["weather", "ctf"], base_url=base_url, output="runs/grpo", limit=8)
            GRPOTrainer("Qwen/Qwen3-0.6B", args=GRPOConfig("out/grpo"), **keywords).train()
    """
    _check_trl()
    names: list[Any] = list(environments) if isinstance(environments, (list, tuple)) else [environments]
    if not names or not all(isinstance(name, (str, type)) for name in names):
        raise ConfigurationError(f"grpo() needs the name of an environment, or a list of names, not {environments!r}")
    if not isinstance(reward_funcs, (list, tuple)):
        raise ConfigurationError(f"reward_funcs is a list of functions, not {reward_funcs!r}")
    sources = [_source(name, options) for name in names]
    repeated = {source.name for source in sources if [other.name for other in sources].count(source.name) > 1}
    if repeated:
        raise ConfigurationError(f"environments has {', '.join(sorted(repeated))} more than once")
    groups = _groups(sources, tasks, None if limit is None else integer(1)("limit", limit))
    state = TrainingState()
    returns = EpisodeReturn(state)
    return {
        "train_dataset": _dataset(examples(groups)),
        "environment_factory": {group.name: EnvironmentFactory(group.source, group.tools, state) for group in groups},
        "reward_funcs": [returns, *(guarded(function, returns) for function in reward_funcs)],
        "callbacks": [callback_for(state, sources)],
    }


def _source(environment: str | type[Any], options: EpisodeOptions) -> PlaySource:
    if options.get("on_message") == "nudge":
        raise ConfigurationError(
            "on_message='nudge' is not possible with TRL, which ends a rollout at the first message without a call"
        )
    if options.get("on_length", "truncate") != "truncate":
        raise ConfigurationError(
            "on_length can only be 'truncate' with TRL, which asks the model for nothing after a cut-off message"
        )
    played: EpisodeOptions = {**options, "on_length": "truncate"}
    return PlaySource(environment, **played)


def _groups(sources: Sequence[PlaySource], tasks: Sequence[int] | None, limit: int | None) -> list[ToolGroup]:
    return [group for source in sources for group in loop.run(tool_groups(source, tasks, limit))]


def _dataset(rows: list[dict[str, Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows)


def _check_trl() -> None:
    try:
        from trl import __version__
    except ImportError:
        raise MissingExtraError("training needs TRL: pip install 'openreward-gym[train]'") from None
    release = tuple(int(part) if part.isdigit() else 0 for part in __version__.split(".")[:2])
    if release < OLDEST:
        raise MissingExtraError(f"TRL {__version__} is too old for grpo(): pip install 'trl>={'.'.join(map(str, OLDEST))}'")
