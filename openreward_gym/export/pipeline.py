"""From rollouts to rows: read, choose, convert; one rollout in memory at a time (one group, where groups are compared)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from openreward_gym.export.control import ControlTokens
from openreward_gym.export.conversation import PROBLEMS, Conversation, conversation_of, merge_system, split_parallel
from openreward_gym.export.formats import Context, Format, ImageFiles, LeftOut
from openreward_gym.export.options import Options
from openreward_gym.export.report import FormatReport
from openreward_gym.export.select import Deduplication, Facts, Select, choose, facts_of, reward_of
from openreward_gym.export.source import Record, Source
from openreward_gym.export.tables import Columns, Row
from openreward_gym.types.rollout import Rollout

if TYPE_CHECKING:
    from openreward_gym.export.template import ChatTemplate

Progress = Callable[[int, int], None]
"""Called with (rollouts read, rollouts there are)."""


class ImagesFound(Exception):  # noqa: N818 - not an error: begin again, with a column for images
    """A rollout with images is among those that are exported, and the rows so far have no column for them."""


class Pipeline:
    """The rows of one format.

    Rollouts are read once; twice where the selection or the format compares them with each other, or where images are
    about: whether there is a column for them must be known before the first row. Few runs have any, so that is only found
    out (`look_first`) when an image turned up (`ImagesFound`). Formats whose rows name images by their path write them to
    `folder`.
    """

    def __init__(
        self,
        source: Source,
        kind: type[Format],
        select: Select,
        options: Options,
        template: ChatTemplate | None = None,
        progress: Progress | None = None,
        look_first: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.report = FormatReport(kind.name)
        self._source = source
        self._select = select
        self._options = options
        self._template = template
        self._progress = progress
        special = template.special_tokens if template is not None else ()
        self._control = ControlTokens(options.control_tokens, special)
        context = Context(options, template, self.report, source.image, source.notes, select.reward)
        self.image_files = context.image_files = ImageFiles(folder) if folder is not None else None
        self._format = kind(context)
        self._tolerated = kind.tolerates | ({"malformed_call"} if options.malformed_calls == "keep" else set())
        self._kept: list[Facts] | None = None
        if select.looks_at_others or kind.looks_at_all or look_first:
            self._kept, with_images = self._survey()
            context.with_images = self.report.with_images = with_images and kind.image_column

    @property
    def columns(self) -> Columns:
        return self._format.all_columns()

    def rows(self) -> Iterator[Row]:
        """All rows; `report` is complete after the last one.

        Raises:
            ImagesFound: Make another pipeline, with `look_first`.
        """
        for conversations in self._units():
            try:
                count = 0
                for row in self._format.rows(conversations):
                    count += 1
                    self.report.rows += 1
                    yield row
            except LeftOut as reason:
                for _ in conversations:
                    self.report.exclude(str(reason))
                continue
            if count == 0 and self._format.looks_at_all:
                # Why is counted by the format: it is pairs that are left out, not rollouts.
                for _ in conversations:
                    self.report.exclude("no row came of it")
                continue
            for conversation in conversations:
                self.report.took(conversation.record, conversation.findings)

    def _units(self) -> Iterator[list[Conversation]]:
        if self._kept is None:
            for _, conversation in self._each(count=True):
                if conversation.images and self._format.image_column:
                    raise ImagesFound
                yield [conversation]
            return
        for numbers in self._format.units(self._kept):
            yield [self._convert(*self._source.read(number)) for number in numbers]

    def _survey(self) -> tuple[list[Facts], bool]:
        """What is left after every criterion, and whether there is an image among it."""
        facts: list[Facts] = []
        with_images: set[int] = set()
        for number, conversation in self._each(count=False):
            facts.append(
                facts_of(number, conversation.record, reward_of(conversation.record, self._select.reward, self._source.notes))
            )
            if conversation.images:
                with_images.add(number)
        kept: list[Facts] = []
        for fact, reason in choose(self._select, facts):
            if reason is None and self._select.limit is not None and len(kept) >= self._select.limit:
                reason = f"beyond the first {self._select.limit}"
            if reason is None:
                kept.append(fact)
            else:
                self.report.exclude(reason)
        return kept, any(fact.number in with_images for fact in kept)

    def _each(self, *, count: bool) -> Iterator[tuple[int, Conversation]]:
        """(number, rollout) for all that pass the criteria that look at one rollout; `count`: apply `limit` here."""
        select, report, kind = self._select, self.report, self._format
        duplicates = Deduplication(select.dedupe) if select.dedupe is not None else None
        passed = 0
        for number in range(len(self._source)):
            if self._progress is not None:
                self._progress(number, len(self._source))
            record, utf8 = self._source.read(number)
            report.saw(record)
            reason = select.refuses(record, kind.statuses, self._source.notes)
            if reason is None:
                conversation = self._convert(record, utf8)
                problems = sorted(conversation.problems - self._tolerated) if kind.trains else []
                if problems:
                    reason = PROBLEMS[problems[0]]
                elif duplicates is not None and duplicates.seen(conversation.messages):
                    reason = f"duplicate ({select.dedupe})"
                elif count and select.limit is not None and passed >= select.limit:
                    reason = f"beyond the first {select.limit}"
            if reason is not None:
                report.exclude(reason)
                continue
            passed += 1
            yield number, conversation
        if self._progress is not None:
            self._progress(len(self._source), len(self._source))

    def _convert(self, record: Record, utf8: bool) -> Conversation:
        try:
            conversation = conversation_of(
                record, self._source.image, utf8=utf8, reasoning=self._options.reasoning, control=self._control
            )
        except (KeyError, TypeError, AttributeError):
            # It was not checked when it was read: say what is wrong with it.
            Rollout.from_dict(record)
            raise
        self._fit(conversation)
        return conversation

    def _fit(self, conversation: Conversation) -> None:
        """Make of the conversation what was asked for, and what the template can render."""
        template, options = self._template, self._options
        parallel = conversation.parallel
        if parallel and options.parallel_calls == "drop":
            conversation.problems.add("parallel_calls")
        elif parallel and (
            options.parallel_calls == "split" or (template is not None and template.has_tools and not template.parallel_calls)
        ):
            split_parallel(conversation)
            conversation.findings.add("parallel_calls_split")
        if (options.system == "merge" or (template is not None and not template.system)) and merge_system(conversation):
            conversation.findings.add("system_merged")


def rows_for_file(rows: Iterable[Row], columns: Columns) -> Iterator[Row]:
    """Rows for a JSON file: their columns alone, and no null."""
    names = set(columns)
    return ({name: value for name, value in row.items() if name in names and value is not None} for row in rows)
