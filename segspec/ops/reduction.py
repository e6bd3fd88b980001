"""Reductions over axes."""

from __future__ import annotations

from typing import ClassVar

from segspec.algebra.symbols import Number
from segspec.ops.attributes import Axes, Switch
from segspec.ops.base import Op, Require, Shape, axis_of, op
from segspec.ops.reach import Along, Reach, over


class Reduction(Op):
    """What reductions share: the axes ``dim``, which ``keepdim`` keeps with length 1."""

    dim: Axes
    keepdim: Switch

    examples: ClassVar = (
        {"dim": 1},
        {"dim": [2, 3], "keepdim": True},
        {"dim": -1, "keepdim": True, "shape": [2, 4, 7]},
    )

    def reach(self, along: Along) -> Reach:
        return over(along, self.dim)

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        dims = [axis_of(inputs[0], axis, require) for axis in self.dim]
        require.equal(len(set(dims)), len(dims), f"an axis is named twice in {list(self.dim)}")
        kept: list[Number] = []
        for axis, size in enumerate(inputs[0]):
            if axis not in dims:
                kept.append(size)
            elif self.keepdim:
                kept.append(1)
        return tuple(kept)


@op("sum")
class Sum(Reduction):
    """The sum over one or more axes."""

    dim: Axes
    keepdim: Switch = False


@op("mean")
class Mean(Reduction):
    """The mean over one or more axes."""

    dim: Axes
    keepdim: Switch = False


@op("amax")
class Amax(Reduction):
    """The maximum over one or more axes; where several are largest, each gets an equal share of the gradient."""

    dim: Axes
    keepdim: Switch = False
