"""Versions of servers, compared with the release that brought a rule."""

from __future__ import annotations

import re


def is_older(version: str, release: str) -> bool:
    """Return True if a server's version is before `release`. Servers that name no version are the oldest.

    A version that is not made of numbers belongs to another implementation, which is taken to be a new one.

    >>> is_older("0.1.131", "0.1.160"), is_older("0.1.160", "0.1.160"), is_older("", "0.1.160"), is_older("main", "0.1.160")
    (True, False, True, False)
    """
    if not version:
        return True
    numbers = _numbers(version)
    return bool(numbers) and numbers < _numbers(release)


def _numbers(version: str) -> list[int]:
    match = re.match(r"v?(\d{1,9}(?:\.\d{1,9})*)", version)
    return [int(part) for part in match[1].split(".")] if match else []
