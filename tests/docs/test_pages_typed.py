"""Each page of the site works when it is typed from top to bottom into one shell, and prints what it shows."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import DOCS, ROOT, blocks_of, pages, tiny_model, where
from typed_shell import TypedShell, clone, commands_of, installed_environment, reader, type_page

MODEL = "Qwen/Qwen3-0.6B"
"""The model that pages download. Here a tiny one lies in a folder of this name."""
# Those with tests of their own, mostly in the environment of a trainer.
_TYPED_ELSEWHERE = (
    "index.md",
    "tutorial.md",
    "first-mistakes.md",
    "train-with-nemo-gym.md",
    "train-with-skyrl.md",
    "train-with-tinker.md",
    "train-with-verifiers.md",
    "train-with-verl.md",
    "train-asynchronously.md",
    "openenv.md",
)
PAGES = [page for page in pages() if blocks_of(page) and page.name not in _TYPED_ELSEWHERE]
PROGRAM = Path(__file__).with_name("stand_ins.py")
# Not those that need a key for the platform, that train for long, that are modules of others, or that have tests of their own.
_LEFT_OUT = (
    "judging_and_sandboxes",
    "record_rollout_generic",
    "record_rollout_openai",
    "inspect_task",
    "openenv_server",
    "tiny_model",
    "compare_rollouts",
    "verifiers_environment",
    "skyrl_environment",
    "tinker_training",
    "train_async_grpo",
    "verl_agent_loop",
)
EXAMPLES = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.stem not in _LEFT_OUT]
# A page is typed after these commands, where it says that something is there: a provider's model, the Hub.
BEFORE = {
    "collecting.md": f"{sys.executable} {PROGRAM} vllm --port 8000 & export OPENAI_BASE_URL=http://127.0.0.1:8000/v1",
    "evaluate-with-inspect.md": f"{sys.executable} {PROGRAM} vllm --port 8000 & export OPENAI_BASE_URL=http://127.0.0.1:8000/v1",
    "export.md": f"{sys.executable} {PROGRAM} hub .hub & until test -s .hub; do sleep 0.1; done; "
    "export HF_TOKEN=hf_test HF_HUB_DISABLE_XET=1 HF_ENDPOINT=$(cat .hub)",
}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny_model(tmp_path_factory.mktemp("model")))


def commands_in_docstring(program: Path) -> list[str]:
    """Return the lines of a program's docstring that are commands."""
    docstring = ast.get_docstring(ast.parse(program.read_text(encoding="utf-8"))) or ""
    lines = map(str.strip, docstring.splitlines())
    return [line for line in lines if line.startswith(("openreward-gym ", "python ", "vllm "))]


def test_the_tutorial_can_be_typed(tmp_path: Path) -> None:
    folder = clone(tmp_path / "openreward-gym")
    installed_environment(folder / ".venv")
    with reader(folder, tmp_path) as shell:
        type_page(DOCS / "tutorial.md", shell)
        assert shell.type("wait").code == 0  # for the end of what the page killed
        assert shell.jobs() == []


@pytest.fixture
def shell(tmp_path: Path, model: Path) -> Iterator[TypedShell]:
    """A shell in a clone, in an environment with all extras, and with a program `vllm`."""
    programs = installed_environment(tmp_path / "environment") / "bin"
    (programs / "vllm").write_text(f'#!/bin/sh\nexec {sys.executable} {PROGRAM} "$@"\n', encoding="utf-8")
    (programs / "vllm").chmod(0o755)
    folder = clone(tmp_path / "openreward-gym")
    (folder / MODEL).parent.mkdir()
    (folder / MODEL).symlink_to(model, target_is_directory=True)
    with reader(folder, programs, {"OPENAI_API_KEY": "not-a-key"}) as shell:
        yield shell


@pytest.mark.matrix
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_can_be_typed(page: Path, shell: TypedShell) -> None:
    if page.name in BEFORE:
        assert shell.type(BEFORE[page.name]).code == 0
    type_page(page, shell)


@pytest.mark.matrix
@pytest.mark.timeout(900)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_the_commands_of_an_example_can_be_typed(example: Path, shell: TypedShell) -> None:
    commands = commands_in_docstring(example)
    assert any(example.name in command for command in commands)
    for command in commands:
        answer = shell.type(command)
        assert answer.code == 0, answer
        assert "Traceback" not in answer.output, answer


@pytest.mark.matrix
@pytest.mark.timeout(900)
def test_the_first_page_can_be_typed_in_an_empty_environment(tmp_path: Path) -> None:
    folder = clone(tmp_path / "openreward-gym")
    with reader(folder, tmp_path, {"PYTHONPATH": ""}, private_network=False, timeout_s=800) as shell:
        for command in (f"{sys.executable} -m venv mine", ". mine/bin/activate"):
            assert shell.type(command).code == 0
        type_page(DOCS / "index.md", shell)


@pytest.mark.parametrize("page", [ROOT / "README.md", *pages()], ids=lambda page: page.stem)
def test_no_command_of_a_page_waits_for_the_reader(page: Path) -> None:
    commands = [
        (where(block), command) for block in blocks_of(page) if block.language == "bash" for command in commands_of(block.code)
    ]
    for place, command in commands:
        is_server = command.startswith(("openreward-gym serve", "vllm serve")) or (
            command.startswith("openreward-gym view") and "--html" not in command
        )
        assert not is_server or re.search(r"&(\s+#.*)?$", command), f"{place}: {command}"
