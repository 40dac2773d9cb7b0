"""`upload=True`: the platform gets the run while it is collected, and the collection never waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from collectors import once_each
from rollout_platform import KEY, Platform, hang

from openreward_gym import collect
from openreward_gym.collect import engine
from openreward_gym.collect.progress import Reporter
from openreward_gym.errors import ConfigurationError
from openreward_gym.platform import upload
from openreward_gym.types import AssistantMessage, Message, ToolCall, ToolSet


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setenv("OPENREWARD_API_KEY", KEY)
    started = Platform().start()
    yield started
    started.stop()


async def right(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"}, "c")])


class Watch(Reporter):
    """Record the lines of text, and set `played` when playing has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.played = threading.Event()

    def stopped(self) -> None:
        super().stopped()
        self.played.set()

    def say(self, text: str) -> None:
        self.lines.append(text)


def play(server_url: str, output: Path, **arguments: Any) -> Any:
    return collect("echo", right, **{"base_url": server_url, "output": output, "repeats": 4, "progress": False, **arguments})


def test_the_platform_gets_the_run_while_it_is_collected(server_url: str, tmp_path: Path, platform: Platform) -> None:
    result = play(server_url, tmp_path / "run", upload=platform.url)
    assert result.uploaded is not None
    assert (result.uploaded.sent, result.uploaded.complete) == (20, True)
    assert len(platform.rollouts) == 20
    assert platform.violations == []
    assert play(server_url, tmp_path / "without").uploaded is None


def test_a_platform_that_hangs_is_not_waited_for(server_url: str, tmp_path: Path, platform: Platform) -> None:
    watch, had_played = Watch(), []

    def hangs(handler: Any, take: Any) -> None:
        hang(60, until=watch.played)(handler, take)
        had_played.append(watch.played.is_set())

    platform.faults.append(hangs)
    result = play(server_url, tmp_path / "run", upload=platform.url, progress=watch)
    assert had_played == [True]
    assert result.uploaded.complete
    assert watch.lines[-1] == "upload: 20 rollouts sent"


def test_a_platform_that_is_away_gets_it_later(
    server_url: str, tmp_path: Path, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "UPLOAD_PATIENCE_S", 0.2)
    platform.stop()
    watch = Watch()
    result = play(server_url, tmp_path / "run", upload=platform.url, progress=watch)
    assert result.coverage.complete
    assert result.uploaded.pending == 20
    assert watch.lines[-1] == f"the run keeps what was not sent; send it with: openreward-gym upload {tmp_path / 'run'}"
    platform.start()
    # The next one goes on, be it a collection or the command.
    assert play(server_url, tmp_path / "run", upload=platform.url, resume=True).uploaded.complete
    assert upload(tmp_path / "run", base_url=platform.url).sent == len(platform.rollouts) == once_each(result.store) == 20


def test_without_a_key_nothing_begins(server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENREWARD_API_KEY", "OPENREWARD_API_URL", "OPENREWARD_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="API key"):
        play(server_url, tmp_path / "run", upload=True)
    assert list(tmp_path.iterdir()) == []
