"""Policies that other distributions register as entry points."""

from __future__ import annotations

from pathlib import Path

import pytest

from openreward_gym.errors import ConfigurationError
from openreward_gym.policies import policy_name, resolve


@pytest.fixture(autouse=True)
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution with three policies: a class, a coroutine function, and one that cannot be imported."""
    (tmp_path / "some_policies.py").write_text(
        """
class Parrot:
    def __init__(self, words="", url=None, **options):
        self.name = f"parrot:{words}"
        self.url, self.options = url, options

    async def __call__(self, transcript, tools):
        raise NotImplementedError


async def silent(transcript, tools):
    raise NotImplementedError
"""
    )
    info = tmp_path / "some_policies-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-policies\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[openreward_gym.policies]\n"
        "parrot = some_policies:Parrot\nsilent = some_policies:silent\nbroken = no_such_module_:Policy\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_registered_class_is_made_with_argument_url_and_options() -> None:
    policy = resolve("parrot:hello", url="http://127.0.0.1:9", temperature=0.5)
    assert policy_name(policy) == "parrot:hello"
    assert (policy.url, policy.options) == ("http://127.0.0.1:9", {"temperature": 0.5})  # type: ignore[union-attr]
    assert policy_name(resolve("parrot")) == "parrot:"


def test_a_registered_function_is_the_policy() -> None:
    assert policy_name(resolve("silent")) == "silent"


def test_a_registered_policy_that_cannot_be_imported_names_its_distribution() -> None:
    with pytest.raises(ConfigurationError, match="some-policies"):
        resolve("broken")


def test_an_unknown_name_lists_the_registered_ones() -> None:
    with pytest.raises(ConfigurationError, match="parrot"):
        resolve("no-such-policy")
