"""The table of environment variables names all that the installed SDK reads, and what is said of ours is so."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import openreward
import pytest
from sdk_variables import variables_of

import openreward_gym
from openreward_gym import logs, variables
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import RetryLimits
from openreward_gym.serve.asgi import quiet

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/environment-variables.md").read_text(encoding="utf-8")
ROWS = [row.split("|") for row in PAGE.splitlines() if row.startswith("| `")]
TABLE = {name: cells[2].strip() for cells in ROWS for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", cells[1])}
READ_BY_THE_SDK = variables_of(Path(openreward.__file__).parent)


def test_the_sdk_s_source_is_understood() -> None:
    assert {"OPENREWARD_API_KEY", "OPENREWARD_STARTING_RIDE_OUT_S", "LOG_LEVEL", "CHAT_PROVIDER"} <= set(READ_BY_THE_SDK)
    assert {"OPENREWARD_WEB_MAX_ATTEMPTS", "TAVILY_MAX_RESULTS"} <= set(READ_BY_THE_SDK)


@pytest.mark.parametrize("name", sorted(READ_BY_THE_SDK))
def test_the_table_has_a_variable_of_the_sdk(name: str) -> None:
    assert TABLE[name] in ("read", "passed through", "read, passed through", "no effect")


def test_the_table_has_no_variable_that_nobody_reads() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(openreward_gym.__file__).parent.rglob("*.py"))
    for name, effect in TABLE.items():
        if name in READ_BY_THE_SDK:
            is_read = effect.startswith("read")
            assert not is_read or name in sources or name.startswith("OPENAI_"), name


def test_the_format_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(variables.LOGGING_FORMAT, raising=False)
    assert variables.rollout_logging_format() == "pretty"
    for value, expected in (("", "pretty"), ("STRUCTURED", "structured"), (" pretty ", "pretty")):
        monkeypatch.setenv(variables.LOGGING_FORMAT, value)
        assert variables.rollout_logging_format() == expected
    monkeypatch.setenv(variables.LOGGING_FORMAT, "off")
    with pytest.raises(ConfigurationError, match="='off' is not a format of printed messages"):
        variables.rollout_logging_format()


def test_the_time_for_a_backend_that_starts() -> None:
    assert RetryLimits.from_environ({"OPENREWARD_STARTING_RIDE_OUT_S": "5"}).starting_s == 5.0
    with pytest.raises(ConfigurationError, match="OPENREWARD_STARTING_RIDE_OUT_S='soon' is not a number"):
        RetryLimits.from_environ({"OPENREWARD_STARTING_RIDE_OUT_S": "soon"})


def test_servers_are_quiet_unless_a_level_is_set() -> None:
    assert quiet({}) == {"OPENREWARD_DISABLE_UPDATE_CHECK": "1", "OPENREWARD_LOG_LEVEL": "WARNING"}
    assert quiet({"LOG_LEVEL": "DEBUG"}) == {"OPENREWARD_DISABLE_UPDATE_CHECK": "1"}
    assert quiet({"OPENREWARD_LOG_LEVEL": "INFO"})["OPENREWARD_DISABLE_UPDATE_CHECK"] == "1"


PROGRAM = """
import logging
from openreward_gym.logs import set_up_logging
set_up_logging()
set_up_logging()
logging.getLogger("openreward_gym.upload").info("told")
logging.getLogger("openreward_gym.upload").debug("not told")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("openreward_gym").exception("failed")
"""


@pytest.mark.parametrize(
    ("environ", "out", "err"),
    [
        ({}, 0, ["failed"]),
        ({"LOG_LEVEL": "info"}, 0, ["INFO openreward_gym.upload: told", "ERROR openreward_gym: failed"]),
        ({"OPENREWARD_LOG_LEVEL": "ERROR", "LOG_LEVEL": "DEBUG"}, 0, ["ERROR openreward_gym: failed"]),
        ({"OPENREWARD_USE_STRUCTURED_LOGS": "1", "OPENREWARD_BUILD_SHA": "abc"}, 2, []),
    ],
)
def test_log_lines_of_a_program(environ: dict[str, str], out: int, err: list[str]) -> None:
    names = ("LOG_LEVEL", "OPENREWARD_LOG_LEVEL", "OPENREWARD_USE_STRUCTURED_LOGS", "OPENREWARD_BUILD_SHA")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env={**kept, **environ}, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == out
    assert [line for line in done.stderr.splitlines() if "told" in line or "failed" in line] == err
    if lines:
        assert [(line["message"], line["severity"]) for line in lines] == [("told", "INFO"), ("failed", "ERROR")]
        assert all(line["build_sha"] == "abc" and line["timestamp"].endswith("Z") for line in lines)
        assert "ZeroDivisionError" in lines[1]["exception"]


def test_handlers_of_the_program_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENREWARD_LOG_LEVEL", "DEBUG")
    logger = logging.getLogger("openreward_gym")
    before, level = list(logger.handlers), logger.level
    try:
        logs.set_up_logging()
        assert logger.level == logging.DEBUG
        assert logger.handlers == before
    finally:
        logger.setLevel(level)
