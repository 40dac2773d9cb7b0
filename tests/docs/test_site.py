"""The site builds without a warning and needs nothing from elsewhere; its pages agree with what they are about."""

from __future__ import annotations

import ast
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
from generated import PAGES

from openreward_gym import cli

COMMANDS = vars(typer.main.get_command(cli.app))["commands"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_that_is_made_of_the_code(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path](), "it changed: python tests/docs/generated.py"


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(DOCS)))
def test_commands_of_a_page_exist_with_their_options(path: Path) -> None:
    for block in blocks_of(path):
        if block.language != "bash":
            continue
        for line in re.sub(r"\\\n\s*", " ", block.code).splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] != ["openreward-gym"] or words[1].startswith("-"):
                continue
            assert words[1] in COMMANDS, f"{path.name}: {line}"
            options = {name for parameter in COMMANDS[words[1]].params for name in (*parameter.opts, *parameter.secondary_opts)}
            given = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--debug", "--help"}
            assert given <= options, f"{path.name}: {line}: there is no {given - options}"


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(DOCS)))
def test_python_of_a_page_compiles(path: Path) -> None:
    for block in blocks_of(path):
        if block.language == "python":
            compile(block.code, f"{path.name}:{block.line}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_extra_of_a_page_exists() -> None:
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M))
    for path in [*pages(), ROOT / "README.md"]:
        for named in re.findall(r"openreward-gym\[([\w,]+)\]", path.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= extras, f"{path.name}: openreward-gym[{named}]"


def _build(builder: list[str], site: Path) -> None:
    # Material for MkDocs tells of its successor on stderr; that is no warning about these pages.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "COLUMNS": "200"}
    ran = subprocess.run([sys.executable, "-m", *builder], cwd=site, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "WARNING" not in ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the site is made of, in a folder that may be written to."""
    folder = tmp_path_factory.mktemp("copy")
    # No links: a builder that follows them writes its site beside the original.
    for name in ("docs", "openreward_gym", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.matrix
def test_it_builds_strictly_and_asks_nobody(copy: Path) -> None:
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
def test_its_successor_builds_it_too(copy: Path) -> None:
    shutil.rmtree(copy / "site", ignore_errors=True)
    _build(["zensical", "build", "--strict", "--clean"], copy)
    assert (copy / "site" / "index.html").exists()


def test_what_is_public_is_in_the_reference() -> None:
    import openreward_gym

    documented = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    # Rooms that a page shows whole.
    whole = {room: f"::: openreward_gym.{room}\n" for room in ("types", "errors", "types.rollout")}
    for name in openreward_gym.__all__:
        home = openreward_gym._HOMES.get(name, name)
        shown = re.search(rf"\b{name}\b", documented) or (home in whole and whole[home] in documented)
        assert shown or name in openreward_gym._ROOMS, f"{name} is public and on no page of docs/reference"


def test_the_configuration_names_every_page() -> None:
    _, _, navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")
    named = set(re.findall(r"[\w/-]+\.md", navigation))
    assert named == {str(path.relative_to(DOCS)) for path in pages()}
