"""A report as a heat map: the nodes of a network in the graph's order, in groups, by checks; a cell is the worst error.

Everything is said on two scales of powers of ten: the error itself, and the error over its limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from segspec.parity.compare import Comparison
from segspec.parity.findings import paths
from segspec.parity.report import severity
from segspec.parity.verify import Report
from segspec.parity.words import number, power

CHECKS = ("nodes", "replay", "gradients", "gradient replay", "statistics", "sgd", "adam")
"""Those of the first columns; outputs are shown one by one elsewhere, and all that is said of starts is one check."""
LARGEST = 40
"""Rows of one group, where it can be divided."""

Column = tuple[str, str, str, str]


@dataclass(frozen=True)
class Cell:
    """The worst of what was compared of one node by one check; ``shade`` says how near the limit it is.

    Shades: ``z`` exactly equal, ``a`` to ``d`` below the limit by more than three, two, one and no power of ten, ``e``
    to ``g`` above it by up to one, three, and more, ``x`` nothing to compare, ``n`` without a verdict.
    """

    error: str
    ratio: str
    shade: str
    title: str = ""


@dataclass(frozen=True)
class Row:
    """A node, or a tensor of the network as a whole."""

    name: str
    path: str
    what: str
    cells: tuple[Cell | None, ...]
    wrong: bool


@dataclass(frozen=True)
class Group:
    """Rows of one block; without a path they stand by themselves. ``cells`` are the worst of each column."""

    path: str
    what: str
    rows: tuple[Row, ...]
    cells: tuple[Cell | None, ...]
    open: bool

    @property
    def wrong(self) -> bool:
        """Whether anything in it differs."""
        return any(row.wrong for row in self.rows)


@dataclass(frozen=True)
class Heat:
    """The map. ``heads`` are the columns' heads in three rows: of each the text and how many columns it spans."""

    columns: tuple[Column, ...]
    heads: tuple[tuple[tuple[str, int], ...], ...]
    groups: tuple[Group, ...]


def heat(report: Report) -> Heat:
    """The heat map of one report."""
    known = dict(report.nodes)
    held: dict[str, dict[Column, Comparison]] = {}
    for item in report.comparisons:
        if item.check != "outputs":
            path = next((path for path in paths(item.subject) if path in known), "")
            cells = held.setdefault(path or item.subject.partition(" after ")[0], {})
            column = _column(item)
            if column not in cells or _rank(item) > _rank(cells[column]):
                cells[column] = item
    columns = list(dict.fromkeys(_column(item) for item in report.comparisons if item.check != "outputs"))
    checks = dict.fromkeys([*CHECKS, *(column[0] for column in columns)])
    columns = [column for check in checks for column in columns if column[0] == check]
    inputs = [(name, "") for name in held if name not in known and name.startswith("input ")]
    others = [(name, "") for name in held if name not in known and not name.startswith("input ")]
    found = {finding.path for finding in (report.first, *report.faults) if finding}
    groups = [
        _group(path, nodes, held, columns, found, len(known) <= LARGEST)
        for part in (inputs, list(report.nodes), others)
        for path, nodes in divide(part)
    ]
    return Heat(tuple(columns), _heads(columns), tuple(groups))


def divide(nodes: Sequence[tuple[str, str]], prefix: str = "") -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Consecutive nodes by the block that they are in, large blocks by theirs; the block's path, empty for none."""

    def head(node: tuple[str, str]) -> str:
        inside = node[0].startswith(prefix)  # the block itself stands after what it holds
        return prefix + node[0].removeprefix(prefix).partition(".")[0] if inside else node[0]

    alone: list[tuple[str, str]] = []
    for path, held in ((path, list(held)) for path, held in groupby(nodes, head)):
        if len(held) == 1:
            alone += held
            continue
        if alone:
            yield "", alone
            alone = []
        if len(held) > LARGEST:
            yield from divide(held, f"{path}.")
        else:
            yield path, held
    if alone:
        yield "", alone


def _group(
    path: str,
    nodes: Sequence[tuple[str, str]],
    held: dict[str, dict[Column, Comparison]],
    columns: Sequence[Column],
    found: set[str],
    small: bool,
) -> Group:
    rows = []
    worst: dict[Column, Comparison] = {}
    for node, what in nodes:
        cells = held.get(node, {})
        for column, item in cells.items():
            if column not in worst or _rank(item) > _rank(worst[column]):
                worst[column] = item
        wrong = any(not item.ok for item in cells.values())
        name = node.removeprefix(f"{path}.") if path and node != path else node
        rows.append(Row(name, node, what, tuple(_cell(cells.get(column)) for column in columns), wrong))
    opened = small or not path or any(node in found for node, _ in nodes)
    what = next((what for node, what in nodes if node == path), "")
    return Group(path, what, tuple(rows), tuple(_cell(worst.get(column)) for column in columns), opened)


def _column(item: Comparison) -> Column:
    check = "start" if item.mode == "start" else item.check
    return check, item.size, item.mode, item.dtype


def _rank(item: Comparison) -> tuple[bool, float]:
    return not item.ok, severity(item)


def _cell(item: Comparison | None) -> Cell | None:
    if item is None:
        return None
    ratio = severity(item)
    title = ""
    if not item.ok:
        title = "" if item.what else f"{item.subject}: "  # a node is named by its row
        title += f"error {number(item.error)}, limit {number(item.limit)}" + (f"; {item.note}" if item.note else "")
    return Cell(power(item.error), "" if item.error is None else power(ratio), _shade(item, ratio), title)


def _shade(item: Comparison, ratio: float) -> str:
    if not item.gates:
        return "n"
    if item.error is None:
        return "x"
    if item.ok:
        bounds = [(0.0, "z"), (1e-3, "a"), (1e-2, "b"), (1e-1, "c")]
        return next((shade for bound, shade in bounds if ratio <= bound), "d")
    return "e" if ratio <= 10 else "f" if ratio <= 1000 else "g"


def _heads(columns: Sequence[Column]) -> tuple[tuple[tuple[str, int], ...], ...]:
    checks = [(check, len(list(held))) for check, held in groupby(columns, lambda column: column[0])]
    sizes = [(key[1], len(list(held))) for key, held in groupby(columns, lambda column: column[:2])]
    passes = [(f"{mode} {dtype.replace('float', 'f')}", 1) for _, _, mode, dtype in columns]
    return tuple(checks), tuple(sizes), tuple(passes)
