"""Pages that are made of the code: the commands, the benchmarks. `python tests/docs/generated.py` writes them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer.main

from openreward_gym import cli

ROOT = Path(__file__).parents[2]
COMMANDS = """# Commands

Output goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 75 not complete (go on with
`--resume`). `--debug` shows tracebacks, and may stand anywhere; `--version` prints the version.
"""


BENCHMARKS = """# Benchmarks

Each file is one command. Its docstring says what it measures and, where figures are kept, what it gave on which machine. Ratios
are measured side by side, in turn, within one run; rates of a machine that is shared are not what a free one gives.
"""


def commands() -> str:
    """docs/reference/commands.md: every command with its options."""
    there = vars(typer.main.get_command(cli.app))["commands"]
    return COMMANDS + "".join(_section(name, command) for name, command in there.items())


def benchmarks() -> str:
    """docs/benchmarks.md: every benchmark's docstring, which the site's builder fills in."""
    shown = "".join(f"\n::: benchmarks.{name}\n    options:\n      members: false\n" for name in _benchmarks())
    return BENCHMARKS + shown


def readme_of_benchmarks() -> str:
    """Return benchmarks/README.md: the list of benchmarks, and the wire's figures, which are kept in that file."""
    rows = "".join(f"| [`{name}.py`]({name}.py) | {first_line} |\n" for name, first_line in _benchmarks().items())
    _, heading, figures = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8").partition("## The wire\n")
    return f"{BENCHMARKS}\n| | |\n|---|---|\n{rows}\n{heading}{figures}"


PAGES: dict[Path, Callable[[], str]] = {
    ROOT / "docs" / "reference" / "commands.md": commands,
    ROOT / "docs" / "benchmarks.md": benchmarks,
    ROOT / "benchmarks" / "README.md": readme_of_benchmarks,
}


def _benchmarks() -> dict[str, str]:
    """The first sentence of every benchmark, by name; a file whose docstring names no command is a part of another."""
    found = {}
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if f"python benchmarks/{path.name}" in docstring:
            sentence = " ".join(docstring.split("\n\n")[0].split())
            found[path.stem] = re.sub(r": `python benchmarks/.*`\.?$", ".", sentence).replace("|", "\\|")
    return found


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
    for path, make in PAGES.items():
        path.write_text(make(), encoding="utf-8")
