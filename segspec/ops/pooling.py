"""Pooling: in windows, to a given size, and over the whole map."""

from __future__ import annotations

from typing import ClassVar

from segspec.algebra.symbols import Number, ceil_div, minimum, show
from segspec.ops.attributes import Margin, Node, Pair, Switch
from segspec.ops.base import Op, Require, Shape, map_of, op
from segspec.ops.convolution import windows
from segspec.ops.reach import Along, Reach, spread, whole_image, window


class WindowPool(Op):
    """What pooling in windows shares: the stride defaults to the kernel, the padding is at most half of it."""

    kernel_size: Pair
    stride: Pair | None
    padding: Margin
    ceil_mode: Switch

    @property
    def steps(self) -> tuple[Number, Number]:
        """The stride in force."""
        return self.kernel_size if self.stride is None else self.stride

    def pooled(self, inputs: tuple[Shape, ...], require: Require, dilation: tuple[Number, Number]) -> Shape:
        """The output's shape."""
        n, c, h, w = map_of(inputs, require)
        sizes = []
        for axis, (size, name) in enumerate(((h, "height"), (w, "width"))):
            kernel, stride, padding = self.kernel_size[axis], self.steps[axis], self.padding[axis]
            too_much = f"the padding {show(padding)} is more than half of the kernel ({show(kernel)})"
            require.at_least(kernel // 2 - padding, 0, too_much, "use less padding, or pad before")
            if self.ceil_mode:
                # The last window must start inside the map or its leading padding, so of the two
                # bounds ceil((size + 2p − span) / s) + 1 and ceil((size + p) / s) the smaller holds.
                slack = 2 * padding - dilation[axis] * (kernel - 1) - 1 + stride
                count = ceil_div(size + minimum(slack, padding), stride)
            else:
                count = windows(size, kernel, stride, 2 * padding, dilation[axis])
            require.at_least(count, 1, f"the window is larger than the padded {name}", "use a larger input")
            sizes.append(count)
        return (n, c, *sizes)

    def reach(self, along: Along) -> Reach:
        axis = along.axis
        return window(self.kernel_size[axis], self.steps[axis], self.padding[axis])


@op("max_pool2d")
class MaxPool2d(WindowPool):
    """The maximum of each window; padding never wins. ``stride`` defaults to the kernel."""

    kernel_size: Pair
    stride: Pair | None = None
    padding: Margin = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: Switch = False
    return_indices: Switch = False

    examples: ClassVar = (
        {"kernel_size": 2},
        {"kernel_size": 2, "stride": 2, "ceil_mode": True},
        {"kernel_size": 3, "stride": 2, "padding": 1, "return_indices": True},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
        {"kernel_size": [3, 2], "stride": [1, 2], "padding": [1, 0]},
    )

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        return self.pooled(inputs, require, self.dilation)

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("maximum", "indices") if self.return_indices else ("maximum",)

    @property
    def whole_outputs(self) -> tuple[bool, ...]:
        return (False, True) if self.return_indices else ()

    def shapes(self, inputs: tuple[Shape, ...], require: Require) -> tuple[Shape, ...]:
        return (self.shape(inputs, require),) * len(self.outputs)

    def reach(self, along: Along) -> Reach:
        axis = along.axis
        return window(self.kernel_size[axis], self.steps[axis], self.padding[axis], self.dilation[axis])


@op("max_unpool2d")
class MaxUnpool2d(Op):
    """Put each value where the maximum was found, zeros elsewhere (Zeiler et al. 2011, Badrinarayanan et al. 2017).

    Its inputs are the values and the ``indices`` of the pooling that is undone; kernel, stride and padding are
    that pooling's. The output has the size of the node ``like``, what that pooling read.
    """

    kernel_size: Pair
    stride: Pair | None = None
    padding: Margin = (0, 0)
    like: Node

    inputs: ClassVar = (2, 2)
    whole_inputs: ClassVar = (False, True)
    examples: ClassVar = (
        {"kernel_size": 2, "like": "left"},
        {"kernel_size": [2, 3], "stride": [2, 3], "padding": [0, 1], "like": "left"},
        {"kernel_size": 3, "stride": 2, "padding": 1, "like": "left"},
    )

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, c, h, w = map_of(inputs, require)
        for axis, (size, other) in enumerate(zip(inputs[0], inputs[1], strict=False)):
            name = ("batches", "channels", "heights", "widths")[axis]
            require.equal(size, other, f"the values and the indices have different {name}: {{left}} and {{right}}")
        _, _, *wanted = map_of(inputs, require, 2)
        steps = self.kernel_size if self.stride is None else self.stride
        for axis, (size, target) in enumerate(zip((h, w), wanted, strict=True)):
            least = (size - 1) * steps[axis] - 2 * self.padding[axis] + self.kernel_size[axis] - target
            message = "a pooling of this kernel, stride and padding does not make this size of that of 'like'"
            require.at_least(steps[axis] - least, 1, message, "let like be what the pooling read")
            require.at_least(steps[axis] + least, 1, message, "let like be what the pooling read")
        return (n, c, *wanted)

    def reach(self, along: Along) -> Reach:
        axis = along.axis
        steps = self.kernel_size if self.stride is None else self.stride
        return spread(self.kernel_size[axis], steps[axis], self.padding[axis])


@op("avg_pool2d")
class AvgPool2d(WindowPool):
    """The mean of each window. With padding, ``count_include_pad`` says whether the padding counts."""

    kernel_size: Pair
    stride: Pair | None = None
    padding: Margin = (0, 0)
    ceil_mode: Switch = False
    count_include_pad: Switch | None = None

    examples: ClassVar = (
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": True},
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        {
            "kernel_size": 3,
            "stride": 2,
            "padding": 1,
            "ceil_mode": True,
            "count_include_pad": False,
        },
        {"kernel_size": [3, 2], "stride": [3, 2], "ceil_mode": True},
    )

    def validate(self) -> None:
        if self.count_include_pad is None and self.padding != (0, 0):
            raise ValueError("with padding, say count_include_pad: true or false")

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        return self.pooled(inputs, require, (1, 1))


class AdaptivePool(Op):
    """Pooling to a given size: window i spans from ⌊i·in/out⌋ to ⌈(i+1)·in/out⌉."""

    output_size: Pair

    reach = whole_image
    examples: ClassVar = ({"output_size": 1}, {"output_size": [3, 5]}, {"output_size": 16})

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, c, _, _ = map_of(inputs, require)
        return (n, c, *self.output_size)


@op("adaptive_avg_pool2d")
class AdaptiveAvgPool2d(AdaptivePool):
    """The mean of each of output_size windows that together cover the map."""

    output_size: Pair


@op("adaptive_max_pool2d")
class AdaptiveMaxPool2d(AdaptivePool):
    """The maximum of each of output_size windows that together cover the map."""

    output_size: Pair


class GlobalPool(Op):
    """Pooling over the whole map, to 1×1."""

    reach = whole_image

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, c, _, _ = map_of(inputs, require)
        return (n, c, 1, 1)


@op("global_avg_pool2d")
class GlobalAvgPool2d(GlobalPool):
    """The mean over height and width, kept as a 1×1 map."""


@op("global_max_pool2d")
class GlobalMaxPool2d(GlobalPool):
    """The maximum over height and width, kept as a 1×1 map."""
