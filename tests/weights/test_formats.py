"""The formats: what one writes, it reads again; what the frameworks write is read; what is written, they read."""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segspec.weights import formats, pickles, tensors
from segspec.weights.tensors import DTYPES, Tensor, of_array

KINDS = {"safetensors": ".safetensors", "archive": ".pth", "arrays": ".pdparams"}


def _everything() -> dict[str, Tensor]:
    draw = np.random.default_rng(0)
    found = {}
    for dtype, held in DTYPES.items():
        for shape in ((), (5,), (3, 4), (2, 3, 4, 5)):
            key = f"{dtype}.{'x'.join(map(str, shape))}"
            array = draw.integers(0, 2 if dtype == "BOOL" else 100, shape).astype(held)
            found[key] = Tensor(key, dtype, shape, lambda array=array: array)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_again(kind: str, tmp_path: Path) -> None:
    wanted = _everything()
    if kind != "safetensors":  # the frameworks have no unsigned integers but bytes
        wanted = {key: tensor for key, tensor in wanted.items() if not tensor.dtype.startswith("U") or "U8" in key}
    path = tmp_path / "a.bin"  # formats are recognised by what is in the file
    formats.write(path, kind, wanted, {"spec": "unet"})
    found = formats.read(path)
    assert found.format == kind
    assert found.metadata == ({"spec": "unet"} if kind == "safetensors" else {})
    assert set(found.tensors) == set(wanted)
    for key, tensor in wanted.items():
        other = found.tensors[key]
        assert (other.key, other.dtype, other.shape) == (key, tensor.dtype, tensor.shape)
        assert np.array_equal(other.read(), tensor.read())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [1, 7, 50, 2**22])
def test_tensors_are_written_in_pieces(kind: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "PIECE", piece)
    monkeypatch.setattr(tensors, "STRIP", 3)
    array = np.arange(7 * 11, dtype=np.float32).reshape(7, 11)
    image = np.arange(2 * 3 * 5, dtype=np.float16).reshape(2, 3, 5)
    given = {
        "plain": of_array("plain", array),
        "turned": of_array("turned", array).transposed(),
        "reversed": of_array("reversed", image).reversed(),
    }
    formats.write(tmp_path / "a", kind, given, {})
    found = formats.read(tmp_path / "a").tensors
    assert np.array_equal(found["plain"].read(), array)
    assert np.array_equal(found["turned"].read(), array.T)
    assert np.array_equal(found["reversed"].read(), image[:, ::-1])


def test_safetensors_are_those_of_the_library(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    given = {key: tensor for key, tensor in _everything().items() if tensor.dtype != "BF16"}
    formats.write(tmp_path / "a.safetensors", "safetensors", given, {})
    found = load_file(tmp_path / "a.safetensors")
    assert {key: (array.dtype, array.tolist()) for key, array in found.items()} == {
        key: (tensor.read().dtype, tensor.read().tolist()) for key, tensor in given.items()
    }
    save_file(found, tmp_path / "b.safetensors")
    again = formats.read(tmp_path / "b.safetensors").tensors
    assert all(np.array_equal(again[key].read(), array) for key, array in found.items())


def test_bfloat16_numbers() -> None:
    tensor = Tensor("a", "BF16", (3,), lambda: np.array([0x3F80, 0xC000, 0x7F80], np.uint16))
    assert np.concatenate(list(tensor.numbers())).tolist() == [1.0, -2.0, np.inf]
    assert not tensor.finite


def test_finite_is_told_from_overflowing() -> None:
    largest = np.full(100, np.finfo(np.float32).max, np.float32)
    assert of_array("a", largest).finite
    largest[3] = np.inf
    assert not of_array("a", largest).finite
    assert of_array("a", np.full(10, 60000, np.float16)).finite


# --- pickled arrays, as frameworks wrote them over the years --------------------------------------------


def _pickled(value: Any, protocol: int = 4) -> bytes:
    return pickle.dumps(value, protocol)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickled_arrays_of_every_protocol(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "LONG", 100)
    given = {
        "long": np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32),
        "short": np.arange(3, dtype=np.float64),
        "fortran": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
        "big": np.arange(5, dtype=">f4"),
        "scalar": np.float32(2.5),
        "none": np.zeros((0, 3), np.float32),
    }
    path = tmp_path / "a.pdparams"
    path.write_bytes(_pickled({**given, "epoch": 3, "StructuredToParameterName@@": {"long": "linear_0.w_0"}}, protocol))
    found = formats.read(path).tensors
    assert set(found) == set(given)
    for key, array in given.items():
        assert np.array_equal(found[key].read(), array), key
        assert found[key].read().dtype == array.dtype.newbyteorder("<"), key


def test_arrays_pickled_by_python_2(tmp_path: Path) -> None:
    array = np.array([1.5, -2, 1e30], np.float32)
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    kind = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    raw = array.tobytes()
    state = b"(K\x01K\x03\x85" + kind + b"\x89U" + bytes([len(raw)]) + raw + b"tb"
    (tmp_path / "a").write_bytes(b"\x80\x02}U\x01w" + made + state + b"s.")
    assert formats.read(tmp_path / "a").tensors["w"].read().tolist() == array.tolist()


def test_arrays_in_slices_are_joined(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    flat = array.reshape(-1)
    table = {"w": {"OriginShape": (3, 4), "slices": ["w@@.0", "w@@.1"]}}
    given = {"w@@.0": flat[:7], "w@@.1": flat[7:], "b": flat, "UnpackBigParamInfor@@": table}
    (tmp_path / "a").write_bytes(_pickled(given, 2))
    found = formats.read(tmp_path / "a").tensors
    assert set(found) == {"w", "b"}
    assert np.array_equal(found["w"].read(), array)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "net"])
def test_weights_are_found_in_what_training_saves(wrapper: str, tmp_path: Path) -> None:
    weights = {"module.a": np.ones(2, np.float32), "module.b": np.zeros(3, np.float32)}
    given = {wrapper: weights, "optimizer": {"state": {0: np.ones(2)}}, "epoch": 3, "loss": np.float32(0.5)}
    (tmp_path / "a").write_bytes(_pickled(given))
    found = formats.read(tmp_path / "a")
    assert set(found.tensors) == {"a", "b"}
    assert len(found.notes) == 2
    assert wrapper in found.notes[0]
    assert "module." in found.notes[1]


# --- the frameworks -------------------------------------------------------------------------------------


def _network_of_torch() -> Any:
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5))


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_are_read(zipped: bool, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    state = _network_of_torch().state_dict()
    matrix = torch.randn(6, 7)
    state |= {
        "view": matrix[1:4, ::2],
        "turned": matrix.t(),
        "half": matrix.half(),
        "bfloat": matrix.bfloat16(),
        "double": matrix.double(),
        "flag": matrix > 0,
        "parameter": torch.nn.Parameter(matrix),
        "empty": torch.zeros(0, 3),
    }
    torch.save(state, tmp_path / "a", _use_new_zipfile_serialization=zipped)
    found = formats.read(tmp_path / "a").tensors
    assert list(found) == list(state)
    for key, tensor in state.items():
        wanted = tensor.detach()
        wanted = wanted.view(torch.uint16) if key == "bfloat" else wanted
        assert np.array_equal(found[key].read(), wanted.numpy()), key
    assert found["bfloat"].dtype == "BF16"


@pytest.mark.torch
def test_torch_reads_what_is_written(tmp_path: Path) -> None:
    import torch

    network = _network_of_torch()
    state = network.state_dict()
    given = {key: of_array(key, value.numpy()) for key, value in state.items()}
    bits = np.array([0x3F80, 0xC000], np.uint16)
    formats.write(tmp_path / "a.pth", "archive", {**given, "bfloat": Tensor("bfloat", "BF16", (2,), lambda: bits)}, {})
    for mapped in (False, True):
        found = torch.load(tmp_path / "a.pth", weights_only=True, mmap=mapped)
        assert found.pop("bfloat").tolist() == [1.0, -2.0]
        assert all(torch.equal(found[key], value) for key, value in state.items())
        network.load_state_dict(found)


@pytest.mark.torch
def test_storages_in_the_archive_are_aligned(tmp_path: Path) -> None:
    import torch

    given = {name: of_array(name, np.ones(5, np.float32)) for name in "abc"}
    formats.write(tmp_path / "a.pth", "archive", given, {})
    reader = torch._C.PyTorchFileReader(str(tmp_path / "a.pth"))
    assert [reader.get_record_offset(f"data/{index}") % 64 for index in range(3)] == [0, 0, 0]


@pytest.mark.paddle
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_paddle_files_are_read(protocol: int, tmp_path: Path) -> None:
    import paddle
    from paddle import nn

    state = nn.Sequential(nn.Conv2D(3, 8, 3), nn.BatchNorm2D(8), nn.Linear(80, 50)).state_dict()
    paddle.save(state, str(tmp_path / "a"), protocol=protocol)
    paddle.save({"model": state, "epoch": 1}, str(tmp_path / "b"), protocol=protocol)
    paddle.save({key: value.astype("bfloat16") for key, value in state.items()}, str(tmp_path / "c"), protocol=protocol)
    for name in "ab":
        found = formats.read(tmp_path / name).tensors
        assert list(found) == list(state)
        assert all(np.array_equal(found[key].read(), value.numpy()) for key, value in state.items())
    found = formats.read(tmp_path / "c").tensors
    assert {tensor.dtype for tensor in found.values()} == {"BF16"}


@pytest.mark.paddle
def test_paddle_reads_what_is_written(tmp_path: Path) -> None:
    import paddle

    given = {key: tensor for key, tensor in _everything().items() if not tensor.dtype.startswith("U")}
    formats.write(tmp_path / "a.pdparams", "arrays", given, {})
    found = paddle.load(str(tmp_path / "a.pdparams"))
    assert set(found) == set(given)
    for key, tensor in given.items():
        if tensor.dtype == "BF16":
            assert found[key].dtype == paddle.bfloat16
        else:
            assert np.array_equal(found[key].numpy(), tensor.read()), key


def test_numpy_reads_what_is_written(tmp_path: Path) -> None:
    given = {"a": of_array("a", np.arange(6, dtype=np.float32).reshape(2, 3))}
    formats.write(tmp_path / "a.pdparams", "arrays", given, {})
    found = pickle.load(io.BytesIO((tmp_path / "a.pdparams").read_bytes()))
    assert list(found) == ["a"]
    assert np.array_equal(found["a"], given["a"].read())
    assert struct.unpack("<f", found["a"].tobytes()[4:8]) == (1.0,)
