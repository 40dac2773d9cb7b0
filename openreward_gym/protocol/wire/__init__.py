"""The Open Reward Standard's JSON, read and written. No I/O.

What a newer server adds is kept: unknown fields in `extra`, unknown block types as `OpaqueBlock`. What cannot be read at all
is a `ProtocolError`.
"""

from openreward_gym.protocol.wire.answers import HTML_PAGE, read_detail, read_output, read_splits, read_tools
from openreward_gym.protocol.wire.exact_json import dumps, excerpt, expected, loads
from openreward_gym.protocol.wire.messages import encode_messages, flatten_messages, read_blocks, read_messages
from openreward_gym.protocol.wire.secret import Secret, hide

__all__ = [
    "HTML_PAGE",
    "Secret",
    "dumps",
    "encode_messages",
    "excerpt",
    "expected",
    "flatten_messages",
    "hide",
    "loads",
    "read_blocks",
    "read_detail",
    "read_messages",
    "read_output",
    "read_splits",
    "read_tools",
]
