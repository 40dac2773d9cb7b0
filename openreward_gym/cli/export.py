"""`export`: runs as training data, in a folder or on the HuggingFace Hub."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from openreward_gym.cli.parameters import check_folder
from openreward_gym.errors import ConfigurationError


class Sectioned(TyperCommand):
    """A command whose options are listed in sections: those of their `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                argument = param.param_type_name == "argument"
                name = "Arguments" if argument else getattr(param, "rich_help_panel", None) or "Others"
                sections.setdefault(name, []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


_OUT, _WHICH, _COMPARED, _ROWS = "Output", "Which rollouts", "Which of those that are compared", "How rows are made"


def _option(panel: str, value: str, text: str, *names: str, show_default: bool = False, **settings: Any) -> Any:
    return typer.Option(*names, metavar=value, help=text, rich_help_panel=panel, show_default=show_default, **settings)


def _flag(panel: str, text: str, name: str) -> Any:
    return typer.Option(name, help=text, rich_help_panel=panel, show_default=False)


_Texts = list[str] | None
_Number = float | None
_Count = int | None


def export(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Runs' folders.", show_default=False)],
    formats: Annotated[
        str,
        _option(
            _OUT,
            "FORMATS",
            "One or more, with commas: sft, prompt_completion, preference, kto, prompts, tokens, openai, sharegpt, axolotl, "
            "verl, nemo_gym, atif, rollouts.",
            "--format",
            show_default=True,
        ),
    ] = "sft",
    output: Annotated[Path | None, _option(_OUT, "FOLDER", "The folder to write. [default: RUN/export]")] = None,
    push: Annotated[
        str | None, _option(_OUT, "OWNER/NAME", "Upload to this dataset on the Hub instead, OWNER/NAME (token in HF_TOKEN).")
    ] = None,
    public: Annotated[bool, _flag(_OUT, "Make a new dataset on the Hub public; it is private otherwise.", "--public")] = False,
    tokenizer: Annotated[
        str | None, _option(_OUT, "MODEL", "A model's name or folder: for tokens, and to fit its chat template.")
    ] = None,
    compat: Annotated[
        str, _option(_OUT, "KIND", "json, or string for datasets before 4.7, pandas, ...", show_default=True)
    ] = "json",
    as_json: Annotated[bool, _flag(_OUT, "Print the report as JSON.", "--json")] = False,
    status: Annotated[_Texts, _option(_WHICH, "STATUS", "Status; any for all. [default: what the format is for]")] = None,
    min_reward: Annotated[_Number, _option(_WHICH, "REWARD", "Leave out rollouts with less.")] = None,
    max_reward: Annotated[_Number, _option(_WHICH, "REWARD", "Leave out rollouts with more.")] = None,
    reward: Annotated[str, _option(_WHICH, "KIND", "Which one counts: sum, last, max or score.", show_default=True)] = "sum",
    environments: Annotated[_Texts, _option(_WHICH, "NAME", "Of these environments.", "--environment")] = None,
    splits: Annotated[_Texts, _option(_WHICH, "NAME", "Of tasks of these splits.", "--split")] = None,
    models: Annotated[_Texts, _option(_WHICH, "NAME", "Of these models.", "--model")] = None,
    tasks: Annotated[_Texts, _option(_WHICH, "ID", "Of these tasks, by id.", "--task")] = None,
    labels: Annotated[
        _Texts, _option(_WHICH, "LABEL", "With one of these labels, or tags given in the viewer.", "--label")
    ] = None,
    without_labels: Annotated[_Texts, _option(_WHICH, "LABEL", "With none of these.", "--without-label")] = None,
    min_rating: Annotated[_Count, _option(_WHICH, "N", "Rated in the viewer, 1 to 5, with at least this.", min=1, max=5)] = None,
    max_rating: Annotated[_Count, _option(_WHICH, "N", "Rated with at most this.", min=1, max=5)] = None,
    discarded: Annotated[bool, _flag(_WHICH, "Leave out discarded groups.", "--without-discarded")] = False,
    min_turns: Annotated[_Count, _option(_WHICH, "N", "Leave out rollouts with fewer turns.")] = None,
    max_turns: Annotated[_Count, _option(_WHICH, "N", "Leave out rollouts with more turns.")] = None,
    max_tokens: Annotated[_Count, _option(_WHICH, "N", "Leave out rollouts with more tokens, as their provider counted.")] = None,
    dedupe: Annotated[
        str | None, _option(_WHICH, "HOW", "Keep the first of equals: exact, or normalized (case, punctuation).")
    ] = None,
    best_of: Annotated[_Count, _option(_COMPARED, "N", "Of each group's first so many, the best.")] = None,
    top_k: Annotated[_Count, _option(_COMPARED, "N", "Of each group, so many of the best.")] = None,
    one_per_group: Annotated[bool, _flag(_COMPARED, "Of each group, one by chance.", "--one-per-group")] = False,
    balance: Annotated[str | None, _option(_COMPARED, "WHAT", "As many of each task, environment or reward, by chance.")] = None,
    limit: Annotated[_Count, _option(_COMPARED, "N", "At most so many, the first ones.")] = None,
    seed: Annotated[int, _option(_COMPARED, "N", "For every choice by chance.", show_default=True)] = 0,
    columns: Annotated[_Texts, _option(_ROWS, "NAME", "A further column: reward, task_id, advantage, ...", "--column")] = None,
    turns: Annotated[str | None, _option(_ROWS, "WHICH", "prompt_completion, kto: rows for all turns, or the last.")] = None,
    parallel_calls: Annotated[
        str, _option(_ROWS, "HOW", "Several calls in a message: keep, split or drop.", show_default=True)
    ] = "keep",
    malformed_calls: Annotated[
        str, _option(_ROWS, "HOW", "Calls that are no JSON object: drop or keep.", show_default=True)
    ] = "drop",
    control_tokens: Annotated[str, _option(_ROWS, "HOW", "In what tools say: flag, drop or escape.", show_default=True)] = "flag",
    system: Annotated[
        str, _option(_ROWS, "HOW", "System messages: keep, or merge into the first turn.", show_default=True)
    ] = "keep",
    reasoning: Annotated[bool, _flag(_ROWS, "Leave out the reasoning.", "--without-reasoning")] = False,
    answers: Annotated[bool, _flag(_ROWS, "Golden answers and task specs in prompts and verl.", "--answers")] = False,
    min_gap: Annotated[
        float, _option(_ROWS, "REWARD", "preference: least difference of rewards.", min=0.0, show_default=True)
    ] = 0.0,
    max_pairs: Annotated[int, _option(_ROWS, "N", "preference: pairs a group; 0 for all.", min=0, show_default=True)] = 4,
    good_reward: Annotated[_Number, _option(_ROWS, "REWARD", "kto: least reward of what is good. [default: the middle]")] = None,
    max_length: Annotated[_Count, _option(_ROWS, "N", "tokens: leave out longer rows.", min=1)] = None,
) -> None:
    """Write runs as a training dataset, for whoever trains a model: in a folder, or on the HuggingFace Hub.

    With it come a card and a report of what was left out and why.

    Options that name things may be given again: --label good --label short.

    Example: openreward-gym export runs/first --format sft --min-reward 1 --output out/
    """
    given = dict(locals())
    # Flags that take something away.
    given["discarded"], given["reasoning"] = not discarded, not reasoning
    given["max_pairs"] = max_pairs or None
    given["columns"] = tuple(columns or ())
    _export(given.pop("runs"), given.pop("formats"), given)


def _export(runs: list[str], formats: str, given: dict[str, Any]) -> None:
    from dataclasses import fields

    from openreward_gym import export as exporting

    output, push, public, as_json = (given.pop(name) for name in ("output", "push", "public", "as_json"))
    for name, value in given.items():
        if isinstance(value, float) and math.isnan(value):
            raise ConfigurationError(f"--{name.replace('_', '-')} takes a number, not nan: nothing is above or below it")
    check_folder("--output", output)
    select = exporting.Select(**{field.name: given[field.name] for field in fields(exporting.Select) if field.name in given})
    options = {field.name: given[field.name] for field in fields(exporting.Options) if field.name in given}
    arguments = {"select": select, "tokenizer": given["tokenizer"], **options}
    names = [name.strip() for name in formats.split(",") if name.strip()]
    if push is not None and output is not None:
        raise ConfigurationError("--push and --output: one of them; --push ./folder writes what would be uploaded")
    if push is None and output is None:
        if len(runs) > 1 or "://" in runs[0]:
            raise ConfigurationError("say where to write: --output FOLDER")
        output = Path(runs[0]) / "export"
    with _progress() as progress:
        if push is not None:
            report = exporting.push(runs, push, names, private=not public, progress=progress, **arguments)
        else:
            report = exporting.write(runs, output, names, progress=progress, **arguments)
    print(json.dumps(report.to_dict(), indent=2) if as_json else report)
    for name, rows in report.rows.items():
        if rows == 0:
            print(f"{name}: no rollout is left: the report above says why", file=sys.stderr)


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar on a terminal's stderr; None elsewhere."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rollouts", total=None)
        # A thousand updates at most: an export reads thousands of rollouts a second.

        def show(read: int, total: int) -> None:
            if read == total or read % max(1, total // 1000) == 0:
                bar.update(task, completed=read, total=total)

        yield show
