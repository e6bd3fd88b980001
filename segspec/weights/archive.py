"""Checkpoints whose pickle only describes the tensors: their elements lie in storages beside it.

In the zip form each storage is a member of the archive; in the form before it, the storages follow the pickle.
The globals are those that such a pickle has of plain tensors, as the format's weights-only loading admits them.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Literal

import numpy as np

from segspec.weights import pickles
from segspec.weights.arrays import ordered
from segspec.weights.pickles import Named, Refused
from segspec.weights.tensors import BFLOAT16, DTYPES, MAX_LISTING, Pickled, Tensor, prepared, shape_of

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The first of the pickles in the form before the zip form."""
LEADING = 3
"""How many pickles there are before the one that describes the tensors: this, a version, the writer's machine."""

STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
MODULE = "torch"
ALIGNMENT = 64
HEADER = 30
"""How long the fixed part of a zip member's header is."""

Order = Literal["<", ">"]
Bytes = Callable[[str], memoryview]
"""The bytes of the storage of a name."""


class Described(Pickled):
    """A stand-in for a tensor: its storage, and where in it the elements are."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def tensor(self, key: str) -> Tensor:
        shape, storage = shape_of(self.shape), self.storage
        given = (self.offset, *self.strides) if isinstance(self.strides, tuple) else ()
        if not isinstance(storage, Storage) or len(given) != 1 + len(shape) or not all(map(_count, given)):
            raise Refused("it is not described by a storage, an offset, sizes and strides")
        offset, *apart = given
        strides = [stride if size > 1 else 0 for size, stride in zip(shape, apart, strict=True)]  # what one more costs
        dtype, elements = storage.dtype, math.prod(shape)
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + 1
        if max(last if elements else offset, elements) > storage.count:
            raise Refused(
                f"its shape {'×'.join(map(str, shape))} takes {max(last, elements):,} elements, but its storage has "
                f"{storage.count:,}"
            )
        try:
            found = len(storage.bytes(storage.name))
        except (KeyError, Refused) as error:
            reason = error if isinstance(error, Refused) else "it is not there"
            raise Refused(f"its storage {storage.name!r:.40}: {reason}") from None
        if found < storage.count * dtype.itemsize:
            raise Refused(f"its storage should have {storage.count * dtype.itemsize:,} bytes, but has {found:,}")

        def read() -> np.ndarray:
            held, steps = storage.bytes(storage.name), [stride * dtype.itemsize for stride in strides]
            if not elements:
                return np.empty(shape, dtype)
            made: np.ndarray = np.ndarray(shape, dtype, held, offset * dtype.itemsize, steps)
            return made if dtype.newbyteorder("<") == dtype else made.astype(dtype.newbyteorder("<"))

        return Tensor(key, storage.kind, shape, read)


def _count(value: object) -> bool:
    return type(value) is int and value >= 0


class Storage:
    """A stand-in for a storage: its type, how many elements it says it has, and how to get its bytes."""

    def __init__(self, kind: str, name: str, count: int, order: Order, find: Bytes) -> None:
        self.kind, self.name, self.count, self.bytes = kind, name, count, find
        self.dtype = DTYPES[kind].newbyteorder(order)


def _parameter(held: Any, *_: object) -> Any:
    """The stand-in for the maker of parameters: the tensor in it."""
    return held


KNOWN: dict[str, Callable[..., Any] | Named] = {
    "collections.OrderedDict": ordered,
    f"{MODULE}._utils._rebuild_tensor": Described,
    f"{MODULE}._utils._rebuild_tensor_v2": Described,
    f"{MODULE}._utils._rebuild_parameter": _parameter,
    f"{MODULE}.Size": lambda sizes: sizes,
    **{f"{MODULE}.{name}": Named(kind) for name, kind in STORAGES.items()},
}
"""Every global that such a checkpoint has."""


def _finder(order: Order, find: Bytes) -> Callable[[Any], Storage]:
    """What a pickle's references to storages stand for."""

    def storage(reference: Any) -> Storage:
        match reference:
            case ("storage", Named(kind), str(name), _, int(count), *rest) if count >= 0 and rest in ([], [None]):
                return Storage(kind, name, count, order, find)
        raise Refused("it refers to something outside itself that is no storage")

    return storage


# --- the zip form --------------------------------------------------------------------------------------


def read(data: memoryview) -> Any:
    """What the archive's pickle holds: a dict whose tensors are :class:`Described`."""
    try:
        with zipfile.ZipFile(io.BufferedReader(_Window(data))) as archive:
            listed = archive.infolist()
    except (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError, OSError, EOFError) as error:
        raise Refused(f"it is a damaged or cut off archive: {error}") from None
    found: dict[str, zipfile.ZipInfo] = {}
    for info in listed:
        if ".." in info.filename.split("/") or info.filename.startswith("/"):
            raise Refused(f"its member {info.filename!r:.80} would lie outside it")
        if info.filename in found:
            raise Refused(f"the member {info.filename!r:.80} is there twice")
        found[info.filename] = info
    described = [name for name in found if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(described) != 1:
        raise Refused("it is an archive, but holds no checkpoint: no data.pkl describes tensors")
    folder = described[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in found:
        raise Refused("it is a whole compiled network, with code, and not a checkpoint")

    def member(name: str) -> memoryview:
        return _stored(data, found[name])

    order: Order = ">" if f"{folder}byteorder" in found and bytes(member(f"{folder}byteorder")[:4]) == b"big" else "<"
    find = _finder(order, lambda name: member(f"{folder}data/{name}"))
    value, _ = pickles.read(member(described[0]), 0, KNOWN, find)
    return value


def _stored(data: memoryview, member: zipfile.ZipInfo) -> memoryview:
    """A member's bytes, where they lie."""
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise Refused(f"its member {member.filename!r:.80} is compressed or encrypted, which no checkpoint's is")
    header = data[member.header_offset : member.header_offset + HEADER]
    if len(header) < HEADER or bytes(header[:4]) != b"PK\x03\x04":
        raise Refused(f"its member {member.filename!r:.80} is not where the archive says")
    start = member.header_offset + HEADER
    start += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if start + member.file_size > len(data) or member.file_size != member.compress_size:
        raise Refused(
            f"its member {member.filename!r:.80} claims {member.file_size:,} bytes where {len(data) - start:,} follow"
        )
    return data[start : start + member.file_size]


class _Window(io.RawIOBase):
    """A file over memory, of which nothing is copied but what is read: the list of its members."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at, self.left = data, 0, MAX_LISTING

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: len(self.data)}[whence]
        if self.at < 0:
            raise OSError("it points before its start")
        return self.at

    def readinto(self, buffer: Any) -> int:
        part = self.data[self.at : self.at + len(buffer)]
        self.left -= len(part)
        if self.left < 0:
            raise OSError(f"the list of its members takes more than {MAX_LISTING:,} bytes")
        buffer[: len(part)] = part
        self.at += len(part)
        return len(part)


# --- the form before it ---------------------------------------------------------------------------------


def read_old(data: memoryview) -> Any:
    """As :func:`read`, of the form before the zip form."""
    at, places = 0, dict[str, memoryview]()
    used: dict[str, Storage] = {}
    machine: Any = {}
    for _ in range(LEADING):
        machine, at = pickles.read(data, at, {})
    order: Order = ">" if isinstance(machine, dict) and machine.get("little_endian") is False else "<"
    find = _finder(order, places.__getitem__)

    def storage(reference: Any) -> Storage:
        found = find(reference)
        return used.setdefault(found.name, found)

    value, at = pickles.read(data, at, KNOWN, storage)
    names, at = pickles.read(data, at, {})
    if not isinstance(names, list):
        raise Refused("the list of its storages is none")
    for name in names:
        if not isinstance(name, str) or name not in used or name in places:
            raise Refused(f"its storage {name!r:.40} is there twice, or belongs to no tensor")
        count, width = int.from_bytes(data[at : at + 8], "little"), used[name].dtype.itemsize
        at += 8
        if count * width > len(data) - at:
            raise Refused(f"it is cut off, or lies: {count * width:,} bytes should follow where {len(data) - at:,} do")
        places[name] = data[at : at + count * width]
        at += count * width
    return value


# --- writing --------------------------------------------------------------------------------------------


def write(file: BinaryIO, tensors: Mapping[str, Tensor], _: Mapping[str, str]) -> Iterator[int]:
    """Write tensors in the zip form; yields the bytes of them written so far."""
    folder = "checkpoint/"
    classes = {kind: name for name, kind in STORAGES.items()}
    pickle = [b"\x80\x02}("]
    for index, (key, tensor) in enumerate(tensors.items()):
        shape = tensor.shape
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        pickle += [
            pickles.literal(key),
            pickles.named(f"{MODULE}._utils._rebuild_tensor_v2") + b"((",
            pickles.literal("storage") + pickles.named(f"{MODULE}.{classes[tensor.dtype]}"),
            pickles.literal(str(index)) + pickles.literal("cpu") + pickles.literal(math.prod(shape)) + b"tQ",
            pickles.literal(0) + pickles.literal(shape) + pickles.literal(strides) + pickles.literal(False),
            pickles.named("collections.OrderedDict") + b")RtR",
        ]
    done = 0
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with _member(archive, f"{folder}data.pkl", sum(map(len, pickle))) as member:
            member.write(b"".join([*pickle, b"u."]))
        with _member(archive, f"{folder}byteorder", 6) as member:
            member.write(b"little")
        for index, (tensor, pieces) in enumerate(zip(tensors.values(), prepared(tensors.values()), strict=True)):
            with _member(archive, f"{folder}data/{index}", tensor.nbytes) as member:
                for piece in pieces:
                    member.write(piece.data.cast("B"))
                    done += piece.nbytes
                    yield done
        with _member(archive, f"{folder}version", 2) as member:
            member.write(b"3\n")


def _member(archive: zipfile.ZipFile, name: str, size: int) -> Any:
    """A member to be written, its bytes aligned so that the file can be mapped."""
    info = zipfile.ZipInfo(name)
    large = size >= zipfile.ZIP64_LIMIT
    start = archive.fp.tell() + HEADER + len(name) + 4 + 20 * large  # type: ignore[union-attr]  # it is open
    padding = -start % ALIGNMENT
    info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    info.file_size = size
    return archive.open(info, "w", force_zip64=large)
