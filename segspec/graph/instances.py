"""A graph's instances: every node by its path, with the values that its class's symbols have there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from segspec.algebra.symbols import Number, Symbol, substitute
from segspec.graph.elaborate import N
from segspec.graph.model import (
    ApplyCall,
    BlockCall,
    Call,
    Graph,
    Module,
    Node,
    OpCall,
    SequenceCall,
)
from segspec.ops import Shape, Slot
from segspec.ops.base import product

H, W = Symbol("H", size=True), Symbol("W", size=True)
Values = Mapping[Symbol, Number]


@dataclass(frozen=True)
class Instance:
    """One node (or element of a sequence) of the unrolled network.

    ``values`` gives the symbols of the class it stands in; ``shared`` marks a module that another node
    owns; ``training`` one that only train mode runs.
    """

    path: str
    call: Call
    values: Values
    node: Node
    shared: bool = False
    training: bool = False

    def shapes(self) -> tuple[Shape, ...]:
        """The outputs' shapes."""
        return tuple(resolve(shape, self.values) for shape in self.call.outputs)

    def inputs(self) -> tuple[Shape, ...]:
        """The inputs' shapes, of an op."""
        assert isinstance(self.call, OpCall)
        return tuple(resolve(shape, self.values) for shape in self.call.inputs)

    def slots(self) -> tuple[Slot, ...]:
        """The parameters and statistics that this instance itself owns, with their shapes."""
        if not isinstance(self.call, OpCall) or self.shared:
            return ()
        slots = self.call.op.slots(self.call.inputs)
        own = dict(self.call.init)
        return tuple(
            Slot(
                slot.name,
                resolve(slot.shape, self.values),
                own.get(slot.name, slot.init),
                slot.trainable,
            )
            for slot in slots
        )

    def macs(self) -> Number:
        """The multiply-accumulates of this op."""
        if not isinstance(self.call, OpCall):
            return 0
        return substitute(self.call.op.macs(self.call.inputs, self.call.outputs[0]), self.values)


def resolve(shape: Shape, values: Values) -> Shape:
    """The shape with symbols replaced; sizes of absent parameters (0) drop out with their slot."""
    return tuple(substitute(size, values) for size in shape)


def at_size(graph: Graph, height: int, width: int, batch: int = 1) -> dict[Symbol, Number]:
    """The values of the root's symbols at one input size."""
    return {**graph.defaults(), N: batch, H: height, W: width}


def instances(graph: Graph, values: Values | None = None) -> Iterator[Instance]:
    """Every instance in the order of execution, each block before its contents.

    ``values`` are those of the root's symbols; by default its parameters', the sizes left symbolic.
    """
    yield from _walk(graph.root, "", graph.defaults() if values is None else values, False, False)


def _walk(module: Module, prefix: str, values: Values, shared: bool, training: bool) -> Iterator[Instance]:
    for node in module.nodes:
        yield from _visit(node.call, prefix + node.name, values, node, shared, training or node.training)


def _visit(call: Call, path: str, values: Values, node: Node, shared: bool, training: bool) -> Iterator[Instance]:
    if isinstance(call, ApplyCall):
        yield Instance(path, call, values, node, True, training)
        inner = call.call
        if isinstance(inner, BlockCall | SequenceCall):
            yield from list(_visit(inner, path, values, node, True, training))[1:]
        return
    yield Instance(path, call, values, node, shared, training)
    if isinstance(call, SequenceCall):
        for index, element in enumerate(call.elements):
            yield from _visit(element, f"{path}.{index}", values, node, shared, training)
    elif isinstance(call, BlockCall):
        inside = {symbol: substitute(value, values) for symbol, value in call.values.items()}
        yield from _walk(call.module, f"{path}.", inside, shared, training)


def parameters(graph: Graph) -> int:
    """The number of trainable elements."""
    total: Number = 0
    for instance in instances(graph):
        total = total + sum(product(slot.shape) for slot in instance.slots() if slot.trainable)
    assert isinstance(total, int)
    return total
