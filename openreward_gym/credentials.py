"""Credentials in configuration: which values are credentials, texts that show none, and pickles that hold none in the clear.

One rule decides for settings, specs, pickles and the errors of providers. A credential is each value below a name for headers,
cookies, queries or authentication; each value whose own name says so (`api_key`, `X-Gateway-Token`); and in any text the user and
password of an address, a query parameter with such a name, a key of a well-known form, and the value of an environment variable
whose name ends with KEY, TOKEN, SECRET or PASSWORD. Names stay, and so do all other values.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openreward_gym.urls import hide_credentials

__all__ = [
    "HIDDEN",
    "HiddenText",
    "credentials_of",
    "is_marked",
    "is_token",
    "replace_texts",
    "revealed",
    "sealed",
    "sealing_key",
    "use_sealing_key",
    "with_hidden_texts",
    "without_secrets",
]

HIDDEN = "***"
"""The text that stands for a hidden value."""

_NAME_BREAK = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NAMES = (
    r"authorization|authentication|auth|(?:api|access|private|secret|subscription|account|client|signing|encryption|master|ssh)"
    r"[-_.]?key|key|(?:access|refresh|id|auth|api|bearer|session)?[-_.]?token|jwt|bearer|(?:set[-_])?cookies?|secrets?|password|"
    r"passwd|passphrase|pwd|credentials?|signature|sig|sas"
)
# A name that says that its value is a credential, or that all values below it are.
_CREDENTIAL = re.compile(rf"(?:.*[-_. ])?(?:{_NAMES})", re.IGNORECASE)
# Names of the same endings in requests to models.
_HARMLESS = re.compile(
    r"(?:.*[-_.])?(?:stop|eos|bos|eot|pad|unk|mask|sep|cls|start|end|image|special|next|max|min)[-_.]token"
    r"|(?:.*[-_.])?(?:cache|routing|partition|sort|primary|group)[-_.]key",
    re.IGNORECASE,
)
# All values below these names are credentials, whatever their own names: a gateway may call its header as it likes.
_CONTAINERS = re.compile(r"(?:.*[-_.])?(?:headers?|query|query[-_.]?params|env[-_.]?vars)", re.IGNORECASE)
# Headers of HTTP that hold no credential.
_KNOWN_HEADERS = re.compile(
    r"retry-after(?:-ms)?|content-[\w-]+|accept(?:-\w+)*|date|server|user-agent|host|via|vary|connection|transfer-encoding|expires|"
    r"cache-control|etag|referer|http-referer|x-title|x-request-id|request-id|cf-ray|(?:x|anthropic)-ratelimit-[\w-]+|"
    r"anthropic-version|anthropic-beta|openai-(?:version|processing-ms)|strict-transport-security|x-envoy-[\w-]+",
    re.IGNORECASE,
)
_KEYS = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|nvapi|r8)[-_][\w*-]{8,}|\bAIza[\w-]{16,}|\beyJ[\w-]{8,}\.[\w.-]+"
    # HF_HUB_OFFLINE, hf_transfer and hf-internal-testing are names, and "bearer authentication" are words.
    r"|\bhf_[a-zA-Z0-9]{10,}|(?<=bearer )(?!(?:auth|token|scheme|credential|header|realm))\S{6,}"
    r"|(?<=key=)[\w*-]{6,}|(?<=token=)[\w*-]{6,}",
    re.IGNORECASE,
)
_SECRET_VARIABLES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
_SHORTEST_VARIABLE = 8
_SCHEME = re.compile(r"(?:bearer|basic|token|digest|apikey|key)\s+(?=\S)", re.IGNORECASE)
_DEPTH = 60

Replace = Callable[[str, str], Any]
"""Takes a text that is or holds a credential, and the text without it; returns the value in its place."""


def without_secrets(value: Any) -> Any:
    """Return JSON without credentials, by the rule of this module.

    Example:
        >>> without_secrets({"extra_headers": {"X-Gateway": "abc"}, "temperature": 0.5, "url": "https://me:pw@host/?key=abcdef"})
        {'extra_headers': {'X-Gateway': '***'}, 'temperature': 0.5, 'url': 'https://***@host/?key=***'}
    """
    return _Walk(lambda text, shown: shown, _secrets_of_variables(), numbers=True).value(value)


def credentials_of(value: Any) -> list[str]:
    """Return the texts in a value that are credentials by their names; of "Bearer abc", also the part after the scheme."""
    texts: dict[str, None] = {}

    def collect(text: str, shown: str) -> str:
        if shown == HIDDEN:
            texts[text] = None
            if scheme := _SCHEME.match(text):
                texts[text[scheme.end() :]] = None
        return text

    _Walk(collect).value(value)
    return list(texts)


def is_token(text: str) -> bool:
    """Return whether a text looks like a token, which does not stand in other texts by chance.

    Example:
        >>> is_token("gw-5Tq9Xw3Zn7Lc"), is_token("research team"), is_token("https://example.com/app1")
        (True, False, False)
    """
    return len(text) >= 12 and "://" not in text and bool(re.fullmatch(r"(?=\S*\d)(?=\S*[A-Za-z])\S+", text))


def replace_texts(value: Any, texts: Iterable[str], by: str = HIDDEN) -> Any:
    """Return JSON in which `by` stands for each of `texts`, the longest first."""
    ordered = sorted(filter(None, texts), key=len, reverse=True)

    def replaced(value: Any) -> Any:
        if isinstance(value, str):
            for text in ordered:
                value = value.replace(text, by)
            return value
        if isinstance(value, Mapping):
            return {key: replaced(item) for key, item in value.items()}
        return [replaced(item) for item in value] if isinstance(value, list | tuple) else value

    return replaced(value) if ordered else value


def with_hidden_texts(value: Any, *, all_of_it: bool = False) -> Any:
    """Return a value with `HiddenText` in the place of each credential, or with `all_of_it` of each text."""
    return _Walk(HiddenText).value(value, below=all_of_it)


def is_marked(value: Any, *, all_of_it: bool = False) -> bool:
    """Return whether `***` stands where the value has, or with `all_of_it` may have, a credential: it was hidden before."""
    if isinstance(value, str):
        return f"://{HIDDEN}@" in value
    texts: list[str] = []
    _Walk(lambda text, shown: texts.append(text)).value(value, below=all_of_it)
    return HIDDEN in texts


def _secrets_of_variables() -> list[str]:
    return [
        text for name, text in os.environ.items() if name.upper().endswith(_SECRET_VARIABLES) and len(text) >= _SHORTEST_VARIABLE
    ]


@dataclass(frozen=True, slots=True)
class _Walk:
    """A walk through JSON that replaces credentials.

    Attributes:
        replace: The replacement of a text that is or holds a credential.
        secrets: Texts that are credentials wherever they stand.
        numbers: Whether a number below a name for credentials is replaced, too.
    """

    replace: Replace
    secrets: Sequence[str] = ()
    numbers: bool = False

    def value(self, value: Any, *, below: bool = False, depth: int = 0) -> Any:
        """Return a value with its credentials replaced. With `below`, every text in it is one."""
        if depth > _DEPTH:
            return HIDDEN
        if isinstance(value, HiddenText):
            return self.replace(value.reveal(), str(value))
        if isinstance(value, str):
            if below and value:
                return self.replace(value, HIDDEN)
            shown = _without(value, self.secrets)
            return value if shown == value else self.replace(value, shown)
        if isinstance(value, Mapping):
            return {
                key: self.value(item, below=_hides(key, item) or (below and not _is_known(key)), depth=depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            if below and all(isinstance(item, list | tuple) and len(item) == 2 for item in value):  # headers as pairs
                return [[name, self.value(item, below=not _is_known(name), depth=depth + 1)] for name, item in value]
            return [self.value(item, below=below, depth=depth + 1) for item in value]
        is_number = isinstance(value, int | float | bytes) and not isinstance(value, bool)
        return HIDDEN if below and self.numbers and is_number else value


def _hides(key: Any, value: Any) -> bool:
    """Return whether everything below a name is a credential."""
    name = _NAME_BREAK.sub("_", str(key))
    if not isinstance(value, str) and _CONTAINERS.fullmatch(name):
        return True
    return bool(_CREDENTIAL.fullmatch(name)) and not _HARMLESS.fullmatch(name)


def _is_known(name: Any) -> bool:
    return isinstance(name, str) and bool(_KNOWN_HEADERS.fullmatch(name))


def _without(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _KEYS.sub(HIDDEN, hide_credentials(text))


class HiddenText(str):
    """A text that shows another one in its place, in its repr and in JSON. Its pickle holds it sealed; see `sealed`.

    It is equal to the text itself.

    Example:
        >>> token = HiddenText("tk-1234")
        >>> token, token.reveal()
        ('***', 'tk-1234')
    """

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str, shown: str = HIDDEN) -> HiddenText:
        one = super().__new__(cls, shown)
        one._text = text
        return one

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return self._text == (other._text if isinstance(other, HiddenText) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._text)

    def __deepcopy__(self, memo: dict[int, Any]) -> HiddenText:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_opened_hidden, (_seal(self._text), str(self)))


class _Sealed:
    """A text on its way into a pickle, which holds it encrypted."""

    def __init__(self, text: str, shown: str = HIDDEN) -> None:
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return (_open, (_seal(self.text),))


def sealed(value: Any, *, all_of_it: bool = False) -> Any:
    """Return a value whose pickle holds credentials encrypted, or with `all_of_it` every text. `revealed` undoes it.

    The key is that of `multiprocessing`, which the process shares with its children under every start method. Read elsewhere,
    the texts are `***`, which the options refuse.
    """
    return _Walk(_Sealed).value(value, below=all_of_it)


def revealed(value: Any) -> Any:
    """Return a value with the texts themselves in the place of hidden and sealed ones."""
    if isinstance(value, HiddenText):
        return value.reveal()
    if isinstance(value, _Sealed):
        return value.text
    if type(value) is dict:
        return {key: revealed(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(revealed, value))
    return value


def sealing_key() -> bytes:
    """Return the key of this process and its children, for a worker that another program starts."""
    from multiprocessing import current_process  # importing it takes longer than the rest of this module

    return bytes(current_process().authkey)


def use_sealing_key(key: bytes) -> None:
    """Open what the process with this key sealed."""
    from multiprocessing import current_process

    current_process().authkey = key


def _stream(nonce: bytes, size: int) -> bytes:
    return hashlib.shake_256(sealing_key() + nonce).digest(size)


def _seal(text: str) -> bytes:
    data, nonce = text.encode("utf-8", "surrogatepass"), os.urandom(16)
    data = hashlib.sha256(data).digest()[:8] + data
    return nonce + bytes(a ^ b for a, b in zip(data, _stream(nonce, len(data)), strict=True))


def _open(data: bytes) -> str:
    """Return a sealed text; `***` where another program sealed it."""
    nonce, data = data[:16], data[16:]
    data = bytes(a ^ b for a, b in zip(data, _stream(nonce, len(data)), strict=True))
    return data[8:].decode("utf-8", "surrogatepass") if hashlib.sha256(data[8:]).digest()[:8] == data[:8] else HIDDEN


def _opened_hidden(data: bytes, shown: str) -> HiddenText:
    return HiddenText(_open(data), shown)
