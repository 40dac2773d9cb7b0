"""Recording with the official client's API without a key, and with a platform that is down, hangs or refuses."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from rollout_platform import KEY, Handler, Platform, hang, status

from openreward_gym.compat.api.rollouts.rollout import RolloutAPI, rollout_api
from openreward_gym.compat.api.rollouts.serializers.base import AssistantMessage, UserMessage
from openreward_gym.compat.models import Config, send_loop_config
from openreward_gym.errors import ConfigurationError, MessageError
from openreward_gym.hiding import Secret
from openreward_gym.store.store import RolloutStore

# Records without ever closing anything: the end of the program has to do it.
PROGRAM = """
import sys
from openreward_gym.compat.api.rollouts.rollout import rollout_api
from openreward_gym.compat.api.rollouts.serializers.base import AssistantMessage, UserMessage
from openreward_gym.hiding import read_secret

key = read_secret("OPENREWARD_API_KEY")
api = rollout_api(api_key=key, api_url=sys.argv[1], shutdown_timeout=float(sys.argv[2]))
for number in range(3):
    rollout = api.create(run_name=f"run-{number % 2}", rollout_name=f"episode-{number}", environment="GeneralReasoning/CTF")
    rollout.log(UserMessage("Go"))
    rollout.log(AssistantMessage("Done"), reward=1.0, is_finished=True)
print("recorded")
"""


def play(folder: Path, url: str, *, key: str = KEY, timeout_s: float = 2.0) -> tuple[str, float]:
    """Run the program; return its standard error without the addresses of the viewer, and the seconds it took."""
    environ = {**os.environ, "OPENREWARD_API_KEY": key}
    began = time.monotonic()
    command = [sys.executable, "-c", PROGRAM, url, str(timeout_s)]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "recorded\n"), done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Recording http://127.0.0.1:7860/")]
    return "\n".join(lines), time.monotonic() - began


def recorded(folder: Path) -> list[str]:
    runs = sorted((folder / "runs").iterdir())
    return sorted(rollout.name for run in runs for rollout in RolloutStore(run))


@pytest.fixture
def platform() -> Iterator[Platform]:
    with Platform() as platform:
        yield platform


@pytest.fixture
def usual_s(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds that the program takes when it sends nothing."""
    return play(tmp_path_factory.mktemp("usual"), "http://127.0.0.1:9", key="")[1]


def test_without_a_key_nothing_is_sent_and_all_is_recorded(tmp_path: Path, platform: Platform) -> None:
    words, _ = play(tmp_path, platform.url, key="")
    assert words == ""
    assert platform.requests == 0
    assert recorded(tmp_path) == ["episode-0", "episode-1", "episode-2"]


def test_a_platform_that_is_down_is_said_once_per_run_and_the_rest_is_sent_later(
    tmp_path: Path, platform: Platform, usual_s: float
) -> None:
    platform.stop()
    words, took_s = play(tmp_path, platform.url)
    assert took_s < usual_s + 2.0 + 2.0
    lines = words.splitlines()
    assert len(lines) == 2  # there are two runs
    for number, line in enumerate(lines):
        assert f"runs/run-{number}: 0 rollouts sent, {2 - number} not" in line
        assert "no server answers there" in line
        assert line.endswith(f". Send the rest with `openreward-gym upload runs/run-{number}`.")
    assert recorded(tmp_path) == ["episode-0", "episode-1", "episode-2"]
    platform.start()
    environ = {**os.environ, "OPENREWARD_API_KEY": KEY, "OPENREWARD_API_URL": platform.url}
    for number in range(2):
        command = [sys.executable, "-m", "openreward_gym.cli", "upload", f"runs/run-{number}"]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    assert sorted(rollout["rolloutName"] for rollout in platform.rollouts.values()) == recorded(tmp_path)
    assert platform.violations == []


def test_a_platform_that_never_answers_does_not_keep_the_program(tmp_path: Path, platform: Platform, usual_s: float) -> None:
    platform.environments.clear()
    platform.faults.extend([hang(60)] * 10)
    words, took_s = play(tmp_path, platform.url)
    assert took_s < usual_s + 2.0 + 2.0
    assert len(words.splitlines()) == 2
    assert "Send the rest with `openreward-gym upload runs/run-0`." in words
    assert len(recorded(tmp_path)) == 3


def test_a_refused_key_is_said_and_not_shown(tmp_path: Path, platform: Platform) -> None:
    wrong = "sk-refused-3f9a77c1d2"

    def repeats(handler: Handler, take: object) -> None:
        handler.answer(403, {"detail": f"the key {handler.headers['X-API-Key']} is unknown"})

    platform.faults.extend([repeats] * 5)
    words, _ = play(tmp_path, platform.url, key=wrong, timeout_s=10.0)
    assert "rejects" in words
    assert wrong not in words
    assert "sk-refused" not in words
    assert len(recorded(tmp_path)) == 3


def test_a_key_shows_nowhere(
    tmp_path: Path, platform: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENREWARD_API_KEY", raising=False)
    caplog.set_level(logging.DEBUG)
    key = "sk-hidden-3f9a77c1d2"
    config = send_loop_config(platform.url, Secret(key))
    config.api_key = key
    platform.faults.append(status(422))
    api = RolloutAPI(config, 5.0)
    rollout = api.create(run_name="a-run", metadata={"note": f"my key is {key}"})
    rollout.log(UserMessage(f"It is {key}."))
    try:
        rollout.log(3)  # type: ignore[arg-type]
    except MessageError as error:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
        shown = str([frame.locals for frame in frames if "openreward_gym" in frame.filename])
    api.close()
    texts = [repr(each) for each in (api, rollout, config, Config(1.0, config), vars(api))]
    assert not any("sk-hidden" in text for text in [*texts, shown, caplog.text])
    for each in (api, config, rollout):
        with pytest.raises(TypeError):
            pickle.dumps(each)
    files = [path.read_text(encoding="utf-8") for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert files
    assert not any("sk-hidden" in text for text in files)
    assert "[redacted OPENREWARD_API_KEY]" in RolloutStore("runs/a-run")[0].messages[0].text


@pytest.mark.parametrize("key", ["sk-1234\n5678", "sk-1234é5678"])
def test_a_key_that_no_header_carries_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigurationError, match="the api_key has a line end") as caught:
        rollout_api(api_key=Secret(key), api_url="http://127.0.0.1:9")
    assert "1234" not in str(caught.value)


def test_uploading_can_be_switched_off_and_facts_may_change(
    tmp_path: Path, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with rollout_api(api_key=Secret(KEY), api_url=platform.url, upload=False) as api:
        rollout = api.create(run_name="a-run", environment="GeneralReasoning/CTF")
        rollout.log(UserMessage("Go"))
        assert (rollout.environment_id, rollout.variant_id, rollout.logged_messages) == (None, None, 1)
    assert platform.requests == 0
    assert len(RolloutStore("runs/a-run")) == 1


def test_a_rollout_is_written_once_the_program_holds_it_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    api = rollout_api(api_key=None, api_url="http://127.0.0.1:9")
    rollout = api.create(run_name="a-run", rollout_name="first")
    rollout.log(AssistantMessage("a"), is_finished=True)
    rollout.log(AssistantMessage("b"), reward=2.0)
    rollout = api.create(run_name="a-run", rollout_name="second")
    assert not (tmp_path / "runs/a-run/rollouts").exists() or not len(RolloutStore("runs/a-run"))
    third = api.create(run_name="a-run", rollout_name="third")
    (first,) = RolloutStore("runs/a-run")
    assert ([message.text for message in first.messages], first.reward, first.status) == (["a", "b"], 2.0, "completed")
    rollout.log(UserMessage("still open"))
    third.close()
    third.close()
    with pytest.raises(ConfigurationError, match="has ended"):
        third.log(UserMessage("too late"))
    api.close()
    assert [one.name for one in RolloutStore("runs/a-run")] == ["first", "second"]
