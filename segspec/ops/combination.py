"""Ops of several inputs: concatenation and element-wise arithmetic with broadcasting."""

from __future__ import annotations

from typing import ClassVar

from segspec.algebra.symbols import Number
from segspec.ops.attributes import Axis
from segspec.ops.base import Op, Require, Shape, axis_of, op
from segspec.ops.reach import Along, Reach, over, pointwise

_AXES = {0: "batch", 1: "channels", 2: "height", 3: "width"}
_MANY = 1_000


@op("concat")
class Concat(Op):
    """Join tensors along one axis, the channels unless ``dim`` says otherwise."""

    dim: Axis = 1

    inputs: ClassVar = (2, _MANY)
    examples: ClassVar = (
        {"other": [2, 3, 9, 12]},
        {"dim": 2, "other": [2, 4, 3, 12]},
    )

    def reach(self, along: Along) -> Reach:
        return over(along, [self.dim])

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        first = inputs[0]
        dim = axis_of(first, self.dim, require)
        total: Number = first[dim]
        for other in inputs[1:]:
            _same_rank(first, other, require)
            for axis, (left, right) in enumerate(zip(first, other, strict=False)):
                if axis != dim:
                    _same(axis, left, right, require)
            total = total + other[dim]
        return (*first[:dim], total, *first[dim + 1 :])


class Arithmetic(Op):
    """Element by element; an axis of size 1 is repeated to the other's size."""

    inputs: ClassVar = (2, 2)
    reach = pointwise
    examples: ClassVar = ({"other": [2, 4, 9, 12]}, {"other": [2, 4, 1, 1]})

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        result = inputs[0]
        for other in inputs[1:]:
            _same_rank(result, other, require)
            sizes: list[Number] = []
            for axis, (left, right) in enumerate(zip(result, other, strict=False)):
                if left != 1 and right != 1:
                    _same(axis, left, right, require)
                sizes.append(right if left == 1 else left)
            result = tuple(sizes)
        return result


@op("add")
class Add(Arithmetic):
    """The sum of two or more tensors."""

    inputs: ClassVar = (2, _MANY)


@op("sub")
class Sub(Arithmetic):
    """The first tensor less the second."""


@op("mul")
class Mul(Arithmetic):
    """The product of two or more tensors."""

    inputs: ClassVar = (2, _MANY)


@op("div")
class Div(Arithmetic):
    """The first tensor divided by the second."""


@op("maximum")
class Maximum(Arithmetic):
    """The greatest of two or more tensors. Of equal elements, frameworks share the gradient out differently."""

    inputs: ClassVar = (2, _MANY)


def _same_rank(left: Shape, right: Shape, require: Require) -> None:
    require.equal(len(left), len(right), f"the inputs have {len(left)} and {len(right)} axes")


def _same(axis: int, left: Number, right: Number, require: Require) -> None:
    name = _AXES.get(axis, f"axis {axis}")
    remedy = {
        "channels": "bring both to the same channels with a 1×1 conv2d",
        "height": "bring one to the other's size with resize, pad_to or crop",
        "width": "bring one to the other's size with resize, pad_to or crop",
    }
    require.equal(
        left,
        right,
        f"the inputs differ in {name}: {{left}} and {{right}}",
        remedy.get(name, ""),
    )
