"""The checks of an environment, one method each. A method returns what it saw; what is not well it raises."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema

from openreward_gym.envs.spaces import ToolCallSpace
from openreward_gym.errors import OpenRewardGymError, SessionLostError, TaskNotFoundError, ToolFailedError, TransportTimeoutError
from openreward_gym.protocol.client import Client, RemoteEnvironment
from openreward_gym.protocol.session import Session
from openreward_gym.testing.report import Check, Result
from openreward_gym.types import Json, ToolOutput, ToolSet

Step = str | Mapping[str, Json]

# What the providers of models accept as a tool's name.
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class FindingError(Exception):
    """What a check found, where it is not that all is well."""

    def __init__(self, result: Result, detail: str) -> None:
        super().__init__(detail)
        self.result = result
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Plan:
    """What is examined, and how; the arguments of `check_environment`."""

    base_url: str | None
    name: str
    variant: str | None
    split: str | None
    tasks: int
    steps: Sequence[Step] | None
    max_steps: int
    deterministic: bool
    session: Mapping[str, Any]
    timeout_s: float
    call_timeout_s: float


class Examination:
    """The checks that are made over the wire, and what they learn for each other."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.client = Client(plan.base_url)
        self.remote: RemoteEnvironment = self.client.environment(plan.name, plan.variant)
        self.split = plan.split or ""
        self.count = 0
        self.tools = ToolSet()

    async def run(self) -> list[Check]:
        """All checks, in their order. Where one fails that others stand on, they are skipped."""
        needed: list[Callable[[], Awaitable[str]]] = [self.server, self.splits, self.tasks, self.tool_list]
        others = [self.prompts, self.calls, self.wrong_calls, self.ends, self.repetition, self.isolation, self.cleanup]
        checks: list[Check] = []
        async with self.client:
            for check in [*needed, *others]:
                name = check.__name__.replace("_", " ")
                if any(done.result == "failed" for done in checks[: len(needed)]):
                    checks.append(Check(name, "skipped"))
                else:
                    checks.append(await self._made(name, check))
        return checks

    async def _made(self, name: str, check: Callable[[], Awaitable[str]]) -> Check:
        begun = time.perf_counter()
        result: Result
        try:
            async with asyncio.timeout(self.plan.timeout_s):
                result, detail = "passed", await check()
        except Exception as error:
            result, detail = verdict(error, self.plan.timeout_s)
        return Check(name, result, detail, time.perf_counter() - begun)

    # What must be there -------------------------------------------------------------------------------------------

    async def server(self) -> str:
        """The server answers and has the environment."""
        await self.client.health()
        version = await self.client.version()
        await self.remote.locate()
        return f"version {version['version']}" if isinstance(version, dict) and version.get("version") else "answers"

    async def splits(self) -> str:
        """There are splits, each once."""
        splits = await self.remote.splits()
        names = [split.name for split in splits]
        if not names or len(set(names)) != len(names):
            raise FindingError("failed", f"the splits are {names}: there must be one at least, and each once")
        if self.split and self.split not in names:
            raise FindingError("failed", f"there is no split {self.split!r}: there are {', '.join(names)}")
        self.split = self.split or names[0]
        return ", ".join(f"{split.name} ({split.type})" for split in splits)

    async def tasks(self) -> str:
        """Tasks are counted right, are the same when asked twice, and end where they are said to."""
        self.count = await self.remote.num_tasks(self.split)
        if self.count < 1:
            raise FindingError("failed", f"split {self.split!r} has no tasks")
        for index in self._indices():
            first, again = await self.remote.task(self.split, index), await self.remote.task(self.split, index)
            if first.spec != again.spec:
                raise FindingError(
                    "failed", f"task {index} changes with each request: {_brief(first.spec)}, {_brief(again.spec)}"
                )
        try:
            beyond = await self.remote.task(self.split, self.count)
        except TaskNotFoundError:
            return f"{self.count} in {self.split!r}"
        raise FindingError("failed", f"there are {self.count} tasks, and one of index {self.count} too: {_brief(beyond.spec)}")

    async def tool_list(self) -> str:
        """Tools have names that models can call, descriptions, and schemas that are JSON Schemas of objects."""
        self.tools = await self.remote.tools()
        names = [tool.name for tool in self.tools]
        if not names and self.tools.terminal is None:
            raise FindingError("failed", "there is no tool and no terminal tool: nothing can be done")
        wrong = [f"{name!r} is there twice" for name in {*names} if names.count(name) > 1]
        doubtful = [f"{name!r} is a name that not every model can call" for name in names if not _TOOL_NAME.fullmatch(name)]
        for tool in self.tools:
            doubtful += [] if tool.description.strip() else [f"{tool.name!r} has no description"]
            try:
                jsonschema.Draft202012Validator.check_schema(tool.input_schema or {})
            except jsonschema.SchemaError as error:
                wrong.append(f"the schema of {tool.name!r} is no JSON Schema: {error.message}")
            if tool.input_schema and tool.input_schema.get("type", "object") != "object":
                wrong.append(f"the schema of {tool.name!r} is of {tool.input_schema['type']!r}, not of an object")
        if wrong or doubtful:
            raise FindingError("failed" if wrong else "warning", "\n".join([*wrong, *doubtful]))
        return ", ".join([*names, *([f"{self.tools.terminal.name} (terminal)"] if self.tools.terminal else [])])

    # What must go well --------------------------------------------------------------------------------------------

    async def prompts(self) -> str:
        """A task's prompt is not empty and the same in each session; tasks differ in it."""
        prompts = {}
        for index in self._indices():
            async with self._session(index) as one, self._session(index) as two:
                prompt, again = await one.messages(), await two.messages()
            if not any(message.blocks for message in prompt):
                raise FindingError("failed", f"the prompt of task {index} is empty")
            if prompt != again:
                raise self._changed(f"the prompt of task {index} differs between two sessions:\n{_differ(prompt, again)}")
            prompts[index] = prompt
        if len(prompts) > 1 and all(prompt == prompts[0] for prompt in prompts.values()):
            raise FindingError("warning", f"tasks {list(prompts)} all have one prompt: what tells them apart?")
        return f"of {len(prompts)} tasks"

    async def calls(self) -> str:
        """Calls that fit the schemas run."""
        played = [taken for index in self._indices() for taken in await self._played(index)]
        refused = {f"{_brief(step)}: {out.error}" for step, out in played if out.error_kind not in ("", "episode_finished")}
        if refused:
            drawn = self.plan.steps is None
            what = "calls that fit the schemas were refused; can the schemas say more?" if drawn else "refused:"
            raise FindingError("warning", "\n".join([what, *sorted(refused)[:3]]))
        rewards = [output.reward for _, output in played if output.reward is not None]
        span = f"from {min(rewards):g} to {max(rewards):g}" if rewards else ""
        return f"{len(played)}, {len(rewards) or 'none'} with a reward {span}".rstrip()

    async def wrong_calls(self) -> str:
        """Wrong calls are answered, as such, and the session goes on."""
        async with self._session(0) as session:
            await session.messages()
            unknown = await session.call("there_is_no_such_tool", {})
            if unknown.error_kind != "not_found":
                raise FindingError("failed", f"a call of an unknown tool was no error: {_brief(unknown.text)}")
            needy = next((tool for tool in self.tools if (tool.input_schema or {}).get("required")), None)
            if needy is None:
                return "unknown tool"
            output = await session.call(needy.name, {}, timeout_s=self.plan.call_timeout_s)
            if output.error_kind != "input_validation":
                raise FindingError("failed", f"{needy.name!r} took a call without its required arguments: {_brief(output.text)}")
            if unknown.reward is not None or output.reward is not None:
                raise FindingError("failed", "a call that did not run brought a reward")
        return "unknown tool, missing arguments"

    async def ends(self) -> str:
        """An episode that ends has a reward, and after its end nothing runs."""
        rewards = []
        async with self._session(0) as session:
            await session.messages()
            for step in self._steps():
                output = await self._take(session, step)
                rewards.append(output.reward)
                if output.finished:
                    break
            else:
                raise FindingError("skipped", "no step that was played ended the episode; give steps= that do")
            late = await self._take(session, step)
        if late.error_kind != "episode_finished":
            raise FindingError("failed", f"a call after the end ran: {_brief(late.text)}, reward {late.reward}")
        if all(reward is None for reward in rewards):
            raise FindingError("warning", "the episode ended and had no reward")
        return "nothing runs after the end"

    async def repetition(self) -> str:
        """The same calls have the same results in another session."""
        first, again = await self._played(0), await self._played(0)
        if first != again:
            raise self._changed(f"the same calls on task 0 had different results:\n{_differ(first, again)}")
        return "the same calls have the same results"

    async def isolation(self) -> str:
        """Sessions that are held at once do not touch each other."""
        alone = await self._played(0)
        together = await asyncio.gather(*(self._played(0) for _ in range(3)))
        other = next((played for played in together if played != alone), None)
        if other is not None:
            raise self._changed(f"three sessions at once had other results than one alone:\n{_differ(alone, other)}")
        return "three sessions at once do as one alone"

    async def cleanup(self) -> str:
        """A closed session is gone."""
        session = self._session(0)
        await session.open()
        await session.ping()
        await session.close()
        await session.close()
        try:
            await session.ping()
        except SessionLostError:
            return "a closed session is gone"
        raise FindingError("failed", "the server still has a session after it was deleted")

    # How ----------------------------------------------------------------------------------------------------------

    def _indices(self) -> list[int]:
        """The first tasks, and the last."""
        return sorted({*range(min(self.plan.tasks - 1, self.count)), self.count - 1, 0})

    def _session(self, index: int) -> Session:
        return self.remote.session(split=self.split, index=index, **self.plan.session)

    def _steps(self) -> list[Step]:
        if self.plan.steps is not None:
            return list(self.plan.steps)
        space = ToolCallSpace(self.tools.tools, seed=0)
        drawn: list[Step] = [space.sample() for _ in range(self.plan.max_steps)] if len(self.tools) else []
        return [*drawn, "A message without much thought."] if self.tools.terminal is not None else drawn

    async def _played(self, index: int) -> list[tuple[Step, ToolOutput]]:
        played: list[tuple[Step, ToolOutput]] = []
        async with self._session(index) as session:
            await session.messages()
            for step in self._steps():
                output = await self._take(session, step)
                played.append((step, output))
                if output.finished:
                    break
        return played

    async def _take(self, session: Session, step: Step) -> ToolOutput:
        try:
            if isinstance(step, str):
                return await session.call_terminal(step)
            return await session.call(step["name"], step["arguments"], timeout_s=self.plan.call_timeout_s)
        except ToolFailedError as error:
            raise FindingError("failed", f"{_brief(step)}: {error}") from None
        except TransportTimeoutError as error:
            raise FindingError("warning", f"{_brief(step)}: {error}") from None

    def _changed(self, detail: str) -> FindingError:
        return FindingError("failed" if self.plan.deterministic else "warning", detail)


def verdict(error: Exception, timeout_s: float) -> tuple[Result, str]:
    """What became of a check that raised, and why."""
    if isinstance(error, FindingError):
        return error.result, error.detail
    if isinstance(error, OpenRewardGymError):
        return "failed", str(error)
    if isinstance(error, TimeoutError):
        return "failed", f"it took longer than {timeout_s:g} s"
    return "failed", f"{type(error).__name__}: {error}"


def _brief(value: object) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, default=repr)
    return shown if len(shown) <= 160 else f"{shown[:150]}... ({len(shown)} characters)"


def _differ(one: Sequence[Any], other: Sequence[Any]) -> str:
    """The first place at which two sequences part."""
    for first, second in zip(one, other, strict=False):
        if first != second:
            shown = [_brief(repr(value[1] if isinstance(value, tuple) else value)) for value in (first, second)]
            return f"{shown[0]}\n{shown[1]}"
    return f"{len(one)} results, then {len(other)}"
