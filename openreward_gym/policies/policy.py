"""The policy interface, and policies by name."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import importlib
import inspect
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

from openreward_gym import plugins
from openreward_gym.chat.plain import shown
from openreward_gym.credentials import credentials_of, replace_texts, without_secrets
from openreward_gym.errors import ConfigurationError, PolicyError
from openreward_gym.suggestions import did_you_mean, nearest
from openreward_gym.types import AssistantMessage, Message, Task, ToolCall, ToolSet
from openreward_gym.user_traceback import describe_error

Transcript: TypeAlias = tuple[Message, ...]

Policy: TypeAlias = Callable[[Transcript, ToolSet], Awaitable[AssistantMessage]]
"""`await policy(transcript, tools)` returns the next assistant message. A policy gets all its input as arguments, so one object
can play many episodes at once."""

PlainPolicy: TypeAlias = Callable[[Transcript, ToolSet], AssistantMessage]
"""A policy that is no coroutine. `collect` calls it in threads, several at once."""

_SHORTEST = 6
"""Characters of the shortest credential that is also looked for in other settings and in errors."""
_DEPTH = 60

ENTRY_POINTS = "openreward_gym.policies"
"""The entry point group in which other distributions register policies."""

# Prefix of a model's policy, which is also the name of its module in this folder -> its class.
_MODELS = {
    "openai": "OpenAIPolicy",
    "anthropic": "AnthropicPolicy",
    "google": "GooglePolicy",
    "transformers": "TransformersPolicy",
}
_BASELINES = ("random", "scripted")


@runtime_checkable
class EpisodicPolicy(Protocol):
    """A policy that is told which episode it plays: `begin` returns the `Policy` of that episode.

    Example:
        >>> class AlwaysHello:
        ...     def begin(self, task, sample, seed):
        ...         async def play(transcript, tools):
        ...             return AssistantMessage(f"Hello from sample {sample}.")
        ...         return play
        >>> isinstance(AlwaysHello(), EpisodicPolicy)
        True
    """

    def begin(self, task: Task, sample: int, seed: int) -> Policy:
        """Return the policy for sample number `sample` (from 0) of `task`. `seed` is the episode's own seed."""


def policy_of_episode(policy: Policy | EpisodicPolicy, task: Task, sample: int, seed: int) -> Policy:
    """Return the policy that plays one episode. A plain function is called in a thread."""
    # Equivalent to isinstance(policy, EpisodicPolicy), at a hundredth of its cost.
    begin = getattr(policy, "begin", None)
    play = cast(Policy, policy)
    if callable(begin):
        play = begin(task, sample, seed)
        try:
            _check_plays(play, f"what {policy_name(policy)}.begin returned")
        except ConfigurationError as error:
            raise PolicyError(str(error)) from None
    return play if _is(inspect.iscoroutinefunction, play) else _Threaded(play)


class _Threaded:
    """A plain function as a policy: each call runs in a thread of its own, so that it may block."""

    def __init__(self, function: Callable[[Transcript, ToolSet], Any]) -> None:
        self.__wrapped__ = function

    async def __call__(self, transcript: Transcript, tools: ToolSet) -> AssistantMessage:
        result = await _in_thread(self.__wrapped__, transcript, tools)
        # A plain function may return what an async one gave it.
        message = await result if inspect.isawaitable(result) else result
        return cast(AssistantMessage, message)


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a daemon thread, which neither limits the others nor delays the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_result((result, error))

    def call() -> None:
        result, error = None, None
        try:
            result = context.run(function, *arguments)
        except BaseException as raised:
            error = raised
        # The loop may have ended meanwhile, because the collection was stopped.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=call, name="openreward-gym policy", daemon=True).start()
    result, error = await future
    if error is not None:
        raise error
    return result


def place_of(policy: object) -> str:
    """Return the file and line where a policy is defined, as tracebacks show them. Empty if it has no source."""
    function = inspect.unwrap(cast(Callable[..., Any], policy))
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return "" if code is None else f'File "{code.co_filename}", line {code.co_firstlineno}'


def policy_name(policy: Policy | EpisodicPolicy) -> str:
    """Return the name under which rollouts record the policy."""
    return str(getattr(policy, "name", None) or getattr(policy, "__name__", None) or type(policy).__name__)


def policy_settings(policy: Policy | EpisodicPolicy) -> dict[str, Any]:
    """Return the settings that decide how a policy plays, as JSON without keys and URLs. Rollouts record model and sampling."""
    given = getattr(policy, "settings", None) or {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ConfigurationError(f"the settings of the policy {policy_name(policy)} must be a dict by names, not {shown(given)}")
    settings = _plain_settings(given)
    # A token may be in another setting, too, as a part of a text.
    texts = [text for text in credentials_of(settings) if len(text) >= _SHORTEST]
    hidden: dict[str, Any] = replace_texts(without_secrets(settings), texts)
    return hidden


def _plain_settings(value: Any, depth: int = 0) -> Any:
    """Return settings with the type in the place of each object that is not JSON, whose text may hold a key."""
    if isinstance(value, Mapping) and depth < _DEPTH:
        return {str(key): _plain_settings(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and depth < _DEPTH:
        return [_plain_settings(item, depth + 1) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value) if isinstance(value, os.PathLike) else f"<{type(value).__name__}>"


def resolve(
    policy: str | Policy | PlainPolicy | EpisodicPolicy, *, url: str | None = None, **options: Any
) -> Policy | EpisodicPolicy:
    """Return a policy by its name. A callable is returned unchanged.

    Args:
        policy: "openai:MODEL" (any OpenAI-compatible server with `url`), "anthropic:MODEL", "google:MODEL",
            "transformers:PATH" (on this machine), "random" and "random:CALLS", "scripted:FILE", "module:callable", or "name" and
            "name:ARGUMENT" of a policy that an installed distribution registers under the entry point group
            `openreward_gym.policies`. A class without arguments is instantiated.
        url: The URL of the model's server. None for the provider's own.
        **options: Further arguments of a model's policy (`api`, `prices`, `temperature`, ...) or of a registered one.

    Raises:
        ConfigurationError: The policy is unknown, does not take these options, or cannot be called with
            `(transcript, tools)`.
        MissingExtraError: The policy's SDK is not installed.

    Example:
        >>> resolve("random").name
        'random'
    """
    if not isinstance(policy, str):
        _refuse_options(policy, url, options)
        return _own_policy(policy)
    kind, _, argument = policy.partition(":")
    if kind in _MODELS:
        if not argument:
            raise ConfigurationError(f"policy {policy!r} does not name a model: write {kind}:MODEL")
        module = importlib.import_module(f"openreward_gym.policies.{kind}")
        return _make(policy, getattr(module, _MODELS[kind]), argument, url, options)
    if policy == "random" or (kind in ("random", "scripted") and argument):
        _refuse_options(policy, url, options)
        baselines: Any = importlib.import_module("openreward_gym.policies.baselines")
        if kind == "scripted":
            return cast(EpisodicPolicy, baselines.ScriptedPolicy(argument))
        if argument and not (argument.isascii() and argument.isdigit()):
            raise ConfigurationError(f"policy {policy!r}: write random:CALLS with a number of calls, such as random:8")
        return cast(EpisodicPolicy, baselines.RandomPolicy(int(argument)) if argument else baselines.RandomPolicy())
    registered = plugins.find(ENTRY_POINTS, kind)
    if registered is not None:
        return _make(policy, registered, argument, url, options)
    if argument and kind.replace(".", "").replace("_", "").isalnum():
        _refuse_options(policy, url, options)
        return _import(kind, argument)
    known = [
        *(f"{name}:MODEL" for name in _MODELS),
        "random",
        "random:CALLS",
        "scripted:FILE",
        "module:callable",
        *plugins.names(ENTRY_POINTS),
    ]
    raise ConfigurationError(f"there is no policy {policy!r}: {did_you_mean(policy, known, 'policies')}")


def _own_policy(policy: Any) -> Policy | EpisodicPolicy:
    """Return a callable, an object with `begin`, or an object of a class, after checking that it can play."""
    if not callable(policy) and not isinstance(policy, EpisodicPolicy):
        raise ConfigurationError(f"a policy must be a callable, an object with begin() or a name, not {policy!r}")
    try:
        made: Any = policy() if isinstance(policy, type) else policy
        _check_callable(made)
        policy_settings(made)
    except ConfigurationError:
        raise
    except Exception as error:  # it runs the user's code, which may raise anything
        name = f"{policy.__name__} is a class that cannot be made" if isinstance(policy, type) else type(policy).__name__
        raise ConfigurationError(f"the policy {name}: {describe_error(error)}") from error
    return cast("Policy | EpisodicPolicy", made)


def with_call_ids(message: AssistantMessage, prefix: str) -> AssistantMessage:
    """Return a message in which each tool call has an id; new ids are `prefix` and the number of the block."""
    blocks = tuple(
        replace(block, call_id=f"{prefix}_{index}") if isinstance(block, ToolCall) and not block.call_id else block
        for index, block in enumerate(message.blocks)
    )
    return message.replace(blocks=blocks)


def _make(name: str, factory: Any, argument: str, url: str | None, options: Mapping[str, Any]) -> Policy | EpisodicPolicy:
    """Call a policy's factory with the part of its name after the colon, the model's URL and further options."""
    if not isinstance(factory, type) and not argument and url is None and not options:
        return resolve(factory)  # an entry point may also be the policy itself
    arguments = [argument] if argument else []
    keywords = options if url is None else {"url": url, **options}
    try:
        return cast("Policy | EpisodicPolicy", factory(*arguments, **keywords))
    except TypeError as error:
        raise ConfigurationError(f"policy {name!r}: {error}") from None


def _is(kind: Callable[[Any], bool], policy: Any) -> bool:
    """Return whether a callable, or the `__call__` of an object, is of a kind of function."""
    return kind(policy) or (not isinstance(policy, type) and kind(type(policy).__call__))


def _check_callable(policy: Any) -> None:
    """Refuse a policy that cannot play: one that takes other arguments, a generator, an async `begin`."""
    begin = getattr(policy, "begin", None)
    name = f"the policy {policy_name(policy)}"
    if not callable(begin):
        _check_plays(policy, name)
        return
    name = f"{name}.begin{_place(begin)}"
    _refuse_generator(begin, name)
    if _is(inspect.iscoroutinefunction, begin):
        raise ConfigurationError(f"{name} is async: write a plain `def begin(self, task, sample, seed)` that returns the policy")
    _check_arguments(begin, name, "(task, sample, seed)", "begin(self, task, sample, seed)")


def _check_plays(policy: Any, name: str) -> None:
    """Refuse what cannot be called with a transcript and tools."""
    if not callable(policy):
        raise ConfigurationError(f"{name} is no policy but {shown(policy)}: it is called with (transcript, tools)")
    name = f"{name}{_place(policy)}"
    _refuse_generator(policy, name)
    _check_arguments(policy, name, "(transcript, tools)", "policy(transcript, tools)")


def _place(function: object) -> str:
    place = place_of(function)
    return f" ({place})" if place else ""


def _refuse_generator(function: Any, name: str) -> None:
    if _is(inspect.isgeneratorfunction, function) or _is(inspect.isasyncgenfunction, function):
        raise ConfigurationError(f"{name} is a generator: write `async def policy(transcript, tools)`, and return one message")


def _check_arguments(function: Any, name: str, arguments: str, form: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # functions in C may have none
    try:
        signature.bind(*arguments.split())
    except TypeError as error:
        raise ConfigurationError(
            f"{name} is called with {arguments}, and takes {signature}: {error}. Write `def {form}`."
        ) from None


def _refuse_options(policy: object, url: str | None, options: Mapping[str, Any]) -> None:
    if url is not None or options:
        names = ["policy_url"] * (url is not None) + list(options)
        raise ConfigurationError(f"policy {policy!r} is not a provider's model, so it does not take {', '.join(names)}")


def _import(module: str, attribute: str) -> Policy | EpisodicPolicy:
    if "" not in sys.path:
        # As `python -m` does, so that a policy in the current directory can be named.
        sys.path.insert(0, "")
    try:
        value: Any = importlib.import_module(module)
        for name in attribute.split("."):
            value = getattr(value, name)
        if isinstance(value, type):
            value = value()
    except (Exception, SystemExit) as error:
        # Importing runs the user's code, which may raise anything. A missing module or attribute explains itself.
        missing = isinstance(error, AttributeError) or (isinstance(error, ImportError) and error.name == module)
        reason = str(error) if missing else describe_error(error)
        near = nearest(module, (*_MODELS, *_BASELINES)) if isinstance(error, ImportError) and error.name == module else None
        hint = "" if near is None else f". Did you mean '{near}:{attribute}'?"
        raise ConfigurationError(f"policy '{module}:{attribute}' cannot be imported: {reason}{hint}") from error
    return resolve(value)
