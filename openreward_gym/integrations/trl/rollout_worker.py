"""TRL's `AsyncGRPOTrainer` on OpenReward environments: a rollout worker that plays episodes while the trainer trains.

    from openreward_gym.integrations import trl

    args = AsyncGRPOConfig("out", max_steps=200, vllm_server_base_url="http://localhost:8000")
    AsyncGRPOTrainer(**trl.async_grpo("weather", model="Qwen/Qwen3-0.6B", args=args, output="runs/async")).train()

The trainer takes any object of its `RolloutWorkerProtocol`. This one samples each turn from the exact ids of the turns before it,
where TRL's own worker renders the conversation anew for each turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import random
import statistics
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openreward_gym.checks import integer
from openreward_gym.errors import ConfigurationError, MissingExtraError, OpenRewardGymError, PolicyError, TokenHistoryError
from openreward_gym.integrations.episode import Episodes
from openreward_gym.integrations.tokens import Segment, TokenEpisode
from openreward_gym.integrations.trl.vllm_server import VLLMServer

if TYPE_CHECKING:
    from trl.experimental.async_grpo import AsyncGRPOConfig

BEAT_S = 0.2
"""Seconds between two signs of life."""
POLL_S = 0.005
"""Seconds between two looks at the queue, which the trainer empties in another thread."""
STOP_S = 15.0
"""Longest wait for running episodes to be closed when training ends, in seconds."""


def async_grpo(
    environment: str | type[Any] | Episodes | Sequence[str | Episodes],
    *,
    model: str,
    args: AsyncGRPOConfig,
    tokenizer: Any = None,
    limit: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Return the keyword arguments of `AsyncGRPOTrainer` that train a model on environments.

    Args:
        environment: Name of the environment, or a source of episodes; several of them train together.
        model: Name or folder of the model, as the trainer and the vLLM server have it.
        args: The trainer's configuration. The rollout worker takes the sampling, the limits and the vLLM server's URL from it.
        tokenizer: The model's tokenizer. None loads it.
        limit: Largest number of tasks per environment. None takes all of the split.
        **options: The options of `Episodes`: `base_url`, `output`, `split`, `max_steps`, ...

    Raises:
        MissingExtraError: TRL is not installed, or has no `AsyncGRPOTrainer`.
        ConfigurationError, TransportError, ServerError: The environment or its tasks are not found, or its server does not
            answer.

    Example:
        >>> from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer  # doctest: +SKIP
        >>> args = AsyncGRPOConfig("out", max_steps=200)  # doctest: +SKIP
        >>> trainer = AsyncGRPOTrainer(**async_grpo("weather", model="Qwen/Qwen3-0.6B", args=args))  # doctest: +SKIP
    """
    try:
        import trl.experimental.async_grpo  # noqa: F401
        from datasets import Dataset
    except ImportError as error:
        raise MissingExtraError(
            f"asynchronous training needs TRL 1.0 or newer ({error}): pip install 'openreward-gym[train]' aiohttp"
        ) from error
    if tokenizer is None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model)
    names = [environment] if isinstance(environment, str | type | Episodes) else list(environment)
    options = {"model": {"name": model}, "sampling": sampling_of(args), **options}
    sources = [name if isinstance(name, Episodes) else Episodes(name, **options) for name in names]
    worker = RolloutWorker(sources, model=model, tokenizer=tokenizer, args=args, limit=limit)
    rows = [{"environment": source.name, "task_index": index} for source, index in worker.tasks]
    return {
        "model": model,
        "args": args,
        "processing_class": tokenizer,
        # The trainer counts epochs by it; the prompts come from the sessions.
        "train_dataset": Dataset.from_list(rows),
        "rollout_worker": worker,
        "callbacks": [_first_step_callback(worker)],
    }


def _first_step_callback(worker: RolloutWorker) -> Any:
    """Return a `TrainerCallback` that tells the worker the step at which training begins: a resumed one does not begin with 0."""
    from transformers import TrainerCallback

    class FirstStepCallback(TrainerCallback):
        """Tells the step before the trainer starts the worker."""

        def on_train_begin(self, args: Any, trainer_state: Any, control: Any, **parts: Any) -> None:
            worker.first_step = trainer_state.global_step

    return FirstStepCallback()


def sampling_of(args: AsyncGRPOConfig) -> dict[str, Any]:
    """Return the sampling parameters of a trainer's configuration, under the names of vLLM's requests."""
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


@dataclass(frozen=True, slots=True)
class PlayedEpisode:
    """What the trainer needs of an episode that is over, and its reward; None where infrastructure spoiled it.

    Example:
        >>> PlayedEpisode([], [], (), reward=None, turns=0, drift=0, duration_s=0.1).reward is None
        True
    """

    prompt: list[dict[str, Any]]
    completion: list[dict[str, Any]]
    segments: tuple[Segment, ...]
    reward: float | None
    turns: int
    drift: int
    duration_s: float


class RolloutWorker:
    """A rollout worker of `AsyncGRPOTrainer`: it plays groups of episodes in a thread, and queues their samples.

    Every episode is recorded with the training step whose weights its group began with, its group, and its number in it. A group
    is named by its number and a mark of the worker, so that a training that is resumed adds groups of its own to a run. An
    episode that infrastructure spoiled gives no sample, and the advantages of its group are computed without it.

    Args:
        episodes: The sources of episodes, whose tasks are played in turns.
        model: Name under which the vLLM server has the model.
        tokenizer: The model's tokenizer.
        args: The trainer's configuration.
        limit: Largest number of tasks per source.
        failed_groups: Number of groups in a row without a single reward after which the worker fails, and training with it.
        sampling_attempts: Number of attempts per request to the vLLM server, after which the worker fails.

    Attributes:
        first_step: Step at which the training begins. `async_grpo` has a callback that sets it.
        run: Mark of the worker in the names of groups.

    Raises:
        ConfigurationError, TransportError, ServerError: The number of tasks of a source cannot be read.

    Example:
        >>> worker = RolloutWorker([Episodes("weather")], model="Qwen/Qwen3-0.6B", tokenizer=tok, args=args)  # doctest: +SKIP
        >>> trainer = AsyncGRPOTrainer(model, args=args, train_dataset=data, rollout_worker=worker)  # doctest: +SKIP
    """

    def __init__(
        self,
        episodes: Sequence[Episodes],
        *,
        model: str,
        tokenizer: Any,
        args: AsyncGRPOConfig,
        limit: int | None = None,
        failed_groups: int = 8,
        sampling_attempts: int = 12,
    ) -> None:
        if not episodes:
            raise ConfigurationError("a rollout worker needs at least one source of episodes")
        self.rollout_buffer: queue.Queue[Any] = queue.Queue()
        self.metrics_queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self.failed_groups = integer(1)("failed_groups", failed_groups)
        counts = [(source, source.num_tasks()) for source in episodes]
        most = None if limit is None else integer(1)("limit", limit)
        self.tasks: list[tuple[Episodes, int]] = [(source, index) for source, count in counts for index in range(count)[:most]]
        self.sampling_attempts = integer(1)("sampling_attempts", sampling_attempts)
        self.first_step = 0
        self.run = uuid.uuid4().hex[:8]
        self._model = model
        self._tokenizer = tokenizer
        self._args = args
        self._version = 0
        self._heartbeat = time.monotonic()
        self._failure: BaseException | None = None
        self._in_flight = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._without_reward = 0
        self._last_error = ""

    def start(self) -> None:
        """Begin to play. The trainer calls it when the vLLM server has the weights."""
        if self._thread is not None:
            return
        self._heartbeat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="openreward-rollouts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the running episodes, which are recorded as cancelled, and end the thread."""
        thread, loop, main = self._thread, self._loop, self._main
        if thread is None:
            return
        if loop is not None and main is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(main.cancel)
        thread.join(STOP_S)
        self._thread = None
        for source in {id(source): source for source, _ in self.tasks}.values():
            source.close()

    def update_model_version(self, model_version: int) -> None:
        """Take the number of the weights that the vLLM server samples from now on."""
        self._version = model_version

    def check_health(self, stale_after_s: float) -> None:
        """Raise what ended the worker, if something did.

        Raises:
            PolicyError: The worker has failed, or has been silent for `stale_after_s` seconds.
        """
        if self._failure is not None:
            raise PolicyError(f"the rollout worker has failed: {self._failure}") from self._failure
        silent_s = time.monotonic() - self._heartbeat
        if silent_s > stale_after_s:
            raise PolicyError(f"the rollout worker has been silent for {silent_s:.0f} s: its event loop is blocked")

    def _run(self) -> None:
        try:
            asyncio.run(self._play_groups())
        except asyncio.CancelledError:
            pass
        except BaseExceptionGroup as group:
            self._failure = group.exceptions[0]
        except Exception as error:
            self._failure = error

    async def _play_groups(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        args = self._args
        at_once = max(args.max_inflight_tasks, args.num_generations)
        samples_per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        # What is played further ahead is stale before the trainer comes to it.
        ahead = max(max(1, args.max_staleness) * samples_per_step, args.num_generations)
        server = VLLMServer(
            args.vllm_server_base_url,
            self._model,
            sampling_of(args),
            timeout_s=args.request_timeout,
            attempts=self.sampling_attempts,
        )
        slots = asyncio.Semaphore(at_once)
        try:
            context = await server.max_model_len()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat())
                for number, (source, index) in self._numbered_tasks():
                    # The trainer empties the queue in another thread, which sets no event of this loop.
                    while self._in_flight + self.rollout_buffer.qsize() + args.num_generations > ahead:  # noqa: ASYNC110
                        await asyncio.sleep(POLL_S)
                    version, played = self._version, []
                    step = self.first_step + max(0, version - 1) * args.weight_sync_steps
                    for sample in range(args.num_generations):
                        await slots.acquire()
                        self._in_flight += 1
                        episode = TokenEpisode(source, tokenizer=self._tokenizer, chat_template_kwargs=args.chat_template_kwargs)
                        fields = {"step": step, "group": f"{number}@{self.run}", "sample": sample}
                        played.append(group.create_task(self._play(episode, index, fields, server, context, slots)))
                    group.create_task(self._score(number, source.name, version, played))
        finally:
            await server.aclose()

    async def _beat(self) -> None:
        while True:
            self._heartbeat = time.monotonic()
            await asyncio.sleep(BEAT_S)

    def _numbered_tasks(self) -> Iterator[tuple[int, tuple[Episodes, int]]]:
        """Yield the number of a group and its task, for ever. Each pass over the tasks has an order of its own."""
        numbers = itertools.count()
        shuffle = random.Random(self._args.seed).shuffle
        while True:
            order = list(self.tasks)
            shuffle(order)
            for task in order:
                yield next(numbers), task

    async def _play(
        self,
        episode: TokenEpisode,
        index: int,
        fields: dict[str, Any],
        server: VLLMServer,
        context: int | None,
        slots: asyncio.Semaphore,
    ) -> PlayedEpisode:
        began = time.monotonic()
        reward: float | None = None
        try:
            await episode.begin(index, **fields)
            while not episode.done:
                await self._take_turn(episode, server, context)
            reward = episode.reward
            if episode.error:
                self._last_error = episode.error
        except OpenRewardGymError as error:
            # The model's server is needed by all episodes, and a wrong option is wrong in all. A chat template that refuses a
            # conversation, and a session that cannot be opened, are failures of this episode.
            if isinstance(error, PolicyError | ConfigurationError) and not isinstance(error, TokenHistoryError):
                raise
            self._last_error = str(error)
        finally:
            slots.release()
            await episode.aclose()
        prompt = episode.prompt
        return PlayedEpisode(
            prompt,
            episode.messages[len(prompt) :],
            episode.segments,
            reward,
            turns=episode.turns,
            drift=episode.drift,
            duration_s=time.monotonic() - began,
        )

    async def _take_turn(self, episode: TokenEpisode, server: VLLMServer, context: int | None) -> None:
        most_calls = self._args.max_tool_calling_iterations
        if most_calls is not None and episode.turns > most_calls:
            await episode.end("max_turns")
            return
        prompt_ids = episode.prompt_ids
        room = self._args.max_completion_length
        if context is not None:
            room = min(room, context - len(prompt_ids))
        if room < 1:
            await episode.end("context_overflow")
            return
        sampled = await server.sample(prompt_ids, room)
        await episode.act_tokens(sampled.ids, sampled.logprobs, ended=sampled.ended)

    async def _score(self, number: int, name: str, version: int, tasks: Sequence[asyncio.Task[PlayedEpisode]]) -> None:
        played = [await task for task in tasks]
        self._in_flight -= len(played)
        scored = [(episode, episode.reward) for episode in played if episode.reward is not None]
        self._report(played, len(played) - len(scored))
        if not scored:
            self._without_reward += 1
            if self._without_reward >= self.failed_groups:
                raise PolicyError(
                    f"the last {self._without_reward} groups of rollouts have no reward: infrastructure spoiled all of their "
                    f"episodes. The last error: {self._last_error or 'unknown'}"
                )
            return
        self._without_reward = 0
        rewards = [reward for _, reward in scored]
        mean, deviation = statistics.fmean(rewards), statistics.pstdev(rewards)
        for episode, reward in scored:
            metrics = {"reward": reward, "reward_std": deviation, f"rewards/{name}": reward}
            advantage = (reward - mean) / (deviation + 1e-8)
            for sample in _samples(episode, advantage, version, number, metrics):
                self.rollout_buffer.put(sample)

    def _report(self, played: Sequence[PlayedEpisode], spoiled: int) -> None:
        """Queue the metrics of a group, for the trainer's log. A pair is a rate: a sum and a count."""
        metrics: dict[str, Any] = {"rollout/spoiled_total": float(spoiled), "rollout/inflight": float(self._in_flight)}
        for episode in played:
            tokens = [len(segment.response_ids) for segment in episode.segments]
            if tokens:
                self.metrics_queue.put(
                    {
                        "completions/mean_length": (float(sum(tokens)), 1.0),
                        "rollout/samples_per_rollout": (float(len(tokens)), 1.0),
                        "rollout/turns_mean": (float(episode.turns), 1.0),
                        "rollout/drift_tokens_mean": (float(episode.drift), 1.0),
                        "rollout/duration_s": episode.duration_s,
                    }
                )
        self.metrics_queue.put(metrics)


def _samples(episode: PlayedEpisode, advantage: float, version: int, group: int, metrics: dict[str, float]) -> Iterator[Any]:
    """Yield a sample of the trainer for each segment of the episode."""
    import numpy as np
    from trl.experimental.async_grpo.async_rollout_worker import RolloutSample

    for segment in episode.segments:
        assert segment.logprobs is not None  # every turn came with them
        context = len(segment.prompt_ids)
        yield RolloutSample(
            prompt=episode.prompt,
            completion=episode.completion,
            input_ids=np.asarray([*segment.prompt_ids, *segment.response_ids], dtype=np.int64),
            completion_mask=np.asarray([*[0] * context, *segment.mask], dtype=np.int64),
            old_log_probs=np.asarray([*[0.0] * context, *segment.logprobs], dtype=np.float32),
            advantage=advantage,
            model_version=version,
            group_id=group,
            metrics=dict(metrics),
            enqueued_at=time.time(),
        )
