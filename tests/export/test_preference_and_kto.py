"""Preference pairs begin where two rollouts part; KTO rows are balanced and mixed."""

from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from export_rollouts import assistant, call, episode, png, result, user

from openreward_gym import export
from openreward_gym.export.formats.trl import interleaved
from openreward_gym.export.select import Facts
from openreward_gym.types import ImageBlock, Message, Rollout, ToolCall, ToolSpec


def two(good: list[Any], bad: list[Any], **fields: Any) -> list[Rollout]:
    return [episode(*good, reward=1.0, group="g", **fields), episode(*bad, reward=0.0, group="g", **fields)]


def pairs(rollouts: list[Rollout], **options: Any) -> list[dict[str, Any]]:
    return list(export.to_dataset(rollouts, format="preference", **options))


def dropped(rollouts: list[Rollout], tmp_path: Path, **options: Any) -> dict[str, int]:
    report = export.write(rollouts, tmp_path, formats=["preference"], **options).formats["preference"]
    return dict(report.dropped_rows + report.excluded)


def test_pair_is_one_message_each_after_the_shared_history() -> None:
    shared = [assistant("", call("weather", {"city": "Oslo"}, id="x1")), result("rain", id="x1")]
    again = [assistant("", call("weather", {"city": "Oslo"}, id="y9")), result("rain", id="y9")]
    (row,) = pairs(two([*shared, assistant("It rains.")], [*again, assistant("Sun!"), user("Sure?"), assistant("Yes")]))
    assert [message["role"] for message in row["prompt"]] == ["user", "assistant", "tool"]
    assert row["chosen"] == [{"role": "assistant", "content": "It rains."}]
    assert row["rejected"] == [{"role": "assistant", "content": "Sun!"}]
    assert row["tools"]
    # Other call ids are no difference.
    assert row["prompt"][1]["tool_calls"][0]["id"] == row["prompt"][2]["tool_call_id"] == "call_0_0"


def test_pair_can_part_at_a_call() -> None:
    (row,) = pairs(two([assistant("", call("a", {"n": 1})), result("r")], [assistant("", call("a", {"n": 2})), result("r")]))
    arguments = [row[side][0]["tool_calls"][0]["function"]["arguments"] for side in ("chosen", "rejected")]
    assert arguments == [{"n": 1}, {"n": 2}]
    assert not any(message["role"] == "tool" for side in ("chosen", "rejected") for message in row[side])


def test_whole_trajectories_only_when_asked() -> None:
    good = [assistant("", call("a", {"n": 1}, id="1")), result("r", id="1"), assistant("end"), user("thanks")]
    (row,) = pairs(two(good, [assistant("no")]), whole_trajectories=True)
    assert [message["role"] for message in row["chosen"]] == ["assistant", "tool", "assistant"]


def test_whole_trajectories_have_no_turn_that_is_not_to_be_trained(tmp_path: Path) -> None:
    """TRL has a loss on all of a completion: a given turn in it, or one that ended badly, would be trained."""
    for middle in (assistant("I was ab", ended="length"), assistant("said by others", weight=0.0)):
        good = [assistant("", call("a", {"n": 1}, id="1")), result("r", id="1"), middle, user("Go on."), assistant("end")]
        rollouts = two(good, [assistant("no")])
        assert "the chosen side has a turn that is not to be trained" in dropped(rollouts, tmp_path, whole_trajectories=True)
        assert len(pairs(rollouts)) == 1
    cut = two([assistant("yes")], [assistant("", call("a", {}, id="1")), result("r", id="1"), assistant("so", ended="length")])
    (row,) = pairs(cut, whole_trajectories=True)
    assert len(row["rejected"]) == 3


@pytest.mark.parametrize(
    ("rollouts", "why"),
    [
        ([episode(assistant("a"), group="g")], "alone in its group"),
        ([episode(assistant("a"), group="g"), episode(assistant("b"), group="g")], "its group has one reward only"),
        (two([assistant("same")], [assistant("same")]), "one says no more than the other"),
        (
            two(
                [assistant("", call("a", {}, id="1")), result("x", id="1"), assistant("1")],
                [assistant("", call("a", {}, id="1")), result("y", id="1"), assistant("2")],
            ),
            "the first difference is not in the model's turns",
        ),
        (two([assistant("", call("a", None, text="{"))], [assistant("b")]), "the chosen side has a malformed call"),
        (
            two([assistant("a")], [assistant("", call("a", None, text="{"))]),
            "the rejected side has a malformed call (malformed_calls='keep' writes it as text)",
        ),
        (two([assistant("a", stop_reason="length")], [assistant("b")]), "the chosen side is a turn ended by length"),
    ],
)
def test_why_there_is_no_pair(rollouts: list[Rollout], why: str, tmp_path: Path) -> None:
    reasons = dropped(rollouts, tmp_path)
    assert why in reasons
    assert export.write(rollouts, tmp_path, formats=["preference"]).rows == {"preference": 0}


def test_other_tools_are_no_pair(tmp_path: Path) -> None:
    good, bad = two([assistant("a")], [assistant("b")])
    bad.tools = [ToolSpec(name="other")]
    assert "other tools" in dropped([good, bad], tmp_path)


def test_other_images_are_no_pair(tmp_path: Path) -> None:
    rollouts = [
        episode(Message(role="user", blocks=(ImageBlock(data=png(n, 1)),)), assistant(str(n)), reward=float(n), group="g")
        for n in (1, 2)
    ]
    assert "the first difference is not in the model's turns" in dropped(rollouts, tmp_path)


def test_malformed_rejected_call_is_kept_when_asked() -> None:
    (row,) = pairs(two([assistant("a")], [assistant("", call("a", None, text='{"x'))]), malformed_calls="keep")
    assert row["rejected"][0]["tool_calls"][0]["function"]["arguments"] == '{"x'


def test_gap_ties_number_and_repetitions_of_pairs(tmp_path: Path) -> None:
    rollouts = [episode(assistant(f"answer {n}"), reward=n / 4, group="g") for n in range(5)]
    assert len(pairs(rollouts, max_pairs=None)) == 10
    assert len(pairs(rollouts, max_pairs=None, min_gap=0.5)) == 6
    clearest = pairs(rollouts, max_pairs=1)
    assert clearest[0]["chosen"][0]["content"] == "answer 4"
    assert clearest[0]["rejected"][0]["content"] == "answer 0"
    assert dropped(rollouts, tmp_path)["more than 4 pairs per group"] == 6
    same = [episode(assistant("good"), reward=1.0, group="g") for _ in range(2)] + [
        episode(assistant("bad"), reward=0.0, group="g")
    ]
    assert len(pairs(same, max_pairs=None)) == 1
    assert pairs(rollouts, seed=1) == pairs(rollouts, seed=1)


def test_length_ratio() -> None:
    rollouts = two([assistant("x" * 5000)], [assistant("no")])
    assert len(pairs(rollouts)) == 1
    assert len(pairs(rollouts, length_ratio=2.0)) == 0


def test_groups_are_tasks_where_no_group_is_named() -> None:
    rollouts = [episode(assistant(f"{task} {reward}"), reward=reward, task=task) for task in "ab" for reward in (0.0, 1.0)]
    rows = pairs(rollouts)
    assert sorted((row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows) == [
        ("a 1.0", "a 0.0"),
        ("b 1.0", "b 0.0"),
    ]


def test_prefix_is_equal_byte_for_byte_in_every_pair() -> None:
    chance = random.Random(0)
    rollouts = []
    for group in range(20):
        for sample in range(4):
            turns = []
            for turn in range(chance.randrange(1, 5)):
                choice = chance.randrange(2)
                identity = f"{sample}-{turn}"
                turns += [assistant("", call("go", {"to": choice}, id=identity)), result(f"at {choice}", id=identity)]
            rollouts.append(episode(*turns, assistant("end"), reward=chance.random(), group=str(group)))
    by_id = {rollout.id: rollout for rollout in rollouts}
    rows = pairs(rollouts, max_pairs=None)
    assert len(rows) > 50
    for row in rows:
        at = len(row["prompt"])
        chosen, rejected = by_id[row["rollout_id"]], by_id[row["rejected_rollout_id"]]
        assert chosen.reward is not None
        assert rejected.reward is not None
        assert chosen.reward > rejected.reward
        histories = [
            [
                [replace(block, call_id="") if isinstance(block, ToolCall) else block for block in message.blocks]
                for message in side.messages[:at]
            ]
            for side in (chosen, rejected)
        ]
        assert histories[0] == histories[1]
        assert row["chosen"] != row["rejected"]
        assert len(row["chosen"]) == len(row["rejected"]) == 1


def test_kto_labels_balance_and_last_turn(tmp_path: Path) -> None:
    rollouts = [
        episode(assistant("first"), user("go on"), assistant(f"{n}"), reward=float(n % 4 == 0), task=str(n)) for n in range(40)
    ]
    rows = export.to_dataset(rollouts, format="kto")
    assert rows.column_names == ["prompt", "completion", "label", "tools", "rollout_id"]
    assert sum(rows["label"]) * 2 == len(rows) == 20
    assert all(len(row["prompt"]) == 3 and len(row["completion"]) == 1 for row in rows)
    assert len(export.to_dataset(rollouts, format="kto", balance_labels=False, turns="all")) == 80
    report = export.write(rollouts, tmp_path, formats=["kto"])
    assert report.formats["kto"].excluded == {"balanced by label": 20}


def test_kto_neighbours_are_of_different_tasks() -> None:
    rollouts = [episode(assistant(f"{task} {n}"), reward=float(n % 2), task=str(task)) for task in range(5) for n in range(8)]
    by_id = {rollout.id: rollout.task.id for rollout in rollouts}
    order = [by_id[identity] for identity in export.to_dataset(rollouts, format="kto")["rollout_id"]]
    assert len(order) == 40
    assert all(a != b for a, b in itertools.pairwise(order))


def test_interleaving_keeps_all_when_one_group_is_most() -> None:
    facts = [Facts(n, "big" if n < 9 else n, "t", "e", 1.0, 1) for n in range(12)]
    order = [fact.group for fact in interleaved(facts, random.Random(0))]
    assert len(order) == 12
    assert order[:7:2] == ["big"] * 4


def test_kto_threshold() -> None:
    rollouts = [episode(assistant(str(reward)), reward=reward, task=str(reward)) for reward in (0.0, 0.4, 0.6, 1.0)]
    labels = {row["completion"][0]["content"]: row["label"] for row in export.to_dataset(rollouts, format="kto")}
    assert labels == {"0.0": False, "0.4": False, "0.6": True, "1.0": True}
    strict = export.to_dataset(rollouts, format="kto", good_reward=0.9, balance_labels=False)
    assert sum(strict["label"]) == 1
    all_good = export.to_dataset([episode(assistant("x"), reward=1.0)], format="kto")
    assert all_good["label"] == [True]
    all_bad = export.to_dataset([episode(assistant("x"), reward=0.0)], format="kto")
    assert all_bad["label"] == [False]


def test_no_tool_result_is_ever_trained_on_in_pairs() -> None:
    rollouts = two(
        [assistant("", call("a", {"n": 1}, id="1")), result("SENTINEL", id="1"), assistant("ok")],
        [assistant("", call("a", {"n": 2}, id="1")), result("SENTINEL", id="1"), assistant("bad")],
    )
    for name, sides in (("preference", ("chosen", "rejected")), ("kto", ("completion",)), ("prompt_completion", ("completion",))):
        for row in export.to_dataset(rollouts, format=name):
            assert not any("SENTINEL" in json.dumps(row[side]) for side in sides)


def test_infinite_rewards_are_good_or_bad() -> None:
    """The middle is that of the finite rewards."""
    rewards = [-math.inf, 0.0, 1.0, math.inf]
    rollouts = [episode(assistant(f"{reward}"), reward=reward, task=f"{reward}") for reward in rewards]
    rows = export.to_dataset(rollouts, format="kto")
    assert {row["completion"][0]["content"]: row["label"] for row in rows} == {
        "-inf": False,
        "0.0": False,
        "1.0": True,
        "inf": True,
    }


def test_rollouts_without_a_row_do_not_count_for_the_balance() -> None:
    """Refusals are no bad examples: as many good rollouts as usable bad ones are taken."""
    good = [episode(assistant(f"good {n}"), reward=1.0, group=f"g{n}") for n in range(3)]
    bad = [episode(assistant(f"bad {n}"), reward=0.0, group=f"b{n}") for n in range(3)]
    refused = [episode(assistant("no", ended="refusal"), reward=0.0, group=f"r{n}") for n in range(20)]
    dataset, report = export.to_dataset([*good, *refused, *bad], format="kto", return_report=True)
    assert sorted(dataset["label"]) == [False] * 3 + [True] * 3
    assert report.excluded == {"a turn ended by refusal": 20}
