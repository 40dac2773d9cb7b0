"""Environments of TRL without TRL: tools, endings, failures and records, on real servers, with a script in the model's place."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fault_server import Fault, running
from launch import HERE, served
from odd_tools import DESCRIPTION, NAMES, SCHEMA
from trl_rollouts import Turn, roll_out, tools_of

from openreward_gym import RolloutStore, serve
from openreward_gym.errors import ConfigurationError, TransportError
from openreward_gym.integrations.trl.dataset import ToolGroup, examples, tool_groups
from openreward_gym.integrations.trl.environment import EnvironmentFactory
from openreward_gym.integrations.trl.play import OVER, PlaySource
from openreward_gym.integrations.trl.record import turn_ids
from openreward_gym.integrations.trl.rewards import EpisodeReturn, guarded
from openreward_gym.integrations.trl.state import TrainingState
from openreward_gym.protocol import loop
from openreward_gym.types import Rollout

END = 0
FAST: Any = {"retry_limits": {"attempts": 1}, "open_attempts": 1}
LOOK = [("get_weather", {"city": "Seattle"})]


class Trainer:
    """What `grpo` makes of one environment, and the part of a trainer's loop that uses it."""

    def __init__(self, name: str, url: str, output: Path | None = None, tasks: Sequence[int] = (0,), **options: Any) -> None:
        self.source = PlaySource(name, base_url=url, output=output, on_length="truncate", **options)
        self.groups: list[ToolGroup] = loop.run(tool_groups(self.source, tasks, None))
        self.state = TrainingState()
        self.state.end_token_ids = frozenset({END})
        self.returns = EpisodeReturn(self.state)

    def environment(self, group: int = 0) -> Any:
        return EnvironmentFactory(self.source, self.groups[group].tools, self.state)()

    def score(self, environment: Any, rolled: Any, ids: Sequence[int] = (5, END)) -> float | None:
        prompt, completion = rolled
        (reward,) = self.returns([completion], prompts=[prompt], completion_ids=[list(ids)], environments=[environment])
        return reward

    def play(self, script: Sequence[Turn], ids: Sequence[int] = (5, END), **options: Any) -> float | None:
        environment = self.environment()
        return self.score(environment, roll_out(environment, self.groups[0].rows[0], script, **options), ids)


def only(folder: Path) -> Rollout:
    (rollout,) = RolloutStore(folder)
    return rollout


def said(rollout: Rollout) -> list[tuple[str, str | None]]:
    return [(message.role, message.origin) for message in rollout.messages]


@pytest.fixture(scope="module")
def odd_tools() -> Iterator[str]:
    with served(HERE / "odd_tools.py") as url:
        yield url


def test_rollout_is_recorded_in_the_models_words(examples: str, tmp_path: Path) -> None:
    trainer = Trainer("weather", examples, tmp_path)
    trainer.state.set_step(4)
    assert trainer.play([LOOK, "It is cold in Seattle."]) == 1.0
    rollout = only(tmp_path)
    assert said(rollout)[1:] == [
        ("user", "given"),
        ("assistant", "policy"),
        ("tool", "environment"),
        ("assistant", "policy"),
        ("tool", "environment"),
    ]
    call, result, answer, verdict = rollout.messages[2:]
    assert call.tool_calls[0].call_id == result.call_id == "call_0"
    assert (call.ended, answer.ended, answer.text) == ("tool_calls", "stop", "It is cold in Seattle.")
    assert (verdict.reward, rollout.reward, rollout.status) == (1.0, 1.0, "completed")
    assert (rollout.step, rollout.group, rollout.sample) == (4, "weather/0/4", 0)


def test_reasoning_and_words_beside_calls_are_recorded(examples: str, tmp_path: Path) -> None:
    trainer = Trainer("weather", examples, tmp_path)
    environment = trainer.environment()
    prompt, completion = roll_out(environment, trainer.groups[0].rows[0], [[*LOOK, *LOOK], "Cold."])
    completion[0] |= {"content": "Let me look.", "reasoning_content": "A city."}
    trainer.score(environment, (prompt, completion))
    turn, *results = only(tmp_path).messages[2:5]
    assert (turn.text, turn.reasoning, len(turn.tool_calls)) == ("Let me look.", "A city.", 2)
    assert [message.call_id for message in results] == ["call_0", "call_1"]


def test_what_trl_said_itself_has_the_origin_client(examples: str, tmp_path: Path) -> None:
    trainer = Trainer("weather", examples, tmp_path)
    assert trainer.play([[("fly", {}), *LOOK, ("get_weather", "Seattle")], "Cold."]) is not None
    rollout = only(tmp_path)
    tools = [message for message in rollout.messages if message.role == "tool"]
    assert [(message.origin, message.is_error) for message in tools[:3]] == [
        ("client", True),
        ("environment", False),
        ("client", True),
    ]
    assert [message.call_id for message in tools[:3]] == ["call_0", "call_1", "call_2"]
    assert "fly not found" in tools[0].text


def test_mistakes_in_arguments_are_answered_by_the_environment(examples: str, tmp_path: Path) -> None:
    trainer = Trainer("weather", examples, tmp_path)
    assert trainer.play([[("get_weather", {"town": "Lima"})], "Cold."]) == 0.0
    error = only(tmp_path).messages[3]
    assert (error.origin, error.is_error) == ("environment", True)
    assert "city" in error.text


def test_cut_off_answer_is_not_sent(examples: str, tmp_path: Path) -> None:
    trainer = Trainer("weather", examples, tmp_path)
    assert trainer.play([LOOK, "It is cold in Seattle."], ids=[5, END, 5]) == 0.0
    rollout = only(tmp_path)
    assert (rollout.status, rollout.stop_reason, rollout.messages[-1].ended) == ("truncated", "length", "length")
    assert said(rollout)[-1] == ("assistant", "policy")


@pytest.mark.parametrize(
    ("text", "reason", "ended"),
    [
        ("", "no_action", "stop"),
        ('<tool_call>\n{"name": "get_weather", "arguments": {"city"</tool_call>', "malformed", "malformed"),
    ],
)
def test_message_that_is_no_answer_is_not_sent(examples: str, tmp_path: Path, text: str, reason: str, ended: str) -> None:
    trainer = Trainer("weather", examples, tmp_path)
    assert trainer.play([text]) == 0.0
    rollout = only(tmp_path)
    assert (rollout.status, rollout.stop_reason, rollout.messages[-1].ended) == ("truncated", reason, ended)
    assert said(rollout)[-1] == ("assistant", "policy")


def test_call_that_trl_does_not_run_any_more(examples: str, tmp_path: Path) -> None:
    trainer = Trainer("weather", examples, tmp_path)
    assert trainer.play([LOOK, LOOK, LOOK], most_calls=2) == 0.0
    rollout = only(tmp_path)
    assert (rollout.stop_reason, len(rollout.messages), rollout.messages[-1].ended) == ("max_turns", 7, "tool_calls")


def test_unknown_tool_before_the_limit_of_calls(server_url: str, tmp_path: Path) -> None:
    trainer = Trainer("echo", server_url, tmp_path)
    environment = trainer.environment()
    script: list[Turn] = [[("fly", {})], [("echo", {"text": "a"})]]
    prompt, completion = roll_out(environment, trainer.groups[0].rows[0], script)
    assert trainer.score(environment, (prompt, completion[:-1])) == 0.5
    rollout = only(tmp_path)
    assert rollout.stop_reason == "context_overflow"
    assert said(rollout)[1:] == [("assistant", "policy"), ("tool", "client"), ("assistant", "policy"), ("tool", "environment")]


def test_results_that_trl_dropped_are_in_the_record(server_url: str, tmp_path: Path) -> None:
    trainer = Trainer("echo", server_url, tmp_path)
    environment = trainer.environment()
    prompt, completion = roll_out(environment, trainer.groups[0].rows[0], [[("echo", {"text": "long"})]])
    assert trainer.score(environment, (prompt, completion[:1])) == 0.5
    rollout = only(tmp_path)
    assert (rollout.stop_reason, rollout.reward, rollout.messages[-1].text) == ("context_overflow", 0.5, "long")
    assert rollout.messages[-1].call_id == "call_0"


def test_no_answer_follows_the_last_result(server_url: str, tmp_path: Path) -> None:
    trainer = Trainer("echo", server_url, tmp_path)
    assert trainer.play([[("echo", {"text": "a"})]]) == 0.5
    assert only(tmp_path).stop_reason == "length"


def test_nothing_after_the_end_is_played(server_url: str, tmp_path: Path) -> None:
    trainer = Trainer("echo", server_url, tmp_path)
    environment = trainer.environment()
    script: list[Turn] = [[("finish", {"text": "right"}), ("count", {})], [("count", {})], "Done."]
    prompt, completion = roll_out(environment, trainer.groups[0].rows[0], script)
    assert [entry["content"] for entry in completion if entry["role"] == "tool"] == ["over", OVER, OVER]
    assert trainer.score(environment, (prompt, completion)) == 1.0
    rollout = only(tmp_path)
    assert said(rollout)[1:] == [("assistant", "policy"), ("tool", "environment"), ("tool", "client")]
    assert (rollout.status, rollout.stop_reason) == ("completed", "finished")


def test_images_of_tools(server_url: str, tmp_path: Path) -> None:
    trainer = Trainer("echo", server_url, tmp_path)
    trainer.state.shows_images = True
    environment = trainer.environment()
    prompt, completion = roll_out(environment, trainer.groups[0].rows[0], [[("image", {})], "A pixel."])
    text, image = completion[1]["content"]
    assert text == {"type": "text", "text": "look"}
    assert (image["type"], image["image"].size) == ("image", (1, 1))
    assert trainer.score(environment, (prompt, completion)) == 0.0
    assert [type(block).__name__ for block in only(tmp_path).messages[2].blocks] == ["TextBlock", "ImageBlock"]


def test_images_for_a_model_that_takes_none_end_the_training(server_url: str) -> None:
    trainer = Trainer("echo", server_url)
    with pytest.raises(ConfigurationError, match=r"'image' of 'echo' returned an image.*processing_class"):
        trainer.play([[("image", {})], "A pixel."])


@pytest.mark.parametrize("fault", [Fault("cut", at="head"), Fault("status", status=500), Fault("cut", at="answer")])
def test_session_that_dies_leaves_no_reward_and_no_text(fault: Fault, tmp_path: Path) -> None:
    with running() as server:
        trainer = Trainer("fault", server.url, tmp_path, **FAST)
        environment = trainer.environment()
        environment.reset(**{name: value for name, value in trainer.groups[0].rows[0].items() if name != "environment"})
        step = tools_of(environment)["step"]
        assert step()
        server.inject("/call", fault, times=9)
        assert step() == ""
        assert step() == ""
        calls = [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "step", "arguments": {}}}]}] * 3
        results = [{"role": "tool", "name": "step", "content": text} for text in ("step 1", "", "")]
        first = environment._play._calls[0].content
        results[0]["content"] = first
        completion = [entry for pair in zip(calls, results, strict=True) for entry in pair]
        completion.append({"role": "assistant", "content": "Done."})
        assert trainer.score(environment, (trainer.groups[0].rows[0]["prompt"], completion)) is None
    rollout = only(tmp_path)
    assert rollout.status == "error"
    assert rollout.error
    assert [message.role for message in rollout.messages[-3:]] == ["assistant", "tool", "assistant"]
    assert "Done." not in str(rollout.to_dict())


def test_server_that_is_gone_spoils_the_episode_and_not_the_training(tmp_path: Path) -> None:
    with serve.local(["weather"]) as url:
        trainer = Trainer("weather", url, tmp_path, **FAST)
    metrics: dict[str, float] = {}
    environment = trainer.environment()
    prompt, completion = roll_out(environment, trainer.groups[0].rows[0], [LOOK, "It is cold."])
    assert completion[1]["content"] == ""
    rewards = trainer.returns(
        [completion], prompts=[prompt], completion_ids=[[END]], environments=[environment], log_metric=metrics.__setitem__
    )
    assert (rewards, metrics) == ([None], {"episodes/spoiled": 1.0})
    (failure,) = RolloutStore(tmp_path).failures()
    assert (failure.stage, failure.task) == ("open", "weather/0/0")


def test_unknown_parts_of_prompts_are_left_out_aloud(caplog: pytest.LogCaptureFixture) -> None:
    with running() as server:
        (row,) = Trainer("fault", server.url).groups[0].rows
    assert isinstance(row["prompt"][0]["content"], str)
    assert "two blanks" in row["prompt"][0]["content"]
    assert "left out: hologram" in caplog.text


def test_no_session_for_a_prompt() -> None:
    with running() as server:
        server.inject("/create", Fault("status", status=502), times=9)
        with pytest.raises(TransportError, match="502"):
            Trainer("fault", server.url, **FAST)


def test_task_that_does_not_exist_ends_the_training(examples: str) -> None:
    trainer = Trainer("weather", examples)
    environment = trainer.environment()
    rolled = roll_out(environment, {**trainer.groups[0].rows[0], "task_index": 99}, ["Cold."])
    with pytest.raises(ConfigurationError, match="99"):
        trainer.score(environment, rolled)


def test_odd_names_and_schemas_reach_the_model_unchanged(odd_tools: str, tmp_path: Path) -> None:
    trainer = Trainer("oddtools", odd_tools, tmp_path)
    environment = trainer.environment()
    tools = tools_of(environment)
    assert set(tools) == {"plain", *NAMES}
    for name in NAMES:
        assert dict(tools[name]) == {
            "type": "function",
            "function": {"name": name, "description": DESCRIPTION, "parameters": SCHEMA},
        }
    arguments = {"class": "a", "from-to": [1, 2], "self": None, "nested": {"depth": 1}, "name": "x", "arguments": 0}
    script: list[Turn] = [[(name, arguments)] for name in NAMES]
    prompt, completion = roll_out(environment, trainer.groups[0].rows[0], [*script, "Done."])
    assert [entry["content"].split(" ")[0] for entry in completion if entry["role"] == "tool"] == list(NAMES)
    assert trainer.score(environment, (prompt, completion)) == 0.25 * len(NAMES)
    assert len([message for message in only(tmp_path).messages if message.origin == "environment"]) == len(NAMES)


def test_tasks_with_other_tools_are_environments_of_their_own() -> None:
    with served(HERE / "tools_by_task.py") as url:
        trainer = Trainer("bytask", url, tasks=[0, 1, 0])
        assert [(group.name, len(group.tools), len(group.rows)) for group in trainer.groups] == [
            ("bytask", 1, 2),
            ("bytask#2", 2, 1),
        ]
        assert [row["environment"] for row in examples_of(trainer)] == ["bytask", "bytask", "bytask#2"]
        environment = trainer.environment(1)
        assert set(tools_of(environment)) == {"first", "second"}
        rolled = roll_out(environment, trainer.groups[1].rows[0], [[("second", {"city": "Lima"})], "Done."])
        assert trainer.score(environment, rolled) == 1.0


def test_task_with_other_tools_than_the_model_is_shown_ends_the_training() -> None:
    """The dataset of another call, whose tasks were grouped apart, has the names of the first."""
    with served(HERE / "tools_by_task.py") as url:
        trainer = Trainer("bytask", url, tasks=[0])
        environment = trainer.environment()
        rolled = roll_out(environment, {**trainer.groups[0].rows[0], "task_index": 1}, [[("first", {"city": "Lima"})], "Done."])
        assert rolled[1][1]["content"] == ""
        with pytest.raises(ConfigurationError, match=r"task 1 of 'bytask' has other tools or schemas \(first, second\)"):
            trainer.score(environment, rolled)


def examples_of(trainer: Trainer) -> list[dict[str, Any]]:
    return examples(trainer.groups)


def test_images_of_prompts_have_a_column() -> None:
    url = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    row = {"environment": "a", "task_index": 0, "prompt": [{"role": "user", "content": "Look."}]}
    seen = {
        **row,
        "prompt": [
            {"role": "user", "content": [{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {"url": url}}]}
        ],
    }
    group = ToolGroup("a", PlaySource("a", base_url="http://127.0.0.1:9"), [], [row, seen])
    plain, pictured = examples([group])
    assert (plain["images"], plain["prompt"][0]["content"]) == ([], [{"type": "text", "text": "Look."}])
    assert [part["type"] for part in pictured["prompt"][0]["content"]] == ["text", "image"]
    assert pictured["images"][0].size == (1, 1)
    broken = replace(
        group,
        rows=[{**seen, "prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]}],
    )
    with pytest.raises(ConfigurationError, match="by address"):
        examples([broken])


def test_functions_of_the_user_have_no_say_about_spoiled_episodes(examples: str) -> None:
    def brevity(completions: Any, **columns: Any) -> list[float]:
        return [0.5 for _ in completions]

    with running() as server:
        good, bad = Trainer("weather", examples), Trainer("fault", server.url, **FAST)
        environments = [good.environment(), bad.environment()]
        rolled = [roll_out(environments[0], good.groups[0].rows[0], ["Cold."])]
        server.inject("/call", Fault("status", status=500), times=9)
        rolled.append(roll_out(environments[1], bad.groups[0].rows[0], [[("step", {})], "Done."]))
        prompts, completions = zip(*rolled, strict=True)
        columns: dict[str, Any] = {
            "completions": completions,
            "prompts": prompts,
            "completion_ids": [[END], [END]],
            "environments": environments,
        }
        function = guarded(brevity, good.returns)
        assert function.__name__ == "brevity"
        assert function(**columns) == [0.5, None]
        assert good.returns(**columns) == [0.0, None]
    with pytest.raises(ConfigurationError, match="call a reward model from a function"):
        guarded("some/model", good.returns)


def test_without_environments_the_prompt_knows_its_episode(examples: str, tmp_path: Path) -> None:
    """`AsyncGRPOTrainer` gives an environment to the next rollout before it scores the first."""
    trainer = Trainer("weather", examples, tmp_path)
    environment = trainer.environment()
    row = trainer.groups[0].rows[0]
    first = roll_out(environment, row, [LOOK, "It is cold in Seattle."])
    second = roll_out(environment, row, ["No idea."])
    prompts, completions = zip(second, first, strict=True)
    assert pickle.loads(pickle.dumps(prompts[0])) == list(row["prompt"])
    rewards = trainer.returns(list(completions), prompts=list(prompts), completion_ids=[[5, END], [5, END, 5, END]])
    assert rewards == [0.0, 1.0]
    assert {rollout.sample: rollout.reward for rollout in RolloutStore(tmp_path)} == {0: 1.0, 1: 0.0}
    with pytest.raises(ConfigurationError, match="environment_factory"):
        trainer.returns(list(completions), prompts=[list(row["prompt"])] * 2)


def test_trainer_without_the_callback_is_told(examples: str) -> None:
    trainer = Trainer("weather", examples)
    trainer.state.end_token_ids = None
    environment = trainer.environment()
    with pytest.raises(ConfigurationError, match="callbacks"):
        trainer.score(environment, roll_out(environment, trainer.groups[0].rows[0], ["Cold."]))
    loop.run(environment._play.aclose())


def test_copies_in_another_process_know_the_step() -> None:
    state = TrainingState()
    state.num_generations = 2
    state.share_step()
    state.set_step(3)
    copy = pickle.loads(pickle.dumps(state))
    assert copy.place("a", 0) == (3, "a/0/3", 0)
    state.set_step(4)
    # The group that was begun is filled first.
    assert [copy.place("a", 0), copy.place("a", 0), copy.place("a", 1)] == [(4, "a/0/3", 1), (4, "a/0/4", 0), (4, "a/1/4", 0)]
    assert [state.place("a", 0) for _ in range(3)] == [(4, "a/0/4", 0), (4, "a/0/4", 1), (4, "a/0/4-2", 0)]
    state.unshare_step()
    assert copy.step == 4
    state.process, state.processes = 1, 2
    assert [state.place("b", 0)[2] for _ in range(2)] == [1, 3]


def test_ids_of_turns() -> None:
    state = TrainingState()
    state.end_token_ids = frozenset({0})
    two = [{"role": "assistant"}, {"role": "tool"}, {"role": "assistant"}]
    assert turn_ids(two, None, state) == [None, None]
    # A template that ends no result with the end of a turn, and opens no turn.
    assert turn_ids(two, [1, 0, 7, 2, 0], state) == [None, None]
    state.generation_prompt_ids = (8, 9)
    assert turn_ids(two, [1, 0, 7, 0, 8, 9, 2], state) == [[1, 0], [2]]
    assert turn_ids(two, [1, 0, 7, 8, 9, 2, 0], state) == [[1, 0], [2, 0]]
    # A result that has the opening in its text.
    assert turn_ids(two, [1, 0, 8, 9, 8, 9, 2, 0], state) == [None, None]
    assert turn_ids(two[:2], [1, 0, 7, 0], state) == [[1, 0]]
    assert turn_ids(two[:1], [1, 2], state) == [[1, 2]]
    copy = pickle.loads(pickle.dumps(state))
    assert turn_ids(two, [1, 0, 2, 0], copy) == [[1, 0], [2, 0]]
    assert turn_ids(two, [1, 0, 7, 0, 2, 0], copy) == [None, None]
