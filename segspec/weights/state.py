"""The state of a network: every parameter and statistic by its canonical name, and its key in a backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segspec.algebra.symbols import whole
from segspec.graph.instances import instances
from segspec.graph.model import Graph, OpCall
from segspec.render.backend import Backend


@dataclass(frozen=True)
class Entry:
    """One tensor: ``name`` is its node's path and its slot, ``shape`` its canonical (PyTorch's) layout."""

    name: str
    slot: str
    op: str
    shape: tuple[int, ...]
    trainable: bool


def entries(graph: Graph) -> list[Entry]:
    """Every tensor of the network's state, in the order of execution."""
    found = []
    for instance in instances(graph):
        if isinstance(instance.call, OpCall):
            for slot in instance.slots():
                shape = tuple(map(whole, slot.shape))
                if all(shape):  # a bias that a flag leaves out has no elements
                    name = f"{instance.path}.{slot.name}"
                    found.append(Entry(name, slot.name, instance.call.op.name, shape, slot.trainable))
    return found


def placement(graph: Graph, backend: Backend) -> list[dict[str, Any]]:
    """Where each tensor goes in a backend's state dict, and whether its two axes change places."""
    placed = []
    for entry in entries(graph):
        facts = backend.facts(entry.op)
        key = entry.name.removesuffix(entry.slot) + facts.state.get(entry.slot, entry.slot)
        transposed = entry.slot in facts.transposed
        placed.append({"name": entry.name, "key": key, "transposed": transposed, "trainable": entry.trainable})
    return placed
