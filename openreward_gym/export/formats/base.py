"""The base classes of formats, and what formats share."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from openreward_gym import jsonio
from openreward_gym.export.conversation import PROBLEMS, ChatMessage, Conversation, ReadImage, plain_message
from openreward_gym.export.json_columns import DamagedNumberError, column_bytes, message_bytes
from openreward_gym.export.options import EXTRA_COLUMNS, ExportOptions, RewardKind
from openreward_gym.export.reader import Annotations, Record, model_of, number_of, step_rewards_of, task_of
from openreward_gym.export.reasons import FINDINGS
from openreward_gym.export.report import FormatReport
from openreward_gym.export.select import Facts, reward_of
from openreward_gym.export.tables import Columns, Row
from openreward_gym.images import extension_of, mime_type_of

if TYPE_CHECKING:
    from openreward_gym.export.template import ChatTemplate

_NO_TEXTS: Mapping[str, str] = MappingProxyType({})


class LeftOut(Exception):  # noqa: N818 - not an error: a rollout that a format cannot take, with the reason
    """The rollout is not in this format's output; the text is the reason: `raise LeftOut("it has images")`."""


class ImageFiles:
    """Images as files beside a format's rows, each once, named by their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: set[Path] = set()

    def remove_others(self) -> None:
        """Remove the images of an earlier export, which no row names."""
        for path in (self._folder / "images").glob("*"):
            if path not in self._paths:
                path.unlink()

    def path_of(self, content: bytes) -> str:
        """Return the image's path, relative to the format's folder, and write the file if it is missing."""
        name = f"images/{hashlib.sha256(content).hexdigest()}.{extension_of(mime_type_of(content))}"
        path = self._folder / name
        self._paths.add(path)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return name


@dataclass
class Context:
    """The surroundings of a format: options, and functions that look things up.

    Attributes:
        options: Options of the rows.
        template: A tokenizer's chat template; None without a tokenizer.
        report: The report that counts rows which are not written.
        read_image: Returns an image block's bytes, or None.
        annotations_of: Returns the annotations of a record.
        reward: The reward that counts where rollouts are compared.
        image_files: Writes images that rows name by their path; None if rows are not written to files.
        with_images: Whether an exported rollout has images: then every row has a column for them.

    Example:
        >>> from openreward_gym.export import Context, ExportOptions, FormatReport
        >>> context = Context(ExportOptions(), None, FormatReport("sft"), lambda block: None, lambda record: None)
        >>> context.reward
        'sum'
    """

    options: ExportOptions
    template: ChatTemplate | None
    report: FormatReport
    read_image: ReadImage
    annotations_of: Callable[[Record], Annotations]
    reward: RewardKind = "sum"
    image_files: ImageFiles | None = None
    with_images: bool = False

    def reward_of(self, conversation: Conversation) -> float | None:
        """Return the reward that counts; None if it is missing."""
        return reward_of(conversation.record, self.reward, self.annotations_of)


class Format(ABC):
    """A format: which rollouts it is for, its columns, and how its rows are made.

    A distribution offers its class through the entry point group `openreward_gym.exporters`, or it is passed itself.

    Attributes:
        name: The format's name.
        about: Its purpose, in one line.
        file: The kind of file it is written as.
        statuses: The statuses of the rollouts it is for; None for all.
        trains: Whether its rows are trained on, so that a conversation with a problem is left out.
        tolerates: Problems that do not matter to it.
        carries_reasoning: Whether its messages have a field for reasoning.
        compares_rollouts: Whether it must know all rollouts before it makes the first row (see `units`).
        image_column: Whether rows get a column `images` if there are any images.
        further_keys: Whether a line of its file has keys besides its columns.
        needs_tokenizer: Whether it cannot do without a tokenizer.
        remarks: The keys of `openreward_gym.export.reasons.FINDINGS` that can be true of its rows; None for all.

    Example:
        >>> from openreward_gym import export
        >>> class Lengths(export.Format):
        ...     name = "lengths"
        ...     about = "number of messages per rollout"
        ...
        ...     def columns(self):
        ...         return {"messages": "int"}
        ...
        ...     def rows(self, conversations):
        ...         (conversation,) = conversations
        ...         yield self.row(conversation, messages=len(conversation.messages))
        >>> export.to_dataset([], format=Lengths).column_names
        ['messages', 'rollout_id']
    """

    name: ClassVar[str]
    about: ClassVar[str]
    file: ClassVar[Literal["parquet", "jsonl"]] = "parquet"
    statuses: ClassVar[tuple[str, ...] | None] = ("completed",)
    trains: ClassVar[bool] = True
    tolerates: ClassVar[frozenset[str]] = frozenset()
    carries_reasoning: ClassVar[bool] = True
    compares_rollouts: ClassVar[bool] = False
    image_column: ClassVar[bool] = True
    further_keys: ClassVar[bool] = False
    needs_tokenizer: ClassVar[bool] = False
    remarks: ClassVar[frozenset[str] | None] = None

    def __init__(self, context: Context) -> None:
        self.context = context
        self.options = context.options
        # Rollouts of an environment share their tools, which are checked once.
        self._checked_tools: list[dict[str, Any]] | None = None

    @abstractmethod
    def columns(self) -> Columns:
        """Return the trainer's columns and their kinds. `rollout_id`, images and `ExportOptions.columns` are added to them."""

    def all_columns(self) -> Columns:
        """Return all columns of a row and their kinds."""
        columns = {**self.columns(), "rollout_id": "text"}
        if self.context.with_images and self.image_column:
            columns["images"] = "images"
        return {**columns, **{name: EXTRA_COLUMNS[name] for name in self.options.columns if name not in columns}}

    def units(self, facts: Sequence[Facts]) -> Iterable[list[int]]:
        """Return the rollouts (by number) that make rows together, in the order of their rows."""
        return ([fact.number] for fact in facts)

    @abstractmethod
    def rows(self, conversations: Sequence[Conversation]) -> Iterable[Row]:
        """Return the rows of a unit.

        Raises:
            LeftOut: The format cannot take these rollouts.
        """

    def write_beside(self, folder: Path, files: Sequence[Path]) -> None:  # noqa: B027 - most formats have nothing
        """Write what a trainer reads beside `files`, which hold all rows; by default nothing."""

    def image_paths(self, conversation: Conversation, reader: str) -> list[str]:
        """Return the images as files, in order.

        Raises:
            LeftOut: There are images, but no folder to write them to.
        """
        files = self.context.image_files
        if conversation.images and files is None:
            raise LeftOut(f"it has images: {reader} takes paths, which `write` makes")
        return [files.path_of(content) for content in conversation.images] if files is not None else []

    def row(self, conversation: Conversation, **values: Any) -> Row:
        """Return a row of `values` and the columns that all rows have."""
        row = {**values, "rollout_id": conversation.record["id"]}
        if self.context.with_images:
            row.setdefault("images", conversation.images)
        if self.options.columns:
            extra = extra_columns(conversation.record, self.context.annotations_of(conversation.record))
            row.update({name: extra[name] for name in self.options.columns if name not in row})
        return row

    def cells(
        self, messages: Sequence[ChatMessage], tools: list[dict[str, Any]] | None, argument_texts: Mapping[str, str] = _NO_TEXTS
    ) -> list[Any]:
        """Return the messages as cells of a column of the kind `messages`.

        Args:
            messages: The messages.
            tools: The tools of their row.
            argument_texts: The calls' arguments as the model wrote them, by call id (`Conversation.argument_texts`).

        Raises:
            LeftOut: They or the tools have a number that `datasets` damages when it reads a `Json` column.
        """
        if self.options.compat == "string":
            return [plain_message(message, argument_texts) for message in messages]
        try:
            if tools is not self._checked_tools:
                column_bytes(tools, exact=True)
                self._checked_tools = tools
            return list(map(message_bytes, messages))
        except (DamagedNumberError, RecursionError):
            raise LeftOut("a number that a Json column cannot give back (take compat='string' or the tokens format)") from None


class MessageLines(Format):
    """A format of lines with the messages of a rollout, of which each says how it is trained, and the tools as JSON text."""

    file = "jsonl"
    image_column = False
    no_tools: ClassVar[str | None] = None
    """The value of the column `tools` for a rollout without tools."""

    def columns(self) -> Columns:
        return {"messages": "objects", "tools": "text"}

    def rows(self, conversations: Sequence[Conversation]) -> Iterable[Row]:
        (conversation,) = conversations
        messages = self.messages(conversation)
        yield self.row(conversation, messages=messages, tools=json_text(conversation.tools) or self.no_tools)

    @abstractmethod
    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        """Return the messages of a line.

        Raises:
            LeftOut: The format cannot take the rollout.
        """


class OnePerTask(Format):
    """A format of the prompts of tasks: one row per task, made from its first rollout that has a prompt.

    Example:
        >>> from openreward_gym import export
        >>> class Questions(export.OnePerTask):
        ...     name = "questions"
        ...     about = "one question per task"
        ...
        ...     def columns(self):
        ...         return {"question": "text"}
        ...
        ...     def task_row(self, conversation, prompt):
        ...         return self.row(conversation, question=prompt[-1]["content"])
        >>> export.to_dataset([], format=Questions).column_names
        ['question', 'rollout_id']
    """

    statuses = None
    trains = False
    remarks = frozenset(FINDINGS) - {"untrained_turn", "other_weight", "reasoning_left_out"}

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._tasks: set[Hashable] = set()

    def rows(self, conversations: Sequence[Conversation]) -> Iterable[Row]:
        (conversation,) = conversations
        task = task_of(conversation.record)
        if task in self._tasks:
            raise LeftOut("another rollout of its task makes the row")
        prompt = conversation.prompt
        if not prompt or prompt[-1]["role"] == "assistant":
            raise LeftOut("its prompt is empty or ends with an assistant message")
        for source in conversation.sources[: len(prompt)]:
            if source in conversation.uncarried:
                raise LeftOut(PROBLEMS[conversation.uncarried[source]])
        if prompt[-1]["role"] != "user":
            conversation.findings.add("prompt_ends_otherwise")
        row = self.task_row(conversation, prompt)
        self._tasks.add(task)
        yield row

    @abstractmethod
    def task_row(self, conversation: Conversation, prompt: list[ChatMessage]) -> Row:
        """Return the row of a task whose episode began with `prompt`, which does not end with an assistant message.

        Raises:
            LeftOut: The format cannot take the prompt.
        """


def json_text(value: Any) -> str:
    """Return the JSON text of a value; an empty text for one that is empty or missing."""
    return jsonio.dumps(value).decode() if value else ""


def extra_columns(record: Record, annotations: Annotations) -> Row:
    """Return the values of `EXTRA_COLUMNS`."""
    environment, task = record.get("environment") or {}, record.get("task") or {}
    return {
        "reward": number_of(record.get("reward")),
        "final_reward": number_of(record.get("final_reward")),
        "environment": environment.get("name", ""),
        "split": environment.get("split"),
        "task_id": task.get("id", ""),
        "task_index": task.get("index"),
        "group": record.get("group"),
        "model": model_of(record),
        "status": record["status"],
        "stop_reason": record.get("stop_reason", ""),
        "seed": record.get("seed"),
        "run": record.get("run", ""),
        "labels": annotations.labels,
        "rating": annotations.rating,
        "advantage": annotations.advantage,
        "score": annotations.score,
        "discard_reason": annotations.discard_reason,
        "step_rewards": step_rewards_of(record),
    }
