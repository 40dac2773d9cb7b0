"""The site builds without a warning and loads nothing remote; its pages agree with the code and commands that they describe."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from documents import DOCS, ROOT, blocks_of, pages
from generated import PAGES, rooms

import openreward_gym
from openreward_gym import cli

COMMANDS = vars(typer.main.get_command(cli.app))["commands"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_generated_page_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path](), "write it again: python tests/docs/generated.py"


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(DOCS)))
def test_the_commands_on_a_page_exist_with_their_options(path: Path) -> None:
    for block in blocks_of(path):
        if block.language != "bash":
            continue
        for line in re.sub(r"\\\n\s*", " ", block.code).splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] != ["openreward-gym"] or words[1].startswith("-"):
                continue
            assert words[1] in COMMANDS, f"{path.name}: {line}"
            options = {name for parameter in COMMANDS[words[1]].params for name in (*parameter.opts, *parameter.secondary_opts)}
            used = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--debug", "--help"}
            assert used <= options, f"{path.name}: {line}: unknown options {used - options}"


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(DOCS)))
def test_the_python_blocks_of_a_page_compile(path: Path) -> None:
    for block in blocks_of(path):
        if block.language == "python":
            compile(block.code, f"{path.name}:{block.line}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_each_extra_named_on_a_page_exists() -> None:
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M))
    for path in [*pages(), ROOT / "README.md"]:
        for named in re.findall(r"openreward-gym\[([\w,]+)\]", path.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= extras, f"{path.name}: openreward-gym[{named}]"


def _build(builder: list[str], site: Path) -> None:
    # Material for MkDocs announces its successor on stderr, which is not a warning about these pages.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "COLUMNS": "200"}
    ran = subprocess.run([sys.executable, "-m", *builder], cwd=site, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "WARNING" not in ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A writable copy of the files that the site is built from."""
    folder = tmp_path_factory.mktemp("copy")
    # Not links: a builder that follows them writes its site beside the original.
    for name in ("docs", "openreward_gym", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    (folder / "tests" / "docs").mkdir(parents=True)
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "mkdocs.yml", "tests/docs/example_sections.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.matrix
def test_the_site_builds_strictly_and_loads_nothing_remote(copy: Path) -> None:
    _build(["mkdocs", "build", "--strict"], copy)
    built = sorted((copy / "site").rglob("*.html"))
    assert len(built) >= len(pages())
    remote = re.compile(
        r"""<(?:script|img|iframe|source)[^>]+src=["']?https?:|<link[^>]+rel=["']?(?:stylesheet|preload|icon)[^>]+href=["']?https?:"""
    )
    for path in built:
        assert not remote.search(path.read_text(encoding="utf-8")), path
    for sheet in (copy / "site").rglob("*.css"):
        assert not re.search(r"""url\(["']?https?:|@import["' (]+https?:""", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.matrix
def test_the_successor_of_mkdocs_builds_the_site_too(copy: Path) -> None:
    shutil.rmtree(copy / "site", ignore_errors=True)
    _build(["zensical", "build", "--strict", "--clean"], copy)
    assert (copy / "site" / "index.html").exists()


@pytest.mark.parametrize("room", rooms())
def test_the_reference_documents_exactly_the_public_names_of_a_room(room: str) -> None:
    page = DOCS / "reference" / f"{room}.md"
    assert page.exists(), f"{page.name} is missing: write it with python tests/docs/generated.py and add it to mkdocs.yml"
    documented = re.findall(rf"^::: openreward_gym\.{room}\.(\w+)$", page.read_text(encoding="utf-8"), re.M)
    exported = rooms()[room]
    assert sorted(documented) == sorted(exported), f"{page.name} and openreward_gym.{room}.__all__ differ"
    module = importlib.import_module(f"openreward_gym.{room}")
    assert not [name for name in exported if not hasattr(module, name)], f"openreward_gym.{room} lacks names of its __all__"


def test_the_reference_has_no_page_of_a_room_without_public_names() -> None:
    assert {path.stem for path in (DOCS / "reference").glob("*.md")} == {*rooms(), "commands", "environment-variables"}


def test_each_public_name_of_the_top_level_is_public_in_a_room() -> None:
    in_rooms = {name for names in rooms().values() for name in names}
    assert set(openreward_gym.__all__) - {"__version__"} <= in_rooms | set(rooms())


def test_the_drawing_of_the_house_has_every_room() -> None:
    drawn = set(re.findall(r'font-weight="bold">([\w.]+)</text>', (DOCS / "images" / "house.svg").read_text(encoding="utf-8")))
    folders = {path.parent.name for path in (ROOT / "openreward_gym").glob("*/__init__.py")}
    assert folders <= drawn
    for name in drawn - set("012345678"):
        path = ROOT / "openreward_gym" / name.replace(".", "/")
        assert name == "protocol.wire" or path.is_dir() or path.with_suffix(".py").exists(), f"there is no openreward_gym.{name}"


def test_mkdocs_yml_names_every_page() -> None:
    _, _, navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")
    named = set(re.findall(r"[\w/-]+\.md", navigation))
    assert named == {str(path.relative_to(DOCS)) for path in pages()}
