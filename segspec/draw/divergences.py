"""What ``show --divergences`` prints: the statistics that a framework's training updates otherwise, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from segspec.draw.relation import relation_text
from segspec.draw.table import table
from segspec.graph.model import Graph, H, OpCall, W
from segspec.render.backend import Backend, diverging
from segspec.render.text import size_text

LEGEND = (
    "value: what the canonical rule gives; before: what was there before the step; "
    "n: averaged elements a channel; float32(x): x rounded to float32."
)
"""What the names in a relation mean."""


@dataclass(frozen=True)
class Line:
    """One relation: in which backend, of which ops' statistic, at which nodes (none of which if it is of all)."""

    backend: str
    ops: tuple[str, ...]
    statistic: str
    becomes: str
    reason: str
    exact_layers: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    n: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The line as plain data, for ``--json``."""
        return {name: list(held) if isinstance(held, tuple) else held for name, held in vars(self).items()}


def declared(backends: list[Backend]) -> list[Line]:
    """Every divergence that the backends declare, whatever the network."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for held in backends:
        for op, facts in held.ops.items():
            for slot, rule in facts.divergences.items():
                key = held.title, slot, relation_text(rule.relation.raw, {}), rule.reason
                found.setdefault(key, []).append(op)
    layers = {held.title: held.exact_layers for held in backends}
    return [
        Line(title, tuple(ops), slot, becomes, reason, _layers(layers[title], ops))
        for (title, slot, becomes, reason), ops in found.items()
    ]


def of_network(graph: Graph, backends: list[Backend], size: tuple[int, int] | None = None) -> list[Line]:
    """The divergences of a network's nodes, those together that have one relation; ``size`` is the image's if known."""
    lines = []
    values = {**graph.defaults(), **(dict(zip((H, W), size, strict=True)) if size else {})}
    for held in backends:
        found: dict[tuple[str, str, str, str, str], list[str]] = {}
        for item in diverging(graph, held, values):
            assert isinstance(item.instance.call, OpCall)
            becomes = relation_text(item.rule.relation.raw, item.attributes)
            n, _, *axes = item.instance.inputs()[0]
            count = "·".join(map(_factor, (n, *axes))) if "count" in item.rule.relation.names else ""
            key = item.instance.call.op.name, item.slot, becomes, item.rule.reason, count
            found.setdefault(key, []).append(item.instance.path)
        lines += [
            Line(held.title, (op,), slot, becomes, reason, _layers(held.exact_layers, [op]), tuple(paths), count)
            for (op, slot, becomes, reason, count), paths in found.items()
        ]
    return lines


def as_text(lines: list[Line], name: str = "") -> str:
    """The lines as a table with the reasons below it; ``name`` is the network's."""
    if not lines:
        return f"{name or 'nothing declared'}: in every backend, training updates all statistics by the canonical rule"
    reasons = list(dict.fromkeys(line.reason for line in lines))
    rows = [
        [
            line.backend,
            ", ".join(line.ops),
            *([_nodes(line.nodes), line.n] if name else []),
            line.statistic,
            f"{line.becomes}  [{reasons.index(line.reason) + 1}]",
        ]
        for line in lines
    ]
    head = ["backend", "op", *(["nodes", "n"] if name else []), "statistic", "becomes"]
    notes = [f"[{index}] {reason}" for index, reason in enumerate(reasons, 1)]
    return "\n".join([table(head, rows), *notes, LEGEND, *_remedies(lines)])


def as_markdown(lines: list[Line]) -> str:
    """The lines as the docs have them."""
    parts = []
    for line in lines:
        ops = " and ".join(f"`{op}`" for op in line.ops)
        parts.append(f"{line.backend}, `{line.statistic}` of {ops}: {line.reason}.")
        parts.append(f"```\n{line.becomes}\n```")
    return "\n\n".join([*parts, LEGEND, *_remedies(lines)])


def _remedies(lines: list[Line]) -> Iterator[str]:
    for title in dict.fromkeys(line.backend for line in lines):
        layers = dict.fromkeys(layer for line in lines if line.backend == title for layer in line.exact_layers)
        if layers:
            yield f"With --exact-running-stats, what is generated for {title} does not diverge: {', '.join(layers)}."


def _layers(exact: Mapping[str, str], ops: list[str]) -> tuple[str, ...]:
    return tuple(exact[op] for op in ops if op in exact)


def _nodes(paths: tuple[str, ...]) -> str:
    return paths[0] + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def _factor(size: Any) -> str:
    text = size_text(size)
    return f"({text})" if " " in text else text
