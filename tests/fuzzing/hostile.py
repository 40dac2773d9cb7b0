"""Random hostile values, and random changes of JSON values, texts and bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from openreward_gym.errors import OpenRewardGymError

DEEP: Any = []
for _ in range(600):
    DEEP = [DEEP]
NUMBERS: list[Any] = [
    0,
    1,
    2,
    3,
    5,
    -1,
    -5,
    0.1,
    0.3,
    1.5,
    1e308,
    -1e308,
    5e-324,
    10**400,
    -(10**400),
    10**5000,
    float("inf"),
    float("nan"),
    1000,
    10**9,
    2**63,
    2**64,
    -0.0,
    0.07,
]
TEXTS: list[Any] = [
    "",
    "a",
    "\ud800",
    "\x00",
    "é",
    "\U0001f600",
    "\u2028",
    "9" * 5000,
    "a" * 40,
    "null",
    "{",
    '{"a": 1}',
    "<b>",
    "\\",
]
VALUES: list[Any] = [
    *NUMBERS,
    *TEXTS,
    None,
    True,
    False,
    [],
    {},
    [None],
    [[]],
    [{}],
    {"": None},
    {"type": "text"},
    {"role": 3},
    DEEP,
]


@dataclass(frozen=True)
class Fuzzer:
    """A generator of inputs with the check that each must pass.

    Attributes:
        name: The name in the table of counts.
        make: Returns a random input.
        check: Raises an exception for an input that is not handled as it should be.
        cost_us: About how long one input takes; the long run gives each fuzzer the same time.
        inputs: The number of inputs in what `make` returns.
    """

    name: str
    make: Callable[[Random], Any]
    check: Callable[[Any], None]
    cost_us: float
    inputs: int = 1


def value(random: Random, depth: int = 0) -> Any:
    """Return a random JSON value, as JSON's readers return them: NaN and integers of any size included."""
    kind = random.randrange(9 if depth < 3 else 6)
    if kind < 4:
        return copied(random.choice(VALUES))
    if kind == 4:
        return random.randrange(-9, 9)
    if kind == 5:
        return text(random)
    if kind == 6:
        return copied(random.choice(VALUES))
    if kind == 7:
        return [value(random, depth + 1) for _ in range(random.randrange(4))]
    return {text(random): value(random, depth + 1) for _ in range(random.randrange(4))}


def text(random: Random) -> str:
    """Return a short random text."""
    if random.random() < 0.5:
        return str(random.choice(TEXTS))
    return "".join(chr(random.choice((97, 48, 32, 10, 233, 0x4E2D, 0xD800, 0, 0x1F600))) for _ in range(random.randrange(9)))


def dumped(node: Any) -> str:
    """Return a value as JSON, also with integers of more digits than Python writes."""
    try:
        return json.dumps(node)
    except ValueError:
        return json.dumps(_marked(node)).replace('"\\u0001LONG"', "1" + "0" * 5000)


def _marked(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _marked(item) for key, item in node.items()}
    if isinstance(node, list):
        return node if node is DEEP else [_marked(item) for item in node]
    return "\x01LONG" if isinstance(node, int) and abs(node) > 10**4000 else node


def copied(node: Any) -> Any:
    """Return a copy: an input that changed what others are made of would not come from its seed alone."""
    if isinstance(node, dict):
        return {key: copied(item) for key, item in node.items()}
    return [copied(item) for item in node] if isinstance(node, list) and node is not DEEP else node


def received(node: Any) -> Any:
    """Return a value without integers of more digits than Python reads: no JSON text has them."""
    if isinstance(node, dict):
        return {key: received(item) for key, item in node.items()}
    if isinstance(node, list) and node is not DEEP:
        return list(map(received, node))
    return 10**400 if isinstance(node, int) and abs(node) > 10**4000 else node


def places(node: Any) -> list[tuple[Any, Any]]:
    """Return all (container, key) inside."""
    if node is DEEP:
        return []
    inner = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    return [(node, key) for key, _ in inner] + [place for _, item in inner for place in places(item)]


def changed(random: Random, node: Any, most: int = 3) -> Any:
    """Return a JSON value with up to `most` of its parts replaced, removed, moved or repeated."""
    node = {"": copied(node)}
    for _ in range(random.randint(0, most)):
        container, key = random.choice(places(node))
        kind = random.randrange(6)
        if kind == 0 and container is not node:
            del container[key]
        elif kind == 1 and isinstance(container, list):
            container.extend([container[key]] * random.randint(1, 3))
        elif kind == 2 and isinstance(container, dict) and container is not node:
            container[text(random)] = container.pop(key)
        elif kind == 3:
            other, other_key = random.choice(places(node))
            container[key] = copied(other[other_key])
        elif kind == 4 and isinstance(container[key], str):
            container[key] = changed_text(random, container[key])
        else:
            container[key] = value(random)
    return node.get("")


def changed_text(random: Random, words: str) -> str:
    """Return a text with a part cut, repeated or replaced."""
    start = random.randint(0, len(words))
    end = random.randint(start, min(len(words), start + 20))
    return words[:start] + random.choice(["", text(random), words[start:end] * random.randint(2, 30)]) + words[end:]


def changed_bytes(random: Random, data: bytes, most: int = 4) -> bytes:
    """Return bytes with up to `most` changes: bits, cuts, repetitions, insertions."""
    for _ in range(random.randint(0, most)):
        start = random.randint(0, len(data))
        end = random.randint(start, min(len(data), start + 30))
        piece = random.choice(
            [
                b"",
                random.randbytes(random.randint(1, 4)),
                data[start:end] * 2,
                b"\r\n",
                b"\n\n",
                b"\x00",
                b"\xff\xfe",
                b"9" * 30,
                b"\r",
                b"null",
                b"-1",
                b'"',
                b"[" * 50,
                b"NaN",
                b"\xed\xa0\x80",
                b"\\ud800",
            ]
        )
        data = data[:start] + piece + data[end:]
    return data


def pieces(random: Random, data: bytes) -> list[bytes]:
    """Cut bytes at random places."""
    cuts = sorted(random.randint(0, len(data)) for _ in range(random.randrange(5)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def named(action: Callable[[], Any]) -> Any:
    """Return the result of `action`, or None if it raises an error of this package."""
    try:
        return action()
    except OpenRewardGymError as error:
        words = str(error)
    assert len(words) < 20_000, f"a message of {len(words)} characters"
    return None
