"""Completion of names in a shell, without a server and without heavy imports."""

from __future__ import annotations

from collections.abc import Iterable


def complete_environment(incomplete: str) -> list[str]:
    """Return the built-in environments that begin with what was typed."""
    from openreward_gym.serve.examples import BUILT_IN

    return _starting(incomplete, BUILT_IN)


def complete_policy(incomplete: str) -> list[str]:
    """Return the kinds of policies that begin with what was typed."""
    return _starting(incomplete, ("random", "random:", "openai:", "anthropic:", "google:", "transformers:", "scripted:"))


def complete_formats(incomplete: str) -> list[str]:
    """Return the formats that begin with what was typed after the last comma."""
    from openreward_gym.export import format_names

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _starting(last, format_names())]


def complete_source(incomplete: str) -> list[str]:
    """Return the systems whose rollouts can be imported that begin with what was typed."""
    from openreward_gym.importers import names

    return _starting(incomplete, names())


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
