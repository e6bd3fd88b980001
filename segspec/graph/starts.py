"""How each tensor of a network starts: as its node says, else as the spec says for its op, else as the op does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from segspec.errors import Problem
from segspec.graph.instances import instances
from segspec.graph.model import Graph, OpCall
from segspec.ops import OPS
from segspec.ops.initializers import Initializer
from segspec.spec.models import Spec


def rules(graph: Graph) -> Mapping[str, Mapping[str, Initializer]]:
    """What the spec's ``init`` says, by op and slot."""
    block = graph.definition.block
    return block.init if isinstance(block, Spec) else {}


def starts(graph: Graph, call: OpCall) -> dict[str, Initializer]:
    """The initialiser of each of an op's slots."""
    return {**starts_of_op(graph, call), **dict(call.init)}


def starts_of_op(graph: Graph, call: OpCall) -> dict[str, Initializer]:
    """The initialiser of each of an op's slots where its node says nothing."""
    said = rules(graph).get(call.op.name, {})
    return {slot.name: said.get(slot.name, slot.init) for slot in call.op.slots(call.inputs)}


def objections(graph: Graph) -> Iterator[Problem]:
    """The nodes that are tensors which the spec's ``init`` cannot fill: how many axes they have is their own."""
    said = {op: slots for op, slots in rules(graph).items() if op in OPS and OPS[op].is_tensor}
    if not said:
        return
    for instance in instances(graph):
        if isinstance(instance.call, OpCall) and instance.call.op.name in said and not instance.shared:
            op, own = instance.call.op.name, dict(instance.call.init)
            for slot in instance.slots():
                init, axes = said[op].get(slot.name), len(slot.shape)
                if init and slot.name not in own and (objection := init.objection(axes, axes)):
                    place = graph.definition.place("init", op, slot.name)
                    yield Problem("attribute", objection, place, instance.path, "give the node an init of its own")
