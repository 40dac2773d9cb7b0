"""The body of a call, written by orjson where it and json agree: it is ten times faster."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from openreward_gym.protocol.wire import dumps
from openreward_gym.types import Json

__all__ = ["dumps_call"]

_ALIKE = frozenset({str, int, bool, type(None)})
"""What orjson and json write alike. Not floats (NaN), not containers (what is inside may be anything)."""


def dumps_call(name: str, arguments: Mapping[str, Json]) -> bytes:
    """The body of a call, as `dumps` would write it but for escapes. orjson writes what it and json agree on.

    Raises:
        ValueError, TypeError: The arguments have no JSON form.
    """
    body = {"name": name, "input": dict(arguments)}
    for value in arguments.values():
        if type(value) not in _ALIKE:
            return dumps(body)
    try:
        return orjson.dumps(body)
    except TypeError:
        # Lone surrogates, integers of more than 64 bits.
        return dumps(body)
