"""A run of whole rollouts, and damage to its files: lines, fields, bytes, images, and things that stand in the place of files."""

from __future__ import annotations

import base64
import copy
import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openreward_gym.store import Failure, Group, Label, RolloutStore, write_label
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolSpec,
    Usage,
    UserMessage,
)
from openreward_gym.types.rollout import line_of

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def nested(depth: int, inner: Any = None, key: str | None = None) -> Any:
    """Return lists, or objects with one key, inside each other."""
    for _ in range(depth):
        inner = [inner] if key is None else {key: inner}
    return inner


WRONG: list[Any] = [
    None,
    True,
    -1,
    2**70,
    10**400,
    1e308,
    "nan",
    "",
    "text",
    "\ud800",
    "\0",
    "../../outside",
    "9" * 5000,
    [],
    {},
    [None],
    [[]],
    ["x"],
    [{}],
    {"type": "image", "sha256": "../../outside"},
    {"type": ["x"]},
    nested(300),
    nested(600, key="content"),
    nested(5000),
]
"""Values that are put in the place of a field's own."""


def rollout(number: int, *, image: bool = False) -> Rollout:
    """Return a whole rollout that every format takes."""
    question: list[Any] = [TextBlock(f"question {number // 2}")]
    if image:
        question.append(ImageBlock(base64.b64encode(PNG).decode(), "image/png"))
    usage = Usage(input_tokens=5, output_tokens=3)
    messages: list[Message] = [
        UserMessage(question, origin="given"),
        AssistantMessage(
            [TextBlock(f"I look at {number}."), ToolCall("look", {"at": number}, f"c{number}", f'{{"at": {number}}}')],
            origin="policy",
            sampled=Sampled(usage=usage),
        ),
        ToolMessage("a frog", f"c{number}", origin="environment", name="look", started_at="2026-01-01T00:00:00Z"),
        AssistantMessage(f"answer {number}", origin="policy", sampled=Sampled(usage=usage)),
    ]
    messages[-1] = messages[-1].replace(reward=number % 2 / 1, finished=True)
    return Rollout(
        id=f"rollout-{number}",
        status="completed",
        environment=RolloutEnvironment(name="pond", split="train"),
        task=Task(id=f"task-{number // 2}", index=number // 2),
        group=f"task-{number // 2}",
        sample=number % 2,
        tools=[ToolSpec("look", "Look.", {"type": "object", "properties": {"at": {"type": "integer"}}})],
        messages=messages,
        reward=float(number % 2),
        usage=usage,
        metrics={"right": 1.0},
        started_at="2026-01-01T00:00:00Z",
        ended_at="2026-01-01T00:00:09Z",
        metadata={"seed": number},
    )


def write_run(folder: Path, count: int = 6, *, image: bool = False) -> Path:
    """Write a run with failures, labels and groups, and return its shard."""
    with RolloutStore(folder) as store:
        for number in range(count):
            store.append(rollout(number, image=image and number == 0))
        store.append_failure(Failure("policy", "timeout", task="task-0", sample=0))
    write_label(folder, Label("rollout-1", 5, ("good",)))
    (folder / "groups").mkdir()
    group = Group("task-0", ["rollout-0", "rollout-1"], [0.0, 1.0], advantages=[-1.0, 1.0])
    record = {"schema": Group.SCHEMA, "group": group.group, "rollouts": group.rollouts, "rewards": group.rewards}
    (folder / "groups" / "a.jsonl").write_text(line_of({**record, "advantages": group.advantages}) + "\n")
    (shard,) = (folder / "rollouts").iterdir()
    return shard


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for path in [path] if path] + [place for key, item in inner for place in places(item, (*path, key))]


def with_wrong_value(line: bytes, chance: random.Random) -> bytes:
    """Return a record's line with a value replaced, removed or added."""
    record = copy.deepcopy(json.loads(line))
    path = chance.choice(places(record))
    holder = record
    for key in path[:-1]:
        holder = holder[key]
    value = chance.choice(WRONG)
    what = chance.random()
    if what < 0.2:
        del holder[path[-1]]
    elif what < 0.3 and isinstance(holder, dict):
        holder["metadata"] = value
    else:
        holder[path[-1]] = value
    return _dumps(record)


def _dumps(value: Any) -> bytes:
    # The standard writer does not take what is nested more deeply than its stack.
    parts: list[str] = []
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, _Text):
            parts.append(item.text)
        elif isinstance(item, dict):
            inner: list[Any] = [_Text("{")]
            for number, (key, child) in enumerate(item.items()):
                inner += [_Text(("," if number else "") + json.dumps(key) + ":"), child]
            pending += reversed([*inner, _Text("}")])
        elif isinstance(item, list):
            inner = [_Text("[")]
            for number, child in enumerate(item):
                inner += [_Text("," if number else ""), child]
            pending += reversed([*inner, _Text("]")])
        else:
            parts.append(json.dumps(item))
    return "".join(parts).encode()


class _Text:
    def __init__(self, text: str) -> None:
        self.text = text


BROKEN_LINES: list[bytes] = [
    b"this is not JSON",
    b'{"schema":"openreward-gym/rollout/1","id":"half","sta',
    b"\0" * 40,
    b"\xff\xfe\x00bytes",
    b'\xef\xbb\xbf{"schema":"openreward-gym/rollout/1"',
    b"[1, 2]",
    b"null",
    b"17",
    b'"text"',
    b"{}",
    b'{"schema":"openreward-gym/rollout/2","id":"new","status":"completed"}',
    b'{"schema":"openreward-gym/failure/1","source":"policy","kind":"x"}',
    b'{"schema":' + b"[" * 900 + b"]" * 900 + b',"id":"deep","status":"completed"}',
    b'{"schema":"openreward-gym/rollout/1","id":"x","status":"completed","seed":' + b"9" * 5000 + b"}",
    b'{"schema":"openreward-gym/rollout/1","id":"x","status":"completed","metadata":' + b"[" * 100_000,
    b"{" * 100_000,
]
"""Lines that are no rollouts, whoever reads them."""


def with_broken_byte(line: bytes, chance: random.Random) -> bytes:
    """Return a line with a few bytes changed, removed or doubled."""
    data = bytearray(line)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data))
        what = chance.random()
        if what < 0.5:
            data[at] = chance.choice([0, 10, 13, 34, 92, 123, 125, 255, chance.randrange(256)])
        elif what < 0.75:
            del data[at : at + chance.randint(1, 30)]
        else:
            data[at:at] = data[at : at + chance.randint(1, 30)]
    return bytes(data)


def _link_out(path: Path) -> None:
    outside = path.parent / "outside.txt" if path.parent.name == "elsewhere" else path.parents[1].parent / "outside.txt"
    outside.write_text("not the run's")
    path.symlink_to(outside)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # the names of sockets are short
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


STANDING_THERE: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a named pipe": lambda path: os.mkfifo(path),
    "a socket": _socket,
    "a link out": _link_out,
    "a link that leads nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "bytes": lambda path: path.write_bytes(bytes(range(256)) * 4 + b"\n"),
    "nothing in it": lambda path: path.write_bytes(b""),
}
"""What can stand in the place of a file, and how it is made."""
