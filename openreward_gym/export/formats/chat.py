"""Chat messages for TRL and what reads its formats: sft, prompt_completion, prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from openreward_gym.export.conversation import ChatMessage, Conversation
from openreward_gym.export.formats.base import Format, LeftOut, OnePerTask, images_in
from openreward_gym.export.tables import Columns, Row


class Sft(Format):
    """One row a rollout: `messages` and `tools`."""

    name = "sft"
    about = "whole conversations for supervised fine-tuning (TRL's SFTTrainer with assistant_only_loss=True)"

    def columns(self) -> Columns:
        return {"messages": "messages", "tools": "tools"}

    def rows(self, conversations: Sequence[Conversation]) -> Iterable[Row]:
        (conversation,) = conversations
        messages = self.cells(conversation.messages, conversation.tools)
        yield self.row(conversation, messages=messages, tools=conversation.tools)


class PromptCompletion(Format):
    """One row an assistant turn: what it answered to, and its one message. No tool result is ever in a completion."""

    name = "prompt_completion"
    about = "one assistant message a row, after its history (TRL's SFTTrainer; the loss is on the completion)"

    def columns(self) -> Columns:
        return {"prompt": "messages", "completion": "messages", "tools": "tools"}

    def rows(self, conversations: Sequence[Conversation]) -> Iterable[Row]:
        (conversation,) = conversations
        cells = self.cells(conversation.messages, conversation.tools)
        turns = [turn for turn in conversation.turns if turn > 0]
        if not turns:
            raise LeftOut("the assistant speaks first: there is no prompt")
        for turn in turns[-1:] if self.options.turns == "last" else turns:
            yield self.row(
                conversation,
                prompt=cells[:turn],
                completion=cells[turn : turn + 1],
                tools=conversation.tools,
                images=conversation.images[: images_in(conversation.messages[:turn])],
            )


class Prompts(OnePerTask):
    """One row a task: what an episode begins with, for trainers that play the episode themselves."""

    name = "prompts"
    about = "one prompt a task, for online training (TRL's GRPOTrainer)"

    def columns(self) -> Columns:
        columns = {"prompt": "messages", "tools": "tools", "environment": "text", "split": "text", "task_index": "int"}
        columns["task_id"] = "text"
        if self.options.answers:
            columns.update(task_spec="object", golden_answer="object")
        return columns

    def task_row(self, conversation: Conversation, prompt: list[ChatMessage]) -> Row:
        record = conversation.record
        environment, where = record.get("environment") or {}, record.get("task") or {}
        return self.row(
            conversation,
            prompt=self.cells(prompt, conversation.tools),
            tools=conversation.tools,
            environment=environment.get("name", ""),
            split=environment.get("split"),
            task_index=where.get("index"),
            task_id=where.get("id", ""),
            task_spec=where.get("spec"),
            # A JSON column is for objects: a bare text that looks like a number would come out as one.
            golden_answer={"answer": where["golden_answer"]} if "golden_answer" in where else None,
            images=conversation.images[: images_in(prompt)],
        )
