"""`report`, `merge`, `import` and `upload`: what runs come to, and their way from and to other systems."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from openreward_gym.cli.options import FAILED, INCOMPLETE, AsJson, Run, check_folder
from openreward_gym.errors import ConfigurationError

if TYPE_CHECKING:
    from openreward_gym.platform import UploadReport

SHOWN_DAMAGES = 20
SAY_S = 10.0


def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Runs' folders; the others are compared with the first.", show_default=False),
    ],
    as_json: AsJson = False,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page, with charts.", show_default=False)
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the charts to a folder, as PNG.", show_default=False)
    ] = None,
) -> None:
    """Sum runs up, for whoever compares policies: rewards, turns, tokens, durations, endings, and whether runs differ.

    Runs are compared over the tasks that both have.

    Example: openreward-gym report runs/first runs/second --html report.html
    """
    check_folder("--plots", plots)
    if page is not None:
        check_folder("--html", page.parent)
    print_report(runs, as_json, page, plots)


def print_report(runs: list[str], as_json: bool, page: Path | None = None, plots: Path | None = None) -> None:
    from openreward_gym.reports.report import report_of, write_html

    found = report_of(runs, _coverage(runs))
    if page is not None:
        write_html(found, page)
    if plots is not None:
        from openreward_gym.reports.plots import write_pngs

        write_pngs(found.charts, plots)
    print(json.dumps(found.to_dict(), indent=2) if as_json else found.to_text())


def _coverage(runs: list[str]) -> dict[str, dict[str, int]]:
    """What became of the units of those runs that were collected here."""
    from openreward_gym.collect.attempts import read_coverage

    found = {run: read_coverage(Path(run)) for run in runs if "://" not in run}
    return {run: asdict(coverage) for run, coverage in found.items() if coverage is not None}


def merge(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Runs' folders.", show_default=False)],
    output: Annotated[str, typer.Option(metavar="FOLDER", help="The new run's folder.", show_default=False)],
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name of rollouts that have none.", show_default=False)
    ] = None,
) -> None:
    """Put the rollouts of several runs into a new one, for whoever collected in parts or on several machines.

    It says what is there twice. Exit code 1: some cannot be read, or contradict each other; 75: some are missing.

    Example: openreward-gym merge runs/machine-1 runs/machine-2 --output runs/all
    """
    from openreward_gym.store.merge import merge as put_together

    check_folder("--output", output)
    done = put_together(runs, output, run=run)
    print(f"{done.merged} rollouts merged into {output}")
    if done.duplicates:
        print(f"{len(done.duplicates)} were there more than once, and are there once")
    troubles = {
        "ids with different contents; the one that ended last was taken": list(done.conflicts),
        "(task, sample) have more than one rollout": [f"{task}/{sample}" for task, sample in done.doubled],
        "(task, sample) have none": [f"{task}/{sample}" for task, sample in done.gaps],
        "lines could not be read": [str(damage) for damage in done.damages],
    }
    for what, found in troubles.items():
        if found:
            more = ", ..." if len(found) > SHOWN_DAMAGES else ""
            print(f"{len(found)} {what}: {', '.join(found[:SHOWN_DAMAGES])}{more}", file=sys.stderr)
    if done.conflicts or done.damages or done.doubled:
        raise typer.Exit(FAILED)
    if done.gaps:
        raise typer.Exit(INCOMPLETE)


class ImportCommand(TyperCommand):
    """The command `import`. Its help lists the importers, those of other distributions among them."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        # Only here: finding other distributions takes too long for every start of the program.
        from openreward_gym.importers import names

        for param in self.params:
            if param.name == "source":
                param.help = f"{param.help} One of {', '.join(names())}."  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def import_rollouts(
    source: Annotated[
        str,
        typer.Argument(metavar="SYSTEM", help="The system that wrote the rollouts.", show_default=False),
    ],
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="The file or folder; of openreward, the run's id or name.", show_default=False)
    ],
    output: Annotated[
        str, typer.Option(metavar="FOLDER", help="The run's folder; what it has already stays.", show_default=False)
    ],
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="The run's name. [default: the folder's]", show_default=False)
    ] = None,
) -> None:
    """Bring another system's rollouts into a run, for whoever wants to view, compare or export them here.

    Example: openreward-gym import nemo-gym rollouts.jsonl --output runs/imported
    """
    from openreward_gym.importers import import_run

    if not path:
        raise ConfigurationError("name the file or folder to import: its path is empty")
    check_folder("--output", output)
    done = import_run(source, path, output, run=run)
    known = f", {done.known} were there already" if done.known else ""
    print(f"{done.imported} rollouts imported into {output}{known}")
    for damage in done.damages[:SHOWN_DAMAGES]:
        print(damage, file=sys.stderr)
    if done.damages:
        print(f"{len(done.damages)} records could not be read; the rest was imported", file=sys.stderr)
        raise typer.Exit(FAILED)


def upload(
    run: Run,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The platform's address. [default: its own]", show_default=False)
    ] = None,
) -> None:
    """Send a run to the OpenReward platform, for whoever wants to look at it there.

    The API key is read from OPENREWARD_API_KEY. Given again, the command goes on where it stopped.

    Example: openreward-gym upload runs/first
    """
    from openreward_gym.platform import upload as send

    done = send(run, base_url=base_url, on_progress=_Waiting())
    print(done)
    if not done.complete:
        raise typer.Exit(INCOMPLETE)


class _Waiting:
    """Says every ten seconds how far an upload is: one that finds no platform tries for minutes."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, report: UploadReport) -> None:
        if report.pending and time.monotonic() - self._said >= SAY_S:
            self._said = time.monotonic()
            so_far = f"{report.sent} rollouts sent, {report.pending} not yet"
            print(f"{so_far}; still trying (Ctrl-C stops; the next upload goes on from there)", file=sys.stderr)
