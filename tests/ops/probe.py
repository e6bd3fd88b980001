"""A process of one framework for :mod:`sweep`: generated modules at many sizes, and how they start.

``probe.py FRAMEWORK FOLDER``: reads ``job.json``, writes ``result.npy`` and ``result.json``.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

BACKENDS = Path(__file__).resolve().parents[2] / "segspec" / "backends"
sys.path.insert(0, str(BACKENDS))
worker = importlib.import_module("worker")


def image(height: int, width: int, channels: int) -> np.ndarray:
    """The input of one size."""
    return np.random.default_rng([height, width]).standard_normal((1, channels, height, width))


def run(framework: Any, folder: Path, job: dict[str, Any]) -> None:
    """Every module at every size: output and gradient of the input, or what was raised."""
    arrays: dict[str, np.ndarray] = {}
    failures: dict[str, str] = {}
    for index, module in enumerate(job["modules"]):
        network = framework.build(worker._import(folder / f"m{index}.py", {}), "float64")
        framework.mode(network, train=False)
        for key, tensor in sorted(framework.state(network).items()):
            framework.put(tensor, np.random.default_rng(list(key.encode())).standard_normal(tuple(tensor.shape)))
        for height, width in module["sizes"]:
            key = f"{index} {height} {width}"
            wanted = module["gradients"]
            try:
                x = framework.tensor(image(height, width, module["channels"]), gradient=wanted)
                with framework.gradients(wanted):
                    output = network(x)
                if wanted:
                    (output * framework.tensor(worker.cotangent("0", tuple(output.shape)))).sum().backward()
            except Exception as error:
                failures[key] = f"{type(error).__name__}: {error}"[:300]
                continue
            arrays[f"{key} output"] = framework.array(output)
            if wanted:
                arrays[f"{key} gradient"] = framework.gradient(x)
    _save(folder, arrays, failures)


def draw(name: str, framework: Any, folder: Path, job: dict[str, Any]) -> None:
    """How modules start: every parameter of several of them, one after the other, from a fixed seed."""
    backend: Any = importlib.import_module(name)
    arrays = {}
    for index, module in enumerate(job["modules"]):
        backend.manual_seed(index) if name == "torch" else backend.seed(index)
        network_class = worker._import(folder / f"m{index}.py", {})
        states = [framework.state(framework.build(network_class, "float32")) for _ in range(module["times"])]
        for key in states[0]:
            arrays[f"{index} {key}"] = np.stack([framework.array(state[key]) for state in states])
    _save(folder, arrays, {})


def apply(name: str, folder: Path, job: dict[str, Any]) -> None:
    """What modules make of ones, in both modes and with the framework's own randomness."""
    backend: Any = importlib.import_module(name)
    tensor = backend.from_numpy if name == "torch" else backend.to_tensor
    arrays = {}
    for index, module in enumerate(job["modules"]):
        backend.manual_seed(index) if name == "torch" else backend.seed(index)
        network = worker._import(folder / f"m{index}.py", {})()
        for mode in ("train", "eval"):
            getattr(network, mode)()
            arrays[f"{index} {mode}"] = network(tensor(np.ones(module["shape"], dtype="float32"))).numpy()
    _save(folder, arrays, {})


def evaluate(name: str, folder: Path, job: dict[str, Any]) -> None:
    """What expressions of the framework yield, or what they raise."""
    names = {name: importlib.import_module(name), "nn": importlib.import_module(f"{name}.nn")}
    names["F"] = importlib.import_module(f"{name}.nn.functional")
    values: dict[str, Any] = {}
    failures = {}
    for index, text in enumerate(job["expressions"]):
        try:
            values[str(index)] = eval(text, dict(names))
        except Exception as error:
            failures[str(index)] = f"{type(error).__name__}: {error}"[:300]
    plain = {key: value for key, value in values.items() if isinstance(value, list | str | int | float)}
    (folder / "values.json").write_text(json.dumps(plain), encoding="utf-8")
    _save(folder, {}, failures)


def _save(folder: Path, arrays: dict[str, np.ndarray], failures: dict[str, str]) -> None:
    # One file for all of them: an archive of many thousand small ones takes longer than their computation.
    flat = [array.astype("float64").ravel() for array in arrays.values()]
    np.save(folder / "result.npy", np.concatenate([*flat, np.zeros(1)]))
    held = {"shapes": {key: array.shape for key, array in arrays.items()}, "failures": failures}
    (folder / "result.json").write_text(json.dumps(held), encoding="utf-8")


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    module = importlib.import_module(f"on_{name}")
    framework = getattr(module, name.capitalize())()
    if job["kind"] == "run":
        run(framework, folder, job)
    elif job["kind"] == "draw":
        draw(name, framework, folder, job)
    elif job["kind"] == "apply":
        apply(name, folder, job)
    else:
        evaluate(name, folder, job)


if __name__ == "__main__":
    main()
