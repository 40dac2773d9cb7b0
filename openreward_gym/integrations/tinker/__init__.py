"""tinker-cookbook: an environment, a group builder and a dataset builder for its reinforcement learning.

from tinker_cookbook.rl import train

from openreward_gym.integrations import tinker

dataset = tinker.dataset("weather", model_name="Qwen/Qwen3-8B", base_url="http://127.0.0.1:8080", output="runs/tinker")
config = train.Config(model_name="Qwen/Qwen3-8B", dataset_builder=dataset, rollout_error_tolerance=True, ...)
asyncio.run(train.main(config))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openreward_gym.errors import MissingExtraError
from openreward_gym.lazy import lazy_names

if TYPE_CHECKING:
    from openreward_gym.integrations.tinker.environment import EpisodeEnv, EpisodeGroupBuilder
    from openreward_gym.integrations.tinker.tasks import EpisodeDataset, EpisodeDatasetBuilder, dataset

__all__ = ["EpisodeDataset", "EpisodeDatasetBuilder", "EpisodeEnv", "EpisodeGroupBuilder", "dataset"]

_get, _names = lazy_names(
    __name__,
    {"environment": "EpisodeEnv EpisodeGroupBuilder", "tasks": "EpisodeDataset EpisodeDatasetBuilder dataset"},
)

if not TYPE_CHECKING:  # the classes are subclasses of tinker-cookbook's, so that naming one imports it

    def __getattr__(name: str) -> Any:
        try:
            return _get(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("chz", "tinker", "tinker_cookbook"):
                raise
            raise MissingExtraError(
                f"{name} needs the package tinker-cookbook, which is not installed: pip install 'openreward-gym[tinker]'"
            ) from error


def __dir__() -> list[str]:
    return _names()
