"""The command `export`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from openreward_gym.cli.parameters import Runs, check_folder, parse_options, with_options
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.options import ExportOptions, Select

_OUTPUT = "Output"


@with_options(ExportOptions, section="Rows")
@with_options(Select, without=("runs", "where", "steps"), section="Selection")
def export(
    runs: Runs,
    formats: Annotated[
        str,
        typer.Option(
            "--format", metavar="FORMATS", help="Format, or several formats separated by commas.", rich_help_panel=_OUTPUT
        ),
    ] = "sft",
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder to write. [default: RUN/export]", rich_help_panel=_OUTPUT)
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME",
            help="Upload to this dataset on the HuggingFace Hub instead (token in HF_TOKEN).",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new dataset on the Hub public, not private.", rich_help_panel=_OUTPUT)
    ] = False,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Name or folder of a model, whose tokenizer the format tokens uses and whose chat template rows must fit.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.", rich_help_panel=_OUTPUT)] = False,
    **options: Any,
) -> None:
    """Write runs as a training dataset, or upload it to the Hub.

    The dataset comes with a card and a report of the rollouts that were left out, with reasons.

    Options that take names may be repeated: --label good --label short.

    Example: openreward-gym export runs/first --format sft --min-reward 1 --output out/
    """
    from openreward_gym import export as exporter

    check_folder("--output", output)
    select = parse_options(Select, options)
    rows = parse_options(ExportOptions, options).to_keywords()
    names = [name.strip() for name in formats.split(",") if name.strip()]
    if push is not None and output is not None:
        raise ConfigurationError("--push and --output exclude each other; --push ./folder writes what would be uploaded")
    if push is None and output is None:
        if len(runs) > 1 or "://" in runs[0]:
            raise ConfigurationError("the output is missing: add --output FOLDER")
        output = Path(runs[0]) / "export"
    with _progress() as progress:
        if push is not None:
            report = exporter.push(runs, push, names, select, tokenizer, private=not public, progress=progress, **rows)
        else:
            assert output is not None
            report = exporter.write(runs, output, names, select, tokenizer, progress=progress, **rows)
    print(json.dumps(report.to_dict(), indent=2) if as_json else report)
    for name, count in report.rows.items():
        if count == 0:
            print(f"{name}: no rollout is left, for the reasons in the report above", file=sys.stderr)


@contextmanager
def _progress() -> Iterator[Any]:
    """Show a progress bar on stderr if it is a terminal; yield a callback for it, or None."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rollouts", total=None)
        # At most a thousand updates: an export reads thousands of rollouts per second.

        def show(read: int, total: int) -> None:
            if read == total or read % max(1, total // 1000) == 0:
                bar.update(task, completed=read, total=total)

        yield show
