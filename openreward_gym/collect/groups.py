"""Rollouts of one task compared: the environment's own comparison, and advantages, once the group is complete."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import pstdev
from typing import Literal, TypeAlias

import orjson

from openreward_gym.collect.inventory import Inventory, Unit
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.tasks import TaskRequest
from openreward_gym.errors import ConfigurationError
from openreward_gym.protocol.wire import GroupCandidate, GroupScore
from openreward_gym.reports.statistics import mean
from openreward_gym.store.groups import SCHEMA, Group, read_groups
from openreward_gym.store.store import RolloutStore
from openreward_gym.store.writer import LineWriter
from openreward_gym.types import Block, Message, TextBlock, ToolCall, ToolResult, ToolSet, text_of
from openreward_gym.types.conversion import message_of
from openreward_gym.types.rollout import Rollout

Advantage: TypeAlias = Literal["group", "leave_one_out"]
"""How a rollout's advantage is made of its group's rewards; see `advantages_of`."""


def advantages_of(rewards: Sequence[float], kind: Advantage) -> list[float]:
    """Advantages of a group's rewards.

    "group": (r - mean) / standard deviation, as GRPO has it (Shao et al. 2024), zeros where all are equal.
    "leave_one_out": r - mean of the others (Ahmadian et al. 2024).
    """
    if kind == "leave_one_out":
        total, others = sum(rewards), len(rewards) - 1
        return [reward - (total - reward) / others for reward in rewards] if others else [0.0 for _ in rewards]
    # Scaling changes no such advantage, and keeps the squares of huge rewards within the floats.
    largest = max((abs(reward) for reward in rewards), default=0.0)
    scaled = [reward / largest for reward in rewards] if largest > 1e100 else rewards
    centre, spread = mean(scaled), pstdev(scaled)
    # Equal rewards have no spread but for rounding.
    flat = spread <= 1e-9 * max(1.0, abs(centre))
    return [0.0 if flat else (reward - centre) / spread for reward in scaled]


def compared(
    group: str, rollouts: Sequence[tuple[str, float | None]], scores: Sequence[GroupScore] | None, kind: Advantage | None
) -> Group:
    """A group with what its rewards come to."""
    rewards = [reward for _, reward in rollouts]
    given = [score.reward for score in scores] if scores is not None else rewards
    known = [reward for reward in given if reward is not None and math.isfinite(reward)]
    discard = None
    advantages = None
    if len(known) < len(given):
        discard = "a rollout has no reward"
    else:
        advantages = advantages_of(known, kind) if kind is not None else None
        if not any(advantages_of(known, kind or "group")):
            discard = "all rewards are equal: every advantage is zero"
    return Group(
        group,
        [identity for identity, _ in rollouts],
        rewards,
        None if scores is None else [score.reward for score in scores],
        None if scores is None else [score.metadata for score in scores],
        advantages,
        discard,
    )


@dataclass(slots=True)
class Groups:
    """The groups of a run that is being collected.

    Args:
        inventory, store: The run's.
        score: Whether the environment is asked to compare.
        advantages: Which ones are made; None for none.
        make_env: Makes the env that the environment is asked through.
    """

    inventory: Inventory
    store: RolloutStore
    score: bool
    advantages: Advantage | None
    make_env: Callable[[], OpenRewardEnv]
    _env: OpenRewardEnv | None = None
    _members: dict[str, dict[int, tuple[str, float | None]]] = field(default_factory=dict)
    _writer: LineWriter | None = None

    @property
    def wanted(self) -> bool:
        return self.score or self.advantages is not None

    def recall(self) -> list[str]:
        """Take up what an earlier collection left; returns the groups that are complete and were not compared."""
        folder = Path(self.store.path)
        if not self.wanted or not (folder / "rollouts").exists():
            return []
        done = {group.group for group in read_groups(folder)}
        for rollout in self.store:
            if rollout.group is not None and rollout.group not in done:
                self._note(rollout.group, rollout.sample or 0, rollout)
        return [group for group, members in self._members.items() if len(members) == self.inventory.repeats]

    def _note(self, group: str, sample: int, rollout: Rollout) -> None:
        self._members.setdefault(group, {})[sample] = (rollout.id, rollout.reward)

    def add(self, unit: Unit, rollout: Rollout) -> bool:
        """Whether `rollout` completes its group."""
        if not self.wanted:
            return False
        self._note(unit.group, unit.sample, rollout)
        return len(self._members[unit.group]) == self.inventory.repeats

    async def compare(self, group: str) -> Group:
        """Compare a complete group and write it down.

        Raises:
            OpenRewardGymError: The environment could not compare it; it can be tried again.
        """
        members = self._members[group]
        ordered = [members[sample] for sample in sorted(members)]
        scores = await self._scores(group, ordered) if self.score else None
        found = compared(group, ordered, scores, self.advantages)
        if self._writer is None:
            self._writer = LineWriter(Path(self.store.path) / "groups", "close")
        row = {name: getattr(found, name) for name in Group.__slots__}
        self._writer.append(orjson.dumps({"schema": SCHEMA, **row}, default=str).decode())
        del self._members[group]
        return found

    async def _scores(self, group: str, members: Sequence[tuple[str, float | None]]) -> list[GroupScore]:
        number = self.inventory.find(group, 0)
        assert number is not None
        task = self.inventory.unit(number).task
        if self._env is None:
            self._env = self.make_env()
        session, episode = await self._env.open_session(TaskRequest(task.split, task.index, task.spec), None)
        try:
            if episode.tools.supports_score_group is False:
                raise ConfigurationError(f"{self.inventory.environment} does not compare groups of rollouts")
            candidates = []
            for identity, reward in members:
                rollout = self.store.with_images(self.store.get(identity))
                candidates.append(GroupCandidate(_messages(rollout, episode.tools), {"reward": reward, "rollout": identity}))
            return await session.score_group(candidates)
        finally:
            await session.close()

    async def aclose(self) -> None:
        """Raises StoreError where the last lines could not be forced to the disk."""
        env, self._env = self._env, None
        writer, self._writer = self._writer, None
        try:
            if env is not None:
                await env.aclose()
        finally:
            if writer is not None:
                writer.close()


def _messages(rollout: Rollout, tools: ToolSet) -> list[Message]:
    """The transcript in the blocks that the environment takes; others become text, so that nothing is unseen."""
    taken = tools.message_block_types or ("text", "image")
    messages = [message_of(record) for record in rollout.messages]
    return [Message(m.role, tuple(b if b.type in taken else TextBlock(_as_text(b)) for b in m.blocks)) for m in messages]


def _as_text(block: Block) -> str:
    if isinstance(block, ToolCall):
        return f"[tool_call {block.name}] {block.arguments_json}"
    if isinstance(block, ToolResult):
        return f"[tool_result{' (error)' if block.is_error else ''}]\n{text_of(block.blocks)}"
    return text_of((block,)) or f"[{block.type}]"
