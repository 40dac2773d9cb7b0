"""SkyRL trains on OpenReward environments.

`write_dataset` writes the tasks, and this module is a program that trains on them:

    python -c "from openreward_gym.integrations import skyrl; skyrl.write_dataset('train.parquet', 'owner/name')"
    python -m openreward_gym.integrations.skyrl openreward.output=runs/skyrl data.train_data="['train.parquet']" ...

Arguments that begin with `openreward.` are the options of `register`; all others are SkyRL's. A program with an experiment of its
own calls `register()` and returns `generator(...)` from `get_generator`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from openreward_gym import jsonio
from openreward_gym.errors import ConfigurationError, MissingExtraError
from openreward_gym.integrations.skyrl.rows import ENV_CLASS, EpisodeSource, rows, write_dataset

__all__ = ["ENV_CLASS", "generator", "main", "register", "rows", "write_dataset"]

_ENTRY_POINT = "openreward_gym.integrations.skyrl.environment:OpenRewardTextEnv"
_OPTION = "openreward."
_OVERRIDE = "trainer.override_entrypoint="


def register(env_class: str = ENV_CLASS, **options: Any) -> None:
    """Register the environment that plays the rows of `write_dataset`, in this process. A registration of the name is replaced.

    A generator makes environments in its own process: call this in the process of the generator.

    Args:
        env_class: The name. Rows have "openreward".
        **options: Options of `Episodes` for all rows: `output` to record the rollouts, `transport`, ... A row's own options come
            before them. `images` says that the model sees images, for generators other than this package's.

    Raises:
        ConfigurationError: An option is unknown or has a wrong value.
        MissingExtraError: `skyrl-gym` is not installed.

    A worker of a program of your own:

        skyrl.register(output="runs/skyrl", max_steps=20)
        environment = skyrl_gym.make("openreward", extras=row)
    """
    try:
        from skyrl_gym.envs.registration import deregister, registry
        from skyrl_gym.envs.registration import register as register_at_skyrl
    except ImportError as error:
        raise MissingExtraError(f"SkyRL needs skyrl-gym ({error}): pip install 'openreward-gym[skyrl]'") from None
    source = EpisodeSource(options)
    if env_class in registry:
        deregister(env_class)
    register_at_skyrl(id=env_class, entry_point=_ENTRY_POINT, kwargs={"source": source})


def generator(cfg: Any, tokenizer: Any, inference_engine_client: Any, *, attempts: int = 3) -> Any:
    """Return the generator for an experiment's `get_generator`: an `OpenRewardGenerator`, or that for images.

    Args:
        cfg: The experiment's configuration.
        tokenizer, inference_engine_client: As `get_generator` gets them.
        attempts: Largest number of attempts at a trajectory that infrastructure spoils.

    Raises:
        ConfigurationError: `generator.batched` is true, or `attempts` is not a positive integer.
        MissingExtraError: SkyRL is not installed.
    """
    try:
        from skyrl.backends.skyrl_train.inference_servers.utils import resolve_policy_model_name

        from openreward_gym.integrations.skyrl.generators import OpenRewardGenerator, OpenRewardVLMGenerator
    except ImportError as error:
        raise MissingExtraError(f"the generator needs SkyRL's trainer ({error}): see https://docs.skyrl.ai") from None
    kind = OpenRewardVLMGenerator if cfg.generator.vision_language_generator else OpenRewardGenerator
    return kind(
        generator_cfg=cfg.generator,
        skyrl_gym_cfg=cfg.environment.skyrl_gym,
        inference_engine_client=inference_engine_client,
        tokenizer=tokenizer,
        policy_model_name=resolve_policy_model_name(cfg),
        attempts=attempts,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run SkyRL's training on the rows of `write_dataset`. SkyRL's own program calls it for `trainer.override_entrypoint`.

    The training loop, the generator and the episodes run in this process, which has the key of the platform in its environment;
    the models run in SkyRL's workers.

    Args:
        arguments: SkyRL's arguments, `key=value`, and options that begin with `openreward.`, whose values are JSON or text. None
            takes those of the command line.

    Raises:
        ConfigurationError: An option of `openreward.` has no value.
        MissingExtraError: SkyRL is not installed.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _options([argument for argument in given if argument.startswith(_OPTION)])
    overrides = [argument for argument in given if not argument.startswith((_OPTION, _OVERRIDE))]
    attempts = options.pop("attempts", 3)
    try:
        from skyrl.train.config import SkyRLTrainConfig
        from skyrl.train.entrypoints.main_base import BasePPOExp
        from skyrl.train.utils import initialize_ray, validate_cfg
    except ImportError as error:
        raise MissingExtraError(f"training needs SkyRL ({error}): see https://docs.skyrl.ai") from None

    class Experiment(BasePPOExp):
        def get_generator(self, cfg: Any, tokenizer: Any, inference_engine_client: Any) -> Any:
            return generator(cfg, tokenizer, inference_engine_client, attempts=attempts)

    cfg = SkyRLTrainConfig.from_cli_overrides(overrides)
    validate_cfg(cfg)
    register(**options)
    initialize_ray(cfg)
    Experiment(cfg).run()


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the options of the command line. A value that is not JSON is text."""
    options: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.removeprefix(_OPTION).partition("=")
        if not name or not equals:
            raise ConfigurationError(f"{argument!r} has no value: write {_OPTION}NAME=VALUE")
        try:
            options[name] = jsonio.loads(value)
        except ValueError:
            options[name] = value
    return options
