"""The integration of SkyRL: rows and messages here, environments and generators with the interpreter that has SkyRL."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fault_server import running
from installing import kept_packages, kept_trainer

from openreward_gym import RolloutStore, serve
from openreward_gym.chat.hermes import to_hermes
from openreward_gym.errors import ConfigurationError, MissingExtraError, TransportError
from openreward_gym.integrations import skyrl
from openreward_gym.integrations.skyrl.rows import EpisodeSource, read_column
from openreward_gym.types import AssistantMessage, ImageBlock, Message, OpaqueBlock, TextBlock, ToolCall, ToolMessage, UserMessage

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "train-with-skyrl.md"
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.S)
"""A Python block, and the text block directly after it."""
TESTS = """
import sys, typing, pytest, typing_extensions
# SkyRL 0.3.0 says that it runs with Python 3.11, where pydantic refuses its types made of `typing.TypedDict`.
typing.TypedDict = typing_extensions.TypedDict
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter with skyrl-gym."""
    return kept_trainer("skyrl", "skyrl-gym==0.4.0")


def environment(*folders: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, folders), *filter(None, sys.path)])}


@pytest.mark.matrix
@pytest.mark.timeout(400)
def test_with_skyrls_own_generators(python: Path) -> None:
    needs = ("loguru", "jaxtyping", "wadler-lindig", "tensordict", "torchdata")
    trainer = kept_packages("skyrl-trainer", "skyrl==0.3.0", *needs)
    program: list[Any] = [python, "-c", TESTS, "-q", "-p", "no:cacheprovider", str(Path(__file__).with_name("in_skyrl.py"))]
    environ = environment(trainer, ROOT / "tests" / "export")
    run = subprocess.run(program, env=environ, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.matrix
def test_example_runs(python: Path, examples: str, tmp_path: Path) -> None:
    program: list[Any] = [python, ROOT / "examples" / "skyrl_environment.py", examples]
    run = subprocess.run(program, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "<tool_response>" in run.stdout
    (rollout,) = RolloutStore(tmp_path / "runs" / "skyrl")
    assert rollout.stop_reason == "finished"


@pytest.mark.matrix
def test_page_runs(python: Path, tmp_path: Path) -> None:
    """Each Python block of the page runs, and prints what the page shows."""
    with serve.local(["weather"]) as url:
        for code, output in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
            program = code.replace("http://127.0.0.1:8080", url)
            command: list[Any] = [python, "-c", program]
            run = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False)
            assert run.returncode == 0, f"{code}\n{run.stderr}"
            printed = run.stdout.splitlines()
            assert not output or printed == output.splitlines(), f"{code}\n{run.stdout}"
    report = [sys.executable, "-m", "openreward_gym", "report", "runs/skyrl"]
    assert subprocess.run(report, env=environment(), cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_history_with_calls_and_results() -> None:
    call = ToolCall("look", {"at": "é"}, call_id="c1")
    messages = [
        Message("system", (TextBlock("Be brief."),)),
        UserMessage("Look."),
        AssistantMessage((TextBlock("I look."), call)),
        ToolMessage((TextBlock("one"), TextBlock("two")), call_id="c1"),
        ToolMessage("three", call_id="c2"),
        UserMessage("And?"),
    ]
    tool = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}
    written = to_hermes(messages, [tool])
    assert [message["role"] for message in written] == ["system", "user", "assistant", "user", "user"]
    assert written[0]["content"].startswith("Be brief.\n\n# Tools\n\n")
    assert json.dumps(tool) in written[0]["content"]
    assert written[2]["content"].splitlines()[1:3] == ["<tool_call>", '{"name": "look", "arguments": {"at": "é"}}']
    assert written[3]["content"] == ("<tool_response>\none\ntwo\n</tool_response>\n<tool_response>\nthree\n</tool_response>")
    assert to_hermes(messages[1:2], [tool])[0]["role"] == "system"
    assert to_hermes([]) == []


def test_blocks_that_a_text_model_cannot_be_shown() -> None:
    picture = ToolMessage((TextBlock("a"), ImageBlock("aGk=", "image/png"), TextBlock("b")), call_id="c1")
    with pytest.raises(ConfigurationError, match="image"):
        to_hermes([picture])
    (message,) = to_hermes([picture], images=True)
    assert [part.get("text") for part in message["content"]] == ["<tool_response>\na", None, "b\n</tool_response>"]
    assert message["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    with pytest.raises(ConfigurationError, match="hologram"):
        to_hermes([UserMessage((OpaqueBlock({"type": "hologram"}),))], images=True)


def test_rows_carry_what_the_environment_needs(examples: str, tmp_path: Path) -> None:
    rows = skyrl.rows("weather", tasks=[2, 0], base_url=examples, split="test", max_steps=3)
    assert [read_column(row)[1] for row in rows] == [2, 0]
    options, _ = read_column(rows[0])
    assert options == {"environment": "weather", "base_url": examples, "split": "test", "max_steps": 3}
    episodes = EpisodeSource({"output": str(tmp_path / "run")}).episodes(options)
    assert (episodes.options.split, episodes.store is not None) == ("test", True)
    count = skyrl.write_dataset(tmp_path / "of" / "both.jsonl", "weather", "ctf", limit=2, base_url=examples)
    lines = [json.loads(line) for line in (tmp_path / "of" / "both.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["data_source"] for line in lines] == ["weather"] * 2 + ["ctf"] * 2
    assert count == 4


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"environment": "weather"}', '{"task": "x"}'])
def test_rows_of_others_are_refused(text: Any) -> None:
    with pytest.raises(ConfigurationError, match="write_dataset"):
        read_column({"openreward": text})


def test_mistakes_of_the_caller(examples: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\.parquet and \.jsonl"):
        skyrl.write_dataset(tmp_path / "train.csv", "weather", base_url=examples)
    with pytest.raises(ConfigurationError, match="name of an environment"):
        skyrl.write_dataset(tmp_path / "train.jsonl")
    with pytest.raises(ConfigurationError, match=r"skyrl\.register"):
        skyrl.rows("weather", base_url=examples, output="runs")
    with pytest.raises(ConfigurationError, match="JSON"):
        skyrl.rows("weather", base_url=examples, model={"name": object()})
    with pytest.raises(ConfigurationError, match="max_step"):
        skyrl.rows("weather", base_url=examples, max_step=3)
    with pytest.raises(ConfigurationError, match="environment"):
        EpisodeSource({}).episodes({})
    with pytest.raises(ConfigurationError, match="no value"):
        skyrl.main(["openreward.output"])


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("skyrl_gym", "skyrl"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="skyrl-gym"):
        skyrl.register()
    with pytest.raises(MissingExtraError, match="SkyRL"):
        skyrl.generator(None, None, None)
    with pytest.raises(MissingExtraError, match="SkyRL"):
        skyrl.main([])


def test_the_command_prints_a_mistake_without_a_traceback() -> None:
    words = [sys.executable, "-m", "openreward_gym.integrations.skyrl", "openreward.output"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "'openreward.output' has no value" in done.stderr


def test_server_that_opens_no_session_for_the_rows() -> None:
    with running() as server:
        url = server.url
    with pytest.raises(TransportError):
        skyrl.rows("fault", limit=2, base_url=url, retry_limits={"attempts": 1}, open_attempts=1)
