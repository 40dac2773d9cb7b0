"""Comparison of a group's rollouts once it is complete: the environment's own scores, and advantages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import pstdev

from openreward_gym.collect.inventory import Inventory, Unit
from openreward_gym.collect.outcomes import FAILED, OMITTED
from openreward_gym.collect.plan import RunPlan
from openreward_gym.collect.player import Servers
from openreward_gym.collect.run_folder import RunLog
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.tasks import TaskRequest
from openreward_gym.errors import ConfigurationError, ServerError
from openreward_gym.jsonio import dumps
from openreward_gym.options import Advantage
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.wire import GroupCandidate, GroupScore
from openreward_gym.reports.statistics import mean
from openreward_gym.retrying import retries_heard_by
from openreward_gym.store import Group, RolloutStore, read_groups
from openreward_gym.types import Block, Message, OpaqueBlock, ReasoningItem, Rollout, TextBlock, ToolCall, ToolResult, codec
from openreward_gym.types.messages import split_results

_STANDARD_TYPES = frozenset(("text", "image", "reasoning", "tool_call", "tool_result"))


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


async def check_score_groups(plan: RunPlan) -> None:
    """Raise ConfigurationError before anything is played if the run asks for scores and the environment gives none."""
    if not plan.options.score_groups:
        return
    env = plan.options.env
    async with Client(**env.client.to_keywords()) as client:
        tools = await client.environment(plan.environment, env.variant).tools()
    if tools.supports_score_group is False:
        raise ConfigurationError(f"{plan.environment} does not compare groups of rollouts: leave out score_groups")


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
        # A comparison may take long, and plays no episode whose requests would be watched.
        self.server = Servers(plan).environment
        self.proven = False
        """True once a group was compared: an error of a later one concerns that group alone."""

    def recall(self) -> list[str]:
        """Read the rollouts of earlier collections, and return the groups that are complete and not yet compared."""
        folder = Path(self.store.path)
        if not self.enabled or not (folder / "rollouts").exists():
            return []
        compared_groups = {group.group for group in read_groups(folder)}
        for rollout in self.store:
            if rollout.group is not None and rollout.group not in compared_groups and rollout.status != "running":
                self._note(rollout.group, rollout.sample or 0, rollout)
        return self.uncompared

    @property
    def uncompared(self) -> list[str]:
        """The groups that are complete and not compared: no attempt at it was made yet, or it failed."""
        return [group for group, members in self._members.items() if len(members) == self.inventory.repeats]

    def count_incomplete(self, states: bytes | bytearray) -> int:
        """Count the groups that cannot be compared, because some of their units failed or were omitted.

        `states` has the state of each unit. Groups that were omitted as a whole do not count.
        """
        if not self.enabled:
            return 0
        repeats = self.inventory.repeats
        groups = (set(states[first : first + repeats]) for first in range(0, len(states), repeats))
        return sum(bool(group & {FAILED, OMITTED}) and group != {OMITTED} for group in groups)

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
        scores = await self._watched_scores(group, ordered) if self.plan.options.score_groups else None
        result = compared(group, ordered, scores, self.plan.options.advantages)
        result = replace(result, score_metadata=self.plan.redactor.free(result.score_metadata))
        self._log.append({"schema": Group.SCHEMA, **codec.write(result)})
        del self._members[group]
        self.proven = True

    async def _watched_scores(self, group: str, members: Sequence[tuple[str, float | None]]) -> list[GroupScore]:
        self.server.begin()
        answered = False
        try:
            with retries_heard_by(lambda error, wait_s: self.server.note_error(str(error))):
                scores = await self._scores(group, members)
            answered = True
            return scores
        except ServerError:
            answered = True
            raise
        finally:
            if not answered:
                # This collection does not try again, so that nothing waits for the server any more.
                self.server.note_error("")
            self.server.end(answered=answered)

    async def _scores(self, group: str, members: Sequence[tuple[str, float | None]]) -> list[GroupScore]:
        number = self.inventory.find(group, 0)
        assert number is not None
        task = self.inventory.unit(number).task
        if self._env is None:
            self._env = self.plan.make_env()
        session, episode = await self._env.open_session(TaskRequest(task.split, task.index, task.spec), None)
        try:
            candidates = []
            for identity, reward in members:
                rollout = self.store.with_images(self.store.get(identity))
                messages = candidate_messages(rollout.messages, episode.tools.message_block_types)
                candidates.append(GroupCandidate(messages, {"reward": reward, "rollout": identity}))
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


def candidate_messages(messages: Iterable[Message], block_types: Sequence[str] | None) -> list[Message]:
    """Return a rollout's messages as an environment takes them for a comparison.

    Args:
        messages: The recorded messages.
        block_types: The block types that the environment accepts; None (older servers) means text and image.

    What the environment does not accept, or not in that role, becomes text. Reasoning does not: as text, it would be judged as
    a part of the answer, so an environment that does not accept reasoning gets none. Metadata is the environment's own only
    in the messages of the task.
    """
    accepted = frozenset(block_types or ("text", "image"))
    result = []
    for part in (part for message in messages for part in split_results(message)):
        if part.role != "tool":
            blocks = [converted for block in part.blocks for converted in _accepted(block, part.role, accepted)]
            result.append(Message(part.role, tuple(blocks), metadata=part.metadata if part.origin == "given" else None))
            continue
        blocks = [converted for block in part.blocks for converted in _accepted(block, "tool", accepted)]
        if "tool_result" in accepted:
            result.append(Message("tool", tuple(blocks), call_id=part.call_id, name=part.name, is_error=part.is_error))
        else:
            head = TextBlock("[tool_result (error)]" if part.is_error else "[tool_result]")
            result.append(Message("user", (head, *blocks)))
    return result


def _accepted(block: Block, role: str, accepted: frozenset[str]) -> tuple[Block, ...]:
    """Return a block in types that a message of the role may have, by the standard and by what the environment accepts."""
    if isinstance(block, TextBlock):
        return (block,)
    if isinstance(block, OpaqueBlock):
        # A block of a known type is opaque because it lacks a field of that type.
        is_sent = block.raw.get("type") in accepted - _STANDARD_TYPES
        return (block if is_sent else TextBlock(dumps(block.raw).decode()),)
    if isinstance(block, (ReasoningItem, ToolCall)) and role == "assistant" and block.type in accepted:
        return (block,)
    if isinstance(block, ReasoningItem):
        return ()
    if isinstance(block, ToolCall):
        return (TextBlock(f"[tool_call {block.name}] {block.arguments_json}"),)
    if isinstance(block, ToolResult):
        # A result inside a result: the results of a message were separated from it.
        return tuple(converted for inner in block.blocks for converted in _accepted(inner, role, accepted))
    return (block if "image" in accepted else TextBlock(f"[image {block.mime_type}]"),)
