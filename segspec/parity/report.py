"""How comparisons are shown: a table for people, JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from segspec.draw.table import table
from segspec.parity.compare import Comparison
from segspec.parity.findings import Finding
from segspec.parity.plan import Size
from segspec.parity.verify import Report


@dataclass(frozen=True)
class Line:
    """One line of the table: all comparisons of one kind in one pass, the worst of them named."""

    spec: str
    size: str
    mode: str
    dtype: str
    check: str
    count: int
    wrong: int
    worst: Comparison

    @property
    def status(self) -> str:
        """The verdict of all of them."""
        if self.wrong:
            return f"{self.wrong} DIFFER{'S' if self.wrong == 1 else ''}"
        return "ok" if self.worst.gates else "–"


def lines(report: Report) -> list[Line]:
    """The table's lines: outputs one by one, everything else by kind."""
    groups: dict[tuple[str, str, str, str, str], list[Comparison]] = {}
    for item in report.comparisons:
        key = (item.size, item.mode, item.dtype, item.check, item.subject if item.check == "outputs" else "")
        groups.setdefault(key, []).append(item)
    return [
        Line(
            report.spec,
            size,
            mode,
            dtype,
            check,
            len(held),
            sum(not item.ok for item in held),
            max(held, key=severity),
        )
        for (size, mode, dtype, check, _), held in groups.items()
    ]


def severity(item: Comparison) -> float:
    """How far an error is on its way to the limit."""
    if item.error is None or not math.isfinite(item.error):
        return math.inf
    return item.error / item.limit if item.limit else (math.inf if item.error else 0.0)


HEAD = ["spec", "size", "mode", "dtype", "check", "", "output, or the worst", "error", "limit", ""]
RIGHT = "     r rr"
"""The table's columns, and which of them are set flush right."""


def as_text(reports: Sequence[Report]) -> str:
    """The table, its notes below it, what differs, and the verdict."""
    cells = rows(reports)
    parts = [table(HEAD, cells, right=RIGHT)] if cells else []
    return "\n".join([*parts, *remarks(reports), verdict(reports)])


def rows(reports: Sequence[Report]) -> list[list[str]]:
    """The cells of the table."""
    notes = _notes(reports)
    return [
        [
            line.spec,
            line.size,
            line.mode,
            line.dtype,
            line.check,
            str(line.count) if line.check != "outputs" else "",
            line.worst.subject,
            "–" if line.worst.error is None else f"{line.worst.error:.1e}",
            f"{line.worst.limit:.1e}",
            line.status + (f" [{notes.index(line.worst.note) + 1}]" if line.worst.note else ""),
        ]
        for report in reports
        for line in lines(report)
    ]


def remarks(reports: Sequence[Report]) -> list[str]:
    """What stands below the table: its notes, what stopped passes, and every node that differs."""
    parts = [f"[{index}] {note}" for index, note in enumerate(_notes(reports), 1)]
    for report in reports:
        parts += _failures(report)
        parts += _findings(report)
    return parts


def _notes(reports: Sequence[Report]) -> list[str]:
    held = [line.worst.note for report in reports for line in lines(report)]
    return [note for note in dict.fromkeys(held) if note]


def verdict(reports: Sequence[Report]) -> str:
    """One line: how many comparisons agree, how many do not, and what could not be run."""
    every = [item for report in reports for item in report.comparisons]
    wrong = sum(not item.ok for item in every)
    failed = sum(len(report.failures) for report in reports)
    pairs = ", ".join(dict.fromkeys(" and ".join(report.backends) for report in reports))
    text = f"{pairs}: {len(every) - wrong} of {len(every)} comparisons agree"
    text += f", {wrong} differ" if wrong else ""
    return text + (f", {failed} {'pass' if failed == 1 else 'passes'} failed" if failed else "")


def headline(report: Report) -> str:
    """What a report that is not in order comes to, in one line."""
    finding = report.first or next(iter(report.faults), None)
    if finding:
        return f"{report.spec}: {finding.path} ({finding.what or finding.comparison.subject}): {finding.size}"
    if report.failures:
        title, name, why = report.failures[0]
        return f"{report.spec}: {title} failed in {name or 'all passes'}: {why.strip().rpartition(chr(10))[2]}"
    return f"{report.spec}: {verdict([report])}"


def at_size(report: Report, size: Size, sizes: Sequence[Size]) -> Report:
    """What a report says of one of the ``sizes`` that were asked for; the first has what belongs to none of them.

    Findings are kept where something differs, since a fault is told once, at whatever size it shows.
    """
    called, *others = dict.fromkeys(f"{height}x{width}" for height, width in [size, *sizes])
    rest = size == sizes[0]

    def here(name: str) -> bool:
        return name == called or (rest and name not in others)

    comparisons = tuple(item for item in report.comparisons if here(item.size))
    failures = tuple(item for item in report.failures if _shared(item[1]) or here(item[1].partition(" ")[0]))
    found = replace(report, comparisons=comparisons, failures=failures)
    return replace(found, first=None, faults=()) if found.ok else found


def _shared(name: str) -> bool:
    """Whether a pass is one that those of every size need."""
    return name in ("", "calibrate")


def failures(report: Report) -> list[tuple[str, tuple[str, ...], str]]:
    """What stopped passes, once for all those that it stopped: the backend, the passes, and why."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for title, name, why in report.failures:
        groups.setdefault((title, why.strip().rpartition("\n")[2]), []).append((name, why))
    return [(title, tuple(name for name, _ in held), held[0][1].rstrip()) for (title, _), held in groups.items()]


def others(report: Report) -> list[Finding]:
    """The faults that are not the first difference."""
    first = report.first.path if report.first else None
    return [fault for fault in report.faults if first not in (fault.path, *fault.again)]


def _failures(report: Report) -> list[str]:
    parts = []
    for title, names, why in failures(report):
        more = f" and {len(names) - 1} more passes" if len(names) > 1 else ""
        parts.append(f"{report.spec}: {title} failed in {names[0] or 'all passes'}{more}\n{why}")
    return parts


def _findings(report: Report) -> list[str]:
    parts = []
    if report.first:
        parts += [f"{report.spec}: the first node that differs", *as_lines(report.first)]
    if also := others(report):
        parts.append(f"{report.spec}: {'also wrong' if report.first else 'wrong'} by itself, on equal inputs")
        for fault in also:
            parts += as_lines(fault)
    return parts


def as_lines(finding: Finding) -> list[str]:
    """A finding in words: the node, how far it is off, what it reads, and both backends' source lines."""
    item = finding.comparison
    where = f"{item.check}, {item.size} {item.mode} {item.dtype}"
    error = "no error" if item.error is None else f"error {item.error:.1e}, limit {item.limit:.1e}"
    parts = [f"  {finding.path} ({finding.what or item.subject}): {error}: {finding.size} [{where}]"]
    if item.note:
        parts.append(f"    {item.note}")
    if finding.again:
        more = f" and {len(finding.again) - 3} more" if len(finding.again) > 3 else ""
        parts.append(f"    the same in {', '.join(finding.again[:3])}{more}")
    for path, apart in finding.inputs:
        parts.append(f"    reads {path}: " + ("not recorded" if apart is None else f"error {apart:.1e}"))
    for backend, numbered in finding.lines:
        parts += [f"    {backend} {number}: {text}" for number, text in numbered]
    return parts


def as_json(reports: Sequence[Report]) -> str:
    """``{"ok": …, "results": […], "reports": […]}``: every comparison, and what each network's come to."""
    results = [
        {"spec": report.spec, "backends": list(report.backends), **as_dict(item)}
        for report in reports
        for item in report.comparisons
    ]
    summaries = [
        {
            "spec": report.spec,
            "preset": report.preset,
            "backends": list(report.backends),
            "ok": report.ok,
            "failures": [dict(zip(("backend", "pass", "why"), item, strict=True)) for item in report.failures],
            "first": _plain(report.first),
            "faults": list(map(_plain, report.faults)),
            "nodes": [{"path": path, "what": what} for path, what in report.nodes],
            "environment": report.environment,
            "seconds": report.seconds,
            "times": report.times,
            "digest": report.digest,
            "command": report.command,
            "finished": report.finished,
        }
        for report in reports
    ]
    ok = bool(reports) and all(report.ok for report in reports)
    return json.dumps({"ok": ok, "results": results, "reports": summaries})


def as_dict(item: Comparison) -> dict[str, Any]:
    """A comparison as plain data; JSON has no infinity."""
    held = {**vars(item), "shape": list(item.shape)}
    if item.error is not None and not math.isfinite(item.error):
        held["error"] = None
    return held


def _plain(finding: Finding | None) -> dict[str, Any] | None:
    if finding is None:
        return None
    lines = {backend: [list(line) for line in held] for backend, held in finding.lines}
    inputs = [{"path": path, "error": error} for path, error in finding.inputs]
    return {**asdict(finding), "comparison": as_dict(finding.comparison), "inputs": inputs, "lines": lines}
