"""Files from strangers: none runs anything, none is believed, and what was at the target stays whole."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segspec.cli import main
from segspec.weights import archive, formats
from segspec.weights.pickles import literal, named

pytestmark = pytest.mark.slow

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
        (b"cnumpy.core.multiarray\n_reconstruct\n)RK\x01b", "not built as NumPy builds one"),
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


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The same with something wrong in its descriptions, which stand at both ends of a file."""
    found = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 4])):
        place = draw.randrange(4000) if draw.random() < 0.7 else len(found) - 1 - draw.randrange(2000)
        place = min(max(place, 0), len(found) - 1)
        match draw.randrange(6):
            case 0:
                found[place] = draw.randrange(256)
            case 1:
                found[place] ^= 1 << draw.randrange(8)
            case 2:
                del found[place : place + draw.choice([1, 4])]
            case 3:
                found[place:place] = bytes([draw.choice(b"(}]).tuRbsae0\x85\x88\x8a\x94")])
            case 4:
                found[place : place + 8] = struct.pack("<q", draw.choice([-1, 2**31, 2**40, 2**62]))
            case 5:
                other = draw.randrange(len(found))
                found[place : place + 16] = found[other : other + 16]
    return bytes(found[: draw.randrange(len(found))] if draw.random() < 0.1 else found)


@pytest.mark.parametrize("kind", ["safetensors", "archive", "arrays", "old archive", "slices"])
def test_damaged_anywhere(
    kind: str, spec: Path, save: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong in a file: it is refused and the target stays, or it is another checkpoint."""
    if kind == "old archive":
        data = old(tensor(0, (2, 2), (2, 1)), pickle.dumps(["0"], 2) + struct.pack("<Q", 4) + b"0000" * 4)
    elif kind == "slices":
        table = {"w": {"OriginShape": (7, 1), "slices": ["w@@.0", "w@@.1"]}}
        held = {"w@@.0": np.ones(3), "w@@.1": np.ones(4), "UnpackBigParamInfor@@": table}
        data = pickle.dumps(held, 2)
    else:
        data = good(kind, save)
    source, target, draw = tmp_path / "source.bin", tmp_path / "target.pth", random.Random(kind)
    outcomes = set()
    for _ in range(300):
        source.write_bytes(damaged(data, draw))
        target.write_bytes(b"the old one")
        for command in (["inspect"], ["convert", str(spec)]):
            targets = [str(target)] if command[0] == "convert" else []
            outcomes.add(outcome := main(["weights", *command, str(source), *targets]))
            said = capfd.readouterr().err
            assert outcome == 0 or (outcome == 2 and f"{source}: error[" in said)
        assert outcome == 0 or target.read_bytes() == b"the old one"
    assert outcomes == {0, 2}
    assert {path.name for path in tmp_path.iterdir()} == {"source.bin", "target.pth", "small.yaml"}


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
        safetensors({"a": entry([1] * 33, 4)}, b"0000"),
        safetensors({"a": entry([2**62, 0], 0)}),
        safetensors({"a": entry([2**40, 2**20, 0], 0)}),
        safetensors({"a": entry([1], 4)}, b" " * 2**25, length=2**24 + 1),
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
        (
            entries_of(array(literal((2**40,)), ONE)),
            "its shape 1099511627776 takes 4,398,046,511,104 bytes, but it has 4",
        ),
        (entries_of(array(b"J\xff\xff\xff\xff\x85", ONE)), "no tuple of up to 32 sizes"),
        (entries_of(array(b"]", ONE)), "no tuple of up to 32 sizes"),
        (entries_of(array(literal((1,) * 33), ONE)), "no tuple of up to 32 sizes"),
        (entries_of(array(literal((2**60,)), ONE)), "beyond what any array can have"),
        (entries_of(array(literal((2**40, 2**40, 0)), b"C\x00")), "beyond what any array can have"),
        (entries_of(array(literal((2**2000,) * 10), ONE)), "beyond what any array can have"),
        (entries_of(array(b"K\x01\x85", ONE, b"f1")), "of the type 'f1'"),
        (entries_of(array(b"K\x01\x85", ONE, b"b4")), "of the type 'b4'"),
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
    storage = b"(" + literal("storage") + named("torch.FloatStorage") + literal("0") + literal("cpu") + literal(count)
    made = storage + b"tQ" + literal(offset) + literal(shape) + literal(strides) + b"\x89"
    return b"\x80\x02}X\x01\x00\x00\x00w" + named("torch._utils._rebuild_tensor_v2") + b"(" + made + b"NtRs."


@pytest.mark.parametrize("kind", ["archive", "old archive"])
@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (tensor(0, (5,), (1,)), "w: its shape 5 takes 5 elements, but its storage has 4"),
        (tensor(1, (4,), (1,)), "w: its shape 4 takes 5 elements, but its storage has 4"),
        (tensor(0, (2**40,), (0,)), "but its storage has 4"),
        (tensor(0, (2**60,), (0,)), "beyond what any array can have"),
        (tensor(0, (2**60, 2**60, 2**60), (0, 0, 0)), "beyond what any array can have"),
        (tensor(0, (2**62, 0), (0, 0)), "beyond what any array can have"),
        (tensor(0, (2**2000,) * 10, (0,) * 10), "beyond what any array can have"),
        (tensor(0, (1,) * 33, (1,) * 33), "no tuple of up to 32 sizes"),
        (tensor(2**70, (0,), (1,)), "but its storage has 4"),
        (tensor(0, (2, 2), (2**62, 1)), "but its storage has 4"),
        (tensor(-1, (1,), (1,)), "is not described by"),
        (tensor(0, (-1,), (1,)), "no tuple of up to 32 sizes"),
        (tensor(0, (2,), (-1,)), "is not described by"),
        (tensor(0, (2, 2), (1,)), "is not described by"),
        (tensor(0, (5,), (1,), count=2**60), ""),
    ],
)
def test_archives_that_lie(kind: str, pickled: bytes, said: str, refused: Callable[[bytes], str]) -> None:
    storages = pickle.dumps(["0"], 2) + struct.pack("<Q", 4) + b"0000" * 4
    data = zipped(pickled, **{"data/0": b"0000" * 4}) if kind == "archive" else old(pickled, storages)
    assert said in refused(data)


def test_axes_of_no_size_and_steps_along_one_element_mean_nothing(tmp_path: Path) -> None:
    """A stride where there is nothing to step to may be anything, and a long axis of nothing is not walked."""
    (tmp_path / "a").write_bytes(zipped(tensor(0, (1, 2), (2**80, 1)), **{"data/0": b"0000" * 4}))
    assert formats.read(tmp_path / "a").tensors["w"].read().shape == (1, 2)
    for name, data in {
        "b": safetensors({"w": entry([2**48, 0], 0)}),
        "c": entries_of(array(literal((2**48, 0)), b"C\x00")),
        "d": zipped(tensor(0, (2**48, 0), (2**80, 2**80)), **{"data/0": b"0000" * 4}),
    }.items():
        (tmp_path / name).write_bytes(data)
        assert main(["weights", "inspect", str(tmp_path / name)]) == 0
        assert main(["weights", "diff", str(tmp_path / name), str(tmp_path / name)]) == 0


def test_a_stand_in_is_no_tensor(refused: Callable[[bytes], str]) -> None:
    held = b"\x80\x02}" + literal("w") + named("torch._utils._rebuild_tensor_v2") + b"s."
    assert "holds no tensors by name, but 'w'" in refused(zipped(held))


@pytest.mark.parametrize("names", [[[]], [None], ["0", "0"], ["1"]])
def test_storages_of_an_old_archive_that_are_none(names: list[Any], refused: Callable[[bytes], str]) -> None:
    storages = pickle.dumps(names, 2) + (struct.pack("<Q", 4) + b"0000" * 4) * 2
    assert "is there twice, or belongs to no tensor" in refused(old(tensor(0, (4,), (1,)), storages))


@pytest.mark.parametrize(
    ("shape", "slices"),
    [
        (literal(("a",)), literal(("v",))),
        (literal("ab"), literal(("v",))),
        (literal((-1, -1)), literal(("v",))),
        (literal(((1, 2),)), literal(("v",))),
        (literal((1,) * 100), literal(("v",))),
        (literal((2**2000,) * 10), literal(("v",))),
        (literal((2,)), literal(("v",))),
        (literal((2,)), literal(("v", "v"))),
        (literal((1,)), literal((3,))),
        (literal((1,)), b"]]a"),
        (literal((0,)), literal(())),
        (literal((1,)), b"N"),
    ],
)
def test_slices_that_lie(shape: bytes, slices: bytes, refused: Callable[[bytes], str]) -> None:
    of = b"}(" + literal("OriginShape") + shape + literal("slices") + slices + b"u"
    held = literal("v") + array(literal((1,)), ONE) + literal("UnpackBigParamInfor@@") + b"}" + literal("w") + of + b"s"
    message = refused(b"\x80\x04}(" + held + b"u.")
    assert "w: its shape" in message or "'w': its UnpackBigParamInfor@@ does not say" in message


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


@pytest.mark.parametrize("name", ["../data.pkl", "a/../../b", "/a/data.pkl"])
def test_members_outside_the_archive(name: str, refused: Callable[[bytes], str]) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        file.writestr("a/data.pkl", tensor(0, (4,), (1,)))
        file.writestr("a/data/0", b"0000" * 4)
        file.writestr(name, b"")
    assert f"its member '{name}' would lie outside it" in refused(held.getvalue())


def test_an_archive_of_too_many_members(refused: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch) -> None:
    data = zipped(tensor(0, (4,), (1,)), **{"data/0": b"0000" * 4}, **{f"more/{index}": b"" for index in range(1000)})
    monkeypatch.setattr(archive, "MAX_LISTING", 10_000)
    assert "the list of its members takes more than 10,000 bytes" in refused(data)


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


@pytest.mark.parametrize("what", ["pairs", "arguments"])
def test_lists_that_are_walked_again_and_again(what: str, refused: Callable[[bytes], str]) -> None:
    """A list that is made once costs its maker little, and who walks it at each of many calls all the more."""
    many = 100_000
    pairs = b"](" + b"".join(literal(f"k{index}") + b"K\x01\x86" for index in range(many)) + b"e\x85"
    given = {"pairs": pairs, "arguments": b"(" + b"N" * many + b"t"}[what]
    maker = {"pairs": "collections.OrderedDict", "arguments": "numpy.core.multiarray._reconstruct"}[what]
    calls = named(maker) + b"q\x01" + given + b"q\x02R" + b"h\x01h\x02Rb" * many
    assert "more than 2,000,000 steps" in refused(b"\x80\x04}" + calls + b".")


def test_shapes_that_are_walked_again_and_again(refused: Callable[[bytes], str]) -> None:
    shape = b"(" + b"K\x01" * 100_000 + b"tq\x01"
    made = named("numpy.core.multiarray._reconstruct") + b"q\x03" + named("numpy.dtype") + literal(("f4",)) + b"Rq\x04"
    refused(b"\x80\x04(" + shape + made + b"h\x03)R(K\x01h\x01h\x04\x89C\x00tb" * 80_000 + b"t.")


@pytest.mark.parametrize("kind", ["arrays", "archive"])
def test_tensors_that_share_their_bytes(kind: str, refused: Callable[[bytes], str]) -> None:
    """Two megabytes, read for each of thousands of keys."""
    count = 2**18
    storages, held = {"data/0": bytes(4 * count)}, tensor(0, (count,), (1,), count)[5:-2].removeprefix(b"\x00\x00\x00w")
    if kind == "arrays":
        storages, held = {}, array(literal((count,)), b"B" + struct.pack("<I", 4 * count) + bytes(4 * count))
    more = b"".join(literal(f"k{index}") + b"j\x01\x00\x00\x00" for index in range(5_000))
    data = b"\x80\x04}(" + literal("k") + held + b"r\x01\x00\x00\x00" + more + b"u."
    message = refused(data if kind == "arrays" else zipped(data, **storages))
    assert "its tensors share their bytes, and would take 5,243,928,576 where it has 1," in message


@pytest.mark.parametrize("network", ["small.yaml", "resnet"])
@pytest.mark.parametrize("prefix", ["aux.", "layer1.", "a." * 500])
def test_many_keys(network: str, prefix: str, tmp_path: Path, spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is said of thousands of tensors takes time in proportion to them, and few lines."""
    count = 20_000 if len(prefix) < 10 else 2_000
    keys = [literal(f"{prefix}{index}") for index in range(1, count)]
    held = array(literal((1,)), ONE) + b"r\x01\x00\x00\x00" + b"".join(key + b"j\x01\x00\x00\x00" for key in keys)
    (tmp_path / "many").write_bytes(b"\x80\x04}(" + literal(f"{prefix}0") + held + b"u.")
    start = time.process_time()
    assert main(["weights", "convert", network, "many", "own.pth"]) == 2
    assert time.process_time() - start < 20
    message = capsys.readouterr().err
    assert f"{count:,} tensors" in message
    assert len(message) < 10_000


def test_long_keys_are_cut(refused: Callable[[bytes], str]) -> None:
    assert len(refused(b"\x80\x04}" + literal("a" * 4000) + array(literal((2,)), ONE) + b"s.")) < 2_000


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


def test_what_becomes_infinite_is_named(
    spec: Path, save: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = save("archive", **{"head.bias": np.array([1, 2, 3, -1e300])})
    assert main(["weights", "convert", str(spec), str(source), str(tmp_path / "b.pth")]) == 0
    assert capfd.readouterr().err == ""
    assert main(["weights", "convert", str(spec), str(source), str(tmp_path / "b.pdparams")]) == 0
    message = capfd.readouterr().err
    assert "warning: not all numbers are finite in head.bias" in message
    assert "RuntimeWarning" not in message


def test_a_failure_in_writing_leaves_the_old_file(
    spec: Path, save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segspec.weights.tensors import Tensor

    source, target = save("archive"), tmp_path / "target.safetensors"
    target.write_bytes(b"the old one")

    def full(self: Tensor) -> Any:
        yield np.ones(3)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Tensor, "pieces", full)
    monkeypatch.setattr(Tensor, "finite", True)
    assert main(["weights", "convert", str(spec), str(source), str(target)]) == 2
    assert target.read_bytes() == b"the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.yaml", "source.pth", "target.safetensors"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pdparams"])
def test_a_full_disk_leaves_the_old_file(suffix: str, tmp_path: Path) -> None:
    """A process that may write no file of more than a megabyte stands for a disk with no more room."""
    target = tmp_path / f"target{suffix}"
    target.write_bytes(b"the old one")
    code = (
        "import resource, sys; from segspec.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20)); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "weights", "init", "u2netp", "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"{target}: error[output]: cannot write: File too large\n"
    assert target.read_bytes() == b"the old one"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_target_that_is_no_file(spec: Path, save: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    assert main(["weights", "convert", str(spec), str(save("arrays")), str(tmp_path / "folder.pth")]) == 2


def test_endless_pickles(refused: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segspec.weights.pickles.MAX_STEPS", 10_000)
    assert "more than 10,000 steps" in refused(b"\x80\x04" + b"N" * 20_000 + b".")
