"""From rollouts to rows: read, choose, convert; one rollout in memory at a time (one group, where groups are compared)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from openreward_gym.errors import OpenRewardGymError, RecordError
from openreward_gym.export.conversation import (
    PROBLEMS,
    ControlTokens,
    Conversation,
    Reading,
    conversation_of,
    merge_system,
    split_parallel,
)
from openreward_gym.export.duplicates import Contamination, Hashes, digest_of, shingles_of, signature_of
from openreward_gym.export.formats import Context, Format, ImageFiles, LeftOut
from openreward_gym.export.lengths import LengthLimits
from openreward_gym.export.options import ExportOptions, Select
from openreward_gym.export.reader import Annotations, Record, RolloutReader, group_of, num_turns_of, task_of
from openreward_gym.export.reasons import DAMAGED
from openreward_gym.export.report import FormatReport
from openreward_gym.export.scrub import Scrubber
from openreward_gym.export.select import Facts, RecordFilter, choose, reward_of
from openreward_gym.export.splits import SplitRule, is_standard
from openreward_gym.export.tables import Columns, Row
from openreward_gym.export.template import rename_call_ids
from openreward_gym.export.weights import with_weights

if TYPE_CHECKING:
    from openreward_gym.export.template import ChatTemplate

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of rollouts read, and the number of all rollouts."""


OF_WRONG_VALUES = (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError, RecursionError)
"""Errors that a record with a wrong value, which was read unchecked, may raise anywhere."""
_INT64 = 1 << 63
_MOST_LEVELS = 200
"""The nesting of a record that every format can write."""


class ImagesFound(Exception):  # noqa: N818 - not an error: begin again, with a column for images
    """A rollout with images is among those that are exported, and the rows so far have no column for them."""


class Pipeline:
    """The rows of one format.

    Rollouts are read twice if the selection or the format compares them, or with `look_first`. Without it, which suits most runs,
    the rows raise `ImagesFound` at the first image: the first row must have a column for images.

    Args:
        template: The chat template that conversations must fit; None for any.
        look_first: Whether to look for images in all rollouts before the first row.
        thorough: Whether to check every record in full before anything is made of it, which takes several times as long. Without
            it, a record with a wrong value may raise any of `OF_WRONG_VALUES`, here or where its row is written.
        folder: Folder for images that rows name by their path; None if rows are not written to files.
    """

    def __init__(
        self,
        reader: RolloutReader,
        kind: type[Format],
        select: Select,
        options: ExportOptions,
        template: ChatTemplate | None = None,
        progress: Progress | None = None,
        look_first: bool = False,
        thorough: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.report = FormatReport(kind.name, about=kind.about, file=kind.file, compat=options.compat)
        self._reader = reader
        self._select = select
        self._scrubber = Scrubber(options.scrub) if options.scrub is not None else None
        scrub = self._scrubber.text if self._scrubber is not None else str
        self._filter = RecordFilter(select, kind.statuses, reader.annotations, scrub)
        self._options = options
        self._template = template
        self._progress = progress
        special = template.special_tokens if template is not None else ()
        self._reading = Reading(
            reasoning=options.reasoning and kind.carries_reasoning,
            endings=frozenset(options.endings),
            assume_sampled=options.assume_sampled,
            control=ControlTokens(options.control_tokens, special),
        )
        context = Context(options, template, self.report, reader.image, self._annotations, select.reward)
        self.image_files = context.image_files = ImageFiles(folder) if folder is not None else None
        self._format = kind(context)
        self._splits = SplitRule(options, reader.annotations, scrub)
        self._lengths = LengthLimits(options, template)
        self._contamination = Contamination(select.decontaminate) if select.decontaminate is not None else None
        self._tolerated = kind.tolerates | ({"malformed_call"} if options.malformed_calls == "keep" else set())
        if options.compat == "string" and kind.file == "parquet":
            self._tolerated |= {"repeated_key"}
        self._thorough = thorough
        self._selected: list[Facts] | None = None
        if select.compares_rollouts or kind.compares_rollouts or look_first:
            self._selected, with_images = self._survey()
            context.with_images = self.report.with_images = with_images and kind.image_column

    @property
    def columns(self) -> Columns:
        """The columns of the rows, and their kinds."""
        return self._format.all_columns()

    def rows(self) -> Iterator[Row]:
        """Yield all rows. `report` is complete after the last one."""
        return (row for _, row in self.rows_with_splits())

    def rows_with_splits(self) -> Iterator[tuple[str, Row]]:
        """Yield all rows, each after the name of its split. `report` is complete after the last one."""
        report = self.report
        for conversations in self._units():
            split = conversations[0].split
            rows_before, excluded_by = report.rows, None
            refused: Counter[str] = Counter()
            try:
                for row in self._format.rows(conversations):
                    if self._thorough:
                        self._check_integers(row)
                    reason = self._lengths.reason_against(row, conversations[0]) if self._lengths else None
                    if reason is not None:
                        refused[reason] += 1
                        continue
                    report.rows += 1
                    report.splits[split] += 1
                    yield split, row
            except LeftOut as reason:
                excluded_by = str(reason)
            except OF_WRONG_VALUES as error:
                if not self._thorough or _is_ours(error):
                    raise
                excluded_by = f"its values do not fit into the format ({type(error).__name__}: {str(error)[:200]})"
            if report.rows == rows_before and refused and not self._format.compares_rollouts:
                # No row is left: that is a reason against the rollout.
                excluded_by = excluded_by or refused.most_common(1)[0][0]
            elif refused:
                report.dropped_rows += refused
            if report.rows == rows_before and self._format.compares_rollouts:
                # The format counts the reasons: pairs are left out, not rollouts.
                excluded_by = excluded_by or "no row came of it"
            for conversation in conversations:
                if excluded_by is None:
                    if not is_standard(split):
                        conversation.findings.add("other_split")
                    remarks = self._format.remarks
                    findings = conversation.findings if remarks is None else conversation.findings & remarks
                    report.count_selected(conversation.record, findings, split)
                else:
                    report.exclude(excluded_by)

    def _check_integers(self, row: Row) -> None:
        """Leave out a row with an integer of more than 64 bits, which a record may have, but no table."""
        for name, kind in self.columns.items():
            value = row.get(name)
            if kind == "int" and isinstance(value, int) and not -_INT64 <= value < _INT64:
                raise LeftOut(f"{name} is an integer of more than 64 bits")

    def finish(self, folder: Path, files: Sequence[Path]) -> None:
        """Complete the format's output after its rows were written to `files`."""
        self._format.write_beside(folder, files)
        if self.image_files is not None:
            self.image_files.remove_others()

    def _units(self) -> Iterator[list[Conversation]]:
        if self._selected is None:
            for _, conversation in self._chosen(apply_limit=True):
                if conversation.images and self._format.image_column:
                    raise ImagesFound
                yield [conversation]
            return
        for numbers in self._format.units(self._selected):
            yield [self._read(number) for number in numbers]

    def _survey(self) -> tuple[list[Facts], bool]:
        """Return the rollouts that meet every criterion, and whether one of them has an image."""
        facts: list[Facts] = []
        with_images: set[int] = set()
        for number, conversation in self._chosen(apply_limit=False):
            record = conversation.record
            reward = reward_of(record, self._select.reward, self._annotations)
            environment = (record.get("environment") or {}).get("name", "")
            # Rollouts are compared within a split only: no pair has one side of another split.
            group = (group_of(record), conversation.split)
            completed = record["status"] == "completed"
            content = self._content_of(conversation)
            fact = Facts(number, group, task_of(record), environment, reward, num_turns_of(record), completed, content)
            fact.trainable, fact.rejectable = bool(conversation.turns), bool(conversation.rejectable_turns)
            facts.append(fact)
            if conversation.images:
                with_images.add(number)
        selected: list[Facts] = []
        for fact, reason in choose(self._select, facts, lru_cache(256)(self._shingles)):
            if reason is None and self._select.limit is not None and len(selected) >= self._select.limit:
                reason = f"beyond the first {self._select.limit}"
            if reason is None:
                selected.append(fact)
            else:
                self.report.exclude(reason)
        return selected, any(fact.number in with_images for fact in selected)

    def _content_of(self, conversation: Conversation) -> bytes:
        """Return what `Select.dedupe` compares."""
        kind = self._select.dedupe
        if kind is None:
            return b""
        return signature_of(shingles_of(conversation.messages)) if kind == "near" else digest_of(conversation.messages, kind)

    def _shingles(self, number: int) -> Hashes:
        return shingles_of(self._read(number).messages)

    def _chosen(self, *, apply_limit: bool) -> Iterator[tuple[int, Conversation]]:
        """Yield number and conversation of the rollouts that meet the criteria which look at one rollout at a time."""
        select, report, kind = self._select, self.report, self._format
        passed = 0
        report.count_repeated(self._reader.repeated)
        if self._reader.unfinished:
            report.findings["unfinished_line"] = self._reader.unfinished
        for number in range(len(self._reader)):
            if self._progress is not None:
                self._progress(number, len(self._reader))
            read_before = report.read
            try:
                record, utf8 = self._reader.record(number)
                if self._thorough:
                    self._reader.check(number)
                    _check_nesting(record)
                with self._checked(number):
                    report.count_read(record)
                    reason = self._filter.reason_against(record)
                if reason is None:
                    conversation = self._convert(number, record, utf8)
            except RecordError as error:
                self._reader.pass_over(number, error)
                report.read = read_before + 1
                report.exclude(DAMAGED)
                continue
            if reason is None:
                problems = conversation.problems - self._tolerated if kind.trains else ()
                if problems:
                    reason = next(PROBLEMS[problem] for problem in PROBLEMS if problem in problems)
                    if reason == PROBLEMS["no_model_turn"]:
                        reason = conversation.untrained_reason() or reason
                elif self._contamination is not None and self._contamination.overlaps(conversation.prompt):
                    reason = "its prompt overlaps with the texts of decontaminate"
                elif apply_limit and select.limit is not None and passed >= select.limit:
                    reason = f"beyond the first {select.limit}"
            if reason is not None:
                report.exclude(reason)
                continue
            passed += 1
            yield number, conversation
        if self._progress is not None:
            self._progress(len(self._reader), len(self._reader))

    def _annotations(self, record: Record) -> Annotations:
        """Return the annotations of a converted record."""
        annotations_of = self._reader.annotations
        return annotations_of(record) if self._scrubber is None else self._scrubber.annotations(record, annotations_of)

    def _read(self, number: int) -> Conversation:
        return self._convert(number, *self._reader.record(number))

    def _convert(self, number: int, record: Record, utf8: bool) -> Conversation:
        """Convert a record, and change it and the conversation as the options say and as the template needs."""
        template, options = self._template, self._options
        with self._checked(number):
            split = self._splits.split_of(record)
            if options.weights is not None:
                record = with_weights(record, options.weights)
            scrubbed = self._scrubber.record(record) if self._scrubber is not None else record
            conversation = conversation_of(scrubbed, self._reader.image, utf8=utf8, reading=self._reading)
        conversation.split = split
        if scrubbed is not record:
            conversation.findings.add("scrubbed")
        if conversation.parallel:
            if options.parallel_calls == "drop":
                conversation.problems.add("parallel_calls")
            elif options.parallel_calls == "split" or (
                template is not None and template.has_tools and not template.parallel_calls
            ):
                split_parallel(conversation)
                conversation.findings.add("parallel_calls_split")
        if (options.system == "merge" or (template is not None and not template.system)) and merge_system(conversation):
            conversation.findings.add("system_merged")
        if template is not None and template.nine_letter_ids and rename_call_ids(conversation):
            conversation.findings.add("call_ids_renamed")
        return conversation

    @contextmanager
    def _checked(self, number: int) -> Iterator[None]:
        """Raise the RecordError that names the wrong field if code fails because a record, which was read unchecked, has one."""
        try:
            yield
        except OF_WRONG_VALUES as error:
            if not isinstance(error, OpenRewardGymError):
                self._reader.check(number)
                if self._thorough:
                    # Every field has its type, but together they are a shape that no writer of records makes.
                    raise RecordError(f"it cannot be converted ({type(error).__name__}: {str(error)[:200]})") from error
            raise


def _is_ours(error: Exception) -> bool:
    """Return whether an error is one of the package's own that is not about a record."""
    return isinstance(error, OpenRewardGymError) and not isinstance(error, RecordError)


def _check_nesting(record: Record) -> None:
    """Raise RecordError for a record that is nested more deeply than every format can write."""
    level: list[Any] = [record]
    levels = 0
    while level:
        if (levels := levels + 1) > _MOST_LEVELS:
            raise RecordError(f"it is nested more than {_MOST_LEVELS} levels deep")
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, (dict, list))
        ]
