"""Episodes as environments of tinker-cookbook. Importing this module imports tinker and tinker-cookbook."""

from __future__ import annotations

import functools
import io
import itertools
import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tinker
from tinker_cookbook.rl.rollout_limits import RolloutLimits
from tinker_cookbook.rl.types import (
    STOP_METRIC_PREFIX,
    ActionExtra,
    Env,
    EnvGroupBuilder,
    StepResult,
    StopReason,
    Trajectory,
)

from openreward_gym.errors import ConfigurationError, OpenRewardGymError, SessionLostError
from openreward_gym.integrations.episode import Episodes
from openreward_gym.integrations.tokens import TokenEpisode
from openreward_gym.types import Json, Task

logger = logging.getLogger(__name__)

# An embedding may have more ids than the tokenizer: those that the sampler gives are taken as they are.
_ANY_ID = 2**31
# The cookbook's names of ends that other environments have too.
_STOP_REASONS = {
    "finished": StopReason.TOOL_STOPPED,
    "message": StopReason.COMPLETED,
    "max_steps": StopReason.MAX_TURNS,
    "max_turns": StopReason.MAX_TURNS,
    "length": StopReason.MAX_TOKENS,
    "context_overflow": StopReason.CONTEXT_OVERFLOW,
}


class EpisodeEnv(Env):
    """Play one episode as an environment of tinker-cookbook.

    The observations are the exact ids that were sampled, extended by what the environment said: `TokenEpisode` makes them
    with the tokenizer's chat template, and no renderer of the cookbook, which would render the whole conversation anew at
    each turn, takes part. Where a template rewrites earlier turns, the observation is no extension, and the cookbook begins a
    new training datum.

    A failure of infrastructure raises an error, which the cookbook's strategies retry or drop
    (`Config.rollout_error_tolerance`). It never becomes a reward.

    Example:
        >>> builder = EpisodeGroupBuilder(episodes, Task("train", 0), 4, tokenizer)  # doctest: +SKIP
        >>> env, *_ = await builder.make_envs()  # doctest: +SKIP
        >>> trajectory = await do_single_rollout(policy, env)  # doctest: +SKIP
    """

    def __init__(self, builder: EpisodeGroupBuilder) -> None:
        self.builder = builder
        self.episode = TokenEpisode(
            builder.episodes,
            tokenizer=builder.loaded_tokenizer(),
            processor=builder.loaded_processor(),
            chat_template_kwargs=builder.chat_template_kwargs,
            vocab_size=_ANY_ID,
        )
        self.stop: list[int] | list[str] = sorted(self.episode.end_token_ids) if builder.stop is None else builder.stop
        self.sample: int | None = None

    @property
    def rollout_limits(self) -> RolloutLimits | None:
        """The limits that the cookbook's runner enforces on this environment."""
        return self.builder.limits

    async def initial_observation(self) -> tuple[tinker.ModelInput, list[int] | list[str]]:
        """Open a session, and return the prompt.

        Raises:
            ConfigurationError, TransportError, ServerError, SessionLostError: As `Episode.begin`.
        """
        builder = self.builder
        self.sample, attempt = builder.take_number()
        try:
            await self.episode.begin(builder.task, step=builder.step, group=builder.group, sample=self.sample, attempt=attempt)
        except OpenRewardGymError:
            builder.return_number(self.sample)
            raise
        return self._observation(), self.stop

    async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> StepResult:
        """Play the sampled ids.

        Raises:
            SessionLostError: Infrastructure spoiled the episode.
        """
        answer = await self.episode.act_tokens(action, ended=(extra or {}).get("stop_reason"))
        if self.episode.done and self.episode.reward is None:
            self.builder.return_number(self.sample)
            raise SessionLostError(
                f"the episode of task {self.builder.group} was lost: {answer.error or self.episode.stop_reason}"
            )
        metrics: dict[str, float] = {}
        logs: dict[str, str] = {"answer": answer.text} if answer.messages else {}
        if answer.done:
            reason = _STOP_REASONS.get(answer.stop_reason, answer.stop_reason)
            metrics = {f"{STOP_METRIC_PREFIX}{reason}": 1.0, "turns": self.episode.turns, "drift": self.episode.drift}
            logs["stop_reason"] = answer.stop_reason
        return StepResult(
            reward=answer.reward or 0.0,
            episode_done=answer.done,
            next_observation=tinker.ModelInput.empty() if answer.done else self._observation(),
            next_stop_condition=self.stop,
            metrics=metrics,
            logs=logs,
        )

    def _observation(self) -> tinker.ModelInput:
        ids, images = self.episode.prompt_ids, self.episode.images
        if not images:
            return tinker.ModelInput.from_ints(ids)
        return _with_images(ids, [_encoded(image) for image in images], _placeholder(self.episode.template.processor))

    async def end(self, stop_reason: str) -> None:
        """End an episode that the cookbook's runner stopped, and record it with that reason.

        Args:
            stop_reason: The runner's reason: "max_turns", "max_tokens", ...
        """
        await self.episode.end(stop_reason)

    async def aclose(self) -> None:
        """Close the session. An episode that still runs is recorded as cancelled."""
        await self.episode.aclose()


@dataclass
class EpisodeGroupBuilder(EnvGroupBuilder):
    """Build the environments of a group: samples of one task, which are compared. It can be pickled.

    Attributes:
        episodes: The source of episodes.
        task: The task of the group.
        group_size: Number of samples.
        tokenizer: A transformers tokenizer, or a model's name, which is loaded as tinker-cookbook loads it.
        processor: The processor of a vision model, or its name; it makes images into chunks of the observations. None refuses
            images.
        limits: Limits of a rollout, which the cookbook's runner enforces. None sets no limits.
        chat_template_kwargs: Further arguments of the chat template, such as `{"enable_thinking": False}`.
        stop: Token ids or texts at which the sampler stops. None takes those that end a turn in the chat template.
        step: Step of the training, for the record.
        group: Name of the group, for the record. Empty takes the task's index.

    Example:
        >>> builder = EpisodeGroupBuilder(episodes, Task("train", 0), 4, "Qwen/Qwen3-8B")  # doctest: +SKIP
        >>> group = await do_group_rollout(builder, policy)  # doctest: +SKIP
    """

    episodes: Episodes
    task: Task
    group_size: int
    tokenizer: Any
    processor: Any = None
    limits: RolloutLimits | None = None
    chat_template_kwargs: Mapping[str, Json] | None = None
    stop: list[int] | list[str] | None = None
    step: int | None = None
    group: str = ""
    _envs: list[EpisodeEnv] = field(init=False, default_factory=list, repr=False, compare=False)
    _numbers: deque[int] = field(init=False, default_factory=deque, repr=False, compare=False)
    _attempts: Counter[int] = field(init=False, default_factory=Counter, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.group = self.group or str(self.task.index if self.task.index is not None else self.task.id)
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_envs": [], "_numbers": deque(), "_attempts": Counter()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._envs = []
        self._numbers, self._attempts = deque(range(self.group_size)), Counter()

    async def make_envs(self) -> Sequence[EpisodeEnv]:
        """Return the group's environments. A session is opened when an environment is first observed."""
        envs = [EpisodeEnv(self) for _ in range(self.group_size)]
        self._envs.extend(envs)
        return envs

    async def compute_group_rewards(
        self, trajectory_group: list[Trajectory], env_group: Sequence[EpisodeEnv]
    ) -> list[tuple[float, dict[str, float | int]]]:
        """Return no further rewards, after ending the episodes that the cookbook's runner stopped."""
        for trajectory, env in zip(trajectory_group, env_group, strict=True):
            await env.end(str(trajectory.stop_reason or "cancelled"))
        return [(0.0, {}) for _ in trajectory_group]

    async def cleanup(self) -> None:
        """Close the sessions of all environments that were made. Failures to close are logged."""
        envs = self._envs
        self._reset()
        for env in envs:
            try:
                await env.aclose()
            except OpenRewardGymError as error:
                logger.warning("A session could not be closed: %s", error)

    def logging_tags(self) -> list[str]:
        """Return the environment's name, by which the cookbook's logs are grouped."""
        return [self.episodes.name]

    def take_number(self) -> tuple[int, int]:
        """Return the number of the next sample, and that of the attempt at it: a free number of the group, or a further one."""
        number = self._numbers.popleft() if self._numbers else max(self.group_size - 1, *self._attempts) + 1
        self._attempts[number] += 1
        return number, self._attempts[number] - 1

    def return_number(self, number: int | None) -> None:
        """Free the number of a sample that failed, for the sample that replaces it."""
        if number is not None:
            self._numbers.append(number)

    def loaded_tokenizer(self) -> Any:
        """Return the tokenizer, which is loaded once per process."""
        if not isinstance(self.tokenizer, str):
            return self.tokenizer
        from tinker_cookbook.tokenizer_utils import get_tokenizer

        return get_tokenizer(self.tokenizer)

    def loaded_processor(self) -> Any:
        """Return the processor, which is loaded once per process. None if there is none."""
        return _load_processor(self.processor) if isinstance(self.processor, str) else self.processor


@functools.cache
def _load_processor(name: str) -> Any:
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(name)
    except Exception as error:  # of the files, the Hub or the network
        raise ConfigurationError(f"the processor {name!r} cannot be loaded: {error}") from error


def _placeholder(processor: Any) -> int:
    """Return the id that stands for a part of an image."""
    token = getattr(processor, "image_token_id", None)
    if token is None:
        raise ConfigurationError(f"a {type(processor).__name__} does not say which token stands for an image (image_token_id)")
    return int(token)


def _encoded(image: Any) -> bytes:
    with io.BytesIO() as file:
        image.save(file, format="PNG")
        return file.getvalue()


def _with_images(ids: Sequence[int], images: Sequence[bytes], placeholder: int) -> tinker.ModelInput:
    """Return ids whose runs of placeholders are replaced by the images, in order."""
    chunks: list[tinker.ModelInputChunk] = []
    waiting = deque(images)
    for is_image, run in itertools.groupby(ids, lambda token: token == placeholder):
        part = list(run)
        if not is_image or not waiting:
            chunks.append(tinker.EncodedTextChunk(tokens=part))
        else:
            chunks.append(tinker.types.ImageChunk(data=waiting.popleft(), format="png", expected_tokens=len(part)))
    if waiting:
        raise ConfigurationError(
            f"the prompt has places for {len(images) - len(waiting)} of {len(images)} images: its model shows two images without "
            "a token between them, which is not supported"
        )
    return tinker.ModelInput(chunks=chunks)
