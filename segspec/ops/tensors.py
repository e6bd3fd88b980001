"""Nodes that are tensors: learned, given, or the positions of a map's pixels."""

from __future__ import annotations

from typing import Any, ClassVar

from segspec.ops.attributes import Sizes, Values
from segspec.ops.base import Op, Require, Shape, Slot, map_of, op
from segspec.ops.initializers import Zeros
from segspec.ops.reach import nothing


@op("parameter")
class Parameter(Op):
    """A learned tensor, such as cluster centres; it starts at zero unless the node's ``init`` says otherwise."""

    size: Sizes

    inputs: ClassVar = (0, 0)
    reach = nothing
    examples: ClassVar = ({"size": [1, 4, 1, 1]}, {"size": [2, 4, 9, 12]})

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        return self.size

    def slots(self, inputs: tuple[Shape, ...]) -> tuple[Slot, ...]:
        return (Slot("value", self.size, Zeros(), itself=True),)


@op("buffer")
class Buffer(Op):
    """A given tensor that is not learned: its ``value``, or a ``size`` whose values come with the checkpoint.

    Values that stand here are part of the code and not of the state.
    """

    size: Sizes | None = None
    value: Values | None = None

    inputs: ClassVar = (0, 0)
    reach = nothing
    examples: ClassVar = ({"size": [1, 4, 1, 1]}, {"value": [[[[0.5]], [[-1.0]], [[2.25]], [[3.0]]]]})

    def validate(self) -> None:
        if (self.size is None) is (self.value is None):
            raise ValueError("say either size or value")

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        return self.size or _lengths(self.value)

    def slots(self, inputs: tuple[Shape, ...]) -> tuple[Slot, ...]:
        return (Slot("value", self.size, Zeros(), trainable=False, itself=True),) if self.size else ()


def _lengths(values: Any) -> tuple[int, ...]:
    return (len(values), *_lengths(values[0])) if isinstance(values, tuple) else ()


@op("coordinates")
class Coordinates(Op):
    """The row and the column of each pixel of a map, counted from 0: (N, C, H, W) to (N, 2, H, W)."""

    reach = nothing

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, _, h, w = map_of(inputs, require)
        return (n, 2, h, w)
