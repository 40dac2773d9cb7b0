"""Programs that record rollouts, run with the official client and with ours: the platform receives the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openreward
import pytest
from rollout_platform import KEY, Platform
from rollout_programs import PROGRAMS

from openreward_gym import compat
from openreward_gym.store.store import RolloutStore


def received(platform: Platform) -> list[dict[str, Any]]:
    """What a platform has, without ids and times."""
    assert platform.violations == []
    rollouts = []
    for identity, begin in platform.rollouts.items():
        assert begin.pop("eventId") == identity
        assert begin.pop("timestamp") > 1_700_000_000_000
        messages = platform.messages[identity]
        for message in messages:
            assert message.pop("rolloutEventId") == identity
            assert message.pop("timestamp") > 1_700_000_000_000
            assert len(message.pop("eventId")) == 36
        rollouts.append({**begin, "messages": messages, "update": platform.updates.get(identity)})
    return sorted(rollouts, key=lambda rollout: (rollout["runName"], rollout.get("rolloutName", "")))


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_program_sends_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Platform() as theirs, Platform() as ours:
        monkeypatch.setenv("OPENREWARD_API_KEY", KEY)
        monkeypatch.setenv("OPENREWARD_API_URL", theirs.url)
        PROGRAMS[name](openreward.OpenReward(), openreward)
        assert not list(tmp_path.iterdir())
        monkeypatch.setenv("OPENREWARD_API_URL", ours.url)
        PROGRAMS[name](compat.OpenReward(), compat)
        expected, got = received(theirs), received(ours)
    assert expected
    if name == "facts":
        # Ours also says the step where the rollout begins.
        assert [rollout.pop("step") for rollout in got] == [0, 1, 2]
    for message in (message for rollout in got for message in rollout["messages"]):
        message["metadata"].pop("ended", None)  # the provider's report, which the official client drops
    assert got == expected
    # All of it is recorded beside.
    runs = [RolloutStore(path) for path in (tmp_path / "runs").iterdir()]
    records = [rollout for run in runs for rollout in run]
    assert {record.id for record in records} == set(ours.rollouts)
    assert all(record.status == "completed" for record in records)


def test_the_pieces_of_a_turn_are_one_message_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PROGRAMS["own_messages"](compat.OpenReward(base_url="http://127.0.0.1:9"), compat)
    (record,) = RolloutStore("runs/custom-runs")
    assert [message.role for message in record.messages] == ["system", "user", *["assistant", "tool"] * 3]
    assert all([block.type for block in turn.blocks] == ["text", "reasoning", "tool_call"] for turn in record.messages[2::2])
    assert (record.reward, record.status, record.stop_reason) == (1.0, "completed", "finished")
