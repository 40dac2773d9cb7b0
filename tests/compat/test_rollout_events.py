"""The official client and ours log the same messages; what the platform receives is compared."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openreward
import pytest
from logged_messages import OTHER, SAME, Logged
from openreward.api.rollouts.rollout import RolloutAPI as OfficialAPI
from openreward.models import SendLoopConfig as OfficialConfig
from rollout_platform import KEY, Platform

from openreward_gym.compat.api.rollouts import rollout as ours
from openreward_gym.compat.api.rollouts.serializers import base
from openreward_gym.compat.models import RolloutInfo, RunInfo, send_loop_config
from openreward_gym.hiding import Secret

ADDED = {"usage", "stop_reason", "model", "origin", "is_error", "ended", "role"}
"""What our events add to the metadata of the official client's."""
EACH_ITS_OWN = ("eventId", "rolloutEventId", "timestamp")


def official_api(url: str) -> Any:
    config = vars(send_loop_config(url, None))
    return OfficialAPI(OfficialConfig(**{**config, "api_key": KEY}))


def own_api(url: str) -> ours.RolloutAPI:
    return ours.rollout_api(api_key=Secret(KEY), api_url=url, shutdown_timeout=60.0)


class Received:
    """What two platforms have received of the same messages, by the name of the run."""

    def __init__(self, theirs: Platform, ours: Platform) -> None:
        self.platforms = (theirs, ours)
        self.raised: dict[str, str] = {}

    def of(self, run: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The messages of a run at both platforms."""
        return self._messages(self.platforms[0], run), self._messages(self.platforms[1], run)

    def _messages(self, platform: Platform, run: str) -> list[dict[str, Any]]:
        (identity,) = (key for key, rollout in platform.rollouts.items() if rollout["runName"] == run)
        messages = platform.messages[identity]
        assert all(message["rolloutEventId"] == identity for message in messages)
        return [{name: value for name, value in message.items() if name not in EACH_ITS_OWN} for message in messages]


def log(rollout: Any, classes: Any, messages: list[Logged]) -> None:
    for message in messages:
        getattr(rollout, message.logger)(message.make(classes), **message.arguments)


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Received]:
    here = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("rollouts"))
    try:
        with Platform() as theirs, Platform() as own:
            result = Received(theirs, own)
            with official_api(theirs.url) as official, own_api(own.url) as api:
                for name, messages in itertools.chain(SAME.items(), ((name, other.messages) for name, other in OTHER.items())):
                    try:
                        log(official.create(run_name=name), openreward, messages)
                    except Exception as error:
                        result.raised[name] = f"{type(error).__name__}: {error}"
                    log(api.create(run_name=name), base, messages)
            yield result
            assert theirs.violations == []
            assert own.violations == []
    finally:
        os.chdir(here)


def without_additions(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "metadata": {name: value for name, value in event["metadata"].items() if name not in ADDED}}


@pytest.mark.parametrize("name", SAME)
def test_both_send_the_same_events(received: Received, name: str) -> None:
    assert name not in received.raised
    theirs, own = received.of(name)
    assert theirs
    assert [without_additions(event) for event in own] == theirs


@pytest.mark.parametrize("name", OTHER)
def test_where_the_official_client_loses_something_ours_sends_it(received: Received, name: str) -> None:
    theirs, own = received.of(name)
    expected = OTHER[name]
    if expected.theirs is None:
        assert name in received.raised
    else:
        assert theirs == [common(number, facts) for number, facts in enumerate(expected.theirs)]
    assert [without_additions(event) for event in own] == [common(number, facts) for number, facts in enumerate(expected.ours)]


def common(number: int, facts: dict[str, Any]) -> dict[str, Any]:
    return {"eventType": "message", "index": number, "isFinished": False, "metadata": {}, **facts}


SPEC = {"id": 3, "options": [None, {"a": None}], "left": None, "inner": {"b": None}}


def test_the_beginning_and_the_facts_of_a_rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begins: list[dict[str, Any]] = []
    updates: list[dict[str, Any]] = []
    with Platform() as theirs, Platform() as own:
        for platform, api, infos in ((theirs, official_api(theirs.url), openreward), (own, own_api(own.url), None)):
            run_info: Any = openreward.RunInfo if infos else RunInfo
            rollout_info: Any = openreward.RolloutInfo if infos else RolloutInfo
            with api:
                api.run_info = run_info("my-model", run_type="train", lr=1e-5, checkpoint="c1")
                rollout = api.create(
                    "a-run",
                    "episode-0",
                    "GeneralReasoning/CTF",
                    "hard",
                    "train",
                    {"harness": "of the metadata", "none": None, "model": "m"},
                    SPEC,
                    run_info("my-model", checkpoint="c2", batch_size=8),
                )
                assert (rollout.environment_id, rollout.variant_id) == ("env-1", "variant-1")
                facts = rollout.config.run_info or {}
                assert (rollout.config.run_name, facts["lr"], facts["optimizer"]) == ("a-run", 1e-5, None)
                message = (openreward if infos else base).UserMessage
                rollout.log(message("Go"), rollout_info=rollout_info(7, temperature=0.5, top_k=3))
                rollout.log(message("On"), rollout_info=rollout_info(task_index=7, duration_ms=98765, num_compactions=2))
                assert rollout.logged_messages == 2
            (begin,) = platform.rollouts.values()
            assert begin["eventId"] == rollout.event_id
            assert {event["environment_id"] for event in platform.messages[rollout.event_id]} == {"env-1"}
            begins.append({name: value for name, value in begin.items() if name not in EACH_ITS_OWN})
            updates.append(platform.updates[rollout.event_id])
            assert platform.violations == []
    assert begins[0]["task_spec"] == {"id": 3, "options": [None, {"a": None}], "inner": {}}
    assert begins[0]["run_info"]["checkpoint"] == "c2"
    assert begins[1] == {**begins[0], "metadata": {"model": "m"}}
    # The official client sends an update with each message, ours one with all facts.
    assert updates[0] == {"task_index": 7, "duration_ms": 98765, "num_compactions": 2}
    assert updates[1] == {**updates[0], "temperature": 0.5, "top_k": 3, "harness": "of the metadata"}
