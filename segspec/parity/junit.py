"""Reports as JUnit XML, as CI systems read it: a suite for each network and pair of backends, a case for each check.

A case is all comparisons of one kind in one pass. What differs is a failure, what could not be run an error; what has
no verdict (float32 gradients beside their noise) is skipped. A pass's time is that of its first case.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from segspec import __version__
from segspec.parity.compare import Comparison
from segspec.parity.report import as_lines, others, severity
from segspec.parity.verify import Report
from segspec.parity.words import clean

SHOWN = 20
"""How many comparisons a failure lists."""


def as_junit(reports: Sequence[Report]) -> str:
    """``<testsuites>``, which keeps to the schemas of Ant's JUnit task and of Jenkins."""
    root = ET.Element("testsuites")
    root.extend(_suite(report, index) for index, report in enumerate(reports))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(report: Report, index: int) -> ET.Element:
    suite = ET.Element("testsuite", name=clean(f"{report.spec}: {' and '.join(report.backends)}"))
    suite.append(_properties(report))
    times = dict(report.times)
    groups: dict[tuple[str, str, str, str], list[Comparison]] = {}
    for item in report.comparisons:
        groups.setdefault((item.check, item.size, item.mode, item.dtype), []).append(item)
    for key, held in groups.items():
        suite.append(_case(report, " ".join(filter(None, key)), _time(times, *key), _differences(report, held)))
    for title, name, why in report.failures:
        last = why.strip().rpartition("\n")[2]
        error = ET.Element("error", message=clean(last), type="pass failed")
        error.text = clean(why.strip())
        suite.append(_case(report, f"{title}, {name or 'all passes'}", times.pop(name, 0.0), error))
    if not groups and not report.failures:
        suite.append(_case(report, "comparisons", 0.0, ET.Element("error", message="none", type="nothing compared")))
    suite.set("package", clean(report.spec))
    suite.set("id", str(index))
    suite.set("tests", str(len(suite.findall("testcase"))))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("time", f"{report.seconds:.3f}")
    # Local times without an offset are all that the schemas take: UTC's is.
    suite.set("timestamp", report.finished.partition("+")[0])
    suite.set("hostname", clean(platform.node() or "localhost"))
    ET.SubElement(suite, "system-out").text = clean(report.command)
    ET.SubElement(suite, "system-err")
    return suite


def _properties(report: Report) -> ET.Element:
    held = {"segspec": __version__, "spec": report.spec, "preset": report.preset, "digest": report.digest}
    for title, versions in report.environment.items():
        held |= {f"{title} {name}": version for name, version in versions.items()}
    properties = ET.Element("properties")
    for name, value in {**held, "command": report.command}.items():
        ET.SubElement(properties, "property", name=clean(name), value=clean(value))
    return properties


def _case(report: Report, name: str, seconds: float, outcome: ET.Element | None) -> ET.Element:
    case = ET.Element("testcase", classname=clean(f"segspec.{report.spec}"), name=clean(name), time=f"{seconds:.3f}")
    if outcome is not None:
        case.append(outcome)
    return case


def _time(times: dict[str, float], check: str, size: str, mode: str, dtype: str) -> float:
    """What is left to say of the time of the passes that a check is made of."""
    forward = f"{size} {mode} {dtype}"
    if mode == "start":
        return times.pop("starts", 0.0)
    passes = {
        "outputs": (f"{forward} as it is", forward),
        "replay": (f"{forward} replay", f"{forward} beyond"),
        "sgd": ("sgd",),
        "adam": ("adam",),
    }
    return sum(times.pop(name, 0.0) for name in passes.get(check, (forward,)))


def _differences(report: Report, held: Sequence[Comparison]) -> ET.Element | None:
    wrong = sorted((item for item in held if not item.ok), key=severity, reverse=True)
    if not wrong:
        gates = any(item.gates for item in held)
        return None if gates else ET.Element("skipped", message=clean(held[0].note or "no verdict"))
    worst = wrong[0]
    size = "nothing to compare" if worst.error is None else f"error {worst.error:.1e}, limit {worst.limit:.1e}"
    message = f"{len(wrong)} of {len(held)} differ; the worst: {worst.subject}: {size}"
    failure = ET.Element("failure", message=clean(message), type="difference")
    found = [report.first] if report.first else []
    mine = [finding for finding in [*found, *others(report)] if finding.comparison in held]
    lines = [line for finding in mine for line in as_lines(finding)]
    lines += [_line(item) for item in wrong[:SHOWN]]
    lines += [f"… and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
    failure.text = clean("\n".join(lines))
    return failure


def _line(item: Comparison) -> str:
    error = "no error" if item.error is None else f"error {item.error:.1e}"
    return f"{item.subject}: {error}, limit {item.limit:.1e}" + (f" ({item.note})" if item.note else "")
