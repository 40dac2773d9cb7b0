"""Folders as sources: those that this package exported to, and others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from foreign_files import FILES, importer_of
from typer.testing import CliRunner

from openreward_gym import export
from openreward_gym.cli import app
from openreward_gym.errors import StoreError
from openreward_gym.importers import names, openai_chat, read, sharegpt
from openreward_gym.store import Damage, RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    Rollout,
    RolloutEnvironment,
    Task,
    ToolCall,
    ToolMessage,
    UserMessage,
)

IMPORTERS = [name for name in names() if name != "openreward"]
FORMATS = {
    "nemo_gym": "nemo-gym",
    "atif": "atif",
    **dict.fromkeys(openai_chat.FORMATS, "openai-chat"),
    **dict.fromkeys(sharegpt.FORMATS, "sharegpt"),
}


def rollout(task: int, sample: int) -> Rollout:
    call = ToolCall("tide", {"port": f"P{task}"}, "c", json.dumps({"port": f"P{task}"}))
    turn = AssistantMessage("", [call], origin="policy", ended="tool_calls")
    messages = [
        UserMessage(f"High water at P{task}?", origin="given"),
        *([] if sample else [turn, ToolMessage(f"at {task}", "c", "tide", origin="environment")]),
        AssistantMessage(f"At {task}, sample {sample}.", origin="policy", ended="stop", reward=float(sample), finished=True),
    ]
    return Rollout(
        id=f"{task}-{sample}",
        status="completed",
        environment=RolloutEnvironment("tides"),
        task=Task("train" if task else "test", task, {"port": task}, f"t{task}"),
        group=f"t{task}",
        sample=sample,
        messages=messages,
        reward=float(sample),
        final_reward=float(sample),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with RolloutStore(folder) as store:
        for task in range(3):
            for sample in range(2):
                store.append(rollout(task, sample))
    return folder


def answers(source: str, path: Path) -> list[str]:
    items = list(read(source, path))
    assert not [str(item) for item in items if isinstance(item, Damage)]
    return sorted(item.messages[-1].text for item in items if isinstance(item, Rollout))


@pytest.mark.parametrize("form", FORMATS)
def test_the_folder_of_an_export_is_imported(form: str, run: Path, tmp_path: Path) -> None:
    report = export.write(run, tmp_path, formats=[form])
    assert report.formats[form].rows
    expected = {f"At {task}, sample {sample}." for task in range(3) for sample in range(2)}
    found = answers(FORMATS[form], tmp_path)
    assert found
    assert {*found} - {""} <= expected
    assert "preference" in form or form == "verl_sft" or set(found) == expected
    assert found == answers(FORMATS[form], tmp_path / form)
    others = {*IMPORTERS} - {FORMATS[form], "anthropic-chat"}
    for other in sorted(others):
        with pytest.raises(StoreError, match=str(tmp_path)):
            list(read(other, tmp_path))


def test_of_an_export_in_several_formats_the_readable_one_is_imported(run: Path, tmp_path: Path) -> None:
    export.write(run, tmp_path, formats=["openai", "nemo_gym", "sharegpt"])
    assert len(answers("openai-chat", tmp_path)) == len(answers("sharegpt", tmp_path)) == len(answers("nemo-gym", tmp_path)) == 6
    export.write(run, tmp_path, formats=["axolotl"])
    with pytest.raises(StoreError, match=r"several formats of the same rollouts: name the folder of one, .*openai or .*axolotl"):
        list(read("openai-chat", tmp_path))
    with pytest.raises(StoreError, match="an export in the format openai, nemo_gym, sharegpt, axolotl, which this"):
        list(read("atif", tmp_path))


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind != "inspect"])
def test_a_folder_has_the_rollouts_of_its_file(kind: str, tmp_path: Path) -> None:
    name, content = FILES[kind]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_bytes(content)
    if kind.startswith("tau-bench"):
        (tmp_path / name).write_bytes(content)
    for beside in ("report.json", "dataset_info.json", "dataset_infos.json", "README.md", ".hidden.jsonl"):
        (tmp_path / beside).write_text("{}")
    alone = [item.to_line() for item in read(importer_of(kind), tmp_path / "data" / name) if isinstance(item, Rollout)]
    assert alone
    items = list(read(importer_of(kind), tmp_path))
    assert [item.to_line() for item in items if isinstance(item, Rollout)] == alone
    assert len(items) == len(alone)


@pytest.mark.parametrize("source", IMPORTERS)
def test_a_folder_without_records_is_refused_with_its_name(source: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Nothing")
    (tmp_path / "report.json").write_text("[]")
    (tmp_path / "inner").mkdir()
    with pytest.raises(StoreError, match=f"^{tmp_path}: no "):
        list(read(source, tmp_path))
    result = CliRunner().invoke(app, ["import", source, str(tmp_path), "--output", str(tmp_path / "run")])
    assert isinstance(result.exception, StoreError)


def test_a_damaged_file_of_a_folder_does_not_take_the_others(tmp_path: Path) -> None:
    good = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
    contents: dict[str, Any] = {"a.parquet": b"PAR1" + bytes(30), "b.jsonl.gz": b"\x1f\x8b\x08", "c.json": b"<html>"}
    for name, content in {**contents, "d.jsonl": json.dumps(good).encode()}.items():
        (tmp_path / name).write_bytes(content)
    items = list(read("openai-chat", tmp_path))
    assert [Path(item.path).name for item in items if isinstance(item, Damage)] == list(contents)
    assert [item.messages[-1].text for item in items if isinstance(item, Rollout)] == ["Ho"]


def test_records_of_this_package_are_not_read_as_chats(run: Path, tmp_path: Path) -> None:
    export.write(run, tmp_path, formats=["rollouts"])
    (file,) = tmp_path.glob("rollouts/train*.parquet")
    items = list(read("openai-chat", file))
    assert items
    assert all(isinstance(item, Damage) and "rollouts of this package" in item.reason for item in items)


def test_the_platform_s_importer_refuses_a_folder(run: Path) -> None:
    with pytest.raises(StoreError, match="name a run of the platform by its id or name"):
        list(read("openreward", run))


def test_a_report_that_is_a_pipe_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.json")
    name, content = FILES["sharegpt"]
    (tmp_path / name).write_bytes(content)
    assert all(isinstance(item, Rollout) for item in read("sharegpt", tmp_path))
