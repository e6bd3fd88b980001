"""Every op at every example it declares, in every form: what is inferred is what both frameworks compute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from grid import Case, cases

from segspec.graph.instances import at_size, instances
from segspec.graph.model import Graph
from segspec.ops.base import product
from segspec.parity.compare import Comparison
from segspec.parity.recording import Plan, Recording, Task, record
from segspec.parity.verify import Report, report
from segspec.render.backend import backend
from segspec.weights.state import entries

CASES = list(cases())
MODES = ("eval", "train")

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    """Every case's network."""
    folder = tmp_path_factory.mktemp("examples")
    return {case.id: case.graph(folder) for case in CASES}


def _recorded(
    name: str, graphs: Mapping[str, Graph], folder: Path, given: Mapping[str, Recording] | None = None
) -> dict[str, Recording]:
    plans = [Plan((case.size,), case.batch, 0, case.size, dtypes=("float64",)) for case in CASES]
    tasks = [Task(graphs[case.id], backend(name), plan) for case, plan in zip(CASES, plans, strict=True)]
    found = record(tasks, folder, [given[case.id] for case in CASES] if given else ())
    return {case.id: recording for case, recording in zip(CASES, found, strict=True)}


@pytest.fixture(scope="session")
def on_torch(graphs: dict[str, Graph], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    """All cases, run by PyTorch."""
    return _recorded("torch", graphs, tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="session")
def on_paddle(graphs: dict[str, Graph], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    """All cases, run by PaddlePaddle."""
    return _recorded("paddle", graphs, tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="session")
def reports(
    graphs: dict[str, Graph], on_torch: dict[str, Recording], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Report]:
    """All cases, replayed by PaddlePaddle on what PyTorch computed."""
    replayed = _recorded("paddle", graphs, tmp_path_factory.mktemp("replayed"), on_torch)
    return {key: report(recording, replayed[key]) for key, recording in on_torch.items()}


@pytest.fixture(params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("torch", "paddle")])
def recordings(request: pytest.FixtureRequest) -> dict[str, Recording]:
    """All cases, run by one framework after the other."""
    return request.getfixturevalue(f"on_{request.param}")  # type: ignore[no-any-return]


def test_ids_are_different() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


@every_case
def test_shape(case: Case, recordings: dict[str, Recording]) -> None:
    for mode in MODES:
        arrays = _arrays(recordings[case.id], case, mode)
        path = recordings[case.id].about["outputs"][0]["path"]
        parts = {part.path: part for part in recordings[case.id].scenes[f"{_size(case)} {mode}"].parts}
        assert arrays["output 0"].shape == parts[path].shapes[0]


@every_case
@pytest.mark.torch
@pytest.mark.paddle
def test_outputs(case: Case, on_torch: dict[str, Recording], reports: dict[str, Report]) -> None:
    for mode in MODES:
        assert np.ptp(_arrays(on_torch[case.id], case, mode)["output 0"]), "what is the same everywhere shows nothing"
        _hold(reports[case.id], mode, {"outputs", "nodes", "replay"})


@every_case
@pytest.mark.torch
@pytest.mark.paddle
def test_gradients(
    case: Case, graphs: dict[str, Graph], on_torch: dict[str, Recording], reports: dict[str, Report]
) -> None:
    graph = graphs[case.id]
    wanted = {entry.name for entry in entries(graph) if entry.trainable}
    wanted |= {f"input {graph.root.inputs[index].name}" for index in _that_matter(case)}
    arrays = _arrays(on_torch[case.id], case, "train")
    for name in wanted:
        assert arrays[f"gradient {name}"].any()
    held = _hold(reports[case.id], "train", {"gradients", "gradient replay"})
    assert wanted <= {item.subject for item in held if item.check == "gradients"}


@pytest.mark.parametrize("case", [case for case in CASES if case.op == "batch_norm2d"], ids=lambda case: case.id)
@pytest.mark.torch
@pytest.mark.paddle
def test_statistics(
    case: Case, graphs: dict[str, Graph], on_torch: dict[str, Recording], on_paddle: dict[str, Recording]
) -> None:
    """Training moves the running statistics in Paddle as ``backend.yaml`` says, and not as in PyTorch."""
    graph = graphs[case.id]
    left, right = (_arrays(held[case.id], case, "train") for held in (on_torch, on_paddle))
    statistics = [entry for entry in entries(graph) if not entry.trainable]
    assert {entry.slot for entry in statistics} == {"running_mean", "running_var"}
    instance = next(item for item in instances(graph, at_size(graph, *case.size, case.batch)) if item.slots())
    n, _, *sizes = instance.inputs()[0]
    momentum, frozen = case.attributes.get("momentum", 0.1), case.attributes.get("frozen", False)
    for entry in statistics:
        before, own = (held[f"before {entry.name}"] for held in (left, right))
        assert np.array_equal(before, own)
        value, other = left[f"statistic {entry.name}"], right[f"statistic {entry.name}"]
        rule = backend("paddle").facts("batch_norm2d").divergences[entry.slot]
        of_value, of_before = rule.coefficients(count=product((n, *sizes)), momentum=momentum, frozen=frozen)
        assert _apart(of_value * value + of_before * before, other) <= 1e-12
        if frozen:
            assert np.array_equal(before, value)
            assert np.array_equal(before, other)
        elif 0 < momentum < 1:
            assert _apart(value, other) > 1e-10, "the relation is needed"


def _apart(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.linalg.norm(left - right) / np.linalg.norm(left))


def _size(case: Case) -> str:
    return f"{case.size[0]}x{case.size[1]}"


def _arrays(recording: Recording, case: Case, mode: str) -> Mapping[str, np.ndarray]:
    if failures := recording.failures():
        pytest.fail("\n".join(failures.values()), pytrace=False)
    arrays = recording.arrays(f"{_size(case)} {mode} float64")
    assert arrays is not None
    return arrays


def _that_matter(case: Case) -> range:
    """The inputs whose values, not only whose sizes, the output depends on."""
    return range(1 if "like" in case.attributes else len(case.shapes))


def _hold(found: Report, mode: str, checks: set[str]) -> list[Comparison]:
    """The comparisons of these kinds, all of which must agree."""
    if found.failures:
        pytest.fail("\n".join(why for _, _, why in found.failures), pytrace=False)
    held = [item for item in found.comparisons if item.mode == mode and item.check in checks]
    assert {item.check for item in held} == checks
    assert [item for item in held if not item.ok] == []
    return held
