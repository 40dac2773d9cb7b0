"""An OpenReward environment class that plays the environment of an OpenEnv server."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import jsonschema
from openenv.core import GenericEnvClient
from pydantic import BaseModel, ConfigDict

from openreward_gym.checks import integer, mapping, number, strings, text
from openreward_gym.envs.spaces.schema_checking import SchemaChecker
from openreward_gym.errors import ProtocolError, ServerError, TransportError
from openreward_gym.protocol import loop
from openreward_gym.serve.examples.sdk import Environment, ImageBlock, Split, TextBlock, ToolOutput, listed_tools, split_of, tool
from openreward_gym.types import Json
from openreward_gym.urls import bare_url, check_url, hide_credentials

SEEDS: Mapping[str, int] = {"train": 1000, "test": 100}
"""Number of seeds of each split of an environment without tasks."""
# OpenEnv's own words for errors of a call that are the model's mistake.
_MISTAKES = frozenset({"tool_not_found", "invalid_args", "execution_error"})
_CONNECTION = (OSError, EOFError, asyncio.TimeoutError)

Spec: TypeAlias = "dict[str, Any]"
"""A tool: `name`, `description` and `input_schema`."""


@dataclass(frozen=True, slots=True)
class Server:
    """The address of an OpenEnv server, and how to reach it.

    Example:
        >>> Server("http://127.0.0.1:8000/").url("schema")
        'http://127.0.0.1:8000/schema'
    """

    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 60.0

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"{self.base_url.rstrip('/')}/{path}"

    def client(self) -> Any:
        """Return OpenEnv's own client, not connected."""
        headers = {"headers": dict(self.headers)} if self.headers else {}
        return GenericEnvClient(
            base_url=self.base_url,
            connect_timeout_s=self.timeout_s,
            message_timeout_s=self.timeout_s,
            mode="simulation",
            **headers,
        )

    def ask(self, path: str, body: Mapping[str, Json] | None = None) -> Json:
        """Return the JSON of a response; None where the server does not have the route.

        Raises:
            TransportError: The server cannot be reached.
            ServerError: It answers with another error.
            ProtocolError: The answer is not JSON.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self.headers}
        try:
            request = urllib.request.Request(self.url(path), data=data, headers=headers)
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            if error.code in (404, 405, 501):
                return None
            raise ServerError(f"the OpenEnv server answered {path} with status {error.code}", status=error.code) from None
        except (OSError, EOFError, http.client.HTTPException) as error:
            raise TransportError(
                f"cannot reach the OpenEnv server at {bare_url(self.base_url)}: {hide_credentials(str(error))}",
                delivery="not_sent",
            ) from None
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"the answer of the OpenEnv server to {path} is not JSON: {error}"[:500]) from None


@dataclass(frozen=True, slots=True)
class Description:
    """What a server tells of its environment.

    Attributes:
        name: The environment's name.
        prompt: The instructions before the first observation; empty for none.
        tools: The tools; a single one, `step`, for an environment without tools.
        splits: The number of tasks or seeds of each split.
        has_tasks: Whether the server has tasks. Without them a task is a seed.
        is_step: Whether the tool is `step`.
    """

    name: str
    prompt: str
    tools: Sequence[Spec]
    splits: Mapping[str, int]
    has_tasks: bool
    is_step: bool


def make_class(
    base_url: str,
    name: str | None,
    seeds: Mapping[str, int] | None,
    prompt: str | None,
    headers: Mapping[str, str] | None,
    timeout_s: float,
) -> type[Any]:
    """Return the class; see `openreward_gym.integrations.openenv.environment`."""
    url = re.sub(r"^ws(s?)://", r"http\1://", text()("base_url", base_url))
    check_url("base_url", url)
    name, prompt = text(optional=True)("name", name), text(optional=True)("prompt", prompt)
    seeds = mapping("seeds", seeds)
    server = Server(url, strings("headers", headers) or {}, number()("timeout_s", timeout_s))
    tools = loop.run(_listed_tools(server))
    metadata = server.ask("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    own = server.ask("list_environments")
    served = own[0] if isinstance(own, list) and own and isinstance(own[0], str) else None
    splits = None if served is None or seeds is not None else _splits(server, served)
    numbers = {split: integer(1)(f"seeds[{split!r}]", number) for split, number in (seeds or SEEDS).items()}
    description = Description(
        name=re.sub(r"[^A-Za-z0-9_.-]+", "-", name or served or str(metadata.get("name") or "openenv")),
        prompt=str(metadata.get("description") or "") if prompt is None else prompt,
        tools=tools if tools is not None else [_step_tool(server)],
        splits=numbers if splits is None else splits,
        has_tasks=splits is not None,
        is_step=tools is None,
    )
    members: dict[str, Any] = {
        "__doc__": f"{description.name} of an OpenEnv server.",
        "__module__": __name__,
        "server": server,
        "description": description,
        "listed": listed_tools(description.tools),
    }
    members |= {spec["name"]: _tool(spec) for spec in description.tools}
    return type("OpenEnvEnvironmentOfServer", (OpenEnvEnvironment,), members)


class Arguments(BaseModel):
    """Arguments of a tool, which the OpenEnv server checks.

    Example:
        >>> Arguments(city="Oslo").model_extra
        {'city': 'Oslo'}
    """

    model_config = ConfigDict(extra="allow")


class OpenEnvEnvironment(Environment):  # the SDK is not typed
    """The base of the classes that `make_class` makes: a session is a session of the OpenEnv server."""

    server: ClassVar[Server]
    description: ClassVar[Description]
    listed: ClassVar[Any]

    def __init__(self, task_spec: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> None:
        super().__init__(task_spec=task_spec, secrets=dict(secrets or {}))
        self._reset = dict(task_spec)
        self._client: Any = None
        self._opening: list[Any] = []

    @classmethod
    def name(cls) -> str:
        return cls.description.name

    @classmethod
    def list_tools(cls) -> Any:
        return cls.listed

    @classmethod
    def list_splits(cls) -> list[Split]:
        return [split_of(name) for name in cls.description.splits]

    @classmethod
    def list_tasks(cls, split: str) -> list[Any]:
        return [cls._task(split, index) for index in range(cls._number(split))]

    @classmethod
    async def num_tasks(cls, split: str) -> int:
        return cls._number(split)

    @classmethod
    async def get_task(cls, split: str, index: int) -> Any:
        number = cls._number(split)
        if not 0 <= index < number:
            raise IndexError(f"{split} has {number} tasks, numbered from 0, and no task {index}")
        return cls._task(split, index)

    @classmethod
    def _number(cls, split: str) -> int:
        splits = cls.description.splits
        if split not in splits:
            raise ValueError(f"{cls.name()} has no split {split!r}; its splits are {', '.join(splits)}")
        return splits[split]

    @classmethod
    def _task(cls, split: str, index: int) -> dict[str, Any]:
        if cls.description.has_tasks:
            return {"split": split, "index": index}
        # The seeds of a split follow those of the split before.
        before = list(cls.description.splits)[: list(cls.description.splits).index(split)]
        return {"seed": sum(cls.description.splits[name] for name in before) + index}

    async def setup(self) -> None:
        self._client = self.server.client()
        async with self._failures():
            await self._client.connect()
            result = await self._client.reset(**self._reset)
        if _is_done(result):
            raise RuntimeError("the episode of the OpenEnv server was over at its reset, so there is nothing to play")
        instructions = self.description.prompt
        self._opening = [*([TextBlock(text=instructions)] if instructions else []), *_blocks(result.observation)]

    async def teardown(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def get_prompt(self) -> list[Any]:
        return self._opening

    @asynccontextmanager
    async def _failures(self) -> AsyncIterator[None]:
        """Raise RuntimeError with a reason for each error of OpenEnv's client. It shows no password of the server's URL."""
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(hide_credentials(str(error))) from None
        except TimeoutError:
            raise RuntimeError(f"the OpenEnv server did not answer within {self.server.timeout_s:g} s") from None
        except Exception as error:  # the library raises any error at an answer that is not OpenEnv's
            reason = hide_credentials(f"{type(error).__name__}: {error}")
            raise RuntimeError(f"the server did not answer as an OpenEnv server: {reason}"[:500]) from None

    async def _call(self, spec: Mapping[str, Any], arguments: dict[str, Any]) -> ToolOutput:
        """Send an action. Raise RuntimeError where the server failed, so that the episode has no reward."""
        is_step = self.description.is_step
        # The server's own error does not tell the model which field is wrong.
        if is_step and (problems := SchemaChecker(spec["input_schema"]).errors(arguments)):
            return ToolOutput(blocks=[TextBlock(text=f"The action is not valid: {'; '.join(problems)}"[:2000])])
        action = arguments if is_step else {"type": "call_tool", "tool_name": spec["name"], "arguments": arguments}
        try:
            async with self._failures():
                result = await self._client.step(action)
        except RuntimeError as error:
            if not str(error).endswith("(code: VALIDATION_ERROR)"):
                raise
            return ToolOutput(blocks=[TextBlock(text=f"The action is not valid: {error}")])
        reward = result.reward
        if reward is not None and not (isinstance(reward, int | float) and abs(reward) <= sys.float_info.max):
            raise ValueError(f"the OpenEnv server sent the reward {reward!r:.200}; a reward must be a finite number")
        return ToolOutput(
            blocks=_blocks(result.observation),
            reward=None if reward is None else float(reward),
            finished=_is_done(result),
            metadata={"observation": result.observation},
        )


def _tool(spec: Mapping[str, Any]) -> Any:
    async def call(self: OpenEnvEnvironment, arguments: Any) -> ToolOutput:
        return await self._call(spec, dict(arguments.model_extra or {}))

    call.__name__, call.__doc__ = spec["name"], spec["description"]
    call.__annotations__ = {"arguments": Arguments, "return": ToolOutput}
    return tool(call)


async def _listed_tools(server: Server) -> list[Spec] | None:
    """Return the tools that the server lists; None for an environment without tools."""
    client, where = server.client(), bare_url(server.base_url)
    try:
        await client.connect()
        result = await client.step({"type": "list_tools"})
    except _CONNECTION as error:
        reason = hide_credentials(str(error)) or f"no answer within {server.timeout_s:g} s"
        raise TransportError(f"cannot reach the OpenEnv server at {where}: {reason}", delivery="not_sent") from None
    except RuntimeError as error:
        if "CAPACITY_REACHED" in str(error):
            raise TransportError(f"the OpenEnv server at {where} has no free session: {error}", delivery="not_sent") from None
        return None  # its actions are others
    except Exception as error:  # the library raises any error at an answer that is none of OpenEnv's
        raise ProtocolError(f"{where} did not answer as an OpenEnv server: {type(error).__name__}: {error}"[:500]) from None
    finally:
        await client.close()
    listed = result.observation.get("tools") if isinstance(result.observation, Mapping) else None
    return [_checked(spec) for spec in listed] if isinstance(listed, list) and listed else None


def _checked(spec: Any) -> Spec:
    """Return a tool; raise ProtocolError if it is none that an environment can have."""
    name = spec.get("name") if isinstance(spec, Mapping) else None
    schema = (spec.get("input_schema") or {}) if isinstance(spec, Mapping) else None
    if not isinstance(name, str) or not name or not isinstance(schema, Mapping):
        raise ProtocolError(f"the OpenEnv server lists a tool without a name or schema: {spec!r:.300}")
    if hasattr(OpenEnvEnvironment({}), name) or name in ("server", "description", "listed"):
        raise ProtocolError(f"the OpenEnv server has a tool {name!r}, a name that OpenReward environments use for themselves")
    return {"name": name, "description": str(spec.get("description") or ""), "input_schema": _valid(schema)}


def _valid(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema; raise ProtocolError if it is not a JSON Schema."""
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        where = f" at {error.json_path}" if error.path else ""
        raise ProtocolError(f"the OpenEnv server sent a schema that is not a JSON Schema: {error.message}{where}"[:500]) from None
    except RecursionError:
        raise ProtocolError("the OpenEnv server sent a schema that is nested too deeply") from None
    return dict(schema)


def _step_tool(server: Server) -> Spec:
    """Return the tool of an environment without tools: it takes an action."""
    schemas = server.ask("schema")
    action = schemas.get("action") if isinstance(schemas, Mapping) else None
    if not isinstance(action, Mapping):
        raise ProtocolError(f"the OpenEnv server at {bare_url(server.base_url)} lists no tools and has no schema of its actions")
    action = _valid(action)
    own = {name: value for name, value in (action.get("properties") or {}).items() if name != "metadata"}
    required = [name for name in action.get("required") or () if name in own]
    description = str(action.get("description") or "Do one action and observe what follows.")
    return {"name": "step", "description": description, "input_schema": {**action, "properties": own, "required": required}}


def _splits(server: Server, name: str) -> dict[str, int] | None:
    """Return the number of tasks of each split; None for a server without tasks."""
    path = urllib.parse.quote(name, safe="")
    listed = server.ask(f"{path}/splits")
    names = [split.get("name") for split in listed if isinstance(split, Mapping)] if isinstance(listed, list) else []
    counts: dict[str, int] = {}
    for split in names:
        answer = server.ask(f"{path}/num_tasks", {"split": split})
        number = answer.get("num_tasks") if isinstance(answer, Mapping) else None
        if isinstance(split, str) and type(number) is int and number > 0:
            counts[split] = number
    return counts or None


def _blocks(observation: Any) -> list[Any]:
    """Return an observation as blocks: the content of a tool's result, or else JSON.

    Raises:
        RuntimeError: The observation tells of a failure that is not the model's mistake.
    """
    data = observation if isinstance(observation, Mapping) else {"observation": observation}
    error = data.get("error")
    if "tool_name" in data and error is not None:
        kind = error.get("error_type") if isinstance(error, Mapping) else None
        shown = f"{kind}: {error.get('message')}" if isinstance(error, Mapping) else str(error)
        if kind not in _MISTAKES:
            raise RuntimeError(f"the tool {data['tool_name']!r} failed: {shown}")
        return [TextBlock(text=shown)]
    if "tool_name" in data:
        result = data.get("result")
        content = result.get("content") if isinstance(result, Mapping) else None
        if isinstance(content, list):
            return [block for part in content if (block := _block(part)) is not None]
        return [TextBlock(text=result if isinstance(result, str) else json.dumps(result, ensure_ascii=False))]
    own = {name: value for name, value in data.items() if name != "metadata" or value}
    return [TextBlock(text=json.dumps(own, ensure_ascii=False))]


def _is_done(result: Any) -> bool:
    if type(result.done) is not bool:
        raise ValueError(f"the OpenEnv server sent 'done' as {result.done!r:.200}; it must be true or false")
    return bool(result.done)


def _block(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return TextBlock(text=json.dumps(part, ensure_ascii=False))
    if part.get("type") == "text":
        return TextBlock(text=str(part.get("text") or ""))
    if part.get("type") == "image":
        return ImageBlock(
            data=str(part.get("data") or ""), mimeType=str(part.get("mimeType") or part.get("mime_type") or "image/png")
        )
    return TextBlock(text=json.dumps(dict(part), ensure_ascii=False))
