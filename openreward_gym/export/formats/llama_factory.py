"""Lines for LLaMA-Factory: `sharegpt` (supervised), `sharegpt_preference` (DPO and others), `sharegpt_kto`, `llama_factory_v1`.

The sharegpt lines are read by its sharegpt converter and its function formatter, which since 0.9.5 takes text beside calls and
several calls as a list. `llama_factory_v1` is what its new core (`USE_V1=1`) reads without a converter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openreward_gym import jsonio
from openreward_gym.export.conversation import ChatMessage, Conversation, images_in, plain_text
from openreward_gym.export.formats.base import Context, Format, LeftOut, MessageLines, json_text
from openreward_gym.export.formats.trl import Kto, Pair, Preference
from openreward_gym.export.tables import Columns, Row

_COLUMNS: dict[str, str] = {"conversations": "objects", "system": "text", "tools": "text", "images": "texts"}
# LLaMA-Factory puts its images, videos and audio in the place of these.
_MARKS = ("<image>", "<video>", "<audio>")
_SPECIAL = re.compile(r"</?(?:tool_call|think)|" + "|".join(_MARKS))
# What LLaMA-Factory's own converter of OpenAI's messages writes between results: its templates wrap the whole in such tags.
_BETWEEN_RESULTS = "\n</tool_response>\n<tool_response>\n"
_BETWEEN_MESSAGES = "\n\n"


class _LlamaFactory(Format):
    """A format of sharegpt lines, with the entry of `dataset_info.json` by which LLaMA-Factory finds them."""

    file = "jsonl"
    image_column = False

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._with_images = False

    def sides(self, conversation: Conversation, messages: Sequence[ChatMessage], *ends: Sequence[ChatMessage]) -> Row:
        """Return the columns of a row with `messages`, and the turn of each of `ends` under its number.

        Raises:
            LeftOut: LLaMA-Factory could not read it, or would read another text.
        """
        images = self.image_paths(conversation, "LLaMA-Factory")
        system, turns = _alternating(conversation, messages)
        last = [_turn(end[0]) for end in ends]
        shown = images_in(messages)
        texts = [system, *(turn["value"] for turn in turns), *(turn["value"] for turn in last)]
        counts = [sum(text.count(mark) for text in texts) for mark in _MARKS]
        if images and counts != [shown, 0, 0]:
            raise LeftOut("a text contains <image>, <video> or <audio>: LLaMA-Factory would look for one there")
        self._with_images |= shown > 0
        return {
            "conversations": turns,
            # No null: where all of a file's first lines have it, `datasets` takes the column for one of nulls.
            "system": system,
            "tools": json_text([tool["function"] for tool in conversation.tools or ()]),
            "images": images[:shown] or None,
            **{str(number): turn for number, turn in enumerate(last)},
        }

    def write_beside(self, folder: Path, files: Sequence[Path]) -> None:
        """Write `dataset_info.json`: with `dataset_dir` the format's folder, its name is the name of the data set."""
        names = [name for name in self.columns() if name != "images" or self._with_images]
        entries = {}
        for file in files:
            entry: dict[str, Any] = {"file_name": file.name, "formatting": "sharegpt"}
            if "chosen" in names:
                entry["ranking"] = True
            entry["columns"] = {"messages" if name == "conversations" else name: name for name in names}
            entries[self.name if file.stem == "train" else f"{self.name}_{file.stem}"] = entry
        (folder / "dataset_info.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


class ShareGpt(_LlamaFactory):
    """LLaMA-Factory's sharegpt lines: human or observation, then gpt or function_call, in strict alternation.

    LLaMA-Factory trains every gpt and function_call turn. A rollout with an assistant message that is not to be trained is left
    out.
    """

    name = "sharegpt"
    about = "conversations for LLaMA-Factory (sharegpt with function_call and observation)"

    def columns(self) -> Columns:
        return _COLUMNS

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        if conversation.has_other_assistant:
            raise LeftOut(
                conversation.untrained_reason() or "an assistant message that is not to be trained: LLaMA-Factory would train it"
            )
        yield self.row(conversation, **self.sides(conversation, conversation.up_to_last_turn))


class ShareGptPreference(_LlamaFactory, Preference):
    """LLaMA-Factory's pairs: a conversation that ends before the model's turn, and a `chosen` and a `rejected` turn."""

    name = "sharegpt_preference"
    about = "pairs of one turn after the same conversation for LLaMA-Factory (DPO, ORPO, SimPO, reward models)"

    def columns(self) -> Columns:
        return {**_COLUMNS, "chosen": "object", "rejected": "object"}

    def pair_row(self, pair: Pair) -> Row:
        if len(pair.chosen) > 1 or len(pair.rejected) > 1:
            raise LeftOut("several messages on a side: LLaMA-Factory takes one (whole_trajectories=False)")
        row = self.sides(pair.better, pair.prompt, pair.chosen, pair.rejected)
        row.update(chosen=row.pop("0"), rejected=row.pop("1"))
        return self.row(pair.better, **row, rejected_rollout_id=pair.worse.record["id"])


class ShareGptKto(_LlamaFactory, Kto):
    """LLaMA-Factory's lines for KTO: a conversation whose last turn is good (`kto_tag` true) or bad."""

    name = "sharegpt_kto"
    about = "conversations with a label of their last turn, good or bad, for LLaMA-Factory's KTO"

    def columns(self) -> Columns:
        return {**_COLUMNS, "kto_tag": "bool"}

    def completion_row(self, conversation: Conversation, turn: int, **values: Any) -> Row:
        row = self.sides(conversation, conversation.messages[: turn + 1])
        return self.row(conversation, **row, kto_tag=values["label"])


class LlamaFactoryV1(MessageLines):
    """Samples of LLaMA-Factory's new core: each message has a `loss_weight`, 0 for one that is not trained."""

    name = "llama_factory_v1"
    about = "messages with a loss weight each, for LLaMA-Factory's new core (USE_V1=1)"
    no_tools = ""

    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        if conversation.images:
            raise LeftOut("it has images: LLaMA-Factory's new core would look for files in its working folder (take sharegpt)")
        # These lines do have weights.
        conversation.findings.discard("other_weight")
        records = conversation.record["messages"]
        turns = set(conversation.turns)
        messages = []
        for number, (message, source) in enumerate(zip(conversation.messages, conversation.sources, strict=True)):
            weight = float(records[source].get("weight") or 1) if number in turns else 0.0
            messages.append({"role": message["role"], "content": _contents(message), "loss_weight": weight})
        return messages


def _contents(message: ChatMessage) -> list[dict[str, str]]:
    """Return the contents of a message for LLaMA-Factory's new core: reasoning, then text, then calls."""
    contents = [
        {"type": "reasoning", "value": message.get("reasoning_content", "")},
        {"type": "text", "value": plain_text(message)},
        *({"type": "tool_call", "value": _calls([call])} for call in message.get("tool_calls", ())),
    ]
    return [content for content in contents if content["value"]] or [{"type": "text", "value": ""}]


def _alternating(conversation: Conversation, messages: Sequence[ChatMessage]) -> tuple[str, list[dict[str, str]]]:
    """Return the system prompt, and turns of human or observation and of gpt or function_call in alternation."""
    first = next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))
    system = _BETWEEN_MESSAGES.join(map(plain_text, messages[:first]))
    turns: list[dict[str, str]] = []
    previous = ""
    for message in messages[first:]:
        turn = _turn(message)
        is_question = turn["from"] in ("human", "observation")
        if is_question == (len(turns) % 2 == 0):
            turns.append(turn)
        elif not is_question or not turns:
            raise LeftOut("its turns do not alternate: LLaMA-Factory would skip it")
        elif previous == message["role"] == "tool":
            turns[-1]["value"] += _BETWEEN_RESULTS + turn["value"]
        else:
            conversation.findings.add("turns_joined")
            turns[-1]["value"] += _BETWEEN_MESSAGES + turn["value"]
        previous = message["role"]
    return system, turns


def _turn(message: ChatMessage) -> dict[str, str]:
    role, content = message["role"], plain_text(message)
    if role != "assistant":
        return {"from": "observation" if role == "tool" else "human", "value": content}
    reasoning = message.get("reasoning_content", "")
    before = (f"<think>\n{reasoning}\n</think>\n\n" if reasoning else "") + content
    if "tool_calls" not in message:
        return {"from": "gpt", "value": before}
    calls = _calls(message["tool_calls"])
    if "<tool_call>" in before:
        raise LeftOut("<tool_call> in a text beside a call: LLaMA-Factory would read the call there")
    if content or "</think>" in reasoning:
        # LLaMA-Factory keeps what stands beside these tags as it is. Without them it reads a thought and one JSON value.
        calls = f"<tool_call>{calls}</tool_call>"
    return {"from": "function_call", "value": before + calls}


def _calls(tool_calls: Sequence[dict[str, Any]]) -> str:
    """Return calls as JSON: an object, or a list of several."""
    functions = [{name: call["function"][name] for name in ("name", "arguments")} for call in tool_calls]
    if not all(isinstance(function["arguments"], dict) for function in functions):
        raise LeftOut("a malformed call: LLaMA-Factory reads arguments as an object")
    text = jsonio.dumps(functions[0] if len(functions) == 1 else functions).decode()
    # JSON has another way to write the character that begins what LLaMA-Factory looks for.
    return text.replace("<", "\\u003c") if _SPECIAL.search(text) else text
