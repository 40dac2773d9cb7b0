"""Sessions of environment objects in this process, called through the SDK's own functions.

`Host` does for a session what the SDK's `Server` does, without the server, with the same validation, toolsets and locks. It
refuses a request with the status and the message of the server.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from openreward.environments import Environment, Split
from openreward.environments import environment as sdk_environment
from openreward.environments import session as sdk_session
from openreward.environments import types as wire
from openreward.environments.utils import run_user_callable
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.asgi import separate_caches
from openreward_gym.serve.examples.sdk import split_of
from openreward_gym.variables import log_level

log = logging.getLogger("openreward_gym.environments")

Model = TypeVar("Model", bound=BaseModel)

_CALL_RESULT: TypeAdapter[Any] = TypeAdapter(wire.RunToolOutput)
_BLOCKS: TypeAdapter[Any] = TypeAdapter(wire.Blocks)
# SDKs before 0.1.157 have no conversations.
_MESSAGES: TypeAdapter[Any] | None = TypeAdapter(list[wire.Message]) if hasattr(wire, "Message") else None

_introspect: Callable[[Any], tuple[Any, dict[str, Any], list[inspect.Parameter]]] = sdk_environment._introspect_tool
_introspected: WeakKeyDictionary[FunctionType, tuple[dict[str, Any], list[inspect.Parameter]]] = WeakKeyDictionary()


class RefusedError(Exception):
    """A refused request, with the HTTP status and the server's message (or the validation errors)."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


@dataclass(slots=True)
class EnvironmentSession:
    """An environment object, its session's toolset, and the task that sets it up. The task's result is the error, if any."""

    environment: Any
    toolset: Any
    setup: asyncio.Task[Exception | None]


class Host:
    """Environments of this process and their sessions. The first of `classes` is the default.

    A session belongs to the event loop that created it. Its async tools run there, the others in a thread.
    """

    def __init__(self, classes: Sequence[type[Any]]) -> None:
        self.classes: dict[str, type[Any]] = {}
        for cls in classes:
            self.classes[_checked_name(cls, self.classes)] = cls
        separate_caches(classes)
        self._splits = {
            cls: [split if isinstance(split, Split) else split_of(split) for split in cls.list_splits()] for cls in classes
        }
        if log_level() is None:
            sdk_environment.logger = sdk_session.logger = SdkLog()
        sdk_environment._introspect_tool = introspect_tool
        self._sessions: dict[str, EnvironmentSession] = {}

    def __len__(self) -> int:
        """Return the number of open sessions."""
        return len(self._sessions)

    async def answer(self, name: str, route: str, session_id: str, body: Any) -> Any:
        """Answer a request to the environment `name`, or to one of its sessions, except calls and scoring."""
        of_session = {"prompt": self._prompt, "messages": self._messages, "task_tools": self._task_tools}
        if route in of_session:
            return await of_session[route](session_id)
        cls = self._environment(name)
        if route == "tools":
            return cls.list_tools().model_dump()
        if route == "splits":
            return [split.model_dump() for split in self._splits[cls]]
        of_class: dict[str, tuple[type[Any], Callable[..., Coroutine[Any, Any, Any]]]] = {
            "tasks": (wire.ListTasks, self._tasks),
            "num_tasks": (wire.NumTasks, self._num_tasks),
            "task": (wire.GetTask, self._task),
            "task_range": (wire.GetTaskRange, self._task_range),
        }
        if route not in of_class:
            raise RefusedError(404, "Not Found")
        model, method = of_class[route]
        query = _validate(model, body)
        self._check_split(cls, query.split)
        return await method(cls, query)

    # Environments ---------------------------------------------------------------------------------------------------------

    def _environment(self, name: str | None) -> type[Any]:
        """Return the class with that name; None means the default."""
        if name is None:
            return next(iter(self.classes.values()))
        cls = self.classes.get(name.lower())
        if cls is None:
            raise RefusedError(404, f"unknown environment {name!r}")
        return cls

    async def _tasks(self, cls: type[Any], query: Any) -> Any:
        try:
            return {"tasks": to_jsonable_python(await run_user_callable(cls.list_tasks, query.split)), "env_name": cls.name()}
        except NotImplementedError:
            words = "list_tasks is not supported for this environment. Use the index-based API (num_tasks + get_task) instead."
            raise RefusedError(400, words) from None

    async def _num_tasks(self, cls: type[Any], query: Any) -> Any:
        return {"num_tasks": await run_user_callable(cls.num_tasks, query.split)}

    async def _task(self, cls: type[Any], query: Any) -> Any:
        return {"task": to_jsonable_python(await self._task_spec(cls, query.split, query.index)), "env_name": cls.name()}

    async def _task_range(self, cls: type[Any], query: Any) -> Any:
        try:
            specs = await run_user_callable(cls.get_task_range, query.split, query.start, query.stop)
        except IndexError:
            raise RefusedError(400, "Invalid index range") from None
        return {"tasks": to_jsonable_python(specs), "env_name": cls.name()}

    async def _task_spec(self, cls: type[Any], split: str | None, index: int | None) -> Any:
        try:
            return await run_user_callable(cls.get_task, split, index)
        except IndexError:
            raise RefusedError(400, "Invalid index") from None

    def _check_split(self, cls: type[Any], name: str | None) -> None:
        if name not in [split.name for split in self._splits[cls]]:
            raise RefusedError(400, "Invalid split")

    # Sessions -------------------------------------------------------------------------------------------------------------

    async def create(self, session_id: str, body: Any, secrets: Mapping[str, str]) -> None:
        """Make the environment of a session and start to set it up."""
        query = _validate(wire.CreateSession, body)
        if session_id in self._sessions:
            raise RefusedError(400, "Session already exists")
        cls = self._environment(query.env_name)
        spec = query.task_spec
        if spec is None:
            self._check_split(cls, query.split)
            spec = await self._task_spec(cls, query.split, query.index)
        environment = await run_user_callable(cls, task_spec=spec, secrets=dict(secrets))
        toolset = _toolset(query.toolset_name, environment)
        setup = asyncio.create_task(_set_up(environment))
        self._sessions[session_id] = EnvironmentSession(environment, toolset, setup)

    async def delete(self, session_id: str) -> None:
        """Tear the session down. An unknown id is ignored."""
        session = self._sessions.pop(session_id, None)
        if session is None:
            return
        if not session.setup.done():
            session.setup.cancel()
            await asyncio.wait([session.setup])
        try:
            if not _is_inherited(session.environment, "teardown"):
                await run_user_callable(session.environment.teardown)
        except Exception:
            log.exception("the teardown of a session of %s failed", type(session.environment).__name__)

    def session(self, session_id: str) -> EnvironmentSession:
        """Return the session, which may still be setting up. Raises the error of a setup that failed."""
        session = self._sessions.get(session_id)
        if session is None:
            raise RefusedError(404, "Active environment not found")
        if session.setup.done() and not session.setup.cancelled() and (error := session.setup.result()) is not None:
            raise error
        return session

    async def _ready_session(self, session_id: str) -> EnvironmentSession:
        """Return the session once it is set up."""
        session = self.session(session_id)
        if session.setup.done():
            return session
        await asyncio.wait([session.setup])
        if session_id not in self._sessions:
            raise RefusedError(410, "Session deleted")
        return self.session(session_id)

    async def _prompt(self, session_id: str) -> Any:
        environment = (await self._ready_session(session_id)).environment
        return _BLOCKS.dump_python(_BLOCKS.validate_python(await run_user_callable(environment.get_prompt)), mode="json")

    async def _messages(self, session_id: str) -> Any:
        environment = (await self._ready_session(session_id)).environment
        if _MESSAGES is None:
            raise RefusedError(404, "Not Found")
        messages = list(await run_user_callable(environment.get_messages))
        return _MESSAGES.dump_python(_MESSAGES.validate_python(messages), mode="json")

    async def _task_tools(self, session_id: str) -> Any:
        session = self.session(session_id)
        return (await sdk_session.list_session_tools(session.environment, session.toolset)).model_dump()

    async def prepare_call(self, session_id: str, body: Any) -> Coroutine[Any, Any, bytes]:
        """Validate a call and wait for its session. Return the run, whose result is JSON and which raises the tool's errors."""
        name, arguments = (body.get("name"), body.get("input")) if type(body) is dict else (None, None)
        if type(name) is not str or type(arguments) is not dict:
            call = _validate(wire.ToolCall, body)
            name, arguments = call.name, call.input
        return _call(await self._ready_session(session_id), name, arguments)

    async def prepare_scoring(self, session_id: str, body: Any) -> Coroutine[Any, Any, bytes]:
        """Validate a request to score a group and return the run, as `prepare_call` does."""
        session = await self._ready_session(session_id)
        if not getattr(session.environment.list_tools(), "supports_score_group", False):
            raise RefusedError(404, "this environment does not implement score_group")
        return _score_group(session.environment, list(_validate(wire.ScoreGroup, body).candidates))


class SdkLog:
    """A logger that replaces the SDK's, which print three lines per call to standard output.

    Routine events are dropped. A tool that raised is a warning; a model's wrong call, which is part of the result, a debug
    message. `tests/serve/test_sdk.py` fails if the SDK's loggers move.
    """

    def debug(self, event: str, **fields: Any) -> None:
        """Drop the event."""

    info = debug

    def warning(self, event: str, **fields: Any) -> None:
        log.debug("%s %s", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        log.warning("%s %s", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        log.warning("%s %s", event, fields, exc_info=True)


def introspect_tool(method: Any) -> tuple[Any, dict[str, Any], list[inspect.Parameter]]:
    """Return a tool's function, type hints and parameters, as the SDK's `_introspect_tool`, which `Host` replaces by this one.

    The SDK evaluates them twice per call; here they are cached. `tests/serve/test_sdk.py` fails if the SDK changes this.
    """
    function = getattr(method, "__func__", None)
    if function is None:
        return _introspect(method)
    if function not in _introspected:
        _introspected[function] = _introspect(method)[1:]
    hints, parameters = _introspected[function]
    return inspect.unwrap(method), hints, parameters


def _checked_name(cls: type[Any], others: Mapping[str, Any]) -> str:
    """Return the name of `cls` in lower case, after the checks of the SDK's `Server`."""
    name: str = cls.name().lower()
    if name in others:
        raise ConfigurationError(f"cannot serve two environments named {name!r}")
    try:
        tools = cls.list_tools()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"cannot serve {cls.__name__}: {error}") from error
    if not tools.tools and getattr(tools, "terminal_tool", None) is None:
        raise ConfigurationError(f"cannot serve {cls.__name__}: it has no tools. Add a method with @tool")
    if not cls.list_splits():
        raise ConfigurationError(f"cannot serve {cls.__name__}: it has no splits. Return at least one from list_splits()")
    if all(getattr(cls, prompt, None) is getattr(Environment, prompt, None) for prompt in ("get_prompt", "get_messages")):
        raise ConfigurationError(f"cannot serve {cls.__name__}: it has no prompt. Define get_prompt() or get_messages()")
    return name


async def _call(session: EnvironmentSession, name: str, arguments: Any) -> bytes:
    result = await sdk_session.call_session_tool(session.environment, session.toolset, name, arguments)
    return _CALL_RESULT.dump_json(result)


async def _score_group(environment: Any, candidates: Sequence[Any]) -> bytes:
    results = await run_user_callable(environment.score_group, candidates)
    scores = [one if isinstance(one, wire.GroupScore) else wire.GroupScore(reward=float(one)) for one in results]
    if len(scores) != len(candidates):
        raise ValueError(f"score_group returned {len(scores)} scores for {len(candidates)} candidates")
    return str(wire.ScoreGroupOutput(scores=scores).model_dump_json()).encode()


def _validate(model: type[Model], body: Any) -> Model:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
    raise RefusedError(422, to_jsonable_python([{**one, "loc": ("body", *one["loc"])} for one in problems], fallback=repr))


def _toolset(name: str | None, environment: Any) -> Any:
    if name is None:
        return None
    from openreward.toolsets import BUILTIN_TOOLSETS

    cls = BUILTIN_TOOLSETS.get(name)
    if cls is None:
        raise RefusedError(400, f"unknown toolset {name!r}; valid options are {sorted(BUILTIN_TOOLSETS)}")
    try:
        return cls(environment)
    except ValueError as error:
        raise RefusedError(400, str(error)) from None


async def _set_up(environment: Any) -> Exception | None:
    """Set the environment up. Return the error if that failed."""
    try:
        if not _is_inherited(environment, "setup"):
            await run_user_callable(environment.setup)
    except Exception as error:
        return error
    return None


def _is_inherited(environment: Any, name: str) -> bool:
    """Return True if the method is the SDK's, which does nothing. Running it in a thread would dominate short episodes."""
    return getattr(getattr(environment, name), "__func__", None) is getattr(Environment, name)
