"""The environment package that verifiers finds by the id `openreward-gym-verifiers`.

    vf-eval openreward-gym-verifiers --env.taskset.environment weather --env.taskset.base-url http://127.0.0.1:8080 --no-push

verifiers imports a package by its id and takes the taskset, the harness and the environment that `__all__` names.
"""

from openreward_gym.integrations.verifiers import OneAgentEnv, OpenRewardHarness, OpenRewardTaskset

__all__ = ["OneAgentEnv", "OpenRewardHarness", "OpenRewardTaskset"]
