"""What a format is."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from openreward_gym.export.conversation import ChatMessage, Conversation, ReadImage
from openreward_gym.export.exact import DamagedNumberError, survives_json_column
from openreward_gym.export.messages import message_cells
from openreward_gym.export.options import COLUMNS, Options
from openreward_gym.export.report import FormatReport
from openreward_gym.export.select import Facts, Which, model_of, reward_of, task_of
from openreward_gym.export.source import Notes, Record
from openreward_gym.export.tables import Columns, Row

if TYPE_CHECKING:
    from openreward_gym.export.template import ChatTemplate


class LeftOut(Exception):  # noqa: N818 - not an error: a rollout that a format cannot take, with the reason
    """The rollout is not in this format's output; its text is the reason."""


@dataclass
class Context:
    """What formats share.

    Attributes:
        options: How rows are made.
        template: A tokenizer's chat template; None where no tokenizer was given.
        report: Where rows that are not written are counted.
        read_image: Gives an image part's bytes, or None.
        notes_of: Gives what was said about a rollout.
        reward: Which reward counts where rollouts are compared.
        image_files: Where images go that rows name by their path; None where rows are not written to files.
        with_images: Whether a rollout that is exported has images: then every row has a column for them.
    """

    options: Options
    template: ChatTemplate | None
    report: FormatReport
    read_image: ReadImage
    notes_of: Callable[[Record], Notes]
    reward: Which = "sum"
    image_files: ImageFiles | None = None
    with_images: bool = False

    def reward_of(self, conversation: Conversation) -> float | None:
        """The reward that counts; None where there is none."""
        return reward_of(conversation.record, self.reward, self.notes_of)


class ImageFiles:
    """Images as files beside a format's rows, each once, named by their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._named: set[Path] = set()

    def remove_others(self) -> None:
        """Remove the images that no row names: an earlier export's."""
        for path in (self._folder / "images").glob("*"):
            if path not in self._named:
                path.unlink()

    def path_of(self, content: bytes) -> str:
        """The image's path, relative to the format's folder; it is written if it is not there yet."""
        mime_type = mime_type_of(content)
        name = f"images/{hashlib.sha256(content).hexdigest()}.{mime_type.removeprefix('image/')}"
        path = self._folder / name
        self._named.add(path)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return name


def mime_type_of(content: bytes) -> str:
    """The type of an image, by how its bytes begin."""
    return next((kind for signature, kind in _MIME_TYPES.items() if content.startswith(signature)), "image/png")


_MIME_TYPES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
    b"BM": "image/bmp",
}


class Format(ABC):
    """A format. Subclasses say which rollouts it is for, its columns, and how its rows are made.

    Attributes:
        name: Its name.
        about: What it is for, in one line.
        file: What it is written as.
        statuses: The rollouts it is for; None for all.
        trains: Whether its rows are trained on, so that a conversation with a problem is left out.
        tolerates: Problems that do not matter to it.
        looks_at_all: Whether it must know all rollouts before it makes the first row (see `units`).
        image_column: Whether rows get a column `images` where there are any.
        further_keys: Whether a line of its file has keys besides its columns.
        needs_tokenizer: Whether it cannot do without one.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    file: ClassVar[Literal["parquet", "jsonl"]] = "parquet"
    statuses: ClassVar[tuple[str, ...] | None] = ("completed",)
    trains: ClassVar[bool] = True
    tolerates: ClassVar[frozenset[str]] = frozenset()
    looks_at_all: ClassVar[bool] = False
    image_column: ClassVar[bool] = True
    further_keys: ClassVar[bool] = False
    needs_tokenizer: ClassVar[bool] = False

    def __init__(self, context: Context) -> None:
        self.context = context
        self.options = context.options
        # Rollouts of an environment share their tools: those that were looked at last need no second look.
        self._good_tools: list[dict[str, Any]] | None = None

    @abstractmethod
    def columns(self) -> Columns:
        """The trainer's columns; `rollout_id`, images and the columns that were asked for are added to them."""

    def all_columns(self) -> Columns:
        columns = {**self.columns(), "rollout_id": "text"}
        if self.context.with_images and self.image_column:
            columns["images"] = "images"
        return {**columns, **{name: COLUMNS[name] for name in self.options.columns if name not in columns}}

    def units(self, facts: Sequence[Facts]) -> Iterable[list[int]]:
        """The rollouts (by number) that make rows together, in the order of their rows."""
        return ([fact.number] for fact in facts)

    @abstractmethod
    def rows(self, conversations: Sequence[Conversation]) -> Iterable[Row]:
        """The rows of a unit.

        Raises:
            LeftOut: There can be none.
        """

    def image_paths(self, conversation: Conversation, needs: str) -> list[str]:
        """The images as files, in order.

        Raises:
            LeftOut: There are images, and no folder to write them to.
        """
        files = self.context.image_files
        if conversation.images and files is None:
            raise LeftOut(f"it has images: {needs} takes paths, which `write` makes")
        return [files.path_of(content) for content in conversation.images] if files is not None else []

    def row(self, conversation: Conversation, **values: Any) -> Row:
        """A row with the columns that all rows have."""
        row = {**values, "rollout_id": conversation.record["id"]}
        if self.context.with_images:
            row.setdefault("images", conversation.images)
        if self.options.columns:
            further = {**further_columns(conversation), **noted_columns(self.context.notes_of(conversation.record))}
            row.update({name: further[name] for name in self.options.columns if name not in row})
        return row

    def cells(self, messages: Sequence[ChatMessage], tools: list[dict[str, Any]] | None) -> list[Any]:
        """The messages as cells of a column of the kind `messages`.

        Raises:
            LeftOut: They or the tools have a number that `datasets` damages when it reads a `Json` column.
        """
        compat = self.options.compat
        if compat == "json" and tools is not self._good_tools:
            if not survives_json_column(tools):
                raise LeftOut(_DAMAGED)
            self._good_tools = tools
        try:
            return message_cells(messages, compat)
        except DamagedNumberError:
            raise LeftOut(_DAMAGED) from None


class OnePerTask(Format):
    """A format of what episodes begin with: one row a task, that of the first rollout that can make it."""

    statuses = None
    trains = False

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._seen: set[Hashable] = set()

    def rows(self, conversations: Sequence[Conversation]) -> Iterable[Row]:
        (conversation,) = conversations
        task = task_of(conversation.record)
        if task in self._seen:
            raise LeftOut("another rollout of its task has the same prompt")
        prompt = conversation.messages[: next(iter(conversation.turns), len(conversation.messages))]
        if not prompt or prompt[-1]["role"] != "user":
            raise LeftOut("it begins with no user message")
        row = self.task_row(conversation, prompt)
        self._seen.add(task)
        yield row

    @abstractmethod
    def task_row(self, conversation: Conversation, prompt: list[ChatMessage]) -> Row:
        """The row of a task whose episode began with `prompt`, the user's message last.

        Raises:
            LeftOut: There can be none.
        """


_DAMAGED = "a number that a Json column cannot give back (take compat='string' or the tokens format)"


def further_columns(conversation: Conversation) -> Row:
    """The columns that may be asked for, by name."""
    record = conversation.record
    environment, task = record.get("environment") or {}, record.get("task") or {}
    return {
        "reward": _number(record.get("reward")),
        "final_reward": _number(record.get("final_reward")),
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
    }


def noted_columns(notes: Notes) -> Row:
    """Those of them that were said about the rollout later."""
    return {
        "labels": notes.labels,
        "rating": notes.rating,
        "advantage": notes.advantage,
        "score": notes.score,
        "discard_reason": notes.discard_reason,
    }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def up_to_last_turn(messages: list[ChatMessage]) -> list[ChatMessage]:
    """`messages` without what follows the assistant's last one."""
    last = max(number for number, message in enumerate(messages) if message["role"] == "assistant")
    return messages[: last + 1]


def images_in(messages: Iterable[ChatMessage]) -> int:
    """How many images `messages` show."""
    return sum(
        1
        for message in messages
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image"
    )
