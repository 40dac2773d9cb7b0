"""Files that other trainers read as they are: OpenAI fine-tuning, LLaMA-Factory (sharegpt), axolotl, verl."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

from openreward_gym.export import exact
from openreward_gym.export.conversation import ChatMessage, Conversation, split_parallel
from openreward_gym.export.formats.base import Format, LeftOut, OnePerTask, images_in, mime_type_of, up_to_last_turn
from openreward_gym.export.messages import plain_message, with_text_arguments
from openreward_gym.export.tables import Columns, Row


class OpenAi(Format):
    """Lines of OpenAI's fine-tuning files: arguments as text, nothing that OpenAI does not know, the assistant last."""

    name = "openai"
    about = "lines for OpenAI fine-tuning, chat with tools"
    file = "jsonl"
    image_column = False

    def columns(self) -> Columns:
        return {"messages": "objects", "tools": "tools", "parallel_tool_calls": "bool"}

    def all_columns(self) -> Columns:
        # OpenAI refuses lines with other keys.
        return self.columns()

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        images = iter(conversation.images)
        messages = up_to_last_turn(conversation.messages)
        row: Row = {"messages": [self._message(message, images) for message in messages]}
        if conversation.tools:
            row["tools"] = conversation.tools
            row["parallel_tool_calls"] = any(len(message.get("tool_calls", ())) > 1 for message in messages)
        yield row

    def _message(self, message: ChatMessage, images: Iterator[bytes]) -> dict[str, Any]:
        # There is no place for reasoning, nor for a tool's name in its result.
        kept = {key: value for key, value in message.items() if key not in ("reasoning_content", "name")}
        if isinstance(message["content"], list):
            kept["content"] = [_openai_part(part, images) for part in message["content"]]
        if "tool_calls" in message:
            kept["tool_calls"] = [with_text_arguments(call) for call in message["tool_calls"]]
        return kept


def _openai_part(part: dict[str, Any], images: Iterator[bytes]) -> dict[str, Any]:
    if part["type"] != "image":
        return part
    content = next(images)
    return {
        "type": "image_url",
        "image_url": {"url": f"data:{mime_type_of(content)};base64,{base64.b64encode(content).decode('ascii')}"},
    }


class ShareGpt(Format):
    """LLaMA-Factory's sharegpt lines: human or observation, then gpt or function_call, in strict turns."""

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
        split_parallel(conversation)
        messages = up_to_last_turn(conversation.messages)
        system = ""
        while messages and messages[0]["role"] == "system":
            system += ("\n\n" if system else "") + plain_message(messages[0])["content"]
            messages = messages[1:]
        said: list[dict[str, str]] = []
        for message in messages:
            who, value = _sharegpt_turn(message)
            asks = who in ("human", "observation")
            if asks != (len(said) % 2 == 0):
                if not asks or not said:
                    raise LeftOut("its turns do not alternate: LLaMA-Factory would skip it")
                said[-1]["value"] += "\n\n" + value
            else:
                said.append({"from": who, "value": value})
        tools = [tool["function"] for tool in conversation.tools or ()]
        yield self.row(
            conversation,
            conversations=said,
            system=system or None,
            tools=exact.encode(tools) if tools else None,
            images=images[: sum(turn["value"].count(_IMAGE) for turn in said)] or None,
        )


_IMAGE = "<image>"
"""Where an image stands in the text, for LLaMA-Factory and verl."""


def _check_marks(conversation: Conversation, shown: Sequence[ChatMessage], trainer: str) -> None:
    """Raises LeftOut where the conversation has images and a text that is shown has their mark already."""
    if conversation.images and any(_IMAGE in text for message in shown for text in _texts_of(message)):
        raise LeftOut(f"somebody wrote {_IMAGE}: {trainer} would look for an image there")


def _texts_of(message: ChatMessage) -> list[str]:
    content = message["content"]
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def _sharegpt_turn(message: ChatMessage) -> tuple[str, str]:
    role, content = message["role"], plain_message(message)["content"]
    if role in ("user", "system"):
        return "human", content
    if role == "tool":
        return "observation", content
    thought = f"<think>\n{message['reasoning_content']}\n</think>\n\n" if "reasoning_content" in message else ""
    if "tool_calls" not in message:
        return "gpt", thought + content
    if content.strip():
        raise LeftOut("text beside a call: LLaMA-Factory has no place for it")
    function = message["tool_calls"][0]["function"]
    return "function_call", thought + exact.encode({"name": function["name"], "arguments": function["arguments"]})


class Axolotl(Format):
    """axolotl's `type: chat_template` lines; `train` says which messages have a loss (`message_field_training: train`)."""

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
        # Arguments as text: the JSON loader would give every call the keys of all others.
        messages = [{**plain_message(message), "train": message["role"] == "assistant"} for message in conversation.messages]
        yield self.row(conversation, messages=messages, tools=conversation.tools)


class Verl(OnePerTask):
    """verl's table for reinforcement learning: one prompt a task, and what its reward function is given."""

    name = "verl"
    about = "one prompt a task for verl's reinforcement learning (the ground truth only with answers=True)"

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
        environment, where = record.get("environment") or {}, record.get("task") or {}
        answer = where.get("golden_answer") if self.options.answers else None
        truth = "" if answer is None else answer if isinstance(answer, str) else exact.encode(answer)
        return {
            "data_source": environment.get("name", "") or "openreward",
            "prompt": [{"role": message["role"], "content": plain_message(message)["content"]} for message in prompt],
            "ability": "agent",
            "reward_model": {"style": "rule", "ground_truth": truth},
            "images": conversation.images[: images_in(prompt)],
            "extra_info": {
                "split": environment.get("split") or "",
                "index": where.get("index"),
                "task_id": where.get("id", ""),
                "need_tools_kwargs": False,
                "tools": exact.encode(conversation.tools) if conversation.tools else "",
                "task_spec": exact.encode(where["spec"]) if self.options.answers and where.get("spec") else "",
            },
        }
