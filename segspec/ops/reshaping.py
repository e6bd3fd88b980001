"""Ops that only rearrange."""

from __future__ import annotations

from typing import ClassVar

from segspec.ops.attributes import Whole
from segspec.ops.base import Op, Require, Shape, op, product


@op("flatten")
class Flatten(Op):
    """Join all axes from ``start_dim`` on into one."""

    start_dim: Whole = 1

    examples: ClassVar = ({}, {"start_dim": 2})

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        require.at_least(len(inputs[0]) - 1, self.start_dim, f"the input has no axis {self.start_dim}")
        kept = inputs[0][: self.start_dim]
        return (*kept, product(inputs[0][self.start_dim :]))
