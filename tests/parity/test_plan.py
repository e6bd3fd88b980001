"""The order in which nodes are computed, and that what runs records just these, under these names."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from small import network, plan

from segspec.graph.model import Graph
from segspec.parity.plan import Step, steps
from segspec.parity.recording import Recording, Task, record
from segspec.render.backend import backend

SPECS = {
    "chain": """
nodes:
  conv: {op: conv2d, out_channels: 6, kernel_size: 3, padding: 1}
  act: {op: relu}
  sum: {op: add, from: [act, conv]}
outputs: [sum]
""",
    "blocks": """
blocks:
  Inner:
    params: {channels: int}
    nodes:
      conv: {op: conv2d, out_channels: channels, kernel_size: 1}
      act: {op: relu}
  Outer:
    inputs: [a, b]
    nodes:
      first: {block: Inner, from: b, channels: 5}
      second: {block: Inner, from: a, channels: 5}
      both: {op: mul, from: [first, second]}
nodes:
  half: {op: max_pool2d, kernel_size: 3, stride: 1, padding: 1}
  one: {block: Outer, from: [x, half]}
  two: {block: Outer, from: [one, half]}
outputs: {one: one, two: two}
""",
    "sequences": """
blocks:
  Unit:
    nodes:
      conv: {op: conv2d, out_channels: 4, kernel_size: 1}
      out: {op: add, from: [conv, x]}
nodes:
  features:
    sequence:
      - {op: conv2d, out_channels: 4, kernel_size: 1}
      - {op: relu}
      - {sequence: [{op: conv2d, out_channels: 4, kernel_size: 1}, {block: Unit}]}
      - {block: Unit}
      - {op: relu}
  low: {op: sigmoid, from: "features[1]"}
  high: {op: add, from: [features, low, "features[2]"]}
outputs: [high]
""",
    "again": """
blocks:
  Unit:
    nodes:
      conv: {op: conv2d, out_channels: 4, kernel_size: 1}
      bn: {op: batch_norm2d}
      out: {op: relu}
nodes:
  unit: {block: Unit, from: x}
  act: {op: sigmoid}
  twice: {apply: unit, from: act}
  layer: {op: conv2d, from: twice, out_channels: 4, kernel_size: 1}
  more: {apply: layer, from: layer}
  held: {sequence: [{op: conv2d, out_channels: 4, kernel_size: 1}, {op: relu}], from: more}
  third: {apply: held, from: held}
  last: {apply: unit, from: third}
outputs: [last]
""",
    "training": """
nodes:
  conv: {op: conv2d, out_channels: 6, kernel_size: 1}
  side: {op: conv2d, from: conv, out_channels: 2, kernel_size: 1}
  aside: {op: sigmoid, from: side}
  drop: {op: dropout, from: conv, p: 0.5}
  logits: {op: conv2d, from: drop, out_channels: 2, kernel_size: 1}
outputs:
  logits: logits
  aux: {from: aside, when: training, loss_weight: 0.4}
""",
    "several": """
inputs: {a: {channels: 2}, b: {channels: 4}}
blocks:
  Pair:
    inputs: [p, q]
    nodes:
      left: {op: add, from: [p, q]}
      right: {op: mul, from: [p, q]}
    outputs: [left, right]
nodes:
  wide: {op: conv2d, from: a, out_channels: 4, kernel_size: 1}
  pair: {block: Pair, from: [wide, b]}
  pool: {op: max_pool2d, from: pair.right, kernel_size: 2, return_indices: true}
  back: {op: max_unpool2d, from: [pool, pool.indices], kernel_size: 2, like: wide}
  scale: {op: parameter, size: [3, 4, 8, 16], init: {value: {normal: {std: 1}}}}
  scaled: {op: mul, from: [back, scale]}
  merged: {op: concat, from: [pair.left, scaled]}
outputs: {merged: merged, left: pair.left}
""",
}


@cache
def graph(name: str) -> Graph:
    return network(SPECS[name])


def _steps(name: str, *, train: bool = True) -> dict[str, Step]:
    return {step.path: step for step in steps(graph(name), (8, 16), 3, train=train)}


def test_a_chain() -> None:
    found = _steps("chain")
    assert list(found) == ["conv", "act", "sum"]
    assert [step.sources for step in found.values()] == [("",), ("conv",), ("act", "conv")]
    assert [step.depth for step in found.values()] == [1, 2, 3]
    assert [step.shapes for step in found.values()] == [((3, 6, 8, 16),)] * 3
    assert [step.what for step in found.values()] == ["conv2d", "relu", "add"]
    assert {(step.module, step.arguments) for step in found.values()} == {("Example", ())}


def test_a_block_comes_after_its_contents_and_is_as_deep() -> None:
    found = _steps("blocks")
    assert list(found)[:10] == [
        "half",
        "one.first.conv",
        "one.first.act",
        "one.first",
        "one.second.conv",
        "one.second.act",
        "one.second",
        "one.both",
        "one",
        "two.first.conv",
    ]
    assert found["one.first.conv"].sources == ("half",)
    assert found["one.second.conv"].sources == ("",)
    assert found["one.both"].sources == ("one.first", "one.second")
    assert found["two.second.conv"].sources == ("one",)
    assert found["one"].sources == ("", "half")
    assert found["one"].arguments == ("a", "b")
    assert found["one.first"].depth == found["one.first.act"].depth == 3
    assert found["one"].depth == found["one.both"].depth == 4
    assert found["two"].depth == 7
    assert (found["one.first"].module, found["one.first"].what) == ("Outer", "Inner")


def test_elements_of_a_sequence_follow_one_another_and_taps_read_them() -> None:
    found = _steps("sequences")
    assert [path for path in found if path.startswith("features")] == [
        "features.0",
        "features.1",
        "features.2.0",
        "features.2.1.conv",
        "features.2.1.out",
        "features.2.1",
        "features.3.conv",
        "features.3.out",
        "features.3",
        "features.4",
    ]
    assert found["features.1"].sources == ("features.0",)
    assert found["features.2.0"].sources == ("features.1",)
    assert found["features.2.1"].sources == ("features.2.0",)
    assert found["features.3"].sources == ("features.2.1",)
    assert found["low"].sources == ("features.1",)
    assert found["high"].sources == ("features.4", "low", "features.2.1")


def test_a_module_that_runs_again_has_keys_that_count() -> None:
    found = _steps("again")
    assert [(step.path, step.key) for step in found.values() if step.path.startswith(("twice", "last"))] == [
        ("twice.conv", "unit.conv#1"),
        ("twice.bn", "unit.bn#1"),
        ("twice.out", "unit.out#1"),
        ("twice", "twice"),
        ("last.conv", "unit.conv#2"),
        ("last.bn", "unit.bn#2"),
        ("last.out", "unit.out#2"),
        ("last", "last"),
    ]
    assert found["twice"].inner == "unit#1"
    assert found["twice.bn"].inner == "unit.bn#1"
    assert found["more"].inner == "layer#1"
    assert found["third.0"].key == "held.0#1"


def test_what_only_training_needs_comes_last_and_in_training_alone() -> None:
    assert list(_steps("training")) == ["conv", "drop", "logits", "side", "aside"]
    assert list(_steps("training", train=False)) == ["conv", "drop", "logits"]


def test_several_inputs_and_outputs() -> None:
    found = _steps("several")
    assert list(found) == ["wide", "pair.left", "pair.right", "pair", "pool", "back", "scaled", "merged"]
    assert found["wide"].sources == ("",)
    assert len(found["pair"].shapes) == len(found["pool"].shapes) == 2
    assert found["pool"].shapes == ((3, 4, 4, 8), (3, 4, 4, 8))
    assert found["pool"].depth == 3
    assert "scale" not in found


# --- what a run records ------------------------------------------------------------------------------


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("torch", "paddle")]
)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    held = backend(request.param)
    tasks = [Task(graph(name), held, plan()) for name in SPECS]
    folder: Path = tmp_path_factory.mktemp("recorded")
    return dict(zip(SPECS, record(tasks, folder), strict=True))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", SPECS)
def test_what_is_recorded_is_what_was_planned(recorded: dict[str, Recording], name: str, mode: str) -> None:
    assert recorded[name].failures() == {}
    wanted = {
        f"node {step.key}:{index}": shape
        for step in steps(graph(name), (8, 16), 3, train=mode == "train")
        for index, shape in enumerate(step.shapes)
    }
    for dtype in ("float64", "float32"):
        arrays = recorded[name].arrays(f"8x16 {mode} {dtype}")
        assert arrays is not None
        found = {key: tuple(arrays.index[key][1]) for key in arrays if key.startswith("node ")}
        assert list(found.items()) == list(wanted.items())
        kinds = {np.dtype(arrays.index[key][0]).name for key in found if not key.startswith("node pool:1")}
        assert kinds == {dtype}


@pytest.mark.parametrize("name", ["blocks", "again", "several"])
def test_what_a_block_gets_is_what_its_sources_returned(recorded: dict[str, Recording], name: str) -> None:
    """By the sources of the plan, in the arrays of the run."""
    arrays = recorded[name].arrays("8x16 eval float64")
    assert arrays is not None
    found = _steps(name, train=False)
    checked = 0
    for step in found.values():
        for index, source in enumerate(step.sources if step.arguments else ()):
            if source in found and len(found[source].shapes) == 1:
                held = arrays[f"argument {step.inner}:{index}"]
                assert (held == arrays[f"node {found[source].key}:0"]).all()
                checked += 1
    assert checked


def test_an_argument_and_a_returned_node_are_kept_once(recorded: dict[str, Recording]) -> None:
    arrays = recorded["blocks"].arrays("8x16 eval float64")
    assert arrays is not None
    assert arrays.identity("node one.both:0") == arrays.identity("node one:0") == arrays.identity("argument two:0")
