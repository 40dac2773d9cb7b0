"""The command `export`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from openreward_gym.cli.completion import complete_formats
from openreward_gym.cli.console import make_console, output_width, print_error, print_json
from openreward_gym.cli.parameters import FAILED, Runs, check_folder, end_with, parse_options, print_damages, with_options
from openreward_gym.cli.wording import as_typed
from openreward_gym.errors import ConfigurationError, MissingExtraError
from openreward_gym.export.options import ExportOptions, Select
from openreward_gym.export.reasons import hint_of
from openreward_gym.export.report import FormatReport, count_of
from openreward_gym.store.damage import Damages
from openreward_gym.terminal import has_control_codes


def _option(*names: str, **details: Any) -> Any:
    return typer.Option(*names, rich_help_panel="Output", **details)


_Formats = Annotated[
    str,
    _option(
        "--format", metavar="FORMATS", help="Format, or several formats separated by commas.", autocompletion=complete_formats
    ),
]
_Output = Annotated[str | None, _option(metavar="FOLDER", help="Folder to write. [default: RUN/export]")]
_Push = Annotated[
    str | None,
    _option(metavar="OWNER/NAME", help="Upload to this dataset on the HuggingFace Hub instead (token in HF_TOKEN)."),
]
_Public = Annotated[bool, _option("--public", help="Make a new dataset on the Hub public, not private.")]
_Tokenizer = Annotated[
    str | None,
    _option(
        metavar="MODEL",
        help="Name or folder of a model, whose tokenizer the format tokens uses and whose chat template rows must fit.",
    ),
]
_Ids = Annotated[
    Path | None,
    typer.Option("--ids", metavar="FILE", help="File with the ids of the rollouts, one a line.", rich_help_panel="Selection"),
]
_Filter = Annotated[
    str,
    typer.Option(
        "--filter",
        metavar="EXPRESSION",
        help="Filter of the viewer that rollouts meet, like 'reward > 0.5 and steps < 10'.",
        rich_help_panel="Selection",
        show_default=False,
    ),
]
_AsJson = Annotated[bool, _option("--json", help="Print the report as JSON.")]


@with_options(ExportOptions, section="Rows")
@with_options(Select, without=("runs", "where", "steps"), section="Selection")
def export(
    context: typer.Context,
    runs: Runs,
    formats: _Formats = "sft",
    output: _Output = None,
    push: _Push = None,
    public: _Public = False,
    tokenizer: _Tokenizer = None,
    ids: _Ids = None,
    chosen: _Filter = "",
    as_json: _AsJson = False,
    **options: Any,
) -> None:
    """Write runs as a training dataset, or upload it to the Hub.

    The dataset comes with a card and a report of the rollouts that were left out, with reasons. Lines and images that cannot be
    read are named, the rest is exported, and the exit code is 1. It is 1, too, if a format has no row. Several exports may have
    one output: other formats and other runs stay.

    Options that take names may be repeated: --label good --label short.

    Example: openreward-gym export runs/first --format sft --min-reward 1 --output out/
    """
    from openreward_gym import export as exporter

    check_folder("--output", output)
    if options.get("decontaminate"):
        options["decontaminate"] = list(map(Path, options["decontaminate"]))
    select = parse_options(Select, options)
    wanted = _chosen(runs, ids, chosen)
    if wanted is not None:
        select = dataclasses.replace(select, where=lambda rollout: rollout.id in wanted)
    rows = parse_options(ExportOptions, options).to_keywords()
    names = [name.strip() for name in formats.split(",") if name.strip()]
    folder = _folder(runs, output, push, public)
    damages = Damages()
    with _progress() as progress:
        rows |= {"progress": progress, "on_damage": damages}
        if push is not None:
            report = exporter.push(runs, push, names, select, tokenizer, private=not public, **rows)
        else:
            report = exporter.write(runs, folder, names, select, tokenizer, **rows)
    parameters = {param.name: param for param in context.command.params}

    def wording(hint: str) -> str:
        return as_typed(hint, parameters)

    if as_json:
        print_json(_in_words_of_options(report.to_dict(), wording))
    else:
        print(report.to_text(wording, output_width()))
    empty = [form for form in report.formats.values() if form.rows == 0]
    if empty:
        print_damages(damages)
        print_error("; ".join(_why_empty(form, wording) for form in empty))
        raise typer.Exit(FAILED)
    end_with(damages)


def _why_empty(form: FormatReport, wording: Callable[[str], str]) -> str:
    """Return why a format has no row, and what to do."""
    start = f"{form.name}: no row was written"
    if not form.read:
        return f"{start}, because the run has no rollouts yet: `openreward-gym collect ENVIRONMENT --policy POLICY` records some"
    counts = (form.excluded + form.dropped_rows).most_common(2)
    if not counts:
        return f"{start} from {count_of(form.read, 'rollout')}"
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in counts)
    hint = wording(hint_of(counts[0][0]))
    kept = "; the files of the earlier export stay" if form.kept else ""
    return f"{start} from {count_of(form.read, 'rollout')} ({reasons}){': ' + hint if hint else ''}{kept}"


def _in_words_of_options(report: dict[str, Any], wording: Callable[[str], str]) -> dict[str, Any]:
    """Return the report with the names of options in its hints."""
    for form in report["formats"].values():
        form["hints"] = {reason: wording(hint) for reason, hint in form["hints"].items()}
    return report


def _chosen(runs: Sequence[str], ids: Path | None, filter_: str) -> set[str] | None:
    """Return the ids of the rollouts that --ids and --filter select; None without either."""
    chosen: set[str] | None = None
    if ids is not None:
        try:
            lines = ids.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"--ids {ids}: {getattr(error, 'strerror', None) or error}") from None
        chosen = {line.strip() for line in lines if line.strip()}
        if not chosen:
            raise ConfigurationError(f"--ids {ids}: the file has no ids")
    if filter_:
        try:
            from openreward_gym.viewer.matching import ids_that_match
        except ModuleNotFoundError as error:
            raise MissingExtraError(f"--filter needs {error.name}: pip install 'openreward-gym[viewer]'") from None
        matching = ids_that_match(runs, filter_)
        chosen = matching if chosen is None else chosen & matching
    return chosen


def _folder(runs: Sequence[str], output: str | None, push: str | None, public: bool) -> str | Path:
    """Return the folder to write."""
    if push is not None and output is not None:
        raise ConfigurationError("--push and --output exclude each other; --push ./folder writes what would be uploaded")
    if public and push is None:
        raise ConfigurationError("--public is about a dataset on the Hub: add --push OWNER/NAME")
    if output is None and push is None and (len(runs) > 1 or "://" in runs[0]):
        raise ConfigurationError("the output is missing: add --output FOLDER")
    return output or Path(runs[0]) / "export"


@contextmanager
def _progress() -> Iterator[Any]:
    """Show a progress bar on stderr if it is a terminal; yield a callback for it, or None."""
    if not has_control_codes(sys.stderr) or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import Progress

    with Progress(console=make_console(stderr=True), transient=True) as bar:
        task = bar.add_task("rollouts", total=None)
        # At most a thousand updates: an export reads thousands of rollouts per second.

        def show(read: int, total: int) -> None:
            if read == total or read % max(1, total // 1000) == 0:
                bar.update(task, completed=read, total=total)

        yield show
