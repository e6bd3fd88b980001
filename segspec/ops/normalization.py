"""Normalisation layers."""

from __future__ import annotations

from typing import ClassVar

from segspec.algebra.symbols import Number, maximum
from segspec.ops.attributes import Positive, Probability, Switch
from segspec.ops.base import Op, Require, Shape, Slot, map_of, op
from segspec.ops.initializers import Ones, Zeros
from segspec.ops.reach import pointwise


@op("batch_norm2d")
class BatchNorm2d(Op):
    """Batch normalisation over (N, H, W) of each channel (Ioffe, Szegedy 2015).

    ``momentum`` is the weight of the *new* statistic: running ← (1 − momentum)·running + momentum·batch,
    the running variance from the unbiased batch variance.
    """

    eps: Positive = 1e-5
    momentum: Probability = 0.1
    affine: Switch = True

    preserves_shape: ClassVar = True
    reach = pointwise  # outside training
    examples: ClassVar = (
        {},
        {"eps": 1e-3, "momentum": 0.03},
        {"affine": False},
        {"eps": 0.1, "momentum": 1},
        {"momentum": 0},
    )

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, _, h, w = map_of(inputs, require)
        require.at_least(
            maximum(n, h, w),  # each is at least 1, so n·h·w ≥ 2 just where this is
            2,
            "batch normalisation sees a single value a channel",
            "in train mode, use a larger batch or a larger input",
            training=True,
        )
        return inputs[0]

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
