"""Makes the page of the commands from the commands: `python tests/docs/commands.py` writes docs/reference/commands.md."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer.main

from openreward_gym import cli

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"
HEAD = """# Commands

Output goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 75 not complete (go on with
`--resume`). `--debug` shows tracebacks, and may stand anywhere; `--version` prints the version.
"""


def page() -> str:
    """The page's text."""
    commands = vars(typer.main.get_command(cli.app))["commands"]
    return HEAD + "".join(_section(name, command) for name, command in commands.items())


def _section(name: str, command: Any) -> str:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    about = "\n\n".join(" ".join(part.split()) for part in paragraphs if not part.startswith("Example:"))
    (example,) = (" ".join(part.split()).removeprefix("Example: ") for part in paragraphs if part.startswith("Example:"))
    rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
    table = "| | |\n|---|---|\n" + "\n".join(rows)
    return f"\n## {name}\n\n{about}\n\nExample: `{example}`\n\n{table}\n"


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
    PAGE.write_text(page(), encoding="utf-8")
