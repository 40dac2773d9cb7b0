"""How many tokens a text has, for wrappers that count them."""

from __future__ import annotations

from typing import Any

from openreward_gym.errors import ConfigurationError


def load_tokenizer(tokenizer: Any) -> Any:
    """A `transformers` tokenizer, by its name or path; one that is loaded already is returned as it is.

    Raises:
        ConfigurationError: There is none of that name, or it is no tokenizer.
    """
    if not isinstance(tokenizer, str):
        if not callable(getattr(tokenizer, "encode", None)):
            raise ConfigurationError(f"tokenizer must be the name or path of a transformers tokenizer, or one, not {tokenizer!r}")
        return tokenizer
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"there is no tokenizer {tokenizer!r} (a name on the Hub, or a folder): {error}") from None


def name_of(tokenizer: Any) -> str | None:
    """What a spec can hold of a tokenizer: its name or path; None for none."""
    return tokenizer if tokenizer is None or isinstance(tokenizer, str) else str(getattr(tokenizer, "name_or_path", "")) or None


def count_tokens(tokenizer: Any, text: str) -> int:
    """The number of tokens of `text`, without special ones."""
    return len(tokenizer.encode(text, add_special_tokens=False))
