"""A small network with every kind of tensor, and checkpoints of it in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segspec.graph.elaborate import elaborate
from segspec.graph.model import Graph
from segspec.spec.load import Loader
from segspec.weights import fit, formats, seeded
from segspec.weights.fit import Fitted
from segspec.weights.state import entries
from segspec.weights.tensors import Tensor, of_array

SPEC = """segspec: 1
name: small
params: {in_channels: 3, num_classes: 4, width: 8, eps: 0.001}
inputs: {image: {channels: in_channels}}
nodes:
  stem:
    sequence:
      - {op: conv2d, out_channels: width, kernel_size: 3, padding: 1}
      - {op: batch_norm2d, eps: eps}
      - {op: prelu}
  pooled: {op: global_avg_pool2d}
  flat: {op: flatten}
  table: {op: parameter, size: [width, width], init: {value: {normal: {std: 0.5}}}}
  mixed: {op: einsum, from: [flat, table], equation: "n c, k c -> n k"}
  square: {op: linear, out_features: width}
  head: {op: linear, out_features: num_classes}
outputs: [head]
"""

SUFFIXES = {"safetensors": ".safetensors", "archive": ".pth", "arrays": ".pdparams"}


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


@pytest.fixture
def graph(spec: Path) -> Graph:
    return elaborate(Loader().load(str(spec)), {}, "")


@pytest.fixture
def state(graph: Graph) -> dict[str, np.ndarray]:
    """The network's tensors by name."""
    return {entry.name: seeded.weight(entry) for entry in entries(graph)}


@pytest.fixture
def save(graph: Graph, state: dict[str, np.ndarray], tmp_path: Path) -> Callable[..., Path]:
    """Write the state, with ``changes`` to the file's own tensors (None leaves one out), in a format."""

    def write(kind: str, stem: str = "source", **changes: np.ndarray | None) -> Path:
        tensors = {name: of_array(name, array) for name, array in state.items()}
        placed = fit.placed(Fitted(graph, tensors, (), ()), formats.backend_of(kind))
        for key, array in changes.items():
            if array is None:
                del placed[key]
            else:
                placed[key] = of_array(key, array)
        path = tmp_path / f"{stem}{SUFFIXES[kind]}"
        formats.write(path, kind, placed, {})
        return path

    return write


def held(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """What tensors hold."""
    return {key: tensor.read() for key, tensor in tensors.items()}
