"""`to_dataset`, `write` and `push`: rollouts as a dataset in memory, as files, or as a repository on the HuggingFace Hub."""

from __future__ import annotations

import itertools
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, Unpack, overload

from openreward_gym.errors import ConfigurationError, OpenRewardGymError, RecordError
from openreward_gym.export import hub, tables
from openreward_gym.export.card import write_card, write_pictures
from openreward_gym.export.folder import REPORT, Source, earlier_formats, locked, output_folder, remove_stale
from openreward_gym.export.formats import Format, FormatName, format_of
from openreward_gym.export.options import Compat, ExportKeywords, ExportOptions, Select
from openreward_gym.export.pipeline import OF_WRONG_VALUES, ImagesFound, Pipeline, Progress
from openreward_gym.export.reader import RolloutReader, RolloutSource
from openreward_gym.export.report import ExportReport, FormatReport, LeftOutWarning, count_of
from openreward_gym.export.splits import TRAIN
from openreward_gym.store import OnDamage

if TYPE_CHECKING:
    from datasets import Dataset

    from openreward_gym.export.template import ChatTemplate, Tokenizer

T = TypeVar("T")

FormatLike: TypeAlias = "FormatName | str | type[Format]"
"""A format's name, or its class."""

# Formats that are useless without what a public dataset must not show.
_WHOLE_RECORDS = ("rollouts", "nemo_gym")


@overload
def to_dataset(
    rollouts: RolloutSource,
    format: FormatLike = ...,
    select: Select | None = ...,
    tokenizer: Tokenizer | None = ...,
    *,
    split: str | None = ...,
    return_report: Literal[False] = ...,
    on_damage: OnDamage | None = ...,
    **options: Unpack[ExportKeywords],
) -> Dataset: ...
@overload
def to_dataset(
    rollouts: RolloutSource,
    format: FormatLike = ...,
    select: Select | None = ...,
    tokenizer: Tokenizer | None = ...,
    *,
    split: str | None = ...,
    return_report: Literal[True],
    on_damage: OnDamage | None = ...,
    **options: Unpack[ExportKeywords],
) -> tuple[Dataset, FormatReport]: ...
def to_dataset(
    rollouts: RolloutSource,
    format: FormatLike = "sft",
    select: Select | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    split: str | None = None,
    return_report: bool = False,
    on_damage: OnDamage | None = None,
    **options: Unpack[ExportKeywords],
) -> Dataset | tuple[Dataset, FormatReport]:
    """Return rollouts as a `datasets.Dataset` in memory.

    The dataset has the rows of one split, so that test tasks never come into training. A `LeftOutWarning` names the rollouts and
    rows that are not in it; `dataset.info.description` has the report as text.

    Args:
        rollouts: A store, a selection of it, a run's path, several paths, or `Rollout` objects.
        format: One of `format_names()`, or a format's class.
        select: Criteria for the rollouts; None takes those that the format is for.
        tokenizer: A transformers tokenizer or processor, a model's name, or a folder. The format `tokens` needs it; other formats
            fit conversations to its chat template. None fits them to no template.
        split: The split whose rows are returned, or "all". None takes the only one, or `train` of several.
        return_report: Whether to return the report, too, in place of the warning.
        on_damage: Called with each line, image and file that cannot be read, possibly several times (`store.Damages` counts each
            once); the rest is exported. None raises an error for the first line or file.
        **options: Options of the rows, the fields of `ExportOptions`.

    Returns:
        The dataset; with `return_report`, the dataset and its report.

    Raises:
        ConfigurationError: A format or an option is unknown, the path is not a run, or the split has no rows.
        RecordError: A line is not a valid record, and `on_damage` is None.

    Example:
        >>> from openreward_gym import AssistantMessage, Rollout, UserMessage, export
        >>> messages = [UserMessage("2 + 2?"), AssistantMessage("4")]
        >>> rollout = Rollout(status="completed", messages=messages, reward=1.0)
        >>> dataset = export.to_dataset([rollout], format="sft", columns=("reward",))
        >>> dataset[0]["messages"][1], dataset[0]["reward"]
        ({'role': 'assistant', 'content': '4'}, 1.0)
    """
    kind = format_of(format)
    settings = ExportOptions.from_keywords(options)
    reader, template = RolloutReader.of(rollouts, on_damage), _template(kind, tokenizer)
    make = partial(Pipeline, reader, kind, select or Select(), settings, template)

    def use(pipeline: Pipeline) -> tuple[dict[str, Dataset], FormatReport]:
        columns = pipeline.columns
        return tables.datasets_of(pipeline.rows_with_splits(), columns, settings.compat), pipeline.report

    datasets, report = _run(make, use)
    dataset = _only_split(datasets, split)
    dataset.info.description = str(report)
    if return_report:
        return dataset, report
    if len(dataset) < report.rows or report.excluded or report.dropped_rows:
        warnings.warn(_what_is_missing(dataset, datasets, report), LeftOutWarning, stacklevel=2)
    return dataset


def _only_split(datasets: dict[str, Dataset], split: str | None) -> Dataset:
    """Return the dataset of one split."""
    names = list(datasets)
    if split == "all":
        from datasets import concatenate_datasets

        return concatenate_datasets(list(datasets.values())) if len(datasets) > 1 else datasets[names[0]]
    name = split or (names[0] if len(names) == 1 else TRAIN)
    if name not in datasets:
        raise ConfigurationError(
            f"there are no rows of the split {name!r}; pass split={' or '.join(map(repr, names))}, or split='all'"
        )
    return datasets[name]


def _what_is_missing(dataset: Dataset, datasets: dict[str, Dataset], report: FormatReport) -> str:
    """Return the text of the warning about rollouts and rows that are not in a dataset."""
    parts = [f"{count_of(len(dataset), 'row')} from {count_of(report.read, 'rollout')}"]
    for counts, noun, verb in ((report.excluded, "rollout", "left out"), (report.dropped_rows, "row", "not made")):
        if counts:
            reasons = ", ".join(f"{number:,} {reason}" for reason, number in counts.most_common())
            parts.append(f"{count_of(counts.total(), noun)} {verb} ({reasons})")
    others = {name: len(rows) for name, rows in datasets.items() if rows is not dataset}
    if others and len(dataset) < report.rows:
        rows = ", ".join(f"{number:,} in {name}" for name, number in others.items())
        parts.append(f"rows of other splits: {rows} (take them with split=...)")
    return f"{report.name}: {'; '.join(parts)}. return_report=True returns the report, with hints, in place of this warning"


def write(
    rollouts: RolloutSource,
    output: str | os.PathLike[str],
    formats: Sequence[FormatLike] | FormatLike = ("sft",),
    select: Select | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    progress: Progress | None = None,
    on_damage: OnDamage | None = None,
    **options: Unpack[ExportKeywords],
) -> ExportReport:
    """Write rollouts as files, in constant memory.

    `output` gets a folder for each format (Parquet, or JSONL for trainers that read lines) with the files of each split,
    `report.json`, and a dataset card `README.md` with pictures; `datasets.load_dataset(output, "sft")` loads a format. The files
    of a format appear when all of them are written. They replace those of an earlier export of the same runs in the same format,
    and leave all others alone: the rows of other runs in the same format get a name with that of the run, like `sft_second`.
    Card and report list all of them. An export without a row leaves the rows of an earlier one where they are.

    Args:
        rollouts, select, tokenizer, on_damage, **options: See `to_dataset`.
        output: The folder, which is made if it is missing.
        formats: One or more of `format_names()`, or formats' classes.
        progress: Called with the number of rollouts read and the number of all rollouts, for each format from the beginning.

    Returns:
        The rows written and the rollouts left out, by reason; `str(report)` is the text for a terminal.

    Raises:
        ConfigurationError: A format or an option is unknown, or the path is not a run.
        RecordError: A line is not a valid record, and `on_damage` is None.

    Example:
        >>> from openreward_gym import AssistantMessage, Rollout, UserMessage, export
        >>> messages = [UserMessage("2 + 2?"), AssistantMessage("4")]
        >>> rollouts = [Rollout(status="completed", messages=messages, reward=reward) for reward in (0.0, 1.0)]
        >>> report = export.write(rollouts, "out", formats=["sft"], select=export.Select(min_reward=0.5))
        >>> print(report)
        sft: 1 row from 1 of 2 rollouts
          left out      1  reward below 0.5
                   -> Select(min_reward=..., max_reward=...) sets the range, and reward=...
                      which reward counts
          file     sft/train-00000-of-00001.parquet
        in out
    """
    settings = ExportOptions.from_keywords(options)
    return _write_files(rollouts, output, formats, select, tokenizer, progress, on_damage, settings)


def push(
    rollouts: RolloutSource,
    repository: str,
    formats: Sequence[FormatLike] | FormatLike = ("sft",),
    select: Select | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    private: bool = True,
    revision: str | None = None,
    message: str = "Export of rollouts",
    progress: Progress | None = None,
    on_damage: OnDamage | None = None,
    **options: Unpack[ExportKeywords],
) -> ExportReport:
    """Write rollouts and upload them as a dataset of several configurations, with card and report.

    Errors of the export are raised before anything is uploaded. The upload is one commit, which keeps text above the mark in the
    repository's card, replaces files of the same formats and leaves other files alone. `load_dataset(repository, "sft")` loads a
    format.

    Args:
        rollouts, formats, select, tokenizer, progress, on_damage, **options: See `write`.
        repository: "owner/name" on the Hub, or the path of a local folder (absolute, or beginning with a dot), which gets the
            same files.
        private: Whether a repository that does not exist yet is made private. A public one gets no task specs, golden answers or
            metadata; the formats `rollouts` and `nemo_gym` need `answers=True` for it.
        revision: The branch; None for the main one.
        message: The message of the commit.

    Raises:
        ConfigurationError: A public push of whole records was not confirmed, or a format or an option is unknown.
        StoreError: The Hub refused the upload, or could not be reached.

    Example:
        >>> from openreward_gym import AssistantMessage, Rollout, UserMessage, export
        >>> rollout = Rollout(status="completed", messages=[UserMessage("2 + 2?"), AssistantMessage("4")])
        >>> export.push([rollout], "./repository").rows
        {'sft': 1}
    """
    kinds = _kinds(formats)
    settings = ExportOptions.from_keywords(options)
    _check_push(repository, kinds, private, settings)
    write_to = partial(
        _write_files, rollouts, formats=kinds, select=select, tokenizer=tokenizer, progress=progress, on_damage=on_damage
    )
    if _is_local(repository):
        return write_to(repository, options=settings, for_hub=True)
    from huggingface_hub import HfApi, constants

    api = HfApi()
    if not constants.HF_HUB_OFFLINE:
        hub.check_reachable(api.endpoint)
    with tempfile.TemporaryDirectory(prefix="openreward-gym-push-") as name:
        folder = Path(name)
        with hub.hub_errors(repository), hub.quiet():
            present = hub.download_card(api, repository, revision, folder)
        report = write_to(folder, options=settings, for_hub=True, present=present)
        with hub.hub_errors(repository), hub.quiet():
            api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
            hub.commit(api, repository, revision, message, folder, report)
    report.output = f"{api.endpoint}/datasets/{repository}"
    return report


def _is_local(repository: str) -> bool:
    return repository.startswith((".", os.sep))


def _check_push(repository: str, kinds: Sequence[type[Format]], private: bool, options: ExportOptions) -> None:
    """Raise ConfigurationError for a name that the Hub refuses, and for whole records in public."""
    whole = [kind.name for kind in kinds if kind.name in _WHOLE_RECORDS]
    if not private and whole and not options.answers:
        raise ConfigurationError(
            f"{' and '.join(whole)} would publish task specs, golden answers and metadata: leave it out, "
            "push privately, or pass answers=True"
        )
    if not _is_local(repository) and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository, re.ASCII):
        raise ConfigurationError(
            f"{repository!r} is no name of a dataset on the Hub: write it as owner/name (letters, digits, '-', '_' and '.'), "
            "or ./folder for a local folder"
        )


def _write_files(
    rollouts: RolloutSource,
    output: str | os.PathLike[str],
    formats: Sequence[FormatLike] | FormatLike,
    select: Select | None,
    tokenizer: Tokenizer | None,
    progress: Progress | None,
    on_damage: OnDamage | None,
    options: ExportOptions,
    *,
    for_hub: bool = False,
    present: Collection[str] | None = None,
) -> ExportReport:
    kinds = _kinds(formats)
    templates = [_template(kind, tokenizer) for kind in kinds]
    folder = Path(output)
    reader = RolloutReader.of(rollouts, on_damage)
    # On the Hub a format has one name, which its readers know, whichever run its rows come from.
    source = Source() if for_hub else Source.of(reader.runs)
    earlier = earlier_formats(folder, present)
    names = [source.name_in(earlier, kind.name) for kind in kinds]
    with output_folder(output, names):
        report = ExportReport(str(folder))
        for kind, name, template in zip(kinds, names, templates, strict=True):
            place = folder / name
            make = partial(Pipeline, reader, kind, select or Select(), options, template, progress, folder=place)
            keep = bool(earlier.get(name, {}).get("rows")) and not for_hub
            write_format = partial(
                _write_format, kind=kind, compat=options.compat, folder=place, for_hub=for_hub, keep_earlier=keep
            )
            written = _run(make, write_format)
            report.formats[name] = replace(written, name=name, format=kind.name, runs=source.runs, source=source.key)
            if not written.kept:
                remove_stale(folder, name, written.files, earlier.get(name, {}).get("files", ()))
        write_pictures(report, folder)
        with locked(folder):
            report.earlier = earlier_formats(folder, present)  # another export may have ended in the meantime
            text = json.dumps({"output": str(folder), "formats": report.all_formats()}, indent=2, ensure_ascii=False, default=str)
            part = folder / f".report.json.{os.getpid()}.part"
            part.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
            part.replace(folder / REPORT)
            write_card(report, options.license, folder)
    return report


def _write_format(
    pipeline: Pipeline, kind: type[Format], compat: Compat, folder: Path, for_hub: bool, keep_earlier: bool
) -> FormatReport:
    """Write the files of one format. With `keep_earlier`, write nothing if there is no row."""
    rows, columns, report = pipeline.rows_with_splits(), pipeline.columns, pipeline.report
    if keep_earlier:
        rows = iter(rows)
        first = next(rows, None)
        if first is None:
            return replace(report, kept=True)
        rows = itertools.chain([first], rows)
    if kind.file == "jsonl":
        if not kind.further_keys:
            # Lines have no null, and no keys but the columns.
            rows = (
                (split, {name: value for name, value in row.items() if name in columns and value is not None})
                for split, row in rows
            )
        files = tables.write_jsonl(rows, folder)
    else:
        files = tables.write_parquet(rows, columns, compat, folder, for_hub)
    pipeline.finish(folder, [file for parts in files.values() for file in parts])
    report.files = [f"{folder.name}/{file.name}" for parts in files.values() for file in parts]
    report.bytes = sum(file.stat().st_size for parts in files.values() for file in parts)
    report.columns = dict(columns)
    return report


def _kinds(formats: Sequence[FormatLike] | FormatLike) -> list[type[Format]]:
    """Return the classes of formats, each once."""
    kinds = list(dict.fromkeys(map(format_of, [formats] if isinstance(formats, (str, type)) else formats)))
    if not kinds:
        raise ConfigurationError("formats is empty: name at least one format, like formats=['sft']")
    names = [kind.name for kind in kinds]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"two formats have the same name: {', '.join(names)}")
    return kinds


def _run(make: Callable[..., Pipeline], use: Callable[[Pipeline], T]) -> T:
    """Use a pipeline, and another one if it fails.

    If an image turns up for which the rows have no column, the next one looks for images first. If a value is of a type that
    nothing expects, the next one checks every record first, and passes over those that are damaged.
    """
    settings: dict[str, bool] = {}
    while True:
        try:
            return use(make(**settings))
        except ImagesFound:
            settings["look_first"] = True
        except OF_WRONG_VALUES as error:
            # An error that names the line of a record was raised because nobody takes reports of damage.
            is_ours = isinstance(error, OpenRewardGymError)
            if "thorough" in settings or (is_ours and (not isinstance(error, RecordError) or hasattr(error, "line"))):
                raise
            settings["thorough"] = True


def _template(kind: type[Format], tokenizer: Tokenizer | None) -> ChatTemplate | None:
    if tokenizer is None:
        if kind.needs_tokenizer:
            raise ConfigurationError(f"the format {kind.name!r} needs a tokenizer: pass tokenizer='a model's name or folder'")
        return None
    from openreward_gym.export.template import ChatTemplate

    return ChatTemplate.of(tokenizer)
