"""The text environment of `skyrl-gym` that plays an episode of an OpenReward environment. This module needs `skyrl-gym`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput, ConversationType
from skyrl_gym.metrics import default_aggregate_metrics

from openreward_gym.chat.hermes import to_hermes
from openreward_gym.errors import SessionLostError
from openreward_gym.integrations.skyrl.rows import EpisodeSource, Trajectory, current_trajectory, read_column
from openreward_gym.protocol import loop


class OpenRewardTextEnv(BaseTextEnv):
    """An episode of an OpenReward environment as a text environment of `skyrl-gym`.

    `skyrl.register()` registers it, and a generator of SkyRL makes it by name from a row that `skyrl.write_dataset` wrote:

        environment = skyrl_gym.make("openreward", extras={**row, "max_turns": 8})
        messages, metadata = environment.init(row["prompt"])
        output = environment.step('<tool_call>{"name": "get_weather", "arguments": {"city": "Lima"}}</tool_call>')

    The model's text is the action: the calls in it are run, and a text without a call is the model's message to the environment.
    Results come back as one message of the user, in the format of Hermes and Qwen.

    An episode that infrastructure spoiled has neither a reward nor a text: `init` and `step` raise the failure. The generator of
    this package plays the trajectory again; SkyRL's own generator ends the training with it.

    Args:
        env_config: Unused; SkyRL passes the configuration of the environment's class.
        extras: The row, with `max_turns`.
        source: The source of episodes of the registration. None makes one without further options.

    Raises:
        ConfigurationError: The row was not written by `write_dataset`, or an option has a wrong value.
    """

    def __init__(
        self, env_config: Any = None, extras: Mapping[str, Any] | None = None, source: EpisodeSource | None = None
    ) -> None:
        super().__init__()
        extras = extras or {}
        source = source or EpisodeSource({})
        options, self._task = read_column(extras)
        self.max_turns = extras.get("max_turns", 1)
        self._trajectory = current_trajectory.get() or Trajectory()
        self._trajectory.environment = self
        self._images = source.images or self._trajectory.images
        self._episode = source.episodes(options).episode()

    @property
    def reward(self) -> float | None:
        """The return of the episode so far; None where infrastructure spoiled it."""
        return self._episode.reward

    def init(self, prompt: ConversationType) -> tuple[ConversationType, dict[str, Any]]:
        """Open the session. Return the prompt of the session, with its tools, in place of the row's.

        Raises:
            TransportError, ServerError, SessionLostError, ...: The session could not be opened.
            ConfigurationError: The task does not exist, or the prompt has an image that the model cannot be shown.
        """
        trajectory = self._trajectory
        metadata = {"phase": trajectory.phase, "attempt": trajectory.attempt}
        loop.run(
            self._episode.begin(
                self._task, step=trajectory.step, group=trajectory.group, sample=trajectory.sample, metadata=metadata
            )
        )
        return to_hermes(self._episode.transcript, self._episode.tools, images=self._images), {}

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """Play an answer of the model.

        Raises:
            SessionLostError: Infrastructure spoiled the episode.
            ConfigurationError: A result has an image that the model cannot be shown.
            ResetNeededError: The episode has not begun, or is over.
        """
        self.turns += 1
        sampled, ended = self._trajectory.sampled, self._trajectory.ended
        answer = loop.run(self._episode.act(action, sampled=sampled, ended=ended))
        if self._episode.reward is None:
            raise SessionLostError(
                f"the episode of {self._episode.source.name} has no reward, because it ended with {self._episode.stop_reason!r}: "
                f"{self._episode.error or 'the answer was withheld'}"
            )
        if not answer.done and self.turns >= self.max_turns:
            loop.run(self._episode.end("max_turns"))
        done = self._episode.done
        return BaseTextEnvStepOutput(
            # Nobody answers the messages after the end, and the generator takes them away.
            observations=[] if done else to_hermes(answer.messages, images=self._images),
            reward=answer.reward or 0.0,
            done=done,
            metadata={"stop_reason": self._episode.stop_reason, "has_reward": answer.reward is not None},
        )

    def close(self) -> None:
        """End the episode: a generator closes one that still runs when the conversation has become too long for the model."""
        loop.run(self._episode.end("context_overflow"))
        loop.run(self._episode.aclose())

    def abandon(self) -> None:
        """Close the session of a trajectory that the generator gave up. An episode that still runs is recorded as cancelled."""
        loop.run(self._episode.aclose())

    def get_metrics(self) -> dict[str, Any]:
        """Return numbers of the episode, and its stop reason."""
        messages = self._episode.transcript
        return {
            "turns": self._episode.turns,
            "return": self._episode.reward,
            "tool_calls": sum(len(message.tool_calls) for message in messages if message.origin == "policy"),
            "tool_errors": sum(message.role == "tool" and message.is_error for message in messages),
            "stop_reason": self._episode.stop_reason or "context_overflow",
        }

    @staticmethod
    def aggregate_metrics(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the means of the numbers, and the share of each stop reason. Trajectories without metrics do not count."""
        played = [each for each in metrics if each]
        reasons = Counter(each["stop_reason"] for each in played)
        shares = {f"stop_reason/{reason}": count / len(played) for reason, count in sorted(reasons.items())}
        return {**default_aggregate_metrics([dict(each) for each in played]), **shares}
