"""`serve`, `tasks` and `check`: environments on this machine, what an environment has, and whether it is sound."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from openreward_gym.cli.options import FAILED, AsJson, BaseUrl, Environment, Secrets, Toolset, Variant, secrets_of

if TYPE_CHECKING:
    from openreward_gym.protocol.client import Client


def serve(
    environments: Annotated[
        list[str],
        typer.Argument(
            metavar="ENVIRONMENT",
            help="weather, ctf, reasoning; module:Class or file.py:Class; or a Gymnasium id.",
            show_default=False,
        ),
    ],
    port: Annotated[int, typer.Option(metavar="N", help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8080,
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    reload: Annotated[bool, typer.Option("--reload", help="Load environments anew when their files change.")] = False,
) -> None:
    """Serve environments on this machine until Ctrl-C, for whoever plays them or is writing one.

    Example: openreward-gym serve weather FrozenLake-v1 my_env.py:MyEnvironment --reload
    """
    from openreward_gym.serve import run

    run(environments, host=host, port=port or None, reload=reload, announce=lambda line: print(line, flush=True))


def tasks(
    environment: Environment,
    base_url: BaseUrl = None,
    variant: Variant = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show this split's first tasks too.", show_default=False)
    ] = None,
    task: Annotated[int | None, typer.Option(metavar="INDEX", help="Show this task's prompt too.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="How many tasks to show.", min=1)] = 5,
    as_json: AsJson = False,
) -> None:
    """Show what an environment has, for whoever is about to play it: splits, task counts, tools, and a task's prompt.

    Example: openreward-gym tasks weather --base-url http://127.0.0.1:8080 --split train --task 0
    """
    from openreward_gym.protocol import loop
    from openreward_gym.protocol.client import Client

    async def look() -> dict[str, Any]:
        async with Client(base_url) as client:
            return await _look(client, environment, variant, split, task, limit)

    found = loop.run(look())
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print_tasks(found)


async def _look(
    client: Client, environment: str, variant: str | None, split: str | None, task: int | None, limit: int
) -> dict[str, Any]:
    remote = client.environment(environment, variant)
    splits = await remote.splits()
    tools = await remote.tools()
    found: dict[str, Any] = {
        "environment": environment,
        "splits": [{"name": s.name, "type": s.type, "tasks": await remote.num_tasks(s.name)} for s in splits],
        "tools": [{"name": t.name, "description": t.description, "input_schema": t.input_schema} for t in tools],
        "terminal_tool": None if tools.terminal is None else {"name": tools.terminal.name, "arg": tools.terminal.arg},
    }
    chosen = split if split is not None else (splits[0].name if splits and task is not None else None)
    if chosen is not None:
        count = await remote.num_tasks(chosen)
        first = range(min(limit, count)) if task is None else [task]
        found["tasks"] = [{"split": chosen, "index": i, "spec": (await remote.task(chosen, i)).spec} for i in first]
        if task is not None:
            async with remote.session(split=chosen, index=task) as session:
                found["prompt"] = [{"role": m.role, "text": m.text} for m in await session.messages()]
    return found


def _print_tasks(found: dict[str, Any]) -> None:
    console = Console()
    table = Table("split", "type", "tasks", title=found["environment"], title_justify="left")
    for row in found["splits"]:
        table.add_row(row["name"], row["type"], str(row["tasks"]))
    console.print(table)
    for tool in found["tools"]:
        arguments = ", ".join((tool["input_schema"] or {}).get("properties", {}))
        console.print(f"[bold]{tool['name']}[/]({arguments})  ", end="")
        console.print((tool["description"] or "").split("\n")[0], markup=False, highlight=False)
    if found["terminal_tool"]:
        console.print("A plain message ends the episode.")
    for row in found.get("tasks", ()):
        console.print(f"{row['split']} {row['index']}: {json.dumps(row['spec'], ensure_ascii=False)}", markup=False)
    for message in found.get("prompt", ()):
        console.print(f"\n[{message['role']}]\n{message['text']}", markup=False, highlight=False)


def check(
    environment: Environment,
    base_url: BaseUrl = None,
    variant: Variant = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="The split to play. [default: the first]", show_default=False)
    ] = None,
    toolset: Toolset = None,
    secret: Secrets = None,
    as_json: AsJson = False,
) -> None:
    """Say whether an environment keeps the Open Reward Standard, for whoever writes or serves one.

    Some ten sessions are played, to look at tasks, prompts, tools, rewards, determinism and cleanup. Exit code 1: the report
    says what is wrong.

    Example: openreward-gym check weather --base-url http://127.0.0.1:8080
    """
    from openreward_gym.testing import check_environment

    given: dict[str, Any] = {"variant": variant, "split": split, "toolset": toolset, "secrets_env": secrets_of(secret)}
    found = check_environment(base_url, environment, **given)
    print(json.dumps(found.to_dict(), indent=2) if as_json else found)
    if not found.ok:
        raise typer.Exit(FAILED)
