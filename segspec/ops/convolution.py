"""Convolutions and the linear layer."""

from __future__ import annotations

from typing import ClassVar

from segspec.algebra.symbols import Number, Sym, maximum
from segspec.ops.attributes import Count, Flag, Margin, Natural, Pair, Sides
from segspec.ops.base import Op, Require, Shape, Slot, map_of, op, product
from segspec.ops.initializers import FanInUniform
from segspec.ops.reach import POINTWISE, WHOLE, Along, Reach, spread, whole_image, window


def windows(size: Number, kernel: Number, stride: Number, padding: Number, dilation: Number) -> Number:
    """How many windows fit along one axis; ``padding`` is both sides' together (Dumoulin, Visin 2016, rel. 14)."""
    return (size + padding - dilation * (kernel - 1) - 1) // stride + 1


def _optional_bias(size: Number, present: bool | Sym) -> tuple[Slot, ...]:
    # A symbolic flag counts as 0 or 1, so that the parameter count stays a polynomial.
    if present is False:
        return ()
    return (Slot("bias", (size * present if isinstance(present, Sym) else size,), FanInUniform()),)


@op("conv2d")
class Conv2d(Op):
    """2-D cross-correlation of a zero-padded map: what deep learning calls convolution."""

    out_channels: Count
    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: Count = 1
    bias: Flag = True

    examples: ClassVar = (
        {"out_channels": 6, "kernel_size": 3, "padding": 1},
        {"out_channels": 6, "kernel_size": [1, 3], "bias": False},
        {"out_channels": 6, "kernel_size": 3, "stride": 2, "padding": [1, 2]},
        {"out_channels": 6, "kernel_size": [2, 3], "stride": [2, 3], "padding": [0, 1, 2, 0]},
        {"out_channels": 4, "kernel_size": 3, "padding": 6, "dilation": 6, "groups": 4},
        {"out_channels": 6, "kernel_size": 3, "dilation": [2, 1], "groups": 2},
    )

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, c, h, w = map_of(inputs, require)
        _divides(self.groups, c, "the input's channels", require)
        _divides(self.groups, self.out_channels, "out_channels", require)
        top, bottom, left, right = self.padding
        height = windows(h, self.kernel_size[0], self.stride[0], top + bottom, self.dilation[0])
        width = windows(w, self.kernel_size[1], self.stride[1], left + right, self.dilation[1])
        for size, axis in ((height, "height"), (width, "width")):
            require.at_least(
                size,
                1,
                f"the kernel is larger than the padded {axis}",
                "use more padding or a larger input",
            )
        return (n, self.out_channels, height, width)

    def slots(self, inputs: tuple[Shape, ...]) -> tuple[Slot, ...]:
        weight = (self.out_channels, inputs[0][1] // self.groups, *self.kernel_size)
        return (
            Slot("weight", weight, FanInUniform()),
            *_optional_bias(self.out_channels, self.bias),
        )

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> Number:
        return product(output) * (inputs[0][1] // self.groups) * product(self.kernel_size)

    def reach(self, along: Along) -> Reach:
        axis = along.axis
        return window(self.kernel_size[axis], self.stride[axis], self.padding[2 * axis], self.dilation[axis])

    def derived(self, inputs: tuple[Shape, ...]) -> dict[str, Number]:
        return {"in_channels": inputs[0][1]}


@op("conv1d")
class Conv1d(Op):
    """1-D cross-correlation of a zero-padded (N, C, L)."""

    out_channels: Count
    kernel_size: Count
    stride: Count = 1
    padding: Natural = 0
    dilation: Count = 1
    groups: Count = 1
    bias: Flag = True

    examples: ClassVar = (
        {"out_channels": 6, "kernel_size": 1, "shape": [2, 4, 7]},
        {"out_channels": 6, "kernel_size": 3, "stride": 2, "padding": 1, "bias": False, "shape": [2, 4, 12]},
        {"out_channels": 6, "kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2, "shape": [2, 4, 12]},
    )

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        require.equal(len(inputs[0]), 3, f"expected (N, C, L), found {len(inputs[0])} axes")
        n, c, length = (*inputs[0], 1, 1)[:3]
        _divides(self.groups, c, "the input's channels", require)
        _divides(self.groups, self.out_channels, "out_channels", require)
        length = windows(length, self.kernel_size, self.stride, 2 * self.padding, self.dilation)
        require.at_least(length, 1, "the kernel is larger than the padded input", "use more padding or a larger input")
        return (n, self.out_channels, length)

    def reach(self, along: Along) -> Reach:
        return POINTWISE if self.kernel_size == 1 else WHOLE

    def slots(self, inputs: tuple[Shape, ...]) -> tuple[Slot, ...]:
        weight = (self.out_channels, inputs[0][1] // self.groups, self.kernel_size)
        return (Slot("weight", weight, FanInUniform()), *_optional_bias(self.out_channels, self.bias))

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> Number:
        return product(output) * (inputs[0][1] // self.groups) * self.kernel_size

    def derived(self, inputs: tuple[Shape, ...]) -> dict[str, Number]:
        return {"in_channels": inputs[0][1]}


@op("conv_transpose2d")
class ConvTranspose2d(Op):
    """The gradient of a 2-D convolution with respect to its input, used to enlarge a map."""

    out_channels: Count
    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: Margin = (0, 0)
    output_padding: Margin = (0, 0)
    dilation: Pair = (1, 1)
    groups: Count = 1
    bias: Flag = True

    examples: ClassVar = (
        {"out_channels": 6, "kernel_size": 2, "stride": 2},
        {"out_channels": 6, "kernel_size": 4, "stride": 2, "padding": 1, "bias": False},
        {
            "out_channels": 6,
            "kernel_size": 3,
            "stride": [2, 3],
            "padding": 1,
            "output_padding": [1, 2],
        },
        {"out_channels": 6, "kernel_size": 3, "stride": 2, "groups": 2, "dilation": 2},
    )

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, c, h, w = map_of(inputs, require)
        _divides(self.groups, c, "the input's channels", require)
        _divides(self.groups, self.out_channels, "out_channels", require)
        sizes = []
        for axis, size in enumerate((h, w)):
            room = maximum(self.stride[axis], self.dilation[axis]) - self.output_padding[axis]
            require.at_least(room, 1, "output_padding must be smaller than the stride or the dilation")
            grown = (size - 1) * self.stride[axis] - 2 * self.padding[axis]
            grown = grown + self.dilation[axis] * (self.kernel_size[axis] - 1) + self.output_padding[axis] + 1
            require.at_least(grown, 1, "the padding removes the whole output", "use less padding")
            sizes.append(grown)
        return (n, self.out_channels, *sizes)

    def slots(self, inputs: tuple[Shape, ...]) -> tuple[Slot, ...]:
        weight = (inputs[0][1], self.out_channels // self.groups, *self.kernel_size)
        return (
            Slot("weight", weight, FanInUniform()),
            *_optional_bias(self.out_channels, self.bias),
        )

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> Number:
        return product(inputs[0]) * (self.out_channels // self.groups) * product(self.kernel_size)

    def reach(self, along: Along) -> Reach:
        axis = along.axis
        return spread(self.kernel_size[axis], self.stride[axis], self.padding[axis], self.dilation[axis])

    def derived(self, inputs: tuple[Shape, ...]) -> dict[str, Number]:
        return {"in_channels": inputs[0][1]}


@op("linear")
class Linear(Op):
    """An affine map of the last axis."""

    out_features: Count
    bias: Flag = True

    reach = whole_image

    examples: ClassVar = (
        {"out_features": 5, "shape": [2, 7]},
        {"out_features": 7, "bias": False, "shape": [2, 7]},
        {"out_features": 3, "shape": [2, 4, 7]},
    )

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        require.at_least(len(inputs[0]), 2, "expected at least two axes (N, C)")
        return (*inputs[0][:-1], self.out_features)

    def slots(self, inputs: tuple[Shape, ...]) -> tuple[Slot, ...]:
        weight = Slot("weight", (self.out_features, inputs[0][-1]), FanInUniform())
        return (weight, *_optional_bias(self.out_features, self.bias))

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> Number:
        return product(output) * inputs[0][-1]

    def derived(self, inputs: tuple[Shape, ...]) -> dict[str, Number]:
        return {"in_features": inputs[0][-1]}


def _divides(groups: Number, channels: Number, what: str, require: Require) -> None:
    if groups != 1:
        require.equal(channels - groups * (channels // groups), 0, f"groups must divide {what}")
