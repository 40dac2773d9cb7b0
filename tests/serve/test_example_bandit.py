from __future__ import annotations

import pytest
from built_in import Play

from openreward_gym import OpenRewardEnv
from openreward_gym.errors import ConfigurationError, OpenRewardGymError
from openreward_gym.serve.examples import bandit_tasks, solution


@pytest.mark.parametrize(("split", "tasks"), [("train", 8), ("test", 2)])
def test_every_scripted_solution_is_rewarded(play: Play, split: str, tasks: int) -> None:
    specs = bandit_tasks.task_specs(split)
    assert len(specs) == tasks
    for index, spec in enumerate(specs):
        (output,) = play("bandit", solution("bandit", spec), split=split, index=index)
        assert (output.text, output.reward, output.finished) == ("The arm paid.", 1.0, True)


@pytest.mark.parametrize(
    ("answer", "reward"),
    [("a", 1.0), ("M", 1.0), (" k, I think", 1.0), ("n", 0.0), ("Z", 0.0), ("7", 0.0), ("\N{REPLACEMENT CHARACTER}a", 0.0)],
)
def test_the_first_letter_decides(play: Play, answer: str, reward: float) -> None:
    (output,) = play("bandit", [answer], split="train", index=3)
    assert (output.reward, output.finished) == (reward, True)


def test_a_task_may_name_its_own_letters(examples: str) -> None:
    with OpenRewardEnv("bandit", base_url=examples) as env:
        for answer, reward in (("Z", 1.0), ("a", 0.0)):
            observation, _ = env.reset(options={"task_spec": {"machine": 3, "letters": "z"}})
            assert "Machine 3" in str(observation)
            assert env.step(answer)[1] == reward


@pytest.mark.parametrize("letters", ["", 3, None])
def test_a_task_without_letters_is_refused(examples: str, letters: object) -> None:
    with (
        OpenRewardEnv("bandit", base_url=examples) as env,
        pytest.raises(OpenRewardGymError, match="a task of `bandit` must be"),
    ):
        env.reset(options={"task_spec": {"letters": letters}})
    with pytest.raises(ConfigurationError, match="needs 'letters'"):
        solution("bandit", {"letters": letters})
