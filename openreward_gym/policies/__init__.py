"""Policies: whatever answers a transcript with the assistant's next message."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.policies.base import EpisodicPolicy, Policy, Transcript, policy_of_episode
from openreward_gym.policies.pricing import PRICES, Price
from openreward_gym.policies.random import RandomPolicy
from openreward_gym.policies.scripted import ScriptedPolicy, play_steps
from openreward_gym.user_traceback import describe_error

__all__ = [
    "PRICES",
    "EpisodicPolicy",
    "Policy",
    "Price",
    "RandomPolicy",
    "ScriptedPolicy",
    "Transcript",
    "play_steps",
    "policy_name",
    "policy_of_episode",
    "policy_settings",
    "resolve",
]

_MODELS = {
    "openai": ("openai", "OpenAIPolicy"),
    "anthropic": ("anthropic", "AnthropicPolicy"),
    "google": ("google", "GooglePolicy"),
    "transformers": ("transformers", "TransformersPolicy"),
}
"""What stands before the colon: the module here and its class, loaded when they are asked for."""


def resolve(policy: str | Policy | EpisodicPolicy, *, url: str | None = None, **options: Any) -> Policy | EpisodicPolicy:
    """A policy by its name; a callable is itself.

    Args:
        policy: "openai:MODEL" (any OpenAI-compatible server with `url`), "anthropic:MODEL", "google:MODEL",
            "transformers:PATH" (on this machine), "random", "scripted:FILE" or "module:callable".
        url: The model's server; None for its provider's own.
        **options: Further arguments of a model's policy: `api`, `prices`, `temperature`, ...

    Raises:
        ConfigurationError: There is no such policy, or it takes no such options.
        MissingExtraError: Its SDK is not installed.
    """
    kind, _, rest = policy.partition(":") if isinstance(policy, str) else ("", "", "")
    if kind in _MODELS:
        if not rest:
            raise ConfigurationError(f"{policy!r} names no model: write {kind}:MODEL")
        module, name = _MODELS[kind]
        cls = getattr(importlib.import_module(f"openreward_gym.policies.{module}"), name)
        try:
            return cls(rest, url=url, **options)  # type: ignore[no-any-return]
        except TypeError as error:
            raise ConfigurationError(f"policy {policy!r}: {error}") from None
    if url is not None or options:
        given = ["policy_url"] * (url is not None) + list(options)
        raise ConfigurationError(f"policy {policy!r} is no model of a provider's and takes no {', '.join(given)}")
    if not isinstance(policy, str):
        if not callable(policy) and not isinstance(policy, EpisodicPolicy):
            raise ConfigurationError(f"a policy is an async callable or a name, not {policy!r}")
        return policy
    if policy == "random":
        return RandomPolicy()
    if kind == "scripted" and rest:
        return ScriptedPolicy(rest)
    if rest and kind.replace(".", "").replace("_", "").isalnum():
        return _imported(kind, rest)
    known = ", ".join(f"'{name}:MODEL'" for name in _MODELS)
    raise ConfigurationError(f"no policy {policy!r}; it is {known}, 'random', 'scripted:FILE' or 'module:callable'")


def policy_name(policy: Any) -> str:
    """What a record calls the policy."""
    return str(getattr(policy, "name", None) or getattr(policy, "__name__", None) or type(policy).__name__)


def policy_settings(policy: Any) -> dict[str, Any]:
    """What decides how a policy plays, as JSON without keys and addresses; a record keeps `model` and `sampling` of it."""
    return dict(getattr(policy, "settings", None) or {})


def _imported(module: str, attribute: str) -> Policy | EpisodicPolicy:
    if "" not in sys.path:
        # As `python -m` does: a policy in the folder one stands in can be named.
        sys.path.insert(0, "")
    try:
        value: Any = importlib.import_module(module)
        for name in attribute.split("."):
            value = getattr(value, name)
        if isinstance(value, type):
            value = value()
    except (Exception, SystemExit) as error:
        # Whatever a module does when it is imported. One that is not there says so itself.
        missing = isinstance(error, AttributeError) or (isinstance(error, ImportError) and error.name == module)
        said = str(error) if missing else describe_error(error)
        raise ConfigurationError(f"policy '{module}:{attribute}' cannot be imported: {said}") from error
    return resolve(value)
