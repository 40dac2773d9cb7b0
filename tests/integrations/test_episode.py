"""The contract of the integrations: episodes that a trainer's loop plays, on real servers that answer, fail and die."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest
from counting import eventually, sessions
from fault_server import Fault, FaultServer

from openreward_gym import OpenRewardEnv, RecordRollouts, RolloutStore
from openreward_gym.errors import (
    ConfigurationError,
    OpenRewardGymError,
    PolicyError,
    ResetNeededError,
    TaskNotFoundError,
    TransportError,
)
from openreward_gym.integrations import Answer, Episode, Episodes
from openreward_gym.types import AssistantMessage, Ended, Sampled, Task, ToolCall

pytestmark = pytest.mark.anyio

LOOK = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Seattle"}}\n</tool_call>'
STEP = AssistantMessage((ToolCall("step", {}, call_id="c1"),))
FAST: Any = {"retry_limits": {"attempts": 1}, "open_attempts": 1}


async def test_text_with_a_call_then_an_answer(examples: str) -> None:
    episode = Episode("weather", base_url=examples)
    await episode.begin(0)
    assert [message["role"] for message in episode.prompt][-1] == "user"
    assert {tool["function"]["name"] for tool in episode.tools} == {tool.name for tool in episode.tool_set}
    answer = await episode.act(f"I look it up.{LOOK}")
    assert (answer.done, [message["role"] for message in answer.openai]) == (False, ["tool"])
    assert answer.messages[0].origin == "environment"
    assert episode.rollout is None
    await episode.aclose()


async def test_sum_of_rewards_equals_that_of_the_env(examples: str, tmp_path: Path) -> None:

    env = OpenRewardEnv("ctf", base_url=examples)
    episode = Episode("ctf", base_url=examples, output=tmp_path / "run")
    actions: list[Any] = [{"name": "read_file", "arguments": {"path": "notes.txt"}}, "The flag is FLAG{no}"]
    total = 0.0
    await env.areset(options={"task_index": 0})
    await episode.begin(0, step=4, group="t0", sample=2)
    for action in actions:
        _, reward, *_ = await env.astep(action)
        total += reward
        answer = await episode.act(action)
        assert (answer.reward or 0.0) == reward
    assert episode.reward == total
    assert (episode.done, episode.stop_reason) == (env.episode is not None and env.episode.done, answer.stop_reason)
    await env.aclose()
    await episode.aclose()
    (rollout,) = RolloutStore(tmp_path / "run")
    assert (rollout.step, rollout.group, rollout.sample, rollout.name) == (4, "t0", 2, "t0-2")
    assert episode.rollout is not None
    assert rollout.to_dict() == {**episode.rollout.to_dict(), "run": "run"}


async def test_what_is_known_of_the_sampling_is_recorded(examples: str, tmp_path: Path) -> None:
    episodes = Episodes("weather", base_url=examples, output=tmp_path, model={"name": "tiny"})
    episode = episodes.episode()
    await episode.begin(1)
    await episode.act(LOOK, sampled=Sampled(token_ids=(5, 6), logprobs=(-0.5, -1.0), stop_reason="stop"), ended="stop")
    await episode.end("max_turns")
    assert (episode.done, episode.stop_reason, episode.error) == (True, "max_turns", None)
    (rollout,) = RolloutStore(tmp_path)
    said = next(message for message in rollout.messages if message.origin == "policy")
    assert (said.token_ids, said.logprobs, said.ended) == ([5, 6], [-0.5, -1.0], "stop")
    assert said.tool_calls[0].name == "get_weather"
    assert (rollout.status, rollout.stop_reason, rollout.model) == ("truncated", "max_turns", {"name": "tiny"})
    await episode.aclose()
    assert len(RolloutStore(tmp_path)) == 1


async def test_ended_before_the_first_message(examples: str, tmp_path: Path) -> None:
    episode = Episode("weather", base_url=examples, output=tmp_path)
    await episode.begin(0)
    await episode.end("context_overflow")
    (rollout,) = RolloutStore(tmp_path)
    assert (rollout.status, rollout.stop_reason, rollout.reward) == ("truncated", "context_overflow", None)
    assert episode.reward == 0.0
    await episode.aclose()


async def test_closed_while_it_runs(examples: str, tmp_path: Path) -> None:
    for output in (tmp_path, None):
        episode = Episode("weather", base_url=examples, output=output)
        await episode.begin(0)
        await episode.act(LOOK)
        await episode.aclose()
        assert (episode.done, episode.stop_reason) == (True, "cancelled")
        assert episode.rollout is not None
        assert (episode.rollout.status, episode.rollout.stop_reason) == ("cancelled", "cancelled")
    assert [rollout.status for rollout in RolloutStore(tmp_path)] == ["cancelled"]


async def test_cut_off_message_runs_nothing(examples: str) -> None:
    episode = Episode("weather", base_url=examples)
    await episode.begin(0)
    answer = await episode.act(LOOK, ended="length")
    assert not answer.done
    assert [message.origin for message in answer.messages] == ["client"]
    assert "cut off" in answer.text
    await episode.aclose()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("cut", at="request"),
        Fault("cut", at="answer"),
        Fault("status", status=404),
        Fault("status", status=500),
        Fault("not_json"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.at or fault.status}",
)
async def test_session_that_dies_leaves_no_reward_and_no_message(fault: Fault, tmp_path: Path) -> None:
    async with FaultServer() as server:
        episode = Episode("fault", base_url=server.url, output=tmp_path, **FAST)
        await episode.begin(0, group="g", sample=0)
        assert not (await episode.act(STEP)).done
        server.inject("/call", fault, times=9)
        answer = await episode.act(STEP)
        assert answer.done
        assert answer.error
        assert answer.messages == ()
        assert answer.reward is None
        assert episode.reward is None
        assert episode.error == answer.error
        await episode.aclose()
    (rollout,) = RolloutStore(tmp_path)
    assert rollout.status == "error"
    assert rollout.messages[-1].role == "assistant"


@pytest.mark.parametrize("attempts", [1, 3])
async def test_server_that_does_not_open_a_session(attempts: int, tmp_path: Path) -> None:
    async with FaultServer() as server:
        server.inject("/create", Fault("status", status=502), times=min(attempts, 2))
        episode = Episode("fault", base_url=server.url, output=tmp_path, retry_limits={"attempts": 1}, open_attempts=attempts)
        if attempts == 3:
            await episode.begin(0)
            assert (episode.done, episode.reward) == (False, 0.0)
        else:
            with pytest.raises(Exception, match="502"):
                await episode.begin(0, group="g", sample=1)
            assert (episode.done, episode.reward, episode.rollout) == (True, None, None)
            assert episode.error
            assert episode.prompt == episode.messages == episode.tools == []
            # The next episode of the same object begins anew.
            await episode.begin(0)
            assert not episode.done
            assert not episode.error
        await episode.aclose()
    failures = [(failure.stage, failure.retried_in_s is None) for failure in RolloutStore(tmp_path).failures(retried=True)]
    assert failures == ([("open", False)] * 2 if attempts == 3 else [("open", True)])


async def test_unreachable_server(tmp_path: Path) -> None:
    episode = Episode("weather", base_url="http://127.0.0.1:9", output=tmp_path, **FAST)
    with pytest.raises(TransportError, match=r"127\.0\.0\.1:9"):
        await episode.begin(2)
    (failure,) = RolloutStore(tmp_path).failures()
    assert (failure.source, failure.kind, failure.stage, failure.task) == ("environment", "unreachable", "open", "2")
    with pytest.raises(TransportError):
        await Episodes("weather", base_url="http://127.0.0.1:9", **FAST).arows(limit=2)


async def test_error_of_the_models_server_is_no_answer(examples: str, tmp_path: Path) -> None:
    episode = Episode("weather", base_url=examples, output=tmp_path)
    await episode.begin(0)
    await episode.act(LOOK)
    with pytest.raises(PolicyError):
        await episode.act(AssistantMessage("busy", ended="error"))
    assert (episode.done, episode.reward, episode.stop_reason) == (True, None, "policy_unavailable")
    (rollout,) = RolloutStore(tmp_path)
    assert (rollout.status, rollout.stop_reason) == ("truncated", "policy_unavailable")
    assert "busy" not in str(rollout.to_dict())
    await episode.aclose()


async def test_filtered_answer_has_no_reward_and_full_context_has_one(examples: str) -> None:
    endings: list[tuple[Ended, float | None]] = [("content_filter", None), ("context_overflow", 0.0)]
    for ended, reward in endings:
        episode = Episode("weather", base_url=examples)
        await episode.begin(0)
        answer = await episode.act("I can", ended=ended)
        assert (answer.done, answer.stop_reason, episode.reward) == (True, ended, reward)
        await episode.aclose()


async def test_mistakes_of_the_caller(examples: str) -> None:
    episode = Episode("weather", base_url=examples)
    with pytest.raises(ResetNeededError, match=r"begin\(\)"):
        await episode.act("Hello")
    with pytest.raises(TaskNotFoundError):
        await episode.begin(99)
    with pytest.raises(ConfigurationError, match="task must be"):
        await episode.begin(True)
    await episode.begin(0)
    with pytest.raises(ConfigurationError, match="7"):
        await episode.act(7)
    await episode.act("It is warm.")
    with pytest.raises(ResetNeededError, match="ended"):
        await episode.act("It is warm.")
    await episode.aclose()
    with pytest.raises(ConfigurationError, match=r"output_dir.*output"):
        Episodes("weather", output_dir="runs")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="open_attempts"):
        Episodes("weather", open_attempts=0)
    with pytest.raises(ConfigurationError, match="base_url"):
        Episode(Episodes("weather"), base_url=examples)


async def test_tasks_by_spec_and_split(examples: str) -> None:
    episodes = Episodes("weather", base_url=examples)
    (row,) = await episodes.arows(limit=1)
    episode = episodes.episode()
    await episode.begin(row["task_index"])
    assert episode.prompt == row["prompt"]
    task = episode.task
    assert task is not None
    for same in (task, Task(spec=task.spec), task.spec):
        await episode.begin(same)
        assert episode.prompt == row["prompt"]
    await episode.aclose()
    assert await episodes.arows(tasks=[3, 1]) == [(await episodes.arows())[index] for index in (3, 1)]


async def test_many_at_once_share_a_client_and_a_store(examples: str, tmp_path: Path) -> None:
    episodes = Episodes("weather", base_url=examples, output=tmp_path)

    async def play(sample: int) -> float | None:
        episode = episodes.episode()
        await episode.begin(0, group="0", sample=sample)
        await episode.act(LOOK)
        await episode.act("It is raining.")
        await episode.aclose()
        return episode.reward

    rewards = await asyncio.gather(*map(play, range(12)))
    assert None not in rewards
    rollouts = list(RolloutStore(tmp_path))
    assert sorted(rollout.sample for rollout in rollouts if rollout.sample is not None) == list(range(12))
    assert {rollout.group for rollout in rollouts} == {"0"}
    assert len({rollout.id for rollout in rollouts}) == 12


def test_pickled_source_and_episode_play_in_another_loop(examples: str, tmp_path: Path) -> None:
    episodes = Episodes("weather", base_url=examples, output=tmp_path, max_steps=1)

    async def play(episode: Episode) -> Answer:
        await episode.begin(0)
        answer = await episode.act(LOOK)
        await episode.aclose()
        return answer

    assert asyncio.run(play(episodes.episode())).stop_reason == "max_steps"
    copy = pickle.loads(pickle.dumps(episodes))
    assert asyncio.run(play(copy.episode())).stop_reason == "max_steps"
    assert asyncio.run(play(pickle.loads(pickle.dumps(Episode(episodes))))).stop_reason == "max_steps"
    assert len(RolloutStore(tmp_path)) == 3
    assert episodes.num_tasks() == copy.num_tasks() == len(episodes.rows()) == 5
    assert episodes.tools() == copy.tools()


@pytest.mark.parametrize("option", [{"on_failure": "raise"}, {"on_reset_failure": "truncate"}])
def test_options_about_failures_are_the_contracts_own(option: Any) -> None:
    with pytest.raises(ConfigurationError, match="OpenRewardEnv alone"):
        Episodes("weather", **option)


async def test_a_cancelled_call_ends_the_episode(server_url: str, tmp_path: Path) -> None:
    for reason in ("cancelled", "deadline"):
        episode = Episode("echo", base_url=server_url, output=tmp_path / reason)
        await episode.begin(0)
        await episode.act({"name": "echo", "arguments": {"text": "a"}})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(episode.act({"name": "slow", "arguments": {"seconds": 30}}), 0.1)
        assert (episode.done, episode.stop_reason, episode.reward) == (True, "cancelled", 0.5)
        with pytest.raises(ResetNeededError, match="ended"):
            await episode.act("I go on.")
        if reason == "deadline":
            await episode.end(reason)
        await episode.aclose()
        (rollout,) = RolloutStore(tmp_path / reason)
        assert (rollout.stop_reason, episode.stop_reason, rollout.reward) == (reason, reason, 0.5)
        assert rollout.status == ("cancelled" if reason == "cancelled" else "truncated")
        assert episode.rollout is not None
        assert rollout.to_dict() == {**episode.rollout.to_dict(), "run": reason}
    assert await asyncio.to_thread(eventually, lambda: sessions(server_url) == 0)


async def test_no_session_outlives_a_begin_that_was_cancelled_or_closed(server_url: str) -> None:
    episodes, kept = Episodes("echo", base_url=server_url), []
    for wait_ms in range(1, 30, 3):
        cancelled, closed = episodes.episode(), episodes.episode()
        kept += [cancelled, closed]
        try:
            await asyncio.wait_for(cancelled.begin(0), wait_ms / 1000)
            await cancelled.end("max_turns")
        except TimeoutError:
            assert (cancelled.done, cancelled.reward, cancelled.stop_reason) == (True, None, "cancelled")
        beginning = asyncio.create_task(closed.begin(0))
        await asyncio.sleep(wait_ms / 1000)
        await closed.aclose()
        (error,) = await asyncio.gather(beginning, return_exceptions=True)
        assert error is None or isinstance(error, OpenRewardGymError)
        assert (closed.done, closed.stop_reason) == (True, "cancelled")
    assert await asyncio.to_thread(eventually, lambda: sessions(server_url) == 0)
    for episode in kept:
        await episode.aclose()


async def test_begin_twice_at_once_is_refused(server_url: str) -> None:
    episode = Episode("echo", base_url=server_url)
    first, second = await asyncio.gather(episode.begin(0), episode.begin(1), return_exceptions=True)
    assert first is None
    assert isinstance(second, ConfigurationError)
    assert '"number": 0' in episode.prompt[0]["content"]
    await episode.aclose()


@pytest.mark.parametrize("fields", [{"step": "x"}, {"group": 5}, {"sample": 1.5}, {"step": True}])
async def test_fields_of_a_wrong_type_are_refused_before_they_make_the_run_unreadable(
    examples: str, tmp_path: Path, fields: Any
) -> None:
    episode = Episode("weather", base_url=examples, output=tmp_path / "run")
    with pytest.raises(ConfigurationError, match=next(iter(fields))):
        await episode.begin(0, **fields)
    env = RecordRollouts(OpenRewardEnv("weather", base_url=examples), tmp_path / "run")
    with pytest.raises(ConfigurationError, match=next(iter(fields))):
        env.describe(**fields)
    await episode.begin(0, step=3)
    await episode.act("It is sunny.")
    await episode.aclose()
    env.close()
    assert [rollout.step for rollout in RolloutStore(tmp_path / "run")] == [3]


async def test_no_reward_where_the_trainer_says_that_the_models_server_failed(examples: str) -> None:
    episode = Episode("weather", base_url=examples)
    for reason, reward in (("policy_unavailable", None), ("max_turns", 0.0)):
        await episode.begin(0, attempt=1)
        await episode.act(LOOK)
        await episode.end(reason)
        assert (episode.done, episode.stop_reason, episode.reward) == (True, reason, reward)
        assert episode.rollout is not None
        assert episode.rollout.attempt == 1
    await episode.aclose()


async def test_output_that_cannot_be_a_folder_is_refused_before_an_episode(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for output in (file, file / "run", str(file), "", "a\0b", 5):
        with pytest.raises(ConfigurationError, match="output"):
            Episodes("weather", output=output)  # type: ignore[arg-type]
    assert Episodes("weather", output=tmp_path / "new" / "run").store is not None
    assert not (tmp_path / "new").exists()
