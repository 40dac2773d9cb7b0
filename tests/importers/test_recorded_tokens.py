"""Token ids and log-probabilities that are not numbers: the turn is read, and the values stay as they came."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from test_atif import FOREIGN
from test_verifiers import ROW, sampled, trace

from openreward_gym.importers import read, verifiers
from openreward_gym.importers.shapes import with_tokens
from openreward_gym.types import Rollout, Sampled

NAMES = ("ids", "logprobs", "prompt")


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        ({"ids": [1, 2], "logprobs": [-1, -0.5], "prompt": [0]}, ((1, 2), (-1, -0.5), (0,), None)),
        ({"ids": [1, 2], "logprobs": [None, -0.5]}, ((1, 2), None, None, {"logprobs": [None, -0.5]})),
        ({"logprobs": [None]}, (None, None, None, {"logprobs": [None]})),
        ({"logprobs": [-0.5]}, (None, (-0.5,), None, None)),
        ({"ids": [1, 2], "logprobs": [-0.5]}, ((1, 2), None, None, {"logprobs": [-0.5]})),
        ({"ids": [1, None], "logprobs": [-1, -2], "prompt": [0]}, (None, None, (0,), {"ids": [1, None], "logprobs": [-1, -2]})),
        ({"ids": [True], "prompt": "0"}, (None, None, None, {"ids": [True], "prompt": "0"})),
        ({"ids": [], "logprobs": None}, (None, None, None, None)),
    ],
)
def test_values_that_do_not_fit_are_kept_aside(data: dict[str, Any], fields: tuple[Any, ...]) -> None:
    report = with_tokens(Sampled(model="m"), data, *NAMES)
    assert (report.token_ids, report.logprobs, report.prompt_token_ids, report.metadata) == fields
    assert report.model == "m"


@pytest.mark.parametrize("logprobs", [[None, -2.0], [None], [[-1.0, 2.0], None], "none", {"a": 1}])
def test_a_step_of_atif_keeps_its_text_without_its_logprobs(logprobs: Any, tmp_path: Path) -> None:
    trajectory = copy.deepcopy(FOREIGN)
    step = next(step for step in trajectory["steps"] if step.get("metrics", {}).get("logprobs"))
    step["metrics"]["logprobs"] = logprobs
    (tmp_path / "trajectory.json").write_text(json.dumps(trajectory))
    (rollout, *_) = read("atif", tmp_path / "trajectory.json")
    assert isinstance(rollout, Rollout)
    turn = next(message for message in rollout.messages if message.token_ids)
    assert turn.text
    assert turn.sampled is not None
    assert turn.sampled.logprobs is None
    assert turn.sampled.metadata is not None
    assert turn.sampled.metadata["logprobs"] == logprobs


def test_nodes_and_steps_of_verifiers_keep_their_text_without_their_logprobs() -> None:
    node = sampled("No.", [False, True])
    rollout = verifiers.rollout_of(trace({**node, "parent": None, "logprobs": [None]}), {})
    (turn,) = rollout.messages
    assert turn.sampled is not None
    assert (turn.text, turn.sampled.logprobs) == ("No.", None)
    assert (turn.sampled.metadata or {})["logprobs"] == [None]
    step = {"tokens": {"completion_ids": [3, 4], "completion_logprobs": [-0.5, None], "prompt_ids": [1]}, "response": {}}
    rollout = verifiers.rollout_of_result({**ROW, "trajectory": [step, step]}, {}, "x")
    report = rollout.messages[1].sampled
    assert report is not None
    assert (report.token_ids, report.logprobs, report.prompt_token_ids) == ((3, 4), None, (1,))
    assert report.metadata == {"completion_logprobs": [-0.5, None]}
