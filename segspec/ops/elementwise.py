"""Functions of each element by itself that are no activations."""

from __future__ import annotations

from typing import ClassVar

from segspec.ops.attributes import Real
from segspec.ops.base import Op, op
from segspec.ops.reach import pointwise


class Elementwise(Op):
    """An op whose output has its input's shape."""

    preserves_shape: ClassVar = True
    reach = pointwise


@op("exp")
class Exp(Elementwise):
    """e to the power of each element."""


@op("square")
class Square(Elementwise):
    """Each element times itself."""


@op("reciprocal")
class Reciprocal(Elementwise):
    """One divided by each element."""


@op("affine")
class Affine(Elementwise):
    """scale · x + shift, with numbers that are not learned."""

    scale: Real | None = None
    shift: Real | None = None

    examples: ClassVar = (
        {"scale": -0.5},
        {"scale": 2, "shift": 1},
        {"scale": -1, "shift": 0.5},
        {"shift": 3},
        {"scale": 1},
    )

    def validate(self) -> None:
        if self.scale is None and self.shift is None:
            raise ValueError("say scale, shift or both")
