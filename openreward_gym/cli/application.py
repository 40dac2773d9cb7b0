"""The commands of `openreward-gym`, put together."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, TextIO

import typer

import openreward_gym
from openreward_gym.cli import collect, demo, environments, export, orwd, runs, view
from openreward_gym.cli.parameters import FAILED, USAGE, SectionedCommand
from openreward_gym.errors import ConfigurationError, OpenRewardGymError

app = typer.Typer(
    name="openreward-gym",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: rich's boxes leave half the room in 80 columns, and rich would read "[default: ...]" as markup.
    rich_markup_mode=None,
    help="OpenReward environments as gymnasium.Env: serve them, collect rollouts, export training data.",
)


def _print_version(flag: bool) -> None:
    if flag:
        print(f"openreward-gym {openreward_gym.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks. May stand anywhere.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


_COMMANDS: Mapping[str, Callable[..., None]] = {
    "demo": demo.demo,
    "serve": environments.serve,
    "tasks": environments.tasks,
    "check": environments.check,
    "collect": collect.collect,
    "report": runs.report,
    "merge": runs.merge,
    "export": export.export,
    "import": runs.import_rollouts,
    "upload": runs.upload,
    "view": view.view,
}
for _name, _command in _COMMANDS.items():
    short_help = (_command.__doc__ or "").partition("\n")[0]
    app.command(_name, cls=SectionedCommand, short_help=short_help)(_command)
orwd.register(app)


def _silence(*streams: TextIO) -> None:
    """Discard what is written to streams whose other end is gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(null, stream.fileno())


def run_command(arguments: list[str] | None = None) -> None:
    """Run a command and exit. An error is one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A model may write what the terminal's encoding, or any encoding, does not have.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app([word for word in words if word != "--debug"], prog_name="openreward-gym", obj={"debug": debug})
    except BrokenPipeError:
        # The reader of the output is gone (`| head`): write nothing more, not even at exit.
        _silence(sys.stdout)
        sys.exit(FAILED)
    except (OpenRewardGymError, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EIO:  # the terminal was closed
            _silence(sys.stdout, sys.stderr)
        if debug:
            raise
        message = str(error)
        if isinstance(error, UnicodeDecodeError):
            message = f"a file is not UTF-8 text ({error}): --debug shows which one"
        print(f"openreward-gym: {message}", file=sys.stderr)
        sys.exit(USAGE if isinstance(error, (ConfigurationError, UnicodeDecodeError)) else FAILED)
