"""``segspec.load`` and ``segspec.save``: a network in the caller's own process, and its weights."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import segspec
from segspec.errors import SpecError
from segspec.weights import formats


def test_nothing_is_imported_until_it_is_asked_for() -> None:
    code = "import sys, segspec; assert not {'numpy', 'torch', 'paddle', 'yaml', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["safetensors", "archive", "arrays"])
def test_load_in_torch(
    kind: str, spec: Path, save: Callable[..., Path], state: dict[str, np.ndarray], tmp_path: Path
) -> None:
    network = segspec.load(str(spec), backend="torch", weights=save(kind))
    own = {key: value.numpy() for key, value in network.state_dict().items()}
    assert all(np.array_equal(own[key], array) for key, array in state.items())
    segspec.save(network, tmp_path / "saved.pdparams")
    segspec.save(network, tmp_path / "saved.safetensors")
    found = formats.read(tmp_path / "saved.safetensors").tensors
    assert all(np.array_equal(found[key].read(), array) for key, array in state.items())
    assert np.array_equal(
        formats.read(tmp_path / "saved.pdparams").tensors["square.weight"].read(), state["square.weight"].T
    )


@pytest.mark.paddle
@pytest.mark.parametrize("kind", ["safetensors", "archive"])
def test_load_in_paddle(
    kind: str, spec: Path, save: Callable[..., Path], state: dict[str, np.ndarray], tmp_path: Path
) -> None:
    network = segspec.load(str(spec), backend="paddle", weights=save(kind))
    assert np.array_equal(network.state_dict()["square.weight"].numpy(), state["square.weight"].T)
    segspec.save(network, tmp_path / "saved.safetensors")
    found = formats.read(tmp_path / "saved.safetensors").tensors
    assert set(found) == set(state)
    assert all(np.array_equal(found[key].read(), array) for key, array in state.items())


@pytest.mark.torch
def test_a_loaded_network_is_as_one_from_a_file(spec: Path) -> None:
    import torch

    network = segspec.load(str(spec), "torch", num_classes=7)
    assert network(torch.zeros(2, 3, 5, 5)).shape == (2, 7)
    assert type(network) is type(segspec.load(str(spec), "torch", num_classes=7))
    assert type(network) is not type(segspec.load(str(spec), "torch"))
    assert "class Small" in inspect.getsource(type(network))
    assert type(pickle.loads(pickle.dumps(network))) is type(network)


@pytest.mark.torch
def test_what_is_allowed_starts_afresh(spec: Path, save: Callable[..., Path], state: dict[str, np.ndarray]) -> None:
    network = segspec.load(str(spec), "torch", save("arrays"), num_classes=7, allow=["head.*"], seed=3)
    own = network.state_dict()
    assert np.array_equal(own["square.weight"].numpy(), state["square.weight"])
    assert own["head.weight"].shape == (7, 8)
    again = segspec.load(str(spec), "torch", save("archive"), num_classes=7, allow=["head.*"], seed=3)
    assert own["head.weight"].equal(again.state_dict()["head.weight"])


@pytest.mark.torch
def test_what_is_not_finite_is_loaded_with_a_warning(spec: Path, save: Callable[..., Path]) -> None:
    source = save("arrays", **{"head.bias": np.array([0, 1, np.inf, 2], np.float32)})
    with pytest.warns(UserWarning, match=r"source\.pdparams: not all numbers are finite in head\.bias") as caught:
        network = segspec.load(str(spec), "torch", source)
    assert caught[0].filename == __file__
    assert not network.head.bias.isfinite().all()


@pytest.mark.torch
def test_what_cannot_be_loaded(spec: Path, save: Callable[..., Path]) -> None:
    with pytest.raises(SpecError, match="there is no backend 'jax'"):
        segspec.load(str(spec), "jax")
    with pytest.raises(SpecError, match=r"head\.weight is 4×8 and should be 5×8"):
        segspec.load(str(spec), "torch", save("archive"), num_classes=5)
    with pytest.raises(TypeError, match=r"segspec\.load"):
        segspec.save(object(), "a.pth")
    with pytest.raises(AttributeError):
        segspec.absent  # noqa: B018
