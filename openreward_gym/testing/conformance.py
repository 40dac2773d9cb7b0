"""The conformance checks: one method per check, and the report of their results."""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import gymnasium
import jsonschema
from gymnasium.utils.env_checker import check_env

from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.registration import spec
from openreward_gym.envs.spaces import ToolCallSpace
from openreward_gym.errors import OpenRewardGymError, SessionLostError, TaskNotFoundError, ToolFailedError, TransportTimeoutError
from openreward_gym.options import ClientOptions, SessionOptions
from openreward_gym.protocol import loop
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.session import Session
from openreward_gym.testing.clock import CheckClock, CheckProgress
from openreward_gym.testing.versions import is_older
from openreward_gym.types import Json, ToolOutput, ToolSet
from openreward_gym.urls import without_credentials

Step = str | Mapping[str, Json]
"""One action: a tool call `{"name": ..., "arguments": {...}}`, or a plain message."""

Result = Literal["passed", "note", "warning", "failed", "skipped"]

_MARKS: Mapping[Result, str] = {"passed": "ok  ", "note": "note", "warning": "warn", "failed": "FAIL", "skipped": "-   "}
_PLURALS: Mapping[Result, str] = {"note": "notes", "warning": "warnings"}

CALLS_END_SINCE = "0.1.160"
"""The release of the `openreward` SDK from which a server refuses calls after the end of an episode."""

REQUIRED = ("server", "splits", "tasks", "tool list")
"""The checks that run first. If one of them fails, the others are skipped."""

# The tool names that all model providers accept.
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: The check's name.
        result: "passed", "note", "warning", "failed" or "skipped". A note is about a rule that is newer than the server.
        detail: An explanation in words, for people.
        duration_s: Seconds that the check took.
        since: The release of the `openreward` SDK that brought the rule which the detail is about. Empty for the rules that
            every server has had from the beginning. The standard itself has no version numbers.

    Example:
        >>> Check("ends", "note", "a call after the end ran", since="0.1.160").since
        '0.1.160'
    """

    name: str
    result: Result
    detail: str = ""
    duration_s: float = 0.0
    since: str = ""


@dataclass(frozen=True, slots=True)
class ConformanceReport:
    """The results of all checks. `print(report)` shows them as a table.

    Attributes:
        environment: The environment's name.
        base_url: The server that was checked, without credentials; None for the hosted platform.
        checks: The results, in the order in which the checks ran.

    Example:
        >>> report = ConformanceReport("weather", "http://localhost:8080", (Check("server", "passed", "version 1"),))
        >>> report.ok
        True
        >>> print(report)
        weather at http://localhost:8080
          ok    server        version 1
        1 passed
    """

    environment: str
    base_url: str | None
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """True if no check failed. Warnings do not count as failures."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.result == "failed")

    @property
    def warnings(self) -> tuple[Check, ...]:
        """The checks that passed with something to look at."""
        return tuple(check for check in self.checks if check.result == "warning")

    def raise_for_failures(self) -> None:
        """Raise an AssertionError with the full report if any check failed."""
        if not self.ok:
            raise AssertionError(str(self))

    def to_dict(self) -> dict[str, Json]:
        """Return the report as JSON values."""
        return {**asdict(self), "checks": [asdict(check) for check in self.checks], "ok": self.ok}

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, width: int | None = None) -> str:
        """Return the report as a table. Explanations are wrapped so that lines have at most `width` columns; None wraps none."""
        counts = {result: sum(check.result == result for check in self.checks) for result in _MARKS}
        lines = [f"{self.environment} at {self.base_url or 'the hosted platform'}"]
        for check in self.checks:
            lines += _wrapped(f"  {_MARKS[check.result]}  {check.name:<14}", check.detail, width)
        total = (f"{count} {_PLURALS.get(result, result) if count > 1 else result}" for result, count in counts.items() if count)
        return "\n".join([*lines, ", ".join(total)])


def check_environment(
    base_url: str | None,
    name: str,
    *,
    variant: str | None = None,
    split: str | None = None,
    tasks: int = 3,
    steps: Sequence[Step] | None = None,
    max_steps: int = 8,
    deterministic: bool = True,
    secrets_env: Mapping[str, str] | None = None,
    toolset: str | None = None,
    client: ClientOptions | None = None,
    session: SessionOptions | None = None,
    timeout_s: float = 120.0,
    call_timeout_s: float = 30.0,
    total_timeout_s: float | None = None,
    on_progress: Callable[[CheckProgress], None] | None = None,
) -> ConformanceReport:
    """Check a served environment: tasks, tools, prompts, calls, rewards, ends, determinism, cleanup, Gymnasium's own checks.

    The checks open about ten sessions and close them. All problems are in the report; none is raised.

    Args:
        base_url: The server; None for the hosted platform.
        name: The environment's name on that server.
        variant: A variant of the environment; None for the default one.
        split: The split whose tasks are played; None for the server's first split.
        tasks: The number of tasks to look at.
        steps: The actions to play: tool calls `{"name", "arguments"}` and plain messages. None plays random calls that match
            the tools' schemas; an environment must survive these.
        max_steps: The number of random calls per episode.
        deterministic: If true, different results for the same task and calls are a failure; if false, a warning.
        secrets_env: The environment's secrets: the name of each secret -> the environment variable that holds it.
        toolset: One of the SDK's toolsets to add to each session; None for none.
        client: Further options of the client; its `base_url` is not used. None for the defaults.
        session: Further options of each session. `secrets_env` and `toolset` go before it. None for the defaults.
        timeout_s: Seconds per check.
        call_timeout_s: Seconds per tool call.
        total_timeout_s: Seconds for all checks together. The check that runs then has failed, and those after it are skipped.
            None sets no limit.
        on_progress: Called when a check starts, every few seconds while it runs, and when it ends. None for no calls. It is
            called from another thread, one call at a time.

    Raises:
        ConfigurationError: `base_url` or `name` is invalid.

    Example:
        with openreward_gym.serve.local(["weather"]) as base_url:
            report = check_environment(base_url, "weather")
        print(report)
    """
    client = replace(client or ClientOptions(), base_url=base_url)
    session = session or SessionOptions()
    session = replace(session, secrets_env=secrets_env or session.secrets_env, toolset=toolset or session.toolset)
    clock = CheckClock(timeout_s, total_timeout_s, on_progress)
    runner = CheckRunner(
        client, session, name, variant, split or "", tasks, steps, max_steps, deterministic, clock, call_timeout_s
    )
    checks = loop.run(runner.run())
    checks.append(runner.run_gymnasium(checks))
    return ConformanceReport(name, None if base_url is None else without_credentials(base_url), tuple(checks))


class CheckError(Exception):
    """A check's result other than "passed", with its explanation, and the release that brought the rule if it is a later one."""

    def __init__(self, result: Result, detail: str, *, since: str = "") -> None:
        super().__init__(detail)
        self.result = result
        self.since = since


@dataclass
class CheckRunner:
    """Runs the checks with the arguments of `check_environment`.

    A check is a method that returns a description of what it saw and raises `CheckError` if something is wrong. Later checks
    use what the required ones stored: `split`, `count` and `tools`.
    """

    client_options: ClientOptions
    session_options: SessionOptions
    name: str
    variant: str | None
    split: str
    num_tasks: int
    steps: Sequence[Step] | None
    max_steps: int
    deterministic: bool
    clock: CheckClock
    call_timeout_s: float
    version: str = ""
    count: int = 0
    tools: ToolSet = field(default_factory=ToolSet)

    def __post_init__(self) -> None:
        self.client = Client(**self.client_options.to_keywords())
        self.remote = self.client.environment(self.name, self.variant)

    async def run(self) -> list[Check]:
        """Run all checks but the last in order. If a required check fails, the checks after it are skipped."""
        methods = [self.server, self.splits, self.tasks, self.tool_list, self.prompts, self.calls, self.wrong_calls]
        methods += [self.ends, self.repetition, self.isolation, self.cleanup]
        self.clock.start(len(methods) + 1)
        checks: list[Check] = []
        async with self.client:
            for method in methods:
                name = method.__name__.replace("_", " ")
                if (reason := self._reason_to_skip(checks)) is not None:
                    checks.append(Check(name, "skipped", reason))
                    continue
                checks.append(await self._run_check(name, method))
        return checks

    def _reason_to_skip(self, checks: Sequence[Check]) -> str | None:
        """Return the reason why no further check runs, which may be empty. None if the next one runs."""
        if self.clock.is_over:
            return "" if any(check.result == "failed" for check in checks) else f"not run: {self.clock.limit_text()}"
        return "" if _required_failed(checks) else None

    async def _run_check(self, name: str, check: Callable[[], Awaitable[str]]) -> Check:
        result: Result
        since = ""
        with self.clock.running(name) as progress:
            try:
                async with asyncio.timeout(self.clock.seconds_left()):
                    result, detail = "passed", await check()
            except Exception as error:
                result, detail, since = _result_of(error, self.clock)
        if result == "failed" and since and is_older(self.version, since):
            result, detail = "note", f"{detail} (a rule since openreward {since}; this server is {self.version or 'older'})"
        return Check(name, result, detail, progress.seconds, since)

    # Required checks ------------------------------------------------------------------------------------------------

    async def server(self) -> str:
        """The server answers and has the environment."""
        await self.client.health()
        version = await self.client.version()
        await self.remote.splits()  # raises if the server does not have the environment
        self.version = str(version.get("version") or "") if isinstance(version, dict) else ""
        return f"version {self.version}" if self.version else "answers; it has no version"

    async def splits(self) -> str:
        """There is at least one split, and split names are unique."""
        splits = await self.remote.splits()
        names = [split.name for split in splits]
        if not names or len(set(names)) != len(names):
            raise CheckError("failed", f"the splits are {names}: there must be at least one, and each name once")
        if self.split and self.split not in names:
            raise CheckError("failed", f"there is no split {self.split!r}: the splits are {', '.join(names)}")
        self.split = self.split or names[0]
        return ", ".join(f"{split.name} ({split.type})" for split in splits)

    async def tasks(self) -> str:
        """The number of tasks is right, and a task is the same in each request."""
        self.count = await self.remote.num_tasks(self.split)
        if self.count < 1:
            raise CheckError("failed", f"split {self.split!r} has no tasks")
        for index in self._indices():
            first, second = await self.remote.task(self.split, index), await self.remote.task(self.split, index)
            if first.spec != second.spec:
                specs = f"{_shorten(first.spec)}, {_shorten(second.spec)}"
                raise CheckError("failed", f"task {index} changes with each request: {specs}")
        try:
            beyond = await self.remote.task(self.split, self.count)
        except TaskNotFoundError:
            return f"{self.count} in {self.split!r}"
        problem = f"num_tasks is {self.count}, but there is a task of index {self.count}: {_shorten(beyond.spec)}"
        raise CheckError("failed", problem)

    async def tool_list(self) -> str:
        """Tools have names that models can call, descriptions, and JSON Schemas of objects."""
        self.tools = await self.remote.tools()
        names = [tool.name for tool in self.tools]
        if not names and self.tools.terminal is None:
            raise CheckError("failed", "there is neither a tool nor a terminal tool: a model can do nothing")
        errors = [f"the name {name!r} occurs more than once" for name in {*names} if names.count(name) > 1]
        doubts = [f"not every model can call a tool named {name!r}" for name in names if not _TOOL_NAME.fullmatch(name)]
        for tool in self.tools:
            doubts += [] if tool.description.strip() else [f"{tool.name!r} has no description"]
            try:
                jsonschema.Draft202012Validator.check_schema(tool.input_schema or {})
            except jsonschema.SchemaError as error:
                errors.append(f"the schema of {tool.name!r} is not a valid JSON Schema: {error.message}")
            if tool.input_schema and tool.input_schema.get("type", "object") != "object":
                errors.append(f"the schema of {tool.name!r} has type {tool.input_schema['type']!r} instead of 'object'")
        if errors or doubts:
            raise CheckError("failed" if errors else "warning", "\n".join([*errors, *doubts]))
        return ", ".join([*names, *([f"{self.tools.terminal.name} (terminal)"] if self.tools.terminal else [])])

    # Other checks ---------------------------------------------------------------------------------------------------

    async def prompts(self) -> str:
        """A task's prompt is not empty and is the same in each session; different tasks have different prompts."""
        prompts = {}
        for index in self._indices():
            async with self._session(index) as one, self._session(index) as two:
                first, second = await one.messages(), await two.messages()
            if not any(message.blocks for message in first):
                raise CheckError("failed", f"the prompt of task {index} is empty")
            if first != second:
                raise self._difference(f"the prompt of task {index} differs between two sessions", first, second)
            prompts[index] = first
        if len(prompts) > 1 and all(prompt == prompts[0] for prompt in prompts.values()):
            raise CheckError("warning", f"tasks {list(prompts)} all have the same prompt: what tells them apart?")
        return f"of {len(prompts)} task{'' if len(prompts) == 1 else 's'}"

    async def calls(self) -> str:
        """Calls that match the schemas run."""
        played = [step for index in self._indices() for step in await self._play(index)]
        refused = {f"{_shorten(step)}: {out.error}" for step, out in played if out.error_kind not in ("", "episode_finished")}
        if refused:
            random = self.steps is None
            title = "calls that match the schemas were refused; can the schemas say more?" if random else "refused:"
            raise CheckError("warning", "\n".join([title, *sorted(refused)[:3]]))
        rewards = [output.reward for _, output in played if output.reward is not None]
        span = f"from {min(rewards):g} to {max(rewards):g}" if rewards else ""
        return f"{len(played)}, {len(rewards) or 'none'} with a reward {span}".rstrip()

    async def wrong_calls(self) -> str:
        """Wrong calls are answered with an error, and the session goes on."""
        async with self._session(0) as session:
            await session.messages()
            unknown = await session.call("there_is_no_such_tool", {})
            if unknown.error_kind != "not_found":
                raise CheckError("failed", f"a call of an unknown tool was not an error: {_shorten(unknown.text)}")
            strict = next((tool for tool in self.tools if (tool.input_schema or {}).get("required")), None)
            if strict is None:
                return "unknown tool"
            output = await session.call(strict.name, {}, timeout_s=self.call_timeout_s)
            if output.error_kind != "input_validation":
                problem = f"{strict.name!r} accepted a call without its required arguments: {_shorten(output.text)}"
                raise CheckError("failed", problem)
            if unknown.reward is not None or output.reward is not None:
                raise CheckError("failed", "a call that did not run had a reward")
        return "unknown tool, missing arguments"

    async def ends(self) -> str:
        """An episode that ends has a reward, and no call runs after its end."""
        async with self._session(0) as session:
            played = await self._play_in(session)
            if not played or not played[-1][1].finished:
                raise CheckError("skipped", "none of the calls ended the episode: pass steps=... (--steps FILE) that do")
            late = await self._take(session, played[-1][0])
        if late.error_kind != "episode_finished":
            problem = f"a call after the end ran: {_shorten(late.text)}, reward {late.reward}"
            raise CheckError("failed", problem, since=CALLS_END_SINCE)
        if all(output.reward is None for _, output in played):
            raise CheckError("warning", "the episode ended and had no reward")
        return "nothing runs after the end"

    async def repetition(self) -> str:
        """The same calls have the same results in another session."""
        first, second = await self._play(0), await self._play(0)
        if first != second:
            raise self._difference("the same calls on task 0 had different results", first, second)
        return "the same calls have the same results"

    async def isolation(self) -> str:
        """Concurrent sessions do not affect each other."""
        alone = await self._play(0)
        together = await asyncio.gather(*(self._play(0) for _ in range(3)))
        different = next((played for played in together if played != alone), None)
        if different is not None:
            raise self._difference("three sessions at once had other results than one alone", alone, different)
        return "three sessions at once do as one alone"

    async def cleanup(self) -> str:
        """A session no longer exists after it was closed."""
        session = self._session(0)
        await session.open()
        await session.ping()
        await session.close()
        await session.close()
        try:
            await session.ping()
        except SessionLostError:
            return "a closed session is gone"
        raise CheckError("failed", "the server still has a session after it was deleted")

    def run_gymnasium(self, checks: Sequence[Check]) -> Check:
        """Run Gymnasium's own checks, unless one before them stops it. They block, so they run outside of the event loop."""
        if (reason := self._reason_to_skip(checks)) is not None:
            return Check("gymnasium", "skipped", reason)
        result: Result
        with self.clock.running("gymnasium") as progress:
            try:
                result, detail = "passed", self.clock.run_in_time(self._gymnasium)
            except Exception as error:
                result, detail, _ = _result_of(error, self.clock)
        return Check("gymnasium", result, detail, progress.seconds)

    def _gymnasium(self) -> str:
        """Check that the env passes Gymnasium's own checks and that a seed always selects the same task."""
        arguments: dict[str, Any] = {**self.session_options.changes(), **self.client_options.changes()}
        arguments |= {"variant": self.variant, "split": self.split, "step_timeout_s": self.call_timeout_s}
        # An env has a timeout for its whole reset in place of the session's, and a spec holds plain JSON.
        arguments.pop("open_timeout_s", None)
        if self.client_options.retry_limits is not None:
            arguments["retry_limits"] = self.client_options.retry_limits.to_keywords()
        env = gymnasium.make(spec(self.name, **arguments)).unwrapped
        assert isinstance(env, OpenRewardEnv)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                check_env(env, skip_render_check=True)
            indices = [[env.reset(seed=seed)[1]["task_index"] for seed in (0, 1, 2)] for _ in range(2)]
        finally:
            env.close()
        if indices[0] != indices[1]:
            raise CheckError("failed", f"seeds 0, 1 and 2 gave tasks {indices[0]}, then {indices[1]}")
        if caught:
            raise CheckError("warning", "\n".join(sorted({str(warning.message) for warning in caught})))
        return f"check_env passes; seeds 0, 1, 2 are tasks {', '.join(map(str, indices[0]))}"

    # Helpers --------------------------------------------------------------------------------------------------------

    def _indices(self) -> list[int]:
        """Return the indices of the first tasks and of the last."""
        return sorted({*range(min(self.num_tasks - 1, self.count)), self.count - 1, 0})

    def _session(self, index: int) -> Session:
        return self.remote.session(split=self.split, index=index, **self.session_options.to_keywords())

    def _steps(self) -> list[Step]:
        if self.steps is not None:
            return list(self.steps)
        space = ToolCallSpace(self.tools.tools, seed=0)
        calls: list[Step] = [space.sample() for _ in range(self.max_steps)] if len(self.tools) else []
        return [*calls, "A message without much thought."] if self.tools.terminal is not None else calls

    async def _play(self, index: int) -> list[tuple[Step, ToolOutput]]:
        async with self._session(index) as session:
            return await self._play_in(session)

    async def _play_in(self, session: Session) -> list[tuple[Step, ToolOutput]]:
        played: list[tuple[Step, ToolOutput]] = []
        await session.messages()
        for step in self._steps():
            played.append((step, await self._take(session, step)))
            if played[-1][1].finished:
                break
        return played

    async def _take(self, session: Session, step: Step) -> ToolOutput:
        try:
            if isinstance(step, str):
                return await session.call_terminal(step)
            return await session.call(step["name"], step["arguments"], timeout_s=self.call_timeout_s)
        except ToolFailedError as error:
            raise CheckError("failed", f"{_shorten(step)}: {error}") from None
        except TransportTimeoutError as error:
            raise CheckError("warning", f"{_shorten(step)}: {error}") from None

    def _difference(self, title: str, one: Sequence[Any], other: Sequence[Any]) -> CheckError:
        """Return an error that shows the first position at which two sequences differ."""
        detail = f"{len(one)} results, then {len(other)}"
        for first, second in zip(one, other, strict=False):
            if first != second:
                texts = [_shorten(repr(value[1] if isinstance(value, tuple) else value)) for value in (first, second)]
                detail = "\n".join(texts)
                break
        return CheckError("failed" if self.deterministic else "warning", f"{title}:\n{detail}")


def _required_failed(checks: Sequence[Check]) -> bool:
    return any(check.name in REQUIRED and check.result == "failed" for check in checks)


def _result_of(error: Exception, clock: CheckClock) -> tuple[Result, str, str]:
    """Return the result and the explanation of a check that raised `error`, and the release that brought the rule."""
    if isinstance(error, CheckError):
        return error.result, str(error), error.since
    if isinstance(error, TimeoutError) and not isinstance(error, OpenRewardGymError):
        return "failed", f"it was not done in time: {clock.limit_text()}", ""
    return "failed", str(error) if isinstance(error, OpenRewardGymError) else f"{type(error).__name__}: {error}", ""


def _wrapped(start: str, detail: str, width: int | None) -> list[str]:
    """Return the lines of a report about one check."""
    indent = " " * len(start)
    lines: list[str] = []
    for text in detail.splitlines() or [""]:
        wrapped = [text] if width is None else textwrap.wrap(text, max(20, width - len(start)), break_on_hyphens=False)
        lines += wrapped or [""]
    return [f"{indent if number else start}{line}".rstrip() for number, line in enumerate(lines)]


def _shorten(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= 160 else f"{text[:150]}... ({len(text)} characters)"
