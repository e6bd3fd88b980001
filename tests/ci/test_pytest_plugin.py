"""``pytest --segspec``: which tests it makes of specs, what they say, and what it costs those who do not ask for it."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

# What the plugin imports when it needs it, imported here: pytester forgets what its runs import.
import segspec.cli
import segspec.parity.report
import segspec.parity.verify
import segspec.render.check
import segspec.spec.folder
from segspec.render.backend import backends
from segspec.spec import zoo

ENTRY_POINTS = importlib.metadata.entry_points(group="pytest11")
PLUGIN = [] if "segspec" in ENTRY_POINTS.names else ["-p", "segspec.pytest_plugin"]
# Hypothesis' own plugin would be imported anew by every run.
OTHERS = ["-p", "no:hypothesispytest"]

# Instead of running frameworks: what was asked for goes to a file, and at 17x17 a node differs.
FAKE = """
import os, pathlib
from segspec.parity import verify as module
from segspec.parity.compare import Comparison
from segspec.parity.findings import Finding

def compared(size):
    ok = size != "17x17"
    return Comparison("nodes", size, "eval", "float64", "big", "", (1,), 0.0 if ok else 0.5, 1e-10, ok)

def verify(graphs, backends, settings):
    for graph in graphs:
        sizes = [f"{height}x{width}" for height, width in settings.sizes] or ["default"]
        with pathlib.Path(__file__).with_name("log").open("a") as file:
            print(os.getpid(), graph.name, graph.parameters["width"], *sizes, file=file)
        held = [*map(compared, sizes), compared("128x128")]
        wrong = [item for item in held if not item.ok]
        found = Finding("big", "resize", wrong[0], "meaning", (), ()) if wrong else None
        names = tuple(backend.name for backend in backends)
        yield module.Report(graph.name, graph.preset, names, tuple(held), (), found, (), (), {}, 0.0)

module.verify = verify
"""


@pytest.fixture
def run(pytester):
    """Run pytest with the plugin, in the folder of a project."""

    def start(*arguments):
        return pytester.runpytest(*PLUGIN, *OTHERS, *arguments)

    return start


@pytest.fixture
def fake(pytester, monkeypatch):
    """No framework runs; the lines of what was asked for."""
    monkeypatch.setattr(segspec.parity.verify, "verify", segspec.parity.verify.verify)
    pytester.makeconftest(FAKE)

    def asked():
        log = pytester.path / "log"
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    return asked


def ids(result):
    return [line for line in result.outlines if "::" in line]


def test_every_network_preset_pair_and_size_is_a_test(pytester, run, spec):
    spec(pytester.path / "specs", "small")
    spec(pytester.path / "specs" / "more", "other")
    spec(pytester.path / "specs" / ".hidden", "hidden")
    (pytester.path / "specs" / "blocks").mkdir()
    (pytester.path / "specs" / "blocks" / "part.yaml").write_text(
        "segspec: 1\nblocks:\n  A:\n\n    nodes:\n      a: {op: relu}\n"
    )
    (pytester.path / "specs" / "workflow.yml").write_text("on: push\njobs: {}\n")
    pytester.makepyfile("def test_own(): pass")
    named = [
        f"{path}::{name}[{preset}-torch-paddle-{size}]"
        for path, name in (("specs/small.yaml", "small"), ("specs/more/other.yaml", "other"))
        for preset in ("default", "wide")
        for size in ("64x64", "49x49", "43x58")
    ]
    assert sorted(ids(run("--segspec", "specs", "--collect-only", "-q"))) == sorted(named)
    assert ids(run("specs", ".", "--collect-only", "-q")) == [
        "test_every_network_preset_pair_and_size_is_a_test.py::test_own"
    ]


def test_they_are_selected_as_tests_are(pytester, run, spec, fake):
    spec(pytester.path, "small")
    spec(pytester.path, "other")
    arguments = ["--segspec", ".", "--segspec-size=16x16", "--segspec-size=32x16", "--segspec-size=16x16"]
    chosen = ids(run(*arguments, "--collect-only", "-q", "-k", "small and wide"))
    assert chosen == [f"small.yaml::small[wide-torch-paddle-{size}]" for size in ("16x16", "32x16")]
    assert len(ids(run(*arguments, "--collect-only", "-q", "-m", "segspec"))) == 8
    run("--segspec", "--segspec-size=16x16", chosen[0]).assert_outcomes(passed=1)
    assert [line[1:] for line in fake()] == [["small_wide", "6", "16x16"]]


def test_a_network_is_verified_once_and_each_size_has_its_own_verdict(pytester, run, spec, fake):
    spec(pytester.path, "small")
    sizes = ["--segspec-size=16x16", "--segspec-size=17x17", "--segspec-size=32x16"]
    result = run("--segspec", ".", *sizes, "--junitxml=report.xml", "-k", "default")
    result.assert_outcomes(passed=2, failed=1, deselected=3)
    assert [line[1:] for line in fake()] == [["small", "4", "16x16", "17x17", "32x16"]]
    text = result.stdout.str()
    assert "small: big (resize): meaning" in text
    assert "Traceback" not in text
    cases = {case.get("name"): case for case in ElementTree.parse(pytester.path / "report.xml").iter("testcase")}
    assert set(cases) == {f"small[default-torch-paddle-{size}]" for size in ("16x16", "17x17", "32x16")}
    (failure,) = cases["small[default-torch-paddle-17x17]"]
    assert failure.tag == "failure"
    assert "small: big (resize): meaning" in failure.get("message")
    assert "the first node that differs" in failure.text
    # What is compared at a size of nobody's asking belongs to the first: it is told once.
    assert "128x128" not in failure.text


def test_with_xdist_a_worker_verifies_all_sizes_of_a_network(pytester, run, spec, fake):
    pytest.importorskip("xdist")
    for name in ("one", "two"):
        spec(pytester.path / "specs", name)
    pytester.makepyfile(test_own="def test_own(): pass")
    sizes = [f"--segspec-size={size}" for size in ("8x8", "16x16", "32x16")]
    result = run("--segspec", "specs", "test_own.py", *sizes, "-n2", "-v")
    result.assert_outcomes(passed=13)
    assert sorted(line[1:] for line in fake()) == [
        [name, width, "8x8", "16x16", "32x16"]
        for name, width in (("one", "4"), ("one_wide", "6"), ("two", "4"), ("two_wide", "6"))
    ]
    result.stdout.fnmatch_lines(["*PASSED specs/two.yaml::two[[]wide-torch-paddle-32x16[]]*"])


def test_what_is_wrong_with_a_spec_is_a_test_that_fails(pytester, run, spec, fake):
    path = spec(pytester.path, "small")
    spec(pytester.path, "sound")
    path.write_text(path.read_text().replace("max_pool2d", "max_pol2d"))
    (pytester.path / "syntax.yaml").write_text("segspec: 1\nnodes: {a\n")
    odd = spec(pytester.path, "odd")
    odd.write_text(odd.read_text().replace("{width: 6}", "{widht: 6}"))
    result = run("--segspec", ".", "--segspec-size=8x8", "-v")
    result.assert_outcomes(passed=2, failed=4)
    result.stdout.fnmatch_lines_random(
        [
            "small.yaml::small FAILED*",
            "syntax.yaml::syntax FAILED*",
            "odd.yaml::odd[[]default[]] FAILED*",
            "odd.yaml::odd[[]wide[]] FAILED*",
            "*help: did you mean 'max_pool2d'?",
            "*help: did you mean 'width'?",
        ]
    )
    assert "Traceback" not in result.stdout.str()


def test_a_size_that_a_network_cannot_take_fails_by_itself(pytester, run, spec, fake):
    spec(pytester.path, "small")
    result = run("--segspec", ".", "--segspec-size=1x8", "--segspec-size=8x8", "-k", "default", "-v")
    result.assert_outcomes(passed=1, failed=1, deselected=2)
    result.stdout.fnmatch_lines(["*error[[]size[]]: small cannot take 1x8*"])
    assert [line[1:] for line in fake()] == [["small", "4", "8x8"]]


@pytest.mark.parametrize("name", ["missing.yaml", "notes.yaml"])
def test_a_file_that_is_named_must_be_a_spec(pytester, run, name):
    (pytester.path / "notes.yaml").write_text("- a list\n")
    result = run("--segspec", name)
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.USAGE_ERROR)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--segspec-size=16", "'16' is not HxW"),
        ("--segspec-python=torch", "--segspec-python torch is not BACKEND=PATH"),
    ],
)
def test_options_that_say_nothing_are_refused(pytester, run, spec, argument, said):
    spec(pytester.path, "small")
    result = run("--segspec", ".", argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


def test_a_missing_framework_fails_every_test(pytester, run, spec, monkeypatch):
    real = importlib.util.find_spec

    def find(name, *arguments):
        if name == "torch":
            return importlib.machinery.ModuleSpec(name, None)
        return None if name == "paddle" else real(name, *arguments)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    spec(pytester.path, "small")
    result = run("--segspec", ".", "--segspec-size=8x8")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*error[[]missing-framework[]]*", "*help: pip install 'segspec[[]paddle[]]'"])
    result.stdout.no_fnmatch_line("*another exception*")


def test_marker_and_fixture(pytester, run, spec, fake):
    spec(pytester.path / "specs", "small")
    pytester.makepyfile(
        """
        import unittest
        import pytest

        @pytest.mark.segspec("specs/small.yaml", width=8, sizes=["16x16", (8, 8)])
        def test_agrees():
            pass

        @pytest.mark.segspec("specs/small.yaml", preset="wide", sizes=["17x17"])
        def test_differs():
            raise AssertionError("it has begun")

        @pytest.mark.segspec("specs/small.yaml", width=[1])
        def test_wrong_value():
            pass

        @pytest.mark.segspec
        def test_nameless():
            pass

        @pytest.mark.segspec("smal", hight=3)
        class TestCase(unittest.TestCase):
            def test_unknown(self):
                pass

        def test_fixture(segspec_verify):
            (report,) = segspec_verify("specs/small.yaml", width=7)
            assert report.ok
            (report,) = segspec_verify("specs/small.yaml", sizes=["17x17"], check=False)
            assert not report.ok
            with pytest.raises(pytest.fail.Exception, match="first node that differs"):
                segspec_verify("specs/small.yaml", sizes=["17x17"])
        """
    )
    result = run("-v", "--strict-markers")
    result.assert_outcomes(passed=2, failed=4)
    text = result.stdout.str()
    assert "it has begun" not in text
    assert "no spec is called 'smal'" in text
    assert "another exception" not in text
    assert "NAME is missing" in text
    assert "Traceback" not in text
    assert [line[1:] for line in fake()] == [
        ["small", "8", "16x16", "8x8"],
        ["small_wide", "6", "17x17"],
        ["small", "7", "default"],
        ["small", "4", "17x17"],
    ]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ("'16x16'", "sizes='16x16' is no list of sizes"),
        ("16", "sizes=16 is no list of sizes"),
        ("[16]", "'16' is not HxW"),
        ("[(16,)]", "'16' is not HxW"),
        ("[(0, 5)]", "'0x5' is not HxW"),
        ("[(1.5, 5)]", "'1.5x5' is not HxW"),
        ("[None]", "'None' is not HxW"),
    ],
)
def test_sizes_that_are_none(pytester, run, spec, fake, sizes, said):
    spec(pytester.path, "small")
    pytester.makepyfile(f"def test_it(segspec_verify): segspec_verify('small.yaml', sizes={sizes})")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"{said}*"])
    assert fake() == []


def test_who_does_not_ask_for_it_does_not_pay(pytester):
    code = (
        "import pytest, sys; before = set(sys.modules); import segspec.pytest_plugin; print(set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in eval(done.stdout)} <= {"segspec", "json", "_json"}
    assert "segspec.spec" not in done.stdout
    pytester.makepyfile("def test_own(): pass")
    pytester.runpytest(*OTHERS, "-p", "no:segspec").assert_outcomes(passed=1)


@pytest.mark.torch
@pytest.mark.paddle
def test_frameworks_are_run(pytester, run, spec, monkeypatch):
    spec(pytester.path, "small")
    sizes = ["--segspec-size=8x8", "--segspec-size=9x13"]
    run("--segspec", ".", "-k", "default", *sizes).assert_outcomes(passed=2, deselected=2)

    folder = pytester.path / "templates"
    shutil.copytree(zoo.TEMPLATES, folder)
    for path in (folder / "paddle").glob("*.jinja"):
        path.write_text(path.read_text().replace("align_corners=", "align_corners=not "))
    monkeypatch.setattr(zoo, "TEMPLATES", folder)
    backends.cache_clear()
    try:
        result = run("--segspec", ".", "-k", "wide", *sizes[:1])
    finally:
        monkeypatch.undo()
        backends.cache_clear()
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        ["small_wide: big (resize): meaning*", "*align_corners=True)", "*segspec verify *small.yaml *"]
    )
