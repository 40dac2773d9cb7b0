"""Files that other trainers read as they are: axolotl, verl, NeMo Gym."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator, Sequence
from typing import Any

from openreward_gym import jsonio
from openreward_gym.export.conversation import (
    PROBLEMS,
    ChatMessage,
    Conversation,
    images_in,
    plain_message,
    plain_text,
    texts_in,
)
from openreward_gym.export.formats.archive import image_blocks
from openreward_gym.export.formats.base import Format, LeftOut, MessageLines, OnePerTask, json_text
from openreward_gym.export.reasons import RECORD_FINDINGS
from openreward_gym.export.tables import Columns, Row
from openreward_gym.importers import nemo_gym
from openreward_gym.types import Rollout

_IMAGE = "<image>"
"""The place of an image in a text, for verl."""

_NOT_IN_VERL = ("tool_calls", "reasoning_content")


def _check_marks(conversation: Conversation, messages: Sequence[ChatMessage], trainer: str) -> None:
    """Raise LeftOut if the conversation has images and a text of `messages` contains the mark of an image."""
    if conversation.images and any(_IMAGE in text for message in messages for text in texts_in(message)):
        raise LeftOut(f"a text contains {_IMAGE}: {trainer} would look for an image there")


class Axolotl(MessageLines):
    """axolotl's `type: chat_template` lines; `train` marks messages that have a loss (`message_field_training: train`).

    Tools and arguments are JSON texts, which axolotl parses: as objects, the JSON loader would give each the keys of all others.
    """

    name = "axolotl"
    about = "messages and tools for axolotl (type: chat_template, message_field_training: train)"

    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        if conversation.images:
            raise LeftOut("it has images: lines with and without would differ in type (take sft)")
        turns, texts = set(conversation.turns), conversation.argument_texts
        return [{**plain_message(m, texts), "train": number in turns} for number, m in enumerate(conversation.messages)]


class VerlSft(Format):
    """verl's table for supervised fine-tuning, of conversations without tools.

    verl reads tools and arguments as Parquet structs, in which each has the keys of all others, with nulls, and its chat template
    would show them; it takes neither as text. It trains every assistant message.
    """

    name = "verl_sft"
    about = "conversations without tools for verl's supervised fine-tuning (MultiTurnSFTDataset)"

    def columns(self) -> Columns:
        return {"messages": "verl_turns"}

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        messages = conversation.up_to_last_turn
        if conversation.tools or any("tool_calls" in message or message["role"] == "tool" for message in messages):
            raise LeftOut("it has tools: verl would show nulls in their definitions and arguments (take tokens)")
        if conversation.has_other_assistant:
            raise LeftOut(
                conversation.untrained_reason() or "an assistant message that is not to be trained: verl would train it"
            )
        _check_marks(conversation, messages, "verl")
        turns = [{"role": m["role"], "content": plain_text(m), "reasoning_content": m.get("reasoning_content")} for m in messages]
        yield self.row(conversation, messages=turns, images=conversation.images[: images_in(messages)])


class Verl(OnePerTask):
    """verl's table for reinforcement learning: one prompt per task, and the input of its reward function."""

    name = "verl"
    about = "one prompt per task for verl's reinforcement learning (the ground truth only with answers=True)"

    def columns(self) -> Columns:
        return {
            "data_source": "text",
            "prompt": "verl_messages",
            "ability": "text",
            "reward_model": "verl_reward",
            "extra_info": "verl_extra",
        }

    def all_columns(self) -> Columns:
        return {**self.columns(), **({"images": "images"} if self.context.with_images else {})}

    def task_row(self, conversation: Conversation, prompt: list[ChatMessage]) -> Row:
        if any(message["role"] == "tool" or not message.keys().isdisjoint(_NOT_IN_VERL) for message in prompt):
            raise LeftOut("a call, a result or reasoning in its prompt: verl's table has no place for it")
        _check_marks(conversation, prompt, "verl")
        record = conversation.record
        environment, task = record.get("environment") or {}, record.get("task") or {}
        answer = task.get("golden_answer") if self.options.answers else None
        truth = "" if answer is None else answer if isinstance(answer, str) else jsonio.dumps(answer).decode()
        return {
            "data_source": environment.get("name", "") or "openreward",
            "prompt": [{"role": message["role"], "content": plain_text(message)} for message in prompt],
            "ability": "agent",
            "reward_model": {"style": "rule", "ground_truth": truth},
            "images": conversation.images[: images_in(prompt)],
            "extra_info": {
                "split": environment.get("split") or "",
                "index": task.get("index"),
                "task_id": task.get("id", ""),
                "need_tools_kwargs": False,
                "tools": json_text(conversation.tools),
                "task_spec": json_text(task.get("spec")) if self.options.answers else "",
            },
        }


class NemoGym(Format):
    """NeMo Gym's rollout lines (`responses_create_params`, `response`, `reward` ...): the imported line, or one made for it."""

    name = "nemo_gym"
    about = "rollouts as NeMo Gym writes them (with all that was imported from it, answers too)"
    file = "jsonl"
    statuses = None
    trains = False
    image_column = False
    further_keys = True
    remarks = RECORD_FINDINGS

    def columns(self) -> Columns:
        return {"responses_create_params": "object", "response": "object", "reward": "float", "agent_ref": "object"}

    def all_columns(self) -> Columns:
        return self.columns()

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        record = conversation.original
        messages = record.get("messages") or []
        if any(not block.get("data") for block in image_blocks(messages)):
            record = {**record, "messages": copy.deepcopy(messages)}
            for block in image_blocks(record["messages"]):
                content = self.context.read_image(block)
                if content is None:
                    raise LeftOut(PROBLEMS["missing_image"])
                if not block.get("data"):
                    block["data"] = base64.b64encode(content).decode("ascii")
                    block.pop("sha256", None)
        yield nemo_gym.row_of(Rollout.from_dict(record))
