"""What specs mean: every construction of the language, on the smallest network that shows it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from segspec.algebra.symbols import show
from segspec.errors import SpecError
from segspec.graph.elaborate import elaborate
from segspec.graph.instances import Instance, at_size, instances, parameters, resolve
from segspec.graph.model import BlockCall, Graph, Module, OpCall, SequenceCall
from segspec.graph.sizes import size_problem, size_rule
from segspec.spec import document
from segspec.spec.load import load

CASES = Path(__file__).parent / "cases" / "language"

Make = Callable[..., Graph]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Elaborates a spec, whose head (name, an image of 3 channels) is left out where it says no other."""

    def elaborated(text: str, preset: str = "", **settings: Any) -> Graph:
        text = dedent(text)
        head = {"segspec": "1", "name": "net", "inputs": "{image: {channels: 3}}"}
        missing = [f"{key}: {value}" for key, value in head.items() if f"\n{key}:" not in f"\n{text}"]
        path = tmp_path / "net.yaml"
        path.write_text("\n".join([*missing, text]), encoding="utf-8")
        return elaborate(load(path), settings, preset)

    return elaborated


def nodes(module: Module) -> list[str]:
    return [node.name for node in module.nodes]


def classes(graph: Graph) -> dict[str, Module]:
    return {module.name: module for module in graph.modules}


def arguments(module: Module) -> list[str]:
    return [item.name if item.required else f"{item.name}={item.default}" for item in module.arguments]


def at(graph: Graph, path: str) -> Instance:
    return next(instance for instance in instances(graph) if instance.path == path)


def op(graph: Graph, path: str) -> Any:
    call = next(item.call for item in instances(graph) if item.path == path and isinstance(item.call, OpCall))
    return call.op


def sources(module: Module, name: str) -> list[str]:
    return [source.node for source in module.node(name).sources]


def shape(graph: Graph, path: str, height: int = 64, width: int = 48) -> tuple[Any, ...]:
    values = at_size(graph, height, width)
    return next(item.shapes()[0] for item in instances(graph, values) if item.path == path)


# --- YAML ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("on", "off", "yes", "no", "y", "n", "On", "NO")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *((word, None) for word in ("null", "Null", "NULL", "~", "")),
        *((word, 1000.0) for word in ("1e3", "1E3", "1.0e+3", "+1e3", "1000.0")),
        *((word, word) for word in ("1_000", "12:30:45", "2020-01-01", "0b11", "1e", "e3", ".", "0x", "0o8")),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("-0", 0),
        ("+12", 12),
        (".5", 0.5),
        ("5.", 5.0),
        ("'3'", "3"),
        ('"true"', "true"),
        ("! 3", "3"),
        ("<<", "<<"),
        ("=", "="),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = document.parse(f"key: {text}\n", "text").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text() -> None:
    assert document.parse("{1: a, true: b, ~: c, on: d, 1.5: e}", "text").data == {
        "1": "a",
        "true": "b",
        "~": "c",
        "on": "d",
        "1.5": "e",
    }


def test_places_count_from_one() -> None:
    read = document.parse("a:\n  - {b: 1, c: [2, 3]}\n", "text")
    place = read.place(("a", 0, "c", 1))
    assert (place.line, place.column, place.text) == (2, 19, "  - {b: 1, c: [2, 3]}")
    assert read.place(("a", 0, "c"), key=True).column == 12
    assert read.place(("a", 0, "missing")).column == 5
    assert str(read.place(("a", 0, "b"))) == "text:2:9"


@pytest.mark.parametrize("change", [str, lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_how_a_file_is_saved_makes_no_difference(change: Callable[[str], str], tmp_path: Path) -> None:
    text = "segspec: 1\nname: net\ninputs: {image: {channels: 3}}\nnodes:\n  a: {op: relu}\noutputs: [a]\n"
    path = tmp_path / "net.yaml"
    path.write_bytes(change(text).encode())
    assert nodes(elaborate(load(path)).root) == ["a"]


def test_anchors_and_aliases(make: Make) -> None:
    graph = make("""
        nodes:
          a: &conv {op: conv2d, out_channels: 3, kernel_size: 1}
          b: *conv
        outputs: [b]
    """)
    assert [show(at(graph, name).shapes()[0][1]) for name in "ab"] == ["3", "3"]


# --- loops, conditions, references --------------------------------------------------------------------


def test_loops_and_conditions(make: Make) -> None:
    text = """
        params: {deep: false}
        nodes:
          for i in range(1, 3):
            conv{i}: {op: conv2d, out_channels: 4 * i, kernel_size: 1}
            if i > 1:
              act{i}: {op: relu}
          for i, rate in enumerate([1, 2]):
            rate{i}_{rate}: {op: conv2d, out_channels: 4, kernel_size: 3, padding: rate, dilation: rate}
          if deep:
            for a, (b, c) in [[1, [2, 3]]]:
              deep{a + b + c}: {op: relu}
          if not deep:
            shallow: {op: identity}
        outputs: ["deep6 if deep else shallow"]
    """
    assert nodes(make(text).root) == ["conv1", "conv2", "act2", "rate0_1", "rate1_2", "shallow"]
    assert nodes(make(text, deep=True).root) == ["conv1", "conv2", "act2", "rate0_1", "rate1_2", "deep6"]


def test_a_node_reads_the_one_before_unless_it_says(make: Make) -> None:
    module = make("""
        inputs: {image: {channels: 3}}
        nodes:
          a: {op: relu}
          b: {op: relu, from: image}
          c: {op: add, from: [_, a]}
          d: {op: concat, from: [a, _, image]}
          for i in range(2):
            e{i}: {op: add, from: [_, "d if i == 0 else e0"]}
          f: {op: concat, from: ["e{i} for i in range(2)", "x for x in [] if x", c]}
          g: {op: concat, from: "e{i} for i in reversed(range(2)) if i < 2"}
          h: {op: add, from: ["e{1 - 1}", "b if 1 > 2 else c if 1 > 3 else d"]}
        outputs: [f, g, h]
    """).root
    assert {name: sources(module, name) for name in nodes(module)} == {
        "a": ["image"],
        "b": ["image"],
        "c": ["b", "a"],
        "d": ["a", "c", "image"],
        "e0": ["d", "d"],
        "e1": ["e0", "e0"],
        "f": ["e0", "e1", "c"],
        "g": ["e1", "e0"],
        "h": ["e0", "d"],
    }


def test_a_name_with_braces_may_be_a_blocks_output(make: Make) -> None:
    module = make("""
        blocks:
          Pyramid:
            nodes:
              fine: {op: relu}
              map1: {op: sigmoid}
              map2: {op: sigmoid}
            outputs: [map1, map2]
        nodes:
          maps: {block: Pyramid}
          for i in [2, 1]:
            act{i}: {op: relu, from: "maps.map{i}"}
          both: {op: concat, from: ["maps.map{i + 1} for i in range(2)", "maps.map{2} if 1 else maps.map1"]}
          all: {op: concat, from: [both, act1, act2]}
        outputs: [all]
    """).root
    read = {node.name: [(item.node, item.output) for item in node.sources] for node in module.nodes}
    assert read["act1"] == [("maps", 0)]
    assert read["act2"] == [("maps", 1)]
    assert read["both"] == [("maps", 0), ("maps", 1), ("maps", 1)]


def test_sequences(make: Make) -> None:
    graph = make("""
        params: {pooled: true, depths: {default: [1, 2]}}
        nodes:
          stage:
            sequence:
              - {op: conv2d, out_channels: 4, kernel_size: 1}
              - for depth in depths:
                  - {op: conv2d, out_channels: 4 * depth, kernel_size: 1}
                  - {op: relu}
              - if pooled: {op: max_pool2d, kernel_size: 2}
              - if not pooled: {op: identity}
              - sequence:
                  - {op: conv2d, out_channels: 2, kernel_size: 1, repeat: 2}
              - for i in range(2): {op: relu6}
          many: {op: conv2d, out_channels: 5, kernel_size: 1, repeat: 3}
        outputs: [many]
    """)
    kinds = [item.path + " " + item.call.op.name for item in instances(graph) if isinstance(item.call, OpCall)]
    assert kinds == [
        "stage.0 conv2d",
        "stage.1 conv2d",
        "stage.2 relu",
        "stage.3 conv2d",
        "stage.4 relu",
        "stage.5 max_pool2d",
        "stage.6.0 conv2d",
        "stage.6.1 conv2d",
        "stage.7 relu6",
        "stage.8 relu6",
        "many.0 conv2d",
        "many.1 conv2d",
        "many.2 conv2d",
    ]
    assert [shape(graph, path)[1] for path in ("stage.3", "stage.6.1", "many.0", "many.2")] == [8, 2, 5, 5]
    assert shape(graph, "many", 33, 8)[2:] == (16, 4)


def test_taps(make: Make) -> None:
    graph = make("""
        nodes:
          features:
            sequence:
              - for i in range(5): {op: conv2d, out_channels: 2**i, kernel_size: 3, stride: 2, padding: 1}
          low: {op: conv2d, from: "features[1]", out_channels: 7, kernel_size: 1}
          for i in [3]:
            high: {op: conv2d, from: "features[i]", out_channels: 9, kernel_size: 1}
        outputs: [low, high]
    """)
    assert shape(graph, "low") == (1, 7, 16, 12)
    assert shape(graph, "high") == (1, 9, 4, 3)
    call = graph.root.node("features").call
    assert isinstance(call, SequenceCall)
    assert len(call.elements) == 4  # the last is behind the last tap


def test_apply_shares_weights(make: Make) -> None:
    graph = make("""
        inputs: {image: {channels: 3}, other: {channels: 3}}
        blocks:
          Head:
            nodes:
              conv: {op: conv2d, out_channels: 5, kernel_size: 3, stride: 2, padding: 1}
              bn: {op: batch_norm2d}
        nodes:
          head: {block: Head, from: image}
          pooled: {op: max_pool2d, from: other, kernel_size: 2}
          again: {apply: head, from: pooled}
          third: {apply: again, from: other}
          conv: {op: conv2d, from: image, out_channels: 5, kernel_size: 1}
          conv2: {apply: conv, from: other}
          seq: {from: image, sequence: [{op: conv2d, out_channels: 3, kernel_size: 1}, {op: relu}]}
          seq2: {apply: seq, from: other}
        outputs: [head, again, third, conv, conv2, seq, seq2]
    """)
    owners = {item.path: item.owner for item in instances(graph)}
    assert owners["again.conv"] == owners["third.conv"] == "head.conv"
    assert owners["conv2"] == "conv"
    assert owners["seq2.0"] == "seq.0"
    assert shape(graph, "again", 64, 48)[2:] == (16, 12)
    assert shape(graph, "third", 64, 48)[2:] == (32, 24)
    assert parameters(graph) == (3 * 5 * 9 + 5 + 2 * 5) + (3 * 5 + 5) + (3 * 3 + 3)
    assert len(graph.modules) == 2


# --- outputs ------------------------------------------------------------------------------------------


OUTPUTS = """
    params: {auxiliary: true}
    blocks:
      Backbone:
        params: {classes: 7}
        nodes:
          low: {op: conv2d, out_channels: 4, kernel_size: 3, stride: 2, padding: 1}
          high: {op: conv2d, out_channels: 8, kernel_size: 3, stride: 2, padding: 1}
          pooled: {op: global_avg_pool2d}
          fc: {op: conv2d, out_channels: classes, kernel_size: 1}
        outputs:
          logits: fc
          low: {from: low, when: used}
          high: {from: high, when: used}
    nodes:
      backbone: {block: Backbone}
      head: {op: conv2d, from: %s, out_channels: 2, kernel_size: 1}
      if auxiliary:
        aux: {op: conv2d, from: backbone.low, out_channels: 2, kernel_size: 1}
    outputs:
      logits: head
      if auxiliary:
        aux: {from: aux, when: training, loss_weight: 0.4, doc: helps}
"""


def test_outputs_by_name_and_in_training(make: Make) -> None:
    graph = make(OUTPUTS % "backbone.high")
    assert [(item.name, item.training, item.loss_weight) for item in graph.root.outputs] == [
        ("logits", False, 1.0),
        ("aux", True, 0.4),
    ]
    assert [item.path for item in instances(graph) if item.training] == ["aux"]
    backbone = classes(graph)["Backbone"]
    assert [item.name for item in backbone.outputs] == ["low", "high"]
    assert nodes(backbone) == ["low", "high"]
    assert arguments(backbone) == ["in_channels"]  # nobody needs the classifier's
    assert [item.name for item in make(OUTPUTS % "backbone.high", auxiliary=False).root.outputs] == ["logits"]


def test_the_last_tap_is_the_whole_sequence(make: Make) -> None:
    """A class that ends where it is tapped returns what its sequence does; both names of it are one value."""
    text = """
        blocks:
          Backbone:
            nodes:
              body:
                sequence:
                  - {op: conv2d, out_channels: 4, kernel_size: 3}
                  - {op: relu}
                  - {op: conv2d, out_channels: 8, kernel_size: 3}
              head: {op: global_avg_pool2d}
            outputs:
              logits: head
              low: {from: "body[1]", when: used}
              high: {from: "body[2]", when: used}
              features: {from: body, when: used}
        nodes:
          backbone: {block: Backbone}
          act: {op: relu, from: backbone.%s}
        outputs: [act]
    """
    for output, elements in (("low", 2), ("high", 3), ("features", 3)):
        module = classes(make(text % output))["Backbone"]
        (returned,) = module.outputs
        assert (returned.tensor.node, returned.tensor.upto) == ("body", None)
        assert len(module.node("body").call.outputs) == 1
        assert len(module.node("body").call.elements) == elements  # type: ignore[union-attr]


def test_outputs_of_a_block_by_counting(make: Make) -> None:
    text = """
        blocks:
          Pyramid:
            nodes:
              for i in range(3):
                level{i}: {op: conv2d, out_channels: 4 * (i + 1), kernel_size: 1}
            outputs: ["level{i} for i in range(3)"]
        nodes:
          pyramid: {block: Pyramid}
          for i in range(2):
            act{i}: {op: relu, from: "pyramid.level{i+1}"}
          merged: {op: concat, from: ["pyramid.level{i} for i in range(3) if i != 1", act0, act1]}
        outputs: [merged]
    """
    graph = make(text)
    sources = [(tensor.node, tensor.output) for tensor in graph.root.node("merged").sources]
    assert sources == [("pyramid", 0), ("pyramid", 2), ("act0", 0), ("act1", 0)]
    assert graph.root.node("act1").sources[0].output == 2
    assert graph.root.outputs[0].shape[1] == 4 + 12 + 8 + 12


def test_what_a_block_returns_unless_asked(make: Make) -> None:
    backbone = classes(make(OUTPUTS % "backbone", auxiliary=False))["Backbone"]
    assert [item.name for item in backbone.outputs] == ["logits"]
    assert nodes(backbone) == ["low", "high", "pooled", "fc"]


def test_a_class_is_held_to_what_its_used_nodes_need(make: Make) -> None:
    text = """
        blocks:
          Backbone:
            nodes:
              low: {op: conv2d, out_channels: 4, kernel_size: 3, padding: 1}
              shrunk: {op: conv2d, out_channels: 4, kernel_size: 33}
              inner: {sequence: [{op: relu}, {op: conv2d, out_channels: 4, kernel_size: 65}]}
            outputs:
              low: low
              shrunk: {from: shrunk, when: used}
              inner: {from: inner, when: used}
        nodes:
          backbone: {block: Backbone}
          seq: {from: %s, sequence: [{op: relu}, {op: conv2d, out_channels: 4, kernel_size: 9}, {op: identity}]}
          last: {op: identity, from: "%s"}
        outputs: [last]
    """
    assert str(size_rule(make(text % ("backbone.low", "seq")))) == "H and W at least 9"
    assert str(size_rule(make(text % ("backbone.low", "seq[0]")))) == "any H and W"
    assert str(size_rule(make(text % ("backbone.shrunk", "seq[0]")))) == "H and W at least 33"
    assert str(size_rule(make(text % ("backbone.shrunk", "seq")))) == "H and W at least 41"
    assert str(size_rule(make(text % ("backbone.inner", "seq")))) == "H and W at least 105"


# --- parameters ---------------------------------------------------------------------------------------


def test_presets_and_settings(make: Make) -> None:
    text = """
        params: {in_channels: 3, width: 8, depth: {default: 1, choices: [1, 2]}, ratio: 1}
        inputs: {image: {channels: in_channels}}
        nodes:
          for i in range(depth):
            conv{i}: {op: conv2d, out_channels: width, kernel_size: 1}
          drop: {op: dropout, p: ratio / 4}
        outputs: [drop]
        presets:
          deep: {depth: 2, width: 4}
    """
    assert arguments(make(text).root) == ["in_channels=3", "width=8", "ratio=1"]
    deep = make(text, "deep")
    assert deep.name == "net_deep"
    assert arguments(deep.root) == ["in_channels=3", "width=4", "ratio=1"]
    assert nodes(deep.root) == ["conv0", "conv1", "drop"]
    assert arguments(make(text, "deep", width=16, depth=1).root) == ["in_channels=3", "width=16", "ratio=1"]
    with pytest.raises(SpecError, match="'depth' cannot be 3"):
        make(text, depth=3)


def test_value_and_structural_parameters(make: Make) -> None:
    """What only flows into numbers stays an argument; what the topology depends on makes classes."""
    graph = make("""
        params: {width: 8, depth: 2, rates: {default: [1, 2]}, flag: true, mode: {default: sum, choices: [sum, cat]}}
        blocks:
          Stage:
            class_name: "Stage{depth}{'Wide' if wide else ''}"
            params: {channels: int, depth: int, wide: false, bias: true, ratio: 0.5}
            nodes:
              for i in range(depth):
                conv{i}: {op: conv2d, out_channels: channels, kernel_size: 3, padding: 1, bias: bias}
              if wide:
                wide: {op: conv2d, out_channels: 2 * channels, kernel_size: 1}
              drop: {op: dropout, p: ratio}
        nodes:
          a: {block: Stage, channels: width, depth: depth}
          b: {block: Stage, channels: 2 * width, depth: depth, bias: flag}
          c: {block: Stage, channels: width, depth: depth + 1, ratio: 0.1}
          d: {block: Stage, channels: 4, depth: 1, wide: true, bias: false}
          for rate in rates:
            e{rate}: {op: conv2d, out_channels: width, kernel_size: 1}
          f: {op: "concat", from: ["e{r} for r in rates"]}
          if mode == 'sum':
            g: {op: add, from: [f, f]}
        outputs: ["g if mode == 'sum' else f"]
    """)
    assert {name: arguments(module) for name, module in classes(graph).items()} == {
        "Stage2": ["in_channels", "channels", "bias=True", "ratio=0.5"],
        "Stage3": ["in_channels", "channels", "bias=True", "ratio=0.5"],
        "Stage1Wide": ["in_channels", "channels", "bias=True", "ratio=0.5"],
        "Net": ["width=8", "flag=True"],
    }


def test_classes_of_one_name_get_their_own(make: Make) -> None:
    graph = make("""
        blocks:
          Part:
            params: {depth: int, mode: {default: a, choices: [a, "é²", "x y"]}}
            nodes:
              for i in range(depth): {"r{i}": {op: "conv2d", out_channels: 3, kernel_size: 1}}
              if mode == 'a': {last: {op: relu}}
          Net:
            nodes: {only: {op: identity}}
        nodes:
          a: {block: Part, depth: 1}
          b: {block: Part, depth: 2}
          c: {block: Part, depth: 1, mode: "é²"}
          d: {block: Part, depth: 1, mode: x y}
          e: {block: Part, depth: 2}
          f: {block: Net}
        outputs: [f]
    """)
    names = [module.name for module in graph.modules]
    assert len(set(names)) == len(names) == 6
    assert names[-1] == "Net"
    assert all(name.isascii() and name.isidentifier() for name in names)


def test_classes_that_differ_in_what_is_read_are_named_by_it(make: Make) -> None:
    graph = make("""
        blocks:
          Part:
            nodes: {inner: {op: relu}, outer: {op: sigmoid}}
            outputs: {outer: outer, inner: {from: inner, when: used}}
        nodes:
          a: {block: Part}
          b: {block: Part}
          c: {op: add, from: [b, b.inner]}
        outputs: [c]
    """)
    assert [module.name for module in graph.modules] == ["Part", "PartInner", "Net"]


def test_comparisons_are_decided_by_forms(make: Make) -> None:
    """In the block's own terms, then in its callers': no parameter is bound for them."""
    graph = make("""
        params: {width: 8}
        blocks:
          Residual:
            params: {channels: int}
            nodes:
              conv: {op: conv2d, out_channels: channels, kernel_size: 1}
              if in_channels != channels:
                project: {op: conv2d, from: x, out_channels: channels, kernel_size: 1}
              sum: {op: add, from: [conv, "project if in_channels != channels else x"]}
          Twice:
            params: {channels: int}
            nodes:
              a: {block: Residual, channels: channels}
              b: {block: Residual, channels: 2 * channels}
        nodes:
          stem: {block: Residual, channels: 4 * width}
          same: {block: Residual, channels: 4 * width}
          half: {block: Residual, channels: 2 * width}
          twice: {block: Twice, channels: 2 * width}
        outputs: [twice]
    """)
    assert arguments(graph.root) == ["width=8"]
    assert {name: nodes(module) for name, module in classes(graph).items() if "Residual" in name} == {
        "Residual": ["conv", "project", "sum"],
        "Residual2": ["conv", "sum"],
    }
    assert all(arguments(module) == ["in_channels", "channels"] for module in graph.modules[:2])


def test_a_comparison_that_no_form_decides_binds(make: Make) -> None:
    text = """
        params: {width: 8, other: 8, height: 3}
        nodes:
          a: {op: conv2d, out_channels: width, kernel_size: 1}
          b: {op: conv2d, from: image, out_channels: other, kernel_size: 1}
          sum: {op: add, from: [a, b]}
          c: {op: conv2d, out_channels: "height if height > 2 else 4", kernel_size: 1}
        outputs: [c]
    """
    assert arguments(make(text).root) == []
    with pytest.raises(SpecError, match="differ in channels"):
        make(text, other=9)


def test_make_divisible_binds_as_python_has_no_such_function(make: Make) -> None:
    text = """
        params: {width: 20, factor: 0.75}
        nodes: {a: {op: conv2d, out_channels: "make_divisible(width * factor, 8)", kernel_size: 1}}
        outputs: [a]
    """
    graph = make(text)
    assert arguments(graph.root) == []
    assert op(graph, "a").out_channels == 16
    assert op(make(text, factor=0.9), "a").out_channels == 24


def test_a_parameter_that_only_has_to_be_large_enough_stays(make: Make) -> None:
    text = """
        params: {stride: 3, extra: 1, less: 2}
        nodes:
          up: {op: conv_transpose2d, out_channels: 9 - less, kernel_size: 3, stride: stride, output_padding: extra}
        outputs: [up]
    """
    assert arguments(make(text).root) == ["stride=3", "extra=1", "less=2"]
    with pytest.raises(SpecError, match="output_padding must be smaller"):
        make(text, extra=3)
    with pytest.raises(SpecError, match="out_channels: expected at least 1, found 0"):
        make(text, less=9)


# --- channels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("width + width", "2 * width"),
        ("4 * width + 8 * width", "12 * width"),
        ("width * 3 // 3", "width"),
        ("(4 * width + 2) // 2", "2 * width + 1"),
        ("width // 2 // 2", "width // 4"),
        ("(width + depth) * 2", "2 * width + 2 * depth"),
        ("-1 + width", "width - 1"),
        ("9 - width", "9 - width"),
        ("0 - width + 8 + depth", "8 + depth - width"),
        ("width * depth * width", "width**2 * depth"),
        ("width**2", "width**2"),
        ("2**depth * width", "2**depth * width"),
        ("ceil(width / 2)", "-(-width // 2)"),
        ("3 * width // 2", "3 * width // 2"),
        ("(width + 1) // 2 * 4", "4 * ((width + 1) // 2)"),
        ("max(width, 2 * width, 0)", "2 * width"),
        ("max(width, depth)", "max(width, depth)"),
        ("min(width, 1)", "1"),
        ("width if flag else 2 * width", "width"),
        ("width * flag", "width * flag"),
        ("(width + 1)**2 - width**2 - 1", "2 * width"),
        ("width % 4 - width % 4 + 3", "3"),
        ("sum([width * i for i in range(4)])", "6 * width"),
        ("[depth, width][1]", "width"),
        ("{'a': width}['a']", "width"),
    ],
)
def test_channels_as_a_person_would_write_them(written: str, printed: str, make: Make) -> None:
    graph = make(f"""
        params: {{width: 8, depth: 3, flag: true}}
        nodes:
          conv: {{op: conv2d, out_channels: "{written} + 0 * (width + depth)", kernel_size: 1, bias: flag}}
          more: {{op: conv2d, out_channels: width + depth, kernel_size: 1}}
        outputs: [more]
    """)
    assert show(graph.root.node("conv").call.outputs[0][1]) == printed


def test_channels_of_inputs_are_inferred(make: Make) -> None:
    graph = make("""
        params: {width: 8}
        blocks:
          Up:
            params: {channels: int}
            inputs: [x, skip]
            nodes:
              up: {op: conv_transpose2d, from: x, out_channels: channels, kernel_size: 2, stride: 2}
              merged: {op: concat, from: [skip, up]}
              fuse: {op: conv2d, out_channels: channels(merged) // 2, kernel_size: 1}
        nodes:
          low: {op: conv2d, out_channels: width, kernel_size: 1}
          high: {op: conv2d, out_channels: 3 * width, kernel_size: 2, stride: 2}
          up: {block: Up, from: [high, low], channels: width + 1}
        outputs: [up]
    """)
    up = classes(graph)["Up"]
    assert arguments(up) == ["in_channels", "skip_channels", "channels"]
    assert show(up.node("merged").call.outputs[0][1]) == "skip_channels + channels"
    assert show(up.node("fuse").call.outputs[0][1]) == "(skip_channels + channels) // 2"
    call = graph.root.node("up").call
    assert isinstance(call, BlockCall)
    given = [show(call.argument(name)) for name in ("in_channels", "skip_channels", "channels")]
    assert given == ["3 * width", "width", "width + 1"]
    assert show(call.outputs[0][1]) == "width"  # (2 * width + 1) // 2


def test_channels_of_nodes_by_counting(make: Make) -> None:
    text = """
        blocks:
          Exchange:
            params: {count: 3}
            inputs: ["x{i} for i in range(count)"]
            nodes:
              for i in range(count):
                to{i}: {op: conv2d, from: "x{(i + 1) % count}", out_channels: "channels(x{i})", kernel_size: 1}
              merged: {op: concat, from: ["to{i} for i in range(count)"]}
              all: {op: conv2d, out_channels: "sum([channels(to{j}) for j in range(count)])", kernel_size: 1}
        nodes:
          for n in range(3):
            conv{n}: {op: conv2d, from: image, out_channels: 4 + n, kernel_size: 1}
          exchange: {block: Exchange, from: ["conv{n} for n in range(3)"]}
        outputs: [exchange]
    """
    graph = make(text)
    exchange = classes(graph)["Exchange"]
    assert [show(exchange.node(f"to{i}").call.outputs[0][1]) for i in range(3)] == [
        "in_channels",
        "x1_channels",
        "x2_channels",
    ]
    assert graph.root.outputs[0].shape[1] == 4 + 5 + 6
    with pytest.raises(SpecError, match="nothing here is called 'k'"):
        make(text.replace("channels(to{j})", "channels(to{k})"))
    with pytest.raises(SpecError, match="to7"):
        make(text.replace("channels(to{j})", "channels(to{j + 7})"))


def test_channels_that_a_block_states_bind_its_parameter(make: Make) -> None:
    graph = make("""
        params: {width: 8}
        blocks:
          Same:
            params: {channels: int}
            inputs: {x: {channels: channels}}
            nodes:
              conv: {op: conv2d, out_channels: channels, kernel_size: 1}
        nodes:
          stem: {op: conv2d, out_channels: 2 * width, kernel_size: 1}
          same: {block: Same}
        outputs: [same]
    """)
    call = graph.root.node("same").call
    assert isinstance(call, BlockCall)
    assert arguments(call.module) == ["channels"]
    assert show(call.argument("channels")) == "2 * width"


def test_let_names_expressions(make: Make) -> None:
    graph = make("""
        params: {width: 8, kind: {default: b, choices: [a, b]}}
        let:
          table: "{'a': [1, 2], 'b': [3, 4]}"
          chosen: table[kind]
          hidden: chosen[1] * width
        nodes:
          for i, times in enumerate(chosen):
            conv{i}: {op: conv2d, out_channels: hidden // times, kernel_size: 1}
        outputs: [conv1]
    """)
    assert [show(node.call.outputs[0][1]) for node in graph.root.nodes] == ["4 * width // 3", "width"]


# --- imports ------------------------------------------------------------------------------------------


def test_imports() -> None:
    graph = elaborate(load(CASES / "imports" / "net.yaml"))
    assert op(graph, "own.only").kernel_size == (1, 1)  # the block beside the spec, not the zoo's of that path
    assert at(graph, "pyramid.pointwise.bn").call  # the zoo's ASPP, with the zoo's own convolutions
    assert nodes(classes(graph)["TinyBackbone"]) == ["low", "high"]
    assert shape(graph, "own") == (1, 4, 32, 24)
    assert shape(graph, "pyramid") == (1, 4, 16, 12)
    names = {file.name for file in graph.definition.file.closure()}
    assert names == {
        "net.yaml",
        "backbone.yaml",
        "conv.yaml",
        "specs/blocks/aspp.yaml",
        "specs/blocks/conv.yaml",
        "specs/blocks/vgg.yaml",
    }


def test_the_digest_is_that_of_all_files(tmp_path: Path) -> None:
    for path in (CASES / "imports").rglob("*.yaml"):
        copy = tmp_path / path.relative_to(CASES / "imports")
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    digest = load(tmp_path / "net.yaml").file.digest()
    assert digest == load(CASES / "imports" / "net.yaml").file.digest()
    with (tmp_path / "blocks" / "conv.yaml").open("a", encoding="utf-8") as file:
        file.write("# more\n")
    assert load(tmp_path / "net.yaml").file.digest() != digest


# --- sizes --------------------------------------------------------------------------------------------


SIZES = {
    "any H and W": "pool: {op: max_pool2d, kernel_size: 2, ceil_mode: true}",
    "H and W divisible by 16": """
        for i in range(4):
          pool{i}: {op: max_pool2d, kernel_size: 2}
        up: {op: resize, scale: 16, mode: nearest}
        sum: {op: add, from: [up, image]}
    """,
    "H and W divisible by 1024": """
        for i in range(10):
          pool{i}: {op: max_pool2d, kernel_size: 2}
        up: {op: resize, scale: 1024, mode: nearest}
        sum: {op: add, from: [up, image]}
    """,
    "H divisible by 4; W divisible by 2": """
        pool: {op: max_pool2d, kernel_size: [4, 2]}
        up: {op: resize, scale: [4, 2], mode: nearest}
        sum: {op: add, from: [up, image]}
    """,
    "H and W at least 4001": """
        for i in range(2):
          conv{i}: {op: conv2d, out_channels: 3, kernel_size: 3, dilation: 1000}
    """,
    "H at least 9; W at least 3": "conv: {op: conv2d, out_channels: 3, kernel_size: 3, dilation: [4, 1]}",
    "H and W divisible by 4, at least 12": """
        conv: {op: conv2d, out_channels: 3, kernel_size: 3, dilation: 5}
        halved: {op: max_pool2d, from: image, kernel_size: 4}
        up: {op: resize, scale: 4, mode: nearest}
        sum: {op: add, from: [up, image]}
        fitted: {op: pad_to, from: conv, like: sum}
        all: {op: add, from: [sum, fitted]}
    """,
    "H and W 1 modulo 2": """
        up: {op: max_pool2d, kernel_size: 3, stride: 2, padding: 1, ceil_mode: true}
        down: {op: max_pool2d, from: image, kernel_size: 3, stride: 2, padding: 1}
        sum: {op: add, from: [up, down]}
    """,
    "H exactly 7; W exactly 9": """
        pooled: {op: adaptive_avg_pool2d, output_size: [7, 9]}
        sum: {op: add, from: [pooled, image]}
    """,
    "H and W exactly 5 or 6": """
        strided: {op: conv2d, out_channels: 3, kernel_size: 3, stride: 3}
        valid: {op: conv2d, from: image, out_channels: 3, kernel_size: 5}
        sum: {op: add, from: [strided, valid]}
    """,
    "H and W at least 5": """
        padded: {op: pad, sides: 4, mode: reflect}
        conv: {op: conv2d, out_channels: 3, kernel_size: 3}
    """,
}


@pytest.mark.parametrize("rule", SIZES)
def test_size_rules(rule: str, make: Make) -> None:
    body = "\n".join(f"  {line}" for line in dedent(SIZES[rule]).strip().split("\n"))
    names = [line.split(":")[0] for line in body.split("\n") if line.startswith("  ") and not line.startswith("   ")]
    last = [name.strip() for name in names if not name.strip().startswith("for ")] or ["conv1"]
    graph = make(f"nodes:\n{body}\noutputs: [{last[-1]}]\n")
    found = size_rule(graph)
    assert str(found) == rule
    for size in [*range(1, 70), 1024, 4000, 4001]:
        refused = size_problem(graph, size, size, 1, training=False)
        assert (refused is None) is (found.height.allows(size) and found.width.allows(size)), size


def test_sizes_are_exact(make: Make) -> None:
    """No H / 2 that pretends to be whole: forms, not numbers, and right for odd ones too."""
    graph = make("""
        nodes:
          a: {op: conv2d, out_channels: 4, kernel_size: 3, stride: 2, padding: 1}
          b: {op: max_pool2d, kernel_size: 3, stride: 2, padding: 1}
          c: {op: resize, scale: 3, mode: nearest}
          d: {op: conv2d, out_channels: 4, kernel_size: [1, 4], stride: 2}
        outputs: [d]
    """)
    forms = {node.name: show(node.call.outputs[0][2]) for node in graph.root.nodes}
    assert forms == {
        "a": "(H + 1) // 2",
        "b": "(H + 3) // 4",
        "c": "3 * ((H + 3) // 4)",
        "d": "(3 * ((H + 3) // 4) + 1) // 2",
    }
    for height in range(1, 40):
        quarter = math.ceil(height / 4)
        assert resolve(graph.root.outputs[0].shape, at_size(graph, height, 64))[2] == (3 * quarter - 1) // 2 + 1
