"""The commands `serve`, `tasks` and `check`: environments on this machine, an environment's content, conformance checks."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from openreward_gym import jsonio
from openreward_gym.cli.parameters import FAILED, AsJson, Environment, parse_options, with_options
from openreward_gym.options import ClientOptions, SessionOptions
from openreward_gym.processes import raise_open_file_limit

SERVED_CONNECTIONS = 8192
"""Number of open files that `serve` requests from the system: a connection per session, and what environments open."""
_PANEL = "Environment"
_UNUSED = ("step_timeout_s", "episode_timeout_s")
Variant = Annotated[str | None, typer.Option(metavar="NAME", help="Variant of the environment.", rich_help_panel=_PANEL)]


def serve(
    environments: Annotated[
        list[str],
        typer.Argument(metavar="ENVIRONMENT", help="weather, ctf, reasoning; module:Class or file.py:Class; or a Gymnasium id."),
    ],
    port: Annotated[int, typer.Option(metavar="N", help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8080,
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    reload: Annotated[bool, typer.Option("--reload", help="Reload environments when their files change.")] = False,
) -> None:
    """Serve environments on this machine until Ctrl-C.

    Example: openreward-gym serve weather FrozenLake-v1 my_env.py:MyEnvironment --reload
    """
    from openreward_gym.serve import run

    raise_open_file_limit(SERVED_CONNECTIONS)
    run(environments, host=host, port=port or None, reload=reload, announce=lambda line: print(line, flush=True))


@with_options(SessionOptions, without=_UNUSED)
@with_options(ClientOptions)
def tasks(
    environment: Environment,
    variant: Variant = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show this split's first tasks.", rich_help_panel=_PANEL)
    ] = None,
    task: Annotated[
        int | None, typer.Option(metavar="INDEX", help="Show the prompt of this task.", rich_help_panel=_PANEL)
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="Number of tasks to show.", min=1, rich_help_panel=_PANEL)] = 5,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Show an environment's splits, tasks, tools and prompts.

    Example: openreward-gym tasks weather --base-url http://127.0.0.1:8080 --split train --task 0
    """
    from openreward_gym.protocol import loop
    from openreward_gym.protocol.client import Client

    connection, session_options = parse_options(ClientOptions, options), parse_options(SessionOptions, options)

    async def describe() -> dict[str, Any]:
        async with Client(**connection.to_keywords()) as client:
            remote = client.environment(environment, variant)
            splits, tools = await remote.splits(), await remote.tools()
            description: dict[str, Any] = {
                "environment": environment,
                "splits": [{"name": s.name, "type": s.type, "tasks": await remote.num_tasks(s.name)} for s in splits],
                "tools": [{"name": t.name, "description": t.description, "input_schema": t.input_schema} for t in tools],
                "terminal_tool": None if tools.terminal is None else {"name": tools.terminal.name, "arg": tools.terminal.arg},
            }
            name = split if split is not None else (splits[0].name if splits and task is not None else None)
            if name is not None:
                indices = range(min(limit, await remote.num_tasks(name))) if task is None else [task]
                description["tasks"] = [{"split": name, "index": i, "spec": (await remote.task(name, i)).spec} for i in indices]
                if task is not None:
                    async with remote.session(split=name, index=task, **session_options.to_keywords()) as session:
                        description["prompt"] = [{"role": m.role, "text": m.text} for m in await session.messages()]
            return description

    description = loop.run(describe())
    if as_json:
        print(json.dumps(description, indent=2))
    else:
        _print_tasks(description)


def _print_tasks(description: dict[str, Any]) -> None:
    console = Console()
    table = Table("split", "type", "tasks", title=description["environment"], title_justify="left")
    for row in description["splits"]:
        table.add_row(Text(_printable(row["name"])), Text(_printable(row["type"])), str(row["tasks"]))
    console.print(table)
    for tool in description["tools"]:
        properties = (tool["input_schema"] or {}).get("properties")
        arguments = ", ".join(properties) if isinstance(properties, dict) else ""
        console.print(Text(_printable(tool["name"]), style="bold"), end="")
        first_line = (tool["description"] or "").split("\n")[0]
        console.print(_printable(f"({arguments})  {first_line}"), markup=False, highlight=False)
    if description["terminal_tool"]:
        console.print("A plain message ends the episode.")
    for row in description.get("tasks", ()):
        spec = json.dumps(row["spec"], ensure_ascii=False)
        console.print(_printable(f"{row['split']} {row['index']}: {spec}"), markup=False)
    for message in description.get("prompt", ()):
        console.print(_printable(f"\n[{message['role']}]\n{message['text']}"), markup=False, highlight=False)


def _printable(text: str) -> str:
    """Return a server's text with lone surrogates as escapes, which a terminal can show."""
    return str(jsonio.escape_surrogates(text))


@with_options(SessionOptions, without=_UNUSED)
@with_options(ClientOptions)
def check(
    environment: Environment,
    variant: Variant = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split to play. [default: the first]", rich_help_panel=_PANEL)
    ] = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Check that an environment conforms to the Open Reward Standard.

    The checks play about ten sessions: tasks, prompts, tools, rewards, determinism and cleanup. Exit code 1: a check failed, see
    the report.

    Example: openreward-gym check weather --base-url http://127.0.0.1:8080
    """
    from openreward_gym.testing import check_environment

    client, session = parse_options(ClientOptions, options), parse_options(SessionOptions, options)
    report = check_environment(client.base_url, environment, variant=variant, split=split, client=client, session=session)
    print(json.dumps(report.to_dict(), indent=2) if as_json else report)
    if not report.ok:
        raise typer.Exit(FAILED)
