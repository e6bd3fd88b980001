"""What ``show`` prints of a network: its nodes with shapes, receptive fields, parameters and costs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from segspec.algebra.symbols import whole
from segspec.draw.table import table
from segspec.graph.fields import Fields, receptive_fields
from segspec.graph.instances import Instance, at_size, instances
from segspec.graph.model import ApplyCall, BlockCall, Graph, OpCall
from segspec.graph.sizes import size_rule
from segspec.ops.base import product
from segspec.render.text import shape_text


@dataclass(frozen=True)
class Line:
    """One node: its path, its outputs' shapes for any H and W and their receptive fields, its weights and cost."""

    path: str
    kind: str
    shapes: tuple[str, ...]
    fields: tuple[Fields, ...]
    parameters: int
    macs: int


def lines(graph: Graph, size: tuple[int, int], depth: int) -> list[Line]:
    """The nodes down to ``depth`` blocks, each with the totals of all that is inside it."""
    fields, _ = receptive_fields(graph)
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
            fields[instance.path],
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
            ", ".join(map(stride_text, line.fields)),
            ", ".join(map(field_text, line.fields)),
            f"{line.parameters:,}" if line.parameters else "",
            f"{line.macs:,}",
        ]
        for line in found
    ]
    top = [line for line in found if "." not in line.path]
    parameters, macs = sum(line.parameters for line in top), sum(line.macs for line in top)
    rows.append(["total", "", "", "", "", f"{parameters:,}", f"{macs:,}"])
    head = ["node", "is", "output", "stride", "field", "parameters", f"MACs at {size[0]}x{size[1]}"]
    found_at = [
        f"{name}: {f'output stride {stride_text(fields)}, ' if stride_text(fields) else ''}"
        f"receptive field {field_text(fields)}"
        for name, fields in receptive_fields(graph)[1].items()
    ]
    return "\n".join([table(head, rows, right="   rrrr"), f"sizes: {size_rule(graph)}", *found_at])


def as_dict(graph: Graph, size: tuple[int, int], depth: int) -> dict[str, Any]:
    """What :func:`summary` prints, for machines."""
    top = lines(graph, size, 1)
    nodes = [
        {
            "path": line.path,
            "kind": line.kind,
            "shapes": list(line.shapes),
            **_described(line.fields),
            "parameters": line.parameters,
            "macs": line.macs,
        }
        for line in lines(graph, size, depth)
    ]
    return {
        "name": graph.name,
        "size": f"{size[0]}x{size[1]}",
        "sizes": str(size_rule(graph)),
        "parameters": sum(line.parameters for line in top),
        "macs": sum(line.macs for line in top),
        "outputs": [
            {"name": name, **{key[:-1]: held for key, (held,) in _described((fields,)).items()}}
            for name, fields in receptive_fields(graph)[1].items()
        ],
        "nodes": nodes,
    }


def _described(fields: tuple[Fields, ...]) -> dict[str, list[list[float | None]]]:
    """Strides and fields as [height, width]; null is a stride that is none, and the whole image."""
    strides = [[axis.stride for axis in both] for both in fields]
    return {
        "strides": [[None if item is None else _number(item) for item in both] for both in strides],
        "fields": [[axis.size for axis in both] for both in fields],
    }


def _number(value: Fraction) -> float:
    return value.numerator if value.denominator == 1 else float(value)


def stride_text(fields: Fields) -> str:
    """How many pixels an element advances: ``8``, ``1/2``, ``8×4``; empty where the size is not the image's."""
    return _both(*("" if axis.stride is None else str(axis.stride) for axis in fields))


def field_text(fields: Fields) -> str:
    """How many pixels an element depends on: ``212``, ``5×3``, or ``all`` of them."""
    return _both(*("all" if axis.size is None else str(axis.size) for axis in fields))


def _both(height: str, width: str) -> str:
    return height if height == width else f"{height}×{width}"


def _kind(instance: Instance) -> str:
    call = instance.call
    if isinstance(call, OpCall):
        return call.op.name
    if isinstance(call, BlockCall):
        return call.module.name
    return f"apply {call.target}" if isinstance(call, ApplyCall) else f"sequence of {len(call.elements)}"
