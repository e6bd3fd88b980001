"""Changing a map's size: interpolation, padding, cropping."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, ClassVar

from segspec.algebra.symbols import Number, Sym
from segspec.ops.attributes import Factor, Flag, Margin, Node, Pair, Real, Sides, choice
from segspec.ops.base import Op, Require, Shape, map_of, op
from segspec.ops.reach import WHOLE, Along, Reach, interpolation, shifted


def _target(inputs: tuple[Shape, ...], require: Require) -> tuple[Number, Number]:
    """The height and width of the node that ``like`` names, which comes as the second input."""
    _, _, h, w = map_of(inputs, require, 1)
    return h, w


@op("resize")
class Resize(Op):
    """Interpolate to the size of another node (``like``), by a ``scale``, or to a ``size``.

    Pixel centres are at half-integers unless ``align_corners``, which puts the corners on the corners
    (``align_corners`` must be said for bilinear and bicubic). Bicubic uses a = −0.75. A scaled size is
    rounded down, and the ratio is always that of the sizes, as with ``torch``'s
    ``recompute_scale_factor=True``.
    """

    mode: Annotated[str, choice("nearest", "bilinear", "bicubic")]
    like: Node | None = None
    scale: Factor | None = None
    size: Pair | None = None
    align_corners: Flag | None = None

    examples: ClassVar = (
        {"mode": "nearest", "scale": 2},
        {"mode": "nearest", "size": [5, 20]},
        {"mode": "bilinear", "scale": 2, "align_corners": False},
        {"mode": "bilinear", "scale": 0.5, "align_corners": False, "shape": [2, 4, 8, 12]},
        {"mode": "bilinear", "size": [17, 23], "align_corners": True, "shape": [2, 4, 9, 12]},
        {"mode": "bilinear", "size": [17, 45], "align_corners": False},
        {"mode": "bicubic", "scale": 2, "align_corners": False},
        {"mode": "bilinear", "like": "other", "align_corners": False, "other": [2, 3, 18, 24]},
    )

    def validate(self) -> None:
        given = [name for name in ("like", "scale", "size") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"say exactly one of like, scale and size; found {found}")
        if self.mode == "nearest" and self.align_corners is not None:
            raise ValueError("nearest has no align_corners: leave it out")
        if self.mode != "nearest" and self.align_corners is None:
            raise ValueError(f"{self.mode} needs align_corners: true or false")

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, c, h, w = map_of(inputs, require)
        if self.size is not None:
            return (n, c, *self.size)
        if self.scale is None:
            return (n, c, *_target(inputs, require))
        sizes = [_scaled(size, factor) for size, factor in zip((h, w), self.scale, strict=True)]
        for size in sizes:
            require.at_least(size, 1, "the scale leaves nothing of the map", "use a larger input")
        return (n, c, *sizes)

    def reach(self, along: Along) -> Reach:
        if self.scale is not None:
            step = 1 / _ratio(self.scale[along.axis])
        else:
            # A size of its own, or like that of a node of its own size, puts any pixel anywhere.
            own, other = (along.strides[0], along.strides[-1])
            if self.size is not None or own is None or other is None:
                return WHOLE
            step = other / own
        return interpolation(step, self.mode, aligned=self.align_corners is True)


def _ratio(factor: Number) -> Fraction:
    return Fraction(factor).limit_denominator(10_000)  # type: ignore[arg-type]


def _scaled(size: Number, factor: Number) -> Number:
    if isinstance(factor, Sym):
        return (size * factor) // 1
    ratio = _ratio(factor)
    return (size * ratio.numerator) // ratio.denominator


@op("pad")
class Pad(Op):
    """Add rows and columns at the sides: zeros or another ``value``, mirrored, or the edge repeated."""

    sides: Sides
    mode: Annotated[str, choice("constant", "reflect", "replicate")] = "constant"
    value: Real = 0.0

    examples: ClassVar = (
        {"sides": 1},
        {"sides": [0, 1, 2, 3], "value": 1.5},
        {"sides": [2, 1], "mode": "reflect"},
        {"sides": [1, 2, 0, 3], "mode": "replicate"},
    )

    def validate(self) -> None:
        if self.mode != "constant" and self.value != 0:
            raise ValueError(f"{self.mode} padding takes no value")

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, c, h, w = map_of(inputs, require)
        top, bottom, left, right = self.sides
        if self.mode == "reflect":
            for side, size in ((top, h), (bottom, h), (left, w), (right, w)):
                require.at_least(
                    size - side,
                    1,
                    "mirroring needs a map larger than the padding",
                    "use a larger input",
                )
        return (n, c, h + top + bottom, w + left + right)

    def reach(self, along: Along) -> Reach:
        return shifted(self.sides[2 * along.axis])


@op("pad_to")
class PadTo(Op):
    """Bring a map to another's size, each axis by its own difference d.

    d // 2, floored, goes before and the rest after; zeros are added where the map is smaller, and it is
    cropped where it is larger.
    """

    like: Node

    examples: ClassVar = (
        {"like": "other", "other": [2, 3, 12, 15]},
        {"like": "other", "other": [2, 3, 8, 9]},
        {"like": "other", "other": [2, 3, 10, 11]},
    )

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, c, _, _ = map_of(inputs, require)
        return (n, c, *_target(inputs, require))

    def reach(self, along: Along) -> Reach:
        return shifted((along.sizes[-1] - along.sizes[0]) // 2)


@op("crop")
class Crop(Op):
    """Keep part of a map: cut its ``sides``, or keep the size of another node (``like``) or a ``size``.

    With a size, the part starts at ``offset`` = [top, left], or lies in the centre, the odd row or column
    cut at the end.
    """

    sides: Sides | None = None
    like: Node | None = None
    size: Pair | None = None
    offset: Margin | None = None

    examples: ClassVar = (
        {"sides": [1, 2, 0, 3]},
        {"size": [4, 5]},
        {"size": [4, 5], "offset": [5, 2]},
        {"like": "other", "other": [2, 3, 6, 6]},
        {"like": "other", "offset": [1, 0], "other": [2, 3, 6, 6]},
    )

    def validate(self) -> None:
        given = [name for name in ("sides", "like", "size") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"say exactly one of sides, like and size; found {found}")
        if self.sides is not None and self.offset is not None:
            raise ValueError("sides already say where the part starts: leave offset out")

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        n, c, h, w = map_of(inputs, require)
        if self.sides is not None:
            top, bottom, left, right = self.sides
            kept: tuple[Number, Number] = (h - top - bottom, w - left - right)
        else:
            kept = self.size if self.size is not None else _target(inputs, require)
        start = self.offset or (0, 0)
        for size, part, first in zip((h, w), kept, start, strict=True):
            require.at_least(part, 1, "the crop leaves nothing of the map", "use a larger input")
            require.at_least(size - part - first, 0, "the crop is larger than the map", "use a larger input")
        return (n, c, *kept)

    def reach(self, along: Along) -> Reach:
        axis = along.axis
        if self.sides is not None:
            return shifted(-self.sides[2 * axis])
        if self.offset is not None:
            return shifted(-self.offset[axis])
        kept = along.sizes[-1] if self.size is None else self.size[axis]
        return shifted(-((along.sizes[0] - kept) // 2))
