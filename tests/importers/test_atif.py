"""ATIF, read and written: its versions, Harbor's jobs, and the same messages after export and import."""

from __future__ import annotations

import base64
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from atif_rules import check_trajectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import MUTATIONS, check, mutated

from openreward_gym import export
from openreward_gym.importers import import_run, read
from openreward_gym.store import Damage, RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    SystemMessage,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolSpec,
    Usage,
    UserMessage,
)

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")


def exported(rollout: Rollout, folder: Path, **options: Any) -> dict[str, Any]:
    """Write a rollout as ATIF, check the line against ATIF's rules, and return it."""
    export.write([rollout], folder, formats=["atif"], **options)
    (file,) = (folder / "atif").glob("*.jsonl")
    row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    check_trajectory(row)
    return row


def back(rollout: Rollout, folder: Path) -> Rollout:
    """Return a rollout after export and import."""
    exported(rollout, folder)
    (item,) = read("atif", next((folder / "atif").glob("*.jsonl")))
    assert isinstance(item, Rollout), item
    return item


def imported(trajectory: Any, folder: Path) -> Rollout:
    path = folder / "trajectory.json"
    path.write_text(json.dumps(trajectory))
    (item,) = read("atif", path)
    assert isinstance(item, Rollout), item
    return item


TURN = Sampled(
    usage=Usage(12, 5, 4, 2),
    stop_reason="tool_use",
    token_ids=(5, 6, 7),
    logprobs=(-0.5, -math.inf, -0.25),
    prompt_token_ids=(1, 2),
    model="lark-2",
    cost_usd=0.002,
    duration_s=1.5,
    metadata={"id": "r1"},
)
SHARED = {"origin": "policy", "ended": "tool_calls"}


def varied() -> Rollout:
    messages: list[Message] = [
        SystemMessage("Mend the pump.", origin="given"),
        UserMessage([TextBlock("Look: "), ImageBlock.from_bytes(PNG, "image/png")], origin="given"),
        AssistantMessage("An example.", origin="given"),
        AssistantMessage("I look.", [ToolCall("look", None, "a", '{"at":  1.50}')], reasoning="Hm.", sampled=TURN, **SHARED),
        ToolMessage([TextBlock("seen"), ImageBlock.from_bytes(PNG, "image/png")], "a", "look", origin="environment", reward=0.25),
        AssistantMessage(
            [ToolCall("look", None, "", "{torn"), TextBlock("then"), ToolCall("look", {"at": 2}, "")], origin="policy"
        ),
        ToolMessage("no JSON", "", "look", True, origin="client"),
        ToolMessage("dry", "", "look", origin="environment"),
        UserMessage("Go on.", origin="client"),
        ToolMessage("late", "zz", "look", origin="environment"),
        AssistantMessage("Skip this.", origin="policy", weight=0.0),
        AssistantMessage("Whose is it?"),
        AssistantMessage(
            [ReasoningItem(summary="short", content_reference="xyz"), TextBlock("a"), TextBlock("b")],
            origin="policy",
            ended="stop",
            weight=0.5,
            metadata={"note": [1, None]},
            sampled=Sampled(),
        ),
        UserMessage(
            [OpaqueBlock({"type": "image_url", "image_url": {"url": "https://a.example/pump.JPG?x=1"}})], origin="environment"
        ),
        AssistantMessage("Done.", origin="policy", reward=0.75, finished=True, started_at="2026-02-01T10:00:00+00:00"),
    ]
    return Rollout(
        status="completed",
        environment=RolloutEnvironment("pumps", split="train"),
        task=Task("train", 4, None, "t4", "the answer"),
        group="g",
        sample=2,
        model={"name": "lark"},
        sampling={"temperature": 0.5},
        tools=[ToolSpec("look", "Look.", {"type": "object", "properties": {"at": {"type": "number"}}}), ToolSpec("stop")],
        messages=messages,
        reward=1.0,
        final_reward=0.75,
        stop_reason="finished",
        usage=Usage(12, 5, 4, 2),
        cost_usd=0.002,
        seed=3,
    )


def test_every_field_of_a_message_comes_back(tmp_path: Path) -> None:
    rollout = varied()
    result = back(rollout, tmp_path)
    for message, again in zip(rollout.messages, result.messages, strict=True):
        assert again == message
    for name in ("id", "environment", "group", "sample", "model", "sampling", "tools", "reward", "final_reward", "status"):
        assert getattr(result, name) == getattr(rollout, name), name
    assert (result.usage, result.cost_usd, result.stop_reason, result.seed) == (rollout.usage, 0.002, "finished", 3)
    assert (result.task.index, result.task.id, result.task.golden_answer) == (4, "t4", None)


def test_images_of_a_store_come_back(tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "run") as store:
        store.append(varied())
    export.write(tmp_path / "run", tmp_path / "out", formats=["atif"])
    import_run("atif", next((tmp_path / "out" / "atif").glob("*.jsonl")), tmp_path / "again")
    first, second = RolloutStore(tmp_path / "run")[0], RolloutStore(tmp_path / "again")[0]
    assert first.messages == second.messages
    assert first.messages[1].blocks[1].sha256  # type: ignore[union-attr]


def test_what_is_not_trained_is_marked_in_atif_s_own_words(tmp_path: Path) -> None:
    steps = exported(varied(), tmp_path)["steps"]
    agents = [step for step in steps if step["source"] == "agent"]
    assert [step.get("is_copied_context", False) for step in agents] == [True, False, False, True, True, False, False]
    assert agents[2]["tool_calls"][0]["arguments"] == {}
    assert agents[2]["tool_calls"][0]["extra"]["content"] == "{torn"
    assert [result.get("source_call_id") for result in agents[2]["observation"]["results"]] == ["call_5_0", "call_5_1"]
    assert agents[1]["metrics"]["completion_token_ids"] == [5, 6, 7]
    assert "logprobs" not in agents[1]["metrics"]  # an infinity is no number of JSON
    images = [part["source"]["path"] for step in steps if isinstance(step["message"], list) for part in step["message"][-1:]]
    assert images[1] == "https://a.example/pump.JPG?x=1"
    assert (tmp_path / "atif" / images[0]).read_bytes() == PNG


def test_a_turn_of_a_program_is_no_inference(tmp_path: Path) -> None:
    rollout = Rollout(status="completed", messages=[UserMessage("Hi"), AssistantMessage("Ready.", origin="environment")])
    step = exported(rollout, tmp_path)["steps"][1]
    assert step["llm_call_count"] == 0
    assert back(rollout, tmp_path).messages == rollout.messages


def test_a_result_before_any_step_comes_back(tmp_path: Path) -> None:
    rollout = Rollout(
        status="completed", messages=[ToolMessage("early", "x", origin="given"), AssistantMessage("a", origin="policy")]
    )
    assert back(rollout, tmp_path).messages == rollout.messages


def test_reasoning_can_be_left_out(tmp_path: Path) -> None:
    assert "Hm." not in json.dumps(exported(varied(), tmp_path, reasoning=False))


words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)
texts = st.builds(TextBlock, words)
images = st.just(ImageBlock.from_bytes(PNG, "image/png"))
addresses = st.sampled_from(["https://e.example/a.png", "http://e.example/b", "ftp://e.example/c.png", "https://[", "data:x"])
opaques = addresses.map(lambda url: OpaqueBlock({"type": "image_url", "image_url": {"url": url}}))
calls = st.builds(
    ToolCall,
    st.sampled_from(["f", "g"]),
    st.none() | st.dictionaries(words, st.integers() | words, max_size=2),
    st.sampled_from(["", "a", "b"]),
    st.none() | st.sampled_from(["", " ", "{}", '{"x": 1.0}', "{torn", "[1]", '{"x": NaN}']),
)
thoughts = st.builds(ReasoningItem, st.none() | words, st.none() | words, st.none() | words)
origins = st.sampled_from([None, "given", "policy", "environment", "client"])
reports = st.builds(
    Sampled,
    usage=st.none()
    | st.builds(Usage, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9), reasoning_tokens=st.none() | st.just(1)),
    stop_reason=st.none() | words,
    token_ids=st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple),
    logprobs=st.none() | st.lists(st.floats(allow_nan=False), max_size=3).map(tuple),
    model=st.none() | words,
    cost_usd=st.none() | st.floats(0, 1) | st.just(math.inf),
    metadata=st.none() | st.dictionaries(words, words, max_size=2),
)
common: dict[str, Any] = {
    "origin": origins,
    "weight": st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    "reward": st.none() | st.sampled_from([0.0, 1.5, math.inf]),
    "finished": st.booleans(),
    "started_at": st.sampled_from([None, "2026-02-01T10:00:00+00:00", "yesterday", ""]),
    "metadata": st.none() | st.dictionaries(words, words, max_size=1),
}
contents = st.lists(texts | images | opaques, max_size=3)
messages = st.one_of(
    st.builds(SystemMessage, contents, **common),
    st.builds(UserMessage, contents, **common),
    st.builds(AssistantMessage, st.lists(texts | images | calls | thoughts, max_size=4), sampled=st.none() | reports, **common),
    st.builds(ToolMessage, contents, st.sampled_from([None, "", "a", "b"]), st.none() | st.just("f"), st.booleans(), **common),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages, min_size=1, max_size=6))
def test_any_messages_come_back(conversation: list[Message]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rollout = Rollout(status="completed", messages=conversation)
        expected = Rollout.from_line(rollout.to_line())
        for message, again in zip(expected.messages, back(rollout, Path(folder)).messages, strict=True):
            assert again == message


CALL = {"tool_call_id": "c1", "function_name": "bash", "arguments": {"cmd": "ls"}}
FOREIGN: dict[str, Any] = {
    "schema_version": "ATIF-v1.5",
    "session_id": "s",
    "agent": {
        "name": "terminus",
        "version": "2.0",
        "model_name": "wren-1",
        "tool_definitions": [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}],
    },
    "steps": [
        {"step_id": 1, "source": "system", "message": "You fix things.", "timestamp": "2026-03-01T08:00:00Z"},
        {"step_id": 2, "source": "user", "message": "List the files."},
        {"step_id": 3, "source": "agent", "message": "From before.", "is_copied_context": True},
        {
            "step_id": 4,
            "source": "agent",
            "message": "I list.",
            "reasoning_content": "ls will do",
            "model_name": "wren-1-mini",
            "reasoning_effort": "low",
            "tool_calls": [CALL, {**CALL, "tool_call_id": "c2", "arguments": {}, "extra": {"timeout": 3}}],
            "observation": {"results": [{"source_call_id": "c2", "content": "b"}, {"source_call_id": "c1", "content": None}]},
            "metrics": {
                "prompt_tokens": 20,
                "completion_tokens": 4,
                "cached_tokens": 8,
                "cost_usd": 0.01,
                "prompt_token_ids": [1],
                "completion_token_ids": [2, 3],
                "logprobs": [-1.0, -2.0],
                "extra": {"reasoning_tokens": 2},
            },
        },
        {"step_id": 5, "source": "user", "message": "And now?"},
        {
            "step_id": 6,
            "source": "agent",
            "message": "tests ran",
            "llm_call_count": 0,
            "observation": {"results": [{"content": "ok"}]},
        },
        {"step_id": 7, "source": "agent", "message": "Done.", "extra": {"mood": "calm"}},
    ],
    "final_metrics": {"total_prompt_tokens": 20, "total_completion_tokens": 4, "total_cost_usd": 0.01, "total_steps": 7},
    "notes": "a note",
}


def test_origins_follow_from_atif_s_marks(tmp_path: Path) -> None:
    rollout = imported(FOREIGN, tmp_path)
    assert [(message.role, message.origin) for message in rollout.messages] == [
        ("system", "given"),
        ("user", "given"),
        ("assistant", "given"),
        ("assistant", "policy"),
        ("tool", "environment"),
        ("tool", "environment"),
        ("user", "environment"),
        ("assistant", "given"),
        ("user", "environment"),
        ("assistant", "policy"),
    ]
    assert [message.call_id for message in rollout.messages[4:6]] == ["c2", "c1"]
    turn = rollout.messages[3]
    assert (turn.text, turn.reasoning, turn.token_ids, turn.logprobs) == ("I list.", "ls will do", [2, 3], [-1.0, -2.0])
    assert turn.sampled is not None
    assert (turn.sampled.model, turn.sampled.cost_usd, turn.usage) == ("wren-1-mini", 0.01, Usage(20, 4, 8, 2))
    assert turn.tool_calls[1].extra == {"atif": {"extra": {"timeout": 3}}}
    assert turn.metadata == {"atif": {"reasoning_effort": "low"}}
    assert rollout.messages[-1].metadata == {"atif": {"extra": {"mood": "calm"}}}
    assert (rollout.model, rollout.cost_usd, rollout.versions) == ({"name": "wren-1"}, 0.01, {"terminus": "2.0"})
    assert rollout.started_at == "2026-03-01T08:00:00Z"
    assert [tool.name for tool in rollout.tools or ()] == ["bash"]
    assert (rollout.metadata or {})["atif"]["notes"] == "a note"


def test_older_words_and_shapes_are_read(tmp_path: Path) -> None:
    step = {
        "source": "agent",
        "message": "",
        "tool_calls": [{**CALL, "arguments": "{torn"}],
        "observation": {"results": [{"content": "no"}]},
        "metrics": {"cost": 0.5},
    }
    rollout = imported({"schema_version": "ATIF-v1.0", "agent": {"name": "a"}, "steps": [step]}, tmp_path)
    turn, result = rollout.messages
    assert turn.tool_calls[0].content == "{torn"
    assert turn.tool_calls[0].arguments is None
    assert (result.role, result.call_id) == ("tool", "c1")  # the step's only call
    assert rollout.cost_usd == 0.5


def test_a_reference_to_a_subagent_is_no_message(tmp_path: Path) -> None:
    result = {"content": None, "subagent_trajectory_ref": [{"trajectory_path": "sub.json"}]}
    step = {"source": "system", "message": "Context was summarized.", "observation": {"results": [result]}}
    (message,) = imported({**FOREIGN, "steps": [step]}, tmp_path).messages
    assert (message.role, message.text) == ("system", "Context was summarized.")
    assert message.metadata == {"atif": {"results": [result]}}


@pytest.mark.parametrize("version", ["ATIF-v2.0", "1.7", 3, "ATIF-v1"])
def test_other_versions_are_refused(version: Any, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({**FOREIGN, "schema_version": version}))
    (damage,) = read("atif", tmp_path / "t.json")
    assert isinstance(damage, Damage)
    assert "ATIF-v1.0 to ATIF-v1.8" in damage.reason


def test_images_are_read_from_the_trajectory_s_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "inside" / "images").mkdir(parents=True)
    (tmp_path / "inside" / "images" / "a.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    paths = ["images/a.png", "../secret.png", str(tmp_path / "secret.png"), "images/none.png", "https://x.example/a.png", "a\0b"]
    parts: list[Any] = [{"type": "image", "source": {"media_type": "image/png", "path": path}} for path in paths]
    parts.append({"type": "audio", "source": {"media_type": "audio/wav", "path": "a.wav"}})
    rollout = imported({**FOREIGN, "steps": [{"source": "user", "message": parts}]}, tmp_path / "inside")
    first, *others = rollout.messages[0].blocks
    assert isinstance(first, ImageBlock)
    assert first.content == PNG
    assert [block.raw for block in others if isinstance(block, OpaqueBlock)][:3] == parts[1:4]
    assert others[3] == OpaqueBlock({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}})
    assert others[5] == OpaqueBlock(parts[6])


def test_lines_arrays_and_subagents(tmp_path: Path) -> None:
    inner = {"schema_version": "ATIF-v1.7", "trajectory_id": "i", "agent": {"name": "helper"}, "steps": FOREIGN["steps"][1:5]}
    outer = {**FOREIGN, "schema_version": "ATIF-v1.7", "trajectory_id": "o", "subagent_trajectories": [inner, 7]}
    (tmp_path / "a.json").write_text(json.dumps([FOREIGN, FOREIGN]))
    assert len({item.id for item in read("atif", tmp_path / "a.json") if isinstance(item, Rollout)}) == 2
    (tmp_path / "b.jsonl").write_text(json.dumps({**outer, "subagent_trajectories": [inner]}) + "\n" + json.dumps(FOREIGN))
    rollouts = [item for item in read("atif", tmp_path / "b.jsonl") if isinstance(item, Rollout)]
    assert len(rollouts) == 3
    assert (rollouts[1].metadata or {})["atif"]["parent"] == "o"
    assert rollouts[1].reward is None
    assert "subagent_trajectories" not in (rollouts[0].metadata or {})["atif"]


def job(folder: Path, result: dict[str, Any], **trajectory: Any) -> Path:
    (folder / "trial__1" / "agent").mkdir(parents=True)
    (folder / "trial__1" / "agent" / "trajectory.json").write_text(json.dumps({**FOREIGN, **trajectory}))
    (folder / "trial__1" / "result.json").write_text(json.dumps(result))
    return folder


RESULT = {"task_name": "fix-pump", "trial_name": "trial__1", "source": "pumps", "started_at": "2026-03-01T07:00:00Z"}


def test_a_job_has_the_task_the_reward_and_the_model(tmp_path: Path) -> None:
    verified = {**RESULT, "verifier_result": {"rewards": {"reward": 0.5, "style": 1}}}
    (rollout,) = read("atif", job(tmp_path, verified))
    assert isinstance(rollout, Rollout)
    assert (rollout.reward, rollout.metrics) == (0.5, {"reward": 0.5, "style": 1.0})
    assert rollout.messages[-1].reward == 0.5
    assert (rollout.environment.name, rollout.task.spec, rollout.name) == ("pumps", {"task_name": "fix-pump"}, "trial__1")
    assert rollout.group == rollout.task.id != ""
    assert (rollout.status, rollout.stop_reason, rollout.started_at) == ("completed", "finished", "2026-03-01T07:00:00Z")


@pytest.mark.parametrize(("kind", "status"), [("AgentTimeoutError", "truncated"), ("VerifierTimeout", "error")])
def test_an_exception_of_a_job_ends_its_rollout(kind: str, status: str, tmp_path: Path) -> None:
    failed = {**RESULT, "exception_info": {"exception_type": kind, "exception_message": "no answer"}}
    (rollout,) = read("atif", job(tmp_path, failed))
    assert isinstance(rollout, Rollout)
    assert (rollout.status, rollout.error, rollout.reward) == (status, f"{kind}: no answer", None)


def test_a_continued_trajectory_leaves_the_reward_to_the_last(tmp_path: Path) -> None:
    folder = job(tmp_path, RESULT, continued_trajectory_ref="trajectory.cont-1.json")
    (folder / "trial__1" / "agent" / "trajectory.cont-1.json").write_text(json.dumps(FOREIGN))
    (folder / "trial__1" / "verifier").mkdir()
    (folder / "trial__1" / "verifier" / "reward.txt").write_text("1\n")
    rollouts = [item for item in read("atif", folder) if isinstance(item, Rollout)]
    ends = {(rollout.status, rollout.stop_reason, rollout.reward) for rollout in rollouts}
    assert ends == {("truncated", "continued", None), ("completed", "finished", 1.0)}


@settings(max_examples=MUTATIONS, deadline=None)
@given(mutated({**FOREIGN, "subagent_trajectories": [{**FOREIGN, "trajectory_id": "i"}]}))
def test_hostile_trajectories_are_damages(record: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check("atif", record, Path(folder))


@pytest.fixture(scope="module")
def own_record(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Return a trajectory of our own, and the folder of its images."""
    folder = tmp_path_factory.mktemp("own")
    return exported(varied(), folder), folder


@settings(max_examples=MUTATIONS, deadline=None)
@given(st.data())
def test_hostile_trajectories_of_our_own_are_damages(own_record: tuple[Any, Path], data: st.DataObject) -> None:
    record, folder = own_record
    check("atif", data.draw(mutated(record)), folder)
