"""The agent loop of verl that plays an episode of an environment. Importing this module imports verl."""

from __future__ import annotations

import logging
import time
import uuid
import weakref
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import (
    AgentLoopBase,
    AgentLoopMetrics,
    AgentLoopOutput,
)

from openreward_gym import jsonio
from openreward_gym.checks import integer
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, PolicyError, SessionLostError
from openreward_gym.integrations.episode import Episodes
from openreward_gym.integrations.tokens import Segment, TokenEpisode
from openreward_gym.types import Json, Task

# An embedding may have more ids than the tokenizer: those that the engine sampled are taken as they are.
_ANY_ID = 2**31
_ABORTED = ("abort", "aborted")  # the names of SGLang and of the other engines
_LIMITS = ("max_turns", "max_steps", "length", "context_overflow")

logger = logging.getLogger(__name__)

# The sources of episodes of a worker, by the client of its model servers: verl makes an agent loop for every sample.
_SOURCES: weakref.WeakKeyDictionary[Any, dict[bytes, Episodes]] = weakref.WeakKeyDictionary()


class EpisodeAgentLoop(AgentLoopBase):
    """Play one episode of an environment with the tokens that verl samples.

    The prompt of each turn extends the ids of the turn before by what the environment said; what was sampled is never rendered
    again. The mask is 1 on sampled tokens, the end of the turn included, and their logprobs are the sampler's. The reward is the
    sum of the environment's, so that no reward function of verl runs.

    A chat template that rewrites earlier turns (one that drops old thoughts) leaves several sequences of an episode. verl's
    trainer takes them all, with the advantage of the episode; its older workers (`trainer.use_v1=False`) take one sequence
    per sample, and are given the last one.

    An episode that infrastructure spoils is played again, `attempts` times in all, each recorded. Then it is left out: the
    error is raised, from which verl's trainer goes on with the other samples of the group. Its older workers stop at an
    error. They are given a sample without trained tokens instead; its reward of 0 is in the mean of its group.

    Args:
        *args, **keywords: What verl's workers pass.
        episodes: `environment`, and the options of `Episodes`.
        max_turns: Largest number of messages of the model. None takes `multi_turn.max_assistant_turns` of the rollout's
            configuration.
        attempts: Number of times that an episode which infrastructure spoils is played.
        chat_template_kwargs: Further arguments of the chat template. None takes `data.apply_chat_template_kwargs`.

    Example:
        >>> options = {"environment": "weather", "base_url": "http://127.0.0.1:8080", "output": "runs/verl"}
        >>> loop = EpisodeAgentLoop(..., episodes=options, max_turns=8)  # doctest: +SKIP
        >>> output = await loop.run({"temperature": 1.0}, **row)  # doctest: +SKIP
    """

    def __init__(
        self,
        *args: Any,
        episodes: Mapping[str, Any],
        max_turns: int | None = None,
        attempts: int = 2,
        chat_template_kwargs: Mapping[str, Json] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(*args, **keywords)
        self.source = _source(self.server_manager, _plain(episodes))
        self.attempts: int = integer(1)("attempts", attempts)
        default = self.rollout_config.multi_turn.max_assistant_turns
        self.max_turns: int | None = integer(1, optional=True)("max_turns", default if max_turns is None else max_turns)
        template = self.apply_chat_template_kwargs if chat_template_kwargs is None else chat_template_kwargs
        self.chat_template_kwargs: dict[str, Json] = _plain(template or {})

    async def run(
        self, sampling_params: dict[str, Any], priority: int = 0, **fields: Any
    ) -> AgentLoopOutput | list[AgentLoopOutput]:
        """Play the episode of a row.

        Args:
            sampling_params: Sampling parameters of verl's model server.
            priority: The sample's number, from which its id is made where the rollouts are deterministic.
            **fields: Fields of the row, and what verl's worker adds: `session_id` is there for a worker that takes several
                sequences.

        Returns:
            A list of sequences for verl's trainer; a single one for its older workers.

        Raises:
            ConfigurationError: The row has no task, or the prompt has more tokens than `data.max_prompt_length`.
            OpenRewardGymError: The failure that spoiled the last attempt, for verl's trainer to leave the sample out.
        """
        one_sequence = "session_id" not in fields
        for attempt in range(1, self.attempts + 1):
            sample = _Sample(self, sampling_params, _request_id(priority, self.rollout_config))
            try:
                await sample.play(fields, attempt - 1)
            except (ConfigurationError, PolicyError):
                raise
            except OpenRewardGymError as error:
                if attempt < self.attempts:
                    logger.warning("An episode is played again: %s", error)
                elif one_sequence:
                    logger.warning("A sample has no trained tokens: %s", error)
                    return sample.masked()
                else:
                    raise
            else:
                return sample.sequence() if one_sequence else sample.sequences()
        raise AssertionError("attempts is at least 1")


class _Sample:
    """One attempt at a row's episode, and what verl's output says of it."""

    def __init__(self, agent_loop: EpisodeAgentLoop, sampling_params: Mapping[str, Any], request_id: str) -> None:
        self.loop = agent_loop
        self.sampling_params = dict(sampling_params)
        self.request_id = request_id
        self.episode = TokenEpisode(
            agent_loop.source,
            tokenizer=agent_loop.tokenizer,
            processor=agent_loop.processor,
            chat_template_kwargs=agent_loop.chat_template_kwargs,
            vocab_size=_ANY_ID,
        )
        ends = {*(self.sampling_params.get("stop_token_ids") or ()), *self.episode.end_token_ids}
        self.sampling_params["stop_token_ids"] = sorted(ends)
        self.metrics = AgentLoopMetrics()
        self.turn_scores: list[float] = []
        self.steps: dict[str, Any] = {"min_global_steps": None, "max_global_steps": None}
        self.routed_experts: dict[int, Any] = {}
        self.num_turns = 1  # the prompt

    async def play(self, fields: Mapping[str, Any], attempt: int) -> None:
        """Play the episode to its end. Raises the failure if infrastructure spoils it."""
        episode = self.episode
        task, group = _row(fields)
        step, sample = _integer(fields.get("global_steps")), _integer(fields.get("session_id"))
        try:
            await episode.begin(task, step=step, group=group, sample=sample, attempt=attempt)
            await self._check_prompt(group)
            while not episode.done:
                room = self._room()
                if self.loop.max_turns is not None and episode.turns >= self.loop.max_turns:
                    await episode.end("max_turns")
                elif room < 1:
                    await episode.end("context_overflow")
                else:
                    await self._turn(room)
            if episode.reward is None:
                raise SessionLostError(f"the episode of task {group} was lost: {episode.error or episode.stop_reason}")
        finally:
            await episode.aclose()

    async def _check_prompt(self, task: str) -> None:
        length, limit = len(self.episode.prompt_ids), self.loop.rollout_config.prompt_length
        if length > limit:
            await self.episode.end("context_overflow")
            raise ConfigurationError(
                f"the prompt of task {task} has {length} tokens, and data.max_prompt_length is {limit}: set it to "
                f"{length} or more, or leave the task out"
            )

    def _room(self) -> int:
        """Return the largest number of tokens of the next turn."""
        config, prompt_ids = self.loop.rollout_config, self.episode.prompt_ids
        segment = next(reversed(self.episode.segments), None)
        goes_on = segment is not None and prompt_ids[: len(segment.ids)] == segment.ids
        in_response = len(prompt_ids) - len(segment.prompt_ids) if segment is not None and goes_on else 0
        in_model = config.max_model_len or config.prompt_length + config.response_length
        return int(min(config.response_length - in_response, in_model - len(prompt_ids)))

    async def _turn(self, room: int) -> None:
        episode, began = self.episode, time.perf_counter()
        try:
            output = await self.loop.server_manager.generate(
                request_id=self.request_id,
                prompt_ids=episode.prompt_ids,
                sampling_params={**self.sampling_params, "max_tokens": room},
                image_data=list(episode.images) or None,
            )
        except Exception:
            await episode.end("policy_unavailable")
            raise
        sampled = time.perf_counter()
        self.metrics.generate_sequences += sampled - began
        self._note(output)
        if not output.token_ids or output.stop_reason in _ABORTED:
            await episode.end("policy_unavailable")
            raise SessionLostError(f"the model server ended a request without an answer ({output.stop_reason or 'no tokens'})")
        answer = await episode.act_tokens(output.token_ids, output.log_probs)
        self.routed_experts[len(episode.segments) - 1] = output.routed_experts
        self.metrics.tool_calls += time.perf_counter() - sampled
        self.turn_scores.append(answer.reward or 0.0)
        self.num_turns += 2 if answer.messages else 1

    def _note(self, output: Any) -> None:
        """Keep what verl's trainer wants to know of each request."""
        if output.num_preempted is not None:
            self.metrics.num_preempted = max(self.metrics.num_preempted, 0) + output.num_preempted
        if self.steps["min_global_steps"] is None:
            self.steps["min_global_steps"] = output.extra_fields.get("min_global_steps")
        self.steps["max_global_steps"] = output.extra_fields.get("max_global_steps") or self.steps["max_global_steps"]

    def sequences(self) -> list[AgentLoopOutput]:
        """Return all sequences of the episode that have sampled tokens."""
        return [self._output(number) for number in range(len(self.episode.segments))]

    def sequence(self) -> AgentLoopOutput:
        """Return the last sequence whose prompt fits into verl's padded tensors; a masked one if nothing was sampled."""
        limit = self.loop.rollout_config.prompt_length
        for number, segment in reversed(list(enumerate(self.episode.segments))):
            if len(segment.prompt_ids) <= limit:
                return self._output(number)
        return self.masked()

    def _output(self, number: int) -> AgentLoopOutput:
        segment = self.episode.segments[number]
        length = len(segment.prompt_ids) + self.loop.rollout_config.response_length
        experts = self.routed_experts.get(number)
        return self._made(segment, self.episode.reward or 0.0, routed_experts=None if experts is None else experts[:length])

    def masked(self) -> AgentLoopOutput:
        """Return a sample without a trained token."""
        end = self.loop.tokenizer.eos_token_id or 0
        logprobs = [0.0] if self.sampling_params.get("logprobs") else None
        return self._made(Segment([end], [end], [0], logprobs), 0.0)

    def _made(self, segment: Segment, reward: float, **known: Any) -> AgentLoopOutput:
        most, episode = self.loop.rollout_config.response_length, self.episode
        return AgentLoopOutput(
            prompt_ids=segment.prompt_ids,
            response_ids=segment.response_ids[:most],
            response_mask=segment.mask[:most],
            response_logprobs=None if segment.logprobs is None else segment.logprobs[:most],
            multi_modal_data={"images": list(segment.images)} if segment.images else {},
            reward_score=reward,
            num_turns=self.num_turns,
            metrics=self.metrics,
            extra_fields={
                **self.steps,
                "turn_scores": self.turn_scores,
                "tool_rewards": [],
                "stop_reason": episode.stop_reason,
                "reward_extra_info": {
                    "spoiled": float(episode.reward is None),
                    "truncated": float(episode.stop_reason in _LIMITS),
                    "drift": float(episode.drift),
                },
            },
            **known,
        )


def _source(owner: Any, options: dict[str, Any]) -> Episodes:
    """Return the source of episodes of a worker, which all of its agent loops share."""
    sources = _SOURCES.setdefault(owner, {})
    key = jsonio.dumps(options)
    if key not in sources:
        try:
            sources[key] = Episodes(**options)
        except TypeError as error:
            raise ConfigurationError(f"the agent loop's `episodes` are wrong: {error}") from error
    return sources[key]


def _plain(options: Any) -> dict[str, Any]:
    """Return options of verl's configuration as a plain dictionary."""
    return dict(OmegaConf.to_container(options, resolve=True) if OmegaConf.is_config(options) else options)


def _row(fields: Mapping[str, Any]) -> tuple[Task, str]:
    """Return the task of a row, and its name in messages and in the record."""
    info: Any = fields.get("extra_info")
    if not isinstance(info, Mapping) or info.get("task_index") is None:
        raise ConfigurationError(
            "a row has no extra_info.task_index: write the files with openreward_gym.integrations.verl.prepare, or add the column"
        )
    index = int(info["task_index"])
    return Task(str(info.get("split") or ""), index), str(index)


def _integer(value: Any) -> int | None:
    return None if value is None else int(value)


def _request_id(priority: int, config: Any) -> str:
    return f"det-{int(priority)}" if config.get("full_determinism", False) else uuid.uuid4().hex
