"""Plugins of other distributions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from openreward_gym import plugins
from openreward_gym.errors import ConfigurationError

GROUP = "openreward_gym.tested"

Install = Callable[[str, str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution: its name, its module's source, and its entry points in the group."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def installed(name: str, source: str, entries: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}\n")
        monkeypatch.delitem(sys.modules, name, raising=False)

    return installed


def test_an_object_is_found_by_its_name(install: Install) -> None:
    """Names are listed without importing anything; an object is imported when it is asked for."""
    assert plugins.names(GROUP) == ()
    install("plugin_a", "VALUE = 3", "three = plugin_a:VALUE\nbroken = plugin_a:MISSING")
    assert plugins.names(GROUP) == ("broken", "three")
    assert "plugin_a" not in sys.modules
    assert plugins.find(GROUP, "three") == 3
    assert plugins.find(GROUP, "four") is None


@pytest.mark.parametrize("source", ["import no_such_module", "1 / 0", "x = ("])
def test_a_broken_plugin_names_its_distribution(install: Install, source: str) -> None:
    """The user learns which distribution is broken, whatever it raises."""
    install("plugin_b", source, "it = plugin_b:IT")
    with pytest.raises(ConfigurationError, match=r"'it' .*plugin_b"):
        plugins.find(GROUP, "it")


def test_one_name_of_two_distributions_is_refused(install: Install) -> None:
    """No distribution silently replaces another's plugin."""
    install("plugin_c", "VALUE = 1", "same = plugin_c:VALUE")
    install("plugin_d", "VALUE = 2", "same = plugin_d:VALUE")
    with pytest.raises(ConfigurationError, match="'plugin_c' and 'plugin_d'"):
        plugins.find(GROUP, "same")
