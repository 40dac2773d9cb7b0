"""The tasks of an environment as a dataset of tinker-cookbook. Importing this module imports tinker-cookbook."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import chz
from tinker_cookbook.rl.rollout_limits import RolloutLimits
from tinker_cookbook.rl.types import RLDataset, RLDatasetBuilder

from openreward_gym.checks import integer
from openreward_gym.integrations.episode import EpisodeOptions, Episodes
from openreward_gym.integrations.tinker.environment import EpisodeGroupBuilder
from openreward_gym.integrations.written_options import refuse_secrets
from openreward_gym.types import Json, Task


@dataclass(frozen=True)
class EpisodeDataset(RLDataset):
    """Batches of groups, in an order that is shuffled anew for each pass over the tasks.

    Attributes:
        template: A group builder with what all groups share.
        num_tasks: Number of tasks of the split.
        groups_per_batch: Number of groups in a batch. The last batch may have fewer.
        passes: Number of passes over the tasks.
        seed: Seed of the order. None keeps the order of the split.
        training: Whether the record of a rollout names its batch as the step of the training.

    Example:
        >>> train, test = await dataset("weather", model_name="Qwen/Qwen3-8B")()  # doctest: +SKIP
        >>> len(train.get_batch(0))  # doctest: +SKIP
        16
    """

    template: EpisodeGroupBuilder
    num_tasks: int
    groups_per_batch: int
    passes: int = 1
    seed: int | None = 0
    training: bool = True

    def __len__(self) -> int:
        return math.ceil(self.num_tasks * self.passes / self.groups_per_batch)

    def get_batch(self, index: int) -> Sequence[EpisodeGroupBuilder]:
        """Return the group builders of a batch, from 0."""
        end = min((index + 1) * self.groups_per_batch, self.num_tasks * self.passes)
        split, step = self.template.task.split, index if self.training else None
        return [
            replace(self.template, task=Task(split, self._task(place)), group="", step=step)
            for place in range(index * self.groups_per_batch, end)
        ]

    def _task(self, place: int) -> int:
        number, within = divmod(place, self.num_tasks)
        if self.seed is None:
            return within
        order = list(range(self.num_tasks))
        random.Random(f"{self.seed} {number}").shuffle(order)
        return order[within]


@chz.chz
class EpisodeDatasetBuilder(RLDatasetBuilder):
    """Build the dataset of a training from an environment: `Config.dataset_builder` of the cookbook's trainer.

    `dataset` makes one with the options of the episodes as keyword arguments.

    Example:
        >>> builder = EpisodeDatasetBuilder("weather", "Qwen/Qwen3-8B", options={"output": "runs/tinker"})  # doctest: +SKIP
        >>> train, test = await builder()  # doctest: +SKIP
    """

    environment: str = chz.field(doc="Name of the environment.")
    model_name: str = chz.field(doc="The model whose tokenizer and chat template are used.")
    group_size: int = chz.field(default=8, doc="Number of samples of a task, which are compared.")
    groups_per_batch: int = chz.field(default=16, doc="Number of tasks of a step of the training.")
    passes: int = chz.field(default=1, doc="Number of passes over the tasks.")
    seed: int | None = chz.field(default=0, doc="Seed of the order of the tasks. None keeps the order of the split.")
    test_split: str | None = chz.field(
        default=None, doc="Split of the evaluation, with one sample per task. None evaluates nothing."
    )
    processor: str | None = chz.field(default=None, doc="The processor of a vision model. None refuses images.")
    limits: RolloutLimits | None = chz.field(default=None, doc="Limits of a rollout, which the cookbook's runner enforces.")
    stop: list[int] | list[str] | None = chz.field(
        default=None, doc="Token ids or texts at which the sampler stops. None takes those that end a turn in the chat template."
    )
    chat_template_kwargs: dict[str, Any] = chz.field(default_factory=dict, doc="Further arguments of the chat template.")
    options: dict[str, Any] = chz.field(default_factory=dict, doc="Options of `Episodes`: base_url, output, split, ...")

    @chz.validate  # type: ignore[untyped-decorator]
    def _without_secrets(self) -> None:
        refuse_secrets(self.options, "the cookbook writes its configuration to files and logs")

    async def __call__(self) -> tuple[EpisodeDataset, EpisodeDataset | None]:
        """Count the tasks, and return the dataset of the training and that of the evaluation, if there is one."""
        episodes = Episodes(self.environment, **self.options)
        train = await self._dataset(episodes, episodes.options.split, self.group_size)
        if self.test_split is None:
            return train, None
        test = await self._dataset(episodes, self.test_split, 1)
        return train, replace(test, passes=1, seed=None, training=False)

    async def _dataset(self, episodes: Episodes, split: str, group_size: int) -> EpisodeDataset:
        template = EpisodeGroupBuilder(
            episodes,
            Task(split, 0),
            group_size,
            self.model_name,
            processor=self.processor,
            limits=self.limits,
            chat_template_kwargs=self.chat_template_kwargs,
            stop=self.stop,
        )
        return EpisodeDataset(template, await episodes.anum_tasks(split), self.groups_per_batch, self.passes, self.seed)


def dataset(
    environment: str,
    *,
    model_name: str,
    group_size: int = 8,
    groups_per_batch: int = 16,
    passes: int = 1,
    seed: int | None = 0,
    test_split: str | None = None,
    processor: str | None = None,
    limits: RolloutLimits | None = None,
    stop: list[int] | list[str] | None = None,
    chat_template_kwargs: Mapping[str, Json] | None = None,
    **options: Unpack[EpisodeOptions],
) -> EpisodeDatasetBuilder:
    """Return the dataset builder of an environment, for `Config.dataset_builder` of tinker-cookbook's trainer.

    Args:
        environment: Name of the environment.
        model_name: The model whose tokenizer and chat template are used. The cookbook loads the tokenizer.
        group_size: Number of samples of a task, which are compared.
        groups_per_batch: Number of tasks of a step of the training.
        passes: Number of passes over the tasks.
        seed: Seed of the order of the tasks. None keeps the order of the split.
        test_split: Split of the evaluation, with one sample per task. None evaluates nothing.
        processor: Name or folder of the processor of a vision model. None refuses images.
        limits: Limits of a rollout, which the cookbook's runner enforces: turns, tokens, seconds. None sets no limits.
        stop: Token ids or texts at which the sampler stops. None takes those that end a turn in the chat template.
        chat_template_kwargs: Further arguments of the chat template, such as `{"enable_thinking": False}`.
        **options: Options of `Episodes`: `base_url`, `output`, `split`, `max_steps`, ...

    Raises:
        ConfigurationError: An option is unknown, has a wrong value, or may hold secrets.

    Example:
        >>> builder = dataset("weather", model_name="Qwen/Qwen3-8B", base_url="http://127.0.0.1:8080", group_size=4)
        >>> builder.group_size, builder.options["base_url"]
        (4, 'http://127.0.0.1:8080')
    """
    unrecorded: EpisodeOptions = {**options, "output": None}
    Episodes(environment, **unrecorded)  # refuses wrong options now, and not when the training has begun
    return EpisodeDatasetBuilder(
        environment=environment,
        model_name=model_name,
        group_size=integer(1)("group_size", group_size),
        groups_per_batch=integer(1)("groups_per_batch", groups_per_batch),
        passes=integer(1)("passes", passes),
        seed=integer(optional=True)("seed", seed),
        test_split=test_split,
        processor=processor,
        limits=limits,
        stop=stop,
        chat_template_kwargs=dict(chat_template_kwargs or {}),
        options=dict(options),
    )
