"""How an op moves the receptive field: along one axis, which elements of its input an output element reads.

Image borders do not count: a map is taken to go on beyond its ends. An op says ``reach = pointwise``,
``reach = whole_image``, or returns one of the functions below from a method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from segspec.algebra.symbols import Number, whole


@dataclass(frozen=True)
class Reach:
    """Element j of the output reads ``reads(j)``, ascending; ``reads`` is None where it reads all there is.

    ``step`` is how many input elements one output element advances: ``reads`` repeats itself after
    ``step.denominator`` elements, ``step.numerator`` further on.
    """

    step: Fraction
    reads: Callable[[int], range] | None


@dataclass(frozen=True)
class Along:
    """One axis of a map, 0 for height and 1 for width, with every input's size on it and stride relative to the image.

    It is asked of one ``input`` after another. A stride is None where an input's size has nothing to do with
    the image's. Of a tensor of more than four axes the last two are height and width; one of three has both
    in its last.
    """

    axis: int
    input: int
    ranks: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[Fraction | None, ...]


POINTWISE = Reach(Fraction(1), lambda j: range(j, j + 1))
WHOLE = Reach(Fraction(1), None)
NOTHING = Reach(Fraction(1), lambda j: range(0))


def pointwise(op: Any, along: Along) -> Reach:
    """An element of the output reads the elements at its own place."""
    return POINTWISE


def whole_image(op: Any, along: Along) -> Reach:
    """An element of the output reads every element of its inputs."""
    return WHOLE


def nothing(op: Any, along: Along) -> Reach:
    """The output does not depend on any input's values."""
    return NOTHING


def over(along: Along, dims: Iterable[int]) -> Reach:
    """An op along axes of its input: of the whole image if height or width is among them."""
    rank = along.ranks[along.input]
    first = rank - (1 if rank == 3 else 2)
    return WHOLE if any(dim % rank >= max(first, 2) for dim in dims) else POINTWISE


def named(before: Sequence[Sequence[str]], after: Sequence[Sequence[str]]) -> Reach:
    """An op on named axes: of each pixel by itself if height and width stay what and where they are."""
    return POINTWISE if _map_axes(before) == _map_axes(after) else WHOLE


def _map_axes(axes: Sequence[Sequence[str]]) -> tuple[str, ...]:
    held = axes[-2:] if len(axes) > 3 else axes[-1:] if len(axes) == 3 else []
    return tuple(name for group in held for name in group)


def shifted(before: Number) -> Reach:
    """An element of the output reads the one ``before`` elements earlier: what padding and cropping do."""
    return window(1, 1, before)


def window(kernel: Number, stride: Number = 1, before: Number = 0, dilation: Number = 1) -> Reach:
    """Windows of a map that is padded by ``before`` elements: convolution, pooling."""
    kernel, stride, before, dilation = whole(kernel), whole(stride), whole(before), whole(dilation)

    def reads(j: int) -> range:
        first = j * stride - before
        return range(first, first + dilation * (kernel - 1) + 1, dilation)

    return Reach(Fraction(stride), reads)


def spread(kernel: Number, stride: Number = 1, before: Number = 0, dilation: Number = 1) -> Reach:
    """Each input element reaches a window of the output: transposed convolution, which cuts ``before`` elements."""
    kernel, stride, before, dilation = whole(kernel), whole(stride), whole(before), whole(dilation)
    # Input i goes to i·stride + t·dilation − before; the i that reach j are those of one residue.
    step = dilation // math.gcd(stride, dilation)

    def reads(j: int) -> range:
        last = j + before
        taps = [t for t in range(min(kernel, stride)) if (last - t * dilation) % stride == 0]
        if not taps:
            return range(0)
        largest = (last - taps[0] * dilation) // stride
        count = (kernel - 1 - taps[0]) // (stride // math.gcd(stride, dilation)) + 1
        return range(largest - step * (count - 1), largest + 1, step)

    return Reach(Fraction(1, stride), reads)


def interpolation(step: Fraction, mode: str, *, aligned: bool = False) -> Reach:
    """Resizing, ``step`` input elements for one of the output.

    With ``aligned`` corners the distance of input elements is not quite that, so none is ever met exactly: this
    is where they lie before the middle of the map, and they are less than an element off elsewhere.
    """
    around = {"bilinear": 1, "bicubic": 2}

    def reads(j: int) -> range:
        if mode == "nearest":
            place = math.floor(j * step)
            return range(place, place + 1)
        centre = (j + Fraction(1, 2)) * step - Fraction(1, 2)
        place = math.floor(centre)
        if centre == place and not aligned:  # the neighbours' weights are zero
            return range(place, place + 1)
        return range(place + 1 - around[mode], place + 1 + around[mode])

    return Reach(step, reads)
