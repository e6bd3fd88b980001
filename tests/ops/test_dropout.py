"""Dropout as it is: verify holds its masks, so what it drops, how it scales and when it rests is looked at here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segspec

SPEC = """
segspec: 1
name: dropped
params: {{p: 0.5}}
inputs: {{image: {{channels: 64}}}}
nodes:
  dropped: {{op: {op}, p: p}}
outputs: [dropped]
"""

IMAGES, CHANNELS, SIDE = 8, 64, 16

BACKENDS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("torch", "paddle")]
OPS = {"dropout": (IMAGES, CHANNELS, SIDE, SIDE), "dropout2d": (IMAGES, CHANNELS, 1, 1)}
"""Of each op the shape of what it decides: an element, or a channel of an image."""

Run = Callable[..., np.ndarray]


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """``run(op, p, x, train=True)``: what the generated module returns for an array."""
    backend: str = request.param

    def call(op: str, p: float, x: np.ndarray, *, train: bool = True) -> np.ndarray:
        framework: Any = import_module(backend)
        path = tmp_path / "dropped.yaml"
        path.write_text(SPEC.format(op=op), encoding="utf-8")
        network: Any = segspec.load(path, backend=backend, p=p)
        framework.seed(7) if backend == "paddle" else framework.manual_seed(7)
        network.train() if train else network.eval()
        found: np.ndarray = network(framework.to_tensor(x) if backend == "paddle" else framework.tensor(x)).numpy()
        return found

    return call


@pytest.mark.parametrize("run", BACKENDS, indirect=True)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("op", OPS)
def test_rate_and_scale(run: Run, op: str, p: float) -> None:
    """A share of p is dropped, give or take six deviations of its sampling; what is kept is x / (1 - p)."""
    x = np.random.default_rng(0).uniform(1, 2, (IMAGES, CHANNELS, SIDE, SIDE)).astype("float32")
    y = run(op, p, x)
    decided = np.broadcast_to(y != 0, x.shape)[:, :, : OPS[op][2], : OPS[op][3]]
    assert abs((~decided).mean() - p) < 6 * np.sqrt(p * (1 - p) / decided.size)
    # One decision is that of all that it is of.
    assert ((y != 0) == decided).all()
    assert np.allclose(y, np.where(y != 0, x / (1 - p), 0), rtol=1e-6)
    # The elements of an image, or its channels, are not all of one mind, nor are the images.
    assert len({image.tobytes() for image in decided}) == IMAGES


@pytest.mark.parametrize("run", BACKENDS, indirect=True)
@pytest.mark.parametrize("op", OPS)
def test_it_rests_in_eval_mode_and_at_no_rate(run: Run, op: str) -> None:
    x = np.random.default_rng(1).standard_normal((2, CHANNELS, 4, 4)).astype("float32")
    assert (run(op, 0.5, x, train=False) == x).all()
    assert (run(op, 0.0, x) == x).all()
    assert not run(op, 1.0, x).any()
