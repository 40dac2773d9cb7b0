"""`to_dataset` and `write`: rollouts as a dataset in memory, or as files that `datasets.load_dataset` and trainers read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from openreward_gym.errors import ConfigurationError
from openreward_gym.export import tables
from openreward_gym.export.card import write_card
from openreward_gym.export.columns import Compat
from openreward_gym.export.formats import Format, format_of
from openreward_gym.export.options import Options, options_of
from openreward_gym.export.pipeline import ImagesFound, Pipeline, Progress, rows_for_file
from openreward_gym.export.report import Report
from openreward_gym.export.select import Select
from openreward_gym.export.source import Rollouts, Source, source_of

if TYPE_CHECKING:
    from datasets import Dataset

    from openreward_gym.export.template import ChatTemplate

T = TypeVar("T")


def to_dataset(
    rollouts: Rollouts,
    format: str = "sft",
    select: Select | None = None,
    tokenizer: Any = None,
    compat: Literal["json", "string"] = "json",
    **options: Any,
) -> Dataset:
    """Rollouts as a `datasets.Dataset` in memory.

    Args:
        rollouts: A store, a run's path, several paths, or `Rollout` objects.
        format: One of `FORMATS`.
        select: Which rollouts; None is `Select()`: those the format is for.
        tokenizer: A transformers tokenizer or processor, a model's name, or a folder. The format `tokens` needs it; for
            others it says what the chat template can render. None for none.
        compat: "json" for columns of the type `datasets.Json` (datasets >= 4.7), "string" for JSON strings.
        **options: See `Options`.

    Raises:
        ConfigurationError: There is no such format or option, or the path is no run.
        RecordError: A line is not a rollout.
    """
    kind = format_of(format)
    chosen = options_of({"compat": compat, **options})
    pipelines = _pipelines(source_of(rollouts), kind, select, chosen, _template(kind, tokenizer))
    _, dataset = _first_that_fits(pipelines, lambda pipeline: tables.dataset_of(pipeline.rows(), pipeline.columns, compat))
    return dataset


def write(
    rollouts: Rollouts,
    output: str | os.PathLike[str],
    formats: Sequence[str] | str = ("sft",),
    select: Select | None = None,
    tokenizer: Any = None,
    compat: Literal["json", "string"] = "json",
    progress: Progress | None = None,
    **options: Any,
) -> Report:
    """Write rollouts as files, in constant memory.

    `output` gets a folder for each format (Parquet, or JSONL where a trainer wants that), `report.json`, and a dataset
    card `README.md` with pictures; `datasets.load_dataset(output, "sft")` loads a format. A format's files appear when all
    of it is written; those of an earlier export of the same format are replaced.

    Args:
        rollouts, select, tokenizer, compat, **options: See `to_dataset`.
        output: A folder; it is made.
        formats: One or more of `FORMATS`.
        progress: Called with (rollouts read, rollouts there are), for each format from the beginning.

    Returns:
        What was written and what was left out, by reason; `str(report)` is the text for a terminal.

    Raises:
        ConfigurationError: There is no such format or option, or the path is no run.
        RecordError: A line is not a rollout.
    """
    return write_files(rollouts, output, formats, select, tokenizer, progress, options_of({"compat": compat, **options}))


def write_files(
    rollouts: Rollouts,
    output: str | os.PathLike[str],
    formats: Sequence[str] | str,
    select: Select | None,
    tokenizer: Any,
    progress: Progress | None,
    options: Options,
    *,
    for_hub: bool = False,
) -> Report:
    """`write`, with options as a value; `for_hub`: tables in chunks of which the Hub stores each once."""
    names = [formats] if isinstance(formats, str) else list(dict.fromkeys(formats))
    if not names:
        raise ConfigurationError("no format was given: name at least one, like formats=['sft']")
    kinds = [format_of(name) for name in names]
    templates = [_template(kind, tokenizer) for kind in kinds]
    folder = Path(output)
    source = source_of(rollouts)
    folder.mkdir(parents=True, exist_ok=True)
    report = Report(str(folder))
    for kind, template in zip(kinds, templates, strict=True):
        pipelines = _pipelines(source, kind, select, options, template, progress, folder / kind.name)
        pipeline, files = _first_that_fits(
            pipelines, partial(_write_format, kind=kind, compat=options.compat, folder=folder, for_hub=for_hub)
        )
        pipeline.report.files = [file.relative_to(folder).as_posix() for file in files]
        pipeline.report.bytes = sum(file.stat().st_size for file in files)
        report.formats[kind.name] = pipeline.report
    tables.write_json(report.to_dict(), folder / "report.json")
    write_card(report, options, folder)
    return report


def _write_format(pipeline: Pipeline, kind: type[Format], compat: Compat, folder: Path, for_hub: bool) -> list[Path]:
    """Write one format's files; returns them."""
    if kind.file == "jsonl":
        rows = pipeline.rows() if kind.further_keys else rows_for_file(pipeline.rows(), pipeline.columns)
        files = tables.write_jsonl(rows, folder / kind.name, "train")[1]
    else:
        target = folder / kind.name
        files = tables.write_parquet(pipeline.rows(), pipeline.columns, compat, target, "train", for_hub=for_hub)[1]
    if pipeline.image_files is not None:
        pipeline.image_files.remove_others()
    return files


def _pipelines(
    source: Source,
    kind: type[Format],
    select: Select | None,
    options: Options,
    template: ChatTemplate | None,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> Iterator[Pipeline]:
    """One that reads once, and one that first looks whether there are images."""
    for look_first in (False, True):
        chosen = select if select is not None else Select()
        yield Pipeline(source, kind, chosen, options, template, progress, look_first, folder)


def _first_that_fits(pipelines: Iterator[Pipeline], use: Callable[[Pipeline], T]) -> tuple[Pipeline, T]:
    pipeline = next(pipelines)
    try:
        return pipeline, use(pipeline)
    except ImagesFound:
        pipeline = next(pipelines)
        return pipeline, use(pipeline)


def _template(kind: type[Format], tokenizer: Any) -> ChatTemplate | None:
    if tokenizer is None:
        if kind.needs_tokenizer:
            raise ConfigurationError(f"the format {kind.name!r} needs a tokenizer: tokenizer='a model's name or folder'")
        return None
    from openreward_gym.export.template import ChatTemplate

    return ChatTemplate.of(tokenizer)
