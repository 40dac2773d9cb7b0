"""The command `tasks`: an environment's splits, tasks, tools and prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from openreward_gym import jsonio
from openreward_gym.cli.console import make_console, make_table, print_error, print_json
from openreward_gym.cli.parameters import FAILED, AsJson, Environment, Variant, parse_options, with_options
from openreward_gym.cli.secrets import required_secrets_of, secret_advice
from openreward_gym.errors import OpenRewardGymError
from openreward_gym.options import ClientOptions, SessionOptions
from openreward_gym.protocol.environment import RemoteEnvironment
from openreward_gym.types import Message, TextBlock, ToolSpec

WITHOUT_EFFECT = ("step_timeout_s", "episode_timeout_s")
"""Options of a session that have no effect where no tool is called for long."""
_PANEL = "Environment"


@with_options(SessionOptions, without=WITHOUT_EFFECT)
@with_options(ClientOptions)
def tasks(
    environment: Environment,
    variant: Variant = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show this split's first tasks.", rich_help_panel=_PANEL)
    ] = None,
    task: Annotated[
        int | None,
        typer.Option(
            metavar="INDEX", help="Show the prompt of this task, and the tools that it adds.", min=0, rich_help_panel=_PANEL
        ),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="Number of tasks to show.", min=1, rich_help_panel=_PANEL)] = 5,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Show an environment's splits, tasks, tools and prompts.

    With --task a session is opened, as an episode would be: secrets and a toolset are given to it. Exit code 1: it could not be
    opened; what is known without a session is shown all the same.

    Example: openreward-gym tasks weather --base-url http://127.0.0.1:8080 --split train --task 0
    """
    from openreward_gym.protocol import loop
    from openreward_gym.protocol.client import Client

    connection, session = parse_options(ClientOptions, options), parse_options(SessionOptions, options)
    # A toolset shows its tools in a session only.
    opened = task if task is not None else (0 if session.toolset is not None else None)
    request = Request(split, task, limit, opened, session)

    async def describe() -> tuple[dict[str, Any], OpenRewardGymError | None]:
        async with Client(**connection.to_keywords()) as client:
            return await request.describe(client.environment(environment, variant))

    description, error = loop.run(describe())
    required = required_secrets_of(environment, connection) if error is not None else []
    if as_json:
        print_json(description)
    else:
        _print_tasks(make_console(), description)
    if error is not None:
        advice = secret_advice(str(error), required, session.secrets_env or {})
        where = f"task {opened} of {request.split!r} could not be opened"
        print_error(f"{where}: {error}{'; ' + advice if advice else ''}")
        raise typer.Exit(FAILED)


@dataclass
class Request:
    """What `tasks` shows: a split's first tasks or one task, and the session to open for it."""

    split: str | None
    task: int | None
    limit: int
    opened: int | None
    session: SessionOptions
    description: dict[str, Any] = field(default_factory=dict)

    async def describe(self, remote: RemoteEnvironment) -> tuple[dict[str, Any], OpenRewardGymError | None]:
        """Return what the environment has, and the error if the session could not be opened."""
        splits, tools = await remote.splits(), await remote.tools()
        if self.split is None and splits and self.opened is not None:
            self.split = splits[0].name
        description: dict[str, Any] = {
            "environment": remote.name,
            "variant": remote.variant,
            "splits": [{"name": s.name, "type": s.type, "tasks": await remote.num_tasks(s.name)} for s in splits],
            "tools": [_tool(tool) for tool in tools],
            "terminal_tool": None if tools.terminal is None else {"name": tools.terminal.name, "arg": tools.terminal.arg},
        }
        if self.split is None:
            return description, None
        description["tasks"] = []
        count = await remote.num_tasks(self.split)
        for index in range(min(self.limit, count)) if self.task is None else [self.task]:
            task = await remote.task(self.split, index)
            description["tasks"].append({"split": self.split, "index": index, "spec": task.spec})
        if self.opened is None:
            return description, None
        shared = {tool.name for tool in tools}
        try:
            async with remote.session(split=self.split, index=self.opened, **self.session.to_keywords()) as session:
                messages = await session.messages()
                own = await session.tools()
        except OpenRewardGymError as error:
            return {**description, "error": str(error)}, error
        description["task_tools"] = [_tool(tool) for tool in own if tool.name not in shared]
        if self.task is not None:
            description["prompt"] = [{"role": message.role, "text": _text(message)} for message in messages]
        return description, None


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}


def _text(message: Message) -> str:
    """Return the text of a message, with the names of parts that are no text in brackets."""
    if all(isinstance(block, TextBlock) for block in message.blocks):
        return message.text
    return "\n".join(
        block.text if isinstance(block, TextBlock) else f"[{type(block).__name__.removesuffix('Block').lower()}]"
        for block in message.blocks
    )


def _print_tasks(console: Console, description: dict[str, Any]) -> None:
    variant = f" ({description['variant']})" if description["variant"] else ""
    console.print(Text(_printable(f"{description['environment']}{variant}"), style="bold"))
    table = make_table("split", "type", "tasks#")
    for row in description["splits"]:
        table.add_row(Text(_printable(row["name"])), Text(_printable(row["type"])), str(row["tasks"]))
    console.print(table)
    _print_tools(console, "Tools", description["tools"])
    if description["terminal_tool"]:
        console.print("  A plain message ends the episode.")
    if description.get("task_tools"):
        _print_tools(console, "Further tools of this task's session", description["task_tools"])
    if "tasks" in description:
        console.print("\nTasks")
    for row in description.get("tasks", ()):
        spec = json.dumps(row["spec"], ensure_ascii=False)
        _print_indented(console, Text(_printable(f"{row['split']} {row['index']}: {spec}")))
    if "prompt" in description:
        console.print("\nPrompt")
    for message in description.get("prompt", ()):
        _print_indented(console, Text(_printable(f"[{message['role']}]")))
        _print_indented(console, Text(_printable(message["text"])))


def _print_tools(console: Console, title: str, tools: list[dict[str, Any]]) -> None:
    console.print(title)
    for tool in tools:
        properties = (tool["input_schema"] or {}).get("properties")
        arguments = ", ".join(map(str, properties)) if isinstance(properties, dict) else ""
        first_line = (tool["description"] or "").split("\n")[0]
        name = Text(_printable(tool["name"]), style="bold")
        _print_indented(console, name.append(_printable(f"({arguments})  {first_line}".rstrip()), style="not bold"))


def _print_indented(console: Console, text: Text) -> None:
    """Print a text that wraps at the terminal's width, without blanks at the ends of lines."""
    for line in text.wrap(console, max(20, console.width - 2)):
        line.rstrip()
        console.print(Padding(line, (0, 0, 0, 2), expand=False), soft_wrap=True)


def _printable(text: str) -> str:
    """Return a server's text with lone surrogates and control characters as escapes, which a terminal can show."""
    shown = str(jsonio.escape_surrogates(text))
    return "".join(
        character if character.isprintable() or character in "\n\t" else character.encode("unicode_escape").decode()
        for character in shown
    )
