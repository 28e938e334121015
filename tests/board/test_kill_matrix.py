"""A session that is killed at any step is put back exactly, on every board. A minute: so not among the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.board import BOARDS
from tests.board.matrix import kills

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("name", BOARDS)
def test_every_step(name: str, tmp_path: Path) -> None:
    cells = list(kills(name, tmp_path))
    assert [cell.label for cell in cells if not cell.exact] == []
    assert [cell.label for cell in cells if cell.again] == []
    # The matrix is worth nothing if it did not kill where it hurts.
    switching = BOARDS[name].start != BOARDS[name].target
    assert {cell.left for cell in cells} >= (
        {"nothing", "note", "mode"} if switching else {"nothing", "note", "clocks"}
    )
    assert {"during jetson_clocks", "in the body", "during jetson_clocks --restore FILE"} <= {
        cell.label for cell in cells
    }
