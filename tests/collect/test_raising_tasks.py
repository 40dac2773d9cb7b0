"""Exceptions of an environment's own code that the same task raises again are not retried; an outage is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import raising_environment as raising
from installing import kept_environment
from launch import served

from openreward_gym import collect
from openreward_gym.collect import RetryBudget
from openreward_gym.collect.failure_limit import is_lasting
from openreward_gym.collect.retries import is_deterministic
from openreward_gym.protocol.wire import exception_words
from openreward_gym.store import Failure

SCRIPT = Path(raising.__file__)


def attempts(url: str, output: Path, **options: Any) -> dict[int, int]:
    """Return the number of failed attempts by task."""
    result = collect("raising", "random:1", base_url=url, output=output, fail_on_error=0, progress=False, **options)
    assert result.coverage.successful == 1
    assert all(failure.kind == "setup_failed" for failure in result.store.failures())
    return dict(Counter(int(failure.extra["index"]) for failure in result.store.failures()))


ONCE = dict.fromkeys((raising.CONSTRUCTOR, raising.VALIDATION, raising.SETUP, raising.PROMPT), 1)


@pytest.mark.parametrize("errors", ["exception", "stacktrace"])
def test_an_exception_that_comes_again_is_not_retried(errors: str, tmp_path: Path) -> None:
    with served(SCRIPT, arguments=[errors]) as url:
        assert attempts(url, tmp_path / "run") == {**ONCE, raising.OUTAGE: 3}
        budgets = {"setup_failed": RetryBudget(2, first_wait_s=0.0)}
        counts = attempts(url, tmp_path / "told", retries=budgets)
        assert counts == {**dict.fromkeys(ONCE, 2), raising.OUTAGE: 2}  # as the user said


def test_a_run_that_an_outage_stopped_can_be_continued(tmp_path: Path) -> None:
    with served(SCRIPT, arguments=["exception"]) as url:
        results = {
            number: collect("raising", "random:1", base_url=url, output=tmp_path / str(number), tasks=[number], progress=False)
            for number in (raising.OUTAGE, raising.SETUP)
        }
    assert {number: result.resumable for number, result in results.items()} == {raising.OUTAGE: True, raising.SETUP: False}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("the server answered POST /create with 500: ConnectionRefusedError: [Errno 111]", False),
        ("the server answered POST /create with 500: httpx.ReadTimeout", False),
        ("the server answered GET /messages with 500: openai.APIConnectionError: Connection error.", False),
        ("TimeoutError", False),
        ("the server answered POST /create with 500: ValueError: no city: ConnectionError: x", True),
        ("the server answered POST /create with 500: RuntimeError: broken", True),
        ("the server answered POST /create with 500: Internal Server Error", True),
    ],
)
def test_which_failures_come_again(words: str, expected: bool) -> None:
    assert is_lasting(Failure("environment", "setup_failed", message=words)) is expected


def test_a_server_that_hides_its_errors_is_asked_again(tmp_path: Path) -> None:
    with served(SCRIPT, arguments=["none"]) as url:
        assert attempts(url, tmp_path / "run") == dict.fromkeys([*ONCE, raising.OUTAGE], 3)


def test_in_this_process(tmp_path: Path) -> None:
    result = collect(raising.Raising, "random:1", output=tmp_path / "run", fail_on_error=0, progress=False)
    counts = Counter(failure.extra["index"] for failure in result.store.failures())
    assert counts == {**ONCE, raising.OUTAGE: 3}


@pytest.mark.matrix
@pytest.mark.timeout(600)
def test_the_oldest_server(tmp_path: Path) -> None:
    python = kept_environment("openreward-0.1.131", "openreward==0.1.131")
    with served(SCRIPT, python=str(python), arguments=["exception"]) as url:
        assert attempts(url, tmp_path / "run") == {**ONCE, raising.OUTAGE: 3}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ValueError: no city", True),
        ("KeyError: 'x'", True),
        ("AssertionError", True),
        ("AssertionError:", True),
        ("pydantic_core._pydantic_core.ValidationError: 1 validation error for A", True),
        ("TimeoutError: ValueError: x", False),
        ("RuntimeError: no disk left", False),
        ("ConnectionError: refused", False),
        ("OSError: [Errno 28]", False),
        ("MyValueError: x", False),
        ("there was a ValueError: x", False),
        ("Internal Server Error", False),
        ("", False),
    ],
)
def test_words_of_exceptions(words: str, expected: bool) -> None:
    assert is_deterministic(words) is expected


def test_the_end_of_a_traceback() -> None:
    begin = "Traceback (most recent call last):\n"
    first = begin + '  File "a.py", line 1, in f\n    g()\n    ~^^\nOSError: x\n'
    second = begin + '  File "b.py", line 1, in f\n    g()\npkg.ValidationError: 1 error\nfield\n  missing\n'
    assert exception_words(first) == "OSError: x"
    assert exception_words(first + "\nDuring handling of the above exception, another exception occurred:\n\n" + second) == (
        "pkg.ValidationError: 1 error\nfield\n  missing"
    )
    assert exception_words(begin) == begin
    assert exception_words("KeyError: 1") == "KeyError: 1"
