"""JSON of any server, both ways, without losing anything: big integers, lone surrogates; and what is said of what is none."""

from __future__ import annotations

import json

import orjson

from openreward_gym.errors import ProtocolError
from openreward_gym.protocol.wire.secret import Secret
from openreward_gym.types import Json

_LARGEST_EXACT = 9.2e18
"""Below the smallest integer that orjson turns into a float (integers of more than 64 bits)."""


def loads(data: bytes) -> Json:
    """The JSON value of `data`, exactly: integers of any size, lone surrogates.

    orjson is ten times faster than json, but turns integers of more than 64 bits into floats and refuses lone surrogates and
    NaN; those few go to json.

    Raises:
        ProtocolError: It is not JSON.
    """
    try:
        value = orjson.loads(data)
        if not _has_huge_float(value):
            return value
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        problem = ProtocolError(f"the server sent something that is not JSON ({reason}): {excerpt(data)}")
    raise problem


def dumps(value: Json) -> bytes:
    """`value` as JSON in ASCII, so that lone surrogates and big integers arrive as they are.

    Raises:
        ValueError, TypeError: It has no JSON form.
    """
    try:
        return _encode(value).encode("ascii")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _reveal(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"{type(value).__name__} has no JSON form")


# Made once: `json.dumps` makes an encoder at each call.
_encode = json.JSONEncoder(separators=(",", ":"), default=_reveal).encode


def excerpt(data: bytes | str, limit: int = 200) -> str:
    """The beginning of `data` on one line, for an error message."""
    text = data[: limit * 4].decode("utf-8", "replace") if isinstance(data, bytes) else data
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:limit]}…"


def expected(what: str, *, got: Json) -> ProtocolError:
    """The error to raise where JSON has another shape than `what`."""
    return ProtocolError(f"expected {what}, the server sent {excerpt(repr(got))}")


def _has_huge_float(value: Json) -> bool:
    """Whether there is a float that may have been an integer."""
    pending = [value]
    for item in pending:  # which grows meanwhile
        kind = type(item)
        if kind is dict:
            pending += item.values()
        elif kind is list:
            pending += item
        elif kind is float and not -_LARGEST_EXACT < item < _LARGEST_EXACT:
            return True
    return False
