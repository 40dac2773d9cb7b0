"""Secrets of requests, and the one place where they are hidden in the text of errors.

A server, a proxy or a parser may repeat a secret of the request: whole, cut, escaped or encoded. Text of others enters an error
through `Redactor.quote` or `Redactor.clean`, which hide first and cut afterwards. A reader of answers that has no redactor raises
the error of `with_evidence`; whoever sent the request cleans it.
"""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import unquote

from openreward_gym.errors import ConfigurationError, OpenRewardGymError

__all__ = ["LONGEST_MESSAGE", "Redactor", "Secret", "check_secret", "excerpt", "read_secret", "secrets_of_url", "with_evidence"]

E = TypeVar("E", bound=OpenRewardGymError)

LONGEST_MESSAGE = 20_000
"""Characters that an error keeps of what others say."""
SHORTEST_SECRET = 4
"""Shorter secrets are not hidden: they occur in ordinary words, and can be guessed anyway."""
SHORTEST_PART = 8
"""Characters of a secret, or of its encoded form, from which a part of it is hidden. Shorter secrets are hidden as a whole."""
_HIDDEN = "[secret]"
_EVIDENCE = "_evidence"
# Escaping makes up to ten characters of one, and each round of decoding removes one layer.
_ROUNDS = 4
_MARGIN = 1000
_ESCAPES = re.compile(
    r"\\u\{?([0-9a-f]{1,6})\}|\\u([0-9a-f]{4})|\\u([0-9a-f]{8})|\\x([0-9a-f]{2})|%u([0-9a-f]{4})|%([0-9a-f]{2})|&#x([0-9a-f]{1,6});?"
    r"|&#([0-9]{1,7});?|(&[a-z]{2,31};)|\\([0-7]{3})|\\(.)",
    re.IGNORECASE | re.DOTALL,
)
_DECIMAL, _NAMED, _OCTAL, _PLAIN = 8, 9, 10, 11
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
# These words occur in ordinary messages, and a key may begin with one.
_PUBLIC_WORDS = ("openreward-gym", "openreward_api_key", "openreward_gym", "http://127.0.0.1", "http://localhost")


class Secret:
    """A string that no repr, log or pickle shows. Only the transport reads it.

    Example:
        >>> Secret("abcd-1234")
        Secret(...)
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the string."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret cannot be pickled: pass the name of its environment variable instead")


def read_secret(variable: str, *, strip: bool = False) -> Secret | None:
    """Return the secret in an environment variable. None if it is not set or empty.

    Args:
        variable: The variable's name.
        strip: Remove blanks and line ends at both ends.

    Raises:
        ConfigurationError: The value has a control character, such as a line end, or a letter outside ASCII, which no header
            carries. The message names the variable alone.

    Example:
        >>> os.environ["DOC_KEY"] = "abcd-1234"
        >>> read_secret("DOC_KEY")
        Secret(...)
    """
    # In no variable as a plain text: a traceback may show variables.
    secret = Secret(os.environ.get(variable, "").strip() if strip else os.environ.get(variable, ""))
    return check_secret(secret, f"the value of the environment variable {variable}")


def check_secret(secret: Secret, what: str) -> Secret | None:
    """Return a secret that is sent in a header. None for an empty one.

    Args:
        secret: The secret.
        what: What it is, for the message: "the api_key".

    Raises:
        ConfigurationError: It has a control character, such as a line end, or a letter outside ASCII.

    Example:
        >>> check_secret(Secret("abcd-1234"), "the api_key"), check_secret(Secret(""), "the api_key")
        (Secret(...), None)
    """
    if not secret.reveal():
        return None
    if secret.reveal().isascii() and secret.reveal().isprintable():
        return secret
    raise ConfigurationError(
        f"{what} has a line end, another control character or a letter outside ASCII, which no header can carry. Copy the key "
        "again, on one line."
    )


def secrets_of_url(url: str) -> list[Secret]:
    """Return the password in a URL, as it is written and decoded, and its form in the header of basic authentication.

    Example:
        >>> len(secrets_of_url("http://user:pass%40word@127.0.0.1:8080")), secrets_of_url("http://127.0.0.1:8080")
        (3, [])
    """
    login, at, _ = url.partition("://")[2].rpartition("@")
    user, _, password = login.partition(":")
    if not at or not (password or user):
        return []
    # Some services take a key as the user name, without a password.
    texts = dict.fromkeys((password or user, unquote(password or user)))
    header = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode("utf-8", "replace")).decode("ascii")
    return [Secret(text) for text in (*texts, header)]


def proxy_secrets() -> list[Secret]:
    """Return the passwords in the addresses of the configured proxies."""
    # Imported here: it takes 15 ms, and is needed for errors alone.
    from urllib.request import getproxies

    return [secret for url in getproxies().values() for secret in secrets_of_url(url)]


def with_evidence(error: E, evidence: str | bytes, then: str = "", *, limit: int = 200) -> E:
    """Append an excerpt of `evidence`, a server's text, and `then` to the message of `error`; keep the text for `Redactor.clean`.

    Example:
        >>> from openreward_gym.errors import ProtocolError
        >>> error = with_evidence(ProtocolError("not JSON: "), "<key abcd-1234>")
        >>> str(Redactor([Secret("abcd-1234")]).clean(error))
        'not JSON: <key [secret]>'
    """
    text = _window(evidence, limit)
    setattr(error, _EVIDENCE, (str(error), text, then, limit))
    error.args = (str(error) + _cut(text, limit) + then,)
    return error


def excerpt(data: bytes | str, limit: int = 200) -> str:
    """Return the beginning of `data` on one line, for a message about data that no secret can be in.

    Example:
        >>> excerpt("a  b\\nc", limit=4)
        'a b …'
    """
    return _cut(_window(data, limit), limit)


class Redactor:
    """Hides secrets in text: whole, in parts of eight characters or more, escaped (JSON, URLs, HTML, Python), in base64 or hex.

    Example:
        >>> redact = Redactor([Secret("key-3f9a77c1d2")])
        >>> redact("unknown key key-3f9a77c1d2"), redact("cut: key-3f9a7"), redact("%6bey-3f9a77c1d2")
        ('unknown key [secret]', 'cut: [secret]', '[secret]')
    """

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._parts: set[str] = set()
        self._whole: set[str] = set()
        for secret in secrets:
            if len(secret.reveal()) >= SHORTEST_SECRET:
                self._whole.add(secret.reveal().translate(_LOWER))
                for form in _forms(secret):
                    if len(form) < SHORTEST_PART:
                        self._whole.add(form)
                    self._parts.update(_slices(form))
        self._parts.difference_update(part for word in _PUBLIC_WORDS for part in _slices(word))

    def __repr__(self) -> str:
        return f"<Redactor of {len(self._parts) + len(self._whole)} parts>"

    def __call__(self, text: str) -> str:
        """Return `text` with each secret replaced by `[secret]`."""
        if not (self._parts or self._whole):
            return text
        pieces: list[str] = []
        end = 0
        for start, stop in self._spans(text):
            if start > end or not pieces:
                pieces += [text[end:start], _HIDDEN]
            end = max(end, stop)
        return "".join([*pieces, text[end:]])

    def quote(self, text: str | bytes, limit: int = 200) -> str:
        """Return the beginning of a server's text on one line, with secrets hidden before it is cut."""
        return _cut(self(_window(text, limit)), limit)

    def clean(self, error: E) -> E:
        """Hide secrets in all that `error` says, drop its frames and causes, which hold the server's answer, and return it."""
        evidence = vars(error).pop(_EVIDENCE, None)
        if evidence is None:
            error.args = (_shortened(self(_beginning(str(error)))),)
        else:
            problem, text, then, limit = evidence
            error.args = (self(problem) + self.quote(text, limit) + self(then),)
        for name, value in vars(error).items():
            if isinstance(value, str):
                setattr(error, name, _shortened(self(_beginning(value))))
        vars(error).pop("__notes__", None)
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Return the places of secrets, in order: in the text, and in what is left after each round of decoding."""
        spans: list[tuple[int, int]] = []
        starts, stops = list(range(len(text))), list(range(1, len(text) + 1))
        for _ in range(_ROUNDS + 1):
            plain = text.translate(_LOWER)
            parts = self._parts
            places = range(len(plain) - SHORTEST_PART + 1)
            hits = [place for place in places if plain[place : place + SHORTEST_PART] in parts]
            spans += [(starts[place], stops[place + SHORTEST_PART - 1]) for place in hits]
            for whole in self._whole:
                matches = re.finditer(re.escape(whole), plain)
                spans += [(starts[match.start()], stops[match.end() - 1]) for match in matches]
            decoded = _decoded(text, starts, stops)
            if decoded is None:
                break
            text, starts, stops = decoded
        return sorted(spans)


def _forms(secret: Secret) -> Iterator[str]:
    """Yield the forms in which a secret may be repeated, in lower case, without characters that depend on what is beside it."""
    text = secret.reveal()
    data = text.encode("utf-8", "surrogatepass")
    yield text.translate(_LOWER)
    yield data.hex()
    for shift, lost in ((0, 0), (1, 2), (2, 3)):
        # Encoded in the middle of a text, the secret begins at any of three places of a group of three bytes.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            form = encode(bytes(shift) + data).decode("ascii").rstrip("=")[lost:]
            form = form[:-1] if (shift + len(data)) % 3 else form
            if len(form) >= SHORTEST_PART or (not shift and len(form) >= SHORTEST_SECRET):
                yield form.translate(_LOWER)


def _slices(form: str) -> Iterator[str]:
    return (form[place : place + SHORTEST_PART] for place in range(len(form) - SHORTEST_PART + 1))


def _decoded(text: str, starts: list[int], stops: list[int]) -> tuple[str, list[int], list[int]] | None:
    """Return `text` with one layer of escapes removed, and the place of each of its characters. None without an escape."""
    pieces: list[str] = []
    new_starts: list[int] = []
    new_stops: list[int] = []
    end = 0
    for match in _ESCAPES.finditer(text):
        character = _character(match)
        if character is None:
            continue
        start, stop = match.span()
        pieces += [text[end:start], character]
        new_starts += [*starts[end:start], starts[start]]
        new_stops += [*stops[end:start], stops[stop - 1]]
        end = stop
    if not pieces:
        return None
    return "".join([*pieces, text[end:]]), [*new_starts, *starts[end:]], [*new_stops, *stops[end:]]


def _character(match: re.Match[str]) -> str | None:
    """Return the character that an escape stands for. None if it stands for none."""
    group = match.lastindex or 0
    digits = match[group]
    if group == _PLAIN:
        return digits
    if group == _NAMED:
        named = html.unescape(digits)
        return named if len(named) == 1 else None
    number = int(digits, 10 if group == _DECIMAL else 8 if group == _OCTAL else 16)
    return chr(number) if number < 0x110000 else None


def _window(data: bytes | str, limit: int) -> str:
    """Return the beginning of a text, with more than is shown, so that nothing is cut before it is hidden."""
    most = limit * 8 + _MARGIN
    return data[:most].decode("utf-8", "replace") if isinstance(data, bytes) else data[:most]


def _cut(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:limit]}…"


def _beginning(text: str) -> str:
    return text[: LONGEST_MESSAGE + _MARGIN]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"
