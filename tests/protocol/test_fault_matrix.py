"""Every fault at every step, on real sockets: no tool runs twice, nothing is lost, left or late, and the page says so."""

from __future__ import annotations

import fault_matrix
import pytest
from fault_matrix import DEADLINE_S, PAGE, ROWS, SECOND_RUN, UNDELETABLE, Cell, as_markdown, run_cell, run_matrix

from openreward_gym.protocol.transport import TRANSPORTS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
async def test_the_matrix(monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    monkeypatch.delenv("OPENREWARD_API_KEY", raising=False)
    cells = await run_matrix(transport)
    page = PAGE.read_text(encoding="utf-8")
    rows = {row.name: row for row in ROWS}
    # Silences, and the time in which a refused session's end is tried again, are told by a clock, and a busy machine is slow:
    # alone, each has its time.
    written = _written(page)
    for (name, step), cell in cells.items():
        is_left = cell.left > 0 and (name, step) not in UNDELETABLE
        if is_left or cell.seconds >= DEADLINE_S or cell.shown(step) != written.get((name, step)):
            cells[name, step] = await run_cell(rows[name], step, transport)
    for (name, step), cell in cells.items():
        _check(name, step, cell)
    assert as_markdown(cells) == page, "run `python tests/servers/fault_matrix.py` and read what changed"


def _check(name: str, step: str, cell: Cell) -> None:
    where = f"{name} at {step}: {cell}"
    assert cell.runs <= (2 if name == SECOND_RUN else 1), where
    assert cell.whole, where
    assert cell.seconds < DEADLINE_S, where
    assert cell.seen != "ok" or cell.runs == 1, where
    if (name, step) not in UNDELETABLE:
        assert cell.left == 0, where


def _written(page: str) -> dict[tuple[str, str], str]:
    table = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    head = [cell.strip() for cell in table[0][1:]]
    return {
        (row[0].strip(), step): cell.strip()
        for row in table[2:]
        for step, cell in zip(head, row[1:], strict=True)
        if cell.strip()
    }


def test_the_page_is_where_the_program_writes_it() -> None:
    assert PAGE.is_file()
    assert len(_written(PAGE.read_text(encoding="utf-8"))) > 400
    assert set(fault_matrix.STEPS) == {step for _, step in _written(PAGE.read_text(encoding="utf-8"))}
