"""Normalisation layers."""

from __future__ import annotations

from typing import ClassVar

from segspec.algebra.symbols import Number, maximum
from segspec.ops.attributes import Axis, Positive, Probability, Switch
from segspec.ops.base import Op, Require, Shape, Slot, axis_of, map_of, op
from segspec.ops.initializers import Ones, Zeros
from segspec.ops.reach import Along, Reach, over, pointwise


class BatchNorm(Op):
    """Batch normalisation over all axes but the channels (Ioffe, Szegedy 2015).

    ``momentum`` is the weight of the *new* statistic: running ← (1 − momentum)·running + momentum·batch,
    the running variance from the unbiased batch variance.
    """

    affine: Switch
    frozen: Switch

    preserves_shape: ClassVar = True
    reach = pointwise  # outside training

    def counted(self, sizes: tuple[Number, ...], require: Require) -> None:
        """Require more than one value a channel, of which these are the axes."""
        if self.frozen:
            return
        require.at_least(
            maximum(*sizes),  # each is at least 1, so their product is at least 2 just where this is
            2,
            "batch normalisation sees a single value a channel",
            "in train mode, use a larger batch or a larger input",
            training=True,
        )

    def slots(self, inputs: tuple[Shape, ...]) -> tuple[Slot, ...]:
        size = (inputs[0][1],)
        affine = (Slot("weight", size, Ones()), Slot("bias", size, Zeros())) if self.affine else ()
        return (
            *affine,
            Slot("running_mean", size, Zeros(), trainable=False),
            Slot("running_var", size, Ones(), trainable=False),
        )

    def derived(self, inputs: tuple[Shape, ...]) -> dict[str, Number]:
        return {"num_features": inputs[0][1]}


@op("batch_norm2d")
class BatchNorm2d(BatchNorm):
    """Batch normalisation of each channel of a map over (N, H, W) (Ioffe, Szegedy 2015).

    ``momentum`` is the weight of the *new* statistic: running ← (1 − momentum)·running + momentum·batch,
    the running variance from the unbiased batch variance. Where it is ``frozen``, training normalises with
    the running statistics too, and leaves them as they are.
    """

    eps: Positive = 1e-5
    momentum: Probability = 0.1
    affine: Switch = True
    frozen: Switch = False

    examples: ClassVar = (
        {},
        {"eps": 1e-3, "momentum": 0.03},
        {"affine": False},
        {"eps": 0.1, "momentum": 1},
        {"momentum": 0},
        {"frozen": True, "eps": 1e-3},
    )

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, _, h, w = map_of(inputs, require)
        self.counted((n, h, w), require)
        return inputs[0]


@op("batch_norm1d")
class BatchNorm1d(BatchNorm):
    """Batch normalisation of each channel of (N, C) or (N, C, L), otherwise as batch_norm2d."""

    eps: Positive = 1e-5
    momentum: Probability = 0.1
    affine: Switch = True
    frozen: Switch = False

    examples: ClassVar = (
        {"shape": [6, 7]},
        {"shape": [2, 4, 7], "eps": 1e-3, "momentum": 0.03},
        {"shape": [2, 4, 7], "affine": False},
        {"shape": [2, 4, 7], "frozen": True},
    )

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        axes = len(inputs[0])
        require.at_least(min(axes - 2, 3 - axes), 0, f"expected (N, C) or (N, C, L), found {axes} axes")
        n, _, *sizes = inputs[0]
        self.counted((n, *sizes), require)
        return inputs[0]


@op("normalize")
class Normalize(Op):
    """x / max(‖x‖, 1e-12), with the Euclidean norm along one axis."""

    dim: Axis

    preserves_shape: ClassVar = True
    examples: ClassVar = ({"dim": 1}, {"dim": -1, "shape": [2, 4, 7]})

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        axis_of(inputs[0], self.dim, require)
        return inputs[0]

    def reach(self, along: Along) -> Reach:
        return over(along, [self.dim])
