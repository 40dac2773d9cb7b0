"""A text that is nobody's to see, and its removal from other texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SHORTEST_SECRET = 4
"""Shorter texts are not hidden: they would be found in ordinary words, and guessed anyway."""


class Secret:
    """A text that no repr, log or pickle shows. The transport alone reads it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret is not pickled: pass the name of its environment variable")


def hide(text: str, secrets: Iterable[Secret]) -> str:
    """`text` without the secrets: what a server answers may repeat what it was sent."""
    for secret in secrets:
        value = secret.reveal()
        if len(value) >= SHORTEST_SECRET and value in text:
            text = text.replace(value, "[secret]")
    return text
