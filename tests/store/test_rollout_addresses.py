"""The address of a rollout in the viewer."""

from __future__ import annotations

from pathlib import Path

import pytest

from openreward_gym.recording.recorder import Recorder
from openreward_gym.store.store import viewer_address
from openreward_gym.types import UserMessage


def test_an_address_takes_any_name() -> None:
    address = viewer_address("my run", "a/b & c?#=\ud800", "id+1")
    assert address == "http://127.0.0.1:7860/#/rollouts?run=my%20run%2Fa%2Fb%20%26%20c%3F%23%3D%3F&sample=id%2B1"


def test_the_recorder_says_where_to_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Recorder(tmp_path / "my run") as recorder:
        for number in range(3):
            recorder.create(id=f"r{number}", print_messages=number == 2).log(UserMessage("Hm?"))
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        f"Recording http://127.0.0.1:7860/#/rollouts?run=my%20run&sample=r0  (openreward-gym view '{tmp_path}/my run')",
        "Recording http://127.0.0.1:7860/#/rollouts?run=my%20run&sample=r2",
    ]
    assert "http" not in captured.out
