"""What people see of a verification on a terminal: how far it is while it runs, and its table in colour.

Elsewhere the table is plain text, the same for whoever reads it, and nothing is said of the progress.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from segspec.parity.process import Doing, Tell
from segspec.parity.report import HEAD, RIGHT, as_text, remarks, rows, verdict
from segspec.parity.verify import Report
from segspec.parity.words import clean


@contextmanager
def progress(backends: int) -> Iterator[Tell]:
    """What a verification with so many backends tells of its progress: drawn on standard error, if it is a terminal."""
    columns = [
        TextColumn("{task.fields[networks]}"),
        BarColumn(24),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    ]
    reached: dict[tuple[str, int], float] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as shown:
        task = shown.add_task("starting", networks="", total=None)

        def tell(doing: Doing) -> None:
            reached[doing.backend, doing.done] = doing.share
            if doing.done:  # they come one after another
                reached[doing.backend, doing.done - 1] = 1
            shown.update(
                task,
                description=f"{doing.network}: {doing.backend}, {doing.run or 'importing the module'}",
                networks=f"{doing.done}/{doing.total} networks",
                completed=sum(reached.values()),
                total=backends * doing.total,
            )

        yield tell


def show(reports: Sequence[Report]) -> None:
    """Print the reports: on a terminal as wide as it is and in colour (unless NO_COLOR is set), else as plain text."""
    if not sys.stdout.isatty():
        print(as_text(reports))
        return
    console = Console(highlight=False)
    cells = rows(reports)
    if cells:
        made = Table(box=SIMPLE_HEAD, pad_edge=False)
        for head, side in zip(HEAD, RIGHT.ljust(len(HEAD)), strict=True):
            made.add_column(head, justify="right" if side == "r" else "left", overflow="fold")
        for row in cells:
            made.add_row(
                *map(_text, row[:-1]),
                _text(row[-1], "bold red" if "DIFFER" in row[-1] else "green" if row[-1].startswith("ok") else ""),
            )
        console.print(made)
    for remark in remarks(reports):
        console.print(_text(remark))
    fine = bool(reports) and all(report.ok for report in reports)
    console.print(_text(verdict(reports), "bold green" if fine else "bold red"))


def _text(text: str, style: str = "") -> Text:
    """A text that moves no cursor: a traceback may quote anything."""
    return Text(clean(text), style)
