from __future__ import annotations

import json
from importlib import resources

import jsonschema
import pytest
from hypothesis import given, settings
from rollout_strategies import EXAMPLES, rollouts

from openreward_gym.store.schema import PUBLISHED, rollout_schema
from openreward_gym.types import Rollout

SCHEMA = json.loads(resources.files("openreward_gym.store").joinpath(PUBLISHED).read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_published_schema_is_the_model_s() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert rollout_schema() == SCHEMA, "make it again: see openreward_gym/store/schema.py"


@given(rollouts)
@settings(max_examples=EXAMPLES, deadline=None)
def test_every_line_is_valid(rollout: Rollout) -> None:
    VALIDATOR.validate(json.loads(rollout.to_line()))


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"schema": "openreward-gym/rollout/2", "id": "x", "status": "completed"},
        {"schema": "openreward-gym/rollout/1", "id": "x", "status": "odd"},
        {"schema": "openreward-gym/rollout/1", "id": "x", "status": "completed", "messages": [{"role": "robot"}]},
    ],
)
def test_what_is_no_rollout_is_not_valid(line: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(line)
