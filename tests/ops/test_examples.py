"""Every op at every example it declares, in every form: what is inferred is what both frameworks compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from grid import Case, cases

from segspec.graph.instances import at_size, instances, resolve
from segspec.graph.model import Graph
from segspec.ops.base import product
from segspec.parity import run
from segspec.parity.verify import LIMIT, relative
from segspec.render import render_all
from segspec.render.backend import backend, backends, floors
from segspec.weights import seeded
from segspec.weights.state import entries

CASES = list(cases())
MODES = ("eval", "train")
GRADIENT_LIMIT = 1e-8

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


@dataclass(frozen=True)
class Example:
    """A case's network, and what it is run on."""

    case: Case
    graph: Graph
    inputs: Mapping[str, np.ndarray]

    @property
    def shape(self) -> tuple[int, ...]:
        """The inferred shape of the output."""
        values = at_size(self.graph, *self.case.size, self.case.batch)
        return tuple(map(int, resolve(self.graph.root.outputs[0].shape, values)))

    def floors(self, mode: str, *, gradients: bool = False) -> tuple[float, str]:
        """The declared floors' sum, and what they are."""
        found = floors(
            self.graph,
            list(backends().values()),
            *self.case.size,
            self.case.batch,
            training=mode == "train",
            gradients=gradients,
        )
        return sum(item.limit for item in found), "; ".join(f"{item.backend}: {item.reason}" for item in found)


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Example]:
    """Every case's network."""
    folder = tmp_path_factory.mktemp("examples")
    made = {}
    for case in CASES:
        graph = case.graph(folder)
        values = at_size(graph, *case.size, case.batch)
        inputs = {
            item.name: seeded.image(item.name, tuple(map(int, resolve(item.shape, values)))).astype("float64")
            for item in graph.root.inputs
        }
        made[case.id] = Example(case, graph, inputs)
    return made


def _results(name: str, examples: Mapping[str, Example]) -> run.Results:
    sources = render_all((example.graph, backend(name)) for example in examples.values())
    return run.run(
        backend(name),
        {key: (example.graph, source) for (key, example), source in zip(examples.items(), sources, strict=True)},
        {
            key: [run.Run(mode, example.inputs, "float64", mode, gradients=True) for mode in MODES]
            for key, example in examples.items()
        },
    )


@pytest.fixture(scope="session")
def on_torch(examples: dict[str, Example]) -> run.Results:
    """All cases, run by PyTorch."""
    return _results("torch", examples)


@pytest.fixture(scope="session")
def on_paddle(examples: dict[str, Example]) -> run.Results:
    """All cases, run by PaddlePaddle."""
    return _results("paddle", examples)


@pytest.fixture(params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("torch", "paddle")])
def results(request: pytest.FixtureRequest) -> run.Results:
    """All cases, run by one framework after the other."""
    return request.getfixturevalue(f"on_{request.param}")  # type: ignore[no-any-return]


def test_ids_are_different() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


@every_case
def test_shape(case: Case, examples: dict[str, Example], results: run.Results) -> None:
    if case.id in results.failures:
        pytest.fail(results.failures[case.id], pytrace=False)
    for mode in MODES:
        assert results.arrays[case.id, mode]["output 0"].shape == examples[case.id].shape


@every_case
@pytest.mark.torch
@pytest.mark.paddle
def test_outputs(case: Case, examples: dict[str, Example], on_torch: run.Results, on_paddle: run.Results) -> None:
    for mode in MODES:
        left, right = (_arrays(held, case, mode)["output 0"] for held in (on_torch, on_paddle))
        assert np.ptp(left), "an output that is the same everywhere shows nothing"
        floor, reason = examples[case.id].floors(mode)
        _hold(relative(left, right), LIMIT, floor, f"output in {mode} mode", reason)


@every_case
@pytest.mark.torch
@pytest.mark.paddle
def test_gradients(case: Case, examples: dict[str, Example], on_torch: run.Results, on_paddle: run.Results) -> None:
    example = examples[case.id]
    wanted = {f"gradient {entry.name}" for entry in entries(example.graph) if entry.trainable}
    wanted |= {f"gradient input {index}" for index in _that_matter(case)}
    for mode in MODES:
        left, right = (_arrays(held, case, mode) for held in (on_torch, on_paddle))
        floor, reason = example.floors(mode, gradients=True)
        for name in wanted:
            assert left[name].any()
            _hold(relative(left[name], right[name]), GRADIENT_LIMIT, floor, f"{name} in {mode} mode", reason)


@pytest.mark.parametrize("case", [case for case in CASES if case.op == "batch_norm2d"], ids=lambda case: case.id)
@pytest.mark.torch
@pytest.mark.paddle
def test_statistics(case: Case, examples: dict[str, Example], on_torch: run.Results, on_paddle: run.Results) -> None:
    """Training moves the running statistics in Paddle as ``backend.yaml`` says, and not as in PyTorch."""
    graph = examples[case.id].graph
    left, right = (_arrays(held, case, "train") for held in (on_torch, on_paddle))
    statistics = [entry for entry in entries(graph) if not entry.trainable]
    assert {entry.slot for entry in statistics} == {"running_mean", "running_var"}
    instance = next(item for item in instances(graph, at_size(graph, *case.size, case.batch)) if item.slots())
    n, _, *sizes = instance.inputs()[0]
    momentum, frozen = case.attributes.get("momentum", 0.1), case.attributes.get("frozen", False)
    for entry in statistics:
        before = seeded.weight(entry).astype("float64")
        value, other = left[f"statistic {entry.name}"], right[f"statistic {entry.name}"]
        rule = backend("paddle").facts("batch_norm2d").divergences[entry.slot]
        of_value, of_before = rule.coefficients(count=product((n, *sizes)), momentum=momentum, frozen=frozen)
        assert relative(of_value * value + of_before * before, other) <= LIMIT
        if frozen:
            assert relative(before, value) == relative(before, other) == 0
        elif 0 < momentum < 1:
            assert relative(value, other) > LIMIT, "the relation is needed"


def _arrays(held: run.Results, case: Case, mode: str) -> dict[str, np.ndarray]:
    found = held.arrays.get((case.id, mode))
    if found is None:
        pytest.fail(held.failures[case.id], pytrace=False)
    return found


def _that_matter(case: Case) -> range:
    """The inputs whose values, not only whose sizes, the output depends on."""
    return range(1 if "like" in case.attributes else len(case.shapes))


def _hold(error: float, limit: float, floor: float, what: str, reason: str) -> None:
    if floor:
        print(f"{what}: {error:.1e}, floor {floor:.1e}: {reason}")
    assert error <= max(limit, floor), f"{what} differs by {error:.2e}"
