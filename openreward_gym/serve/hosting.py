"""Sessions of environment objects in this process, called through the SDK's own dispatch.

What the SDK's `Server` does for a session, without the server: it makes the object, sets it up in the background, asks it for
its task and its tools, calls them with the SDK's validation, toolsets and locks, and tears it down. A refusal is the status
and the words that the server would answer with.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from openreward.environments import Environment, Split
from openreward.environments import types as wire
from openreward.environments.session import call_session_tool, list_session_tools
from openreward.environments.utils import run_user_callable
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

__all__ = ["Host", "RefusedError"]

log = logging.getLogger("openreward_gym")

Model = TypeVar("Model", bound=BaseModel)

GONE = "Active environment not found"
_SPLIT_TYPES = ("train", "validation", "test")
_BLOCKS: TypeAdapter[Any] = TypeAdapter(wire.Blocks)
# An SDK before 0.1.157 knows no conversations.
_MESSAGES: TypeAdapter[Any] | None = TypeAdapter(list[wire.Message]) if hasattr(wire, "Message") else None


class RefusedError(Exception):
    """What was asked is refused, with an HTTP status and the server's words (or the errors of what was sent)."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


@dataclass(slots=True)
class _Hosted:
    environment: Any
    toolset: Any
    setup: asyncio.Task[Exception | None]


class Host:
    """Environments and their sessions.

    A session lives on the event loop that created it: its tools run there if they are async, in a thread if they are not.

    Args:
        classes: Subclasses of the SDK's `Environment`; the first is the default.
    """

    def __init__(self, classes: Sequence[type[Any]]) -> None:
        self.classes: dict[str, type[Any]] = {cls.name().lower(): cls for cls in classes}
        self._sessions: dict[str, _Hosted] = {}

    def __len__(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    # Without a session ----------------------------------------------------------------------------------------------------

    def environment(self, name: str | None) -> type[Any]:
        """The class of that name; None for the default."""
        if name is None:
            return next(iter(self.classes.values()))
        found = self.classes.get(name.lower())
        if found is None:
            raise RefusedError(404, f"unknown environment {name!r}")
        return found

    @staticmethod
    def tools(cls: type[Any]) -> Any:
        return cls.list_tools().model_dump()

    @staticmethod
    def splits(cls: type[Any]) -> list[Any]:
        return [_split(split).model_dump() for split in cls._list_splits_cached()]

    async def tasks(self, cls: type[Any], body: Any) -> Any:
        asked = _read(wire.ListTasks, body)
        _check_split(cls, asked.split)
        try:
            return {"tasks": to_jsonable_python(await run_user_callable(cls.list_tasks, asked.split)), "env_name": cls.name()}
        except NotImplementedError:
            words = "list_tasks is not supported for this environment. Use the index-based API (num_tasks + get_task) instead."
            raise RefusedError(400, words) from None

    async def num_tasks(self, cls: type[Any], body: Any) -> Any:
        asked = _read(wire.NumTasks, body)
        _check_split(cls, asked.split)
        return {"num_tasks": await run_user_callable(cls.num_tasks, asked.split)}

    async def task(self, cls: type[Any], body: Any) -> Any:
        asked = _read(wire.GetTask, body)
        _check_split(cls, asked.split)
        return {"task": to_jsonable_python(await _task(cls, asked.split, asked.index)), "env_name": cls.name()}

    async def task_range(self, cls: type[Any], body: Any) -> Any:
        asked = _read(wire.GetTaskRange, body)
        _check_split(cls, asked.split)
        try:
            found = await run_user_callable(cls.get_task_range, asked.split, asked.start, asked.stop)
        except IndexError:
            raise RefusedError(400, "Invalid index range") from None
        return {"tasks": to_jsonable_python(found), "env_name": cls.name()}

    # A session's life -----------------------------------------------------------------------------------------------------

    async def create(self, session_id: str, body: Any, secrets: Mapping[str, str]) -> None:
        """Make the environment of a session and begin to set it up."""
        asked = _read(wire.CreateSession, body)
        if session_id in self._sessions:
            raise RefusedError(400, "Session already exists")
        cls = self.environment(asked.env_name)
        spec = asked.task_spec
        if spec is None:
            _check_split(cls, asked.split)
            spec = await _task(cls, asked.split, asked.index)
        environment = await run_user_callable(cls, task_spec=spec, secrets=dict(secrets))
        toolset = _toolset(asked.toolset_name, environment)
        setup = asyncio.create_task(_set_up(environment))
        self._sessions[session_id] = _Hosted(environment, toolset, setup)

    async def delete(self, session_id: str) -> None:
        """Tear the session down; one that is not there is none."""
        hosted = self._sessions.pop(session_id, None)
        if hosted is None:
            return
        if not hosted.setup.done():
            hosted.setup.cancel()
            await asyncio.wait([hosted.setup])
        try:
            if not _is_inherited(hosted.environment, "teardown"):
                await run_user_callable(hosted.environment.teardown)
        except Exception:
            log.exception("tearing down a session of %s failed", type(hosted.environment).__name__)

    def hosted(self, session_id: str) -> _Hosted:
        """The session, set up or not."""
        found = self._sessions.get(session_id)
        if found is None:
            raise RefusedError(404, GONE)
        if found.setup.done() and not found.setup.cancelled():
            _raise(found.setup.result())
        return found

    async def ready(self, session_id: str) -> _Hosted:
        """The session, once it is set up."""
        found = self.hosted(session_id)
        if not found.setup.done():
            await asyncio.wait([found.setup])
            if session_id not in self._sessions:
                raise RefusedError(410, "Session deleted")
            _raise(found.setup.result())
        return found

    # What a session is asked ----------------------------------------------------------------------------------------------

    async def prompt(self, session_id: str) -> Any:
        environment = (await self.ready(session_id)).environment
        return _BLOCKS.dump_python(_BLOCKS.validate_python(await run_user_callable(environment.get_prompt)), mode="json")

    async def messages(self, session_id: str) -> Any:
        environment = (await self.ready(session_id)).environment
        if _MESSAGES is None:
            raise RefusedError(404, "Not Found")
        found = list(await run_user_callable(environment.get_messages))
        return _MESSAGES.dump_python(_MESSAGES.validate_python(found), mode="json")

    async def task_tools(self, session_id: str) -> Any:
        hosted = self.hosted(session_id)
        return (await list_session_tools(hosted.environment, hosted.toolset)).model_dump()

    async def caller(self, session_id: str, body: Any) -> tuple[_Hosted, Any]:
        """A call's session and what it calls, both checked: what comes after them is the tool's."""
        asked = _read(wire.ToolCall, body)
        return await self.ready(session_id), asked

    @staticmethod
    async def call(hosted: _Hosted, asked: Any) -> bytes:
        """The result of a call, as JSON. What the tool raises is raised."""
        result = await call_session_tool(hosted.environment, hosted.toolset, asked.name, asked.input)
        encoded: str = result.model_dump_json()
        return encoded.encode()

    async def comparer(self, session_id: str, body: Any) -> tuple[_Hosted, Any]:
        """As `caller`, of a group to be compared."""
        hosted = await self.ready(session_id)
        supports = getattr(type(hosted.environment), "_supports_score_group", None)
        if supports is None or not supports():
            raise RefusedError(404, "this environment does not implement score_group")
        return hosted, _read(wire.ScoreGroup, body)

    @staticmethod
    async def compare(hosted: _Hosted, asked: Any) -> bytes:
        """The scores of a group, as JSON. What the environment raises is raised."""
        found = await run_user_callable(hosted.environment.score_group, list(asked.candidates))
        scores = [one if isinstance(one, wire.GroupScore) else wire.GroupScore(reward=float(one)) for one in found]
        if len(scores) != len(asked.candidates):
            raise ValueError(f"score_group returned {len(scores)} scores for {len(asked.candidates)} candidates")
        encoded: str = wire.ScoreGroupOutput(scores=scores).model_dump_json()
        return encoded.encode()


def new_session_id() -> str:
    return str(uuid.uuid4())


def _read(model: type[Model], body: Any) -> Model:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
    raise RefusedError(422, to_jsonable_python([{**one, "loc": ("body", *one["loc"])} for one in problems], fallback=repr))


def _raise(problem: Exception | None) -> None:
    if problem is not None:
        raise problem


def _split(split: Any) -> Any:
    if isinstance(split, Split):
        return split
    return Split(name=split, type=split if split in _SPLIT_TYPES else "validation")


def _check_split(cls: type[Any], name: str | None) -> None:
    if name not in [_split(split).name for split in cls._list_splits_cached()]:
        raise RefusedError(400, "Invalid split")


async def _task(cls: type[Any], split: str | None, index: int | None) -> Any:
    try:
        return await run_user_callable(cls.get_task, split, index)
    except IndexError:
        raise RefusedError(400, "Invalid index") from None


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
    """What setting up failed with; None where it did not."""
    try:
        if not _is_inherited(environment, "setup"):
            await run_user_callable(environment.setup)
    except Exception as error:
        return error
    return None


def _is_inherited(environment: Any, name: str) -> bool:
    """Whether the method is the SDK's, which does nothing: a thread for nothing is the dearest part of a short episode."""
    return getattr(getattr(environment, name), "__func__", None) is getattr(Environment, name)
