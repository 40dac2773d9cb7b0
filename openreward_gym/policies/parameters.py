"""Parameters of a request, in the names of OpenAI's Responses API, as each policy takes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast, runtime_checkable

from openreward_gym.chat.plain import shown
from openreward_gym.errors import ConfigurationError
from openreward_gym.jsonio import Json, loads
from openreward_gym.policies.policy import EpisodicPolicy, Policy, policy_name
from openreward_gym.types import Task

# Values that the API takes for a parameter that is not there.
_DEFAULTS: Mapping[str, Json] = {
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "truncation": "disabled",
    "stream": False,
    "background": False,
    "store": False,
    "service_tier": "auto",
    "text": {"format": {"type": "text"}},
}
# What a collection cannot do for any policy, with the reason.
_NEVER = {
    "stream": "a policy reads whole answers",
    "background": "a policy waits for its answers",
    "previous_response_id": "the transcript is sent with each request",
    "conversation": "the transcript is sent with each request",
    "prompt": "prompts of a provider's own are not known here: write the messages into `input`",
}


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_CHECKS: Mapping[str, tuple[str, Callable[[Json], bool]]] = {
    "temperature": ("a number from 0", lambda value: _is_number(value) and value >= 0),
    "top_p": ("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "top_logprobs": ("an integer from 0", lambda value: type(value) is int and value >= 0),
    "max_output_tokens": ("an integer from 1", lambda value: type(value) is int and value >= 1),
    "max_tool_calls": ("an integer from 1", lambda value: type(value) is int and value >= 1),
    "parallel_tool_calls": ("true or false", lambda value: isinstance(value, bool)),
    "tool_choice": ("a text or an object", lambda value: isinstance(value, str | Mapping)),
    "reasoning": ("an object", lambda value: isinstance(value, Mapping)),
    "text": ("an object", lambda value: isinstance(value, Mapping)),
    "metadata": ("an object", lambda value: isinstance(value, Mapping)),
    "include": ("a list of texts", lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value)),
    "model": ("a text", lambda value: isinstance(value, str)),
}


@runtime_checkable
class ParametrizedPolicy(Protocol):
    """A policy that takes the parameters of a request: `with_parameters` returns the policy that plays with them.

    Example:
        >>> class Careful:
        ...     def __init__(self, temperature=1.0):
        ...         self.temperature = temperature
        ...     def with_parameters(self, parameters):
        ...         return Careful(parameters.get("temperature", 1.0))
        ...     async def __call__(self, transcript, tools):
        ...         return AssistantMessage(f"At temperature {self.temperature}.")
        >>> with_parameters(Careful(), {"temperature": 0.5}).temperature
        0.5
    """

    def with_parameters(self, parameters: Mapping[str, Json]) -> Policy | EpisodicPolicy:
        """Return the policy with these parameters. Raise ConfigurationError for one that it cannot follow."""


def requested(parameters: Mapping[str, Json]) -> dict[str, Json]:
    """Return the parameters that ask for something: without nulls, empty objects, and values that are the API's defaults.

    Raises:
        ValueError: A value has a wrong type.

    Example:
        >>> requested({"temperature": 0.5, "tool_choice": "auto", "metadata": {}, "reasoning": None})
        {'temperature': 0.5}
    """
    asked = {}
    for name, value in parameters.items():
        if value is None:
            continue
        kind, is_valid = _CHECKS.get(name, ("", lambda value: True))
        if not is_valid(value):
            raise ValueError(f"its parameter {name} must be {kind}, not {shown(value)}")
        if value not in ({}, [], "") and not (name in _DEFAULTS and value == _DEFAULTS[name]):
            asked[name] = value
    return asked


def with_parameters(policy: Policy | EpisodicPolicy, parameters: Mapping[str, Json]) -> Policy | EpisodicPolicy:
    """Return a policy that plays with the parameters of a request; the same policy if they ask for nothing.

    A policy of a model translates them for its provider. A function `policy(transcript, tools, parameters=None)`, and a `begin`
    with the argument `parameters`, get them as they are.

    Raises:
        ConfigurationError: The policy cannot follow a parameter. The message names it.

    Example:
        >>> async def policy(transcript, tools, parameters=None):
        ...     return AssistantMessage(f"At temperature {parameters['temperature']}.")
        >>> with_parameters(policy, {"temperature": 0.5}).keywords
        {'parameters': {'temperature': 0.5}}
    """
    asked = requested(parameters)
    for name, reason in _NEVER.items():
        if name in asked:
            raise unsupported(name, asked[name], f"the policy {policy_name(policy)}", reason)
    model = asked.pop("model", None)
    if model is not None and model != getattr(policy, "model", None):
        raise unsupported("model", model, f"the policy {policy_name(policy)}", "the policy chooses the model")
    if not asked:
        return policy
    if callable(method := getattr(policy, "with_parameters", None)):
        return cast("Policy | EpisodicPolicy", method(asked))
    begin = getattr(policy, "begin", None)
    if _takes_parameters(begin if callable(begin) else policy):
        return _Informed(policy, asked) if callable(begin) else functools.partial(_function(policy), parameters=asked)
    name, value = next(iter(asked.items()))
    form = "begin(self, task, sample, seed, parameters=None)" if callable(begin) else "policy(transcript, tools, parameters=None)"
    raise unsupported(
        name, value, f"the policy {policy_name(policy)}", f"it takes no parameters (one of your own does as `{form}`)"
    )


def unsupported(name: str, value: Json, policy: str, reason: str = "") -> ConfigurationError:
    """Return the error of a parameter that a policy cannot follow."""
    return ConfigurationError(f"{policy} cannot follow {name}={shown(value)}{f': {reason}' if reason else ''}")


def extensions(metadata: Mapping[str, Json]) -> tuple[dict[str, Json], dict[str, Json]]:
    """Split a request's `metadata` into fields for the body of the request, and the rest.

    NeMo Gym writes `extra_body` and `chat_template_kwargs` there as JSON text, because metadata holds texts only.

    Raises:
        ConfigurationError: One of them is no object.
    """
    body: dict[str, Json] = {}
    rest = dict(metadata)
    for name in ("extra_body", "chat_template_kwargs"):
        value = rest.pop(name, None)
        if isinstance(value, str):
            try:
                value = loads(value, allow_nan=False)
            except ValueError:
                raise ConfigurationError(f"metadata.{name} is not JSON: {shown(value)}") from None
        if not isinstance(value, dict | None):
            raise ConfigurationError(f"metadata.{name} must be an object, or its JSON text, not {shown(value)}")
        if value:
            body.update(value if name == "extra_body" else {name: value})
    return body, rest


class _Informed:
    """A policy whose `begin` gets the parameters."""

    def __init__(self, policy: Any, parameters: Mapping[str, Json]) -> None:
        self._policy, self._parameters = policy, parameters
        self.name = policy_name(policy)
        self.settings = getattr(policy, "settings", None) or {}

    def begin(self, task: Task, sample: int, seed: int) -> Policy:
        return cast(Policy, self._policy.begin(task, sample, seed, parameters=self._parameters))


def _function(policy: Any) -> Callable[..., Any]:
    """Return the function or method that is called, by which a coroutine function is recognized."""
    is_object = not inspect.isroutine(policy) and not isinstance(policy, functools.partial)
    return cast("Callable[..., Any]", policy.__call__ if is_object else policy)


def _takes_parameters(function: Any) -> bool:
    try:
        kinds = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return "parameters" in kinds or any(kind.kind is inspect.Parameter.VAR_KEYWORD for kind in kinds.values())
