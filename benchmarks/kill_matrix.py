"""SIGKILL at every step of a power session, on every fake board: what it left, and whether the recovery put it right.

usage: .venv/bin/python benchmarks/kill_matrix.py [BOARD ...]      from the project's folder; needs no engine, no Jetson
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from tests.board import BOARDS
from tests.board.matrix import Cell, kills


def main(names: list[str]) -> int:
    """Print a table for each board, and a last line; 1 where one recovery was not exact."""
    console = Console(width=110, highlight=False)
    cells: list[Cell] = []
    for name in names or list(BOARDS):
        with tempfile.TemporaryDirectory() as folder:
            found = list(kills(name, Path(folder)))
        board = BOARDS[name]
        console.print(
            table(f"{board.model}: {board.modes[board.start].name} -> {board.modes[board.target].name}", found)
        )
        cells += found
    wrong = sum(not cell.exact or cell.again for cell in cells)
    console.print(
        f"{len(cells)} kills on {len(names or BOARDS)} boards; {len(cells) - wrong} put back exactly, {wrong} not"
    )
    return 1 if wrong else 0


def table(title: str, cells: list[Cell]) -> Table:
    """One row a kill."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("step", "killed", "mode left", "clocks left", "pending", "after the recovery"):
        made.add_column(column)
    for cell in cells:
        verdict = "as before" if cell.exact and not cell.again else "NOT as before"
        clocks = "locked" if cell.locked else "free"
        made.add_row(str(cell.step), cell.label, str(cell.mode), clocks, cell.left, verdict)
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
