"""Ids for `gymnasium.make`: `OpenReward-v0` for every environment, and one id for each environment that is registered.

An id of Gymnasium has the form `[namespace/]name[-vN]`, so the `owner/name` of an environment is a valid id.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from openreward_gym.credentials import with_hidden_texts
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import EnvOptions

CATCH_ALL = "OpenReward-v0"
ENTRY_POINT = "openreward_gym.envs.env:OpenRewardEnv"
VECTOR_ENTRY_POINT = "openreward_gym.envs.vector:OpenRewardVectorEnv"
# Arguments that may hold credentials, and whether every text in them counts as one.
_PRIVATE: Mapping[str, bool] = {"base_url": False, "env_overrides": True}


def register_catch_all() -> None:
    """Register `OpenReward-v0`. Importing `openreward_gym` does this."""
    if CATCH_ALL not in gymnasium.registry:
        gymnasium.register(CATCH_ALL, ENTRY_POINT, vector_entry_point=VECTOR_ENTRY_POINT, nondeterministic=True)


def spec(environment: str, **arguments: Any) -> EnvSpec:
    """Return the `EnvSpec` of an environment, for `gymnasium.make(spec)`. Nothing is registered.

    The spec shows no password of an address and no value of `env_overrides`, in its repr, JSON and pickle. It makes the same env
    in this process and its children; a spec that was read from JSON needs these values again.

    Args:
        environment: "owner/name", or a name on one server.
        **arguments: Arguments of `OpenRewardEnv`, all plain JSON.

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
            shown = "..." if name in _PRIVATE else repr(value)
            raise ConfigurationError(f"{name}={shown} is not plain JSON, so it cannot be in a spec") from None
    EnvOptions.from_keywords({"environment": environment, **arguments})
    try:
        return EnvSpec(
            environment,
            ENTRY_POINT,
            nondeterministic=True,
            kwargs=_without_credentials({"environment": environment, **arguments}),
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


def shown_spec(spec: EnvSpec | None) -> EnvSpec | None:
    """Return a spec that shows no credentials: where they were, its arguments have a `HiddenText`, which options take."""
    if spec is None or not spec.kwargs.keys() & set(_PRIVATE):
        return spec
    spec = copy.copy(spec)
    spec.kwargs = _without_credentials(spec.kwargs)
    return spec


def _without_credentials(arguments: Mapping[str, Any]) -> dict[str, Any]:
    hidden = {
        name: with_hidden_texts(arguments[name], all_of_it=all_of_it) for name, all_of_it in _PRIVATE.items() if name in arguments
    }
    return {**arguments, **hidden}


def _check_name(environment: Any) -> None:
    if isinstance(environment, type):
        raise ConfigurationError(
            f"{environment!r} is a class, and a spec holds a name (it is plain JSON): use gymnasium.make({CATCH_ALL!r}, "
            f"environment={environment.__name__}), or serve the class and give its name and base_url="
        )
    if not isinstance(environment, str) or not environment.strip():
        raise ConfigurationError(f"environment must be a name like 'weather' or 'owner/name', not {environment!r}")
