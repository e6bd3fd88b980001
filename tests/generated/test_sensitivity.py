"""One fault in one template is enough: ``verify`` turns red for each that is put there on purpose."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from segspec.cli import main
from segspec.errors import SpecError
from segspec.graph.elaborate import elaborate
from segspec.graph.model import Graph
from segspec.parity.recording import Recording, Task, record
from segspec.parity.settings import Settings
from segspec.parity.verify import Report, plan_for, report
from segspec.render import Backend, backends, render
from segspec.spec import zoo
from segspec.spec.load import load

pytestmark = [pytest.mark.torch, pytest.mark.paddle]

NETWORKS = {
    "layers": """
segspec: 1
name: layers
title: Layers
import:
  blocks/aspp.yaml: [ASPP]
inputs:
  image: {channels: 3}
blocks:
  Down:
    params: {channels: int}
    nodes:
      conv: {op: conv2d, out_channels: channels, kernel_size: 3, stride: 2, padding: 1, bias: false}
      norm: {op: batch_norm2d, eps: 0.0009765625, momentum: 0.03}
      act: {op: relu}
nodes:
  stem: {block: Down, from: image, channels: 6}
  grouped: {op: conv2d, out_channels: 6, kernel_size: 3, padding: [2, 3], dilation: [2, 3], groups: 3}
  sided: {op: conv2d, out_channels: 6, kernel_size: 2, padding: [1, 0, 0, 1]}
  norm: {op: batch_norm2d}
  leaky: {op: leaky_relu, negative_slope: 0.2}
  aspp: {block: ASPP, out_channels: 4, rates: [2, 5]}
  up: {op: conv_transpose2d, out_channels: 6, kernel_size: 3, stride: 2, padding: 1, output_padding: 1}
  fitted: {op: pad_to, like: image}
  merged: {op: concat, from: [image, fitted]}
  slopes: {op: prelu, num_parameters: 9}
  more: {sequence: [{op: conv2d, out_channels: 4, kernel_size: 1}, {op: relu}]}
  gate: {op: sigmoid}
  mixed: {op: mul, from: [more, gate]}
  less: {op: sub, from: [mixed, gate]}
  gelu: {op: gelu, approximate: tanh}
  swish: {op: silu, from: less}
  drop2d: {op: dropout2d, p: 0.25}
  logits: {op: add, from: [gelu, drop2d]}
  spread: {op: softmax, dim: 1}
  most: {op: global_max_pool2d, from: logits}
  flat: {op: flatten}
  square: {op: linear, out_features: 4}
  aside: {op: dropout, from: stem, p: 0.1}
outputs:
  logits: logits
  spread: spread
  label: square
  up: up
  side: {from: aside, when: training}
""",
    "pools": """
segspec: 1
name: pools
title: Pools
inputs:
  image: {channels: 3}
nodes:
  largest: {op: max_pool2d, from: image, kernel_size: 3, stride: 2, padding: 1}
  last: {op: max_pool2d, kernel_size: 2, ceil_mode: true}
  mean: {op: avg_pool2d, from: image, kernel_size: 4, stride: 2, padding: 1, count_include_pad: true}
  inner: {op: avg_pool2d, from: image, kernel_size: 3, stride: 2, padding: 1, count_include_pad: false}
  whole: {op: global_avg_pool2d, from: last}
  few: {op: adaptive_avg_pool2d, from: image, output_size: [2, 4]}
  peaks: {op: adaptive_max_pool2d, from: image, output_size: [3, 2]}
outputs: {last: last, mean: mean, inner: inner, whole: whole, few: few, peaks: peaks}
""",
    "sizes": """
segspec: 1
name: sizes
title: Sizes
inputs:
  image: {channels: 3}
nodes:
  twice: {op: resize, scale: 2, mode: nearest}
  half: {op: max_pool2d, from: image, kernel_size: 2, ceil_mode: true}
  aligned: {op: resize, like: image, mode: bilinear, align_corners: true}
  centred: {op: resize, from: half, like: image, mode: bilinear, align_corners: false}
  cubic: {op: resize, from: half, scale: 2, mode: bicubic, align_corners: false}
  padded: {op: pad, from: image, sides: [0, 1, 2, 3], value: 0.5}
  mirrored: {op: pad, from: padded, sides: [1, 2, 0, 3], mode: reflect}
  cut: {op: crop, from: padded, like: image}
  shifted: {op: crop, from: mirrored, like: image, offset: [2, 1]}
  trimmed: {op: crop, from: mirrored, sides: [0, 1, 2, 3]}
  grown: {op: pad_to, from: half, like: image}
outputs:
  twice: twice
  aligned: aligned
  centred: centred
  cubic: cubic
  mirrored: mirrored
  cut: cut
  shifted: shifted
  trimmed: trimmed
  grown: grown
""",
}


class Fault(NamedTuple):
    """``old`` becomes ``new`` in one file of a backend's templates, or in one macro of it: ``ops.relu``."""

    network: str
    backend: str
    where: str
    old: str
    new: str

    @property
    def op(self) -> str:
        """The op whose macro is broken, if one is."""
        file, _, macro = self.where.partition(".")
        return macro if file == "ops" else ""

    def __str__(self) -> str:
        return f"{self.network}: {self.backend} {self.where}: {self.old} → {self.new}"

    def commit(self, templates: Path) -> None:
        file, _, macro = self.where.partition(".")
        whole = macro.endswith(("yaml", "jinja"))
        path = templates / self.backend / (self.where if whole else f"{file}.jinja")
        text = path.read_text(encoding="utf-8")
        start = 0 if whole else text.index(f"{{% macro {macro}(")
        end = len(text) if whole else text.index("endmacro", start)
        assert self.old in text[start:end], "the fault does not apply: the template has changed"
        broken = text[start:end].replace(self.old, self.new, 1)
        path.write_text(text[:start] + broken + text[end:], encoding="utf-8")


FAULTS = [
    # convolution
    Fault("unet", "paddle", "ops.conv2d", "padding=(op.padding | unless(0))", "padding=0"),
    Fault("layers", "paddle", "ops.conv2d", "op.padding_sides | list", "[0, 1, 1, 0]"),
    Fault("layers", "torch", "helpers.PaddedConv2d", "[left, right, top, bottom]", "[top, bottom, left, right]"),
    Fault("layers", "torch", "ops.conv2d", "stride=op.stride | unless(1)", "stride=1"),
    Fault("layers", "paddle", "ops.conv2d", "stride=op.stride | unless(1)", "stride=1"),
    Fault("layers", "torch", "ops.conv2d", "dilation=op.dilation | unless(1)", "dilation=(1, 1)"),
    Fault("layers", "paddle", "ops.conv2d", "dilation=op.dilation | unless(1)", "dilation=(3, 2)"),
    Fault("layers", "paddle", "ops.conv2d", "groups=op.groups | unless(1)", "groups=1"),
    Fault("layers", "torch", "ops.conv2d", "bias=op.bias | unless(true)", "bias=true"),
    Fault("unet", "paddle", "ops.conv2d", "bias_attr=op.bias | unless(true)", "bias_attr=false"),
    Fault("unet", "paddle", "ops.conv_transpose2d", "stride=op.stride | unless(1)", "stride=1"),
    Fault(
        "layers", "paddle", "ops.conv_transpose2d", "output_padding=op.output_padding | unless(0)", "output_padding=0"
    ),
    Fault("layers", "torch", "ops.conv_transpose2d", "padding=op.padding | unless(0)", "padding=0"),
    # normalisation and regularisation
    Fault("unet", "paddle", "ops.batch_norm2d", "epsilon=op.eps | unless(1e-5)", "epsilon=1.001e-5"),
    Fault("unet", "torch", "ops.batch_norm2d", "eps=op.eps | unless(1e-5)", "eps=1e-3"),
    Fault("layers", "paddle", "ops.batch_norm2d", "epsilon=op.eps | unless(1e-5)", "epsilon=1e-3"),
    Fault("layers", "paddle", "backend.yaml", "momentum: 1 - momentum", "momentum: momentum"),
    Fault("layers", "torch", "ops.batch_norm2d", "momentum=op.momentum | unless(0.1)", "momentum=0.031"),
    Fault("unet", "paddle", "ops.batch_norm2d", "momentum=op.momentum | unless(0.9)", "momentum=0.899"),
    Fault("unet", "paddle", "ops.batch_norm2d", "use_global_stats=op.frozen | unless(false)", "use_global_stats=true"),
    Fault("layers", "torch", "ops.dropout", "op.p", "op.p * 2"),
    Fault("layers", "paddle", "ops.dropout", 'call("nn.Dropout", op.p)', 'call("nn.Identity")'),
    Fault("layers", "paddle", "ops.dropout", "op.p", 'op.p, mode="downscale_in_infer"'),
    Fault("layers", "paddle", "ops.dropout2d", "nn.Dropout2D", "nn.Dropout"),
    # activation
    Fault("unet", "paddle", "ops.relu", 'call("F.relu", inputs)', "inputs[0]"),
    Fault("layers", "paddle", "ops.relu", 'call("nn.ReLU")', 'call("nn.Identity")'),
    Fault("unet", "torch", "ops.relu", '"F.relu"', '"F.relu6"'),
    Fault(
        "layers", "paddle", "ops.leaky_relu", "negative_slope=op.negative_slope | unless(0.01)", "negative_slope=0.01"
    ),
    Fault("layers", "paddle", "ops.prelu", "op.num_parameters | unless(1)", "1"),
    Fault("layers", "paddle", "ops.gelu", 'approximate=(op.approximate == "tanh")', "approximate=false"),
    Fault("layers", "paddle", "ops.softmax", "axis=op.dim", "axis=-1"),
    # pooling
    Fault("unet", "paddle", "ops.max_pool2d", "ceil_mode=op.ceil_mode", "ceil_mode=false"),
    Fault("unet", "torch", "ops.max_pool2d", "ceil_mode=op.ceil_mode", "ceil_mode=false"),
    Fault("pools", "paddle", "ops.max_pool2d", "padding=op.padding", "padding=0"),
    Fault("pools", "paddle", "ops.max_pool2d", "stride=op.stride", "stride=3"),
    Fault("pools", "paddle", "backend.yaml", "exclusive: not count_include_pad", "exclusive: count_include_pad"),
    Fault("pools", "torch", "ops.avg_pool2d", "unless(true)", "unless(false)"),
    Fault("pools", "paddle", "ops.global_avg_pool2d", "F.adaptive_avg_pool2d", "F.adaptive_max_pool2d"),
    Fault("pools", "paddle", "ops.adaptive_avg_pool2d", "op.output_size", "[4, 2]"),
    # size
    Fault(
        "sizes",
        "paddle",
        "ops.resize",
        "align_corners=op.align_corners | unless(none)) }}\n{%- endif",
        "align_corners=false) }}\n{%- endif",
    ),
    Fault(
        "sizes",
        "torch",
        "ops.resize",
        "align_corners=op.align_corners | unless(none)) }}\n{%- endif",
        "align_corners=true if op.mode != 'nearest' else op.align_corners | unless(none)) }}\n{%- endif",
    ),
    Fault(
        "sizes",
        "paddle",
        "ops.resize",
        "align_corners=op.align_corners | unless(none)) }}\n{%- endif",
        "align_corners=op.align_corners | unless(none), align_mode=1) }}\n{%- endif",
    ),
    Fault(
        "sizes",
        "torch",
        "ops.resize",
        "mode=op.mode, align",
        'mode="bilinear" if op.mode == "bicubic" else op.mode, align',
    ),
    Fault(
        "sizes", "paddle", "ops.pad", "[op.left, op.right, op.top, op.bottom]", "[op.top, op.bottom, op.left, op.right]"
    ),
    Fault("sizes", "torch", "ops.pad", "value=op.value", "value=0.25"),
    Fault("unet", "paddle", "helpers.pad_to", "dx // 2, dx - dx // 2", "dx - dx // 2, dx // 2"),
    Fault("unet", "torch", "helpers.pad_to", "dy // 2, dy - dy // 2", "dy - dy // 2, dy // 2"),
    Fault(
        "unet",
        "paddle",
        "helpers.pad_to",
        "dx // 2, dx - dx // 2, dy // 2, dy - dy // 2",
        "dy // 2, dy - dy // 2, dx // 2, dx - dx // 2",
    ),
    Fault("sizes", "paddle", "helpers.centre_crop", "-(dx // 2), dx // 2 - dx", "dx // 2 - dx, -(dx // 2)"),
    Fault("sizes", "paddle", "helpers.crop", "top, left = offset", "left, top = offset"),
    Fault(
        "sizes",
        "paddle",
        "ops.crop",
        "op.left | negative, op.right | negative",
        "op.right | negative, op.left | negative",
    ),
    # combination
    Fault("unet", "paddle", "ops.concat", "inputs | list", "inputs | reverse | list"),
    Fault("layers", "torch", "ops.concat", "inputs | list", "inputs | reverse | list"),
    Fault("layers", "paddle", "ops.sub", "inputs |", "inputs | reverse |"),
    Fault("layers", "torch", "ops.mul", '" * "', '" + "'),
    Fault("layers", "paddle", "ops.add", '" + "', '" - "'),
    # what is known of a backend
    Fault("layers", "paddle", "backend.yaml", "transposed: [weight]", "transposed: []"),
    Fault("unet", "paddle", "backend.yaml", "running_var: _variance", "running_var: running_var"),
    Fault(
        "unet",
        "paddle",
        "backend.yaml",
        "running_mean: _mean, running_var: _variance",
        "running_mean: _variance, running_var: _mean",
    ),
    Fault("layers", "paddle", "backend.yaml", "weight: _weight", "weight: weight"),
    Fault("unet", "paddle", "backend.yaml", "* (count - 1) / count", "* count / (count - 1)"),
    Fault("unet", "paddle", "backend.yaml", "* (count - 1) / count", ""),
    # the frame
    Fault("unet", "paddle", "module.py.jinja", "self.apply(init_weights)", "self.dec1 = self.dec2"),
]

MOMENTUM = Fault("unet", "paddle", "ops.batch_norm2d", "momentum=op.momentum", "momentum=0.899 or op.momentum")
UNKNOWN = Fault("unet", "paddle", "ops.relu", '"F.relu"', '"F.rectify"')


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    folder = tmp_path_factory.mktemp("specs")
    found = {}
    for name, text in NETWORKS.items():
        path = folder / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        found[name] = elaborate(load(str(path)), {}, "")
    found["unet"] = elaborate(load("unet"), {"width": 4, "num_classes": 2}, "")
    return found


@pytest.fixture(scope="session")
def reports(graphs: dict[str, Graph], tmp_path_factory: pytest.TempPathFactory) -> dict[Fault | str, Report]:
    """What ``verify`` finds of every network as it is, and with every fault: all in one process a backend."""
    whole = dict(backends())
    wanted: dict[Fault | str, tuple[str, dict[str, Backend]]] = {name: (name, whole) for name in graphs}
    for fault in [*FAULTS, MOMENTUM, UNKNOWN]:
        folder = tmp_path_factory.mktemp("templates") / "templates"
        shutil.copytree(zoo.TEMPLATES, folder)
        fault.commit(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(zoo, "TEMPLATES", folder)
            backends.cache_clear()
            broken = backends()[fault.backend]
        backends.cache_clear()
        if fault.where != "backend.yaml":
            graph = graphs[fault.network]
            assert render(graph, broken) != render(graph, whole[fault.backend])
        wanted[fault] = fault.network, {**whole, fault.backend: broken}
    made: list[Recording] = []
    for name in whole:
        tasks = [
            Task(graphs[network], chosen[name], plan_for(graphs[network], list(whole.values()), Settings(steps=0)))
            for network, chosen in wanted.values()
        ]
        found = record(tasks, tmp_path_factory.mktemp("recorded"), made)
        made = made or found
    return {key: report(*pair) for key, pair in zip(wanted, zip(made, found, strict=True), strict=True)}


@pytest.mark.parametrize("name", [*NETWORKS, "unet"])
def test_green_unbroken(graphs, reports, name):
    found = reports[name]
    assert found.ok
    assert found.first is None
    assert found.faults == ()
    assert {item.mode for item in found.comparisons} == {"eval", "train"}
    assert {item.dtype for item in found.comparisons} == {"float32", "float64"}
    outputs = {output.name for output in graphs[name].root.outputs}
    assert outputs == {item.subject for item in found.comparisons if item.check == "outputs"}
    # At one of the sizes nothing is coarse, so that a wider limit hides nothing.
    for output in outputs:
        exact = [
            item.limit
            for item in found.comparisons
            if item.check == "outputs" and item.dtype == "float64" and item.subject == output
        ]
        assert min(exact) <= 1e-10


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_red_when_broken(reports, fault):
    found = reports[fault]
    assert not found.ok
    if not found.failures:
        # Float32 need not see it, float64 must, each node judged by itself.
        assert found.faults


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.op], ids=str)
def test_the_fault_is_named(graphs, reports, fault):
    """All that is found at fault are nodes of the op that is broken, and those of its layer's parameters."""
    found = reports[fault]
    if found.failures:
        assert found.failures[0][0] == backends()[fault.backend].title
        return
    assert {finding.what for finding in found.faults} == {fault.op}
    if found.first:
        assert found.first.what == fault.op


def test_a_fault_in_a_statistic_shows_in_training_only(reports):
    """Running statistics are compared as outputs are, though no output of one step depends on them."""
    wrong = {(item.mode, item.subject.rpartition(".")[2]) for item in reports[MOMENTUM].comparisons if not item.ok}
    assert wrong == {("train", "running_mean"), ("train", "running_var")}


def test_a_module_that_cannot_run_is_red_and_says_why(reports):
    found = reports[UNKNOWN]
    assert not found.ok
    assert all(title == "PaddlePaddle" and "rectify" in why for title, _, why in found.failures)


def test_the_command_turns_red(templates, capsys):
    """The whole way, in processes of its own: exit status 1, and the comparisons that differ."""
    Fault("unet", "paddle", "ops.concat", "inputs | list", "inputs | reverse | list").commit(templates)
    backends.cache_clear()
    assert main(["verify", "unet", "--set=width=4", "--size=32x48", "--steps=0", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert all(not row["ok"] for row in found["results"] if row["check"] == "outputs")
    assert found["reports"][0]["first"]["path"] == "dec4.merged"
    assert {fault["path"] for fault in found["reports"][0]["faults"]} == {"dec4.merged"}


def test_a_template_that_misses_an_op_is_refused(templates, graphs):
    path = templates / "paddle" / "ops.jinja"
    path.write_text(path.read_text(encoding="utf-8").replace("macro pad_to(", "macro pad_onto("), encoding="utf-8")
    backends.cache_clear()
    with pytest.raises(SpecError, match="pad_to"):
        render(graphs["unet"], backends()["paddle"])
