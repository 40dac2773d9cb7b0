"""The same, from a shell: `openreward-gym --help`.

Exit codes: 0 done, 1 failed, 2 usage, 75 incomplete. Output goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.core import TyperCommand

import openreward_gym
from openreward_gym.cli.collecting import collect
from openreward_gym.cli.environments import check, serve, tasks
from openreward_gym.cli.exporting import Sectioned, export
from openreward_gym.cli.options import FAILED, USAGE, check_folder
from openreward_gym.cli.runs import ImportCommand, import_rollouts, merge, report, upload
from openreward_gym.cli.viewing import view
from openreward_gym.errors import ConfigurationError, OpenRewardGymError

app = typer.Typer(
    name="openreward-gym",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain: in 80 columns twice as much fits as in rich's boxes, and "[default: ...]" in a help text is no markup.
    rich_markup_mode=None,
    help="OpenReward environments as gymnasium.Env: serve them, collect rollouts, export training data.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"openreward-gym {openreward_gym.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def demo(
    output: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the runs and the dataset go. [default: runs/demo-TIME]", show_default=False),
    ] = None,
) -> None:
    """Go the whole way once on this machine, for whoever is new: serve, collect, report, export.

    Example: openreward-gym demo
    """
    from openreward_gym.cli import demo as the_demo

    check_folder("--output", output)

    the_demo.run(output, Console())


def _add(command: Callable[..., None], name: str | None = None, cls: type[TyperCommand] = TyperCommand) -> None:
    # In the list of commands: what it does, in one line of 80 columns. For whom, its own help says.
    does = (command.__doc__ or "").partition(", for whoever")[0]
    app.command(name, cls=cls, short_help=f"{does}.")(command)


for _command in (demo, serve, tasks, check, collect, report, merge):
    _add(_command)
_add(export, cls=Sectioned)
_add(import_rollouts, "import", cls=ImportCommand)
_add(upload)
_add(view)


def main(arguments: list[str] | None = None) -> None:
    """The entry point: runs a command and exits, with one line for what went wrong."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        app([argument for argument in given if argument != "--debug"], prog_name="openreward-gym")
    except BrokenPipeError:
        # The reader has gone (`| head`): nothing more to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except (OpenRewardGymError, OSError) as error:
        if debug:
            raise
        print(f"openreward-gym: {error}", file=sys.stderr)
        sys.exit(USAGE if isinstance(error, ConfigurationError) else FAILED)
    except UnicodeDecodeError as error:
        if debug:
            raise
        print(f"openreward-gym: a file that was given is not text in UTF-8 ({error}): --debug shows which", file=sys.stderr)
        sys.exit(USAGE)
