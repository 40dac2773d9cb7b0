"""Programs of the official client: each takes the client's module and the address of a server, and returns what it saw.

Only the module differs between `openreward` and `openreward_gym.compat`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gateway import KEY

FORMATS = (None, "openai", "openrouter", "anthropic", "google")


def module(sdk: Any, path: str) -> Any:
    """Return a module of the client by its path below the client's package."""
    return importlib.import_module(f"{sdk.__name__}.{path}")


@contextmanager
def named(sdk: Any, seen: list[Any]) -> Iterator[None]:
    """Note the class and the attributes of an error of the client."""
    errors = module(sdk, "api.errors")
    aiohttp = importlib.import_module("aiohttp")
    types = module(sdk, "api.environments.types")
    try:
        yield
    except errors.ToolCallError as error:
        seen.append(["ToolCallError", error.reason, error.detail, str(error)])
    except errors.ToolFailed as error:
        seen.append(["ToolFailed", error.message.rpartition(")")[2]])
    except errors.SessionTerminatedError as error:
        seen.append(["SessionTerminatedError", error.kind, bool(error.sid), error.reason.rpartition(")")[2]])
    except errors.ScoreGroupFailed as error:
        seen.append(["ScoreGroupFailed", error.message.rpartition(")")[2]])
    except errors.ScoreGroupUnsupported:
        seen.append("ScoreGroupUnsupported")
    except types.AuthenticationError:
        seen.append("AuthenticationError")
    except errors.TransportError as error:
        # The client's own where the official one has one, and aiohttp's where it lets that out.
        kind = "ClientResponseError" if isinstance(error, aiohttp.ClientResponseError) else type(error).__name__
        seen.append([kind, getattr(error, "status", None), getattr(error, "message", None)])
    except aiohttp.ClientResponseError as error:
        seen.append(["ClientResponseError", error.status, error.message])
    except ValueError:
        seen.append("ValueError")
    else:
        seen.append("no error")


def plain(value: Any) -> Any:
    """Return dataclasses as lists of their class's name and their fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, plain(dataclasses.asdict(value))]
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def sync_local(sdk: Any, url: str) -> Any:
    """A local server, sync: splits, tasks, tools, prompt, calls."""
    with sdk.OpenReward() as client:
        environment = client.environments.get("echo", base_url=url)
        tasks = environment.list_tasks(split="test")
        names = [environment.server, environment.namespace, environment.name, environment.variant, environment.deployment_name]
        seen: list[Any] = [names, environment.list_splits(), tasks[:3], environment.list_tools()]
        seen.append([tasks[0].deployment_name, environment.terminal_tool(), environment.is_assistant_message_final()])
        with environment.session(tasks[1]) as session:
            seen += [session.task, isinstance(session.sid, str), session.get_prompt(), session.list_tools()]
            seen += [session.call_tool("echo", {"text": "a"}), session.call_tool("count"), session.call_tool("image", {})]
            seen += [sorted(session.version()), session.terminal_tool(), session.supports_score_group()]
            seen.append(session.call_tool(tool_name="finish", input={"text": "1"}))
    return seen


def async_local(sdk: Any, url: str) -> Any:
    """A local server, async: several sessions at once."""

    async def episode(environment: Any, task: Any) -> Any:
        async with environment.session(task=task) as session:
            prompt = await session.get_prompt()
            outputs = [await session.call_tool("echo", {"text": str(number)}) for number in range(3)]
            return [prompt, outputs, session.deployment, session.task, session.split, session.index, session.toolset_name]

    async def main() -> Any:
        client = sdk.AsyncOpenReward("sk-any")
        async with client.environments as environments:
            environment = environments.get(name="echo", base_url=url)
            seen = [environment.deployment_name, await environment.list_splits(), await environment.num_tasks("train")]
            tasks = await environment.get_task_range("train", 0, 4)
            return [
                seen,
                await environment.list_tools(format="anthropic"),
                *await asyncio.gather(*(episode(environment, t) for t in tasks)),
            ]

    return asyncio.run(main())


def ranges(sdk: Any, url: str) -> Any:
    """Tasks by number: an environment with very many, negative and open ranges, and sessions by split and index."""
    with sdk.OpenReward(base_url="https://openreward.example") as client:
        environment = client.environments.get("large", "large", url)
        seen: list[Any] = [environment.num_tasks("train"), environment.get_task("train", 7), environment.variant]
        for start, stop in ((0, 3), (-2, None), (None, 2), (-4, -2), (9_998, 20_000), (5, 5)):
            seen.append(environment.get_task_range("train", start=start, stop=stop))
        for index in range(2):
            with environment.session(split="train", index=index) as session:
                seen += [session.task, session.get_prompt(), session.call_tool("answer", {"text": str(index)})]
        with named(sdk, seen):
            environment.session(split="train")
        with named(sdk, seen):
            environment.session()
        with named(sdk, seen):
            environment.session(environment.get_task("train", 1), split="train", index=1)
    return seen


def conversations(sdk: Any, url: str) -> Any:
    """A conversation as the task, in all formats; the prompt of the same task; and a prompt as a conversation."""
    with sdk.OpenReward("sk-any") as client:
        environment = client.environments.get("dialogue", variant="dialogue", base_url=url)
        with environment.session(split="train", index=2) as session:
            seen = [session.get_messages(format=format) for format in FORMATS]
        with environment.session(split="train", index=2) as session:
            seen += [session.get_prompt(), session.get_messages()]
            with named(sdk, seen):
                session.get_messages(format="gemini")
        with client.environments.get("echo", base_url=url).session(split="train", index=2) as session:
            seen += [session.get_messages(format) for format in FORMATS]
    return seen


def tool_formats(sdk: Any, url: str) -> Any:
    """The tools of the environment and of a session, in all formats."""
    with sdk.OpenReward() as client:
        environment = client.environments.get("echo", base_url=url)
        formats = (None, "openai", "anthropic", "google")
        seen: list[Any] = [environment.list_tools(format=format) for format in formats]
        with environment.session(split="train", index=0) as session:
            seen += [session.list_tools(format) for format in formats]
        with named(sdk, seen):
            environment.list_tools(format="gemini")
    return seen


def terminal(sdk: Any, url: str) -> Any:
    """A plain message as the answer, and an environment that takes none."""
    with sdk.OpenReward() as client:
        environment = client.environments.get("dialogue", variant="dialogue", base_url=url)
        seen: list[Any] = [environment.terminal_tool(), environment.is_assistant_message_final()]
        with environment.session(split="train", index=2) as session:
            seen += [session.list_tools(), session.terminal_tool(), session.is_assistant_message_final()]
            seen.append(session.call_terminal_tool("2"))
            with named(sdk, seen):
                session.call_tool("look")
        with environment.session(split="train", index=2) as session:
            seen.append(session.call_terminal_tool())
        with client.environments.get("echo", base_url=url).session(split="train", index=0) as session, named(sdk, seen):
            session.call_terminal_tool("2")
    return seen


def groups(sdk: Any, url: str) -> Any:
    """Groups of rollouts that the environment compares; an environment that does not; a judge that fails."""
    types = module(sdk, "api.environments.types")

    def said(text: str) -> Any:
        return sdk.Message(role="assistant", blocks=[types.TextBlock(text)])

    call = sdk.ToolCallBlock(id="c1", name="look", input={"a": [None, 1.5]})
    result = sdk.ToolResultBlock(tool_call_id="c1", blocks=[types.TextBlock("seen")])
    rich = [
        sdk.Message("user", [types.TextBlock("Say 5.")]),
        sdk.Message("assistant", [sdk.ReasoningBlock("well", signature="s"), call]),
        sdk.Message("user", [result]),
        said("five"),
    ]
    with sdk.OpenReward() as client:
        environment = client.environments.get("dialogue", variant="dialogue", base_url=url)
        seen: list[Any] = [environment.supports_score_group()]
        with environment.session(split="train", index=2) as session:
            seen.append(session.supports_score_group())
            candidates = [[said("a")], sdk.GroupCandidate([said("bcd")], metadata={"sample": 1}), rich]
            seen.append(session.score_group(candidates))
            with named(sdk, seen):
                session.score_group([[said("refuse")]])
            seen.append(session.score_group(candidates[:1]))
        with client.environments.get("echo", base_url=url).session(split="train", index=0) as session:
            seen.append(session.supports_score_group())
            with named(sdk, seen):
                session.score_group([[said("a")]])
    return seen


def mistakes(sdk: Any, url: str) -> Any:
    """Wrong calls, a tool that raises, a session after it, a finished episode."""
    seen: list[Any] = []
    with sdk.OpenReward() as client:
        environment = client.environments.get("echo", base_url=url)
        with environment.session(split="train", index=0) as session:
            for name, given in (
                ("fly", {}),
                ("echo", {"text": 7}),
                ("echo", {}),
                ("echo", "text"),
                ("echo", {1: "a"}),
                ("echo", None),
            ):
                with named(sdk, seen):
                    session.call_tool(name, given)
            seen.append(session.call_tool("echo", {"text": "still there"}))
            with named(sdk, seen):
                session.call_tool("fail", {"text": "boom"})
            with named(sdk, seen):
                session.call_tool("echo", {"text": "after"})
            with named(sdk, seen):
                session.get_prompt()
        with environment.session(split="train", index=0) as session:
            session.call_tool("finish", {"text": "0"})
            with named(sdk, seen):
                session.call_tool("echo", {"text": "late"})
    return seen


def tasks_of_others(sdk: Any, url: str) -> Any:
    """A task of one environment, played through another one of the same server; a task of no environment."""
    task = module(sdk, "api.environments.types").Task
    seen: list[Any] = []
    with sdk.OpenReward() as client:
        echo = client.environments.get("echo", base_url=url)
        given = client.environments.get("dialogue", variant="dialogue", base_url=url).get_task("train", 2)
        with echo.session(task=given) as session:
            seen += [session.list_tools(), session.terminal_tool(), session.call_terminal_tool("2")]
        with named(sdk, seen):
            echo.session(task=task("echo", "nosuch", {"number": 1}, None)).__enter__()
    return [entry[:2] if isinstance(entry, list) and entry[0] == "ClientResponseError" else entry for entry in seen]


def refusals(sdk: Any, url: str) -> Any:
    """Requests that the server refuses: splits, tasks, variants, a setup that raises, values that the client refuses."""
    seen: list[Any] = []
    with sdk.OpenReward() as client:
        environment = client.environments.get("echo", base_url=url)
        for request in (
            lambda: environment.get_task("train", 1_000_000),
            lambda: client.environments.get("echo", "nosuch", url).list_splits(),
            lambda: client.environments.get("broken", "broken", url).session(split="train", index=0).__enter__(),
            lambda: environment.session(split="train", index=0, secrets={"judge": "no-host-is-known"}),
            lambda: environment.session(split="train", index=0, toolset="nosuch"),
        ):
            with named(sdk, seen):
                request()  # type: ignore[no-untyped-call]
        with named(sdk, seen):
            client.environments.get("echo", base_url=url).get_task_difficulty()
    return seen


def toolsets(sdk: Any, url: str) -> Any:
    """A toolset of the server beside the environment's own tools; secrets with and without hosts."""
    secrets = {"judge_api_key": ("twelve-chars", ["judge.example.com"]), "openai_api_key": "an-openai-key"}
    with sdk.OpenReward("sk-any-0123456789") as client:
        environment = client.environments.get("echo", base_url=url)
        with environment.session(split="train", index=0, secrets=secrets, env_overrides={"MODE": "strict"}) as session:
            seen = [session.call_tool("secret", {"text": name}).blocks[0].text for name in (*secrets, "api_key", "none")]
        guarded = client.environments.get("guarded", variant="guarded", base_url=url)
        with guarded.session(guarded.get_task("train", 0), secrets) as session:
            seen.append(session.list_tools())
    return seen


def gone(sdk: Any, url: str) -> Any:
    """No server at the address."""
    seen: list[Any] = []
    with sdk.OpenReward() as client, named(sdk, seen):
        client.environments.get("echo", base_url="http://127.0.0.1:9").list_splits()
    return [entry[0] for entry in seen]


def hosted(sdk: Any, url: str) -> Any:
    """The hosted platform's wire, found by the environment variables: a deployment, its required secrets, task difficulty."""
    with sdk.OpenReward(api_key=KEY) as client:
        environment = client.environments.get("owner/name")
        tasks = environment.list_tasks("train")
        seen: list[Any] = [environment.deployment_name, environment.namespace, environment.list_splits(), len(tasks), tasks[2]]
        seen += [environment.list_required_secrets(), environment.get_task_difficulty()]
        seen.append(environment.get_task_difficulty(split="train", min_model_params=7, training_stage="rl"))
        with environment.session(task=tasks[2]) as session:
            seen += [session.get_prompt(), session.call_tool("echo", {"text": "hosted"})]
        seen.append([client.base_url, client.session_base_url, client.api_key])
        with named(sdk, seen):
            client.environments.get("owner/other").list_required_secrets()
    with sdk.OpenReward(api_key="sk-wrong-0123456789") as other, named(sdk, seen):
        other.environments.get("owner/name").list_splits()
    return seen


PROGRAMS: tuple[Callable[[Any, str], Any], ...] = (
    *(
        sync_local,
        async_local,
        ranges,
        tasks_of_others,
        conversations,
        tool_formats,
        terminal,
        groups,
        mistakes,
        refusals,
        toolsets,
        gone,
    ),
)
