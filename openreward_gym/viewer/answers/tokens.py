"""The texts of recorded token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.types.rollout import SCHEMA, Rollout
from openreward_gym.viewer.answers.pieces import LargeRecords, record_at
from openreward_gym.viewer.index import NotFoundError, RunIndex
from openreward_gym.viewer.rows import objects_in

_MAX_BYTES = 8
"""More tokens than one character can be split into: then U+FFFD is what the tokens say."""


def pieces(decode: Callable[[list[int]], str], ids: Sequence[int]) -> list[str | None]:
    """Return the text of each token; None for a token whose bytes are the beginning of a character that a later token ends.

    The texts joined are the text of all tokens. A token is decoded behind the piece before it, because tokenizers drop or
    insert a blank at the beginning.

    Example:
        >>> pieces(lambda ids: bytes(ids).decode("utf-8", "replace"), list("né".encode()))
        ['n', None, 'é']
    """
    texts: list[str | None] = []
    before = begin = 0  # the piece before is ids[before:begin]; what is not yet text begins at `begin`
    known = ""
    for end in range(1, len(ids) + 1):
        text = decode(list(ids[before:end]))
        unfinished = text.endswith("\ufffd") and end - begin < _MAX_BYTES and end < len(ids)
        if unfinished:
            texts.append(None)
            continue
        texts.append(text[len(known) :] if text.startswith(known) else decode(list(ids[begin:end])))
        before, begin = begin, end
        known = decode(list(ids[before:begin]))
    return texts


def tokens(
    index: RunIndex,
    large: LargeRecords,
    decode: Callable[[list[int]], str] | None,
    run: str,
    rollout_id: str,
    message: int | None,
    *,
    prompt: bool,
) -> dict[str, Any]:
    """Return `{"pieces"}`: the texts of a message's sampled tokens, or with `prompt` of those that it was sampled from.

    Raises:
        NotFoundError: There is no tokenizer, the index does not have the rollout, or the message has no such tokens.
        ConfigurationError: The message is not named, or the tokenizer cannot decode the tokens.
    """
    if decode is None:
        raise NotFoundError("This viewer was started without a tokenizer.")
    if message is None:
        raise ConfigurationError("the parameter 'message' is missing")
    messages = objects_in(record_at(index, large, index.find(run, rollout_id), rollout_id).get("messages"))
    if not 0 <= message < len(messages):
        raise NotFoundError(f"The rollout has no message {message}.")
    (one,) = Rollout.from_dict({"schema": SCHEMA, "status": "running", "messages": [messages[message]]}).messages
    sampled = one.sampled
    ids = None if sampled is None else sampled.prompt_token_ids if prompt else sampled.token_ids
    if ids is None:
        raise NotFoundError(f"No tokens were recorded with message {message}.")
    try:
        return {"pieces": pieces(decode, ids)}
    except Exception as error:  # a tokenizer raises errors of any type about ids that it does not have
        raise ConfigurationError(f"the tokenizer cannot decode the tokens, it may be another model's: {error}") from error
