"""The opening of an episode: a session on a task, its prompt and its tools."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from openreward_gym.envs.episode import Episode
from openreward_gym.errors import OpenRewardGymError, TransportTimeoutError
from openreward_gym.protocol.client import RemoteEnvironment
from openreward_gym.protocol.session import Session
from openreward_gym.types import Task
from openreward_gym.types.rollout import now_iso


@asynccontextmanager
async def reset_deadline(seconds: float) -> AsyncIterator[None]:
    """What runs within may take `seconds`: then it is cancelled, and TransportTimeoutError is raised."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        if isinstance(error, OpenRewardGymError):
            raise
        raise TransportTimeoutError(f"reset() took longer than reset_timeout_s={seconds}") from None


async def open_episode(
    remote: RemoteEnvironment, task: Task, arguments: Mapping[str, Any], seed: int | None
) -> tuple[Session, Episode]:
    """Open a session on `task`, by its index where it has one, otherwise by its spec.

    What fails or is cancelled half-way leaves no session behind.

    Args:
        remote: The environment.
        task: What to play.
        arguments: Those of `OpenRewardEnv`.
        seed: The seed of the reset; None if it had none.

    Raises:
        OpenRewardGymError: The session could not be opened; see `Session.open`.
    """
    begun = time.perf_counter()
    started_at = now_iso()
    session = remote.session(
        split=None if task.index is None else task.split,
        index=task.index,
        task_spec=task.spec if task.index is None else None,
        toolset=arguments["toolset"],
        secrets_env=arguments["secrets_env"],
        env_overrides=arguments["env_overrides"],
        open_timeout_s=arguments["reset_timeout_s"],
    )
    try:
        await session.open()
        # Once: environments may begin their state in it.
        prompt = await session.messages()
        tools = await session.tools()
    except BaseException:
        await session.close()
        raise
    episode = Episode(
        environment=arguments["environment"],
        variant=arguments["variant"],
        base_url=arguments["base_url"],
        task=task,
        tools=tools,
        prompt=prompt,
        seed=seed,
        session_id=session.session_id,
        started_at=started_at,
        reset_s=time.perf_counter() - begun,
    )
    return session, episode
