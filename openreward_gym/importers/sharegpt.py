"""Conversations in ShareGPT's form and the other forms that LLaMA-Factory reads.

A row has `conversations` of turns with `from` and `value`, or `messages` with `role` and `content`, and may have `system`,
`tools` (JSON text), and `images`, `videos` and `audios` by path. A function call is JSON of `{"name", "arguments"}` or a list of
these, with text or reasoning beside it. Rows in Alpaca's form (`instruction`, `input`, `output`) and turns of typed parts
(LLaMA-Factory 1.0) are read too. A `dataset_info.json` beside the file tells columns and tags with other names.

Preference: a row with `chosen` and `rejected` becomes two rollouts of one group, with the rewards 1 and 0. Feedback: a row with
`kto_tag` (or a `label`) becomes a rollout with the reward 1 or 0.

Origin: turns of `gpt` and `function_call` are the policy's; of a row with preference or feedback only the last, as
LLaMA-Factory trains it, and the turns before it are given. `observation` is the environment's.
"""

from __future__ import annotations

import base64
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from openreward_gym.chat.plain import json_text
from openreward_gym.images import mime_type_of
from openreward_gym.importers.files import read_beside
from openreward_gym.importers.jsonl import NO_ROWS, GroupBy, files_of, read_lines
from openreward_gym.importers.openai_chat import CONVERSATIONS, refuse_own_messages, rollout_with, weight_of
from openreward_gym.importers.reasons import reason_of
from openreward_gym.importers.shapes import object_at, opened
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Rollout,
    SystemMessage,
    TextBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
    with_origins,
)
from openreward_gym.types.rollout import object_of

FORMATS = ("sharegpt", "sharegpt_preference", "sharegpt_kto", "llama_factory_v1")
"""The formats of this package's exports that are ShareGPT's."""

_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call", "function-call"), "call"),
    **dict.fromkeys(("observation", "tool", "function_response", "tool_response", "ipython"), "tool"),
    **dict.fromkeys(("system", "developer"), "system"),
    "function": "function",
}
_TAGS = {"user": "user", "assistant": "assistant", "observation": "tool", "function": "call", "system": "system"}
_MEDIA = {"images": "image", "videos": "video", "audios": "audio"}
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
_MARKED_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
# LLaMA-Factory joins the results of parallel calls with these words.
_BETWEEN_RESULTS = "\n</tool_response>\n<tool_response>\n"
_ALPACA = ("instruction", "input", "output", "history")


def read(path: str | os.PathLike[str], group_by: GroupBy | None = None) -> Iterator[Rollout | Damage]:
    """Yield the conversations of a file of JSON lines, a JSON array or Parquet, or of the files of a folder."""
    damages: dict[str, Damage] = {}
    for file in files_of(path, NO_ROWS, formats=FORMATS):
        layout = Layout(file)
        if layout.damage is not None and layout.damage.path not in damages:
            yield damages.setdefault(layout.damage.path, layout.damage)
        yield from read_lines(file, partial(rollouts_of, layout=layout), group_by, _is_conversation)


def _is_conversation(items: list[Json]) -> bool:
    return bool(items) and all(isinstance(item, dict) and "from" in item and "value" in item for item in items)


class Layout:
    """The names of columns and tags of a file, and the folder of its images.

    Args:
        path: The file. A `dataset_info.json` beside it is read.

    Attributes:
        damage: Why the `dataset_info.json` is not used; None where it is, or does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self.columns: dict[str, str] = {}
        self.roles: dict[str, str] = dict(_ROLES)
        self.role_tags = ["from", "role"]
        self.content_tags = ["value", "content"]
        self.damage: Damage | None = None
        beside = self.folder / "dataset_info.json"
        try:
            entries = object_of(read_beside(beside), "dataset_info.json")
            entry = next((e for e in entries.values() if isinstance(e, dict) and e.get("file_name") == path.name), {})
            columns, tags = (_texts(object_at(entry, name)) for name in ("columns", "tags"))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            self.damage = Damage(0, reason_of(error), str(beside))
            return
        self.columns = columns
        self.roles |= {tags[f"{name}_tag"]: role for name, role in _TAGS.items() if f"{name}_tag" in tags}
        self.role_tags[:0] = [tags["role_tag"]] if "role_tag" in tags else []
        self.content_tags[:0] = [tags["content_tag"]] if "content_tag" in tags else []

    def column(self, row: Mapping[str, Json], *names: str) -> tuple[str, Json]:
        """Return (name, value) of the first of these columns that the row has; ("", None) if it has none."""
        for name in (*(self.columns[name] for name in names if name in self.columns), *names):
            if row.get(name) is not None:
                return name, row[name]
        return "", None


def _texts(names: Mapping[str, Json]) -> dict[str, str]:
    return {ours: theirs for ours, theirs in names.items() if isinstance(theirs, str)}


def rollouts_of(row: Mapping[str, Json], identity: str, layout: Layout) -> list[Rollout]:
    """Return the rollouts of a row: one, or two for a pair of preference. Raise ValueError for a row without turns."""
    conversation, used = _conversation(row, layout)
    chosen, rejected = (layout.column(row, name, f"{name}_messages") for name in ("chosen", "rejected"))
    feedback = (layout.columns.get("kto_tag", "kto_tag"), "label")
    tag = next((row[name] for name in feedback if isinstance(row.get(name), bool)), None)
    if not conversation and chosen[1] is None:
        raise ValueError('no "conversations": this is not a row of ShareGPT')
    if chosen[1] is None or rejected[1] is None:
        reward = None if tag is None else float(tag)
        used += [] if tag is None else feedback
        return [_rollout(row, identity, conversation, layout, used, reward)]
    used += [chosen[0], rejected[0]]
    pair = []
    for sample, (answer, reward) in enumerate(((chosen[1], 1.0), (rejected[1], 0.0))):
        own = identity if sample == 0 else str(uuid.uuid5(uuid.UUID(identity), "rejected"))
        rollout = _rollout(row, own, _with_answer(conversation, answer), layout, used, reward)
        rollout.group, rollout.sample = rollout.group or identity, sample
        pair.append(rollout)
    return pair


def _rollout(
    row: Mapping[str, Json], identity: str, turns: Sequence[Json], layout: Layout, used: Sequence[str], reward: float | None
) -> Rollout:
    media = _Media(row, layout)
    messages = [message for turn in turns for message in _messages(turn, layout, media)]
    name, system = layout.column(row, "system", "system_prompt")
    if isinstance(system, str) and system and messages[0].role != "system":
        messages.insert(0, SystemMessage(system))
    if reward is None:
        messages = with_origins(messages)
    else:
        last = max((n for n, message in enumerate(messages) if message.role == "assistant"), default=-1)
        first = last
        while first > 0 and messages[first - 1].role == "assistant":
            first -= 1
        policy = messages[first : last + 1] if last >= 0 else []
        messages = with_origins(messages, lambda message: any(message is turn for turn in policy))
        messages[-1] = messages[-1].replace(reward=reward)
    tools = layout.column(row, "tools")
    fields = {**row, "tools": tools[1]} if tools[0] else dict(row)
    left = media.left()
    rollout = rollout_with(fields, identity, _paired(messages), [*used, name, tools[0], *media.columns])
    if left:
        rollout.metadata = {**(rollout.metadata or {}), **left}
    return rollout


def _conversation(row: Mapping[str, Json], layout: Layout) -> tuple[list[Json], list[str]]:
    """Return the turns of a row, and the columns that they are from."""
    for name in (*([layout.columns["messages"]] if "messages" in layout.columns else []), "conversations", *CONVERSATIONS):
        turns = opened(row.get(name))
        if isinstance(turns, list) and turns:
            refuse_own_messages(turns)
            return turns, [name]
    prompt, query = layout.column(row, "prompt", "instruction"), layout.column(row, "query", "input")
    if not isinstance(prompt[1], str):
        return [], []
    response, history = layout.column(row, "response", "output"), layout.column(row, "history")
    turns = [{"from": who, "value": text} for pair in history[1] or () for who, text in zip(("human", "gpt"), pair, strict=True)]
    turns.append({"from": "human", "value": "\n".join(text for text in (prompt[1], query[1]) if text)})
    if isinstance(response[1], str) and response[1]:
        turns.append({"from": "gpt", "value": response[1]})
    return turns, [prompt[0], query[0], response[0], history[0]]


def _with_answer(conversation: list[Json], answer: Json) -> list[Json]:
    """Return a conversation with an answer: a turn, its text, or turns, which may begin with the conversation."""
    answer = opened(answer)
    if isinstance(answer, list):
        return answer if answer[: len(conversation)] == conversation else [*conversation, *answer]
    return [*conversation, answer if isinstance(answer, Mapping) else {"from": "gpt", "value": answer}]


class _Media:
    """The files of a row, which the marks in its texts refer to in their order."""

    def __init__(self, row: Mapping[str, Json], layout: Layout) -> None:
        self._folder = layout.folder
        self._files: dict[str, list[Json]] = {}
        self.columns: list[str] = []
        for ours, kind in _MEDIA.items():
            name, files = layout.column(row, ours)
            if name:
                self.columns.append(name)
                self._files[kind] = list(files) if isinstance(files, list) else [files]

    def blocks(self, text: str) -> list[Block]:
        """Return a text as blocks, with a file's block in the place of each mark that has a file."""
        blocks: list[Block] = []
        for piece in re.split(r"(<(?:image|video|audio)>)", text):
            files = self._files.get(piece[1:-1]) if piece.startswith("<") else None
            if files:
                blocks.append(self.block(piece[1:-1], files.pop(0)))
            elif piece and blocks and isinstance(blocks[-1], TextBlock):
                blocks[-1] = TextBlock(blocks[-1].text + piece)
            elif piece:
                blocks.append(TextBlock(piece))
        return blocks

    def block(self, kind: str, file: Json) -> Block:
        """Return a file's block: the image where it can be read, else the path."""
        content = file.get("bytes") if isinstance(file, Mapping) else None
        path = file.get("path") if isinstance(file, Mapping) else file
        if isinstance(content, str):
            data = base64.b64decode(content, validate=False)
        elif kind == "image" and isinstance(path, str):
            data = self._read(path)
        else:
            data = b""
        mime_type = mime_type_of(data) if kind == "image" else None
        if mime_type is not None:
            extra = {"sharegpt": {"path": path}} if isinstance(path, str) else {}
            return ImageBlock(base64.b64encode(data).decode("ascii"), mime_type, extra=extra)
        return OpaqueBlock({"type": kind, "path": path} if content is None else {"type": kind, **file})

    def left(self) -> dict[str, Json]:
        """Return the files that no mark refers to."""
        return {f"{kind}s": files for kind, files in self._files.items() if files}

    def _read(self, path: str) -> bytes:
        # LLaMA-Factory's paths are relative to its data folder, in which the file lies, or to the folder above.
        for folder in (self._folder, self._folder.parent):
            try:
                return read_beside(folder / path)
            except (OSError, ValueError):
                continue
        return b""


def _messages(turn: Json, layout: Layout, media: _Media) -> list[Message]:
    turn = opened(turn)
    if not isinstance(turn, Mapping):
        raise TypeError(f"a turn is an object, not {type(turn).__name__}")
    role_tag = next((tag for tag in layout.role_tags if tag in turn), None)
    content_tag = next((tag for tag in layout.content_tags if turn.get(tag) is not None), None)
    who = str(turn.get(role_tag)) if role_tag else ""
    role = layout.roles.get(who) or layout.roles.get(who.lower())
    if role is None:
        raise ValueError(f"a turn is from human, gpt, function_call, observation or system, not {who!r}")
    content = turn.get(content_tag) if content_tag else ""
    calls = opened(turn.get("tool_calls"))
    if role == "function":
        role = "call" if _calls(opened(content)) else "tool"
    if role == "tool":
        texts = _part_texts(content) if isinstance(content, list) else [json_text(content)]
        return [ToolMessage(media.blocks(text)) for joined in texts for text in joined.split(_BETWEEN_RESULTS)]
    if isinstance(content, list) and not (role == "call" and _calls(content)):
        blocks = _parts(content, media)
    else:
        blocks = _of_text(content, role, media)
    blocks += _calls([call.get("function", call) if isinstance(call, Mapping) else call for call in calls or ()])
    weight = weight_of(turn)
    if role in ("assistant", "call"):
        malformed = role == "call" and not any(isinstance(block, ToolCall) for block in blocks)
        return [AssistantMessage(blocks, weight=weight, ended="malformed" if malformed else None)]
    return [(SystemMessage if role == "system" else UserMessage)(blocks, weight=weight)]


def _of_text(content: Json, role: str, media: _Media) -> list[Block]:
    """Return the blocks of a turn that is a text, or of a call that is an object."""
    if role == "call" and not isinstance(content, str):
        return [*_calls(content)] or [TextBlock(json_text(content))]
    text = json_text(content)
    if role not in ("assistant", "call"):
        return media.blocks(text)
    blocks: list[Block] = []
    if match := _THOUGHT.match(text):
        thought = match[1].strip("\n")
        if thought:
            # What stands around the reasoning is the template's, and is kept where it is not LLaMA-Factory's own.
            usual = f"<think>\n{thought}\n</think>\n\n"
            blocks.append(ReasoningItem(thought, extra={} if match[0] == usual else {"sharegpt": {"written": match[0]}}))
            text = text[match.end() :]
    if role == "call":
        return [*blocks, *_calls_in(text, media)]
    return [*blocks, *media.blocks(text)]


def _calls_in(text: str, media: _Media) -> list[Block]:
    """Return the calls of a text, with the text beside them; the text alone where it has no call."""
    if calls := _calls(opened(text)):
        return [*calls]
    blocks: list[Block] = []
    position = 0
    for match in _MARKED_CALL.finditer(text):
        if calls := _calls(opened(match[1].strip())):
            beside = text[position : match.start()]
            blocks += [*(media.blocks(beside) if beside.strip() else ()), *calls]
            position = match.end()
    rest = text[position:]
    return [*blocks, *(media.blocks(rest) if rest.strip() else ())]


def _calls(value: Json) -> list[ToolCall]:
    """Return the calls of an object, or of a list of these; none where one of them is not a call."""
    calls = []
    for item in value if isinstance(value, list) else [value]:
        item = opened(item)
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            return []
        arguments = item.get("arguments", item.get("parameters"))
        if arguments is None or isinstance(arguments, Mapping):
            calls.append(ToolCall(item["name"], arguments or {}))
        else:
            calls.append(ToolCall(item["name"], content=json_text(arguments)))
    return calls


def _parts(content: Sequence[Json], media: _Media) -> list[Block]:
    """Return the blocks of a turn of typed parts."""
    blocks: list[Block] = []
    for part in content:
        if not isinstance(part, Mapping):
            blocks += media.blocks(json_text(part))
            continue
        kind, value = part.get("type"), next((part[n] for n in ("value", "text") if part.get(n) is not None), None)
        if kind == "text" and isinstance(value, str):
            blocks.append(TextBlock(value))
        elif kind == "reasoning" and isinstance(value, str):
            blocks.append(ReasoningItem(value))
        elif kind == "tool_call" and (calls := _calls(opened(value))):
            blocks += calls
        elif kind in ("image_url", "video_url", "audio_url") and isinstance(value, str):
            blocks.append(media.block(kind.removesuffix("_url"), value))
        else:
            blocks.append(OpaqueBlock(dict(part)))
    return blocks


def _part_texts(content: Sequence[Json]) -> list[str]:
    parts = [part if isinstance(part, Mapping) else {"text": part} for part in content]
    return [json_text(next((part[name] for name in ("value", "text") if part.get(name) is not None), "")) for part in parts]


def _paired(messages: list[Message]) -> list[Message]:
    """Return messages in which calls and results have ids, where a turn has several calls: the results are in their order."""
    result = list(messages)
    for number, message in enumerate(messages):
        calls = message.tool_calls
        following = [n for n in range(number + 1, number + 1 + len(calls)) if n < len(messages) and messages[n].role == "tool"]
        if not calls:
            continue
        ids = iter([f"call_{number}_{index}" for index in range(len(calls))])
        blocks = [_with_id(block, next(ids)) if isinstance(block, ToolCall) else block for block in message.blocks]
        result[number] = message.replace(blocks=tuple(blocks))
        for n, call in zip(following, result[number].tool_calls, strict=False):
            result[n] = messages[n].replace(call_id=call.call_id, name=call.name)
    return result


def _with_id(call: ToolCall, call_id: str) -> ToolCall:
    return ToolCall(call.name, call.arguments, call_id, call.content)
