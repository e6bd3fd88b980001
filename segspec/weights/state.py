"""The state of a network: every parameter and statistic by its canonical name, and its key in a backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from segspec.algebra.symbols import whole
from segspec.graph.instances import instances
from segspec.graph.model import Call, Graph, Module, OpCall, SequenceCall
from segspec.graph.starts import starts
from segspec.ops.initializers import Initializer, fans
from segspec.ops.laws import Law
from segspec.render.backend import Backend


@dataclass(frozen=True)
class Entry:
    """One tensor: ``name`` is its node's path and its slot, ``shape`` its canonical (PyTorch's) layout.

    ``normalised`` marks a weight whose results go to batch normalisation alone, and that normalisation's
    own tensors: there, the scale of the weight has no effect on what follows. A ``statistic`` is what training
    updates without a gradient. ``init`` is its declared start, and ``law`` what each element is then drawn from;
    None where each has a value of its own.
    """

    name: str
    slot: str
    op: str
    shape: tuple[int, ...]
    trainable: bool
    normalised: bool
    statistic: bool
    init: Initializer
    law: Law | None


@lru_cache(maxsize=64)
def entries(graph: Graph) -> tuple[Entry, ...]:
    """Every tensor of the network's state, in the order of execution."""
    found = []
    normalised = {place for module in graph.modules for place in _normalised(module)}
    for instance in instances(graph):
        if isinstance(instance.call, OpCall):
            declared = starts(graph, instance.call)
            shapes = {slot.name: tuple(map(whole, slot.shape)) for slot in instance.slots()}
            for slot in instance.slots():
                shape = shapes[slot.name]
                if all(shape):  # a bias that a flag leaves out has no elements
                    name = instance.path if slot.itself else f"{instance.path}.{slot.name}"
                    scaled = (id(instance.node), instance.inside) in normalised
                    statistic = not slot.trainable and not slot.itself
                    init = declared[slot.name]
                    law = init.law(*fans(shapes.get("weight", shape)))
                    op = instance.call.op.name
                    found.append(Entry(name, slot.name, op, shape, slot.trainable, scaled, statistic, init, law))
    return tuple(found)


def _normalised(module: Module) -> Iterator[tuple[int, str]]:
    """The places of weights that only batch normalisation follows, and of these normalisations."""
    returned = {output.tensor.node for output in module.outputs}
    for node in module.nodes:
        if isinstance(node.call, SequenceCall):
            for index, (call, following) in enumerate(pairwise(node.call.elements)):
                if _weighs(call) and _normalises(following):
                    yield from ((id(node), str(index)), (id(node), str(index + 1)))
        elif _weighs(node.call) and node.name not in returned:
            readers = [other for other in module.nodes if any(source.node == node.name for source in other.sources)]
            if readers and all(_normalises(reader.call) for reader in readers):
                yield from ((id(held), "") for held in (node, *readers))


def _weighs(call: Call) -> bool:
    return isinstance(call, OpCall) and any(len(slot.shape) > 1 for slot in call.op.slots(call.inputs))


def _normalises(call: Call) -> bool:
    return isinstance(call, OpCall) and any(slot.name == "running_var" for slot in call.op.slots(call.inputs))


def placement(graph: Graph, backend: Backend) -> list[dict[str, Any]]:
    """Where each tensor goes in a backend's state dict, and whether its two axes change places."""
    placed = []
    for entry in entries(graph):
        facts = backend.facts(entry.op)
        name = facts.state.get(entry.slot)
        key = entry.name.removesuffix(entry.slot) + name if name else entry.name
        transposed = entry.slot in facts.transposed
        placed.append({"name": entry.name, "key": key, "transposed": transposed, "trainable": entry.trainable})
    return placed
