"""How comparisons are shown: a table for people, JSON for programs."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterable, Sequence
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
            max(held, key=_severity),
        )
        for (size, mode, dtype, check, _), held in groups.items()
    ]


def _severity(item: Comparison) -> float:
    """How far an error is on its way to the limit."""
    if item.error is None or not math.isfinite(item.error):
        return math.inf
    return item.error / item.limit if item.limit else (math.inf if item.error else 0.0)


def as_text(reports: Sequence[Report]) -> str:
    """The table, its notes below it, what differs, and the verdict."""
    held = [line for report in reports for line in lines(report)]
    notes = list(dict.fromkeys(line.worst.note for line in held if line.worst.note))
    cells = [
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
        for line in held
    ]
    head = ["spec", "size", "mode", "dtype", "check", "", "output, or the worst", "error", "limit", ""]
    parts = [table(head, cells, right="     r rr")] if cells else []
    parts += [f"[{index}] {note}" for index, note in enumerate(notes, 1)]
    for report in reports:
        parts += _failures(report)
        parts += _findings(report)
    return "\n".join([*parts, verdict(reports)])


def verdict(reports: Sequence[Report]) -> str:
    """One line: how many comparisons agree, how many do not, and what could not be run."""
    every = [item for report in reports for item in report.comparisons]
    wrong = sum(not item.ok for item in every)
    failed = sum(len(report.failures) for report in reports)
    pairs = ", ".join(dict.fromkeys(" and ".join(report.backends) for report in reports))
    text = f"{pairs}: {len(every) - wrong} of {len(every)} comparisons agree"
    text += f", {wrong} differ" if wrong else ""
    return text + (f", {failed} passes failed" if failed else "")


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


def _failures(report: Report) -> list[str]:
    """What stopped passes, once for all those that it stopped."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for title, name, why in report.failures:
        groups.setdefault((title, why.strip().rpartition("\n")[2]), []).append((name, why))
    parts = []
    for (title, _), held in groups.items():
        name, why = held[0]
        more = f" and {len(held) - 1} more passes" if len(held) > 1 else ""
        parts.append(f"{report.spec}: {title} failed in {name or 'all passes'}{more}\n{why.rstrip()}")
    return parts


def _findings(report: Report) -> list[str]:
    parts = []
    if report.first:
        parts += [f"{report.spec}: the first node that differs", *_finding(report.first)]
    first = report.first.path if report.first else None
    others = [fault for fault in report.faults if first not in (fault.path, *fault.again)]
    if others:
        parts.append(f"{report.spec}: {'also wrong' if report.first else 'wrong'} by itself, on equal inputs")
        for fault in others:
            parts += _finding(fault)
    return parts


def _finding(finding: Finding) -> list[str]:
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
        }
        for report in reports
    ]
    ok = bool(reports) and all(report.ok for report in reports)
    return json.dumps({"ok": ok, "results": results, "reports": summaries}, indent=2)


def as_dict(item: Comparison) -> dict[str, Any]:
    """A comparison as plain data; JSON has no infinity."""
    held = asdict(item)
    if item.error is not None and not math.isfinite(item.error):
        held["error"] = None
    return held


def _plain(finding: Finding | None) -> dict[str, Any] | None:
    if finding is None:
        return None
    lines = {backend: [list(line) for line in held] for backend, held in finding.lines}
    inputs = [{"path": path, "error": error} for path, error in finding.inputs]
    return {**asdict(finding), "comparison": as_dict(finding.comparison), "inputs": inputs, "lines": lines}


def command(names: Iterable[str], options: Sequence[str]) -> str:
    """The command that reproduces a report."""
    return shlex.join(["segspec", "verify", *names, *options])


def progress(text: str) -> None:
    """A line on a terminal's standard error that the next one replaces; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
