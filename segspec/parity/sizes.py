"""Which sizes are verified where the user names none."""

from __future__ import annotations

from collections.abc import Iterator

from segspec.algebra.symbols import substitute
from segspec.graph.instances import Instance, at_size, instances
from segspec.graph.model import Graph, OpCall
from segspec.graph.sizes import size_problem
from segspec.ops.convolution import Conv2d
from segspec.render.backend import Backend, floors, size_refusal

Size = tuple[int, int]

EVEN, ODD, STRIP, LEAST = 64, 49, 41, 56
REACH = 640

LIMIT = 1e-10
"""The largest error of a node in float64; a declared floor below it makes nothing coarse."""


def default_sizes(graph: Graph, backends: list[Backend], batch: int) -> list[Size]:
    """An even size at which no op is coarse, an odd one, and a strip, each the nearest that is allowed.

    The strip is as wide as the largest dilation needs: on a smaller map a dilated kernel touches nothing
    but its centre, and a wrong dilation could not be seen. Its height and width halve differently, so that
    rows taken for columns show.
    """
    even = exact_size(graph, backends, batch)
    odd = _first(graph, backends, batch, ((size, size) for size in range(ODD, REACH) if (size, size) != even))
    width = _reaching(graph, batch)
    strips = (
        (height, width + more) for more in range(64) for height in range(STRIP, STRIP + 64) if height != width + more
    )
    found = [even, odd, _first(graph, backends, batch, strips)]
    return list(dict.fromkeys(size for size in found if size))


def exact_size(graph: Graph, backends: list[Backend], batch: int) -> Size | None:
    """The least even square from 64 on at which no op is coarse; of those nearby the one where least is."""
    squares = ((size, size) for size in range(EVEN, REACH, 2))
    return _first(graph, backends, batch, squares, exact=True)


def _first(
    graph: Graph, backends: list[Backend], batch: int, sizes: Iterator[Size], *, exact: bool = False
) -> Size | None:
    """The first size that is allowed; with ``exact``, of those nearby the one where ops are least coarse."""
    allowed: list[tuple[float, Size]] = []
    for height, width in sizes:
        if refused(graph, backends, (height, width), batch):
            continue
        if not exact:
            return height, width
        found = floors(graph, backends, height, width, batch, training=True)
        coarse = sum(item.limit for item in found if item.limit > LIMIT)
        allowed.append((coarse, (height, width)))
        if not coarse or len(allowed) >= EVEN:
            break
    return min(allowed)[1] if allowed else None


def refused(graph: Graph, backends: list[Backend], size: Size, batch: int) -> object:
    """What speaks against a size, of the network or of a backend; None if nothing does."""
    return size_problem(graph, *size, batch, training=True) or size_refusal(graph, backends, *size, batch)


def _reaching(graph: Graph, batch: int) -> int:
    """The least width at which every convolution's outer taps see the map."""
    for width in range(LEAST, REACH, 8):
        if all(map(_sees, instances(graph, at_size(graph, EVEN, width, batch)))):
            return width
    return LEAST


def _sees(instance: Instance) -> bool:
    """Whether the taps beside a kernel's centre can fall on the map."""
    if not isinstance(instance.call, OpCall) or not isinstance(instance.call.op, Conv2d):
        return True
    op = instance.call.op
    kernel, dilation = (substitute(value, instance.values) for value in (op.kernel_size[1], op.dilation[1]))
    return kernel == 1 or bool(instance.inputs()[0][3] > dilation)  # type: ignore[operator]
