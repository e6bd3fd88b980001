"""A checkpoint's tensors: what each is called, and its elements as they lie in the file, read when asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from segspec.weights.pickles import Refused

BFLOAT16 = "BF16"
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    BFLOAT16: np.dtype("<u2"),  # NumPy has no such type: its bits
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""The types of elements under their names in safetensors, and how NumPy holds them."""

MAX_AXES = 32
"""How many axes a tensor may have: as many as every NumPy can give an array."""
MAX_ELEMENTS = 2**48
"""How many elements, axes of no size left out: an array of more would have no place in an address space."""

MAX_LISTING = 2**24
"""How many bytes of a file may list its tensors before the first of them: a hundred thousand tensors take less."""

PIECE = 2**22
"""How many elements are in memory at a time where a tensor is converted."""
STRIP = 16
"""How many columns of a matrix are transposed at a time: as many numbers as a line of the cache holds.

In squares, lines of the source that are a power of two apart drive each other out of the cache.
"""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint; ``read`` gives its elements, a view of the file where that can be."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @property
    def floating(self) -> bool:
        """Whether its elements are of floating point."""
        return self.dtype in ("F64", "F32", "F16", BFLOAT16)

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    def named(self, key: str) -> Tensor:
        """The same tensor under another key."""
        return replace(self, key=key)

    def transposed(self) -> Tensor:
        """The tensor with its axes in the opposite order."""
        return replace(self, shape=self.shape[::-1], read=lambda: self.read().T)

    def reversed(self) -> Tensor:
        """The tensor with its second axis turned round."""
        return replace(self, read=lambda: self.read()[:, ::-1])

    def cast(self, dtype: str) -> Tensor:
        """The tensor with its numbers in another floating type."""

        def read() -> np.ndarray:
            made = np.empty(self.shape, DTYPES[dtype])
            flat, done = made.reshape(-1), 0
            with np.errstate(over="ignore"):  # what becomes infinite is found there
                for numbers in self.numbers():
                    flat[done : done + numbers.size] = numbers
                    done += numbers.size
            return made

        return replace(self, dtype=dtype, read=read)

    def pieces(self) -> Iterator[np.ndarray]:
        """Its elements in order, in flat contiguous pieces that follow from its shape alone; of bfloat16 the bits."""
        array = self.read()
        array = array if array.ndim else array.reshape(1)
        if not array.size:
            array = array.reshape(1, 0)  # however long its axes are
        rows = max(1, PIECE // max(1, math.prod(array.shape[1:])))
        for start in range(0, len(array), rows):
            part = array[start : start + rows]
            yield (part if part.flags.c_contiguous else _contiguous(part)).reshape(-1)

    def numbers(self) -> Iterator[np.ndarray]:
        """The same pieces as numbers, bfloat16 as float32."""
        for piece in self.pieces():
            yield (piece.astype(np.uint32) << 16).view(np.float32) if self.dtype == BFLOAT16 else piece

    @property
    def finite(self) -> bool:
        """Whether no element is infinite or not a number."""
        return not self.floating or all(map(_finite, self.numbers()))


def prepared(tensors: Iterable[Tensor]) -> Iterator[Iterator[np.ndarray]]:
    """The pieces of each tensor in turn; while one is written, a second thread makes the next."""
    numbered = ((index, piece) for index, tensor in enumerate(tensors) for piece in tensor.pieces())
    for _, pieces in groupby(_ahead(numbered), key=itemgetter(0)):
        yield (piece for _, piece in pieces)


def _ahead(items: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    with ThreadPoolExecutor(1) as worker:
        following = worker.submit(next, items, None)
        while (item := following.result()) is not None:
            following = worker.submit(next, items, None)
            yield item


class Pickled:
    """What a pickle says of a tensor, believed in nothing until :meth:`tensor` has looked at it."""

    def tensor(self, key: str) -> Tensor:
        """The tensor under its key; raises :class:`Refused` if it is not as the file says."""
        raise NotImplementedError


def shape_of(given: object) -> tuple[int, ...]:
    """The shape that a file gives a tensor; raises :class:`Refused` where no array could have it."""
    sizes = given if isinstance(given, tuple) and len(given) <= MAX_AXES else [None]
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise Refused(f"its shape is no tuple of up to {MAX_AXES} sizes")
    if math.prod(size or 1 for size in sizes) > MAX_ELEMENTS:
        raise Refused(f"its shape is beyond what any array can have: {'×'.join(map(str, sizes))}")
    return tuple(sizes)


def _contiguous(array: np.ndarray) -> np.ndarray:
    """A copy in order; of a matrix in strips, which takes a fifth of the time."""
    if array.ndim != 2:
        return np.ascontiguousarray(array)
    made = np.empty(array.shape, array.dtype)
    for column in range(0, array.shape[1], STRIP):
        made[:, column : column + STRIP] = array[:, column : column + STRIP]
    return made


def _finite(numbers: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        # What is not finite stays so in a sum; a finite sum takes a tenth of the time of looking at each.
        return bool(np.isfinite(numbers.sum(dtype=np.promote_types(numbers.dtype, np.float32)))) or bool(
            np.isfinite(numbers).all()
        )


def of_array(key: str, array: np.ndarray) -> Tensor:
    """A tensor of an array in memory."""
    return Tensor(key, _NAMES[array.dtype], array.shape, lambda: array)


_NAMES = {dtype: name for name, dtype in DTYPES.items() if name != BFLOAT16}


@dataclass(frozen=True)
class Checkpoint:
    """A file of tensors: its format, the tensors by key, what else it says, and what was noticed in reading it.

    ``release`` gives the memory back that the tensors read so far occupy; they can be read again.
    """

    path: Path
    format: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    release: Callable[[], None] = lambda: None
