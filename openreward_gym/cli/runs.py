"""`report`, `import` and `upload`: what runs come to, and their way from and to other systems."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from openreward_gym.cli.options import FAILED, INCOMPLETE, AsJson, Run

SHOWN_DAMAGES = 20


def report(
    runs: Annotated[list[Path], typer.Argument(help="Runs' folders.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Rewards, turns, tokens, durations and endings of runs.

    Example: openreward-gym report runs/first
    """
    print_report([str(run) for run in runs], as_json)


def print_report(runs: list[str], as_json: bool) -> None:
    from openreward_gym.rollouts.store import RolloutStore
    from openreward_gym.rollouts.summary import summarize

    summary = summarize(RolloutStore.open(runs))
    print(json.dumps(summary.to_dict(), indent=2) if as_json else summary.to_text())


def import_rollouts(
    source: Annotated[
        str, typer.Argument(help="nemo-gym, openreward, openai-chat, trl, verifiers, inspect or firehorse.", show_default=False)
    ],
    path: Annotated[str, typer.Argument(help="The file or folder; of openreward, the run's id or name.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The run's folder; what it has already stays.", show_default=False)],
    run: Annotated[str | None, typer.Option(help="The run's name. [default: the folder's]", show_default=False)] = None,
) -> None:
    """Bring another system's rollouts into a run.

    Example: openreward-gym import nemo-gym rollouts.jsonl --output runs/imported
    """
    from openreward_gym.rollouts.sources import import_run

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
    base_url: Annotated[str | None, typer.Option(help="The platform's address. [default: its own]", show_default=False)] = None,
) -> None:
    """Send a run to the OpenReward platform (key in OPENREWARD_API_KEY); again, it goes on where it stopped.

    Example: openreward-gym upload runs/first
    """
    from openreward_gym.rollouts.upload import upload as send

    done = send(run, base_url=base_url)
    print(done)
    if not done.complete:
        raise typer.Exit(INCOMPLETE)
