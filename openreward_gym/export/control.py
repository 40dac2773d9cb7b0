"""Control tokens in what tools and users wrote: a tokenizer would read them as the real thing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

# What the chat templates of today's model families write around turns and calls.
_COMMON = (
    r"<(?:\|[^|<>\s]{1,40}\|>|\|[a-z_\"]{1,20}>|[a-z_]{1,20}\|>|｜[^<>]{1,40}｜>|(?:start|end)_of_(?:turn|image)>|/?s>|(?:bos|eos)>"
    r"|/?tool_(?:call|response)s?>|/?think>)|\[(?:/?(?:INST|AVAILABLE_TOOLS|TOOL_RESULTS)|TOOL_CALLS)\]"
)


class ControlTokens:
    """Finds and escapes them.

    Args:
        handling: "flag" to count, "drop" to leave the rollout out, "escape" to break them.
        special: A tokenizer's own special tokens, besides the common ones.
    """

    def __init__(self, handling: Literal["flag", "drop", "escape"], special: Iterable[str] = ()) -> None:
        self.handling = handling
        own = sorted({token for token in special if token.strip()}, key=len, reverse=True)
        self._firsts = tuple({"<", "[", *(token[0] for token in own)})
        self._pattern = re.compile("|".join([*map(re.escape, own), _COMMON]))

    def found_in(self, text: str) -> bool:
        for first in self._firsts:
            if first in text:
                return self._pattern.search(text) is not None
        return False

    def escaped(self, text: str) -> str:
        """`text` with a zero-width space after the first character of each control token."""
        return self._pattern.sub(lambda match: f"{match[0][0]}\u200b{match[0][1:]}", text)
