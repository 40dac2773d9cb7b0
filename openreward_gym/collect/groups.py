"""Comparison of a group's rollouts once it is complete: the environment's own scores, and advantages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import pstdev

from openreward_gym.collect.inventory import Inventory, Unit
from openreward_gym.collect.plan import RunPlan
from openreward_gym.collect.run_folder import RunLog
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.tasks import TaskRequest
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import Advantage
from openreward_gym.protocol.wire import GroupCandidate, GroupScore
from openreward_gym.reports.statistics import mean
from openreward_gym.store import Group, RolloutStore, read_groups
from openreward_gym.types import Block, Message, Rollout, TextBlock, ToolCall, ToolResult, ToolSet, codec, text_of


def advantages_of(rewards: Sequence[float], kind: Advantage) -> list[float]:
    """Compute the advantages of a group's rewards.

    Args:
        rewards: The rewards.
        kind: "group": (r - mean) / standard deviation, as in GRPO (Shao et al. 2024); zeros if all rewards are equal.
            "leave_one_out": r - mean of the other rewards (Ahmadian et al. 2024).

    Example:
        >>> advantages_of([1.0, 0.0], "group")
        [1.0, -1.0]
    """
    if kind == "leave_one_out":
        total, others = sum(rewards), len(rewards) - 1
        return [reward - (total - reward) / others for reward in rewards] if others else [0.0 for _ in rewards]
    # Scaling does not change these advantages, and keeps the squares of huge rewards finite.
    largest = max((abs(reward) for reward in rewards), default=0.0)
    scaled = [reward / largest for reward in rewards] if largest > 1e100 else rewards
    centre, spread = mean(scaled), pstdev(scaled)
    # The spread of equal rewards is zero up to rounding.
    flat = spread <= 1e-9 * max(1.0, abs(centre))
    return [0.0 if flat else (reward - centre) / spread for reward in scaled]


def compared(
    group: str, rollouts: Sequence[tuple[str, float | None]], scores: Sequence[GroupScore] | None, kind: Advantage | None
) -> Group:
    """Return a group with its advantages, or with the reason why a trainer learns nothing from it."""
    rewards = [reward for _, reward in rollouts]
    compared_rewards = [score.reward for score in scores] if scores is not None else rewards
    known = [reward for reward in compared_rewards if reward is not None and math.isfinite(reward)]
    discard = advantages = None
    if len(known) < len(compared_rewards):
        discard = "a rollout has no reward"
    else:
        advantages = advantages_of(known, kind or "group")
        if not any(advantages):
            discard = "all rewards are equal: every advantage is zero"
    return Group(
        group,
        rollouts=[identity for identity, _ in rollouts],
        rewards=rewards,
        scores=None if scores is None else [score.reward for score in scores],
        score_metadata=None if scores is None else [score.metadata for score in scores],
        advantages=None if kind is None else advantages,
        discard_reason=discard,
    )


class GroupComparer:
    """Compares the groups of a run during its collection, if the run's options ask for scores or advantages."""

    def __init__(self, plan: RunPlan, inventory: Inventory, store: RolloutStore) -> None:
        self.plan = plan
        self.inventory = inventory
        self.store = store
        self.enabled = plan.options.score_groups or plan.options.advantages is not None
        self._env: OpenRewardEnv | None = None
        self._members: dict[str, dict[int, tuple[str, float | None]]] = {}
        self._log = RunLog(Path(store.path), "groups")

    def recall(self) -> list[str]:
        """Read the rollouts of earlier collections, and return the groups that are complete and not yet compared."""
        folder = Path(self.store.path)
        if not self.enabled or not (folder / "rollouts").exists():
            return []
        compared_groups = {group.group for group in read_groups(folder)}
        for rollout in self.store:
            if rollout.group is not None and rollout.group not in compared_groups:
                self._note(rollout.group, rollout.sample or 0, rollout)
        return [group for group, members in self._members.items() if len(members) == self.inventory.repeats]

    def _note(self, group: str, sample: int, rollout: Rollout) -> None:
        self._members.setdefault(group, {})[sample] = (rollout.id, rollout.reward)

    def add(self, unit: Unit, rollout: Rollout) -> bool:
        """Add a rollout; return True if it completes its group."""
        if not self.enabled:
            return False
        self._note(unit.group, unit.sample, rollout)
        return len(self._members[unit.group]) == self.inventory.repeats

    async def compare(self, group: str) -> None:
        """Compare a complete group and append it to `groups/`. After an error of the environment it can be retried."""
        members = self._members[group]
        ordered = [members[sample] for sample in sorted(members)]
        scores = await self._scores(group, ordered) if self.plan.options.score_groups else None
        result = compared(group, ordered, scores, self.plan.options.advantages)
        self._log.append({"schema": Group.SCHEMA, **codec.write(result)})
        del self._members[group]

    async def _scores(self, group: str, members: Sequence[tuple[str, float | None]]) -> list[GroupScore]:
        number = self.inventory.find(group, 0)
        assert number is not None
        task = self.inventory.unit(number).task
        if self._env is None:
            self._env = self.plan.make_env()
        session, episode = await self._env.open_session(TaskRequest(task.split, task.index, task.spec), None)
        try:
            if episode.tools.supports_score_group is False:
                raise ConfigurationError(
                    f"{self.inventory.environment} does not compare groups of rollouts: leave out score_groups"
                )
            candidates = []
            for identity, reward in members:
                rollout = self.store.with_images(self.store.get(identity))
                candidates.append(GroupCandidate(_messages(rollout, episode.tools), {"reward": reward, "rollout": identity}))
            return await session.score_group(candidates)
        finally:
            await session.close()

    async def aclose(self) -> None:
        """Close the env and the file."""
        try:
            if self._env is not None:
                await self._env.aclose()
        finally:
            self._log.close()


def _messages(rollout: Rollout, tools: ToolSet) -> list[Message]:
    """Return the transcript in block types that the environment accepts. Other blocks become text, so that nothing is omitted."""
    accepted = tools.message_block_types or ("text", "image")
    messages = []
    for message in rollout.messages:
        if message.role != "tool":
            blocks = tuple(b if b.type in accepted else TextBlock(_as_text(b)) for b in message.blocks)
            message = Message(message.role, blocks)
        elif "tool_result" not in accepted:
            # A message of the role "tool" would become a block that the environment does not accept.
            result = ToolResult(message.blocks, message.call_id or "", message.name or "", message.is_error)
            message = Message("user", (TextBlock(_as_text(result)),))
        messages.append(message)
    return messages


def _as_text(block: Block) -> str:
    if isinstance(block, ToolCall):
        return f"[tool_call {block.name}] {block.arguments_json}"
    if isinstance(block, ToolResult):
        return f"[tool_result{' (error)' if block.is_error else ''}]\n{text_of(block.blocks)}"
    return text_of((block,)) or f"[{block.type}]"
