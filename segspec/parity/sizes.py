"""Which sizes are verified where the user names none."""

from __future__ import annotations

from collections.abc import Iterator

from segspec.algebra.symbols import substitute, whole
from segspec.graph.instances import Instance, at_size, instances
from segspec.graph.model import Graph, OpCall
from segspec.graph.sizes import size_problem
from segspec.ops.base import product
from segspec.ops.convolution import Conv2d
from segspec.render.backend import Backend, floors, size_refusal

Size = tuple[int, int]

SIDES = {1: (64, 49, (43, 58)), 2: (32, 25, (23, 30)), 4: (16, 13, (11, 14))}
"""An even side, an odd one, and the least strip; the first are taken unless they are heavy, then those divided."""
EXACT = (64, 96, 128, 192, 256)
STEPS = (64, 96, 128)
REACH = 640

HEAVY = 2**24
"""Elements of one tensor, beyond which smaller maps are taken: where every pixel hears every other, 64×64 are many."""

LIMIT = 1e-10
"""The largest error of a node in float64; a declared floor below it makes nothing coarse."""


def default_sizes(graph: Graph, backends: list[Backend], batch: int) -> Iterator[Size]:
    """A size at which no op is coarse, an odd one, and a strip, each the nearest that is allowed.

    The strip is as wide as the largest dilation needs: on a smaller map a dilated kernel touches nothing
    but its centre, and a wrong dilation could not be seen. Its height and width halve differently, so that
    rows taken for columns show; and half of each is odd, so that it shows which half of a padding is the larger.
    """
    if exact := exact_size(graph, backends, batch):
        yield exact
    _, odd, (least, narrowest) = SIDES[_divisor(graph, backends, batch)]
    odds = ((side, side) for side in range(odd, REACH) if (side, side) != exact)
    if other := _first(graph, backends, batch, odds):
        yield other
    width = _reaching(graph, batch, least, narrowest)
    strips = (
        (height, width + more) for more in range(64) for height in range(least, least + 64) if height != width + more
    )
    strip = _first(graph, backends, batch, strips)
    if strip and strip not in (exact, other):
        yield strip


def exact_size(graph: Graph, backends: list[Backend], batch: int) -> Size | None:
    """A square at which no op is coarse, or of some the one where least is; None if none is allowed.

    Tried are sides of which resizes have exact ratios, with aligned corners (one more than even) or without, and then
    a few one after another.
    """
    by = _divisor(graph, backends, batch)
    even, *_ = SIDES[by]
    sides = [side // by + more for side in EXACT for more in (0, 1)]
    sides += [side for side in range(even, even + 16) if side not in sides]
    allowed: list[tuple[bool, float, Size]] = []
    for side in sides:
        if not refused(graph, backends, (side, side), batch):
            found = floors(graph, backends, side, side, batch, training=True)
            coarse = sum(item.limit for item in found if item.limit > LIMIT)
            heavy = _heavy(graph, (side, side), batch)
            allowed.append((heavy, coarse, (side, side)))
            if not (heavy or coarse):
                break
    if allowed:
        return min(allowed)[2]
    return _first(graph, backends, batch, ((side, side) for side in range(even, REACH)))


def training_size(graph: Graph, backends: list[Backend], batch: int) -> Size | None:
    """A square for the steps of optimisers: that with least of what is coarse, which they amplify however little."""
    by = _divisor(graph, backends, batch)
    allowed: list[tuple[bool, float, Size]] = []
    for size in ((side // by + more, side // by + more) for side in STEPS for more in (0, 1)):
        if not refused(graph, backends, size, batch):
            found = floors(graph, backends, *size, batch, training=True, gradients=True)
            allowed.append((_heavy(graph, size, batch), sum(item.limit for item in found), size))
    return min(allowed)[2] if allowed else exact_size(graph, backends, batch)


def _divisor(graph: Graph, backends: list[Backend], batch: int) -> int:
    """By what sides are divided, so that no tensor is heavy; 1 where smaller maps are not allowed."""
    for by, (even, *_) in SIDES.items():
        if refused(graph, backends, (even, even), batch):
            return 1
        if not _heavy(graph, (even, even), batch):
            return by
    return max(SIDES)


def _heavy(graph: Graph, size: Size, batch: int) -> bool:
    """Whether a tensor has so many elements that a pass with its gradients would take gigabytes."""
    found = {instance.alike: instance for instance in instances(graph, at_size(graph, *size, batch))}
    return any(whole(product(shape)) > HEAVY for instance in found.values() for shape in instance.shapes())


def _first(graph: Graph, backends: list[Backend], batch: int, sizes: Iterator[Size]) -> Size | None:
    """The first size that is allowed."""
    return next((size for size in sizes if not refused(graph, backends, size, batch)), None)


def refused(graph: Graph, backends: list[Backend], size: Size, batch: int) -> object:
    """What speaks against a size, of the network or of a backend; None if nothing does."""
    return size_problem(graph, *size, batch, training=True) or size_refusal(graph, backends, *size, batch)


def _reaching(graph: Graph, batch: int, height: int, least: int) -> int:
    """The least width at which every convolution's outer taps see the map, if no tensor is heavy there."""
    for width in range(least, REACH, 8):
        if _heavy(graph, (height, width), batch):
            break
        if all(map(_sees, instances(graph, at_size(graph, height, width, batch)))):
            return width
    return least


def _sees(instance: Instance) -> bool:
    """Whether the taps beside a kernel's centre can fall on the map."""
    if not isinstance(instance.call, OpCall) or not isinstance(instance.call.op, Conv2d):
        return True
    op = instance.call.op
    kernel, dilation = (substitute(value, instance.values) for value in (op.kernel_size[1], op.dilation[1]))
    return kernel == 1 or bool(instance.inputs()[0][3] > dilation)  # type: ignore[operator]
