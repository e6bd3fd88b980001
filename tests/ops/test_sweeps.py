"""Shape rules, refusals and floors against the frameworks, over far more settings than the examples."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from sweep import Row, Setting, Size, evaluate, sweep

from segspec.ops import OPS
from segspec.parity.sizes import LIMIT

ROOM = 13
"""An axis that is large enough for any setting here, so that the other axis decides."""

SIZES: list[Size] = [
    *((size, ROOM) for size in range(1, 13)),
    *((ROOM, size) for size in range(1, 13)),
    *((size, 5 * size % ROOM) for size in range(1, 13)),
]
EXACT = 1e-12


def _paired(axes: Iterable[tuple[Any, ...]]) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Each setting of one axis, beside another one for the other axis."""
    rows = list(axes)
    columns = random.Random(len(rows)).sample(rows, len(rows))
    return zip(rows, columns, strict=True)


def _convolutions() -> Iterator[dict[str, Any]]:
    margins = [(0, 0), (1, 1), (2, 2), (0, 1), (2, 1), (3, 0)]
    axes = product((1, 2, 3, 4), (1, 2, 3), margins, (1, 2, 3))
    for (k, s, p, d), (m, t, q, e) in _paired(axes):
        yield {"out_channels": 1, "kernel_size": [k, m], "stride": [s, t], "padding": [*p, *q], "dilation": [d, e]}


def _transposed() -> Iterator[dict[str, Any]]:
    axes = [
        axis
        for axis in product((1, 2, 3, 4), (1, 2, 3), (0, 1, 2), (0, 1, 2), (1, 2))
        if axis[3] < max(axis[1], axis[4])
    ]
    for (k, s, p, o, d), (m, t, q, r, e) in _paired(axes):
        yield {
            "out_channels": 1,
            "kernel_size": [k, m],
            "stride": [s, t],
            "padding": [p, q],
            "output_padding": [o, r],
            "dilation": [d, e],
        }


def _max_pools() -> Iterator[dict[str, Any]]:
    for ceil_mode in (False, True):
        axes = [axis for axis in product((1, 2, 3, 4), (1, 2, 3, 4), (0, 1, 2), (1, 1, 2)) if axis[2] <= axis[0] // 2]
        for (k, s, p, d), (m, t, q, e) in _paired(axes):
            yield {
                "kernel_size": [k, m],
                "stride": [s, t],
                "padding": [p, q],
                "dilation": [d, e],
                "ceil_mode": ceil_mode,
            }


def _average_pools() -> Iterator[dict[str, Any]]:
    for ceil_mode, counted in product((False, True), (False, True)):
        axes = [axis for axis in product((1, 2, 3, 4), (1, 2, 3, 4), (0, 1, 2)) if axis[2] <= axis[0] // 2]
        for (k, s, p), (m, t, q) in _paired(axes):
            yield {
                "kernel_size": [k, m],
                "stride": [s, t],
                "padding": [p, q],
                "ceil_mode": ceil_mode,
                "count_include_pad": counted,
            }


def _pads() -> Iterator[dict[str, Any]]:
    for mode in ("constant", "reflect", "replicate"):
        for (top, bottom), (left, right) in _paired(product(range(5), range(5))):
            yield {"sides": [top, bottom, left, right], "mode": mode}


def _crops() -> Iterator[dict[str, Any]]:
    for (top, bottom), (left, right) in _paired(product(range(4), range(4))):
        yield {"sides": [top, bottom, left, right]}
    for (height, top), (width, left) in _paired(product(range(1, 6), range(4))):
        yield {"size": [height, width]}
        yield {"size": [height, width], "offset": [top, left]}


MODES: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest"},
    "bilinear": {"mode": "bilinear", "align_corners": False},
    "bilinear, corners": {"mode": "bilinear", "align_corners": True},
    "bicubic": {"mode": "bicubic", "align_corners": False},
    "bicubic, corners": {"mode": "bicubic", "align_corners": True},
}
MORE_SIZES: list[Size] = [*SIZES[::2], (12, 9), (1, 1), (16, 24), (33, 17), (64, 48)]
TARGETS: list[Size] = [*((size, 5 * size % ROOM) for size in range(1, 13)), (ROOM, 1), (1, ROOM), (32, 48), (65, 33)]
SCALES = [2, 3, 0.5, 1.5, 0.3, 2.3, 1, [2, 0.5], [1.25, 3], [4, 1]]

RULES: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "conv2d": _convolutions,
    "conv_transpose2d": _transposed,
    "max_pool2d": _max_pools,
    "avg_pool2d": _average_pools,
    "pad": _pads,
    "crop": _crops,
}
SPANS = [{"output_size": [size, 5 * size % ROOM]} for size in range(1, 13)]
POOLS: dict[str, Sequence[dict[str, Any]]] = {
    "adaptive_avg_pool2d": SPANS,
    "adaptive_max_pool2d": SPANS,
    "global_avg_pool2d": [{}],
    "global_max_pool2d": [{}],
}


def _groups() -> Iterator[tuple[str, list[Setting]]]:
    """All that is run, by the name under which the tests find it."""
    for op, attributes in RULES.items():
        yield op, [Setting(op, item, SIZES, gradients=op == "avg_pool2d") for item in attributes()]
    for op, chosen in POOLS.items():
        yield op, [Setting(op, item, SIZES, gradients=True) for item in chosen]
    for name, mode in MODES.items():
        targets = [{**mode, "size": list(size)} for size in TARGETS]
        yield f"{name} to a size", [Setting("resize", item, MORE_SIZES, gradients=True) for item in targets]
        scaled = [{**mode, "scale": scale} for scale in SCALES]
        yield f"{name} by a scale", [Setting("resize", item, MORE_SIZES[:-1]) for item in scaled]


@pytest.fixture(scope="module")
def swept() -> dict[str, list[Row]]:
    """All settings at all sizes, in both frameworks."""
    groups = dict(_groups())
    assert all(setting.graph for group in groups.values() for setting in group)
    return sweep(groups)


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize("op", RULES)
def test_rules_and_refusals(op: str, swept: dict[str, list[Row]]) -> None:
    """The rule is PyTorch's shape, its requirements are PyTorch's errors, and Paddle agrees unless it is refused."""
    wrong, differs = [], []
    apart: dict[str, bool] = {}
    for row in swept[op]:
        inferred, found = row.setting.shape(row.size), None if row.torch is None else row.torch.shape
        if inferred is None and op == "crop":
            continue  # slices and negative padding go beyond the map in silence
        if inferred != found:
            wrong.append(f"{row}: inferred {inferred}, found {found}")
        if row.torch is not None:
            different = not _equal(row.torch, row.paddle)
            if different and not row.setting.refused:
                differs.append(str(row))
            if row.setting.refused:
                apart[str(row.setting)] = apart.get(str(row.setting), False) or different
    assert not wrong, wrong[:5]
    assert not differs, differs[:5]
    assert all(apart.values()), [name for name, different in apart.items() if not different][:5]
    assert bool(apart) == (op in ("max_pool2d", "avg_pool2d", "conv_transpose2d"))


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize("op", [*POOLS, "avg_pool2d"])
def test_gradients_of_pools(op: str, swept: dict[str, list[Row]]) -> None:
    """Outputs agree to rounding; gradients too where no floor is declared, and within the floor elsewhere."""
    coarse = 0
    for row in swept[op]:
        if row.setting.refused or row.setting.shape(row.size) is None:
            continue
        assert row.torch is not None
        assert row.torch.shape == row.setting.shape(row.size)
        assert _equal(row.torch, row.paddle), str(row)
        floor, error = row.setting.floor(row.size, gradients=True), _apart(*row.gradients)
        coarse += error > EXACT
        assert error <= max(EXACT, floor), f"{row}: {error:.1e}, floor {floor:.1e}"
        assert not row.setting.floor(row.size), "the output itself has no floor"
    assert bool(coarse) == ("avg" in op)


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize("mode", MODES)
def test_resize_to_a_size(mode: str, swept: dict[str, list[Row]]) -> None:
    """Where no floor is declared there is none; where one is, it holds; what is refused does differ."""
    coarse = 0
    for row in swept[f"{mode} to a size"]:
        assert row.torch is not None
        assert row.paddle is not None
        assert row.torch.shape == row.paddle.shape == row.setting.shape(row.size)
        error, floor = relative(row.torch, row.paddle), row.setting.floor(row.size)
        if row.setting.refused_at(row.size):
            assert error > 1e-3, f"{row} is refused, and equal"
            continue
        coarse += error > LIMIT
        assert error <= max(EXACT, floor), f"{row}: {error:.1e}, floor {floor:.1e}"
        error = _apart(*row.gradients)
        assert error <= max(EXACT, floor), f"{row}: gradient {error:.1e}, floor {floor:.1e}"
    assert bool(coarse) == (mode != "nearest")


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize("mode", MODES)
def test_resize_by_a_scale(mode: str, swept: dict[str, list[Row]]) -> None:
    """A scaled size is rounded down, and the ratio is that of the sizes."""
    to_size = {row.size: row for row in swept[f"{mode} to a size"] if row.setting.attributes["size"] == [32, 48]}
    for row in swept[f"{mode} by a scale"]:
        inferred, scale = row.setting.shape(row.size), row.setting.attributes["scale"]
        factors = [Fraction(str(factor)) for factor in (scale if isinstance(scale, list) else [scale, scale])]
        wanted = tuple(math.floor(axis * factor) for axis, factor in zip(row.size, factors, strict=True))
        assert (inferred[2:] if inferred else None) == (wanted if all(wanted) else None)
        if inferred is None:
            assert row.torch is None
            continue
        assert row.torch is not None
        assert row.torch.shape == inferred
        if wanted == (32, 48):
            assert _equal(row.torch, to_size[row.size].torch)
        if not row.setting.refused_at(row.size):
            assert row.paddle is not None
            assert row.paddle.shape == inferred
            assert relative(row.torch, row.paddle) <= max(EXACT, row.setting.floor(row.size)), str(row)


def _apart(left: np.ndarray | None, right: np.ndarray | None) -> float:
    assert left is not None
    assert right is not None
    return relative(left, right)


def _equal(left: np.ndarray, right: np.ndarray | None) -> bool:
    return right is not None and left.shape == right.shape and relative(left, right) <= EXACT


# --- what is refused at any size ---------------------------------------------------------------------

REFUSED: dict[str, list[dict[str, Any]]] = {
    "F.max_pool2d(x, {options})": [
        {"kernel_size": k, "padding": p} for k, p in product((1, 2, 3, 4), (1, 2, 3)) if p > k // 2
    ],
    "F.avg_pool2d(x, {options})": [
        {"kernel_size": k, "padding": p, "count_include_pad": True}
        for k, p in product((1, 2, 3, 4), (1, 2, 3))
        if p > k // 2
    ],
    "nn.ConvTranspose2d(4, {options})(x)": [
        {"out_channels": 1, "kernel_size": 3, "stride": s, "output_padding": o, "dilation": d}
        for s, o, d in product((1, 2), (1, 2, 3), (1, 2))
        if o >= max(s, d)
    ],
    "nn.Conv2d(4, {options})(x)": [
        {"out_channels": 4, "kernel_size": 1, "groups": 3},
        {"out_channels": 3, "kernel_size": 1, "groups": 2},
    ],
    "F.softmax(x, {options})": [{"dim": 4}, {"dim": -5}],
    "torch.flatten(x, {options})": [{"start_dim": 4}, {"start_dim": -5}],
}
OPS_REFUSED = ("max_pool2d", "avg_pool2d", "conv_transpose2d", "conv2d", "softmax", "flatten")


@pytest.mark.torch
def test_what_no_size_allows() -> None:
    """Attributes that the declarations refuse at any size are attributes that PyTorch refuses."""
    expressions = []
    for op, (call, refused) in zip(OPS_REFUSED, REFUSED.items(), strict=True):
        for attributes in refused:
            assert Setting(op, attributes, channels=4).graph is None, (op, attributes)
            options = ", ".join(f"{name}={value}" for name, value in attributes.items())
            text = call.format(options=options)
            expressions.append(text.replace("(x", "(torch.zeros(1, 4, 13, 13)"))
    _, failures = evaluate("torch", expressions)
    assert [text for index, text in enumerate(expressions) if index not in failures] == []


# --- rules of several inputs, and of any number of axes ----------------------------------------------


class Kept:
    """Collects whether all that an op requires holds."""

    def __init__(self) -> None:
        self.holds = True

    def equal(self, left: Any, right: Any, message: str, remedy: str = "") -> None:
        self.holds &= left == right

    def at_least(self, value: Any, minimum: int, message: str, remedy: str = "", *, training: bool = False) -> None:
        self.holds &= training or value >= minimum


Shapes = tuple[tuple[int, ...], ...]


def _plain() -> Iterator[tuple[str, dict[str, Any], Shapes, str]]:
    """Ops on plain shapes, and how PyTorch writes them."""
    sizes = (1, 2, 3)
    for left, right in product(product(sizes, repeat=2), repeat=2):
        both = ((2, *left), (2, *right))
        yield "add", {}, both, "x[0] + x[1]"
        yield "sub", {}, both, "x[0] - x[1]"
        yield "mul", {}, both, "x[0] * x[1]"
        yield "maximum", {}, both, "torch.maximum(x[0], x[1])"
        for dim in (-1, 1, 2):
            yield "concat", {"dim": dim}, both, f"torch.cat(x, dim={dim})"
    for shape, axis in product([(2, 3), (2, 3, 4), (2, 3, 4, 5)], range(-5, 5)):
        yield "flatten", {"start_dim": axis}, (shape,), f"torch.flatten(x[0], {axis})"
        yield "softmax", {"dim": axis}, (shape,), f"F.softmax(x[0], dim={axis})"
        yield "concat", {"dim": axis}, (shape, shape, shape), f"torch.cat(x, dim={axis})"
    for shape in [(2, 3), (2, 4, 3), (2, 1, 2, 3)]:
        yield "linear", {"out_features": 5}, (shape,), "nn.Linear(3, 5)(x[0])"
    for shape, parameters in product([(2, 3), (2, 3, 4)], (1, 2, 3)):
        yield "prelu", {"num_parameters": parameters}, (shape,), f"nn.PReLU({parameters})(x[0])"


@pytest.mark.torch
def test_rules_of_plain_shapes() -> None:
    cases = list(_plain())
    expressions = []
    for _, _, shapes, text in cases:
        inputs = ", ".join(f"torch.zeros({shape})" for shape in shapes)
        expressions.append(f"(lambda x: list(({text}).shape))([{inputs}])")
    values, failures = evaluate("torch", expressions)
    assert values
    assert failures
    wrong = []
    for index, (op, attributes, shapes, _) in enumerate(cases):
        kept = Kept()
        inferred = OPS[op](**attributes).shape(shapes, kept)
        found = values.get(index)
        if (list(inferred) if kept.holds else None) != found:
            wrong.append(f"{op} {attributes} of {shapes}: inferred {inferred}, holds {kept.holds}, found {found}")
    assert not wrong, wrong[:5]


def relative(reference: np.ndarray, other: np.ndarray) -> float:
    """The relative L2 error; infinite where either is not finite."""
    norm, distance = np.linalg.norm(reference), np.linalg.norm(reference - other)
    if not (np.isfinite(norm) and np.isfinite(distance)):
        return float("inf")
    return float(distance / norm) if norm else float(distance and "inf")
