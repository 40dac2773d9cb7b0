"""The command `check`: conformance checks of an environment."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openreward_gym import jsonio
from openreward_gym.cli.console import output_width, print_error, print_json
from openreward_gym.cli.parameters import FAILED, AsJson, Environment, Variant, parse_options, with_options
from openreward_gym.cli.secrets import required_secrets_of, secret_advice
from openreward_gym.cli.tasks import WITHOUT_EFFECT
from openreward_gym.cli.wording import as_typed
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import ClientOptions, SessionOptions
from openreward_gym.terminal import has_control_codes

if TYPE_CHECKING:
    from openreward_gym.testing import CheckProgress, ConformanceReport

LINE_EVERY_S = 10.0
"""Seconds between two lines in a log about one check that takes long."""
_PANEL = "Checks"


def _option(*names: str, **details: Any) -> Any:
    return typer.Option(*names, rich_help_panel=_PANEL, **details)


@with_options(SessionOptions, without=WITHOUT_EFFECT)
@with_options(ClientOptions)
def check(
    environment: Environment,
    variant: Variant = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split to play. [default: the first]", rich_help_panel="Environment")
    ] = None,
    tasks: Annotated[int, _option(metavar="N", help="Number of tasks to look at.", min=1)] = 3,
    steps: Annotated[
        Path | None,
        _option(metavar="FILE", help="Calls to play: one per line, as JSON, or plain text. [default: random calls]"),
    ] = None,
    max_steps: Annotated[int, _option(metavar="N", help="Number of random calls per episode.", min=1)] = 8,
    timeout: Annotated[float, _option(metavar="SECONDS", help="Time for all checks together.", min=0.001)] = 600.0,
    check_timeout: Annotated[float, _option(metavar="SECONDS", help="Time per check.", min=0.001)] = 120.0,
    call_timeout: Annotated[float, _option(metavar="SECONDS", help="Time per tool call.", min=0.001)] = 30.0,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Check that an environment conforms to the Open Reward Standard.

    The checks play about ten sessions: tasks, prompts, tools, rewards, determinism and cleanup. Stderr shows which one runs.
    Exit code 1: a check failed, see the report. A rule that is newer than the server is a note and not a failure.

    Example: openreward-gym check weather --base-url http://127.0.0.1:8080
    """
    from openreward_gym.testing import check_environment

    client, session = parse_options(ClientOptions, options), parse_options(SessionOptions, options)
    progress = ProgressLine() if has_control_codes(sys.stderr) and sys.stderr.isatty() else ProgressLog()
    try:
        report = check_environment(
            client.base_url,
            environment,
            variant=variant,
            split=split,
            tasks=tasks,
            steps=None if steps is None else _read_steps(steps),
            max_steps=max_steps,
            client=client,
            session=session,
            timeout_s=check_timeout,
            total_timeout_s=timeout,
            call_timeout_s=call_timeout,
            on_progress=progress.show,
        )
    finally:
        progress.clear()
    report = _in_words_of_options(report)
    if as_json:
        print_json(report.to_dict())
    else:
        print(report.to_text(output_width()))
    if not report.ok:
        _print_advice(report, environment, client, session)
        raise typer.Exit(FAILED)


def _print_advice(report: ConformanceReport, environment: str, client: ClientOptions, session: SessionOptions) -> None:
    failures = " ".join(check.detail for check in report.failures)
    advice = secret_advice(failures, required_secrets_of(environment, client), session.secrets_env or {})
    if advice:
        print_error(advice)


def _in_words_of_options(report: ConformanceReport) -> ConformanceReport:
    """Return the report with the names of options in place of those of Python's arguments."""
    checks = tuple(dataclasses.replace(check, detail=as_typed(check.detail, {})) for check in report.checks)
    return dataclasses.replace(report, checks=checks)


def _read_steps(path: Path) -> list[Any]:
    """Read a file of calls: `{"name": ..., "arguments": {...}}` or a JSON string per line; other lines are plain messages."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--steps {path}: {getattr(error, 'strerror', None) or error}") from None
    steps: list[Any] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        step: Any = line
        if line.lstrip().startswith(("{", '"')):
            try:
                step = jsonio.loads(line)
            except ValueError as error:
                raise ConfigurationError(f"--steps {path}, line {number}: it is not valid JSON ({error})") from None
        # The line of a script for `--policy scripted:FILE` holds the steps of an episode.
        several = step["steps"] if isinstance(step, dict) and isinstance(step.get("steps"), list) else [step]
        for one in several:
            if isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("arguments", {}), dict):
                steps.append({"name": one["name"], "arguments": one.get("arguments", {})})
            elif isinstance(one, str):
                steps.append(one)
            else:
                call = '{"name": "answer", "arguments": {}}'
                raise ConfigurationError(f"--steps {path}, line {number}: a step is a call like {call}, or a text")
    if not steps:
        raise ConfigurationError(f"--steps {path}: the file has no steps")
    return steps


class ProgressLog:
    """Progress as lines, for logs: one when a check starts, and one every few seconds while it runs.

    Example:
        >>> ProgressLog().clear()
    """

    def __init__(self) -> None:
        self._shown_s = 0.0

    def show(self, progress: CheckProgress) -> None:
        """Show what runs."""
        name = f"check {progress.number} of {progress.total}: {progress.name}"
        if progress.done:
            if progress.seconds >= 1.0:
                self._print(f"{name}, done in {progress.seconds:.0f} s")
        elif progress.seconds == 0.0:
            self._shown_s = 0.0
            self._print(f"{name} ...")
        elif progress.seconds - self._shown_s >= LINE_EVERY_S:
            self._shown_s = progress.seconds
            self._print(f"{name}, {progress.seconds:.0f} s so far")

    def clear(self) -> None:
        """Do nothing: lines stay."""

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class ProgressLine(ProgressLog):
    """Progress as one line of a terminal that is written again and again, and is gone at the end.

    Example:
        >>> ProgressLine()._shown_s
        0.0
    """

    def show(self, progress: CheckProgress) -> None:
        """Show what runs."""
        if not progress.done:
            self._print(f"check {progress.number} of {progress.total}: {progress.name}, {progress.seconds:.0f} s")

    def clear(self) -> None:
        """Remove the line."""
        self._print("")

    def _print(self, line: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{line}")
        sys.stderr.flush()
