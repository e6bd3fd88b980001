"""What ``show`` prints of a network: its nodes with shapes, parameters and multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass

from segspec.algebra.symbols import whole
from segspec.draw.table import table
from segspec.graph.instances import Instance, at_size, instances
from segspec.graph.model import ApplyCall, BlockCall, Graph, OpCall
from segspec.graph.sizes import size_rule
from segspec.ops.base import product
from segspec.render.text import shape_text


@dataclass(frozen=True)
class Line:
    """One node: its path, its outputs' shapes for any H and W, what it holds and what it costs at one size."""

    path: str
    kind: str
    shapes: tuple[str, ...]
    parameters: int
    macs: int


def lines(graph: Graph, size: tuple[int, int], depth: int) -> list[Line]:
    """The nodes down to ``depth`` blocks, each with the totals of all that is inside it."""
    symbolic = list(instances(graph))
    measured = list(instances(graph, at_size(graph, *size)))
    totals: dict[str, list[int]] = {}
    for instance in measured:
        held = sum(whole(product(slot.shape)) for slot in instance.slots() if slot.trainable)
        cost = whole(instance.macs())
        parts = instance.path.split(".")
        for end in range(1, len(parts) + 1):
            total = totals.setdefault(".".join(parts[:end]), [0, 0])
            total[0] += held
            total[1] += cost
    rule = size_rule(graph)
    even = rule.height.period if rule.height == rule.width and rule.height.residues == (0,) else 1
    return [
        Line(
            instance.path,
            _kind(instance),
            tuple(shape_text(shape, even) for shape in instance.shapes()),
            *totals[instance.path],
        )
        for instance in symbolic
        if instance.path.count(".") < depth
    ]


def summary(graph: Graph, size: tuple[int, int], depth: int) -> str:
    """The table of a network and its totals."""
    found = lines(graph, size, depth)
    rows = [
        [
            line.path,
            line.kind,
            ", ".join(line.shapes),
            f"{line.parameters:,}" if line.parameters else "",
            f"{line.macs:,}",
        ]
        for line in found
    ]
    top = [line for line in found if "." not in line.path]
    parameters, macs = sum(line.parameters for line in top), sum(line.macs for line in top)
    rows.append(["total", "", "", f"{parameters:,}", f"{macs:,}"])
    head = ["node", "is", "output", "parameters", f"MACs at {size[0]}x{size[1]}"]
    return f"{table(head, rows, right='   rr')}\nsizes: {size_rule(graph)}"


def _kind(instance: Instance) -> str:
    call = instance.call
    if isinstance(call, OpCall):
        return call.op.name
    if isinstance(call, BlockCall):
        return call.module.name
    return f"apply {call.target}" if isinstance(call, ApplyCall) else f"sequence of {len(call.elements)}"
