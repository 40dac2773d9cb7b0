"""SkyRL's generators with trajectories that infrastructure spoiled played again or masked. This module needs `skyrl`."""

from __future__ import annotations

import asyncio
import copy
import logging
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from skyrl.train.generators.base import GeneratorInput, GeneratorOutput, TrajectoryID
from skyrl.train.generators.skyrl_gym_generator import SkyRLGymGenerator, StepWiseOutput, TrajectoryOutput
from skyrl.train.generators.skyrl_vlm_generator import SkyRLVLMGymGenerator
from skyrl.train.generators.utils import get_rollout_metrics

from openreward_gym.chat.finish_reasons import FINISH_REASONS
from openreward_gym.checks import integer
from openreward_gym.envs.episode import FAILURES
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, SessionLostError
from openreward_gym.integrations.skyrl.rows import COLUMN, Trajectory, current_trajectory
from openreward_gym.types import Sampled

_BATCH = "openreward_batch"
"""Key of the extras with the batch's metadata."""
_FIRST_WAIT_S = 1.0
"""Longest wait before the second attempt at a trajectory. Each further one is twice as long."""
_FAILED = "error"
"""Stop reason of a trajectory that was given up, as SkyRL's own generators have it."""

logger = logging.getLogger(__name__)


class _WatchedClient:
    """A client of the inference engine that notes each answer in the trajectory that it belongs to."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def generate(self, input_batch: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        started = time.monotonic()
        output = await self._client.generate(input_batch, *args, **kwargs)
        trajectory = current_trajectory.get()
        if trajectory is not None:
            logprobs, prompt = output.get("response_logprobs"), input_batch.get("prompt_token_ids")
            word = output["stop_reasons"][0]
            trajectory.ended = FINISH_REASONS["vllm"].get(word)
            trajectory.sampled = Sampled(
                stop_reason=word,
                token_ids=tuple(output["response_ids"][0]),
                logprobs=tuple(logprobs[0]) if logprobs and logprobs[0] else None,
                prompt_token_ids=tuple(prompt[0]) if prompt else None,
                duration_s=time.monotonic() - started,
            )
        return output


class OpenRewardGenerator(SkyRLGymGenerator):
    """`SkyRLGymGenerator` for OpenReward environments.

    It differs from SkyRL's generator in what happens around an episode:

    - A trajectory that infrastructure spoiled is played again from the beginning, up to `attempts` times. Then its loss mask is 0
      and its reward is the mean of its group, so that it neither trains nor moves the baseline of the others.
    - Each rollout is recorded with the step, the group, the number in the group, and the ids and logprobs that were sampled.
    - The environment learns that the token limit cut an answer off, and runs nothing of it.
    - The return of the episode is on the last step where SkyRL's trainer reads the reward of that step alone
      (`generator.step_wise_trajectories`, `generator.chat_template`).

    Args:
        *args, **kwargs: As for `SkyRLGymGenerator`.
        inference_engine_client: Likewise.
        attempts: Largest number of attempts at a trajectory.

    Raises:
        ConfigurationError: `generator.batched` is true, or `attempts` is not a positive integer.

    A generator is what the method `get_generator` of an experiment returns:

        class Experiment(BasePPOExp):
            def get_generator(self, cfg, tokenizer, inference_engine_client):
                return skyrl.generator(cfg, tokenizer, inference_engine_client)
    """

    def __init__(self, *args: Any, inference_engine_client: Any, attempts: int = 3, **kwargs: Any) -> None:
        self._attempts: int = integer(1)("attempts", attempts)
        super().__init__(*args, inference_engine_client=_WatchedClient(inference_engine_client), **kwargs)
        if self.batched:
            raise ConfigurationError("generator.batched=true plays one turn without recovery: set generator.batched=false")

    async def generate(self, input_batch: GeneratorInput, *args: Any, **kwargs: Any) -> GeneratorOutput:
        """Generate the trajectories of a batch. Those that were given up have a loss mask of 0 and their group's mean reward."""
        extras = [{**row, _BATCH: input_batch.get("batch_metadata")} for row in input_batch["env_extras"] or ()]
        output = await super().generate({**input_batch, "env_extras": extras}, *args, **kwargs)
        if _FAILED in output["stop_reasons"]:
            self._reward_failed(output, input_batch)
        return output

    async def agent_loop(
        self,
        prompt: Any,
        env_class: str,
        env_extras: dict[str, Any],
        *args: Any,
        trajectory_id: TrajectoryID | None = None,
        **kwargs: Any,
    ) -> TrajectoryOutput | StepWiseOutput:
        """Play a trajectory, up to `attempts` times where infrastructure spoils it."""
        if COLUMN not in env_extras:
            return await super().agent_loop(prompt, env_class, env_extras, *args, trajectory_id=trajectory_id, **kwargs)
        batch = env_extras.pop(_BATCH, None)
        started = time.monotonic()
        for attempt in range(self._attempts):
            trajectory = Trajectory(
                step=batch and batch.global_step,
                phase=batch.training_phase if batch else "train",
                group=trajectory_id and trajectory_id.instance_id,
                sample=trajectory_id and trajectory_id.repetition_id,
                attempt=attempt,
                images=isinstance(self, SkyRLVLMGymGenerator),
            )
            token = current_trajectory.set(trajectory)
            try:
                extras = copy.deepcopy(env_extras)
                output = await super().agent_loop(prompt, env_class, extras, *args, trajectory_id=trajectory_id, **kwargs)
                return self._with_whole_return(output, trajectory)
            except FAILURES as error:
                logger.warning("attempt %d of %d at a trajectory failed: %s", attempt + 1, self._attempts, error)
                if attempt + 1 == self._attempts:
                    return self._masked(prompt, error, kwargs.get("sampling_params"), time.monotonic() - started)
            finally:
                current_trajectory.reset(token)
                if trajectory.environment is not None:
                    await self._run_in_executor_if_available(trajectory.environment.abandon)
            await asyncio.sleep(_FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1.0))
        raise AssertionError("a generator makes at least one attempt")

    def _with_whole_return(self, output: Any, trajectory: Trajectory) -> Any:
        """Put the return on the last step where SkyRL's trainer reads the reward of that step alone."""
        total = trajectory.environment.reward if trajectory.environment is not None else None
        if total is None:
            return output
        if isinstance(output, StepWiseOutput):
            for step in output.step_outputs:
                step.reward = [0.0] * len(step.response_ids)
            if output.step_outputs and output.step_outputs[-1].reward:
                output.step_outputs[-1].reward[-1] = total
        elif not isinstance(output.reward, list):
            output.reward = total
        return output

    def _masked(
        self, prompt: Any, error: OpenRewardGymError, sampling: Mapping[str, Any] | None, seconds: float
    ) -> TrajectoryOutput | StepWiseOutput:
        """Return a trajectory of one token that no loss reads. Its reward is set when those of its group are known."""
        if self.generator_cfg.inference_engine.enable_return_routed_experts:
            raise error  # a sequence that no engine has seen has no routes
        logprobs = self.generator_cfg.sampling_params.logprobs if sampling is None else sampling.get("logprobs")
        scalar = self.custom_chat_template is not None and not isinstance(self, SkyRLVLMGymGenerator)
        output = TrajectoryOutput(
            response_ids=[self.tokenizer.eos_token_id],
            reward=0.0 if scalar else [0.0],
            stop_reason=_FAILED,
            loss_mask=[0],
            prompt_ids=self.tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, tokenize=True, return_dict=False, **self.generator_cfg.chat_template_kwargs
            ),
            rollout_logprobs=None if logprobs is None else [0.0],
            env_metrics={},
            e2e_time=seconds,
        )
        return StepWiseOutput([output], e2e_time=seconds) if self.generator_cfg.step_wise_trajectories else output

    def _reward_failed(self, output: GeneratorOutput, input_batch: GeneratorInput) -> None:
        """Give the trajectories without a reward the mean of their group, so that the baseline of the others is as without them.

        Raises:
            SessionLostError: Not one trajectory of the batch could be played.
        """
        reasons: Sequence[str] = output["stop_reasons"]
        ids = output.get("trajectory_ids") or input_batch.get("trajectory_ids")
        groups = [str(place) if ids is None else ids[place].instance_id for place in range(len(reasons))]
        last = output.get("is_last_step") or [True] * len(reasons)
        returns = [sum(reward) if isinstance(reward, list) else reward for reward in output["rewards"]]
        by_group: defaultdict[str, list[float]] = defaultdict(list)
        for group, reason, is_last, value in zip(groups, reasons, last, returns, strict=True):
            if is_last and reason != _FAILED:
                by_group[group].append(value)
        played = [value for values in by_group.values() for value in values]
        if not played:
            raise SessionLostError(
                "infrastructure spoiled every trajectory of the batch: see the warnings above, and the failures of the run"
            )
        for place, reason in enumerate(reasons):
            if reason == _FAILED:
                values = by_group[groups[place]] or played
                mean = sum(values) / len(values)
                output["rewards"][place] = [mean] if isinstance(output["rewards"][place], list) else mean
        kept = [place for place, reason in enumerate(reasons) if reason != _FAILED]
        metrics = get_rollout_metrics(
            *([output[name][place] for place in kept] for name in ("response_ids", "rewards")),
            loss_masks=[output["loss_masks"][place] for place in kept],
        )
        failed = len(reasons) - len(kept)
        output["rollout_metrics"] = {
            **(output["rollout_metrics"] or {}),
            **metrics,
            "generate/num_error_trajectories": failed,
        }


class OpenRewardVLMGenerator(OpenRewardGenerator, SkyRLVLMGymGenerator):
    """`SkyRLVLMGymGenerator` for OpenReward environments with images, as `OpenRewardGenerator` for text.

    `skyrl.generator` returns it where `generator.vision_language_generator` is true.
    """
