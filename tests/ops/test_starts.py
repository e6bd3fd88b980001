"""How networks start, and what they draw while they train: the same distributions everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sweep import apply, draws, network

from segspec.ops.initializers import INITIALIZERS
from segspec.render import render
from segspec.render.backend import backend, backends
from segspec.weights import initial
from segspec.weights.state import entries, placement

FRAMEWORKS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("torch", "paddle")]
SOURCES = [*FRAMEWORKS, "fresh"]
"""Where a start can come from: a generated module, or ``weights init``, which NumPy draws."""
TIMES = 6
CRITICAL = 2.2
"""What the Kolmogorov–Smirnov statistic exceeds once in ten thousand times."""

NODES: dict[str, Any] = {
    "conv": {"op": "conv2d", "from": "x", "out_channels": 32, "kernel_size": 3},
    "grouped": {"op": "conv2d", "from": "x", "out_channels": 32, "kernel_size": 3, "groups": 4},
    "up": {"op": "conv_transpose2d", "from": "x", "out_channels": 32, "kernel_size": 3, "stride": 2},
    "up_grouped": {"op": "conv_transpose2d", "from": "x", "out_channels": 32, "kernel_size": 3, "groups": 4},
    "norm": {"op": "batch_norm2d", "from": "x"},
    "slopes": {"op": "prelu", "from": "x", "num_parameters": 64},
    "pooled": {"op": "global_avg_pool2d", "from": "x"},
    "flat": {"op": "flatten"},
    "fc": {"op": "linear", "out_features": 48},
    "line": {"op": "flatten", "from": "x", "start_dim": 2},
    "mix": {"op": "conv1d", "out_channels": 32, "kernel_size": 3},
    "norm1": {"op": "batch_norm1d", "from": "line"},
    "matrix": {"op": "parameter", "size": [48, 64]},
    "cube": {"op": "parameter", "size": [32, 16, 9]},
    "kernel": {"op": "parameter", "size": [32, 16, 3, 3]},
}
OUTPUTS = ["conv", "grouped", "up", "up_grouped", "norm", "slopes", "fc", "mix", "norm1", "matrix", "cube", "kernel"]

ENLARGING: dict[str, dict[str, Any]] = {
    "even": {"out_channels": 6, "kernel_size": 4},
    "odd": {"out_channels": 6, "kernel_size": [3, 2], "bias": False},
    "grouped": {"out_channels": 6, "kernel_size": 4, "groups": 2},
    "alone": {"out_channels": 6, "kernel_size": 16, "groups": 6},
}
"""Transposed convolutions that start as bilinear enlargement, of six channels."""

FANS = {
    "conv": (64 * 9, 32 * 9),
    "grouped": (16 * 9, 32 * 9),
    "up": (32 * 9, 64 * 9),
    "up_grouped": (8 * 9, 64 * 9),
    "fc": (64, 48),
    "mix": (64 * 3, 32 * 3),
}
"""Fan-in and fan-out in PyTorch's sense: the second and the first axis of the canonical weight, times the kernel."""

TENSORS = {"matrix": (64, 48), "cube": (16 * 9, 32 * 9), "kernel": (16 * 9, 32 * 9)}
"""Those of tensors that are no layers."""

Law = tuple[str, float, float]
"""``normal`` with its mean and standard deviation, or ``uniform`` between two numbers (which may be one)."""


def _constant(value: float) -> Callable[[int, int], Law]:
    return lambda fan_in, fan_out: ("uniform", value, value)


def _normal(std: Callable[[int, int], float], mean: float = 0.0) -> Callable[[int, int], Law]:
    return lambda fan_in, fan_out: ("normal", mean, std(fan_in, fan_out))


def _uniform(bound: Callable[[int, int], float]) -> Callable[[int, int], Law]:
    return lambda fan_in, fan_out: ("uniform", -bound(fan_in, fan_out), bound(fan_in, fan_out))


LAWS: dict[str, tuple[Any, Callable[[int, int], Law]]] = {
    "zeros": ("zeros", _constant(0)),
    "ones": ("ones", _constant(1)),
    "constant": ({"constant": {"value": 0.3}}, _constant(0.3)),
    "normal": ({"normal": {"std": 0.02}}, _normal(lambda i, o: 0.02)),
    "normal, off centre": ({"normal": {"mean": 0.5, "std": 0.1}}, _normal(lambda i, o: 0.1, 0.5)),
    "uniform": ({"uniform": {"low": -0.1, "high": 0.3}}, lambda i, o: ("uniform", -0.1, 0.3)),
    "kaiming_normal": ("kaiming_normal", _normal(lambda i, o: math.sqrt(2 / i))),
    "kaiming_normal, out": ({"kaiming_normal": {"mode": "fan_out"}}, _normal(lambda i, o: math.sqrt(2 / o))),
    "kaiming_uniform": ("kaiming_uniform", _uniform(lambda i, o: math.sqrt(6 / i))),
    "kaiming_uniform, out": ({"kaiming_uniform": {"mode": "fan_out"}}, _uniform(lambda i, o: math.sqrt(6 / o))),
    "xavier_normal": ("xavier_normal", _normal(lambda i, o: math.sqrt(2 / (i + o)))),
    "xavier_uniform": ("xavier_uniform", _uniform(lambda i, o: math.sqrt(6 / (i + o)))),
    "fan_in_uniform": ("fan_in_uniform", _uniform(lambda i, o: 1 / math.sqrt(i))),
}
WITHOUT_FANS = ("zeros", "ones", "constant", "normal", "normal, off centre", "uniform")
"""What a bias can start from, besides fan_in_uniform, whose fan is the weight's."""


def _rules(written: Any, *, bias: Any) -> dict[str, Any]:
    layers = {op: {"weight": written, "bias": bias} for op in ("conv1d", "conv2d", "conv_transpose2d", "linear")}
    return {**layers, "parameter": {"value": written}}


def _graphs() -> dict[str, Any]:
    """A network for each initialiser, one without any, one that says them at its nodes."""
    made = {"default": network(NODES, channels=64, outputs=OUTPUTS)}
    for name, (written, _) in LAWS.items():
        bias = written if name in (*WITHOUT_FANS, "fan_in_uniform") else "zeros"
        made[name] = network(NODES, channels=64, outputs=OUTPUTS, init=_rules(written, bias=bias))
    own = {
        **NODES,
        "conv": {**NODES["conv"], "init": {"weight": "xavier_normal", "bias": {"constant": {"value": 0.7}}}},
    }
    own["fc"] = {**NODES["fc"], "init": {"weight": {"normal": {"std": 0.01}}, "bias": "fan_in_uniform"}}
    made["own"] = network(own, channels=64, outputs=OUTPUTS, init=_rules("kaiming_normal", bias="zeros"))
    slots = {"batch_norm2d": {"weight": {"uniform": {"low": 0, "high": 1}}, "bias": {"normal": {"std": 0.1}}}}
    slots["prelu"] = {"weight": {"constant": {"value": 0.1}}}
    bare = {**NODES, "bare": {"op": "batch_norm2d", "from": "x", "affine": False}}
    enlarging = {
        name: {**node, "op": "conv_transpose2d", "from": "x", "stride": 2, "init": {"weight": "bilinear"}}
        for name, node in ENLARGING.items()
    }
    made["bilinear"] = network(enlarging, channels=6, outputs=list(enlarging))
    # Tensors of a block of their own, as graph units have them.
    nodes: dict[str, Any] = {
        f"tensor{index}": {"op": "parameter", "size": [48, 64], "init": {"value": written}}
        for index, (written, _) in enumerate(LAWS.values())
    }
    nodes["given"] = {"op": "buffer", "size": [48, 64], "init": {"value": {"normal": {"std": 0.5}}}}
    nodes["all"] = {"op": "add", "from": list(nodes)}
    nodes["y"] = {"op": "einsum", "from": ["x", "all"], "equation": "n c h w, k c -> n k h w"}
    made["tensors"] = network({"unit": {"block": "Unit"}}, channels=64, blocks={"Unit": {"nodes": nodes}})
    made["other ops"] = network(bare, channels=64, outputs=[*OUTPUTS, "bare"], init=slots)
    return made


GRAPHS = _graphs()


@pytest.fixture(scope="module")
def drawn() -> Callable[[str], dict[str, dict[str, np.ndarray]]]:
    """Of one source, the tensors of each network by canonical name, as often as it was drawn."""
    held: dict[str, dict[str, dict[str, np.ndarray]]] = {}

    def get(name: str) -> dict[str, dict[str, np.ndarray]]:
        if name == "fresh" and name not in held:
            held[name] = {key: _fresh(graph) for key, graph in GRAPHS.items()}
        if name not in held:
            states = draws(name, list(GRAPHS.values()), [TIMES] * len(GRAPHS))
            held[name] = {
                key: {item["name"]: state[item["key"]] for item in placement(graph, backend(name))}
                for (key, graph), state in zip(GRAPHS.items(), states, strict=True)
            }
        return held[name]

    return get


def _fresh(graph: Any) -> dict[str, np.ndarray]:
    tensors = [{entry.name: values for entry, values in initial.draw(graph, seed)} for seed in range(TIMES)]
    return {name: np.stack([held[name] for held in tensors]) for name in tensors[0]}


def _follows(values: np.ndarray, law: Law) -> None:
    """Hold a sample to a distribution: range, mean and spread, and its whole shape."""
    kind, first, second = law
    sample = np.sort(values.astype("float64").ravel())
    if kind == "uniform" and first == second:
        assert (sample == np.float32(first)).all()
        return
    if kind == "normal":
        mean, std = first, second
        below = np.array([0.5 * math.erfc((mean - value) / std / math.sqrt(2)) for value in sample])
    else:
        mean, std = (first + second) / 2, (second - first) / math.sqrt(12)
        slack = 1e-6 * (second - first)
        assert first - slack <= sample[0]
        assert sample[-1] <= second + slack
        below = (sample - first) / (second - first)
    count = len(sample)
    assert abs(sample.mean() - mean) < 4 * std / math.sqrt(count)
    assert abs(sample.std() / std - 1) < 4 / math.sqrt(2 * count)
    steps = np.arange(count + 1) / count
    apart = max(np.abs(below - steps[1:]).max(), np.abs(below - steps[:-1]).max())
    assert apart * math.sqrt(count) < CRITICAL


def test_every_initializer_has_a_law() -> None:
    assert {name.split(",")[0] for name in LAWS} | {"bilinear"} == set(INITIALIZERS)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("node", FANS)
def test_weights_follow_their_initializer(law: str, node: str, name: str, drawn: Callable[..., Any]) -> None:
    state = drawn(name)[law]
    _follows(state[f"{node}.weight"], LAWS[law][1](*FANS[node]))
    bias = LAWS[law][1](*FANS[node]) if law in (*WITHOUT_FANS, "fan_in_uniform") else ("uniform", 0.0, 0.0)
    _follows(state[f"{node}.bias"], bias)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("node", TENSORS)
def test_tensors_follow_their_initializer(law: str, node: str, name: str, drawn: Callable[..., Any]) -> None:
    _follows(drawn(name)[law][node], LAWS[law][1](*TENSORS[node]))


@pytest.mark.parametrize("name", SOURCES)
def test_each_draw_is_another(name: str, drawn: Callable[..., Any]) -> None:
    weights = drawn(name)["kaiming_normal"]["conv.weight"]
    assert len({weight.tobytes() for weight in weights}) == TIMES


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("node", FANS)
def test_the_default_is_the_declared_one(node: str, name: str, drawn: Callable[..., Any]) -> None:
    """Without ``init``, weights and biases alike are uniform in ±1/√fan-in; this is PyTorch's own default."""
    state, bound = drawn(name)["default"], 1 / math.sqrt(FANS[node][0])
    _follows(state[f"{node}.weight"], ("uniform", -bound, bound))
    _follows(state[f"{node}.bias"], ("uniform", -bound, bound))


@pytest.mark.parametrize("law", LAWS)
def test_what_is_declared_is_said(law: str) -> None:
    """What each tensor's distribution is said to be, against formulas of its own."""
    said = {entry.name: entry.law for entry in entries(GRAPHS[law])}
    for name, (fan_in, fan_out) in {**{f"{node}.weight": fans for node, fans in FANS.items()}, **TENSORS}.items():
        found, (kind, first, second) = said[name], LAWS[law][1](fan_in, fan_out)
        assert found
        mean, std = (first, second) if kind == "normal" else ((first + second) / 2, (second - first) / math.sqrt(12))
        assert (found.mean, found.std) == pytest.approx((mean, std), rel=1e-12)
        for probability in (0.1, 0.5, 0.975) if std else ():
            z = {0.1: -1.2815515655446004, 0.5: 0.0, 0.975: 1.959963984540054}[probability]
            at = mean + z * std if kind == "normal" else first + probability * (second - first)
            assert found.quantile(probability) == pytest.approx(at, rel=1e-9, abs=1e-12)
            assert found.cdf(at) == pytest.approx(probability, rel=1e-9)


def test_the_reference_leaves_its_own_default() -> None:
    """So what the test above holds for PyTorch is PyTorch's default, and Paddle is brought to it."""
    for name in backends():
        assert ("init_weights" in render(GRAPHS["default"], backend(name))) == (name != "torch")


@pytest.mark.parametrize("name", SOURCES)
def test_what_other_ops_start_from(name: str, drawn: Callable[..., Any]) -> None:
    state = drawn(name)["default"]
    for slot, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
        _follows(state[f"norm.{slot}"], ("uniform", value, value))
        _follows(state[f"norm1.{slot}"], ("uniform", value, value))
    _follows(state["slopes.weight"], ("uniform", 0.25, 0.25))
    for tensor in TENSORS:
        _follows(state[tensor], ("uniform", 0.0, 0.0))
    state = drawn(name)["other ops"]
    _follows(state["norm.weight"], ("uniform", 0.0, 1.0))
    _follows(state["norm.bias"], ("normal", 0.0, 0.1))
    _follows(state["slopes.weight"], ("uniform", 0.1, 0.1))
    _follows(state["norm.running_var"], ("uniform", 1.0, 1.0))


@pytest.mark.parametrize("name", SOURCES)
def test_a_node_says_its_own(name: str, drawn: Callable[..., Any]) -> None:
    """A node's ``init`` holds over the network's, for that node alone."""
    state = drawn(name)["own"]
    _follows(state["conv.weight"], ("normal", 0.0, math.sqrt(2 / sum(FANS["conv"]))))
    _follows(state["conv.bias"], ("uniform", 0.7, 0.7))
    _follows(state["fc.weight"], ("normal", 0.0, 0.01))
    _follows(state["fc.bias"], ("uniform", -1 / 8, 1 / 8))
    _follows(state["grouped.weight"], ("normal", 0.0, math.sqrt(2 / FANS["grouped"][0])))
    _follows(state["grouped.bias"], ("uniform", 0.0, 0.0))


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("law", LAWS)
def test_tensors_start_as_their_nodes_say(law: str, name: str, drawn: Callable[..., Any]) -> None:
    """A tensor's fans are those of a linear layer's canonical weight: its second axis is what goes in."""
    _follows(drawn(name)["tensors"][f"unit.tensor{list(LAWS).index(law)}"], LAWS[law][1](64, 48))


@pytest.mark.parametrize("name", SOURCES)
def test_a_buffer_starts_as_its_node_says(name: str, drawn: Callable[..., Any]) -> None:
    _follows(drawn(name)["tensors"]["unit.given"], ("normal", 0.0, 0.5))


@pytest.mark.parametrize("name", SOURCES)
def test_bilinear_enlarges_each_channel_by_itself(name: str, drawn: Callable[..., Any]) -> None:
    state = drawn(name)["bilinear"]
    for node, attributes in ENLARGING.items():
        height, width = np.broadcast_to(attributes["kernel_size"], 2)
        groups = attributes.get("groups", 1)
        expected = np.zeros((6, 6 // groups, height, width))
        for group, inner in np.ndindex(groups, 6 // groups):
            for y, x in np.ndindex(height, width):
                # As Long, Shelhamer and Darrell's code has it, along either axis by itself.
                factors = [(height + 1) // 2, (width + 1) // 2]
                centres = [f - 1 if k % 2 else f - 0.5 for f, k in zip(factors, (height, width), strict=True)]
                expected[group * (6 // groups) + inner, inner, y, x] = np.prod(
                    [1 - abs(at - c) / f for at, c, f in zip((y, x), centres, factors, strict=True)]
                )
        for weight in state[f"{node}.weight"]:
            assert np.allclose(weight, expected, rtol=0, atol=1e-7)


# --- dropout -----------------------------------------------------------------------------------------

RATES = (0.1, 0.5, 0.8)
SHAPE = (8, 64, 24, 24)


@pytest.fixture(scope="module")
def dropped() -> Callable[[str], list[dict[str, np.ndarray]]]:
    """What one framework's own dropout makes of ones: at each rate element by element, then channel by channel."""
    held: dict[str, list[dict[str, np.ndarray]]] = {}

    def get(name: str) -> list[dict[str, np.ndarray]]:
        if name not in held:
            graphs = [
                network({"y": {"op": op, "p": rate}}, channels=64) for op in ("dropout", "dropout2d") for rate in RATES
            ]
            held[name] = apply(name, graphs, SHAPE)
        return held[name]

    return get


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("index", range(2 * len(RATES)))
def test_dropout(index: int, name: str, dropped: Callable[[str], list[dict[str, np.ndarray]]]) -> None:
    """Verification draws the masks itself; this is what the frameworks' own layers do."""
    found, rate, by_channel = dropped(name)[index], RATES[index % len(RATES)], index >= len(RATES)
    assert (found["eval"] == 1).all()
    kept = found["train"] != 0
    assert np.allclose(found["train"][kept], 1 / (1 - rate), rtol=1e-6)
    if by_channel:
        assert (kept == kept[:, :, :1, :1]).all()
        kept = kept[:, :, 0, 0]
    else:
        assert not (kept == kept[:, :, :1, :1]).all()
    assert abs(kept.mean() - (1 - rate)) < 4 * math.sqrt(rate * (1 - rate) / kept.size)
