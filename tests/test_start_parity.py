"""The check of how networks start finds every fault planted in it, at its tensor, and nothing where all is right."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from segspec.backends.arrays import Reading
from segspec.graph.elaborate import elaborate
from segspec.graph.model import Graph
from segspec.ops.laws import Gaussian, Interval, Law
from segspec.parity import starts as checked
from segspec.parity.process import execute
from segspec.parity.recording import module, weights_in
from segspec.parity.starts import StartRow, starts
from segspec.render import render
from segspec.render.backend import backend
from segspec.spec.load import load
from segspec.weights import initial
from segspec.weights.state import entries

SPEC: dict[str, Any] = {
    "segspec": 1,
    "name": "example",
    "title": "An example",
    "inputs": {"x": {"channels": 16}},
    "nodes": {
        "first": {"op": "conv2d", "out_channels": 64, "kernel_size": 3},
        "norm": {"op": "batch_norm2d"},
        "second": {"op": "conv2d", "out_channels": 16, "kernel_size": 3},
        "third": {"op": "conv2d", "out_channels": 64, "kernel_size": 3},
        "given": {"op": "parameter", "size": [16, 64, 1, 1], "init": {"value": {"uniform": {"low": 1, "high": 3}}}},
        "pooled": {"op": "global_avg_pool2d", "from": "third"},
        "flat": {"op": "flatten"},
        "fc": {"op": "linear", "out_features": 40},
        "up": {"op": "conv_transpose2d", "from": "second", "out_channels": 16, "kernel_size": 6, "stride": 3},
        "head": {"op": "conv2d", "out_channels": 2, "kernel_size": 1, "init": {"weight": {"normal": {"std": 0.01}}}},
    },
    "outputs": ["fc", "head", "given"],
    "init": {
        "conv2d": {"weight": {"kaiming_normal": {"mode": "fan_out"}}, "bias": "zeros"},
        "conv_transpose2d": {"weight": "bilinear"},
    },
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    path = tmp_path_factory.mktemp("spec") / "example.yaml"
    path.write_text(yaml.safe_dump(SPEC, sort_keys=False), encoding="utf-8")
    return elaborate(load(path))


# --- the statistics, on values that NumPy draws --------------------------------------------------------

Fault = Callable[[np.ndarray], np.ndarray]


@pytest.fixture
def simulated(graph: Graph) -> Callable[..., list[StartRow]]:
    """The check with backends that draw what is declared, but for the second one's faults by tensor."""

    def run(faults: dict[str, Fault] | None = None, seed: int = 0) -> list[StartRow]:
        def values(name: str) -> dict[str, np.ndarray]:
            first = 1000 * seed + (500 if name == "paddle" else 0)
            other = (faults or {}) if name == "paddle" else {}
            builds = checked.asked(graph)["builds"]
            tensors = entries(graph)
            drawn = {
                entry.name: np.stack([initial.values(entry, first + build) for build in range(builds)])
                for entry in tensors
            }
            drawn |= {name: fault(drawn[name]) for name, fault in other.items()}
            return {
                entry.name: drawn[entry.name].reshape(builds, -1)[:, :: checked._step(entry.shape, builds)]
                for entry in tensors
                if drawn[entry.name].size
            }

        return list(starts(graph, {name: values(name) for name in ("torch", "paddle")}))

    return run


def test_a_right_start_passes(simulated: Callable[..., list[StartRow]]) -> None:
    """And its errors are such as sampling makes them: neither all near nothing nor at their limits."""
    for seed in range(5):
        rows = simulated(seed=seed)
        assert all(row.ok for row in rows)
        near = [row.error / row.limit for row in rows if row.error is not None and row.limit]
        assert 0.1 < float(np.median(near)) < 0.4
        assert {row.check for row in rows} >= {"start", "start copies"}


def _spoilt(values: np.ndarray, spoil: Callable[[np.ndarray], None]) -> np.ndarray:
    copied = values.copy()
    spoil(copied)
    return copied


def _set(value: float, place: int = 0) -> Fault:
    """One value of the last build replaced."""
    return lambda values: _spoilt(values, lambda copied: np.put(copied[-1], place, value))


FAULTS: dict[str, tuple[str, Fault, str, str]] = {
    "std 12 % too large": (
        "first.weight",
        lambda v: v * 1.12,
        "start std",
        "where kaiming_normal(mode=fan_out) has 0.0589",
    ),
    "std 12 % too small": ("first.weight", lambda v: v * 0.88, "start std", "std 0.052"),
    "fans the other way round": ("first.weight", lambda v: v * 2, "start std", "std 0.118 where"),
    "off centre": ("third.weight", lambda v: v + 0.01, "start mean", "where kaiming_normal(mode=fan_out) has 0"),
    "uniform, of the same spread": (
        "first.weight",
        lambda v: np.random.default_rng(0).uniform(-0.0589 * 3**0.5, 0.0589 * 3**0.5, v.shape),
        "start quantiles",
        "of the values are below",
    ),
    "every second left out": (
        "first.weight",
        lambda v: v * (np.arange(v.size).reshape(v.shape) % 2) * 2**0.5,
        "start quantiles",
        "50%",
    ),
    "out of range": (
        "given",
        _set(3.1),
        "start range",
        "3.1 is farther from 2 than uniform(low=1.0, high=3.0) goes",
    ),
    "zero where it is random": ("fc.bias", lambda v: v * 0, "start repeats", "all values are 0"),
    "the same in each build": (
        "second.weight",
        lambda v: np.broadcast_to(v[:1], v.shape),
        "start repeats",
        "the same in each",
    ),
    "a bias that is not zero": ("first.bias", _set(1e-7), "start", "1e-07 where zeros has 0"),
    "a scale that is not one": ("norm.weight", _set(0.9999999), "start", "where ones has 1"),
    "statistics not as they begin": ("norm.running_var", lambda v: v * 0, "start", "0 where ones has 1"),
    "not a number": ("first.weight", _set(np.nan), "start", "not all values are finite"),
    "no number where it is certain": ("first.bias", _set(np.nan), "start", "nan where zeros has 0"),
    "bilinear but for rounding": ("up.weight", lambda v: np.nextafter(v, np.float32(2)), "start", "where bilinear has"),
    "missing": ("fc.weight", lambda v: v[:0], "start", "has no such tensor"),
    "of another size": ("norm.bias", lambda v: v[:, :-1], "start", "has no such tensor of 64 elements"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_at_its_tensor(fault: str, simulated: Callable[..., list[StartRow]]) -> None:
    tensor, spoil, check, note = FAULTS[fault]
    rows = simulated({tensor: spoil})
    (found,) = (row for row in rows if row.tensor == tensor and row.backends == ("paddle",))
    assert not found.ok
    assert found.check == check
    assert note in found.note
    wrong = {row.tensor for row in rows if not row.ok}
    assert {name for name in wrong if "nodes" not in name} == {tensor}
    assert all(row.ok for row in rows if row.backends == ("torch",))


def test_a_copy_is_found(simulated: Callable[..., list[StartRow]]) -> None:
    """Scaled, as a generator that starts anew at each layer would draw it."""
    drawn: list[np.ndarray] = []

    def keep(values: np.ndarray) -> np.ndarray:
        drawn.append(values)
        return values

    def repeat(values: np.ndarray) -> np.ndarray:
        return drawn[-1].reshape(values.shape) * np.float32(2)  # its fan-out is four times as large

    rows = simulated({"first.weight": keep, "second.weight": repeat})
    (found,) = (row for row in rows if not row.ok)
    assert (found.check, found.tensor, found.note) == ("start copies", "second.weight", "repeats first.weight")


def test_small_errors_show_in_many_tensors(simulated: Callable[..., list[StartRow]]) -> None:
    """Each for itself they pass."""
    rows = simulated({name: lambda v: v * 1.04 for name in ("first.weight", "second.weight", "third.weight")})
    wrong = [row for row in rows if not row.ok]
    assert {row.tensor for row in wrong} == {"conv2d.weight of 3 nodes, standardised"}


@pytest.mark.parametrize("law", [Gaussian(1.0, 2.0), Interval(-1.0, 3.0)])
@pytest.mark.parametrize("count", [2, 30, 3_000])
def test_limits_are_passed_as_seldom_as_they_say(count: int, law: Law, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "FALSE_ALARM", 0.05)
    tests, draw, times = checked._Tests([], 1), np.random.default_rng(7), 1_000
    passed: dict[str, int] = {}
    for _ in range(times):
        first, second = (
            checked._Sample(
                "",
                (),
                "",
                law,
                draw.standard_normal((1, count))
                if isinstance(law, Gaussian)
                else draw.uniform(-(3**0.5), 3**0.5, (1, count)),
            )
            for _ in range(2)
        )
        for item in (*tests.declared(first), *tests.equal(first, second)):
            passed[item.check] = passed.get(item.check, 0) + (item.error > item.limit)
    assert all(number <= 0.06 * times for number in passed.values())
    if count == 3_000:
        assert passed["start quantiles"] > 0.02 * times
        assert passed["start agrees: quantiles"] > 0.02 * times


# --- the frameworks' own ------------------------------------------------------------------------------


def started(graph: Graph, *names: str, source: str = "") -> list[StartRow]:
    """The check of what these backends draw, of what is generated or of another source."""
    drawn: dict[str, dict[str, np.ndarray]] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            job = module(
                graph, backend(name), folder / "m0", [checked.asked(graph)], weights_in(folder / "m0", graph), source
            )
            passes = execute(backend(name), [job], folder).modules["m0"]
            found = Reading(str(folder / "m0.bin"), passes["starts"]["index"])
            drawn[name] = {key: np.array(values) for key, values in found.items()}
    return list(starts(graph, drawn))


CONVOLUTIONS = {"first.weight", "second.weight", "third.weight"}
OF_ITS_OWN = {"up.weight", "up.bias", "fc.weight", "fc.bias", "head.weight", "given"}

SABOTAGE: dict[str, tuple[str, str, str, set[str]]] = {
    "a bias left as the framework makes it": (
        "torch",
        "nn.init.zeros_(module.bias)",
        "pass",
        {"first.bias", "second.bias", "third.bias", "head.bias"},
    ),
    "another gain": ("torch", 'nonlinearity="relu"', 'nonlinearity="tanh"', CONVOLUTIONS),
    "fan-in for fan-out": ("paddle", 'mode="fan_out", ', "", CONVOLUTIONS),
    "fan-out for fan-in": ("paddle", "layer.weight.shape[0]", "layer.weight.shape[1]", {"fc.weight", "fc.bias"}),
    "all left as the framework makes it": ("paddle", "self.apply(init_weights)", "pass", CONVOLUTIONS | OF_ITS_OWN),
}


@pytest.mark.parametrize("fault", [pytest.param(key, marks=getattr(pytest.mark, SABOTAGE[key][0])) for key in SABOTAGE])
def test_sabotage_of_generated_code_is_found(fault: str, graph: Graph) -> None:
    name, right, wrong, tensors = SABOTAGE[fault]
    source = render(graph, backend(name))
    assert right in source
    rows = started(graph, name, source=source.replace(right, wrong))
    assert {row.tensor for row in rows if not row.ok and "nodes" not in row.tensor} == tensors


def test_what_stops_a_backend_is_a_row(graph: Graph) -> None:
    (row,) = starts(graph, {"torch": "it has no memory left"})
    assert (row.ok, row.error, row.note) == (False, None, "PyTorch failed: it has no memory left")


@pytest.mark.torch
@pytest.mark.paddle
def test_generated_code_starts_right_and_the_same_again(graph: Graph) -> None:
    rows = started(graph, "torch", "paddle")
    assert all(row.ok for row in rows)
    again = {row.tensor: row.error for row in started(graph, "torch")}
    assert again == {row.tensor: row.error for row in rows if row.backends == ("torch",)}
    assert {row.backends for row in rows} == {("torch",), ("paddle",), ("torch", "paddle")}
    assert {row.tensor for row in rows} >= CONVOLUTIONS | OF_ITS_OWN | {"norm.running_var"}
