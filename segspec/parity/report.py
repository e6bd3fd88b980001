"""How comparisons are shown: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from segspec.draw.table import table
from segspec.parity.verify import Row


def as_text(rows: Sequence[Row]) -> str:
    """The table, what its notes mean below it, and the verdict."""
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
            "ok" if row.ok else "DIFFERS",
        ]
        for row in rows
    ]
    head = ["spec", "size", "mode", "dtype", "output", "shape", "error", "limit", ""]
    parts = [table(head, cells, right="      rr")]
    parts += [f"{row.spec} {row.size} {row.mode} {row.dtype} {row.output}: {row.note}" for row in rows if _noted(row)]
    wrong = sum(not row.ok for row in rows)
    pairs = " and ".join(dict.fromkeys(name for row in rows for name in row.backends))
    parts.append(
        f"{pairs}: {len(rows) - wrong} of {len(rows)} comparisons agree" + (f", {wrong} differ" if wrong else "")
    )
    return "\n".join(parts)


def _noted(row: Row) -> bool:
    return bool(row.note) and (not row.ok or row.note.startswith("floor"))


def as_json(rows: Sequence[Row]) -> str:
    """``{"ok": …, "results": […]}``."""
    ok = bool(rows) and all(row.ok for row in rows)
    return json.dumps({"ok": ok, "results": [row.as_dict() for row in rows]}, indent=2)


def progress(text: str) -> None:
    """A line on a terminal's standard error that the next one replaces; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
