"""Episodes of verifiers' evaluator, played in this process by the integration; `test_verifiers_environment.py` runs them.

These tests need verifiers, so that they run under the interpreter that has it.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import verifiers.v1 as vf
from chat_model import AnyServer
from fault_server import Fault, FaultServer, running
from verifiers.v1.cli.eval.runner import run_eval
from verifiers.v1.configs.cli.eval import EvalConfig

from openreward_gym.errors import ConfigurationError
from openreward_gym.importers import verifiers as importer
from openreward_gym.integrations.verifiers import TASKSET_ID, OpenRewardTask, OpenRewardTaskData, load_environment
from openreward_gym.store import RolloutStore
from openreward_gym.types import Rollout

Reply = tuple[int, Any, dict[str, str]]


def said(text: str | None = None, *calls: tuple[str, Any], finish: str = "", **message: Any) -> Reply:
    """Return the answer of a model server: a text, and calls by name and arguments."""
    if calls:
        message["tool_calls"] = [
            {
                "id": f"c{n}",
                "type": "function",
                "function": {"name": name, "arguments": a if isinstance(a, str) else json.dumps(a)},
            }
            for n, (name, a) in enumerate(calls)
        ]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": finish or ("tool_calls" if calls else "stop"),
    }
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return 200, {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}, {}


class Evaluation:
    """One evaluation: the episodes of verifiers, the record of this package, and the requests that the model got."""

    def __init__(self, folder: Path, environment: str, url: str, *answers: Reply, **options: Any) -> None:
        config: dict[str, Any] = {"select": {"limit": 1}, "num_rollouts": 1, **options.pop("evaluation", {})}
        with AnyServer(*answers) as model:
            taskset = options.pop("taskset", {})
            env = load_environment(environment, base_url=url, output=folder / "rollouts", **options)
            env.config.taskset = env.config.taskset.model_copy(update=taskset)
            client = {"type": "eval", "base_url": f"{model.url}/v1"}
            run = EvalConfig(env=env.config, model="m", client=client, push=False, rich=None, output_dir=folder, **config)
            self.episodes = asyncio.run(run_eval(run))
        self.requests = model.moments
        assert run.run.name is not None
        self.folder = folder / run.run.name
        self.store = RolloutStore(folder / "rollouts")

    @property
    def trace(self) -> Any:
        (episode,) = self.episodes
        (trace,) = episode.traces
        return trace

    @property
    def rollouts(self) -> list[Rollout]:
        return list(self.store)

    @property
    def imported(self) -> list[Rollout]:
        return [item for item in importer.read(self.folder) if isinstance(item, Rollout)]


def texts(rollout: Rollout) -> list[tuple[str, str | None, str]]:
    return [(message.role, message.origin, message.text) for message in rollout.messages]


def test_calls_run_in_order_and_the_reward_is_the_return(server_url: str, tmp_path: Path) -> None:
    calls = [("echo", {"text": "one"}), ("echo", {"text": "two"}), ("finish", {"text": "right"})]
    played = Evaluation(tmp_path, "echo", server_url, said("Let me see.", *calls))
    assert (played.trace.ok, played.trace.stop_condition, played.trace.reward) == (True, "agent_completed", 2.0)
    assert played.trace.rewards["openreward"].value == 2.0
    (rollout,), (imported,) = played.rollouts, played.imported
    assert texts(imported) == texts(rollout)
    assert (imported.reward, imported.status) == (2.0, "completed")
    assert [message.text for message in rollout.messages[-3:]] == ["one", "two", "over"]
    assert (rollout.reward, rollout.status, rollout.group, rollout.sample) == (2.0, "completed", "echo/train/0", 0)


def test_the_terminal_tool_gets_the_plain_answer(server_url: str, tmp_path: Path) -> None:
    played = Evaluation(tmp_path, "dialogue", server_url, said(None, ("only_in_0", {})), said("0"))
    (rollout,), (imported,) = played.rollouts, played.imported
    assert texts(imported) == texts(rollout)
    assert [(role, origin) for role, origin, _ in texts(rollout)][-2:] == [("assistant", "policy"), ("tool", "environment")]
    assert {tool.name for tool in imported.tools or ()} == {"look", "only_in_0"}
    assert (played.trace.reward, imported.reward, rollout.reward) == (1.0, 1.0, 1.0)


def test_an_image_reaches_the_model_and_the_record(server_url: str, tmp_path: Path) -> None:
    played = Evaluation(tmp_path, "echo", server_url, said(None, ("image", {})), said("A pixel."))
    (rollout,) = played.rollouts
    assert any(block.type == "image" for message in rollout.messages for block in message.blocks)
    sent = [part.type for message in played.trace.messages if isinstance(message.content, list) for part in message.content]
    assert "image_url" in sent


def test_a_session_that_cannot_be_opened_is_an_error_without_a_reward(tmp_path: Path) -> None:
    with running() as server:
        _fail(server, "/create", TASKS)
        played = Evaluation(tmp_path, "fault", server.url, said(None, ("step", {})), open_attempts=1)
    assert (played.trace.ok, played.trace.errors[-1].type, played.trace.stop_condition) == (
        False,
        "SessionError",
        "session_error",
    )
    assert (played.trace.rewards, played.trace.num_turns, played.requests) == ({}, 0, [])
    (failure,) = played.store.failures()
    assert (failure.stage, failure.task) == ("open", "fault/train/0")
    (imported,) = played.imported
    assert (imported.reward, imported.status) == (None, "error")


def test_verifiers_plays_a_rollout_again_whose_session_was_lost(tmp_path: Path) -> None:
    with running() as server:
        _fail(server, "/create", TASKS)
        agent = {"max_turns": 1, "retries": {"rules": [{"type": "SessionError", "max_retries": 1}]}}
        played = Evaluation(tmp_path, "fault", server.url, said(None, ("step", {})), open_attempts=1, agent=agent)
    assert (played.trace.ok, played.trace.reward, played.trace.stop_condition) == (True, 1.0, "max_turns")
    assert [error.type for error in played.trace.errors] == ["SessionError"]
    (rollout,) = played.rollouts
    assert (rollout.reward, rollout.status, rollout.stop_reason, rollout.sample) == (1.0, "truncated", "max_turns", 0)


@pytest.mark.parametrize(
    ("call", "stop_reason"),
    [(("step", {}), "session_lost"), (("fail", {}), "tool_failed"), (("slow", {"seconds": 20}), "deadline")],
)
def test_a_failure_in_mid_episode_leaves_no_reward(call: tuple[str, Any], stop_reason: str, tmp_path: Path) -> None:
    with running() as server:
        if stop_reason == "session_lost":
            _fail(server, "/call", 1, Fault("status", status=404, detail="Active environment not found"))
        answers = [said(None, ("step", {})), said(None, call), said("never asked")]
        played = Evaluation(tmp_path, "fault", server.url, *answers, step_timeout_s=0.5)
    assert (played.trace.ok, played.trace.rewards, played.trace.last_error.type) == (False, {}, "SessionError")
    assert len(played.requests) == played.trace.num_turns == 2
    assert played.trace.messages[-1].role == "assistant"  # the failed call has no answer
    (rollout,) = played.rollouts
    assert (rollout.stop_reason, [m.role for m in rollout.messages][-1]) == (stop_reason, "assistant")


def test_a_call_that_was_cut_off_is_not_run(tmp_path: Path) -> None:
    with running() as server:
        answers = [said(None, ("step", '{"a": 1'), finish="length"), said("Done.")]
        played = Evaluation(tmp_path, "fault", server.url, *answers)
        assert server.executed["step"] == 0
    assert played.trace.tool_messages[0].content.startswith("Your message was cut off")
    (rollout,), (imported,) = played.rollouts, played.imported
    assert [message.ended for message in rollout.messages if message.origin == "policy"] == ["length", "stop"]
    assert [text for _, _, text in texts(imported)] == [text for _, _, text in texts(rollout)]


def test_the_limit_of_turns_truncates(tmp_path: Path) -> None:
    with running() as server:
        answers = [said(None, ("step", {}))]
        by_verifiers = Evaluation(tmp_path / "a", "fault", server.url, *answers, agent={"max_turns": 2})
        by_the_env = Evaluation(tmp_path / "b", "fault", server.url, *answers, max_steps=2)
    for played, stop_reason in ((by_verifiers, "max_turns"), (by_the_env, "max_steps")):
        assert (played.trace.ok, played.trace.reward, played.trace.is_truncated) == (True, 2.0, True)
        assert played.trace.stop_condition == "max_turns"
        assert [(r.reward, r.status, r.stop_reason) for r in played.rollouts] == [(2.0, "truncated", stop_reason)]
        assert [(r.reward, r.status) for r in played.imported] == [(2.0, "truncated")]


def test_a_full_context_window_truncates(tmp_path: Path) -> None:
    error = {"error": {"message": "This model's maximum context length is 8 tokens.", "code": "context_length_exceeded"}}
    with running() as server:
        played = Evaluation(tmp_path, "fault", server.url, said(None, ("step", {})), (400, error, {}))
    assert (played.trace.ok, played.trace.reward, played.trace.stop_condition) == (True, 1.0, "context_length")
    assert [(r.reward, r.status, r.stop_reason) for r in played.rollouts] == [(1.0, "truncated", "context_overflow")]


@pytest.mark.parametrize("answer", [(401, {"error": "no such key"}, {}), said("")])
def test_a_failure_of_the_models_server_is_verifiers_own(answer: Reply, tmp_path: Path) -> None:
    with running() as server:
        played = Evaluation(tmp_path, "fault", server.url, said(None, ("step", {})), answer)
    assert (played.trace.ok, played.trace.rewards, played.trace.last_error.type) == (False, {}, "ProviderError")
    assert [r.stop_reason for r in played.rollouts] == ["policy_unavailable"]


def test_a_filter_that_takes_the_answer_away_leaves_no_reward(tmp_path: Path) -> None:
    with running() as server:
        played = Evaluation(tmp_path, "fault", server.url, said(None, ("step", {})), said("", finish="content_filter"))
    assert (played.trace.ok, played.trace.rewards, played.trace.last_error.type) == (False, {"openreward": None}, "TaskError")


def test_a_timeout_of_verifiers_is_recorded(tmp_path: Path) -> None:
    with running() as server:
        answers = [said(None, ("step", {})), said(None, ("slow", {"seconds": 30}))]
        played = Evaluation(tmp_path, "fault", server.url, *answers, agent={"timeout": {"rollout": 1.0}})
    assert (played.trace.ok, played.trace.is_timeout, played.trace.reward) == (True, True, 1.0)
    assert [(r.status, r.stop_reason) for r in played.rollouts] == [("truncated", "deadline")]


def test_a_system_prompt_of_verifiers_replaces_the_environments(server_url: str, tmp_path: Path) -> None:
    prompt = tmp_path / "system.txt"
    prompt.write_text("Answer in digits.")
    played = Evaluation(tmp_path, "dialogue", server_url, said("0"), taskset={"system_prompt": prompt})
    assert [(m.role, m.content) for m in played.trace.messages][:2] == [("system", "Answer in digits."), ("user", "Say 0.")]


def test_a_plain_answer_truncates_where_the_options_say_so(tmp_path: Path) -> None:
    with running() as server:
        played = Evaluation(tmp_path, "fault", server.url, said(None, ("step", {})), said("Done."), on_message="truncate")
    assert (played.trace.ok, played.trace.reward, played.trace.stop_condition) == (True, 1.0, "message")
    assert [(r.status, r.stop_reason) for r in played.rollouts] == [("truncated", "message")]


def test_a_task_that_the_environment_no_longer_has_is_an_error_of_the_task(server_url: str, tmp_path: Path) -> None:
    with AnyServer(said("never asked")) as model:
        env = load_environment("dialogue", base_url=server_url)
        (task,) = env.taskset.take(1)
        context = vf.ModelContext(client=vf.EvalClientConfig(base_url=model.url), model="m", sampling=vf.SamplingConfig())

        async def play() -> Any:
            async with env.serving():
                return await env.run_episode(task.with_data(task_index=99), context)

        (trace,) = asyncio.run(play()).traces
    assert (trace.ok, trace.last_error.type, model.moments) == (False, "TaskError", [])


def test_samples_of_a_task_are_a_group(server_url: str, tmp_path: Path) -> None:
    played = Evaluation(
        tmp_path, "dialogue", server_url, said("0"), split="test", evaluation={"select": {"limit": 2}, "num_rollouts": 2}
    )
    places = {(r.group, r.sample, r.reward) for r in played.rollouts}
    assert places == {
        ("dialogue/test/0", 0, 1.0),
        ("dialogue/test/0", 1, 1.0),
        ("dialogue/test/1", 0, 0.0),
        ("dialogue/test/1", 1, 0.0),
    }
    assert {episode.task.key for episode in played.episodes} == {"dialogue/test/0", "dialogue/test/1"}
    assert {len([r for r in played.imported if r.group == one.group]) for one in played.imported} == {2}


def test_a_harness_or_a_runtime_of_another_kind_is_named() -> None:
    task = OpenRewardTask(OpenRewardTaskData(source={"environment": "weather"}, task_index=3))
    trace = vf.Trace(
        task=vf.TraceTask(type="t", data=task.data), agent=vf.AgentInfo(config=vf.AgentConfig(harness={"id": "null"}))
    )
    with pytest.raises(vf.TaskError, match="'null' played no episode of weather/train/3"):
        asyncio.run(task.openreward(trace))
    harness = vf.load_harness(vf.default_agent_harness(TASKSET_ID))
    with pytest.raises(vf.HarnessError, match=r"runtime\.type subprocess"):
        asyncio.run(harness.setup(SimpleNamespace(config=vf.DockerConfig())))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_step": 3}, "max_steps"),
        ({"base_url": "http://user:pa55@127.0.0.1:1"}, "OPENREWARD_URL"),
        ({"env_overrides": {"KEY": "pa55"}}, "env_overrides"),
        ({"max_steps": {1}}, "JSON"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as raised:
        load_environment("weather", **{"base_url": "http://127.0.0.1:1", **options})
    assert "pa55" not in str(raised.value)


TASKS = 3
"""Number of tasks of the fault server's environment: sessions that are opened for their prompts, before the first rollout."""


def _fail(server: FaultServer, route: str, number: int, fault: Fault | None = None) -> None:
    """Answer one request of a route with a fault: the one after `number` requests."""
    requests = 0

    def next_fault(route_of_request: str) -> Fault | None:
        nonlocal requests
        requests += route_of_request == route
        is_it = route_of_request == route and requests == number + 1
        return fault or Fault("status", status=500) if is_it else None

    vars(server)["_next_fault"] = next_fault
