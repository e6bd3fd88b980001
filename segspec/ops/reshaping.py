"""Ops that only rearrange: joining, splitting and permuting axes, windows side by side."""

from __future__ import annotations

from typing import Any, ClassVar

from segspec.algebra.symbols import Number
from segspec.ops.attributes import Axis, Lengths, Margin, Node, Pair, Pattern
from segspec.ops.base import Op, Require, Shape, axis_of, map_of, op, product
from segspec.ops.convolution import windows
from segspec.ops.patterns import parse
from segspec.ops.reach import Along, Reach, named, whole_image, window


@op("flatten")
class Flatten(Op):
    """Join all axes from ``start_dim`` on into one."""

    start_dim: Axis = 1

    reach = whole_image

    examples: ClassVar = ({}, {"start_dim": 2})

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        start = axis_of(inputs[0], self.start_dim, require)
        return (*inputs[0][:start], product(inputs[0][start:]))


@op("rearrange")
class Rearrange(Op):
    """Split, permute and join axes in einops' notation: ``n c h w -> n (h w) c`` (Rogozhnikov 2022).

    Of the names that one axis is split into, all but one need a length: from ``lengths``, or for h and w
    from the map that ``like`` names. A 1 is an axis of length 1.
    """

    pattern: Pattern
    lengths: Lengths = ()
    like: Node | None = None

    examples: ClassVar = (
        {"pattern": "n c h w -> n (h w) c"},
        {"pattern": "n c h w -> h n w c"},
        {"pattern": "n (g c) h w -> n (c g) h w", "lengths": {"g": 2}},
        {"pattern": "n c l -> n 1 l c", "shape": [2, 4, 7]},
        {"pattern": "n c (h w) -> n c h w", "like": "other", "shape": [2, 4, 12], "other": [2, 5, 3, 4]},
    )

    def validate(self) -> None:
        pattern = parse(self.pattern)
        if len(pattern.inputs) != 1:
            raise ValueError(f"the pattern '{self.pattern}' is of several tensors: rearrange has one")
        kept = {name for group in pattern.output for name in group}
        for name in pattern.names:
            if name not in kept:
                raise ValueError(f"the pattern '{self.pattern}' loses the axis '{name}': use sum, mean or amax")
        for name, _ in self.lengths:
            if name not in pattern.names:
                raise ValueError(f"the pattern '{self.pattern}' has no axis '{name}' to give a length to")
        known = self._known
        for group in pattern.inputs[0]:
            if len([name for name in group if name not in known]) > 1:
                raise ValueError(f"'({' '.join(group)})' is split into lengths that nothing gives: add lengths:")

    @property
    def _known(self) -> set[str]:
        return {name for name, _ in self.lengths} | ({"h", "w"} if self.like else set())

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        (axes,), output = parse(self.pattern).inputs, parse(self.pattern).output
        given: dict[str, Number] = dict(self.lengths)
        if self.like:
            _, _, given["h"], given["w"] = map_of(inputs, require, 1)
        message = f"'{self.pattern}' is of {len(axes)} axes, and the input has {len(inputs[0])}"
        require.equal(len(inputs[0]), len(axes), message)
        sizes: dict[str, Number] = {}
        for group, size in zip(axes, inputs[0], strict=False):
            known = product(tuple(given[name] for name in group if name in given))
            unknown = next((name for name in group if name not in given), None)
            sizes.update({name: given[name] for name in group if name in given})
            if unknown is None:
                require.equal(size, known, f"'{' '.join(group) or 1}' is {{right}} long, and the axis {{left}}")
            else:
                sizes[unknown] = size // known
                require.equal(sizes[unknown] * known, size, f"{{right}} cannot be split as '{' '.join(group)}'")
        return tuple(product(tuple(sizes.get(name, 1) for name in group)) for group in output)

    def reach(self, along: Along) -> Reach:
        pattern = parse(self.pattern)
        return named(pattern.inputs[0], pattern.output)

    def derived(self, inputs: tuple[Shape, ...]) -> dict[str, Any]:
        """The steps in which frameworks do it: split, drop ones, permute, put in ones, join.

        ``axes`` are the lengths into which each of the input's axes is split: one -1 for one that stays, none
        for a 1 that is dropped.
        """
        (axes,), output = parse(self.pattern).inputs, parse(self.pattern).output
        given, steps = dict(self.lengths), []
        # From the last axis to the first, so that what is done to one does not move the others.
        split = [[given.get(name, name if name in self._known else -1) for name in group] for group in axes]
        for index in reversed(range(len(axes))):
            if len(axes[index]) > 1:
                sizes = split[index]
                steps.append({"do": "split", "axis": index, "sizes": sizes})
            elif not axes[index]:
                steps.append({"do": "drop", "axis": index})
        before = [name for group in axes for name in group]
        after = [name for group in output for name in group]
        order = [before.index(name) for name in after]
        if order != sorted(order):
            steps.append({"do": "permute", "order": order})
        for index, group in enumerate(output):
            if len(group) > 1:
                steps.append({"do": "join", "axis": index, "last": index + len(group) - 1})
            elif not group:
                steps.append({"do": "insert", "axis": index})
        return {"steps": steps, "axes": [[-1] if len(sizes) == 1 else sizes for sizes in split]}


@op("unfold")
class Unfold(Op):
    """The windows of a zero-padded map side by side: (N, C, H, W) to (N, C · kh · kw, number of windows)."""

    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: Margin = (0, 0)
    dilation: Pair = (1, 1)

    examples: ClassVar = (
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": [2, 3], "stride": [2, 1], "padding": [0, 1], "dilation": [1, 2]},
    )

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, c, *sizes = map_of(inputs, require)
        counts = [
            windows(size, self.kernel_size[axis], self.stride[axis], 2 * self.padding[axis], self.dilation[axis])
            for axis, size in enumerate(sizes)
        ]
        for count in counts:
            require.at_least(count, 1, "the window is larger than the padded map", "use more padding or a larger input")
        return (n, c * product(self.kernel_size), product(tuple(counts)))

    def reach(self, along: Along) -> Reach:
        axis = along.axis
        return window(self.kernel_size[axis], self.stride[axis], self.padding[axis], self.dilation[axis])
