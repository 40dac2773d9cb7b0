"""The environment: one agent that plays the taskset in the evaluator's own process."""

from __future__ import annotations

from typing import Any

import verifiers.v1 as vf

from openreward_gym.integrations.verifiers.harness import close_clients
from openreward_gym.integrations.verifiers.source import close_sources


class OneAgentConfig(vf.EnvConfig):  # type: ignore[misc]  # verifiers has no types here
    """Options of the environment, `--env.*` on the command line.

    Example:
        >>> OneAgentConfig().agent.runtime.type  # doctest: +SKIP
        'subprocess'
    """

    agent: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    """The model under evaluation or training. The tools run on the environment's server, so nothing needs a container here."""


class OneAgentEnv(vf.Env[OneAgentConfig]):  # type: ignore[misc]
    """verifiers' environment with one agent, without a container.

    Example:
        >>> from openreward_gym.integrations.verifiers import load_environment  # doctest: +SKIP
        >>> load_environment("weather", base_url="http://127.0.0.1:8080")  # doctest: +SKIP
    """

    async def run(self, task: Any, agents: Any) -> None:
        """Play a task."""
        await agents.agent.run(task)

    async def stop(self) -> None:
        """Close the shards of the record, and the connections to the model."""
        close_sources()
        await close_clients()
