"""Ids for `gymnasium.make`: `OpenReward-v0` for every environment, and one id for each environment that is registered.

An id of Gymnasium has the form `[namespace/]name[-vN]`, so the `owner/name` of an environment is a valid id.
"""

from __future__ import annotations

import json
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from openreward_gym.errors import ConfigurationError
from openreward_gym.options import EnvOptions

CATCH_ALL = "OpenReward-v0"
ENTRY_POINT = "openreward_gym.envs.env:OpenRewardEnv"
VECTOR_ENTRY_POINT = "openreward_gym.envs.vector:OpenRewardVectorEnv"


def register_catch_all() -> None:
    """Register `OpenReward-v0`. Importing `openreward_gym` does this."""
    if CATCH_ALL not in gymnasium.registry:
        gymnasium.register(CATCH_ALL, ENTRY_POINT, vector_entry_point=VECTOR_ENTRY_POINT, nondeterministic=True)


def spec(environment: str, **arguments: Any) -> EnvSpec:
    """Return the `EnvSpec` of an environment, for `gymnasium.make(spec)`. Nothing is registered.

    Args:
        environment: "owner/name", or a name on one server.
        **arguments: Arguments of `OpenRewardEnv`, all plain JSON. They name secrets, and never hold them.

    Raises:
        ConfigurationError: Gymnasium cannot use the name as an id, or an argument is unknown, wrong or not JSON.

    Example:
        >>> made = spec("owner/name", split="test")
        >>> made.id, made.kwargs
        ('owner/name', {'environment': 'owner/name', 'split': 'test'})
    """
    _check_name(environment)
    for name, value in arguments.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ConfigurationError(f"{name}={value!r} is not plain JSON, so it cannot be in a spec") from None
    EnvOptions.from_keywords({"environment": environment, **arguments})
    try:
        return EnvSpec(
            environment,
            ENTRY_POINT,
            nondeterministic=True,
            kwargs={"environment": environment, **arguments},
            vector_entry_point=VECTOR_ENTRY_POINT,
        )
    except gymnasium.error.Error as error:
        raise ConfigurationError(
            f"{environment!r} cannot be a Gymnasium id ({error}); use gymnasium.make({CATCH_ALL!r}, environment={environment!r})"
        ) from None


def register(environment: str, *, id: str | None = None, **arguments: Any) -> str:
    """Register an environment for `gymnasium.make`, and return its id. Registering it again replaces its arguments.

    Args:
        environment: "owner/name", or a name on one server.
        id: The id in Gymnasium. None takes the environment's name.
        **arguments: Arguments of `OpenRewardEnv`, as for `spec`.

    Raises:
        ConfigurationError: As for `spec`; or the id belongs to an environment of another package.

    Example:
        >>> register("owner/name", split="test")
        'owner/name'
    """
    made = spec(environment, **arguments)
    if id is not None and (not isinstance(id, str) or not id):
        raise ConfigurationError(f"id must be a Gymnasium id like 'my-env-v0' or None, not {id!r}")
    name = id or environment
    if name == CATCH_ALL:
        raise ConfigurationError(f"{CATCH_ALL} makes every environment and stays as it is: give another id=...")
    existing = gymnasium.registry.get(name)
    if existing is not None and existing.entry_point != ENTRY_POINT:
        raise ConfigurationError(f"{name!r} is already a Gymnasium environment: give another id=...")
    gymnasium.registry.pop(name, None)
    try:
        gymnasium.register(
            name, ENTRY_POINT, vector_entry_point=VECTOR_ENTRY_POINT, nondeterministic=True, kwargs=dict(made.kwargs)
        )
    except gymnasium.error.Error as error:
        raise ConfigurationError(f"{name!r} cannot be registered: {error}") from None
    return name


def _check_name(environment: Any) -> None:
    if isinstance(environment, type):
        raise ConfigurationError(
            f"{environment!r} is a class, and a spec holds a name (it is plain JSON): use gymnasium.make({CATCH_ALL!r}, "
            f"environment={environment.__name__}), or serve the class and give its name and base_url="
        )
    if not isinstance(environment, str) or not environment.strip():
        raise ConfigurationError(f"environment must be a name like 'weather' or 'owner/name', not {environment!r}")
