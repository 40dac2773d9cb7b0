"""Files that other trainers read as they are: OpenAI fine-tuning, LLaMA-Factory (sharegpt), axolotl, verl, NeMo Gym."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator, Sequence
from typing import Any

from openreward_gym import jsonio
from openreward_gym.export.conversation import (
    ChatMessage,
    Conversation,
    images_in,
    plain_message,
    plain_text,
    split_parallel,
    texts_in,
    with_text_arguments,
)
from openreward_gym.export.formats.archive import image_blocks
from openreward_gym.export.formats.base import Format, LeftOut, OnePerTask
from openreward_gym.export.tables import Columns, Row
from openreward_gym.images import data_url, mime_type_of
from openreward_gym.importers import nemo_gym
from openreward_gym.types import Rollout

_IMAGE = "<image>"
"""The place of an image in a text, for LLaMA-Factory and verl."""


class OpenAi(Format):
    """Lines of OpenAI's fine-tuning files: arguments as text, no keys that OpenAI refuses, an assistant message last."""

    name = "openai"
    about = "lines for OpenAI fine-tuning, chat with tools"
    file = "jsonl"
    carries_reasoning = False
    image_column = False

    def columns(self) -> Columns:
        return {"messages": "objects", "tools": "tools", "parallel_tool_calls": "bool"}

    def all_columns(self) -> Columns:
        # OpenAI refuses lines with other keys.
        return self.columns()

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        images = iter(conversation.images)
        turns = set(conversation.turns)
        messages = conversation.up_to_last_turn
        row: Row = {"messages": [_openai_message(message, number in turns, images) for number, message in enumerate(messages)]}
        if conversation.tools:
            row["tools"] = conversation.tools
            row["parallel_tool_calls"] = any(len(message.get("tool_calls", ())) > 1 for message in messages)
        yield row


def _openai_message(message: ChatMessage, trained: bool, images: Iterator[bytes]) -> dict[str, Any]:
    # OpenAI has no field for a tool's name in its result.
    line = {key: value for key, value in with_text_arguments(message).items() if key != "name" or message["role"] == "user"}
    if isinstance(message["content"], list):
        line["content"] = [_openai_image(next(images)) if part["type"] == "image" else part for part in message["content"]]
    if message["role"] == "assistant" and not trained:
        line["weight"] = 0
    return line


def _openai_image(content: bytes) -> dict[str, Any]:
    url = data_url(base64.b64encode(content).decode("ascii"), mime_type_of(content) or "image/png")
    return {"type": "image_url", "image_url": {"url": url}}


class ShareGpt(Format):
    """LLaMA-Factory's sharegpt lines: human or observation, then gpt or function_call, in strict alternation.

    LLaMA-Factory trains every gpt and function_call turn. A rollout with an assistant message that is not to be trained is left
    out.
    """

    name = "sharegpt"
    about = "conversations for LLaMA-Factory (sharegpt with function_call and observation)"
    file = "jsonl"
    image_column = False

    def columns(self) -> Columns:
        return {"conversations": "objects", "system": "text", "tools": "text", "images": "texts"}

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        images = self.image_paths(conversation, "LLaMA-Factory")
        _check_marks(conversation, conversation.messages, "LLaMA-Factory")
        if conversation.has_other_assistant:
            raise LeftOut(
                conversation.untrained_reason() or "an assistant message that is not to be trained: LLaMA-Factory would train it"
            )
        split_parallel(conversation)
        messages = conversation.up_to_last_turn
        system = ""
        while messages and messages[0]["role"] == "system":
            system += ("\n\n" if system else "") + plain_text(messages[0])
            messages = messages[1:]
        turns: list[dict[str, str]] = []
        for message in messages:
            speaker, value = _sharegpt_turn(message)
            is_question = speaker in ("human", "observation")
            if is_question != (len(turns) % 2 == 0):
                if not is_question or not turns:
                    raise LeftOut("its turns do not alternate: LLaMA-Factory would skip it")
                turns[-1]["value"] += "\n\n" + value
            else:
                turns.append({"from": speaker, "value": value})
        tools = [tool["function"] for tool in conversation.tools or ()]
        yield self.row(
            conversation,
            conversations=turns,
            system=system or None,
            tools=jsonio.dumps(tools).decode() if tools else None,
            images=images[: sum(turn["value"].count(_IMAGE) for turn in turns)] or None,
        )


def _check_marks(conversation: Conversation, messages: Sequence[ChatMessage], trainer: str) -> None:
    """Raise LeftOut if the conversation has images and a text of `messages` contains the mark of an image."""
    if conversation.images and any(_IMAGE in text for message in messages for text in texts_in(message)):
        raise LeftOut(f"a text contains {_IMAGE}: {trainer} would look for an image there")


def _sharegpt_turn(message: ChatMessage) -> tuple[str, str]:
    role, content = message["role"], plain_text(message)
    if role in ("user", "system"):
        return "human", content
    if role == "tool":
        return "observation", content
    reasoning = f"<think>\n{message['reasoning_content']}\n</think>\n\n" if "reasoning_content" in message else ""
    if "tool_calls" not in message:
        return "gpt", reasoning + content
    if content.strip():
        raise LeftOut("text beside a call: LLaMA-Factory has no place for it")
    function = message["tool_calls"][0]["function"]
    call = jsonio.dumps({"name": function["name"], "arguments": function["arguments"]}).decode()
    return "function_call", reasoning + call


class Axolotl(Format):
    """axolotl's `type: chat_template` lines; `train` marks messages that have a loss (`message_field_training: train`)."""

    name = "axolotl"
    about = "messages and tools for axolotl (type: chat_template, message_field_training: train)"
    file = "jsonl"
    image_column = False

    def columns(self) -> Columns:
        return {"messages": "objects", "tools": "tools"}

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        if conversation.images:
            raise LeftOut("it has images: lines with and without would differ in type (take sft)")
        turns = set(conversation.turns)
        # Arguments as text: the JSON loader would give every call the keys of all others.
        messages = [{**plain_message(message), "train": number in turns} for number, message in enumerate(conversation.messages)]
        yield self.row(conversation, messages=messages, tools=conversation.tools)


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
                "tools": jsonio.dumps(conversation.tools).decode() if conversation.tools else "",
                "task_spec": jsonio.dumps(task["spec"]).decode() if self.options.answers and task.get("spec") else "",
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
                content = None if block.get("data") else self.context.read_image(block)
                if content is not None:
                    block["data"] = base64.b64encode(content).decode("ascii")
                    block.pop("sha256", None)
        yield nemo_gym.row_of(Rollout.from_dict(record))
