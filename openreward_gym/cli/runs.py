"""The commands `report`, `merge`, `import` and `upload`."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openreward_gym.cli.completion import complete_source
from openreward_gym.cli.console import print_error, print_json, print_text
from openreward_gym.cli.parameters import FAILED, INCOMPLETE, MAX_LISTED, AsJson, Runs, check_folder, end_with, print_damages
from openreward_gym.store.damage import Damages, OnDamage

if TYPE_CHECKING:
    from openreward_gym.platform import UploadReport

REPORT_EVERY_S = 10.0


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Folders of runs. The others are compared with the first.")],
    as_json: AsJson = False,
    page: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page with charts.")] = None,
    plots: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write the charts to this folder as PNG.")] = None,
) -> None:
    """Summarize runs, and compare them.

    The report has rewards, turns, tokens, durations and stop reasons. Runs are compared on the tasks that both have. Lines that
    cannot be read are named and left out, and the exit code is 1.

    Example: openreward-gym report runs/first runs/second --html report.html
    """
    check_folder("--plots", plots)
    if page is not None:
        check_folder("--html", page.parent)
    damages = Damages()
    print_report(runs, as_json, page, plots, on_damage=damages)
    end_with(damages)


def print_report(
    runs: list[str],
    as_json: bool = False,
    page: Path | None = None,
    plots: Path | None = None,
    brief: bool = False,
    on_damage: OnDamage | None = None,
) -> None:
    """Print the report of runs, and write it as a page and as charts if these have a path.

    A brief report has no long table of tasks, and ends with the commands that show more. What cannot be read is given to
    `on_damage`; if it is None, it raises an error.
    """
    from openreward_gym.collect.outcomes import read_coverage
    from openreward_gym.reports import make_report, write_html

    # Only the runs that `collect` made have a coverage.
    coverages = {run: read_coverage(Path(run), on_damage) for run in runs if "://" not in run}
    result = make_report(
        runs, {run: asdict(coverage) for run, coverage in coverages.items() if coverage is not None}, on_damage=on_damage
    )
    if page is not None:
        write_html(result, page)
    if plots is not None:
        from openreward_gym.reports import write_pngs

        write_pngs(result.charts, plots)
    if as_json:
        print_json(result.to_dict())
    else:
        print_text(result.to_text(brief=brief))
    if brief:
        commands = ["report", *(["view"] if _has_viewer() else [])]
        print("", *(shlex.join(["openreward-gym", command, *runs]) for command in commands), sep="\n")


def _has_viewer() -> bool:
    """Return whether the packages of the extra `viewer` are installed."""
    return all(find_spec(package) for package in ("starlette", "uvicorn", "regex"))


def merge(
    runs: Runs,
    output: Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the new run.")],
    run: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the run for rollouts that have none.")] = None,
    as_json: AsJson = False,
) -> None:
    """Merge the rollouts of several runs into a new one.

    Duplicates are reported. Exit code 1: rollouts cannot be read or contradict each other; 75: rollouts are missing.

    Example: openreward-gym merge runs/machine-1 runs/machine-2 --output runs/all
    """
    from openreward_gym.reports.texts import count_text
    from openreward_gym.store import merge as merge_runs

    check_folder("--output", output)
    result = merge_runs(runs, output, run=run)
    if as_json:
        pairs = [{"task": task, "sample": sample, "ids": ids} for (task, sample), ids in result.doubled.items()]
        print_json({"output": output, **asdict(dataclasses.replace(result, doubled={})), "doubled": pairs})
    else:
        print(f"{count_text(result.merged, 'rollout')} merged into {output}")
    if result.duplicates and not as_json:
        were, are = ("was", "is") if len(result.duplicates) == 1 else ("were", "are")
        print(f"{len(result.duplicates)} {were} in several runs and {are} kept once")
    doubled, gaps = ([f"{task}/{sample}" for task, sample in units] for units in (result.doubled, result.gaps))
    for items, one, several, problem in (
        (result.conflicts, "id has", "ids have", "different contents; the rollout that ended last was kept"),
        (doubled, "(task, sample) has", "(task, sample) have", "more than one rollout"),
        (gaps, "(task, sample) has", "(task, sample) have", "none"),
    ):
        if items:
            more = ", ..." if len(items) > MAX_LISTED else ""
            subject = one if len(items) == 1 else several
            print(f"{len(items)} {subject} {problem}: {', '.join(items[:MAX_LISTED])}{more}", file=sys.stderr)
    end_with(result.damages)
    if result.conflicts or result.doubled:
        raise typer.Exit(FAILED)
    if result.gaps:
        raise typer.Exit(INCOMPLETE)


def import_rollouts(
    source: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="The system that wrote the rollouts.", autocompletion=complete_source)
    ],
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files and folders; for openreward, ids or names of runs.")],
    output: Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the run. Its existing rollouts are kept.")],
    run: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the run. [default: the folder's name]")] = None,
    group_by: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Field of the source's records, or of the rollouts, whose value is the group."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import rollouts of another system into a run.

    Files of JSON lines, JSON arrays, JSON objects and Parquet are read, packed with gzip or zstd too. Several paths are read in
    their order, each file once. Records that cannot be read are reported once per cause; the rest is imported, and the exit
    code is 1.

    Example: openreward-gym import openai-chat chats.jsonl.gz --output runs/chats --group-by metadata.prompt_id

    Example: openreward-gym import inspect logs/*.eval --output runs/inspect
    """
    from openreward_gym.importers import import_run
    from openreward_gym.reports.texts import count_text

    check_folder("--output", output)
    result = import_run(source, paths, output, run=run, group_by=group_by)
    if as_json:
        counts = {"imported": result.imported, "known": result.known, "ungrouped": result.ungrouped}
        print_json({"output": output, **counts, "damages": [asdict(damage) for damage in result.damages]})
    else:
        known = f", {result.known} {'was' if result.known == 1 else 'were'} imported before" if result.known else ""
        print(f"{count_text(result.imported, 'rollout')} imported into {output}{known}")
    if result.ungrouped:
        have, keep = ("has", "it keeps") if result.ungrouped == 1 else ("have", "they keep")
        ungrouped = count_text(result.ungrouped, "rollout")
        print(f"{ungrouped} {have} no {group_by!r}: {keep} the group of the source", file=sys.stderr)
    print_damages(result.damages)
    if not (result.imported or result.known or result.damages):
        print_error(f"{', '.join(paths[:5])}{', ...' if len(paths) > 5 else ''}: there are no records in it")
        raise typer.Exit(FAILED)
    if result.damages:
        print(f"{count_text(len(result.damages), 'record')} could not be read; the rest was imported", file=sys.stderr)
        raise typer.Exit(FAILED)


def upload(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run.")],
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="URL of the platform. [default: https://openreward.ai]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a run to the OpenReward platform.

    The API key is read from OPENREWARD_API_KEY. A repeated command continues where the last one stopped.

    Example: openreward-gym upload runs/first
    """
    from openreward_gym.platform import upload as send

    printed_at = time.monotonic()

    def print_progress(report: UploadReport) -> None:
        # An upload that cannot reach the platform retries for minutes.
        nonlocal printed_at
        if report.pending and time.monotonic() - printed_at >= REPORT_EVERY_S:
            printed_at = time.monotonic()
            so_far = f"{report.sent - report.sent_before} rollouts sent, {report.pending} not yet"
            print(f"{so_far}; still trying (Ctrl-C stops; the next upload continues from there)", file=sys.stderr)

    state = send(run, base_url=base_url, on_progress=print_progress)
    if as_json:
        print_json({**asdict(state), "complete": state.complete})
    else:
        print(state)
    if not state.complete:
        raise typer.Exit(INCOMPLETE)
