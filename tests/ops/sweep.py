"""Many settings of one op at many sizes: what its declaration says, and what each framework does."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segspec.errors import SpecError
from segspec.graph.elaborate import elaborate
from segspec.graph.instances import at_size, resolve
from segspec.graph.model import Graph
from segspec.graph.sizes import size_problem
from segspec.render import render_all
from segspec.render.backend import backend, backends, floors, problems, size_refusal
from segspec.spec.load import load

PROBE = Path(__file__).with_name("probe.py")
Size = tuple[int, int]


def network(nodes: Mapping[str, Any], *, channels: int = 1, **more: Any) -> Graph:
    """A network of one input ``x`` and these nodes, of which the last is the output."""
    spec = {
        "segspec": 1,
        "name": "example",
        "title": "An example",
        "inputs": {"x": {"channels": channels}},
        "nodes": dict(nodes),
        "outputs": [list(nodes)[-1]],
        **more,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "example.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
        return elaborate(load(path))


@dataclass(frozen=True)
class Setting:
    """One op with one choice of attributes, as a network of its own, and the sizes at which it is run."""

    op: str
    attributes: Mapping[str, Any]
    sizes: Sequence[Size] = ()
    gradients: bool = False
    channels: int = 1

    def __str__(self) -> str:
        return f"{self.op}({', '.join(f'{name}={value}' for name, value in self.attributes.items())})"

    @cached_property
    def graph(self) -> Graph | None:
        """The network; None where its declaration refuses the attributes at any size."""
        try:
            return network({"y": {"op": self.op, **self.attributes}}, channels=self.channels)
        except SpecError:
            return None

    @property
    def refused(self) -> bool:
        """Whether some backend refuses the attributes."""
        assert self.graph
        return bool(problems(self.graph, list(backends().values())))

    def shape(self, size: Size) -> tuple[int, ...] | None:
        """What the symbolic rule says of one size: the output's shape, or None where the input does not do."""
        assert self.graph
        if size_problem(self.graph, *size, 1, training=False):
            return None
        shape = resolve(self.graph.root.outputs[0].shape, at_size(self.graph, *size))
        assert all(isinstance(axis, int) for axis in shape)
        return shape  # type: ignore[return-value]

    def refused_at(self, size: Size) -> bool:
        """Whether some backend refuses one size."""
        assert self.graph
        return size_refusal(self.graph, list(backends().values()), *size, 1) is not None

    def floor(self, size: Size, *, gradients: bool = False) -> float:
        """The declared floors at one size."""
        assert self.graph
        found = floors(self.graph, list(backends().values()), *size, 1, training=False, gradients=gradients)
        return sum(item.limit for item in found)


@dataclass(frozen=True)
class Row:
    """One setting at one size: what each framework returned, or None where it raised or was not run."""

    setting: Setting
    size: Size
    torch: np.ndarray | None
    paddle: np.ndarray | None
    gradients: tuple[np.ndarray | None, np.ndarray | None]

    def __str__(self) -> str:
        return f"{self.setting} at {self.size[0]}x{self.size[1]}"


def sweep(groups: Mapping[str, Sequence[Setting]]) -> dict[str, list[Row]]:
    """Run the generated modules of all settings at their sizes, in one process of each framework.

    Paddle, which may crash elsewhere, is run only at the sizes that the rule allows.
    """
    settings = [setting for group in groups.values() for setting in group]
    with ThreadPoolExecutor() as pool:
        left, right = pool.map(lambda name: _outputs(name, settings), ("torch", "paddle"))
    found: dict[str, list[Row]] = {}
    index = 0
    for name, group in groups.items():
        found[name] = []
        for setting in group:
            for size in setting.sizes:
                key = f"{index} {size[0]} {size[1]}"
                arrays = [held.get(f"{key} output") for held in (left, right)]
                gradients = left.get(f"{key} gradient"), right.get(f"{key} gradient")
                found[name].append(Row(setting, size, *arrays, gradients))
            index += 1
    return found


def _outputs(name: str, settings: Sequence[Setting]) -> dict[str, np.ndarray]:
    sources = render_all((setting.graph, backend(name)) for setting in settings if setting.graph)
    modules = [
        {
            "sizes": [size for size in setting.sizes if name == "torch" or setting.shape(size)],
            "channels": setting.channels,
            "gradients": setting.gradients,
        }
        for setting in settings
    ]
    return _probe(name, {"kind": "run", "modules": modules}, sources)[0]


def draws(name: str, graphs: Sequence[Graph], times: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """The state with which each network starts, ``times`` times: arrays with the draws along the first axis."""
    sources = render_all((graph, backend(name)) for graph in graphs)
    job = {"kind": "draw", "modules": [{"times": count} for count in times]}
    return _by_module(_probe(name, job, sources)[0], len(graphs))


def apply(name: str, graphs: Sequence[Graph], shape: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """What each network makes of ones of this shape, in ``train`` mode with the dropout that the framework draws."""
    sources = render_all((graph, backend(name)) for graph in graphs)
    job = {"kind": "apply", "modules": [{"shape": list(shape)} for _ in graphs]}
    return _by_module(_probe(name, job, sources)[0], len(graphs))


def _by_module(arrays: Mapping[str, np.ndarray], count: int) -> list[dict[str, np.ndarray]]:
    found: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for key, array in arrays.items():
        index, _, rest = key.partition(" ")
        found[int(index)][rest] = array
    return found


def evaluate(name: str, expressions: Sequence[str]) -> tuple[dict[int, Any], dict[int, str]]:
    """What expressions of a framework's names yield, where that is plain data, and what they raise."""
    _, failures, values = _probe(name, {"kind": "evaluate", "expressions": list(expressions)}, [])
    return {int(key): value for key, value in values.items()}, {int(key): text for key, text in failures.items()}


def _probe(
    name: str, job: Mapping[str, Any], sources: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, Any]]:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        for index, source in enumerate(sources):
            (folder / f"m{index}.py").write_text(source, encoding="utf-8")
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-W", "ignore", str(PROBE), name, text]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name} ended with {done.returncode}: {done.stderr[-3_000:]}"
        held = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        flat, arrays, start = np.load(folder / "result.npy"), {}, 0
        for key, shape in held["shapes"].items():
            arrays[key] = flat[start : start + math.prod(shape)].reshape(shape)
            start += math.prod(shape)
        values = folder / "values.json"
        plain = json.loads(values.read_text(encoding="utf-8")) if values.exists() else {}
        return arrays, held["failures"], plain
