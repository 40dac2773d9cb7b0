"""Pages generated from the code: commands, rooms, benchmarks. `python tests/docs/generated.py` writes them."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer.main

from openreward_gym import cli

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "openreward_gym"
REFERENCE = ROOT / "docs" / "reference"
SINGLE_MODULES = ("errors", "options")
"""Rooms of one file. Other modules beside the folders are private."""
COMMANDS = """# Commands

Output goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 75 incomplete (continue with
`--resume`). `--debug` shows tracebacks and may stand anywhere; `--version` prints the version.
"""
BENCHMARKS = """# Benchmarks

Each file is one command. Its docstring says what it measures and, where figures are kept, the results and the machine. Ratios are
measured side by side, in turns, within one run. Absolute rates were measured on a shared machine; a dedicated one gives more.
"""
FIGURES = "<!-- --8<-- [start:wire] -->"
"""The marker in benchmarks/README.md below which nothing is generated."""


INTEGRATIONS = [
    "trl.grpo",
    "trl.async_grpo",
    "verifiers.load_environment",
    "skyrl.write_dataset",
    "skyrl.register",
    "skyrl.generator",
    "verl.prepare",
    "tinker.tasks.dataset",
    "nemo_gym.write_dataset",
    "nemo_gym.write_servers",
    "inspect.task",
    "inspect.solver",
    "inspect.scorer",
    "openenv.app",
    "openenv.environment",
]
"""The functions of the integrations that a user calls."""


def rooms() -> dict[str, list[str]]:
    """Return the public names of each room: each folder of the package, or module of `SINGLE_MODULES`, with an `__all__`."""
    names = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    names += [name for name in SINGLE_MODULES if (PACKAGE / f"{name}.py").exists()]
    rooms = {name: importlib.import_module(f"openreward_gym.{name}") for name in sorted(names)}
    # Names of the SDK's own objects are documented there.
    public = {name: set(getattr(room, "__all__", ())) - set(getattr(room, "PASSED_THROUGH", ())) for name, room in rooms.items()}
    return {name: sorted(exported, key=lambda one: (one.lower(), one)) for name, exported in public.items() if exported}


def room_page(room: str) -> str:
    """Return docs/reference/ROOM.md: the room's docstring and its public names, which the site's builder fills in."""
    title = f"# `openreward_gym.{room}`\n\n::: openreward_gym.{room}\n    options:\n"
    options = "      members: false\n      show_root_heading: false\n      show_root_toc_entry: false\n"
    names = [*rooms()[room], *(INTEGRATIONS if room == "integrations" else ())]
    return title + options + "".join(f"\n::: openreward_gym.{room}.{name}\n" for name in names)


def commands() -> str:
    """Return docs/reference/commands.md: each command with its options."""
    registered = vars(typer.main.get_command(cli.app))["commands"]
    return COMMANDS + "".join(_section(name, command) for name, command in registered.items())


def benchmarks() -> str:
    """Return docs/benchmarks.md: the docstring of each benchmark, which the site's builder fills in, and the wire's figures."""
    shown = "".join(f"\n::: benchmarks.{name}\n    options:\n      members: false\n" for name in _benchmarks())
    return f'{BENCHMARKS}{shown}\n--8<-- "benchmarks/README.md:wire"\n'


def readme_of_benchmarks() -> str:
    """Return benchmarks/README.md: a table of the benchmarks, and below it the figures as they stand there."""
    rows = "".join(f"| [`{name}.py`]({name}.py) | {first_line} |\n" for name, first_line in _benchmarks().items())
    _, marker, figures = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8").partition(FIGURES)
    return f"{BENCHMARKS}\n| | |\n|---|---|\n{rows}\n{marker}{figures}"


def sdk_names() -> str:
    """Return docs/compatibility-sdk.md: what there is of each name of the official SDK."""
    servers = str(ROOT / "tests" / "servers")
    if servers not in sys.path:
        sys.path.insert(0, servers)
    table: str = importlib.import_module("sdk_table").page()
    return table


PAGES: dict[Path, Callable[[], str]] = {
    REFERENCE / "commands.md": commands,
    **{REFERENCE / f"{room}.md": functools.partial(room_page, room) for room in rooms()},
    ROOT / "docs" / "benchmarks.md": benchmarks,
    ROOT / "docs" / "compatibility-sdk.md": sdk_names,
    ROOT / "benchmarks" / "README.md": readme_of_benchmarks,
}


def _benchmarks() -> dict[str, str]:
    """Return the first sentence of each benchmark by name. A file whose docstring names no command is part of another."""
    sentences = {}
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if f"python benchmarks/{path.name}" in docstring:
            sentence = " ".join(docstring.split("\n\n")[0].split())
            sentences[path.stem] = re.sub(r": `python benchmarks/.*`\.?$", ".", sentence).replace("|", "\\|")
    return sentences


def _section(name: str, command: Any) -> str:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    about = "\n\n".join(" ".join(part.split()) for part in paragraphs if not part.startswith("Example:"))
    examples = [" ".join(part.split()).removeprefix("Example: ") for part in paragraphs if part.startswith("Example:")]
    shown = "\n\n".join(f"Example: `{example}`" for example in examples)
    rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
    table = "| | |\n|---|---|\n" + "\n".join(rows)
    return f"\n## {name}\n\n{about}\n\n{shown}\n\n{table}\n"


def _row(parameter: Any) -> str:
    is_option = parameter.param_type_name == "option"
    name = ", ".join([*parameter.opts, *parameter.secondary_opts]) if is_option else parameter.name.upper()
    about = (getattr(parameter, "help", None) or "").strip()
    if parameter.required:
        about += " Required."
    elif parameter.show_default and parameter.default not in (None, False):
        about += f" [default: {parameter.default}]"
    return f"| `{name}` | {about.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    for path, make in PAGES.items():
        path.write_text(make(), encoding="utf-8")
