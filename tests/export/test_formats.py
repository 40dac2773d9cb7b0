"""Formats by name, by class, and from other distributions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from export_rollouts import assistant, episode

from openreward_gym import export
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.formats.archive import Archive
from openreward_gym.export.options import ExportKeywords

SOURCE = '''
from openreward_gym import export


class Lengths(export.Format):
    """One row per rollout: its number of messages."""

    name = "lengths"
    about = "numbers of messages"

    def columns(self):
        return {"messages": "int"}

    def rows(self, conversations):
        (conversation,) = conversations
        yield self.row(conversation, messages=len(conversation.messages))


class Nameless(export.Format):
    columns = rows = None


NUMBER = 3
'''
Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with formats, by its entry points."""
    folder = tmp_path / "site"
    monkeypatch.syspath_prepend(str(folder))

    def installed(entries: str) -> None:
        dist_info = folder / "formats_of_others-1.0.dist-info"
        dist_info.mkdir(parents=True)
        (dist_info / "METADATA").write_text("Metadata-Version: 2.1\nName: formats-of-others\nVersion: 1.0\n")
        (dist_info / "entry_points.txt").write_text(f"[openreward_gym.exporters]\n{entries}\n")
        (folder / "formats_of_others.py").write_text(SOURCE)

    yield installed
    sys.modules.pop("formats_of_others", None)


def test_a_format_of_another_distribution_is_found_by_its_name(install: Install, tmp_path: Path) -> None:
    """It is listed, written, and described on the card like one of this package."""
    install("lengths = formats_of_others:Lengths")
    assert export.format_names()[-1] == "lengths"
    rollouts = [episode(assistant("yes"))]
    assert export.to_dataset(rollouts, format="lengths", columns=["reward"])[0]["messages"] == 2
    report = export.write(rollouts, tmp_path / "out", formats=["lengths", "sft"])
    assert report.rows == {"lengths": 1, "sft": 1}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "config_name: lengths" in card
    assert "numbers of messages" in card


def test_a_class_is_a_format() -> None:
    """Without a distribution, the class itself is passed."""
    names: dict[str, Any] = {}
    exec(SOURCE, names)
    dataset = export.to_dataset([episode(assistant("yes"))], format=names["Lengths"])
    assert dataset[0]["messages"] == 2
    with pytest.raises(ConfigurationError, match="the format Nameless has no name"):
        export.to_dataset([], format=names["Nameless"])


@pytest.mark.parametrize(("entry", "message"), [("missing", "formats-of-others"), ("NUMBER", "3 is not a subclass")])
def test_a_broken_format_of_another_distribution_is_reported(install: Install, entry: str, message: str) -> None:
    """The error for a failed import names the distribution, and the error for another object names its value."""
    install(f"broken = formats_of_others:{entry}")
    with pytest.raises(ConfigurationError, match=message):
        export.to_dataset([], format="broken")
    assert "sft" in export.FORMATS


def test_formats_cannot_be_replaced() -> None:
    """A format of this package keeps its name."""
    with pytest.raises(TypeError):
        export.FORMATS["sft"] = export.Format  # type: ignore[index]


def test_two_formats_of_one_name_are_refused(tmp_path: Path) -> None:
    """They would write the same folder."""

    class Other(Archive):
        name = "sft"

    with pytest.raises(ConfigurationError, match="same name"):
        export.write([], tmp_path, formats=["sft", Other])


def test_the_names_for_type_checkers_are_those_of_the_formats_and_options() -> None:
    """`FormatName` and `ExportKeywords` repeat the declarations of formats and options."""
    assert get_args(export.FormatName) == tuple(export.FORMATS)
    assert get_type_hints(ExportKeywords) == get_type_hints(export.ExportOptions)
    assert export.ExportOptions.names() == tuple(field.name for field in fields(export.ExportOptions))
