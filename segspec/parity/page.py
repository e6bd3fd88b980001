"""Reports as one web page that needs nothing else: no script, no font, no picture, no request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from segspec import __version__
from segspec.parity.findings import Finding
from segspec.parity.heat import Heat, heat
from segspec.parity.histogram import Histogram, histograms
from segspec.parity.report import Line, failures, lines, others, verdict
from segspec.parity.verify import Report
from segspec.parity.words import clean, number, power

CELLS = 200_000
"""How many cells of heat maps a page holds before networks that agree are shown by blocks alone."""


@dataclass(frozen=True)
class Reading:
    """A node that an offending one reads: its error in the same pass, and whether that is within its limit."""

    path: str
    error: str
    ok: bool


@dataclass(frozen=True)
class Offence:
    """A finding as the page shows it; ``inputs`` is None where the node was judged on equal inputs."""

    finding: Finding
    first: bool
    ratio: str
    inputs: tuple[Reading, ...] | None


@dataclass(frozen=True)
class Section:
    """One report as the page shows it; ``brief`` leaves the rows of its heat map out."""

    report: Report
    title: str
    wrong: int
    lines: list[Line]
    notes: list[str]
    offences: list[Offence]
    failures: list[tuple[str, tuple[str, ...], str]]
    heat: Heat
    brief: bool
    histograms: list[Histogram]
    versions: list[str]


def as_html(reports: Sequence[Report]) -> str:
    """The page of one or more reports."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: clean(value) if type(value) is str else value,  # what is markup already stays so
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "power": power}
    sections = _sections(reports)
    ok = bool(reports) and all(report.ok for report in reports)
    template = environment.get_template("page.html.jinja")
    differ = any(section.wrong for section in sections)
    return template.render(sections=sections, ok=ok, differ=differ, verdict=verdict(reports), version=__version__)


def _sections(reports: Sequence[Report]) -> list[Section]:
    """Those that differ keep all their rows, those that agree as long as there is room."""
    maps = [heat(report) for report in reports]
    left = CELLS
    brief = {}
    for index in sorted(range(len(reports)), key=lambda index: reports[index].ok):
        cells = sum(len(group.rows) for group in maps[index].groups) * len(maps[index].columns)
        brief[index] = reports[index].ok and cells > left
        left -= 0 if brief[index] else cells
    return [_section(report, maps[index], brief[index]) for index, report in enumerate(reports)]


def _section(report: Report, made: Heat, brief: bool) -> Section:
    found = lines(report)
    notes = [note for note in dict.fromkeys(line.worst.note for line in found) if note]
    first = [_offence(report, report.first, first=True)] if report.first else []
    return Section(
        report,
        report.spec,
        sum(not item.ok for item in report.comparisons),
        found,
        notes,
        first + [_offence(report, fault, first=False) for fault in others(report)],
        failures(report),
        made,
        brief,
        histograms(report.comparisons),
        list(dict.fromkeys(name for versions in report.environment.values() for name in versions)),
    )


def _offence(report: Report, finding: Finding, *, first: bool) -> Offence:
    item = finding.comparison
    ratio = "" if item.error is None or not item.limit else power(item.error / item.limit)
    if item.check != "nodes":
        return Offence(finding, first, ratio, None)
    agree = {
        other.subject: other.ok
        for other in report.comparisons
        if (other.check, other.size, other.mode, other.dtype) == (item.check, item.size, item.mode, item.dtype)
    }
    inputs = tuple(Reading(path, number(error), agree.get(path, True)) for path, error in finding.inputs)
    return Offence(finding, first, ratio, inputs)
