"""Tokenizers of wrappers that count tokens."""

from __future__ import annotations

from typing import Any

from openreward_gym.errors import ConfigurationError


def load_tokenizer(tokenizer: Any) -> Any:
    """Return a `transformers` tokenizer from its name or path. A tokenizer object is returned as it is.

    Raises:
        ConfigurationError: The tokenizer cannot be loaded, or the object is not a tokenizer.
    """
    if not isinstance(tokenizer, str):
        if not callable(getattr(tokenizer, "encode", None)):
            raise ConfigurationError(f"tokenizer must be a transformers tokenizer, its name or its path, not {tokenizer!r}")
        return tokenizer
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"there is no tokenizer {tokenizer!r} (a name on the Hub, or a folder): {error}") from None


def name_of(tokenizer: Any) -> str | None:
    """Return the name or path of a tokenizer, which a spec can hold, or None if it has neither."""
    return tokenizer if tokenizer is None or isinstance(tokenizer, str) else str(getattr(tokenizer, "name_or_path", "")) or None


def count_tokens(tokenizer: Any, text: str) -> int:
    """Return the number of tokens of `text`, without special tokens."""
    return len(tokenizer.encode(text, add_special_tokens=False))
