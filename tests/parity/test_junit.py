"""JUnit XML as CI systems read it, held to the rules of the schemas of Ant's JUnit task and of Jenkins."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from made_up import HOSTILE, comparison, differing, hostile, report

from segspec.parity.junit import SHOWN, as_junit
from segspec.parity.words import clean

SUITE = {"name", "package", "id", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname"}
OUTCOMES = {"failure": {"message", "type"}, "error": {"message", "type"}, "skipped": {"message"}}


def parsed(*reports):
    """The suites of reports, after every rule of the schemas has been held against them."""
    root = ET.fromstring(as_junit(reports).encode())
    assert (root.tag, root.attrib) == ("testsuites", {})
    for index, suite in enumerate(root):
        _rules_of_a_suite(suite, index)
    return list(root)


def _rules_of_a_suite(suite: ET.Element, index: int) -> None:
    assert suite.tag == "testsuite"
    assert set(suite.attrib) == SUITE
    assert suite.get("id") == str(index)
    tags = [child.tag for child in suite]
    cases = suite.findall("testcase")
    assert tags == ["properties", *["testcase"] * len(cases), "system-out", "system-err"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp", ""))
    for name in ("name", "hostname"):
        assert _token(suite.get(name, ""))
    assert suite.get("tests") == str(len(cases))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert suite.get(name) == str(len(suite.findall(f"testcase/{tag}")))
    for timed in (suite, *cases):
        assert re.fullmatch(r"\d+\.\d{3}", timed.get("time", ""))
    for item in suite.findall("properties/*"):
        assert (item.tag, set(item.attrib)) == ("property", {"name", "value"})
        assert _token(item.get("name", ""))
    names = [(case.get("classname"), case.get("name")) for case in cases]
    assert len(set(names)) == len(names)
    for case in cases:
        assert set(case.attrib) == {"name", "classname", "time"}
        assert len(case) <= 1
        for outcome in case:
            assert set(outcome.attrib) == OUTCOMES[outcome.tag]
            assert not len(outcome)


def _token(text: str) -> bool:
    return bool(text) and text == " ".join(text.split())


def test_a_case_for_every_check_in_every_pass():
    (suite,) = parsed(report())
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert set(cases) == {
        "start quantiles start float32",
        "outputs 32x48 eval float64",
        "sgd 32x48 eval float64",
        "gradients 32x48 eval float32",
        "nodes 32x48 eval float64",
        "nodes 32x48 train float32",
        "replay 32x48 eval float64",
    }
    assert [suite.get(name) for name in ("failures", "errors", "skipped")] == ["0", "0", "1"]
    assert cases["gradients 32x48 eval float32"].find("skipped").get("message") == "noise"


def test_times_are_told_once():
    (suite,) = parsed(report())
    times = {case.get("name"): float(case.get("time")) for case in suite.findall("testcase")}
    assert suite.get("time") == "8.250"
    assert sum(times.values()) == 8.25
    assert times["outputs 32x48 eval float64"] == 1.5
    assert times["nodes 32x48 eval float64"] == 0
    assert times["start quantiles start float32"] == 4
    assert times["sgd 32x48 eval float64"] == 2


def test_the_environment_and_the_command_are_properties():
    (suite,) = parsed(report())
    held = {item.get("name"): item.get("value") for item in suite.findall("properties/property")}
    assert held["One version"] == "1.0"
    assert held["Other numpy"] == "2.1"
    assert held["command"] == suite.findtext("system-out") == "segspec verify made_up.yaml --preset small --size 32x48"


def test_failures_hold_the_finding():
    (suite,) = parsed(differing())
    failed = {case.get("name"): case.find("failure") for case in suite.findall("testcase") if len(case)}
    assert suite.get("failures") == "4"
    failure = failed["nodes 32x48 eval float64"]
    assert failure.get("message") == "2 of 5 differ; the worst: pool: error 2.5e-01, limit 1.0e-10"
    assert "One 41: x = pool(x, ceil=True)  # <N>" in failure.text
    assert "Other 52: x = pool(x, ceil=False)" in failure.text
    assert "logits: error 2.5e-01, limit 1.0e-10" in failure.text


def test_failures_are_not_longer_than_people_read():
    held = tuple(comparison("nodes", f"n{index}", 0.5) for index in range(SHOWN + 7))
    (suite,) = parsed(report(comparisons=held))
    text = suite.find("testcase/failure").text
    assert len(text.splitlines()) == SHOWN + 1
    assert text.endswith("… and 7 more")


def test_a_pass_that_failed_is_an_error():
    failures = (("Other", "32x48 train float64", "Traceback\nValueError: no"), ("Other", "", "killed"))
    (suite,) = parsed(report(failures=failures))
    errors = {case.get("name"): case.find("error") for case in suite.findall("testcase")}
    assert suite.get("errors") == "2"
    assert errors["Other, 32x48 train float64"].get("message") == "ValueError: no"
    assert errors["Other, 32x48 train float64"].text == "Traceback\nValueError: no"
    assert errors["Other, all passes"].text == "killed"


def test_what_was_not_compared_is_an_error():
    (suite,) = parsed(report(comparisons=()))
    assert suite.get("errors") == "1"


def test_suites_are_numbered():
    assert [suite.get("name") for suite in parsed(report(), differing(backends=("one", "third")))] == [
        "made_up: one and other",
        "made_up: one and third",
    ]


@pytest.mark.parametrize("reports", [(), (report(spec="a"), report(spec="b"))])
def test_it_is_xml_whatever_was_verified(reports):
    assert len(parsed(*reports)) == len(reports)


def test_strangers_texts_stay_texts():
    text = as_junit([hostile()])
    root = ET.fromstring(text.encode())
    assert not {item.tag for item in root.iter()} & {"script", "code"}
    errors = root.findall("testsuite/testcase/error")
    assert errors[0].text == clean(f"Traceback\n{HOSTILE}")
    assert "\\x00\\x1b[31m\\ud800\\ufffe" in errors[0].text
