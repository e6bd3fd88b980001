"""What every backend's process does: read a job, run its modules, write the arrays.

A job is a folder with ``job.json``: modules (source file, weights, where each weight goes) and for each
the runs asked of it (inputs, dtype, mode). Results are ``<module>-<run>.npz`` files and ``result.json``.
Only arrays and plain data cross the border.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import traceback
from pathlib import Path
from typing import Any, Protocol

import numpy as np

MISSING = 3
"""Exit status where the framework cannot be imported."""


class Framework(Protocol):
    """What the common part asks of a framework."""

    def build(self, network: type, dtype: str) -> Any:
        """An instance with its default arguments, its parameters of this dtype."""

    def load(self, network: Any, arrays: dict[str, np.ndarray]) -> None:
        """Set every parameter and statistic; raise ``ValueError`` for missing, unexpected or misshapen ones."""

    def seed(self, number: int) -> None:
        """Start the random numbers from which parameters are drawn anew."""

    def state(self, network: Any) -> dict[str, np.ndarray]:
        """Every parameter and statistic."""

    def run(
        self, network: Any, inputs: list[np.ndarray], *, train: bool, gradients: bool
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """The outputs in one mode, and the gradients of parameters and inputs if asked for.

        Gradients are those of Σ output · :func:`cotangent`; dropout uses :func:`mask`.
        """


def mask(path: str, shape: tuple[int, ...], p: float) -> np.ndarray:
    """Which elements dropout keeps: the same in every backend, for a module's path and a rate."""
    keep: np.ndarray = _generator(f"dropout {path}").random(shape) >= p
    return keep


def cotangent(index: int, shape: tuple[int, ...]) -> np.ndarray:
    """What an output is multiplied with before the sum whose gradient is taken."""
    return _generator(f"cotangent {index}").standard_normal(shape)


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


def main(framework: Framework) -> None:
    """Run the job in the folder that the command line names."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    if "starts" in job:
        _starts(framework, folder, job["starts"])
        return
    results = []
    for module in job["modules"]:
        try:
            results += _module(framework, folder, module)
        except Exception:
            results.append({"module": module["name"], "failure": traceback.format_exc(limit=-6)})
    (folder / "result.json").write_text(json.dumps(results), encoding="utf-8")


def _module(framework: Framework, folder: Path, module: dict[str, Any]) -> list[dict[str, Any]]:
    network_class = _import(folder / module["source"])
    with np.load(folder / module["weights"]) as held:
        canonical = {name: held[name] for name in held.files}
    results = []
    dtype, network = None, None
    for run in module["runs"]:
        if run["dtype"] != dtype:
            dtype, network = run["dtype"], None
            network = framework.build(network_class, dtype)
        weights = {
            entry["key"]: (canonical[entry["name"]].T if entry["transposed"] else canonical[entry["name"]]).astype(
                dtype
            )
            for entry in module["state"]
        }
        framework.load(network, weights)
        with np.load(folder / run["inputs"]) as held:
            inputs = [held[name].astype(dtype) for name in held.files]
        train = run["mode"] == "train"
        outputs, gradients = framework.run(network, inputs, train=train, gradients=run.get("gradients", False))
        arrays: dict[str, Any] = {f"output {index}": array for index, array in enumerate(outputs)}
        state = framework.state(network)
        for entry in module["state"]:
            gradient = gradients.get(entry["key"])
            if gradient is not None:
                arrays[f"gradient {entry['name']}"] = gradient.T if entry["transposed"] else gradient
            if train and not entry["trainable"]:
                arrays[f"statistic {entry['name']}"] = state[entry["key"]]
        arrays.update({f"gradient {name}": array for name, array in gradients.items() if name.startswith("input ")})
        file = f"{module['name']}-{run['id']}.npz"
        np.savez(folder / file, **arrays)
        results.append({"module": module["name"], "run": run["id"], "file": file})
    return results


def _starts(framework: Framework, folder: Path, asked: dict[str, Any]) -> None:
    """What every tensor starts with, each ``step``-th element, in several networks built one after another."""
    network_class = _import(folder / asked["source"])
    framework.seed(asked["seed"])
    found: dict[str, Any] = {}
    for _ in range(asked["builds"]):
        state = framework.state(framework.build(network_class, "float32"))
        for entry in asked["state"]:
            if entry["key"] in state:
                found.setdefault(entry["name"], []).append(state[entry["key"]].ravel()[:: entry["step"]].copy())
    arrays: dict[str, Any] = {name: np.stack(values) for name, values in found.items()}
    np.savez(folder / "starts.npz", **arrays)


def _import(path: Path) -> type:
    """The network's class of a generated module: the first name that it exports."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    network: type = getattr(module, module.__all__[0])
    return network


def misfit(own: dict[str, tuple[int, ...]], given: dict[str, np.ndarray]) -> str:
    """How a network's state and the arrays meant for it differ; empty if they do not."""
    missing = sorted(set(own) - set(given))
    unexpected = sorted(set(given) - set(own))
    wrong = [
        f"{key}: {tuple(given[key].shape)} for {tuple(own[key])}"
        for key in own
        if key in given and tuple(own[key]) != tuple(given[key].shape)
    ]
    parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", wrong)]
    return "; ".join(f"{title}: {', '.join(names[:5])}" for title, names in parts if names)
