"""Ops that only rearrange."""

from __future__ import annotations

from typing import ClassVar

from segspec.ops.attributes import Axis
from segspec.ops.base import Op, Require, Shape, axis_of, op, product
from segspec.ops.reach import whole_image


@op("flatten")
class Flatten(Op):
    """Join all axes from ``start_dim`` on into one."""

    start_dim: Axis = 1

    reach = whole_image

    examples: ClassVar = ({}, {"start_dim": 2})

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        start = axis_of(inputs[0], self.start_dim, require)
        return (*inputs[0][:start], product(inputs[0][start:]))
