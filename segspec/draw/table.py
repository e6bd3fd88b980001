"""Plain text tables, as wide as what they hold, the same on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "") -> str:
    """Columns under their heads; ``right`` has an ``r`` for each column that is set flush right."""
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    aligned = right.ljust(len(head))

    def line(cells: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(cells, widths, aligned, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(head), "  ".join("-" * width for width in widths), *map(line, rows)])
