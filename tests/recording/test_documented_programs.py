"""The two programs of OpenReward's documentation, with only their imports changed, against local servers."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_model import ChatModel
from rollout_platform import KEY, Platform

from openreward_gym import serve
from openreward_gym.serve.examples import ctf_tasks
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import Rollout

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def ctf() -> Iterator[str]:
    with serve.local(["ctf"]) as url:
        yield url


def play(script: str, folder: Path, ctf: str, platform: Platform, model_url: str = "") -> str:
    """Run an example as a user does, with only the address of its model changed."""
    text = (EXAMPLES / script).read_text(encoding="utf-8")
    program = folder / script
    program.write_text(text.replace("https://openrouter.ai/api/v1", model_url), encoding="utf-8")
    environ = {**os.environ, "OPENREWARD_URL": ctf, "OPENREWARD_SESSION_URL": ctf, "OPENREWARD_API_URL": platform.url}
    environ |= {"OPENREWARD_API_KEY": KEY, "OPENROUTER_API_KEY": "k", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, str(program)], cwd=folder, env=environ, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def recorded(path: Path, platform: Platform) -> Rollout:
    (rollout,) = RolloutStore(path)
    assert set(platform.rollouts) == {rollout.id}
    assert platform.violations == []
    assert len(platform.messages[rollout.id]) == sum(max(1, len(message.blocks)) for message in rollout.messages)
    return rollout


def test_the_program_with_a_model(tmp_path: Path, ctf: str) -> None:
    task = ctf_tasks.task_specs("train")[0]
    with Platform() as platform, ChatModel(ctf_tasks.build(str(task["id"])).flag) as model:
        assert "Rollout recorded successfully!" in play("record_rollout_openai.py", tmp_path, ctf, platform, model.url)
        rollout = recorded(tmp_path / "runs" / "openrouter-ctf-rollouts", platform)
    assert [message.role for message in rollout.messages] == ["user", "assistant", "tool", "tool", "assistant", "tool"]
    assert [part.type for part in rollout.messages[1].blocks] == ["text", "tool_call", "tool_call"]
    assert (rollout.reward, rollout.status, rollout.stop_reason) == (1.0, "completed", "finished")
    assert (rollout.name, rollout.environment.name, rollout.task.spec) == ("episode-0", "GeneralReasoning/CTF", task)
    # What the model is shown of a tool is what the API defines: its parameters inside the function.
    tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in model.requests[0]["tools"]}
    assert set(tools) == {"bash", "submit_answer"}
    assert "command" in tools["bash"]["properties"]


def test_the_program_with_a_model_of_one_s_own(tmp_path: Path, ctf: str) -> None:
    with Platform() as platform:
        assert "Rollout recorded successfully!" in play("record_rollout_generic.py", tmp_path, ctf, platform)
        rollout = recorded(tmp_path / "runs" / "custom-ctf-rollouts", platform)
    assert [message.role for message in rollout.messages] == ["user", *["assistant", "tool"] * ctf_tasks.SUBMISSIONS]
    assert [part.type for part in rollout.messages[1].blocks] == ["text", "tool_call"]
    assert (rollout.reward, rollout.status) == (0.0, "completed")


@pytest.mark.parametrize("script", ["record_rollout_openai.py", "record_rollout_generic.py"])
def test_only_an_import_is_ours(script: str) -> None:
    tree = ast.parse((EXAMPLES / script).read_text(encoding="utf-8"))
    imports = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert [name for name in imports if name and name.startswith("openreward")] == ["openreward_gym.compat"]
    rest = [node for node in tree.body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert "openreward_gym" not in "".join(ast.unparse(node) for node in rest)
