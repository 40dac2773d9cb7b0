"""Equal and nearly equal conversations, and prompts that overlap with other texts.

Nearly equal ones are found by MinHash (Broder 1997, "On the resemblance and containment of documents") with banding, and each
candidate is then compared exactly: a signature only saves comparisons.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from openreward_gym import jsonio
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.conversation import ChatMessage, texts_in
from openreward_gym.export.options import Dedupe

Hashes: TypeAlias = NDArray[np.uint64]

SHINGLE_WORDS = 5
OVERLAP_WORDS = 13
_LEAST_WORDS = 8
_PERMUTATIONS = 128
_RECALL = 0.99
# Scripts without spaces between words: each character counts as a word.
_CHARACTER = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CHARACTER}]|[^\W{_CHARACTER}]+")
_rng = np.random.default_rng(20_240_229)
_FACTORS = _rng.integers(0, 2**63, size=(_PERMUTATIONS, 1), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_OFFSETS = _rng.integers(0, 2**63, size=(_PERMUTATIONS, 1), dtype=np.uint64)
_PLACES = _rng.integers(0, 2**63, size=OVERLAP_WORDS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def digest_of(messages: Iterable[ChatMessage], kind: Dedupe) -> bytes:
    """Return 16 bytes that are equal for equal conversations; ids of calls do not count."""
    text = jsonio.dumps([_without_ids(message) for message in messages])
    if kind == "normalized":
        text = re.sub(r"\\[nrt]|[\W_]+", " ", text.decode()).casefold().encode()
    return hashlib.blake2b(text, digest_size=16).digest()


def _without_ids(message: ChatMessage) -> list[Any]:
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return [message["role"], message["content"], message.get("reasoning_content"), calls, message.get("name")]


@lru_cache(maxsize=1 << 16)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def runs_of_words(words: Sequence[str], length: int) -> Hashes:
    """Return a hash for each run of `length` words; one for all words if there are fewer. Hashes have 64 bits."""
    if not words:
        return np.zeros(0, dtype=np.uint64)
    length = min(length, len(words))
    hashes = np.fromiter(map(_word_hash, words), np.uint64, len(words))
    count = len(words) - length + 1
    total = np.zeros(count, dtype=np.uint64)
    for place in range(length):
        total += hashes[place : place + count] * _PLACES[place]
    return _mixed(total)


def _mixed(values: Hashes) -> Hashes:
    """Spread the bits of sums (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def words_of(text: str) -> list[str]:
    """Return the words of a text without case and punctuation.

    >>> words_of("It's 20 degrees!")
    ['it', 's', '20', 'degrees']
    """
    return _WORD.findall(text.casefold())


def shingles_of(messages: Iterable[ChatMessage]) -> Hashes:
    """Return the set of runs of five words in a conversation, without its system messages, sorted."""
    words: list[str] = []
    for message in messages:
        if message["role"] != "system":
            for text in _texts_of(message):
                words += words_of(text)
    return np.unique(runs_of_words(words, SHINGLE_WORDS))


def _texts_of(message: ChatMessage) -> Iterator[str]:
    yield message.get("reasoning_content", "")
    yield from texts_in(message)
    for call in message.get("tool_calls", ()):
        yield call["function"]["name"]
        arguments = call["function"]["arguments"]
        yield arguments if isinstance(arguments, str) else jsonio.dumps(arguments).decode()


def signature_of(shingles: Hashes) -> bytes:
    """Return the MinHash signature of a set: 128 numbers of 32 bits."""
    if not len(shingles):
        return bytes(4 * _PERMUTATIONS)
    # In parts, so that a long conversation takes no more memory than a short one.
    parts = (shingles[start : start + 4096] for start in range(0, len(shingles), 4096))
    least = np.min([((part * _FACTORS + _OFFSETS) >> np.uint64(32)).min(axis=1) for part in parts], axis=0)
    return bytes(least.astype(np.uint32).tobytes())


def similarity_of(one: Hashes, other: Hashes) -> float:
    """Return the Jaccard similarity of two sorted sets; two empty ones are equal."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    total = len(one) + len(other) - common
    return common / total if total else 1.0


def near_duplicates(
    signatures: Mapping[int, bytes], best_first: Iterable[int], shingles: Callable[[int], Hashes], similarity: float
) -> Iterator[int]:
    """Yield the conversations that are similar to one that comes before them in `best_first` and is kept itself.

    Args:
        signatures: By the number of the conversation.
        best_first: All numbers.
        shingles: Returns the set of a conversation, for the exact comparison.
        similarity: The smallest Jaccard similarity of near-duplicates.
    """
    rows = max((r for r in (1, 2, 4, 8, 16, 32) if 1 - (1 - similarity**r) ** (_PERMUTATIONS // r) >= _RECALL), default=1)
    kept_by_band: dict[tuple[int, bytes], list[int]] = {}
    for number in best_first:
        signature = signatures[number]
        bands = [(start, signature[4 * start : 4 * (start + rows)]) for start in range(0, _PERMUTATIONS, rows)]
        candidates = sorted({earlier for band in bands for earlier in kept_by_band.get(band, ())})
        own = shingles(number) if candidates else None
        if own is not None and any(similarity_of(own, shingles(earlier)) >= similarity for earlier in candidates):
            yield number
            continue
        for band in bands:
            kept_by_band.setdefault(band, []).append(number)


class Contamination:
    """Finds prompts that share a run of 13 words with given texts, or all of a text of 8 to 12 words.

    Args:
        source: A text, a file, rows of a dataset, or several of these.

    Raises:
        ConfigurationError: A file cannot be read.
    """

    def __init__(self, source: object) -> None:
        by_length: dict[int, list[Hashes]] = {}
        for text in _strings(source):
            words = words_of(text)
            if len(words) >= _LEAST_WORDS:
                length = min(len(words), OVERLAP_WORDS)
                by_length.setdefault(length, []).append(np.unique(runs_of_words(words, length)))
        self._runs = {length: np.unique(np.concatenate(hashes)) for length, hashes in by_length.items()}

    def overlaps(self, prompt: Iterable[ChatMessage]) -> bool:
        """Return True if a message of the prompt, other than a system message, has a run of words of the texts."""
        for message in prompt:
            words = [word for text in texts_in(message) for word in words_of(text)] if message["role"] != "system" else []
            for length, runs in self._runs.items():
                if len(words) >= length and np.isin(runs_of_words(words, length), runs).any():
                    return True
        return False


def _strings(source: object) -> Iterator[str]:
    """Yield the texts in a value; the path of a file stands for the texts in the file."""
    if isinstance(source, PathLike):
        yield from _strings_in_file(Path(fspath(source)))
    elif isinstance(source, str):
        if _is_path(source):
            yield from _strings_in_file(Path(source))
        else:
            yield source
    elif isinstance(source, Mapping):
        for value in source.values():
            yield from _strings(value) if not isinstance(value, str) else (value,)
    elif isinstance(source, Iterable) and not isinstance(source, (bytes, bytearray)):
        for item in source:
            yield from _strings(item)


def _is_path(text: str) -> bool:
    """Return True for the path of a file, and for a text that only looks like one: the error then says that it is missing."""
    if len(text) >= 1024 or "\n" in text or "\0" in text:
        return False
    return bool(re.fullmatch(r"\S+\.(?:txt|json|jsonl|parquet)", text)) or bool(Path(text).suffix and Path(text).is_file())


def _strings_in_file(path: Path) -> Iterator[str]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=256):
                    yield from _values(batch.to_pylist())
        elif path.suffix == ".jsonl":
            with path.open("rb") as lines:
                for line in lines:
                    yield from _values(jsonio.loads(line)) if line.strip() else ()
        elif path.suffix == ".json":
            yield from _values(jsonio.loads(path.read_bytes()))
        else:
            yield path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"decontaminate: {path} cannot be read: {error}") from error


def _values(value: object) -> Iterator[str]:
    """Yield the texts inside JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _values(item)
