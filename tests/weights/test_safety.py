"""Files from strangers: none runs anything, none is believed, and what was at the target stays whole."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segspec.cli import main
from segspec.weights import archive

KINDS = ["arrays", "archive", "old archive"]


class Evil:
    """Leaves a mark where it is loaded by Python's own unpickler."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def zipped(pickled: bytes, **members: bytes) -> bytes:
    """An archive in the form that torch writes."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as file:
        file.writestr("a/data.pkl", pickled)
        for name, data in {"version": b"3\n", **members}.items():
            file.writestr(f"a/{name}", data)
    return held.getvalue()


def old(pickled: bytes, rest: bytes = pickle.dumps([], 2)) -> bytes:
    """An archive in the form before that."""
    return archive.MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + pickled + rest


WRAP: dict[str, Callable[[bytes], bytes]] = {"arrays": lambda held: held, "archive": zipped, "old archive": old}


@pytest.fixture
def refused(spec: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[bytes], str]:
    """Convert and inspect a file of these bytes; both must be refused, and the target stay; the message."""

    def attempt(data: bytes) -> str:
        source = tmp_path / "source.bin"
        source.write_bytes(data)
        target = tmp_path / "target.safetensors"
        target.write_bytes(b"the old one")
        assert main(["weights", "inspect", str(source)]) == 2
        assert main(["weights", "convert", str(spec), str(source), str(target)]) == 2
        assert target.read_bytes() == b"the old one"
        assert {path.name for path in tmp_path.iterdir()} == {"source.bin", "target.safetensors", "small.yaml"}
        out, message = capfd.readouterr()
        assert out == ""
        assert "error[" in message
        assert str(source) in message
        assert "Traceback" not in message
        return message

    return attempt


# --- pickles that would run something -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("place", ["root", "value", "key", "nested", "argument"])
def test_reduce(kind: str, protocol: int, place: str, tmp_path: Path, refused: Callable[[bytes], str]) -> None:
    evil = Evil(tmp_path / "mark")
    held = {
        "root": evil,
        "value": {"w": evil},
        "key": {"w": np.ones(3), "model": {"a": evil}},
        "nested": {"state_dict": {"w": np.ones(2)}, "extra": [({"deep": (1, [evil])},)]},
        "argument": {"w": (("name", evil),)},
    }[place]
    message = refused(WRAP[kind](pickle.dumps(held, protocol)))
    assert "posix.system" in message or "numpy" in message  # the first that is not known there
    assert not (tmp_path / "mark").exists()


GLOBALS = {
    "GLOBAL": b"cposix\nsystem\n",
    "STACK_GLOBAL": b"\x8c\x05posix\x8c\x06system\x93",
    "GLOBAL of builtins": b"cbuiltins\neval\n",
    "GLOBAL dotted": b"cnumpy\ncore.os.system\n",
    "GLOBAL near": b"cnumpy.core.multiarray\n_reconstruct.__globals__\n",
    "STACK_GLOBAL of no text": b"K\x01K\x02\x93",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("opcode", GLOBALS)
def test_globals(kind: str, opcode: str, tmp_path: Path, refused: Callable[[bytes], str]) -> None:
    mark = f"touch {tmp_path}/mark".encode()
    made = b"\x80\x04}X\x01\x00\x00\x00w" + GLOBALS[opcode] + b"X" + struct.pack("<I", len(mark)) + mark + b"\x85Rs."
    message = refused(WRAP[kind](made))
    assert "which no checkpoint needs" in message
    assert not (tmp_path / "mark").exists()


OPCODES = {
    "INST": b"(X\x09\x00\x00\x00touch /xxiposix\nsystem\n",
    "OBJ": b"(cposix\nsystem\nX\x01\x00\x00\x00ao",
    "EXT1": b"\x82\x01",
    "EXT2": b"\x83\x01\x00",
    "EXT4": b"\x84\x01\x00\x00\x00",
    "NEWOBJ": b"ccollections\nOrderedDict\n)\x81",
    "NEWOBJ_EX": b"ccollections\nOrderedDict\n)}\x92",
    "PERSID": b"Pname\n",
    "STRING": b"S'text'\n",
    "INT": b"I12\n",
    "LONG4": b"\x8b\x01\x00\x00\x00\x01",
    "NEXT_BUFFER": b"\x97",
    "DUP": b"}2",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("opcode", OPCODES)
def test_opcodes(kind: str, opcode: str, refused: Callable[[bytes], str]) -> None:
    message = refused(WRAP[kind](b"\x80\x04}X\x01\x00\x00\x00w" + OPCODES[opcode] + b"s."))
    assert "posix.system" in message or f"the opcode {opcode}" in message


@pytest.mark.torch
def test_no_global_is_admitted_that_weights_only_loading_refuses() -> None:
    from torch import _weights_only_unpickler

    assert archive.KNOWN.keys() < _weights_only_unpickler._get_allowed_globals().keys()


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (b"cnumpy\nndarray\n)R", "calls something"),  # a class that is only named is called
        (b"cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb", "sets the attributes"),  # … or given attributes
        (b"]}X\x01\x00\x00\x00aK\x01sb", "sets the attributes"),
        (b"ccollections\nOrderedDict\nK\x01R", "calls something"),
        (b"K\x01)R", "calls something"),
        (b"(\x85", "never put there"),  # what lies below a mark
        (b"cbuiltins\ntuple\n(K\x01tR", "not made of a tuple"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8tR", "otherwise than in Latin-1"),
        (b"cnumpy\ndtype\n(K\x01tR", "a dtype is no text"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)R", "never filled"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)RNb", "not built as NumPy builds one"),
        (b"Q", "outside itself"),
        (b"]K\x01s", "is no dict"),
        (b"K\x01a", "is no list"),
    ],
)
def test_what_is_known_is_not_misused(held: bytes, said: str, refused: Callable[[bytes], str]) -> None:
    assert said in refused(b"\x80\x04}X\x01\x00\x00\x00w" + held + b"s.")


# --- files that are damaged, or lie -----------------------------------------------------------------------


def good(kind: str, save: Callable[..., Path]) -> bytes:
    path = save(kind)
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.mark.parametrize("kind", ["safetensors", "archive", "arrays"])
def test_cut_off(kind: str, save: Callable[..., Path], refused: Callable[[bytes], str]) -> None:
    data = good(kind, save)
    for length in [0, 1, 2, 7, 8, 9, 40, len(data) // 3, len(data) // 2, len(data) - 100, len(data) - 1]:
        refused(data[:length])


@pytest.mark.torch
def test_old_archive_cut_off(tmp_path: Path, refused: Callable[[bytes], str]) -> None:
    import torch

    held = io.BytesIO()
    torch.save({"a": torch.ones(100), "b": torch.ones(3)}, held, _use_new_zipfile_serialization=False)
    data = held.getvalue()
    for length in [15, 20, 200, len(data) - 30, len(data) - 1]:
        refused(data[:length])


@pytest.mark.parametrize("kind", ["safetensors", "archive", "arrays"])
def test_damaged_anywhere(kind: str, spec: Path, save: Callable[..., Path], tmp_path: Path) -> None:
    """Any byte of the descriptions may be wrong: it is refused, or another checkpoint; there is never a traceback."""
    data = good(kind, save)
    draw = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for place in draw.integers(0, min(len(data), 3000), 3):
            damaged[place] = draw.integers(256)
        (tmp_path / "a").write_bytes(damaged)
        assert main(["weights", "inspect", str(tmp_path / "a")]) in (0, 2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b"not weights at all, but a text",
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 40,
        b"\x1f\x8b" + b"\x00" * 40,
        b"<html>404</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        b"(dp0\n.",
        b"\x80\x05}.",
        b"PK\x05\x06" + b"\x00" * 18,
    ],
)
def test_wrong_magic(data: bytes, refused: Callable[[bytes], str]) -> None:
    refused(data)


def safetensors(header: str | dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], end: int, start: int = 0, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "data",
    [
        safetensors({"a": entry([1], 4)}, b"0000", length=2**60),
        safetensors({"a": entry([2**60], 2**62)}, b"0000"),
        safetensors({"a": entry([1], 2**60)}, b"0000"),
        safetensors({"a": entry([2], 4)}, b"0000"),
        safetensors({"a": entry([1], 8, 4)}, b"00000000"),
        safetensors({"a": entry([1], 4), "b": entry([1], 4)}, b"0000"),
        safetensors({"a": entry([-1], 4)}, b"0000"),
        safetensors({"a": entry([1], 4, dtype="F33")}, b"0000"),
        safetensors({"a": {}}, b"0000"),
        safetensors("{" * 1000),
        safetensors("[" * 100_000),
    ],
)
def test_safetensors_that_lie(data: bytes, refused: Callable[[bytes], str]) -> None:
    refused(data)


def test_safetensors_with_a_key_twice(refused: Callable[[bytes], str]) -> None:
    held = json.dumps(entry([1], 4))
    message = refused(safetensors(f'{{"conv.weight":{held},"conv.weight":{held}}}', b"0000"))
    assert "'conv.weight' is there twice" in message


def array(shape: bytes, raw: bytes, code: bytes = b"f4") -> bytes:
    kind = (
        b"cnumpy\ndtype\n(X\x02\x00\x00\x00"
        + code
        + b"\x89\x88tR(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    return b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01" + shape + kind + b"\x89" + raw + b"tb"


def entries_of(*values: bytes, keys: tuple[str, ...] = ("w", "v")) -> bytes:
    held = b"".join(b"X\x01\x00\x00\x00" + key.encode() + value for key, value in zip(keys, values, strict=False))
    return b"\x80\x04}(" + held + b"u."


ONE = b"C\x04\x00\x00\x80?"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (entries_of(array(b"K\x02\x85", ONE)), "its shape 2 takes 8 bytes, but it has 4"),
        (entries_of(array(b"K\x01\x85", b"C\x08" + bytes(8))), "its shape 1 takes 4 bytes, but it has 8"),
        (entries_of(array(b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x10\x85", ONE)), "bytes, but it has 4"),
        (entries_of(array(b"J\xff\xff\xff\xff\x85", ONE)), "no tuple of sizes"),
        (entries_of(array(b"K\x01\x85", b"\x8e" + struct.pack("<Q", 2**60))), "1,152,921,504,606,846,976 bytes"),
        (entries_of(array(b"K\x01\x85", b"B" + struct.pack("<I", 2**31 - 1))), "2,147,483,647 bytes"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"}.", "a frame of 1,152,921,504,606,846,976 bytes"),
        (entries_of(array(b"K\x01\x85", ONE, b"O8")), "of the type 'O8'"),
        (entries_of(array(b"K\x01\x85", ONE, b"V4")), "of the type 'V4'"),
        (entries_of(b"K\x01"), "no tensors by name"),
        (entries_of(array(b"K\x01\x85", ONE), array(b"K\x01\x85", ONE), keys=("w", "w")), "'w' is there twice"),
        (b"\x80\x04}.", "no tensors by name"),
        (b"\x80\x04K\x01.", "no tensors by name"),
        (b"\x80\x04.", "takes what it never put there"),
        (b"\x80\x04}r\xff\xff\xff\x7fj\xff\xff\xff\x7e.", "takes what it never put there"),
    ],
)
def test_arrays_that_lie(data: bytes, said: str, refused: Callable[[bytes], str]) -> None:
    tracemalloc.start()
    assert said in refused(data)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


def tensor(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], count: int = 4) -> bytes:
    from segspec.weights.pickles import literal, named

    storage = b"(" + literal("storage") + named("torch.FloatStorage") + literal("0") + literal("cpu") + literal(count)
    made = storage + b"tQ" + literal(offset) + literal(shape) + literal(strides) + b"\x89"
    return b"\x80\x02}X\x01\x00\x00\x00w" + named("torch._utils._rebuild_tensor_v2") + b"(" + made + b"NtRs."


@pytest.mark.parametrize("kind", ["archive", "old archive"])
@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (tensor(0, (5,), (1,)), "w: its shape 5 takes 5 elements, but its storage has 4"),
        (tensor(1, (4,), (1,)), "w: its shape 4 takes 5 elements, but its storage has 4"),
        (tensor(0, (2**60,), (0,)), "but its storage has 4"),
        (tensor(0, (2**60, 2**60, 2**60), (0, 0, 0)), "but its storage has 4"),
        (tensor(0, (2, 2), (2**62, 1)), "but its storage has 4"),
        (tensor(-1, (1,), (1,)), "is not described by"),
        (tensor(0, (-1,), (1,)), "is not described by"),
        (tensor(0, (2, 2), (1,)), "is not described by"),
        (tensor(0, (5,), (1,), count=2**60), ""),
    ],
)
def test_archives_that_lie(kind: str, pickled: bytes, said: str, refused: Callable[[bytes], str]) -> None:
    storages = pickle.dumps(["0"], 2) + struct.pack("<Q", 4) + b"0000" * 4
    data = zipped(pickled, **{"data/0": b"0000" * 4}) if kind == "archive" else old(pickled, storages)
    assert said in refused(data)


def test_archive_without_its_storage(refused: Callable[[bytes], str]) -> None:
    assert "its storage '0': it is not there" in refused(zipped(tensor(0, (4,), (1,))))


def test_old_archive_that_claims_much(refused: Callable[[bytes], str]) -> None:
    storages = pickle.dumps(["0"], 2) + struct.pack("<Q", 2**60) + b"0000" * 4
    assert "4,611,686,018,427,387,904 bytes should follow where 16 do" in refused(old(tensor(0, (4,), (1,)), storages))


def test_zip_bomb(refused: Callable[[bytes], str]) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("a/data.pkl", "w") as member:
            for _ in range(100):
                member.write(b"\x00" * 1_000_000)
        file.writestr("a/version", "3\n")
    tracemalloc.start()
    assert "compressed" in refused(held.getvalue())
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_compressed_storage(refused: Callable[[bytes], str]) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        file.writestr("a/data.pkl", tensor(0, (4,), (1,)))
        file.writestr("a/data/0", b"\x00" * 16, zipfile.ZIP_DEFLATED)
    assert "compressed" in refused(held.getvalue())


def test_member_twice(refused: Callable[[bytes], str]) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        file.writestr("a/data.pkl", tensor(0, (4,), (1,)))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a/data.pkl", tensor(0, (4,), (1,)))
    assert "'a/data.pkl' is there twice" in refused(held.getvalue())


@pytest.mark.parametrize("place", [20, 24])
def test_zip_sizes_that_lie(place: int, refused: Callable[[bytes], str]) -> None:
    data = bytearray(zipped(tensor(0, (4,), (1,)), **{"data/0": b"0000" * 4}))
    listing = data.index(b"PK\x01\x02")
    data[listing + place : listing + place + 4] = struct.pack("<I", 0xFFFFFFF0)
    refused(bytes(data))


def test_program_in_an_archive(refused: Callable[[bytes], str]) -> None:
    assert "with code" in refused(zipped(tensor(0, (4,), (1,)), **{"constants.pkl": b"", "data/0": b"0000" * 4}))


def test_pickles_that_grow(refused: Callable[[bytes], str]) -> None:
    """Tuples of tuples, each twice what was before: small in memory, endless for who walks or hashes them."""
    doubled = b"(K\x01K\x01tq\x00" + b"(h\x00h\x00tq\x00" * 200
    refused(b"\x80\x04}X\x01\x00\x00\x00w" + doubled + b"s.")
    refused(b"\x80\x04}" + doubled + b"K\x01s.")
    text = b"X\xff\x0f\x00\x00" + b"a" * 0xFFF + b"q\x00"
    encoded = b"c_codecs\nencode\nq\x01" + text + b"X\x06\x00\x00\x00latin1q\x02"
    tracemalloc.start()
    refused(b"\x80\x02(" + encoded + b"h\x01h\x00h\x02\x86R" * 5_000 + b"l.")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_deep_pickles(refused: Callable[[bytes], str]) -> None:
    refused(b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".")
    refused(b"\x80\x04" + b"(" * 100_000 + b"t" * 100_000 + b".")


# --- values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["safetensors", "archive", "arrays"])
def test_what_is_not_finite_is_named(
    kind: str, spec: Path, save: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weight = np.ones((8, 3, 3, 3), np.float32)
    weight[0, 0, 0, 0] = np.nan
    bias = np.full(4, -np.inf, np.float32)
    source = save(kind, **{"stem.0.weight": weight, "head.bias": bias})
    assert main(["weights", "convert", str(spec), str(source), str(tmp_path / "b.safetensors")]) == 0
    message = capsys.readouterr().err
    assert "warning: not all numbers are finite in stem.0.weight, head.bias" in message
    assert main(["weights", "inspect", str(tmp_path / "b.safetensors")]) == 0
    assert "1 not finite" in capsys.readouterr().out


def test_a_failure_in_writing_leaves_the_old_file(
    spec: Path, save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segspec.weights import portable
    from segspec.weights.tensors import Tensor

    source, target = save("archive"), tmp_path / "target.safetensors"
    target.write_bytes(b"the old one")

    def full(self: Tensor) -> Any:
        yield np.ones(3)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Tensor, "pieces", full)
    monkeypatch.setattr(Tensor, "finite", True)
    assert portable.LENGTH == 8
    assert main(["weights", "convert", str(spec), str(source), str(target)]) == 2
    assert target.read_bytes() == b"the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.yaml", "source.pth", "target.safetensors"]


def test_a_target_that_is_no_file(spec: Path, save: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    assert main(["weights", "convert", str(spec), str(save("arrays")), str(tmp_path / "folder.pth")]) == 2


def test_endless_pickles(refused: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segspec.weights.pickles.MAX_STEPS", 10_000)
    assert "more than 10,000 steps" in refused(b"\x80\x04" + b"N" * 20_000 + b".")
