"""A selection keeps what it says, and counts everything else by reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from export_rollouts import assistant, call, episode, result
from hypothesis import given, settings
from hypothesis import strategies as st

from openreward_gym import export
from openreward_gym.errors import ConfigurationError
from openreward_gym.export import Select
from openreward_gym.store import RolloutStore
from openreward_gym.types import Rollout, Usage


def selected(rollouts: list[Rollout], **criteria: Any) -> list[str]:
    """Return the last message's text of each rollout that is left."""
    rows = export.to_dataset(rollouts, select=Select(**criteria))
    return [row["messages"][-1]["content"] for row in rows]


def excluded(rollouts: list[Rollout], folder: Path, **criteria: Any) -> dict[str, int]:
    form = export.write(rollouts, folder, select=Select(**criteria)).formats["sft"]
    assert form.read == form.selected + form.excluded.total() == len(rollouts)
    return dict(form.excluded)


def graded(*rewards: float | None, group: str = "g") -> list[Rollout]:
    return [episode(assistant(f"{group} {reward}"), reward=reward, group=group, task=group) for reward in rewards]


def test_reward_range_is_inclusive_and_no_reward_is_no_zero(tmp_path: Path) -> None:
    rollouts = graded(0.0, 0.5, 1.0, None)
    assert selected(rollouts, min_reward=0.5) == ["g 0.5", "g 1.0"]
    assert selected(rollouts, max_reward=0.5) == ["g 0.0", "g 0.5"]
    assert excluded(rollouts, tmp_path, min_reward=0.5, max_reward=0.7) == {
        "no reward": 1,
        "reward below 0.5": 1,
        "reward above 0.7": 1,
    }


def test_which_reward_counts() -> None:
    steps = [assistant("", call("f", {}, id="1")), result("a", id="1", reward=0.9), assistant("x", reward=-0.5)]
    rollout = episode(*steps, reward=0.4)
    rollout.final_reward = -0.5
    assert len(selected([rollout], min_reward=0.3)) == 1
    assert len(selected([rollout], min_reward=0.3, reward="last")) == 0
    assert len(selected([rollout], min_reward=0.8, reward="max")) == 1


def test_names_labels_steps_and_runs(tmp_path: Path) -> None:
    first = episode(assistant("first"), task="a", labels=["good"], step=1, run="one", model={"name": "m"})
    second = episode(assistant("second"), task="b", labels=[{"name": "bad"}], step=2, run="two")
    third = episode(assistant("third"), task="c")
    both = [first, second, third]
    assert selected(both, tasks=["a", "c"]) == ["first", "third"]
    assert selected(both, labels="good") == ["first"]
    assert selected(both, without_labels=["bad"]) == ["first", "third"]
    assert selected(both, steps=(2, None)) == ["second"]
    assert selected(both, steps=(None, 1)) == ["first"]
    assert selected(both, runs="two") == ["second"]
    assert selected(both, models="m") == ["first"]
    assert selected(both, environments="other") == []
    assert selected(both, splits="train") == ["first", "second", "third"]
    assert excluded(both, tmp_path, labels="good") == {"label missing": 2}


def test_turns_and_tokens(tmp_path: Path) -> None:
    short = episode(assistant("short", usage=Usage(input_tokens=10, output_tokens=5)))
    long = episode(assistant("one"), assistant("long", usage=Usage(input_tokens=100, output_tokens=5)))
    unknown = episode(assistant("unknown"))
    rollouts = [short, long, unknown]
    assert selected(rollouts, max_turns=1) == ["short", "unknown"]
    assert selected(rollouts, min_turns=2) == ["long"]
    assert excluded(rollouts, tmp_path, max_tokens=50) == {"more than 50 tokens": 1, "tokens not observed": 1}


def test_predicate_sees_the_rollout(tmp_path: Path) -> None:
    rollouts = graded(0.0, 1.0)
    assert selected(rollouts, where=lambda rollout: rollout.reward == 1.0) == ["g 1.0"]
    assert excluded(rollouts, tmp_path, where=lambda rollout: False) == {"refused by `where`": 2}


def test_best_of_n_looks_at_the_first_n_of_each_group(tmp_path: Path) -> None:
    rollouts = graded(0.1, 0.3, 0.9, group="a") + graded(0.2, 0.1, group="b")
    assert selected(rollouts, best_of=2) == ["a 0.3", "b 0.2"]
    assert selected(rollouts, best_of=9) == ["a 0.9", "b 0.2"]
    assert excluded(rollouts, tmp_path, best_of=2) == {"not the best of 2": 3}


def test_top_k_and_ties_go_to_fewer_turns() -> None:
    rollouts = graded(0.1, 0.9, 0.5)
    assert selected(rollouts, top_k=2) == ["g 0.9", "g 0.5"]
    longer = episode(assistant("a"), assistant("longer"), reward=1.0, group="g")
    assert selected([longer, *graded(1.0)], top_k=1) == ["g 1.0"]


def test_one_per_group_is_by_chance_and_the_same_each_time() -> None:
    rollouts = [rollout for group in "abcdef" for rollout in graded(0.0, 0.5, 1.0, group=group)]
    once = selected(rollouts, one_per_group=True)
    assert [text[0] for text in once] == list("abcdef")
    assert once == selected(rollouts, one_per_group=True)
    assert len({tuple(selected(rollouts, one_per_group=True, seed=seed)) for seed in range(5)}) > 1


def test_what_cannot_be_trained_on_does_not_win_its_group() -> None:
    broken = episode(assistant("", call("f", None, text="{")), reward=1.0, group="g")
    assert selected([broken, *graded(0.5)], best_of=2) == ["g 0.5"]


def test_balance(tmp_path: Path) -> None:
    rollouts = graded(*[0.0] * 6, group="a") + graded(1.0, 1.0, group="b")
    texts = selected(rollouts, balance="task")
    assert sorted(texts) == ["a 0.0", "a 0.0", "b 1.0", "b 1.0"]
    assert excluded(rollouts, tmp_path, balance="reward") == {"balanced by reward": 4}
    assert len(selected(rollouts, balance="environment")) == 8


def test_duplicates(tmp_path: Path) -> None:
    rollouts = [episode(assistant(text)) for text in ("It rains.", "It rains.", "it   RAINS", "It snows.")]
    assert selected(rollouts, dedupe="exact") == ["It rains.", "it   RAINS", "It snows."]
    assert selected(rollouts, dedupe="normalized") == ["It rains.", "It snows."]
    assert excluded(rollouts, tmp_path, dedupe="normalized") == {"duplicate (normalized)": 2}
    # Other ids of calls are no difference; other arguments are, even where they are called id.
    calls = [
        episode(assistant("", call("f", {"id": n}, id=str(i))), result("r", id=str(i)), assistant("x"))
        for i, n in enumerate((1, 1, 2))
    ]
    assert len(selected(calls, dedupe="exact")) == 2


def test_limit(tmp_path: Path) -> None:
    rollouts = graded(0.1, 0.2, 0.3)
    assert selected(rollouts, limit=2) == ["g 0.1", "g 0.2"]
    assert excluded(rollouts, tmp_path, limit=2, top_k=3) == {"beyond the first 2": 1}


def test_mistakes_are_told() -> None:
    with pytest.raises(ConfigurationError, match="best_of must be an integer from 1"):
        Select(best_of=0)
    with pytest.raises(ConfigurationError, match="nothing meets both"):
        Select(min_reward=1.0, max_reward=0.0)
    with pytest.raises(ConfigurationError, match=r"dedupe must be one of .*exact, normalized"):
        Select(dedupe="fuzzy")  # type: ignore[arg-type]


def test_a_store_a_view_a_path_and_paths_are_the_same(tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "run") as store:
        for rollout in graded(0.0, 0.5, 1.0):
            store.append(rollout)
    rows = [
        list(export.to_dataset(source))
        for source in (store, store[:], str(tmp_path / "run"), tmp_path / "run", [tmp_path / "run"])
    ]
    assert all(dataset == rows[0] for dataset in rows)
    assert len(rows[0]) == 3
    assert len(export.to_dataset(store.filter(min_reward=0.5))) == 2
    assert len(export.to_dataset([tmp_path / "run", tmp_path / "run"])) == 3
    assert len(export.to_dataset(iter(graded(1.0)))) == 1


criteria = st.fixed_dictionaries(
    {},
    optional={
        "min_reward": st.floats(0, 1),
        "status": st.sampled_from(["any", "completed", "truncated"]),
        "best_of": st.integers(1, 4),
        "top_k": st.integers(1, 3),
        "one_per_group": st.booleans(),
        "balance": st.sampled_from(["task", "environment", "reward"]),
        "dedupe": st.sampled_from(["exact", "normalized"]),
        "limit": st.integers(1, 5),
        "max_turns": st.integers(1, 2),
    },
)


@settings(max_examples=60, deadline=None)
@given(criteria, st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, None]), st.sampled_from("ab"), st.booleans()), max_size=8))
def test_everything_that_was_read_is_exported_or_counted(
    given_criteria: dict[str, Any], played: list[tuple[Any, str, bool]]
) -> None:
    from openreward_gym.export.formats import format_of
    from openreward_gym.export.options import ExportOptions
    from openreward_gym.export.pipeline import Pipeline
    from openreward_gym.export.reader import RolloutReader

    rollouts = [
        episode(assistant(f"{n % 3}"), reward=reward, group=group, status="completed" if done else "truncated")
        for n, (reward, group, done) in enumerate(played)
    ]
    for name in ("sft", "prompt_completion", "preference", "kto", "prompts", "openai", "atif", "rollouts"):
        pipeline = Pipeline(RolloutReader.of(rollouts), format_of(name), Select(**given_criteria), ExportOptions())
        rows = list(pipeline.rows())
        report = pipeline.report
        assert report.rows == len(rows)
        assert report.read == len(rollouts) == report.selected + report.excluded.total()
