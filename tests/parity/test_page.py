"""The page of a verification: it holds what matters, needs nothing from elsewhere, and cannot be broken out of."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from made_up import NODES, PASSES, comparison, differing, finding, hostile, report

from segspec.parity import page
from segspec.parity.heat import LARGEST, divide, heat
from segspec.parity.histogram import SIDE, WIDTH, histograms
from segspec.parity.page import as_html

VOID = {"meta", "input", "br", "rect", "path"}
UNCLOSED = {"td", "tr", "tbody"}
"""Elements whose end HTML lets one leave out, as the heat map does."""


class Page(HTMLParser):
    """The elements of a page, its text, and whether every element that must be closed is, in the right order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [name for name, count in Counter(name for name, _ in attrs).items() if count > 1], attrs
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID | UNCLOSED:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in UNCLOSED:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def named(self, tag: str, name: str = "") -> list[dict[str, str | None]]:
        return [held for own, held in self.elements if own == tag and name in (held.get("class") or "").split(" ")]


@pytest.mark.parametrize("made", [report, differing, hostile], ids=lambda made: made.__name__)
def test_it_parses(made):
    parsed = Page(as_html([made(), report()]))
    assert parsed.open == []
    ids = [held["id"] for _, held in parsed.elements if "id" in held]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("made", [report, differing, hostile], ids=lambda made: made.__name__)
def test_it_fetches_and_runs_nothing(made):
    text = as_html([made(), report()])
    parsed = Page(text)
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "video", "audio", "use"}
    for _, held in parsed.elements:
        assert not [name for name in held if name.startswith("on") or name in ("src", "srcset", "style", "action")]
        assert (held.get("href") or "#").startswith("#")
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [held["content"] for held in parsed.named("meta") if held.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_offending_node_and_both_its_lines():
    parsed = Page(as_html([differing()]))
    assert "The renderings differ" in parsed.text
    assert "The first node that differs pool max_pool2d meaning: 2.5e+09 times what rounding explains" in parsed.text
    assert "One 41 x = pool(x, ceil=True) # <N>" in parsed.text
    assert "Other 52 x = pool(x, ceil=False)" in parsed.text
    assert "enc 3.0e−15 ✓ agrees" in parsed.text
    assert "error 2.5e−01 limit 1.0e−10" in parsed.text
    assert "log₁₀ error/limit +9.4" in parsed.text
    assert "segspec verify made_up.yaml --preset small --size 32x48" in parsed.text
    # The fault is the first difference: it is told once.
    assert len(parsed.named("details", "offence")) == 1


def test_an_input_that_differs_too_is_marked():
    first = finding("logits", inputs=(("pool", 0.25), ("enc", None)))
    parsed = Page(as_html([differing(first=first)]))
    assert "pool 2.5e−01 ✕ differs enc none not recorded" in parsed.text


def test_other_faults_and_what_they_are_judged_on():
    parsed = Page(as_html([differing(faults=(finding("logits", "replay", again=("aux", "more")),))]))
    assert "Also wrong by itself, on equal inputs logits" in parsed.text
    assert "Judged by itself, on equal inputs: it reads enc ." in parsed.text
    assert "the same is wrong in: aux , more ." in parsed.text


def test_failures_are_told_once_with_their_traceback():
    why = "Traceback (most recent call last):\nValueError: <no>"
    failures = (("Other", "a", why), ("Other", "b", why), ("One", "", "killed"))
    parsed = Page(as_html([report(failures=failures)]))
    assert parsed.text.count("Traceback") == 1
    assert "Other : ValueError: <no> In a, b." in parsed.text
    assert "One : killed In all passes." in parsed.text


def test_what_failed_does_not_differ():
    """Unless something else does."""
    failures = (("Other", "", "killed"),)
    parsed = Page(as_html([report(failures=failures)]))
    assert "✕ Not all of it could be run" in parsed.text
    assert "made_up ✕ failed" in parsed.text
    parsed = Page(as_html([report(failures=failures), differing(failures=failures)]))
    assert "✕ The renderings differ" in parsed.text
    assert parsed.text.count("made_up ✕ failed") == 1
    assert parsed.text.count("made_up ✕ differs") == 1
    parsed = Page(as_html([report(failures=failures, comparisons=())]))
    assert "What was compared" not in parsed.text


def test_what_agrees():
    parsed = Page(as_html([report()]))
    assert "The renderings agree" in parsed.text
    assert not parsed.named("details", "offence")
    assert not [held for tag, held in parsed.elements if tag in ("td", "rect") and held.get("class") in list("efgx")]
    for text in ("One", "Other", "1.0", "2.0", "3.11.7", "2.1", "0123abcd", "2026-11-21 12:00:00 UTC"):
        assert text in parsed.text


def test_nothing_was_verified():
    parsed = Page(as_html([]))
    assert parsed.open == []
    assert "✕ Nothing was verified" in parsed.text


def test_strangers_texts_stay_texts():
    text = as_html([hostile()])
    parsed = Page(text)
    assert "<script" not in text
    assert "\x00" not in text
    assert "\x1b" not in text
    assert "\\x00\\x1b[31m\\ud800\\ufffe {{ 7 * 7 }} ]]>" in parsed.text
    text.encode("utf-8")


def test_several_networks_are_listed_and_those_that_differ_are_open():
    parsed = Page(as_html([report(spec="first"), differing(spec="second")]))
    assert [held["href"] for held in parsed.named("a")] == ["#n1", "#n2"]
    assert ["open" in held for held in parsed.named("details", "network")] == [False, True]


def test_pages_do_not_grow_without_end(monkeypatch):
    def rows(*reports):
        return len([held for held in Page(as_html(reports)).named("th") if held.get("scope") == "row"])

    agreeing, wrong = rows(report()), rows(differing())
    monkeypatch.setattr(page, "CELLS", 5)
    assert rows(report()) < agreeing
    assert rows(differing()) == wrong
    assert "--json holds every node" in Page(as_html([report()])).text


# --- the heat map ------------------------------------------------------------------------------------


def test_nodes_stand_in_the_graphs_order_beside_every_check():
    found = heat(differing())
    assert [row.path for group in found.groups for row in group.rows] == [path for path, _ in NODES] + ["loss"]
    assert set(found.columns) >= set(PASSES)
    assert [text for text, _ in found.heads[0]] == ["nodes", "replay", "gradients", "sgd", "start"]
    for row in found.heads:
        assert sum(span for _, span in row) == len(found.columns)
    cells = {row.path: dict(zip(found.columns, row.cells, strict=True)) for group in found.groups for row in group.rows}
    pool = cells["pool"][PASSES[0]]
    assert (pool.error, pool.ratio, pool.shade) == ("−0.6", "+9.4", "g")
    assert pool.title == "error 2.5e−01, limit 1.0e−10"
    assert cells["enc"][PASSES[0]].shade == "a"
    assert cells["logits"][PASSES[2]].shade == "a"
    assert cells["enc.conv"]["gradients", "32x48", "eval", "float32"].shade == "n"
    assert cells["loss"]["sgd", "32x48", "eval", "float64"].error == "0"
    assert cells["loss"][PASSES[0]] is None


SHADES = {"z": 0.0, "a": 1e-14, "b": 5e-13, "c": 5e-12, "d": 1e-10, "e": 2e-10, "f": 5e-8, "g": 1.0, "x": None}


@pytest.mark.parametrize(("shade", "error"), [*SHADES.items(), ("g", float("inf")), ("g", float("nan"))])
def test_shades_say_how_near_the_limit_is(shade, error):
    found = heat(report(comparisons=(comparison("nodes", "enc", error),)))
    (cell,) = [cell for group in found.groups for row in group.rows for cell in row.cells if cell]
    assert cell.shade == shade
    assert bool(cell.title) is (shade in "efgx")


def test_the_worst_of_several_is_shown():
    held = [
        comparison("sgd", f"enc.conv.{name} after step {step}", error)
        for name, step, error in [("weight", 1, 1e-15), ("weight", 2, 1e-3), ("bias", 1, 1e-12)]
    ]
    found = heat(report(comparisons=tuple(held)))
    (cell,) = [cell for group in found.groups for row in group.rows for cell in row.cells if cell]
    assert cell.error == "−3.0"
    assert [row.wrong for group in found.groups for row in group.rows if row.path == "enc.conv"] == [True]


def test_blocks_are_groups_and_large_ones_are_divided():
    inner = [(f"net.stage{stage}.{index}", "relu") for stage in (1, 2) for index in range(LARGEST - 10)]
    nodes = [("stem", "conv2d"), ("act", "relu"), *inner, ("net.last", "relu"), ("net", "Net"), ("logits", "conv2d")]
    found = list(divide(nodes))
    assert [path for path, _ in found] == ["", "net.stage1", "net.stage2", "", ""]
    assert [node for _, held in found for node in held] == nodes


def test_a_large_network_opens_where_it_differs():
    nodes = [(f"stage{stage}.{index}", "relu") for stage in range(4) for index in range(20)]
    found = heat(report(nodes, comparisons=(), first=finding("stage2.7")))
    assert [group.open for group in found.groups] == [False, False, True, False]


# --- the histograms ----------------------------------------------------------------------------------


def test_histograms_count_everything_once():
    errors = [0.0, 1e-15, 2e-15, 3e-12, 0.5, float("inf"), None]
    (found,) = histograms([comparison("nodes", "enc", error) for error in errors])
    assert (found.count, found.wrong) == (7, 3)
    assert [(bar.name, bar.fine, bar.wrong) for bar in found.bars if bar.count] == [
        ("no error at all", 1, 0),
        ("from 1e-15", 2, 0),
        ("from 1e-12", 1, 0),
        ("from 1e-1", 0, 1),
        ("nothing to compare", 0, 2),
    ]
    assert found.limits.text == "limit 1.0e−10"
    bars = {bar.name: bar for bar in found.bars}
    assert found.limits.least == pytest.approx(bars["from 1e-10"].x)
    assert bars["nothing to compare"].x + bars["nothing to compare"].width == pytest.approx(WIDTH - SIDE)


def test_what_has_no_verdict_has_no_limit():
    (found,) = [item for item in histograms(report().comparisons) if item.check == "gradients"]
    assert found.limits is None
    assert not found.gates


def test_only_equal_values():
    """An exact check has a verdict, though no limit that could be drawn."""
    (found,) = histograms([comparison("nodes", "enc", 0.0, limit=0.0)])
    assert found.gates
    assert (len(found.bars), found.limits) == (1, None)
