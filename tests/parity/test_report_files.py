"""``segspec verify --junit FILE --html FILE``: whole files or none, and errors before a long run rather than after."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from made_up import differing, report

from segspec.cli import main
from segspec.graph.elaborate import elaborate
from segspec.parity import verify as module
from segspec.parity.page import as_html
from segspec.parity.recording import Plan, Recording, Task, about, record
from segspec.render import render
from segspec.render.backend import backend
from segspec.spec.load import load

TINY = """\
segspec: 1
name: tiny
params: {in_channels: 3, width: 4, kind: {default: plain}}
inputs: {image: {channels: in_channels}}
nodes:
  first: {op: conv2d, out_channels: width, kernel_size: 3, padding: 1}
  pool: {op: max_pool2d, kernel_size: 2, ceil_mode: true}
  if kind == "plain":
    norm: {op: batch_norm2d}
  logits: {op: conv2d, out_channels: 2, kernel_size: 1}
outputs: [logits]
presets: {wide: {width: 6}}
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small network's spec, in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What a verification finds, without any: to be filled. That it was asked for nothing can be seen by its end."""
    held: list[object] = []

    def verify(*_: object, **__: object) -> list[object]:
        assert held, "networks were run"
        return held

    monkeypatch.setattr(module, "verify", verify)
    return held


def test_both_files_are_written(tiny, found, capsys):
    found.append(differing())
    assert main(["verify", "tiny.yaml", "--junit", "a/b/junit.xml", "--html", "page.html"]) == 1
    assert ET.parse("a/b/junit.xml").getroot().find("testsuite").get("failures") == "4"
    assert "The renderings differ" in Path("page.html").read_text(encoding="utf-8")
    assert "13 of 19 comparisons agree" in capsys.readouterr().out
    assert sorted(path.name for path in tiny.parent.iterdir()) == ["a", "page.html", "tiny.yaml"]


def test_json_is_printed_beside_them(tiny, found, capsys):
    found.append(report())
    assert main(["verify", "tiny.yaml", "--json", "--html", "page.html"]) == 0
    (held,) = json.loads(capsys.readouterr().out)["reports"]
    assert held["command"] == "segspec verify made_up.yaml --preset small --size 32x48"
    assert held["times"]["sgd"] == 2
    assert held["seconds"] == 8.25
    assert held["finished"] == "2026-11-21T12:00:00+00:00"


def test_a_page_takes_the_place_of_the_one_before(tiny, found):
    for made, text in ((report(), "agree"), (differing(), "differ")):
        found[:] = [made]
        main(["verify", "tiny.yaml", "--html", "page.html"])
        assert f"The renderings {text}" in Path("page.html").read_text(encoding="utf-8")


def test_nobody_listens_and_the_page_is_written(tiny, found, monkeypatch):
    def show(_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("segspec.parity.terminal.show", show)
    monkeypatch.setattr("sys.stderr.close", lambda: None)
    found.append(report())
    main(["verify", "tiny.yaml", "--html", "page.html"])
    assert Path("page.html").exists()


@pytest.mark.parametrize("option", ["--junit", "--html"])
@pytest.mark.parametrize("path", [".", "/dev/null", "tiny.yaml/page.html", "/proc/no/page.html", "x" * 250, "x" * 300])
def test_what_cannot_be_written_is_said_before_anything_runs(tiny, found, capsys, option, path):
    before = sorted(tiny.parent.iterdir())
    assert main(["verify", "tiny.yaml", option, path]) == 2
    assert "error[output]" in capsys.readouterr().err
    assert sorted(tiny.parent.iterdir()) == before
    assert Path("/dev/null").is_char_device()


def test_two_reports_do_not_go_into_one_file(tiny, found, capsys):
    Path("link").symlink_to("page")
    assert main(["verify", "tiny.yaml", "--junit", "page", "--html", "./link"]) == 2
    assert "error[usage]: --junit and --html name the same file" in capsys.readouterr().err


def _recording(name: str) -> Recording:
    graph = elaborate(load("tiny.yaml"), {"width": 5, "kind": "it's"}, "wide")
    plan = Plan(((9, 8), (16, 16)), 2, 0, (9, 8))
    return Recording(about(Task(graph, backend(name), plan)), plan, {})


def test_the_command_makes_the_same_report_again(tiny, monkeypatch):
    words = shlex.split(module.command(_recording("torch"), _recording("paddle")))
    assert words[:3] == ["segspec", "verify", "tiny.yaml"]
    asked: list[tuple[object, ...]] = []

    def verify(graphs: object, chosen: object, settings: object, **_: object) -> list[object]:
        asked.append((graphs, chosen, settings))
        return [report()]

    monkeypatch.setattr(module, "verify", verify)
    assert main(words[1:]) == 0
    (((graph,), chosen, settings),) = asked
    assert (graph.preset, dict(graph.settings)) == ("wide", {"width": 5, "kind": "it's"})
    assert [held.name for held in chosen] == ["torch", "paddle"]
    assert (settings.sizes, settings.batch, settings.steps, settings.starts) == (((9, 8), (16, 16)), 2, 0, False)


def test_a_network_of_the_zoo_is_called_by_its_name():
    graph = elaborate(load("unet"), {}, "")
    plan = Plan(((32, 32),), module.BATCH, module.STEPS, (32, 32), starts=True)
    backends = [backend("torch"), backend("paddle")]
    command = "segspec verify unet --backend torch --backend paddle --size 32x32"
    assert module.command(*(Recording(about(Task(graph, held, plan)), plan, {}) for held in backends)) == command
    exact = [held.with_exact_running_stats() for held in backends]
    command += " --exact-running-stats"
    assert module.command(*(Recording(about(Task(graph, held, plan)), plan, {}) for held in exact)) == command


@pytest.mark.torch
@pytest.mark.paddle
def test_a_network_that_agrees(tiny):
    assert main(["verify", "tiny.yaml", "--size=9x8", "--junit", "junit.xml", "--html", "page.html"]) == 0
    (suite,) = ET.parse("junit.xml").getroot()
    assert [suite.get(name) for name in ("failures", "errors", "skipped")] == ["0", "0", "1"]
    assert sum(float(case.get("time", "")) for case in suite.findall("testcase")) > 0
    text = Path("page.html").read_text(encoding="utf-8")
    assert "<span>segspec verify tiny.yaml</span><span> --backend torch</span>" in text
    assert "scope=row>norm<small>batch_norm2d" in text


@pytest.mark.torch
@pytest.mark.paddle
def test_a_network_that_differs(tiny):
    """The page names the node that was changed in one backend, and both backends' lines of it."""
    graph = elaborate(load(tiny), {}, "")
    plan = Plan(((9, 8),), 2, 0, (9, 8), ("float64",))
    torch, paddle = backend("torch"), backend("paddle")
    source = render(graph, paddle)
    changed = source.replace("ceil_mode=True", "ceil_mode=False")
    assert changed != source
    first = record([Task(graph, torch, plan)], tiny.parent / "run")
    second = record([Task(graph, paddle, plan, changed)], tiny.parent / "run", first)
    held = module.report(first[0], second[0])
    text = as_html([held])
    start = text.index("The first node that differs")
    told = text[start : text.index("</details>", start)]
    assert "<h4><code>pool</code>" in told
    assert told.index("ceil_mode=True") < told.index("ceil_mode=False")
    assert "<figcaption>PyTorch</figcaption>" in told
    assert "<figcaption>PaddlePaddle</figcaption>" in told
    assert "✓ agrees" in told


@pytest.mark.parametrize("name", ["torch", "paddle"])
def test_of_a_statement_every_line_is_quoted(name):
    """What differs may stand on its third line."""
    graph = elaborate(load("hrnet_seg"), {}, "")
    lines = about(Task(graph, backend(name), Plan(((64, 64),), 2, 0, (64, 64))))["lines"]
    texts = [text for _, text in lines["HighResolutionModule2.up0_1"]]
    assert texts[0] == "up0_1 = F.interpolate("
    assert "align_corners=False" in "".join(texts)
    assert texts[-1] == ")"
    assert texts[1].startswith("    ")
