from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic.types as at
import pytest
from google.genai import types as gt
from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.responses import Response
from provider_messages import ANTHROPIC_MESSAGE, COMPLETION, COMPLETION_MESSAGE, GEMINI_ANSWER, RESPONSE
from rollout_platform import KEY, Platform

from openreward_gym.chat import to_anthropic
from openreward_gym.errors import ConfigurationError
from openreward_gym.recording.log import RolloutLog
from openreward_gym.recording.recorder import Recorder
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Rollout,
    SystemMessage,
    ToolCall,
    ToolResult,
    UserMessage,
)


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setenv("OPENREWARD_API_KEY", KEY)
    with Platform() as platform:
        monkeypatch.setenv("OPENREWARD_API_URL", platform.url)
        yield platform
        assert platform.violations == []


def shape(rollout: Rollout) -> list[tuple[str, list[str]]]:
    return [(message.role, [part.type for part in message.blocks]) for message in rollout.messages]


def test_the_six_messages(tmp_path: Path) -> None:
    with Recorder(tmp_path / "my-run") as recorder:
        rollout = recorder.create(
            run_name="ctf",
            rollout_name="episode-0",
            environment="GeneralReasoning/CTF",
            split="train",
            metadata={"model": "m"},
            task_spec={"id": 3},
        )
        rollout.log(SystemMessage(content="be good"))
        rollout.log(UserMessage(content="find the flag"))
        rollout.log(ReasoningItem(content="hm"))
        rollout.log(AssistantMessage(content="I look."))
        rollout.log(ToolCall(name="ls", content='{"path": "/"}', call_id="c1"))
        rollout.log(ToolCall(name="pwd", content="{}", call_id="c2"))
        rollout.log(ToolResult(content="a b", call_id="c1"), reward=0.25, metadata={"n": 1})
        rollout.log(ToolResult(content="/", call_id="c2"), reward=0.5, is_finished=True)
        (record,) = RolloutStore(tmp_path / "my-run")
    assert shape(record) == [
        ("system", ["text"]),
        ("user", ["text"]),
        ("assistant", ["reasoning", "text", "tool_call", "tool_call"]),
        ("tool", ["text"]),
        ("tool", ["text"]),
    ]
    assert (record.run, record.name, record.environment.name, record.environment.split) == (
        "ctf",
        "episode-0",
        "GeneralReasoning/CTF",
        "train",
    )
    assert (record.task.spec, record.metadata) == ({"id": 3}, {"model": "m"})
    assert (record.reward, record.final_reward, record.status, record.stop_reason) == (0.75, 0.5, "completed", "finished")
    assert [m.reward for m in record.messages if m.role == "tool"] == [0.25, 0.5]
    assert record.messages[3].metadata == {"n": 1}
    assert record.messages[4].finished
    assert record.duration_s is not None
    assert len(RolloutStore(tmp_path / "my-run")) == 1


def test_turns_that_are_logged_in_pieces_are_not_mixed_up(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        log.log(AssistantMessage("a"))
        log.log(AssistantMessage("b"))
        log.log(ReasoningItem("c"))
        log.log(ToolCall("f", {}, "1"))
        log.log(ReasoningItem("d"))
        log.log(AssistantMessage("e"), reward=0.0)
        log.log(ToolCall("g", {}, "2"))
    assert shape(log.rollout) == [
        ("assistant", ["text"]),
        ("assistant", ["text", "reasoning", "tool_call", "reasoning", "text"]),
        ("assistant", ["tool_call"]),
    ]


COMPLETION_PARTS = ["reasoning", "text", "text", "tool_call", "tool_call", "tool_call"]
RESPONSE_PARTS = ["reasoning", "text", "text", "tool_call", "tool_call", "web_search_call"]
ANTHROPIC_PARTS = ["reasoning", "reasoning", "text", "tool_call", "tool_call", "server_tool_use"]
GEMINI_PARTS = ["reasoning", "text", "tool_call", "tool_call", ""]


@pytest.mark.parametrize(
    ("logger", "message", "parts"),
    [
        ("log_openai_completions", COMPLETION_MESSAGE, COMPLETION_PARTS),
        ("log_openai_completions", ChatCompletionMessage.model_validate(COMPLETION_MESSAGE), COMPLETION_PARTS),
        ("log_openai_completions", COMPLETION, COMPLETION_PARTS),
        ("log_openai_completions", ChatCompletion.model_validate(COMPLETION), COMPLETION_PARTS),
        ("log_openai_response", RESPONSE, RESPONSE_PARTS),
        ("log_openai_response", RESPONSE["output"], RESPONSE_PARTS),
        ("log_openai_response", Response.model_validate(RESPONSE), RESPONSE_PARTS),
        ("log_openai_response", Response.model_validate(RESPONSE).output, RESPONSE_PARTS),
        ("log_anthropic_message", ANTHROPIC_MESSAGE, ANTHROPIC_PARTS),
        ("log_anthropic_message", at.Message.model_validate(ANTHROPIC_MESSAGE), ANTHROPIC_PARTS),
        ("log_anthropic_message", at.Message.model_validate(ANTHROPIC_MESSAGE).to_param(), ANTHROPIC_PARTS),
        ("log_gdm_message", GEMINI_ANSWER, GEMINI_PARTS),
        ("log_gdm_message", gt.GenerateContentResponse.model_validate(GEMINI_ANSWER), GEMINI_PARTS),
    ],
)
def test_every_part_of_a_provider_s_message_is_kept(tmp_path: Path, logger: str, message: Any, parts: list[str]) -> None:
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        getattr(log, logger)(message, reward=1.0, is_finished=True, metadata={"k": 1})
    (record,) = RolloutStore(tmp_path)
    assert shape(record) == [("assistant", parts)]
    assert record.reward == 1.0
    assert record.messages[0].metadata["k"] == 1


def test_usage_and_tokens_of_a_whole_answer(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        log.log_openai_completions(COMPLETION)
        log.log_openai_completions({"role": "tool", "tool_call_id": "c1", "content": "x"})
        log.log_openai_completions(COMPLETION)
    (record,) = RolloutStore(tmp_path)
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (20, 8)
    assert record.cost_usd == 0.5
    message = record.messages[0]
    assert message.sampled is not None
    assert (message.sampled.token_ids, message.sampled.logprobs, message.sampled.model, message.sampled.stop_reason) == (
        (7,),
        (-0.5,),
        "m-1",
        "tool_calls",
    )


def test_an_empty_message_does_not_break_the_loop(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        log.log_openai_completions({"role": "assistant", "content": ""})
        log.log_openai_completions({"role": "assistant", "content": None, "tool_calls": None})
        log.log_openai_completions([])
        log.log_anthropic_message({"role": "assistant", "content": []})
    assert shape(RolloutStore(tmp_path)[0]) == [("assistant", [])] * 3


def test_parts_that_look_like_ours_and_are_not_are_kept(tmp_path: Path) -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        log.log_anthropic_message(
            {"role": "user", "content": [image, {"type": "text"}, {"type": 3}, {"type": "opaque", "raw": {}}]}
        )
        log.log_openai_completions({"role": "assistant", "content": [{"type": "text"}, {"type": "tool_call"}, 3]})
    store = RolloutStore(tmp_path)
    assert store.damage() == []
    (user, _) = store[0].messages
    assert user.blocks[0] == OpaqueBlock(image)
    assert to_anthropic([user])[1][0]["content"][:2] == [image, {"type": "text"}]


@dataclass
class RunInfo:
    model_name: str
    checkpoint: str | None = None
    lr: float | None = None


def test_run_info_and_rollout_info(tmp_path: Path) -> None:
    with Recorder(tmp_path, run_info=RunInfo("base", "ckpt-1")) as recorder:
        log = recorder.create(run_info={"lr": 0.1, "checkpoint": "ckpt-2"}, split="train", environment="e")
        before = log.rollout.task.id
        log.log(UserMessage("x"), rollout_info={"task_index": 7, "current_step": 2, "temperature": 0.5, "harness": "h"})
    (record,) = RolloutStore(tmp_path)
    assert record.model == {"name": "base", "checkpoint": "ckpt-2", "lr": 0.1}
    assert (record.task.index, record.step, record.sampling, record.metadata) == (7, 2, {"temperature": 0.5}, {"harness": "h"})
    assert record.task.id != before


def fail_inside(log: RolloutLog, error: BaseException) -> None:
    with log:
        raise error


def test_how_a_rollout_ends(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    with recorder.rollout(name="message") as log:
        log.log(AssistantMessage("done"))
    with recorder.rollout(name="left") as log:
        log.log(UserMessage("x"))
    for name, error in (("raised", RuntimeError("boom")), ("interrupted", KeyboardInterrupt())):
        log = recorder.create(rollout_name=name)
        log.log(UserMessage("x"))
        with pytest.raises(type(error)):
            fail_inside(log, error)
    log = recorder.create(rollout_name="closed")
    log.log(UserMessage("x"))
    log.close("truncated", "deadline")
    log.close("error")
    recorder.create(rollout_name="empty")
    recorder.create(rollout_name="open").log(UserMessage("x"))
    recorder.close()
    assert [(r.name, r.status, r.stop_reason, r.error) for r in RolloutStore(tmp_path)] == [
        ("message", "completed", "message", None),
        ("left", "cancelled", "cancelled", None),
        ("raised", "error", "policy_failed", "RuntimeError: boom"),
        ("interrupted", "cancelled", "cancelled", "KeyboardInterrupt"),
        ("closed", "truncated", "deadline", None),
        ("open", "cancelled", "cancelled", None),
    ]


def test_nothing_may_follow_the_end(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        log = recorder.create()
        log.log(UserMessage("x"), is_finished=True)
        with pytest.raises(ConfigurationError, match="has ended: log everything before"):
            log.log(UserMessage("y"))
        with pytest.raises(TypeError, match="is not a message: give a UserMessage"):
            recorder.create().log("text")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="a rollout has no field grup: free data goes into metadata"):
            recorder.create(grup="g")


def test_a_recorder_without_a_path_keeps_a_folder_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Recorder() as recorder:
        for name in ("a", "b", "../../c d"):
            recorder.create(run_name=name).log(UserMessage("x"))
        with pytest.raises(ConfigurationError, match="needs a run_name"):
            recorder.create()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["_.._c_d", "a", "b"]
    assert RolloutStore("runs/a")[0].run == "a"


def test_what_is_open_is_written_when_the_program_ends(tmp_path: Path) -> None:
    program = (
        "from openreward_gym.recording.recorder import Recorder\n"
        "from openreward_gym.types import UserMessage\n"
        f"Recorder({str(tmp_path / 'run')!r}).create().log(UserMessage('x'))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    (record,) = RolloutStore(tmp_path / "run")
    assert record.status == "cancelled"


def test_a_forked_child_leaves_the_parent_s_rollouts_alone(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    log = recorder.create(rollout_name="parent")
    log.log(UserMessage("x"))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            recorder.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    recorder.close()
    assert [r.name for r in RolloutStore(tmp_path)] == ["parent"]


def test_many_threads_log_many_rollouts(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:

        def play(n: int) -> None:
            for k in range(20):
                with recorder.rollout(name=f"{n}-{k}") as log:
                    for step in range(5):
                        log.log(UserMessage(f"{n}-{k}-{step}"))

        threads = [threading.Thread(target=play, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rollouts = list(RolloutStore(tmp_path))
    assert len(rollouts) == 120
    assert all([m.text for m in r.messages] == [f"{r.name}-{step}" for step in range(5)] for r in rollouts)


def test_uploading_while_recording(platform: Platform, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "my-run", upload=True, run_info={"model_name": "m"})
    with recorder.rollout(environment="GeneralReasoning/CTF", split="train", task_spec={"id": 3}) as log:
        log.log(UserMessage("x"))
        log.log(AssistantMessage("y"), reward=1.0)
    (report,) = recorder.flush(30)
    assert report.complete
    assert platform.rollouts[log.rollout_id]["environment_id"] == "env-1"
    assert platform.rollouts[log.rollout_id]["run_info"] == {"model_name": "m"}
    with recorder.rollout() as second:
        second.log(UserMessage("z"))
    (report,) = recorder.close()
    assert report.sent == 2
    assert str(report) == "2 rollouts sent"
    assert set(platform.rollouts) == {log.rollout_id, second.rollout_id}


CALL = {"id": "c2", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
USE = {"type": "tool_use", "id": "c4", "name": "f", "input": {"a": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "c4", "content": "done"}
RESPONSE_PART = {"function_response": {"id": "c5", "name": "f", "response": {"result": "done"}}}
CONVERSATION: list[tuple[str, Any]] = [
    ("log", ["SystemMessage", {"content": "be good"}]),
    ("log", ["UserMessage", {"content": "hello \u2028 there"}]),
    ("log", ["ReasoningItem", {"content": "hm", "content_reference": "ref", "summary": "s"}]),
    ("log", ["AssistantMessage", {"content": "a"}]),
    ("log", ["ToolCall", {"name": "f", "content": '{"a":1}', "call_id": "c1"}]),
    ("log", ["ToolResult", {"content": "r\x00 \ud800", "call_id": "c1"}]),
    ("log_openai_completions", {"role": "system", "content": "be good"}),
    ("log_openai_completions", {"role": "user", "content": "hello"}),
    ("log_openai_completions", {"role": "assistant", "content": "I call"}),
    ("log_openai_completions", {"role": "assistant", "content": "", "tool_calls": [CALL]}),
    ("log_openai_completions", {"role": "tool", "tool_call_id": "c2", "content": "done"}),
    ("log_openai_response", {"role": "developer", "content": "be good"}),
    ("log_openai_response", {"role": "user", "content": [{"type": "input_text", "text": "hello"}]}),
    ("log_openai_response", {"type": "function_call", "call_id": "c3", "name": "f", "arguments": '{"a":1}'}),
    ("log_openai_response", {"type": "function_call_output", "call_id": "c3", "output": "done"}),
    ("log_openai_response", {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}),
    ("log_anthropic_message", {"role": "user", "content": "hello"}),
    ("log_anthropic_message", {"role": "assistant", "content": [{"type": "text", "text": "I call"}, USE]}),
    ("log_anthropic_message", {"role": "user", "content": [RESULT]}),
    ("log_gdm_message", {"role": "user", "parts": [{"text": "hello"}]}),
    ("log_gdm_message", {"role": "model", "parts": [{"function_call": {"id": "c5", "name": "f", "args": {"a": 1}}}]}),
    ("log_gdm_message", {"role": "user", "parts": [RESPONSE_PART]}),
]

# Runs once with the official client and once with ours: what differs is the import.
PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
from google.genai import types as gt
which, conversation = sys.argv[1], json.load(open(sys.argv[2]))
if which == "theirs":
    import openreward as messages
    recorder = messages.OpenReward().rollout
else:
    import openreward_gym.types as messages
    from openreward_gym.recording.recorder import Recorder
    recorder = Recorder(sys.argv[3], upload=True)
rollout = recorder.create(run_name=which, rollout_name="r", environment="GeneralReasoning/CTF", split="train",
                          metadata={"a": None, "b": 1}, task_spec={"id": 3})
for logger, message in conversation:
    if logger == "log":
        message = getattr(messages, message[0])(**message[1])
    if logger == "log_gdm_message":
        message = gt.Content.model_validate(message)
    getattr(rollout, logger)(message, reward=0.5)
rollout.log(messages.UserMessage(content="end"), is_finished=True, metadata={"x": 1})
recorder.close()
"""


def test_the_events_are_those_of_the_official_client_where_it_is_right(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "conversation.json").write_text(json.dumps(CONVERSATION))
    environ = {**os.environ, "OPENREWARD_URL": platform.url, "OPENREWARD_DISABLE_UPDATE_CHECK": "1"}
    for which in ("theirs", "ours"):
        arguments = [which, str(tmp_path / "conversation.json"), str(tmp_path / "run")]
        subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=True, env=environ, timeout=100)
    theirs, ours = ({r["runName"]: r for r in platform.rollouts.values()}[which] for which in ("theirs", "ours"))
    volatile = {"eventId", "timestamp", "runName"}
    assert {k: v for k, v in ours.items() if k not in volatile} == {k: v for k, v in theirs.items() if k not in volatile}

    def messages_of(rollout: dict[str, Any]) -> list[dict[str, Any]]:
        volatile = {"eventId", "timestamp", "rolloutEventId"}
        return [{k: v for k, v in m.items() if k not in volatile} for m in platform.messages[rollout["eventId"]]]

    mine = messages_of(ours)
    # The official client takes a developer's message for the system's, and forgets whose it was.
    (developer,) = [m for m in mine if m["metadata"] == {"role": "developer"}]
    developer["metadata"] = {}
    # The official client forgets that a text was a refusal.
    (refusal,) = [m for m in mine if m["metadata"] == {"ended": "refusal"}]
    refusal["metadata"] = {}
    # Of a message in two parts the official client gives the reward to both: it would count twice.
    (first,) = [m for m in mine if m["content"] == "I call" and "reward" not in m]
    first["reward"] = 0.5
    assert mine == messages_of(theirs)


def origins_of(*logged: tuple[str, Any], prompt: tuple[Message, ...] = (), path: Path) -> list[str | None]:
    with Recorder(path) as recorder, recorder.rollout(prompt=prompt) as log:
        for method, message in logged:
            getattr(log, method)(message)
    return [message.origin for message in log.rollout.messages]


def test_assistant_messages_are_the_policy_s_where_none_carries_a_report(tmp_path: Path) -> None:
    messages = [SystemMessage("s"), UserMessage("u"), AssistantMessage("a"), UserMessage("v"), AssistantMessage("b")]
    logged = [("log", message) for message in messages]
    assert origins_of(*logged, path=tmp_path) == ["given", "given", "policy", "environment", "policy"]


def test_assistant_messages_before_the_first_sampled_one_are_given(tmp_path: Path) -> None:
    shots = [("log", UserMessage("2+2?")), ("log", AssistantMessage("4")), ("log", UserMessage("3+3?"))]
    logged = [*shots, ("log_openai_completions", COMPLETION), ("log", ToolResult("6", "c1")), ("log", AssistantMessage("6"))]
    assert origins_of(*logged, path=tmp_path) == ["given", "given", "given", "policy", "environment", "policy"]


def test_the_caller_s_word_on_origin_wins(tmp_path: Path) -> None:
    prompt = (UserMessage("u"), AssistantMessage("shot"))
    logged = [("log", AssistantMessage("mine")), ("log", AssistantMessage("judged", origin="environment"))]
    assert origins_of(*logged, prompt=prompt, path=tmp_path) == ["given", "given", "policy", "environment"]
    with Recorder(tmp_path / "other") as recorder, recorder.rollout() as log:
        log.log(AssistantMessage("history"), origin="given")
        log.log_openai_completions({"role": "assistant", "content": "mine"})
    assert [message.origin for message in log.rollout.messages] == ["given", "policy"]


WHOLE = {
    "id": "resp_9",
    "model": "acme-1",
    "status": "completed",
    "instructions": "Be exact.",
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}, {"type": "web_search"}],
    "temperature": 0.3,
    "max_output_tokens": 99,
    "reasoning": {"effort": "low"},
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": []}]}],
}


def test_a_whole_response_tells_the_request(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        log.log_openai_response({"role": "user", "content": "u"})
        log.log_openai_response(WHOLE)
        log.log_openai_response({"role": "user", "content": "v"})
        log.log_openai_response({**WHOLE, "temperature": 0.9, "instructions": "Be brief."})
    (record,) = RolloutStore(tmp_path)
    assert [(m.role, m.origin) for m in record.messages[:3]] == [("system", "given"), ("user", "given"), ("assistant", "policy")]
    assert record.messages[0].text == "Be exact."
    assert [(tool.name, tool.input_schema) for tool in record.tools or ()] == [("f", {"type": "object"})]
    assert record.sampling == {
        "temperature": 0.3,
        "max_tokens": 99,
        "reasoning": {"effort": "low"},
        "hosted_tools": [{"type": "web_search"}],
    }
    assert record.model == {"name": "acme-1"}
    first, second = (message.sampled.metadata for message in record.messages if message.sampled is not None)
    assert first == {"id": "resp_9"}
    assert second == {"id": "resp_9", "request": {"temperature": 0.9, "instructions": "Be brief."}}


@pytest.mark.parametrize(
    ("shared", "fields", "model"),
    [
        (None, {"metadata": {"model": "a/b"}}, {"name": "a/b"}),
        ({"model_name": "a"}, {"metadata": {"model": "b"}}, {"name": "a"}),
        ({"model": "a", "run_type": "eval"}, {}, {"name": "a", "run_type": "eval"}),
        ({"model_name": "a"}, {"run_info": {"model": "b"}}, {"name": "b"}),
        (None, {"model": {"name": "a", "checkpoint": "7"}}, {"name": "a", "checkpoint": "7"}),
        (None, {"run_info": {"model_name": "a", "model": "b"}}, {"name": "a", "model": "b"}),
    ],
)
def test_the_record_names_its_model(tmp_path: Path, shared: Any, fields: dict[str, Any], model: dict[str, Any]) -> None:
    with Recorder(tmp_path, run_info=shared) as recorder:
        log = recorder.create(**fields)
    assert log.rollout.model == model
    assert log.rollout.metadata == fields.get("metadata")


def test_a_few_shot_answer_without_a_report_is_given(tmp_path: Path) -> None:
    """A speaker's name, a refusal and annotations are no report of a provider."""
    shot: dict[str, Any] = {"role": "assistant", "content": None, "refusal": "No.", "name": "bot", "annotations": []}
    items = [{"role": "user", "content": "u"}, shot, {"role": "user", "content": "v"}]
    logged = [*(("log_openai_completions", item) for item in items), ("log_openai_completions", COMPLETION)]
    assert origins_of(*logged, path=tmp_path / "chat") == ["given", "given", "given", "policy"]
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "mine"}]}
    easy: list[dict[str, Any]] = [{"role": "assistant", "content": "shot"}, {"role": "user", "content": "u"}, item]
    logged = [("log_openai_response", value) for value in easy]
    assert origins_of(*logged, path=tmp_path / "items") == ["given", "given", "policy"]


@pytest.mark.parametrize("order", ["trc", "tcr", "rct", "crt", "ctc", "tct", "rcrc"])
def test_pieces_of_a_turn_are_one_message_in_any_order(tmp_path: Path, order: str) -> None:
    pieces: dict[str, Any] = {"t": AssistantMessage("text"), "r": ReasoningItem("reasoning"), "c": ToolCall("f", {}, "1")}
    kinds = {"t": "text", "r": "reasoning", "c": "tool_call"}
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        for letter in order:
            log.log(pieces[letter])
        log.log(ToolResult("5", "1"))
    assert shape(log.rollout) == [("assistant", [kinds[letter] for letter in order]), ("tool", ["text"])]


def test_items_of_a_response_that_are_logged_one_by_one_are_one_message(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        for item in RESPONSE["output"]:
            log.log_openai_response(item)
    assert shape(log.rollout) == [("assistant", RESPONSE_PARTS)]
    assert log.rollout.messages[0].ended == "tool_calls"


def test_whole_messages_in_a_row_stay_apart(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        for _ in range(2):
            log.log_openai_completions({"role": "assistant", "content": "x", "tool_calls": [call]})
    assert len(log.rollout.messages) == 2
