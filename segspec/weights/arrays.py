"""Checkpoints that are one pickle: a dict of NumPy arrays.

The globals are those by which NumPy's arrays are pickled, and the two containers that frameworks put around them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Literal

import numpy as np

from segspec.weights import pickles
from segspec.weights.pickles import Buildable, Named, Raw, Refused
from segspec.weights.tensors import BFLOAT16, DTYPES, Tensor

NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "U16"} | {DTYPES[BFLOAT16]: BFLOAT16}
"""An array of 16-bit unsigned integers is one of bfloat16: frameworks that write arrays have no other use for it."""


class Kind(Buildable):
    """A stand-in for a dtype."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str):
            raise Refused("a dtype is no text")
        self.code = code
        self.order: Literal["<", ">", "|", "="] = "<"

    def build(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "=")):
            raise Refused("a dtype is not of one simple type")
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype, if a checkpoint can have it."""
        if len(self.code) == 2 and self.code[0] in "fiub" and self.code[1] in "1248":
            found = np.dtype(self.code).newbyteorder(self.order)
            if found.newbyteorder("<") in NAMES:
                return found
        raise Refused(f"its elements are of the type {self.code!r:.20}")


class Array(Buildable):
    """A stand-in for an array: what the pickle says of it, and its bytes."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.kind: Kind | None = None
        self.order: Any = "C"
        self.raw: Raw | None = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise Refused("an array is not built as NumPy builds one")
        _, shape, kind, fortran, raw = state
        self._set(shape, kind, raw)
        self.order = "F" if fortran else "C"

    def _set(self, shape: Any, kind: Any, raw: Any) -> None:
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise Refused("an array's shape is no tuple of sizes")
        if not isinstance(kind, Kind) or not isinstance(raw, Raw | str):
            raise Refused("an array is not built as NumPy builds one")
        self.shape, self.kind, self.raw = shape, kind, raw if isinstance(raw, Raw) else Raw(raw)

    @classmethod
    def scalar(cls, kind: Any = None, raw: Any = None, *_: object) -> Array:
        """The stand-in for NumPy's maker of scalars."""
        made = cls()
        made._set((), kind, raw)
        return made

    def tensor(self, key: str) -> Tensor:
        """The array under its key; raises :class:`Refused` if its shape is not that of its bytes."""
        if self.kind is None or self.raw is None:
            raise Refused(f"{key}: it is an array that was never filled")
        try:
            dtype, found = self.kind.dtype(), len(self.raw)
        except Refused as error:
            raise Refused(f"{key}: {error}") from None
        raw, order = self.raw, self.order
        wanted = math.prod(self.shape) * dtype.itemsize
        if found != wanted:
            shown = "×".join(map(str, self.shape))
            raise Refused(f"{key}: its shape {shown} takes {wanted:,} bytes, but it has {found:,}")

        def read() -> np.ndarray:
            made: np.ndarray = np.ndarray(self.shape, dtype, raw.decoded(), order=order)
            return made if dtype.newbyteorder("<") == dtype else made.astype(dtype.newbyteorder("<"))

        return Tensor(key, NAMES[dtype.newbyteorder("<")], self.shape, read)


def ordered(*given: Any) -> dict[Any, Any]:
    """The stand-in for an ordered dict, made empty or of pairs."""
    pairs = given[0] if given else []
    if len(given) > 1 or not isinstance(pairs, list):
        raise Refused("a dict is not made of pairs")
    found: dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise Refused("a dict is not made of pairs")
        if pair[0] in found:
            raise Refused(f"the key {pair[0]!r:.80} is there twice")
        found[pair[0]] = pair[1]
    return found


def _pair(*given: Any) -> Any:
    """The stand-in for ``tuple``: a tensor's name and its array."""
    if len(given) != 1 or not isinstance(given[0], tuple):
        raise Refused("a tuple is not made of a tuple")
    return given[0]


def _nothing(*given: object) -> Raw:
    """The stand-in for ``bytes``, by which old protocols write that there are none."""
    if given:
        raise Refused("it makes bytes of something")
    return Raw("")


def _array(*_: object) -> Array:
    return Array()


KNOWN: dict[str, Callable[..., Any] | Named] = {
    "numpy.ndarray": Named("numpy.ndarray"),
    "numpy.dtype": Kind,
    "_codecs.encode": pickles.encoded,
    "collections.OrderedDict": ordered,
    "builtins.tuple": _pair,
    "__builtin__.tuple": _pair,
    "__builtin__.bytes": _nothing,
    **{
        f"numpy.{core}.multiarray.{name}": made
        for core in ("core", "_core")
        for name, made in (("_reconstruct", _array), ("scalar", Array.scalar))
    },
}
"""Every global that such a checkpoint has."""


def read(data: memoryview) -> Any:
    """What the pickle holds: a dict whose tensors are :class:`Array`."""
    return pickles.read(data, 0, KNOWN)[0]


def joined(values: dict[str, Any], table: str) -> dict[str, Any]:
    """The arrays, with those made whole that an old protocol could only hold in slices, as ``table`` lists them."""
    found = {key: _bare(value) for key, value in values.items() if key != table}
    listed = values.get(table, {})
    if not isinstance(listed, dict):
        raise Refused(f"its {table} is no table")
    for key, entry in listed.items():
        try:
            shape, names = tuple(entry["OriginShape"]), list(entry["slices"])
            slices = [found.pop(name).tensor(name) for name in names]
        except (AttributeError, KeyError, TypeError):
            raise Refused(f"{key}: its {table} does not say of which slices it consists") from None
        found[key] = _Joined(shape, slices)
    return found


class _Joined:
    """An array of which the file has slices."""

    def __init__(self, shape: tuple[int, ...], slices: list[Tensor]) -> None:
        self.shape, self.slices = shape, slices

    def tensor(self, key: str) -> Tensor:
        """As :meth:`Array.tensor`."""
        found, wanted = sum(math.prod(part.shape) for part in self.slices), math.prod(self.shape)
        kinds = {part.dtype for part in self.slices}
        if found != wanted or len(kinds) != 1 or not all(type(size) is int for size in self.shape):
            raise Refused(f"{key}: its shape takes {wanted:,} elements, but its slices have {found:,}")
        slices, shape = self.slices, self.shape
        return Tensor(
            key, kinds.pop(), shape, lambda: np.concatenate([part.read().reshape(-1) for part in slices]).reshape(shape)
        )


def _bare(value: Any) -> Any:
    """The array of a pair of a name and an array."""
    match value:
        case (str(), Array() as array):
            return array
    return value


def write(file: BinaryIO, tensors: Mapping[str, Tensor], _: Mapping[str, str]) -> Iterator[int]:
    """Write tensors as a pickled dict of arrays; yields the bytes written so far."""
    made = pickles.named("numpy.core.multiarray._reconstruct") + pickles.named("numpy.ndarray")
    made += pickles.literal((0,)) + b"C\x01b" + b"\x87R"
    file.write(pickles.opening() + b"}(")
    done = 0
    for key, tensor in tensors.items():
        shape = tensor.shape
        code = DTYPES[tensor.dtype].str
        order, code = code[0], code[1:]
        kind = pickles.named("numpy.dtype") + pickles.literal((code, False, True)) + b"R"
        kind += pickles.literal((3, order, None, None, None, -1, -1, 0)) + b"b"
        file.write(pickles.literal(key) + made + b"(" + pickles.literal(1) + pickles.literal(shape) + kind + b"\x89")
        file.write(pickles.raw(tensor.nbytes))
        for piece in tensor.pieces():
            file.write(piece.data.cast("B"))
            done += piece.nbytes
            yield done
        file.write(b"tb")
    file.write(b"u.")
