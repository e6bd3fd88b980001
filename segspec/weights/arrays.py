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
from segspec.weights.tensors import BFLOAT16, DTYPES, Pickled, Tensor, prepared, shape_of

NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "U16"} | {DTYPES[BFLOAT16]: BFLOAT16}
"""An array of 16-bit unsigned integers is one of bfloat16: frameworks that write arrays have no other use for it."""
CODES = {dtype.str[1:]: dtype for dtype in NAMES}
"""What a pickled dtype is called, without its byte order."""


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
        if self.code not in CODES:
            raise Refused(f"its elements are of the type {self.code!r:.20}")
        return CODES[self.code].newbyteorder(self.order)


class Array(Buildable, Pickled):
    """A stand-in for an array: the state that the pickle gives it, which holds its bytes."""

    def __init__(self, state: Any = None) -> None:
        self.state = state

    def build(self, state: Any) -> None:
        self.state = state

    @classmethod
    def scalar(cls, kind: Any = None, raw: Any = None, *_: object) -> Array:
        """The stand-in for NumPy's maker of scalars."""
        return cls((1, (), kind, False, raw))

    def tensor(self, key: str) -> Tensor:
        match self.state:
            case None:
                raise Refused("it is an array that was never filled")
            case (_, sizes, Kind() as kind, fortran, (Raw() | str()) as held):
                shape, dtype = shape_of(sizes), kind.dtype()
                raw = held if isinstance(held, Raw) else Raw(held)
            case _:
                raise Refused("it is an array that is not built as NumPy builds one")
        wanted, found = math.prod(shape) * dtype.itemsize, len(raw)
        if found != wanted:
            raise Refused(f"its shape {'×'.join(map(str, shape))} takes {wanted:,} bytes, but it has {found:,}")

        def read() -> np.ndarray:
            made: np.ndarray = np.ndarray(shape, dtype, raw.decoded(), order="F" if fortran else "C")
            return made if dtype.newbyteorder("<") == dtype else made.astype(dtype.newbyteorder("<"))

        return Tensor(key, NAMES[dtype.newbyteorder("<")], shape, read)


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
        match entry:
            case {"OriginShape": shape, "slices": [_, *_] as names}:
                slices = [found.pop(name, None) if isinstance(name, str) else None for name in names]
                if key not in found and all(isinstance(part, Array) for part in slices):
                    found[key] = _Joined(shape, slices)
                    continue
        raise Refused(f"{key!r:.80}: its {table} does not say of which slices it consists")
    return found


class _Joined(Pickled):
    """An array of which the file has slices."""

    def __init__(self, shape: object, slices: list[Any]) -> None:
        self.shape, self.slices = shape, slices

    def tensor(self, key: str) -> Tensor:
        shape = shape_of(self.shape)
        slices = [part.tensor(key) for part in self.slices]
        found, wanted = sum(math.prod(part.shape) for part in slices), math.prod(shape)
        kinds = {part.dtype for part in slices}
        if found != wanted or len(kinds) != 1:
            raise Refused(f"its shape takes {wanted:,} elements of one type, but its slices have {found:,}")
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
    for (key, tensor), pieces in zip(tensors.items(), prepared(tensors.values()), strict=True):
        shape = tensor.shape
        code = DTYPES[tensor.dtype].str
        order, code = code[0], code[1:]
        kind = pickles.named("numpy.dtype") + pickles.literal((code, False, True)) + b"R"
        kind += pickles.literal((3, order, None, None, None, -1, -1, 0)) + b"b"
        file.write(pickles.literal(key) + made + b"(" + pickles.literal(1) + pickles.literal(shape) + kind + b"\x89")
        file.write(pickles.raw(tensor.nbytes))
        for piece in pieces:
            file.write(piece.data.cast("B"))
            done += piece.nbytes
            yield done
        file.write(b"tb")
    file.write(b"u.")
