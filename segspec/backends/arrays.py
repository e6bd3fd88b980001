"""Arrays in a file, one after another, and an index that says where each lies: how processes exchange them.

Of a large array that is only to be compared, a count sketch stands for it (Charikar, Chen, Farach-Colton: Finding
Frequent Items in Data Streams, 2002): 256 sums of its values with random signs. It is linear, and the distance of
two sketches is that of the arrays, give or take a quarter; for most it is less than a tenth.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

SMALL = 4096
"""An array of no more elements is kept as it is."""
SUMS = 256
ROW = 4099
"""Elements so far apart are added up first: a prime, so that one column or channel of a map is not all in one sum."""
CHUNK = 64 * ROW
ALIGNED = 16
"""An array begins at a multiple of so many bytes, where any dtype may."""


@dataclass(frozen=True)
class Digest:
    """What comparing needs of an array: its shape, its L2 norm, and its values, or their sketch if they are many."""

    shape: tuple[int, ...]
    norm: float
    values: np.ndarray


class Reading(Mapping[str, np.ndarray]):
    """Arrays in a file, by name, each read when it is asked for.

    Few files are kept open in between: of one network there are dozens of these, and a process may have no more than
    some hundred files open. ``index`` has each one's dtype, its shape, the offset of its values (None where they are
    not kept), the offset of its sketch (None where it has none), and its norm.
    """

    def __init__(self, file: str, index: Mapping[str, Any]) -> None:
        self.file = file
        self.index = index
        self.inode = os.stat(file).st_ino

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, shape, offset, _, _ = self.index[name]
        if offset is None:
            raise KeyError(f"of {name} only a sketch is kept")
        return self.at(offset, dtype, tuple(shape))

    def at(self, offset: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """The array at one place of the file."""
        found = np.empty(shape, dtype)
        # In pieces: the system reads no more than 2 GiB at a time.
        left = found.reshape(-1).view(np.uint8).data
        while left:
            read = os.preadv(_opened(self.file, self.inode).fileno(), [left], offset)
            if not read:
                raise EOFError(f"{self.file} ends before the array at {offset} does")
            left, offset = left[read:], offset + read
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """An array's shape."""
        return tuple(self.index[name][1])

    def __iter__(self) -> Iterator[str]:
        return iter(self.index)

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, name: object) -> bool:
        return name in self.index

    def digest(self, name: str) -> Digest | None:
        """What comparing needs of an array; None if there is none."""
        if name not in self.index:
            return None
        dtype, shape, offset, sketched, length = self.index[name]
        if sketched is not None:
            dtype, offset, count = "float64", sketched, SUMS
        else:
            count = math.prod(shape)
        # It is small: one call reads it.
        read = os.pread(_opened(self.file, self.inode).fileno(), count * np.dtype(dtype).itemsize, offset)
        return Digest(tuple(shape), length, np.frombuffer(read, dtype).astype("float64", copy=False))

    def identity(self, name: str) -> int | None:
        """What the names of one and the same array have in common."""
        entry = self.index.get(name)
        return None if entry is None else entry[2] if entry[3] is None else entry[3]


@lru_cache(maxsize=8)
def _opened(file: str, inode: int) -> BinaryIO:
    """A file that is read from; of another that has its name since, another one."""
    return open(file, "rb", buffering=0)


def release() -> None:
    """Close what is open, so that deleted files free their space."""
    _opened.cache_clear()


class Writing:
    """Appends arrays to a file; ``index`` says where they are.

    With ``whole``, the values of all are kept; unless ``compared``, nothing that only comparing needs.
    """

    def __init__(self, file: BinaryIO, *, whole: bool = False, compared: bool = True) -> None:
        self.file = file
        self.whole = whole
        self.compared = compared
        self.index: dict[str, Any] = {}
        self.known: dict[int, tuple[Any, Any]] = {}
        self.seconds = 0.0  # spent on reading and writing
        # Whoever wrote before may have been stopped in the middle of an array.
        self.place = file.tell() + file.write(bytes(-file.tell() % ALIGNED))

    def __call__(self, name: str, array: np.ndarray, source: Any = None, *, whole: bool | None = None) -> None:
        """Append an array; one of a ``source`` that is written already is not written twice."""
        if source is not None and self.has(source):
            self.index[name] = self.known[id(source)][0]
            return
        began = time.perf_counter()
        held = np.ascontiguousarray(array)
        small = held.size <= SMALL
        keep = small or (self.whole if whole is None else whole)
        sums, length = None, math.nan
        if self.compared:
            sums, length = (None, norm(np.asarray(held.ravel(), "float64"))) if small else sketch(held)
        self.index[name] = [
            held.dtype.str,
            list(array.shape),
            self._append(held) if keep else None,
            None if sums is None else self._append(sums),
            length,
        ]
        if source is not None:
            self.known[id(source)] = (self.index[name], source)
        self.seconds += time.perf_counter() - began

    def _append(self, array: np.ndarray) -> int:
        place = self.place
        self.file.write(array.data.cast("B") if array.size else b"")
        gap = -array.nbytes % ALIGNED or ALIGNED
        self.file.write(bytes(gap))
        self.place += array.nbytes + gap
        return place

    def has(self, source: Any) -> bool:
        """Whether an array of this source is written."""
        return id(source) in self.known


def sketch(array: np.ndarray) -> tuple[np.ndarray, float]:
    """The count sketch of an array, and its norm."""
    values = array.ravel()
    row = np.zeros(ROW)
    length = 0.0
    signs, places = _signs()
    for index, start in enumerate(range(0, values.size, CHUNK)):
        part = values[start : start + CHUNK].astype("float64", copy=False)
        length = math.hypot(length, norm(part))
        # Each chunk has signs of its own, from another place in one table of them.
        shift = (index * 7919) % CHUNK
        signed = part * signs[shift : shift + part.size]
        whole = part.size - part.size % ROW
        row += signed[:whole].reshape(-1, ROW).sum(0)
        row[: part.size - whole] += signed[whole:]
    return np.bincount(places, row, SUMS), length


@np.errstate(over="ignore", invalid="ignore")
def norm(values: np.ndarray) -> float:
    """The L2 norm of a vector; also where the squares of its values are too large or too small for float64."""
    found = math.sqrt(float(np.dot(values, values)))
    if 1e-140 < found < 1e140 or not values.size:
        return found
    largest = float(np.abs(values).max())
    return largest * norm(values / largest) if 0 < largest < math.inf else largest


@lru_cache(maxsize=1)
def _signs() -> tuple[np.ndarray, np.ndarray]:
    """The signs of the elements, and the sum to which each place in a row goes."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 2, 2 * CHUNK) * 2.0 - 1.0, generator.integers(0, SUMS, ROW)
