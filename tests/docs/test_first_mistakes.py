"""The page of first mistakes is what the commands print, in a terminal and in a file, without control codes, in 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterator

import first_mistakes
import pytest
from first_mistakes import PAGE, Bench, Mistake
from terminals import COLUMNS, Output

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place() -> Iterator[Bench]:
    with first_mistakes.bench() as made:
        yield made


@pytest.fixture(scope="module")
def in_terminal(place: Bench) -> dict[Mistake, Output]:
    return first_mistakes.outputs_of(place)


def _steady(text: str) -> str:
    """Return a text without what differs between machines: what a system says about a name that it cannot look up."""
    return re.sub(r"\(\[?(?:Errno|SSL)[^)]*\)", "(...)", " ".join(re.sub("-{9,}", "", text).split()))


def test_the_page_is_current(in_terminal: dict[Mistake, Output]) -> None:
    written = first_mistakes.page(in_terminal)
    assert _steady(written) == _steady(PAGE.read_text(encoding="utf-8")), "run python tests/docs/first_mistakes.py"


def test_a_server_that_does_not_answer_is_named_within_ten_seconds(place: Bench) -> None:
    waiting = [mistake for mistake in first_mistakes.all_mistakes() if mistake.until]
    assert len(waiting) >= 2
    for mistake in waiting:
        # Alone, and once more where the machine was busy with other things.
        assert any(place.make(mistake, terminal=False).seconds < 10 for _ in range(3)), mistake


def test_each_mistake_has_its_exit_code_and_no_traceback(in_terminal: dict[Mistake, Output]) -> None:
    assert len(in_terminal) >= 30
    for mistake, output in in_terminal.items():
        assert output.code == mistake.code, (mistake, output)
        assert "\x1b" not in output.text, mistake
        if not mistake.typed.startswith("python "):
            assert "Traceback" not in output.text, mistake
            lines = [line for line in output.text.splitlines() if "http" not in line]
            assert max(map(len, lines), default=0) <= COLUMNS, (mistake, output.text)


@pytest.mark.matrix  # as long as the other tests of this page together
def test_a_file_gets_the_same_in_one_line(place: Bench) -> None:
    for mistake, output in first_mistakes.outputs_of(place, terminal=False).items():
        assert output.code == mistake.code, (mistake, output)
        assert "\x1b" not in output.text, mistake
        assert "\r" not in output.text, mistake
