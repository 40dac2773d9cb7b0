"""Rows are valid by NeMo Gym's own types, of its version 0.4 and of the newest."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from nemo_environments import VERSIONS, nemo_gym_python
from nemo_rows import KINDS, WITH_IMAGE_IN_RESULT
from rollout_strategies import rollouts

from openreward_gym.importers import nemo_gym
from openreward_gym.types import ImageBlock, Rollout
from openreward_gym.types.rollout import line_of

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=VERSIONS)
def types(request: pytest.FixtureRequest) -> tuple[str, Path]:
    return request.param, nemo_gym_python(request.param)


def faults(python: Path, records: list[Rollout], folder: Path) -> list[list[str]]:
    path = folder / "rows.jsonl"
    path.write_text("".join(line_of(nemo_gym.row_of(record)) + "\n" for record in records), encoding="utf-8")
    program = str(Path(__file__).with_name("nemo_types.py"))
    done = subprocess.run([python, program, path], check=True, capture_output=True, text=True, cwd=folder)
    found: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_rows_of_every_kind(types: tuple[str, Path], tmp_path: Path) -> None:
    name, python = types
    found = dict(zip(KINDS, faults(python, list(KINDS.values()), tmp_path), strict=True))
    # Outputs of calls were text until version 0.5.
    refused = WITH_IMAGE_IN_RESULT if name == "nemo-gym-0.4" else ()
    assert {kind for kind, those in found.items() if those} == set(refused)


def test_rows_of_any_rollout(types: tuple[str, Path], tmp_path: Path) -> None:
    name, python = types
    records: list[Rollout] = []

    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None)
    @given(rollouts)
    def collected(record: Rollout) -> None:
        if isinstance(record.metadata, dict):
            record.metadata.pop("nemo_gym", None)
        records.append(Rollout.from_line(record.to_line()))

    collected()
    if name == "nemo-gym-0.4":
        records = [record for record in records if not has_image_in_result(record)]
    assert len(records) > 300
    assert [those for those in faults(python, records, tmp_path) if those] == []


def has_image_in_result(record: Rollout) -> bool:
    return any(
        message.role == "tool" and any(isinstance(block, ImageBlock) for block in message.blocks) for message in record.messages
    )
