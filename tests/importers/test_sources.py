"""Importers: the rollouts they read, the damage they report, and repeated imports into a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from rollout_platform import KEY, Platform
from typer.testing import CliRunner

from openreward_gym.errors import ConfigurationError, MissingExtraError, StoreError
from openreward_gym.importers import import_run, names, read
from openreward_gym.importers.jsonl import tool_of
from openreward_gym.platform import upload
from openreward_gym.store import Damage, RolloutStore
from openreward_gym.types import Message, Rollout, TextBlock, ToolSpec


def rollouts_of(source: str, path: Path | str, **options: Any) -> list[Rollout]:
    items = list(read(source, path, **options))
    for item in items:
        assert isinstance(item, Rollout), item
    return [item for item in items if isinstance(item, Rollout)]


def write_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def roles(rollout: Rollout) -> list[str]:
    return [message.role for message in rollout.messages]


W_CALL = {"id": "c", "type": "function", "function": {"name": "w", "arguments": "{}"}}
CHAT = {
    "messages": [
        {"role": "system", "content": "be good"},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [W_CALL]},
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
        {"role": "assistant", "content": "Rain."},
    ],
    "tools": [{"type": "function", "function": {"name": "w", "description": "d", "parameters": {"type": "object"}}}],
    "reward": 0.5,
    "source": "x",
}


def test_openai_chat(tmp_path: Path) -> None:
    (rollout,) = rollouts_of("openai-chat", write_lines(tmp_path / "chat.jsonl", CHAT))
    assert roles(rollout) == ["system", "user", "assistant", "tool", "assistant"]
    assert (rollout.reward, rollout.metadata, rollout.stop_reason) == (0.5, {"source": "x"}, "message")
    assert [tool.name for tool in rollout.tools or ()] == ["w"]


def test_an_import_can_be_repeated_and_damage_does_not_stop_it(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "chat.jsonl", CHAT, "{torn", {"messages": []}, {"messages": [{"role": "robot"}]}, CHAT)
    met: list[Damage] = []
    report = import_run("openai-chat", path, tmp_path / "run", on_damage=met.append)
    assert (report.imported, report.known) == (2, 0)
    assert [damage.line for damage in report.damages] == [2, 3, 4]
    assert tuple(met) == report.damages
    assert "role is system" in report.damages[2].reason
    report = import_run("openai-chat", path, tmp_path / "run")
    assert (report.imported, report.known) == (0, 2)
    assert len(RolloutStore(tmp_path / "run")) == 2
    assert RolloutStore(tmp_path / "run")[0].run == "run"


@pytest.mark.parametrize("source", [source for source in names() if source != "openreward"])
def test_what_is_not_there_is_said(source: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing"):
        list(read(source, tmp_path / "nothing"))
    with pytest.raises(StoreError, match="nothing"):
        import_run(source, tmp_path / "nothing", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("source", [source for source in names() if source != "openreward"])
def test_what_is_something_else_is_damage(source: str, tmp_path: Path) -> None:
    path = tmp_path / "trial_x.jsonl"
    for content in (b"\x00\xff\n[]\n", b'{"a": 1}\n', b'{"type": 3}\n{"traces": [3]}\n{"messages": 3}\n{"traces": 3}\n'):
        path.write_bytes(content)
        items = list(read(source, path))
        assert all(isinstance(item, Damage) for item in items)
        assert items or source == "firehorse"


def test_an_unknown_importer_is_refused_with_the_known_names() -> None:
    with pytest.raises(ConfigurationError, match=r"no importer 'x': the importers are nemo-gym, .*firehorse"):
        read("x", "y")


PLUGIN = """
from openreward_gym.types import Rollout

NOT_A_FUNCTION = 3

def read(path, *, reward=0.0):
    yield Rollout(status="completed", id="p1", name=path, reward=reward)
"""
ENTRY_POINTS = """
[openreward_gym.importers]
pigeon = pigeon_importer:read
broken-pigeon = pigeon_importer_that_is_missing:read
stuffed-pigeon = pigeon_importer:NOT_A_FUNCTION
nemo-gym = pigeon_importer:read
"""


@pytest.fixture
def pigeons(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution with importers, one of them under the name of an importer of this package."""
    site = tmp_path_factory.mktemp("site")
    information = site / "pigeon_post-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeon-post\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "pigeon_importer.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(site))


@pytest.mark.usefixtures("pigeons")
def test_importers_of_another_distribution(tmp_path: Path) -> None:
    assert names()[-3:] == ("broken-pigeon", "pigeon", "stuffed-pigeon")
    assert names().count("nemo-gym") == 1
    report = import_run("pigeon", "letters", tmp_path / "run", reward=0.5)
    assert (report.imported, report.damages) == (1, ())
    (rollout,) = RolloutStore(tmp_path / "run")
    assert (rollout.name, rollout.reward) == ("letters", 0.5)
    with pytest.raises(ConfigurationError, match="pigeon-post"):
        read("broken-pigeon", "letters")
    with pytest.raises(ConfigurationError, match="has to be a function"):
        read("stuffed-pigeon", "letters")
    with pytest.raises(StoreError, match="letters"):
        list(read("nemo-gym", "letters"))


@pytest.mark.usefixtures("pigeons")
def test_the_command_lists_the_importers_of_other_distributions() -> None:
    from openreward_gym.cli import app

    shown = CliRunner().invoke(app, ["import", "--help"], env={"COLUMNS": "200"})
    assert "openhands, broken-pigeon, pigeon" in " ".join(shown.output.split())


def test_trl(tmp_path: Path) -> None:
    question = [{"role": "user", "content": "2+2?"}]
    answer = [{"role": "assistant", "content": "4"}]
    table = pyarrow.table(
        {
            "step": [10, 10],
            "prompt": [question, question],
            "completion": [answer, [{"role": "assistant", "content": "5"}]],
            "accuracy": [1.0, 0.0],
            "format": [0.5, None],
            "advantage": [1.0, -1.0],
            "solution": ["4", "4"],
        }
    )
    folder = tmp_path / "completions"
    folder.mkdir()
    pyarrow.parquet.write_table(table, folder / "completions_00010.parquet")
    texts = pyarrow.table({"step": [20], "prompt": ["Once"], "completion": [" upon"], "f": [2.0], "advantage": [0.0]})
    pyarrow.parquet.write_table(texts, folder / "completions_00020.parquet")
    first, second, third = rollouts_of("trl", tmp_path)
    assert (first.step, first.advantage, first.reward, first.metrics) == (10, 1.0, 1.5, {"accuracy": 1.0, "format": 0.5})
    assert (second.reward, second.metadata) == (0.0, {"solution": "4"})
    assert first.group == second.group != third.group
    assert [message.text for message in third.messages] == ["Once", " upon"]
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not")
    assert "not a parquet file" in str(next(read("trl", tmp_path / "x.parquet")))


CALC_CALL = {"id": "c", "name": "calc", "arguments": '{"x": 1}'}
CALC_USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "cached_input_tokens": 4}
TRACE: dict[str, Any] = {
    "version": 1,
    "id": "t1",
    "task": {"type": "gsm8k", "data": {"question": "2+2?"}, "hash": "h"},
    "agent": {"name": "agent", "config": {"sampling": {"temperature": 1.0}}},
    "tools": [{"name": "calc", "description": "d", "parameters": {"type": "object"}}],
    "nodes": [
        {"message": {"role": "user", "content": "2+2?"}, "timestamp": 1.0e9},
        {
            "parent": 0,
            "sampled": True,
            "message": {"role": "assistant", "reasoning_content": "hm", "tool_calls": [CALC_CALL]},
            "token_ids": [9, 1, 2],
            "mask": [False, True, True],
            "logprobs": [-0.1, -0.2],
            "timestamp": 1.0e9,
        },
        {"parent": 1, "message": {"role": "tool", "tool_call_id": "c", "content": "4"}, "timestamp": 1.0e9},
        {"parent": 0, "message": {"role": "assistant", "content": "a dead end"}, "sampled": True, "timestamp": 1.0e9},
        {"parent": 2, "message": {"role": "assistant", "content": "4"}, "sampled": True, "timestamp": 1.0e9 + 5},
    ],
    "calls": [
        {"node": 1, "model": "m", "finish_reason": "tool_calls", "usage": CALC_USAGE},
        {"node": 4, "model": "m", "finish_reason": "stop", "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
    ],
    "rewards": {"correct": {"score": 1.0, "weight": 0.5}, "style": None},
    "metrics": {"turns": 2.0},
    "is_completed": True,
    "ok": True,
    "stop_condition": "no_tools",
    "errors": [],
    "timing": {"start": 1.0e9},
}


def test_verifiers(tmp_path: Path) -> None:
    episode = {"id": "e1", "env": {"id": "gsm8k"}, "task": TRACE["task"], "group": {"id": "g1"}, "traces": [TRACE], "ok": True}
    failed = {**TRACE, "id": "t2", "ok": False, "is_completed": False, "errors": [{"type": "E", "message": "m"}], "rewards": {}}
    loop = {**TRACE, "nodes": [{"parent": 0, "message": {"role": "user", "content": "x"}}]}
    write_lines(tmp_path / "traces.jsonl", episode, {**episode, "traces": [failed]}, {**episode, "traces": [loop]}, {"no": 1})
    items = list(read("verifiers", tmp_path))
    rollout, error = (item for item in items if isinstance(item, Rollout))
    assert roles(rollout) == ["user", "assistant", "tool", "assistant"]
    turn = rollout.messages[1]
    assert turn.sampled is not None
    assert (turn.reasoning, turn.sampled.token_ids, turn.sampled.logprobs) == ("hm", (1, 2), (-0.1, -0.2))
    assert (turn.sampled.stop_reason, turn.ended) == ("tool_calls", "tool_calls")
    assert turn.tool_calls[0].arguments == {"x": 1}
    assert (rollout.reward, rollout.metrics) == (0.5, {"correct": 0.5, "turns": 2.0})
    assert (rollout.group, rollout.environment.name, rollout.status, rollout.stop_reason) == (
        "g1",
        "gsm8k",
        "completed",
        "no_tools",
    )
    assert rollout.usage is not None
    assert (rollout.usage.input_tokens, rollout.usage.cached_tokens) == (7, 4)
    assert rollout.metadata is not None
    assert len(rollout.metadata["verifiers"]["other_nodes"]) == 1
    assert (error.status, error.error, error.reward) == ("error", "E: m", None)
    damages = [item for item in items if isinstance(item, Damage)]
    assert [(damage.line, damage.reason) for damage in damages] == [
        (3, "its messages do not form a path: node 0"),
        (4, 'no "traces", "nodes" or "completion": this is not a record of verifiers'),
    ]


# Inspect's own library writes the log; in a process of its own, as it warns as it likes.
INSPECT = """
import sys, warnings
warnings.simplefilter("ignore")
from inspect_ai.log import EvalConfig, EvalDataset, EvalError, EvalLog, EvalSample, EvalSpec, write_eval_log
from inspect_ai.model import (ChatMessageAssistant, ChatMessageTool, ChatMessageUser, ContentReasoning, ContentText,
                              ModelOutput, ModelUsage)
from inspect_ai.scorer import Score
from inspect_ai.tool import ToolCall

usage = {"m": ModelUsage(input_tokens=5, output_tokens=2, total_tokens=7)}
thought = [ContentReasoning(reasoning="hm", signature="s"), ContentText(text="I add.")]
messages = [
    ChatMessageUser(content="2+2?"),
    ChatMessageAssistant(content=thought, model="m", tool_calls=[ToolCall(id="c", function="add", arguments={"x": 2, "y": 2})]),
    ChatMessageTool(content="4", tool_call_id="c", function="add"),
    ChatMessageAssistant(content="4", model="m"),
]
samples = [
    EvalSample(id="a", epoch=1, input="2+2?", target="4", messages=messages, scores={"match": Score(value="C")},
               output=ModelOutput.from_content("m", "4"), model_usage=usage,
               started_at="2026-01-01T00:00:00+00:00", completed_at="2026-01-01T00:00:05+00:00"),
    EvalSample(id="b", epoch=1, input="3+3?", target="6", messages=messages[:1], scores={"match": Score(value=0)},
               error=EvalError(message="boom", traceback="", traceback_ansi="")),
]
spec = EvalSpec(created="2026-01-01T00:00:00+00:00", task="sums", dataset=EvalDataset(), model="mockllm/m", config=EvalConfig())
write_eval_log(EvalLog(eval=spec, samples=samples), sys.argv[1] + "/sums.eval")
"""


def test_inspect(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INSPECT, str(tmp_path)], timeout=100, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = rollouts_of("inspect", tmp_path)
    assert roles(first) == ["user", "assistant", "tool", "assistant"]
    assert [part.type for part in first.messages[1].blocks] == ["reasoning", "text", "tool_call"]
    assert first.messages[1].tool_calls[0].arguments == {"x": 2, "y": 2}
    assert (first.messages[2].text, first.messages[2].name) == ("4", "add")
    assert (first.reward, first.metrics, first.environment.name, first.status) == (1.0, {"match": 1.0}, "sums", "completed")
    assert first.usage is not None
    assert (first.usage.input_tokens, first.duration_s) == (5, 5.0)
    assert (second.reward, second.task.golden_answer, second.status, second.error) == (0.0, "6", "error", "boom")
    (tmp_path / "z.eval").write_bytes(b"not a zip")
    damages = [item for item in read("inspect", tmp_path) if isinstance(item, Damage)]
    assert len(damages) == 1
    assert "not a log of Inspect" in damages[0].reason


def test_inspect_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(MissingExtraError, match="pip install inspect_ai"):
        list(read("inspect", tmp_path))


def test_firehorse(tmp_path: Path) -> None:
    call = {"type": "tool_use", "id": "u1", "name": "bash", "input": {"command": "ls"}}
    answered = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "u1", "content": [{"type": "text", "text": "a b"}]}],
    }
    summary = {"task_spec": {"id": 3}, "env": "GeneralReasoning/CTF", "model": "anthropic/m", "reward": 1.0, "finished": True}
    turn = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, call]}
    anthropic = [
        {"type": "system", "content": "be good"},
        {"type": "user", "content": "find the flag"},
        {"type": "assistant", "provider": "anthropic", "raw": turn},
        {"type": "tool_result", "tool_use_id": "u1", "tool_name": "bash", "reward": 1.0, "finished": True},
        {"type": "tool_results", "provider": "anthropic", "raw": answered},
        {"type": "openreward_summary", **summary, "usage": {"input_tokens": 5, "output_tokens": 2, "duration_ms": 10}},
    ]
    write_lines(tmp_path / "trial_3.jsonl", *anthropic[:3], "{torn", *anthropic[3:])
    spoken = {"text_content": "I look", "reasoning_content": "hm", "tool_calls": [{"id": "c", "name": "ls", "arguments": "{}"}]}
    output = {"type": "function_call_output", "call_id": "c", "output": "x"}
    plainer = [
        {"type": "openreward_prompt", "system_prompt": "default", "environment_prompt": "go"},
        {"type": "assistant", **spoken, "input_tokens": 3},
        {"type": "tool_result", "provider": "openai", "raw": output, "reward": None},
        {"type": "compaction", "method": "summary"},
        {"type": "assistant", "provider": "openrouter", "raw": {"content": "done", "tool_calls": None}},
        {"type": "openreward_summary", "final_reward": 0.25, "finished": False},
    ]
    write_lines(tmp_path / "trial_4.jsonl", *plainer)
    damage, first, second = read("firehorse", tmp_path)
    assert isinstance(damage, Damage)
    assert damage.line == 4
    assert isinstance(first, Rollout)
    assert isinstance(second, Rollout)
    assert roles(first) == ["system", "user", "assistant", "tool"]
    assert (first.messages[3].text, first.messages[3].reward, first.messages[3].finished) == ("a b", 1.0, True)
    assert (first.reward, first.status, first.environment.name, first.name) == (
        1.0,
        "completed",
        "GeneralReasoning/CTF",
        "trial_3",
    )
    assert (first.task.spec, first.model) == ({"id": 3}, {"name": "anthropic/m"})
    assert roles(second) == ["user", "assistant", "tool", "assistant"]
    assert [part.type for part in second.messages[1].blocks] == ["reasoning", "text", "tool_call"]
    assert (second.reward, second.status, second.stop_reason) == (0.25, "completed", "message")


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setenv("OPENREWARD_API_KEY", KEY)
    with Platform() as platform:
        monkeypatch.setenv("OPENREWARD_API_URL", platform.url)
        yield platform


def test_the_platform_s_runs(platform: Platform, tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "mine") as store:
        for number in range(53):
            messages = [
                Message(role="user", blocks=(TextBlock(text=f"hello {number}"),)),
                Message(role="assistant", blocks=(TextBlock(text="hi"),), reward=0.5, finished=True),
            ]
            store.append(Rollout(status="completed", messages=messages, started_at="2026-01-01T00:00:00+00:00"))
    assert upload(tmp_path / "mine").complete
    for name in ("mine", "run-mine"):
        report = import_run("openreward", name, tmp_path / f"from-{name}")
        assert (report.imported, report.damages) == (53, ())
    again = RolloutStore(tmp_path / "mine")
    for rollout in RolloutStore(tmp_path / "from-mine"):
        assert [m.text for m in rollout.messages] == [m.text for m in again.get(rollout.id).messages]
        assert (rollout.run, rollout.reward, rollout.status) == ("mine", 0.5, "completed")
    with pytest.raises(StoreError, match="has no run of the id or name 'nope'"):
        list(read("openreward", "nope"))


@pytest.mark.parametrize(
    "tool",
    [
        {"name": "a", "description": "d"},
        {"type": "function", "function": {"name": "a", "description": "d"}},
        {"type": "custom", "custom": {"name": "a", "description": "d"}},
        {"type": "custom", "name": "a", "description": "d", "custom": {"format": "text"}},
    ],
)
def test_tools_of_all_shapes(tool: dict[str, Any]) -> None:
    assert tool_of(tool) == ToolSpec("a", "d")
