"""Arrays in a file, one after another, and an index that says where each lies: how processes exchange them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np


class Reading(Mapping[str, np.ndarray]):
    """Arrays in a file, by name, read where they lie: ``index`` has each one's dtype, shape and offset."""

    def __init__(self, file: str, index: Mapping[str, Any]) -> None:
        self.file = file
        self.index = index
        self.held = np.memmap(file, mode="r") if os.path.getsize(file) else np.empty(0, "uint8")

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, shape, offset = self.index[name]
        found: np.ndarray = np.ndarray(tuple(shape), dtype, self.held, offset)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.index)

    def __len__(self) -> int:
        return len(self.index)


class Writing:
    """Appends arrays to a file; ``index`` says where they are."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.index: dict[str, Any] = {}
        self.known: dict[int, tuple[Any, Any]] = {}
        self.seconds = 0.0  # spent on writing

    def __call__(self, name: str, array: np.ndarray, source: Any = None) -> None:
        """Append an array; one of a ``source`` that is written already is not written twice."""
        if source is not None and self.has(source):
            self.index[name] = self.known[id(source)][0]
            return
        began = time.perf_counter()
        held = np.ascontiguousarray(array)
        self.index[name] = [held.dtype.str, list(array.shape), self.file.tell()]
        self.file.write(held.data.cast("B") if held.size else b"")
        self.file.write(bytes(-self.file.tell() % 16))  # where the next one begins, any dtype may
        if source is not None:
            self.known[id(source)] = (self.index[name], source)
        self.seconds += time.perf_counter() - began

    def has(self, source: Any) -> bool:
        """Whether an array of this source is written."""
        return id(source) in self.known
