"""The tutorial and the how-to pages work when they are typed from top to bottom into one shell."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from documents import DOCS, blocks_of, tiny_model, where
from typed_shell import clone, commands_of, installed_environment, reader, type_page

HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
MODEL = "Qwen/Qwen3-0.6B"
"""The model that pages download. Here it is a tiny one, which is in the cache of the Hub before the page is typed."""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny_model(tmp_path_factory.mktemp("model")))


def add_to_cache(model: Path, cache: Path) -> None:
    """Put a model into a cache of the Hub, as a download of `MODEL` would."""
    revision = hashlib.sha1(MODEL.encode()).hexdigest()
    folder = cache / "hub" / f"models--{MODEL.replace('/', '--')}"
    (folder / "snapshots").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision, encoding="utf-8")
    (folder / "snapshots" / revision).symlink_to(model, target_is_directory=True)


def test_the_tutorial_can_be_typed(tmp_path: Path) -> None:
    folder = clone(tmp_path / "openreward-gym")
    installed_environment(folder / ".venv")
    with reader(folder, tmp_path) as shell:
        type_page(DOCS / "tutorial.md", shell)
        assert shell.type("wait").code == 0  # for the end of what the page killed
        assert shell.jobs() == []


@pytest.mark.matrix
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_how_to_page_can_be_typed(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    programs = installed_environment(tmp_path / "environment") / "bin"
    (programs / "vllm").write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("vllm_program.py")} "$@"\n')
    (programs / "vllm").chmod(0o755)
    folder = clone(tmp_path / "openreward-gym")
    variables = {"HF_HOME": str(tmp_path / "cache"), "OPENAI_API_KEY": "not-a-key"}
    if MODEL in page.read_text(encoding="utf-8"):
        add_to_cache(request.getfixturevalue("model"), tmp_path / "cache")
        variables["HF_HUB_OFFLINE"] = "1"
    with reader(folder, programs, variables) as shell:
        type_page(page, shell)


@pytest.mark.matrix
@pytest.mark.timeout(900)
def test_the_first_page_can_be_typed_in_an_empty_environment(tmp_path: Path) -> None:
    folder = clone(tmp_path / "openreward-gym")
    with reader(folder, tmp_path, {"PYTHONPATH": ""}, private_network=False, timeout_s=800) as shell:
        for command in (f"{sys.executable} -m venv mine", ". mine/bin/activate"):
            assert shell.type(command).code == 0
        type_page(DOCS / "index.md", shell)


@pytest.mark.parametrize(
    "page", [DOCS.parent / "README.md", DOCS / "index.md", DOCS / "tutorial.md", *HOW_TO], ids=lambda page: page.stem
)
def test_no_command_of_a_page_waits_for_the_reader(page: Path) -> None:
    commands = [
        (where(block), command) for block in blocks_of(page) if block.language == "bash" for command in commands_of(block.code)
    ]
    for place, command in commands:
        is_server = command.startswith(("openreward-gym serve", "vllm serve")) or (
            command.startswith("openreward-gym view") and "--html" not in command
        )
        assert not is_server or command.endswith("&"), f"{place}: {command}"
