"""How comparisons are shown: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from segspec.draw.table import table
from segspec.parity.verify import Row


def as_text(rows: Sequence[Row]) -> str:
    """The table, its notes below it, and the verdict."""
    notes = list(dict.fromkeys(row.note for row in rows if row.note))
    cells = [
        [
            row.spec,
            row.size,
            row.mode,
            row.dtype,
            row.output,
            "×".join(map(str, row.shape)),
            "–" if row.error is None else f"{row.error:.1e}",
            f"{row.limit:.1e}",
            ("ok" if row.ok else "DIFFERS") + (f" [{notes.index(row.note) + 1}]" if row.note else ""),
        ]
        for row in rows
    ]
    head = ["spec", "size", "mode", "dtype", "output", "shape", "error", "limit", ""]
    parts = [table(head, cells, right="      rr")]
    parts += [f"[{index}] {note}" for index, note in enumerate(notes, 1)]
    wrong = sum(not row.ok for row in rows)
    pairs = " and ".join(dict.fromkeys(name for row in rows for name in row.backends))
    verdict = f"{pairs}: {len(rows) - wrong} of {len(rows)} comparisons agree"
    return "\n".join([*parts, verdict + (f", {wrong} differ" if wrong else "")])


def as_json(rows: Sequence[Row]) -> str:
    """``{"ok": …, "results": […]}``."""
    ok = bool(rows) and all(row.ok for row in rows)
    return json.dumps({"ok": ok, "results": [row.as_dict() for row in rows]}, indent=2)


def progress(text: str) -> None:
    """A line on a terminal's standard error that the next one replaces; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
