"""Activations: element by element, but for softmax."""

from __future__ import annotations

from typing import Annotated, ClassVar

from segspec.ops.attributes import Axis, Count, Real, choice
from segspec.ops.base import Op, Require, Shape, Slot, axis_of, op
from segspec.ops.initializers import Constant
from segspec.ops.reach import Along, Reach, over, pointwise


class Activation(Op):
    """An op whose output has its input's shape."""

    preserves_shape: ClassVar = True
    reach = pointwise


@op("relu")
class Relu(Activation):
    """max(x, 0)."""


@op("relu6")
class Relu6(Activation):
    """min(max(x, 0), 6)."""


@op("leaky_relu")
class LeakyRelu(Activation):
    """x for x > 0, else negative_slope · x."""

    negative_slope: Real = 0.01

    examples: ClassVar = ({}, {"negative_slope": 0.2})


@op("prelu")
class Prelu(Activation):
    """Leaky ReLU with a learned slope, one for all channels or one each (He et al. 2015)."""

    num_parameters: Count = 1

    examples: ClassVar = ({}, {"num_parameters": 4})

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        if self.num_parameters != 1:
            require.equal(
                self.num_parameters,
                inputs[0][1] if len(inputs[0]) > 1 else 1,
                "num_parameters must be 1 or the input's channels",
            )
        return inputs[0]

    def slots(self, inputs: tuple[Shape, ...]) -> tuple[Slot, ...]:
        return (Slot("weight", (self.num_parameters,), Constant(value=0.25)),)


@op("sigmoid")
class Sigmoid(Activation):
    """1 / (1 + exp(−x))."""


@op("softmax")
class Softmax(Activation):
    """exp(x) / Σ exp(x) along one axis."""

    dim: Axis

    examples: ClassVar = ({"dim": 1}, {"dim": -1})

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        axis_of(inputs[0], self.dim, require)
        return inputs[0]

    def reach(self, along: Along) -> Reach:
        return over(along, [self.dim])


@op("hard_swish")
class HardSwish(Activation):
    """x · min(max(x + 3, 0), 6) / 6 (Howard et al. 2019)."""


@op("silu")
class Silu(Activation):
    """x · sigmoid(x), also called swish."""


@op("gelu")
class Gelu(Activation):
    """x · Φ(x), or its approximation by tanh (Hendrycks, Gimpel 2016)."""

    approximate: Annotated[str, choice("none", "tanh")] = "none"

    examples: ClassVar = ({}, {"approximate": "tanh"})


@op("identity")
class Identity(Activation):
    """The input itself."""
