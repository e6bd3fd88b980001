"""Dropout in its two forms; both are the identity outside training."""

from __future__ import annotations

from typing import ClassVar

from segspec.ops.attributes import Probability
from segspec.ops.base import Op, Require, Shape, map_of, op
from segspec.ops.reach import pointwise


@op("dropout")
class Dropout(Op):
    """Zero each element with probability p, scale the rest by 1 / (1 − p) (Srivastava et al. 2014)."""

    p: Probability = 0.5

    preserves_shape: ClassVar = True
    reach = pointwise
    stochastic: ClassVar = True
    examples: ClassVar = ({}, {"p": 0.1}, {"p": 0})


@op("dropout2d")
class Dropout2d(Op):
    """Zero each channel of a map with probability p, scale the rest by 1 / (1 − p) (Tompson et al. 2015)."""

    p: Probability = 0.5

    preserves_shape: ClassVar = True
    reach = pointwise
    stochastic: ClassVar = True
    examples: ClassVar = ({}, {"p": 0.1}, {"p": 0})

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        return map_of(inputs, require)
