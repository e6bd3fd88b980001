"""What people see of a verification on a terminal: how far it is while it runs, and its table in colour.

Elsewhere the table is plain text, the same for whoever reads it, and nothing is said of the progress.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from segspec.parity.process import Doing, Tell
from segspec.parity.report import as_text, remarks, rows, verdict
from segspec.parity.verify import Report
from segspec.parity.words import clean

CHECK, COUNT, WORST, VERDICT = 0, 2, 3, 6
NUMBERS = (2, 4, 5)
"""Columns of the table, and which of them are set flush right."""


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
                total=(backends if doing.backend else 1) * doing.total,  # an executor tells of whole networks
            )

        yield tell


def show(reports: Sequence[Report]) -> None:
    """Print the reports: on a terminal as wide as it is and in colour (unless NO_COLOR is set), else as plain text."""
    if not sys.stdout.isatty():
        print(as_text(reports))
        return
    console = Console(highlight=False)
    if cells := rows(reports):
        console.print(*_table(cells, console.width), sep="\n", soft_wrap=True)
    for remark in remarks(reports):
        console.print(_text(remark))
    fine = bool(reports) and all(report.ok for report in reports)
    console.print(_text(verdict(reports), "bold green" if fine else "bold red"))


def _table(cells: Sequence[Sequence[str]], width: int) -> Iterator[Text]:
    """The table, a line a row, however narrow: names are cut where there is no room, numbers and verdicts are not."""
    several = len({row[0] for row in cells}) > 1
    columns = [
        ("check", [row[4] for row in cells]),
        ("pass", [" ".join(filter(None, [*row[1:3], row[3].replace("float", "f")])) for row in cells]),
        ("", [row[5] for row in cells]),
        ("output, or the worst", [row[6] for row in cells]),
        *((head, [row[index] for row in cells]) for head, index in (("error", 7), ("limit", 8), ("", 9))),
    ]
    sizes = [max(map(cell_len, [head, *texts])) for head, texts in columns]
    free = width - sum(sizes) + sizes[CHECK] + sizes[WORST] - 2 * (len(sizes) - 1)
    if free < 20:
        free += sizes[COUNT] + 2 * 2
        sizes[COUNT] = sizes[WORST] = 0
    sizes[CHECK] = min(sizes[CHECK], max(free - sizes[WORST], 15 if sizes[WORST] else 5))
    sizes[WORST] = min(sizes[WORST], free - sizes[CHECK])

    def line(texts: Sequence[str], style: str = "", verdict: str = "") -> Text:
        made = Text(style=style)
        for index, (text, size) in enumerate(zip(texts, sizes, strict=True)):
            if size or not text:
                cut = text if cell_len(text) <= size else set_cell_size(text, size - 1) + "…"
                space = " " * (size - cell_len(cut))
                made.append(space + cut if index in NUMBERS else cut + space, verdict if index == VERDICT else "")
                made.append("  " if size and index < VERDICT else "")
        return made

    yield line([head for head, _ in columns], "bold")
    yield Text("─" * min(width, sum(sizes) + 2 * (sum(map(bool, sizes)) - 1)))
    for index, row in enumerate(cells):
        if several and (not index or row[0] != cells[index - 1][0]):
            yield _text(row[0], "bold")
        status = "bold red" if "DIFFER" in row[9] else "green" if row[9].startswith("ok") else ""
        yield line([clean(texts[index]) for _, texts in columns], verdict=status)


def _text(text: str, style: str = "") -> Text:
    """A text that moves no cursor: a traceback may quote anything."""
    return Text(clean(text), style)
