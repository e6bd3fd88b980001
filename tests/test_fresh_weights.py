"""What ``weights init`` draws: by seed and path alone. That it follows the initialisers is held in ``test_starts``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from segspec.graph.elaborate import elaborate
from segspec.graph.model import Graph
from segspec.spec.load import load
from segspec.weights.initial import draw
from segspec.weights.state import entries

HEAD = {"op": "conv2d", "out_channels": 8, "kernel_size": 3, "init": {"weight": "kaiming_normal", "bias": "ones"}}


def _graph(folder: Path, *names: str) -> Graph:
    """A network whose nodes of these names, one after another, all have the same weights to draw."""
    spec = {
        "segspec": 1,
        "name": "example",
        "title": "An example",
        "inputs": {"x": {"channels": 8}},
        "nodes": dict.fromkeys(names, HEAD) | {"norm": {"op": "batch_norm2d"}},
        "outputs": ["norm"],
    }
    path = folder / "example.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return elaborate(load(path))


def _drawn(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    return {entry.name: values for entry, values in draw(graph, seed)}


def test_the_whole_state_is_drawn_in_order() -> None:
    graph = elaborate(load("ginet"))
    drawn = list(draw(graph, 0))
    assert tuple(entry for entry, _ in drawn) == entries(graph)
    assert all(values.shape == entry.shape and values.dtype == np.float32 for entry, values in drawn)
    assert all(np.isfinite(values).all() for _, values in drawn)


def test_a_tensor_depends_on_its_seed_and_path_alone(tmp_path: Path) -> None:
    first, second = _drawn(_graph(tmp_path, "a", "b"), 7), _drawn(_graph(tmp_path, "c", "b", "a"), 7)
    assert first["a.weight"].tobytes() == second["a.weight"].tobytes()
    assert first["b.weight"].tobytes() == second["b.weight"].tobytes()
    assert abs(np.corrcoef(first["a.weight"].ravel(), first["b.weight"].ravel())[0, 1]) < 0.2
    assert abs(np.corrcoef(first["a.weight"].ravel(), _drawn(_graph(tmp_path, "a"), 8)["a.weight"].ravel())[0, 1]) < 0.2


def test_statistics_stand_at_their_defaults(tmp_path: Path) -> None:
    drawn = _drawn(_graph(tmp_path, "a"), 7)
    assert (drawn["norm.running_mean"] == 0).all()
    assert (drawn["norm.running_var"] == 1).all()
    assert (drawn["a.bias"] == 1).all()


@pytest.mark.parametrize("seed", [0, 7])
def test_another_process_draws_the_same_bits(seed: int) -> None:
    script = (
        "import sys, hashlib\n"
        "from segspec.graph.elaborate import elaborate\n"
        "from segspec.spec.load import load\n"
        "from segspec.weights.initial import draw\n"
        f"drawn = draw(elaborate(load('u2netp')), {seed})\n"
        "print(hashlib.sha256(b''.join(values.tobytes() for _, values in drawn)).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1] != ""
