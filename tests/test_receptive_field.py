"""Receptive fields and strides: published figures, the closed form, and what gradients of generated modules see."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from segspec.algebra.symbols import whole
from segspec.cli import main
from segspec.errors import SpecError
from segspec.graph import fields
from segspec.graph.elaborate import elaborate
from segspec.graph.fields import BLANK, PIXELS, Field, Fields, receptive_fields, through, union
from segspec.graph.instances import at_size, resolve
from segspec.graph.model import Graph
from segspec.ops.activation import Activation
from segspec.ops.base import OPS, Op, op
from segspec.ops.reach import WHOLE, interpolation, pointwise, shifted, spread, whole_image, window
from segspec.render import render
from segspec.render.backend import backend
from segspec.spec.load import load


def graph_of(tmp_path: Path, nodes: dict[str, Any], **more: Any) -> Graph:
    """A network of these nodes that returns the last of them."""
    spec = {
        "segspec": 1,
        "name": "probe",
        "inputs": {"image": {"channels": 2}},
        "nodes": nodes,
        "outputs": [list(nodes)[-1]],
    }
    path = tmp_path / "probe.yaml"
    path.write_text(yaml.safe_dump({**spec, **more}, sort_keys=False))
    return elaborate(load(path))


def seen(both: Fields) -> tuple[Any, Any]:
    """The stride and the field of a node that has the same along both axes."""
    assert both[0] == both[1]
    return both[0].stride, both[0].size


# --- known figures ------------------------------------------------------------------------------------


def chain(layers: Iterable[tuple[int, int]]) -> Field:
    """The field after windows of these kernels and strides."""
    field = PIXELS
    for kernel, stride in layers:
        field = through(field, window(kernel, stride, kernel // 2))
    return field


CONV = (3, 1)
VGG16 = [layer for count in (2, 2, 3, 3, 3) for layer in [*[CONV] * count, (2, 2)]]


def slim_resnet(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """TensorFlow's: the stride stands on the last block of a stage, which sees more than on the first."""
    layers = [(7, 2), (3, 2)]
    for stage, count in enumerate(blocks):
        layers += [CONV] * (count - 1) + [(3, 2 if stage < 3 else 1)]
    return layers


MOBILENET_V2 = [(3, 2)] + [
    (3, stride if index == 0 else 1)
    for count, stride in [(1, 1), (2, 2), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1)]
    for index in range(count)
]


@pytest.mark.parametrize(
    ("layers", "stride", "size"),
    [
        ([CONV] * 5, 1, 11),
        (VGG16[:-1], 16, 196),
        (VGG16, 32, 212),
        ([*VGG16, (7, 1)], 32, 404),
        (slim_resnet([3, 4, 6, 3]), 32, 483),
        (slim_resnet([3, 4, 23, 3]), 32, 1027),
        (slim_resnet([3, 8, 36, 3]), 32, 1507),
        (MOBILENET_V2, 32, 491),
    ],
    ids=["3x3", "conv5_3", "pool5", "fc6", "resnet50", "resnet101", "resnet152", "mobilenet_v2"],
)
def test_published_figures(layers: list[tuple[int, int]], stride: int, size: int) -> None:
    """Those of Araujo, Norris, Sim 2019, and of Long, Shelhamer, Darrell 2015."""
    field = chain(layers)
    assert (field.stride, field.size) == (stride, size)


@pytest.mark.parametrize(("depth", "size"), [(50, 427), (101, 971), (152, 1451)])
def test_a_resnet_with_its_strides_on_the_first_blocks(depth: int, size: int) -> None:
    found, outputs = receptive_fields(elaborate(load("resnet"), {"depth": depth}))
    assert seen(found["layer4"][0]) == (32, size)
    assert seen(found["layer1.0.conv2"][0]) == (4, 19)
    assert seen(outputs["logits"]) == (None, None)


@pytest.mark.parametrize("count", range(1, 8))
def test_dilations_that_double_see_exponentially_far(tmp_path: Path, count: int) -> None:
    nodes = {
        f"conv{i}": {"op": "conv2d", "out_channels": 2, "kernel_size": 3, "dilation": 2**i, "padding": 2**i}
        for i in range(count)
    }
    found, _ = receptive_fields(graph_of(tmp_path, nodes))
    assert seen(found[f"conv{count - 1}"][0]) == (1, 2 ** (count + 1) - 1)


def test_the_closed_form() -> None:
    rng = random.Random(1)
    for _ in range(100):
        layers = [(rng.randint(1, 7), rng.randint(1, 3)) for _ in range(rng.randint(1, 8))]
        size, stride = 1, 1
        for kernel, step in layers:
            size, stride = size + (kernel - 1) * stride, stride * step
        field = chain(layers)
        assert (field.size, field.stride) == (size, stride)


def test_unet() -> None:
    found, outputs = receptive_fields(elaborate(load("unet")))
    assert seen(found["pool4"][0]) == (16, 76)
    assert seen(found["dec4.up"][0]) == (8, 76)
    assert seen(outputs["logits"]) == (1, 140)


def test_deeplab_sees_all_by_its_pooling() -> None:
    found, outputs = receptive_fields(elaborate(load("deeplabv3"), {"auxiliary": True}))
    assert [seen(both) for both in found["backbone"]] == [(8, 283), (8, 731)]
    assert seen(found["aspp.atrous36"][0]) == (8, 731 + 8 * 72)
    assert seen(found["aspp.mean"][0]) == (None, None)
    assert seen(found["aspp.pooled"][0]) == (8, None)
    assert {name: seen(both) for name, both in outputs.items()} == {"logits": (1, None), "aux": (1, 283 + 16 + 8)}


# --- the arithmetic -----------------------------------------------------------------------------------


def test_phases() -> None:
    """Neighbours behind an enlargement see windows of different places, the most that one sees counts."""
    coarse = through(PIXELS, window(2, 2))
    twice = through(coarse, spread(3, 2, 1))
    assert twice == Field(Fraction(1), ((0, 1), (0, 3)))
    assert [twice.span(element) for element in (-1, 2, 5)] == [(-2, 1), (2, 3), (4, 7)]
    assert through(coarse, spread(2, 2)).size == 2
    assert through(coarse, spread(1, 2)).spans == ((0, 1), None)  # every other element gets nothing
    assert through(PIXELS, spread(2, 3)).stride == Fraction(1, 3)


def test_interpolation() -> None:
    assert through(PIXELS, interpolation(Fraction(1, 2), "bilinear")).spans == ((-1, 0), (0, 1))
    assert through(PIXELS, interpolation(Fraction(1, 2), "bicubic")).spans == ((-2, 1), (-1, 2))
    assert through(PIXELS, interpolation(Fraction(1, 2), "nearest")).spans == ((0, 0), (0, 0))
    assert through(PIXELS, interpolation(Fraction(3), "bilinear")).spans == ((1, 1),)
    assert through(PIXELS, interpolation(Fraction(3), "bilinear", aligned=True)).spans == ((1, 2),)
    assert through(PIXELS, interpolation(Fraction(2), "bilinear")).spans == ((0, 1),)
    assert through(PIXELS, interpolation(Fraction(1), "bicubic")) == PIXELS


def test_where_paths_meet_the_union_counts() -> None:
    left, right = through(PIXELS, shifted(3)), through(PIXELS, window(3, 1, 0))
    assert union([left, right]).spans == ((-3, 2),)
    assert union([left, BLANK]) == left
    assert union([BLANK, BLANK]) == BLANK
    pooled = through(PIXELS, WHOLE)
    assert union([left, pooled]) == Field(Fraction(1), None)
    assert through(BLANK, WHOLE) == BLANK  # what no pixel reaches stays so


def test_phases_have_a_limit() -> None:
    field = through(PIXELS, spread(2, 4_000))
    with pytest.raises(SpecError, match="repeat only after"):
        through(field, spread(2, 2))


def test_an_op_must_say_how_it_moves_the_field() -> None:
    class Silent(Op):
        """Says nothing."""

    with pytest.raises(TypeError, match="does not say how it moves the receptive field"):
        op("silent")(Silent)
    assert "silent" not in OPS
    assert Activation.reach is pointwise
    assert OPS["global_avg_pool2d"].reach is whole_image


# --- what is printed ----------------------------------------------------------------------------------


def test_show_prints_strides_and_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = {
        "tall": {"op": "conv2d", "out_channels": 2, "kernel_size": [5, 1], "stride": [2, 1], "padding": [2, 0]},
        "large": {"op": "resize", "scale": 4, "mode": "nearest"},
        "mean": {"op": "global_avg_pool2d"},
    }
    graph_of(tmp_path, nodes)
    path = str(tmp_path / "probe.yaml")
    assert main(["show", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = {name: lines[0].index(name) + len(name) for name in ("stride", "field")}
    cells = {line.split()[0]: [line[:end].split("  ")[-1].strip() for end in at.values()] for line in lines[2:5]}
    assert cells == {"tall": ["2×1", "5×1"], "large": ["1/2×1/4", "5×1"], "mean": ["", "all"]}
    assert lines[-1] == "mean: receptive field all"
    assert main(["show", path, "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert [node["strides"] for node in held["nodes"]] == [[[2, 1]], [[0.5, 0.25]], [[None, None]]]
    assert [node["fields"] for node in held["nodes"]] == [[[5, 1]], [[5, 1]], [[None, None]]]
    assert held["outputs"] == [{"name": "mean", "stride": [None, None], "field": [None, None]}]


# --- what gradients see -------------------------------------------------------------------------------

SIZE = 96


def supports(graph: Graph, elements: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """The first and last rows and columns of the image that elements depend on, as their gradients tell."""
    import torch

    names: dict[str, Any] = {}
    exec(render(graph, backend("torch")), names)
    net = names["Probe"]().double().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(0.5, 1.5).div_(max(parameter[0].numel(), 1))  # all positive: nothing cancels
    image = torch.rand(24, 2, SIZE, SIZE, dtype=torch.float64, requires_grad=True)  # many, since a maximum sees one
    output = net(image)
    found = []
    weights = torch.arange(1, output.shape[1] + 1, dtype=torch.float64)  # the sum of a softmax would be constant
    for row, column in elements:
        summed = (output[:, :, row, column] * weights).sum()
        (gradient,) = torch.autograd.grad(summed, image, retain_graph=True)
        touched = gradient.abs().sum((0, 1)) > 0
        axes = [touched.any(1).nonzero(), touched.any(0).nonzero()]
        found.append([(int(axis.min()), int(axis.max())) for axis in axes])
    return found


def hold_to_gradients(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> int:
    """Compare the fields of elements in the middle with what their gradients reach; how many there were to compare."""
    monkeypatch.setattr(fields, "REFERENCE_SIZE", SIZE)
    _, outputs = receptive_fields(graph)
    (both,) = outputs.values()
    shape = resolve(graph.root.outputs[0].shape, at_size(graph, SIZE, SIZE))
    rows, columns = (
        [place for place in range(size)[max(size // 2 - 3, 0) : size // 2 + 4] if inside(axis.span(place))]
        for axis, size in zip(both, map(whole, shape[2:]), strict=True)
    )
    elements = list(zip(rows, columns, strict=False))
    spans = [[axis.span(place) for axis, place in zip(both, element, strict=True)] for element in elements]
    assert supports(graph, elements) == spans
    return len(elements)


def inside(span: tuple[int, int] | None) -> bool:
    """Whether no border of the image or of a map on the way to it is near."""
    return span is not None and span[0] >= SIZE // 6 and span[1] < SIZE - SIZE // 6


def conv(kernel: Any = 3, **more: Any) -> dict[str, Any]:
    return {"op": "conv2d", "out_channels": 2, "kernel_size": kernel, **more}


def up(kernel: Any = 2, **more: Any) -> dict[str, Any]:
    return {"op": "conv_transpose2d", "out_channels": 2, "kernel_size": kernel, **more}


def resize(mode: str, **more: Any) -> dict[str, Any]:
    return {"op": "resize", "mode": mode, **({} if mode == "nearest" else {"align_corners": False}), **more}


def pool(kernel: int = 2, op: str = "max_pool2d", **more: Any) -> dict[str, Any]:
    return {"op": op, "kernel_size": kernel, **more}


def meeting(low: dict[str, Any], fit: dict[str, Any], high: dict[str, Any] | None = None) -> dict[str, Any]:
    """Two paths from one node, one brought to the other's size, concatenated."""
    return {
        "start": conv(padding=1),
        "high": high or conv(padding=1),
        "low": {**low, "from": "start"},
        "fit": {**fit, "like": "high"},
        "both": {"op": "concat", "from": ["high", "fit"]},
        "last": conv(2),
    }


GRADIENTS = {
    "asymmetric": [conv([1, 4], stride=[2, 1]), conv([3, 2], padding=[2, 0, 1, 3])],
    "holes": [conv(3, dilation=5), conv(2, dilation=[2, 3], stride=2)],
    "ceil": [pool(3, stride=2, ceil_mode=True), conv(), pool(2, ceil_mode=True), conv(4, padding=1)],
    "mean": [pool(3, "avg_pool2d", stride=2, padding=1, count_include_pad=True), {"op": "relu"}, conv()],
    "dilated pool": [pool(2, dilation=3, stride=1), conv(2)],
    "transposed": [conv(stride=4), up(3, stride=2, padding=1, output_padding=1), up(5, stride=2), conv()],
    "transposed with holes": [conv(stride=2), up(3, stride=3, dilation=2), conv(3)],
    "transposed, shared factor": [conv(stride=2), up(4, stride=4, dilation=6, padding=2), conv(5)],
    "transposed, gaps": [conv(stride=2), up(1, stride=3)],
    "bilinear": [conv(2, stride=4), resize("bilinear", scale=2), conv(), resize("bilinear", scale=3)],
    "bilinear to a fraction": [
        resize("bilinear", scale=1.5),
        conv(),
        resize("bilinear", scale=0.5),
    ],
    "bicubic": [conv(2, stride=2), resize("bicubic", scale=2), conv()],
    "nearest": [conv(3, stride=3), resize("nearest", scale=[2, 3]), conv(2)],
    "nearest to a fraction": [resize("nearest", scale=0.5), conv(), resize("nearest", scale=1.5)],
    "activations": [conv(), {"op": "sigmoid"}, {"op": "batch_norm2d"}, {"op": "softmax", "dim": 1}, {"op": "gelu"}],
    "shifts": [{"op": "pad", "sides": [1, 2, 3, 4]}, conv(), {"op": "crop", "sides": [7, 0, 1, 2]}, conv(stride=2)],
    "crop to a size": [conv(stride=2), {"op": "crop", "size": [30, 21]}, conv()],
    "crop at an offset": [conv(), {"op": "crop", "size": [80, 81], "offset": [13, 11]}, pool(2)],
    "meeting, cropped": meeting(conv(1), {"op": "crop"}, conv(8)),
    "meeting, cropped at an offset": meeting(conv(1), {"op": "crop", "offset": [1, 5]}, conv(8)),
    "meeting, padded": meeting(conv(6), {"op": "pad_to"}),
    "meeting, resized": meeting(conv(4, stride=4), resize("bilinear"), conv(2, stride=2)),
    "meeting, resized like the nearest": meeting(conv(8, stride=4, padding=2), resize("nearest")),
    "unpooled": {
        "fine": conv(3, padding=1),
        "pool": pool(2, return_indices=True),
        "coarse": conv(3, padding=1),
        "back": {"op": "max_unpool2d", "kernel_size": 2, "from": ["coarse", "pool.indices"], "like": "fine"},
        "last": conv(2),
    },
    "in dimensions of their own": [
        conv(),
        {"op": "rearrange", "pattern": "n (c k) h w -> n c k h w", "lengths": {"k": 2}},
        {"op": "sum", "dim": 2},
        conv(2),
    ],
    "weighted by itself": {
        "x": conv(2),
        "w": conv([3, 1], padding=[1, 0]),
        "e": {"op": "einsum", "from": ["x", "w"], "equation": "n c h w, n d h w -> n c h w"},
        "last": conv(2),
    },
    "meeting, transposed": {
        "a": conv(2, stride=2),
        "b": conv(3, padding=1, stride=2),
        "c": up(2, stride=2),
        "d": {"op": "add", "from": ["a", "c"]},
        "e": up(4, stride=2, padding=1),
        "f": {"op": "mul", "from": ["e", "e"]},
    },
}


def named(nodes: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
    return nodes if isinstance(nodes, dict) else {f"node{index}": node for index, node in enumerate(nodes)}


@pytest.mark.torch
@pytest.mark.parametrize("case", GRADIENTS)
def test_gradients_reach_just_the_field(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hold_to_gradients(graph_of(tmp_path, named(GRADIENTS[case])), monkeypatch)


EXAMPLES = [
    pytest.param({"op": name, **example}, id=f"{name}{index}")
    for name, declared in OPS.items()
    for index, example in enumerate(declared.examples)
    if declared.reach is not whole_image and declared.inputs[0] and not {"shape", "other", "like"} & set(example)
]


@pytest.mark.torch
@pytest.mark.parametrize("node", EXAMPLES)
def test_every_op_reads_what_it_declares(node: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of every op in which no other node's size plays a part."""
    source = ["start"] * OPS[node["op"]].inputs[0]
    start = {"op": "crop", "sides": SIZE // 4, "from": "wide"}  # where the op's own map begins is not near a border
    nodes = {"wide": conv(1, out_channels=4), "start": start, "probed": {**node, "from": source}}
    graph = graph_of(tmp_path, nodes)
    if len(graph.root.outputs[0].shape) != 4:
        pytest.skip("it makes no map")
    if any(axis.spans is None for axis in receptive_fields(graph)[1]["probed"]):
        pytest.skip("it reads the whole image")
    if all(axis.blank for axis in receptive_fields(graph)[1]["probed"]):
        pytest.skip("it reads nothing")
    # Another layer behind it: an element that depends on nothing stands beside one that does.
    assert hold_to_gradients(graph_of(tmp_path, {**nodes, "last": conv(2)}), monkeypatch)


def drawn(rng: random.Random) -> list[dict[str, Any]]:
    """A few layers at random, as many to enlarge as to reduce."""

    def dilated(make: Any, most: int) -> dict[str, Any]:
        pair = [rng.randint(1, 4), rng.randint(1, 4)]
        return make(pair, stride=rng.randint(1, most), dilation=[rng.randint(1, 3), rng.randint(1, 3)])

    def reducing() -> dict[str, Any]:
        padded = {**dilated(conv, 3), "padding": rng.choice([0, 1, [2, 0]])}
        # The mean, since what only a bias reaches may always, or never, be the maximum.
        pooled = pool(rng.randint(2, 3), "avg_pool2d", stride=2, ceil_mode=rng.random() < 0.5)
        return rng.choice([padded, padded, pooled])

    def enlarging() -> dict[str, Any]:
        mode = rng.choice(["bilinear", "nearest", "bicubic"])
        return rng.choice([dilated(up, 3), {**dilated(up, 3), "padding": 1}, resize(mode, scale=rng.choice([2, 3]))])

    return [make() for _ in range(2) for make in (reducing, enlarging)]


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(12))
def test_gradients_reach_just_the_field_of_any_network(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    # One drawn may see too far, or nothing at all.
    assert any(hold_to_gradients(graph_of(tmp_path, named(drawn(rng))), monkeypatch) for _ in range(10))


@pytest.mark.torch
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_aligned_corners_in_the_middle_of_the_map(scale: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [conv(2, stride=4), resize("bilinear", scale=scale, align_corners=True), conv(2)]
    graph = graph_of(tmp_path, named(nodes))
    monkeypatch.setattr(fields, "REFERENCE_SIZE", SIZE)
    (both,) = receptive_fields(graph)[1].values()
    middle = SIZE // 4 * scale // 2
    elements = [(place, place) for place in range(middle - scale, middle + scale)]
    sizes = [high - low + 1 for ((low, high), _) in supports(graph, elements)]
    assert max(sizes) == both[0].size
