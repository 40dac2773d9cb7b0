"""The commands of `openreward-gym`, put together."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TextIO

import typer
import typer.main

import openreward_gym
from openreward_gym.cli import check, collect, demo, environments, export, runs, tasks, view
from openreward_gym.cli.console import PROGRAM, make_libraries_quiet, print_error
from openreward_gym.cli.parameters import FAILED, INTERRUPTED, USAGE, SectionedCommand
from openreward_gym.cli.usage import ClickError, describe_usage_error
from openreward_gym.cli.wording import as_typed
from openreward_gym.errors import ConfigurationError, OpenRewardGymError

app = typer.Typer(
    name="openreward-gym",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
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
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


_ADVICE: Mapping[int, str] = {
    errno.EACCES: "; choose another path, or change its permissions",
    errno.EROFS: "; choose another path",
    errno.ENOSPC: "; free some space, or choose another disk",
    errno.EDQUOT: "; free some space, or choose another disk",
}
"""What to do about an error of the system, by its number."""

_COMMANDS: Mapping[str, Callable[..., None]] = {
    "demo": demo.demo,
    "serve": environments.serve,
    "tasks": tasks.tasks,
    "check": check.check,
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


def _silence(*streams: TextIO) -> None:
    """Discard what is written to streams whose other end is gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(null, stream.fileno())


def run_command(arguments: list[str] | None = None) -> None:
    """Run a command and exit. An error is one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A model may write what the terminal's encoding, or any encoding, does not have.
            stream.reconfigure(errors="backslashreplace")
    make_libraries_quiet()
    words = [word for word in words if word != "--debug"]
    try:
        code = app(words, prog_name=PROGRAM, obj={"debug": debug}, standalone_mode=False)
        # Typer returns the code of an Exit in place of raising it.
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except BrokenPipeError:
        # The reader of the output is gone (`| head`): write nothing more, not even at exit.
        _silence(sys.stdout)
        sys.exit(FAILED)
    except (KeyboardInterrupt, typer.Abort):
        print_error("interrupted")
        sys.exit(INTERRUPTED)
    except ClickError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]
        else:
            print_error(describe_usage_error(error, words))
        sys.exit(getattr(error, "exit_code", USAGE))
    except (OpenRewardGymError, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EIO:  # the terminal was closed
            _silence(sys.stdout, sys.stderr)
        if debug:
            raise
        if _is_of_stdout(error):
            _silence(sys.stdout)
        print_error(_describe(error, words))
        is_usage = isinstance(error, (ConfigurationError, UnicodeDecodeError)) and not getattr(error, "port_in_use", False)
        sys.exit(USAGE if is_usage else FAILED)


def _describe(error: Exception, words: Sequence[str]) -> str:
    """Return the message of an error. An error of the system without one names the file and what the system said."""
    if isinstance(error, UnicodeDecodeError):
        return f"a file is not UTF-8 text ({error}): --debug shows which one"
    if isinstance(error, OSError) and not isinstance(error, OpenRewardGymError) and error.strerror:
        place = "the output" if error.filename is None else os.fsdecode(error.filename)
        advice = _ADVICE.get(error.errno or 0, "")
        return f"{place}: {error.strerror[:1].lower()}{error.strerror[1:]}{advice}"
    message = str(error) or type(error).__name__
    # Only these messages are wholly ours: others may repeat what a server or a file says.
    return as_typed(message, parameters_of(words)) if isinstance(error, ConfigurationError) else message


def parameters_of(words: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of the command that words begin with, by name."""
    command = next((word for word in words if word in _COMMANDS), None)
    commands = vars(typer.main.get_command(app))["commands"]
    return {} if command is None else {param.name: param for param in commands[command].params}


def _is_of_stdout(error: Exception) -> bool:
    """Return True if stdout cannot be written, as on a full disk: the flush at exit would fail again."""
    return isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None
