"""The search language: words, phrases in double quotes, and `role:`, `tool:` and `is:error`, which restrict what is searched.

    role:tool tool:bash is:error "No such file"

`web/src/searching/query.ts` reads the same language, for files without a server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.viewer.filters import pattern

MAX_QUERY = 500
ROLES = ("system", "user", "assistant", "tool", "reasoning")

_QUALIFIER = r'(role|tool|is):(?:"([^"]*)"|([^\s"]+))(?=\s|$)'
_LEADING = re.compile(rf"\s*{_QUALIFIER}", re.IGNORECASE)
_PART = re.compile(rf'{_QUALIFIER}|"([^"]*)(?:"|$)|([^\s"]+)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query. A rollout matches if it has every word, or the expression, in the texts that the rest selects.

    Attributes:
        words: Words and phrases, as they were written.
        expression: The compiled regular expression, which stands in the place of words; None without one.
        roles: The wanted roles, in lower case; empty for all.
        tools: The wanted tools' names, in lower case; empty for all.
        errors: Whether only errors are searched: tool results that are errors, and the errors of rollouts.
    """

    words: tuple[str, ...] = ()
    expression: Any = None
    roles: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    errors: bool = False

    @property
    def empty(self) -> bool:
        return not (self.words or self.expression or self.selective)

    @property
    def selective(self) -> bool:
        return bool(self.roles or self.tools or self.errors)


def parse_query(text: str, regex: bool = False) -> Query:
    """Parse a query; with `regex`, what follows the leading `role:`, `tool:` and `is:` is a regular expression.

    Raises:
        ConfigurationError: The query is too long, names an unknown role, or is not a regular expression.

    Example:
        >>> parse_query('role:tool is:error "No such file" wc').words
        ('No such file', 'wc')
    """
    if len(text) > MAX_QUERY:
        raise ConfigurationError(f"the query has {len(text)} characters; at most {MAX_QUERY} are allowed")
    words: list[str] = []
    qualifiers: list[tuple[str, str]] = []
    if regex:
        while match := _LEADING.match(text):
            qualifiers.append((match[1].lower(), match[2] or match[3] or ""))
            text = text[match.end() :]
        text = text.strip()
        return _query((), pattern(text) if text else None, qualifiers)
    for match in _PART.finditer(text):
        if match[1]:
            qualifiers.append((match[1].lower(), match[2] or match[3] or ""))
        else:
            words.append(match[4] if match[4] is not None else match[5])
    return _query(tuple(dict.fromkeys(word for word in words if word.strip())), None, qualifiers)


def _query(words: tuple[str, ...], expression: Any, qualifiers: list[tuple[str, str]]) -> Query:
    values: dict[str, tuple[str, ...]] = {
        name: tuple(dict.fromkeys(value.lower() for kind, value in qualifiers if kind == name)) for name in ("role", "tool", "is")
    }
    for role in values["role"]:
        if role not in ROLES:
            raise ConfigurationError(
                f"there is no role {role[:40]!r}: the roles are {', '.join(ROLES)}. {_literally('role', role)}"
            )
    for state in values["is"]:
        if state != "error":
            raise ConfigurationError(f"`is:{state[:40]}` is not known, only `is:error`. {_literally('is', state)}")
    return Query(words, expression, values["role"], values["tool"], bool(values["is"]))


def _literally(name: str, value: str) -> str:
    return f'Quotes find the text itself: "{name}:{value[:40]}"'
