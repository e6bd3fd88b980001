"""Running generated modules: one process a backend, arrays in, arrays out."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segspec.errors import Problem, SpecError, fail
from segspec.graph.model import Graph
from segspec.render import Backend, render
from segspec.render.backend import backend as backend_of
from segspec.weights import seeded
from segspec.weights.state import entries, placement

BACKENDS = Path(__file__).resolve().parent.parent / "backends"
MISSING = 3


@dataclass(frozen=True)
class Run:
    """One pass: the inputs by name, the dtype, the mode, and whether gradients are wanted."""

    id: str
    inputs: Mapping[str, np.ndarray]
    dtype: str = "float64"
    mode: str = "eval"
    gradients: bool = False


@dataclass
class Results:
    """What one backend's process returned: arrays by module and run, and what stopped a module."""

    arrays: dict[tuple[str, str], dict[str, np.ndarray]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def require(backends: Sequence[Backend]) -> None:
    """Raise :class:`SpecError` naming the extra to install where a framework is missing."""
    problems = [_missing(held) for held in backends if importlib.util.find_spec(held.module) is None]
    if problems:
        raise SpecError(problems)


def _missing(held: Backend) -> Problem:
    message = f"{held.title} is not installed, so nothing can be verified with it"
    return Problem("missing-framework", message, remedy=f"pip install 'segspec[{held.extra}]'")


def outputs(
    graph: Graph,
    backend: str,
    inputs: Mapping[str, np.ndarray],
    dtype: str = "float64",
    mode: str = "eval",
) -> dict[str, np.ndarray]:
    """What the generated module of one backend returns, with the name-seeded weights.

    ``inputs`` maps input names to (N, C, H, W) arrays. Raises :class:`SpecError` if the framework is
    missing or the module fails.
    """
    held = backend_of(backend)
    require([held])
    results = run(
        held,
        {graph.name: (graph, render(graph, held))},
        {graph.name: [Run("0", inputs, dtype, mode)]},
    )
    if graph.name in results.failures:
        raise fail(
            "backend-failed",
            f"{held.title} failed on {graph.name}:\n{results.failures[graph.name]}",
        )
    arrays = results.arrays[graph.name, "0"]
    named = [output for output in graph.root.outputs if mode == "train" or not output.training]
    return {output.name: arrays[f"output {index}"] for index, output in enumerate(named)}


def run(backend: Backend, modules: Mapping[str, tuple[Graph, str]], runs: Mapping[str, Sequence[Run]]) -> Results:
    """Build modules (graph and source by name) in one process of a backend and run each as asked."""
    with tempfile.TemporaryDirectory(prefix="segspec-") as name:
        folder = Path(name)
        job = []
        for index, (module, (graph, source)) in enumerate(modules.items()):
            stem = f"m{index}"
            (folder / f"{stem}.py").write_text(source, encoding="utf-8")
            _save(folder / f"{stem}-weights.npz", {entry.name: seeded.weight(entry) for entry in entries(graph)})
            asked = []
            for number, item in enumerate(runs[module]):
                file = f"{stem}-inputs{number}.npz"
                _save(folder / file, item.inputs)
                asked.append(
                    {
                        "id": str(number),
                        "inputs": file,
                        "dtype": item.dtype,
                        "mode": item.mode,
                        "gradients": item.gradients,
                    }
                )
            job.append(
                {
                    "name": stem,
                    "source": f"{stem}.py",
                    "weights": f"{stem}-weights.npz",
                    "state": placement(graph, backend),
                    "runs": asked,
                }
            )
        (folder / "job.json").write_text(json.dumps({"modules": job}), encoding="utf-8")
        stopped = process(backend, folder)
        return _collect(folder, list(modules), runs, stopped)


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    named: dict[str, Any] = dict(arrays)  # NumPy's types take a plain dict of arrays for its options
    np.savez(path, **named)


def process(backend: Backend, folder: Path) -> str:
    """Run the job in a folder; what stopped the process, empty if nothing did."""
    script = BACKENDS / f"on_{backend.name}.py"
    command = [sys.executable, "-W", "ignore", str(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == MISSING:
        raise SpecError(_missing(backend))
    if done.returncode < 0:
        return f"the process was ended by signal {-done.returncode}"
    return done.stderr[-2_000:] if done.returncode else ""


def _collect(folder: Path, modules: list[str], runs: Mapping[str, Sequence[Run]], stopped: str) -> Results:
    results = Results()
    if stopped:
        results.failures = dict.fromkeys(modules, stopped)
        return results
    for item in json.loads((folder / "result.json").read_text(encoding="utf-8")):
        module = modules[int(item["module"][1:])]
        if "failure" in item:
            results.failures[module] = item["failure"]
            continue
        with np.load(folder / item["file"]) as held:
            run_id = runs[module][int(item["run"])].id
            results.arrays[module, run_id] = {name: held[name] for name in held.files}
    return results
