"""A graph's instances: every node by its path, with the values that its class's symbols have there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from segspec.algebra.symbols import Frozen, Number, Sym, Symbol, frozen, substitute, symbols_of, thawed
from segspec.errors import Problem
from segspec.graph.model import (
    ApplyCall,
    BlockCall,
    Call,
    Graph,
    H,
    Module,
    N,
    Node,
    OpCall,
    SequenceCall,
    W,
    elements_of,
)
from segspec.ops import Op, Shape, Slot
from segspec.ops.attributes import kind_of
from segspec.ops.base import product

Values = Mapping[Symbol, Number]


@dataclass(slots=True, eq=False)  # not frozen, which takes three times as long: there are tens of thousands
class Instance:
    """One node (or element of a sequence) of the unrolled network.

    ``values`` gives the symbols of the class it stands in, one and the same mapping wherever they are the same;
    ``owner`` is the path under which its state stands, another's where the module is applied again; ``inside`` is its
    place in its node's sequence; ``training`` marks one that only train mode runs. ``known`` are shapes that were
    worked out already, for all instances of the network.
    """

    path: str
    owner: str
    call: Call
    values: Values
    node: Node
    inside: str = ""
    training: bool = False
    known: dict[object, tuple[Shape, ...]] = field(default_factory=dict, repr=False)

    @property
    def shared(self) -> bool:
        """Whether another node owns the module."""
        return self.owner != self.path

    @property
    def alike(self) -> tuple[int, int]:
        """What instances have in common that are the same call at the same values; networks repeat a few of them."""
        return id(self.call), id(self.values)

    def shapes(self) -> tuple[Shape, ...]:
        """The outputs' shapes."""
        return self._resolved("out", self.call.outputs)

    def inputs(self) -> tuple[Shape, ...]:
        """The inputs' shapes, of an op."""
        assert isinstance(self.call, OpCall)
        return self._resolved("in", self.call.inputs)

    def _resolved(self, side: str, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        key = side, id(self.call), id(self.values)
        if key not in self.known:
            self.known[key] = tuple([resolve(shape, self.values) for shape in shapes])
        return self.known[key]

    def slots(self) -> tuple[Slot, ...]:
        """The parameters and statistics that this instance itself owns, with their shapes."""
        if not isinstance(self.call, OpCall) or self.shared:
            return ()
        slots = self.call.op.slots(self.call.inputs)
        return tuple(replace(slot, shape=resolve(slot.shape, self.values)) for slot in slots)

    def macs(self) -> Number:
        """The multiply-accumulates of this op."""
        if not isinstance(self.call, OpCall):
            return 0
        return substitute(self.call.op.macs(self.call.inputs, self.call.outputs[0]), self.values)


def resolve(shape: Shape, values: Values) -> Shape:
    """The shape with symbols replaced; sizes of absent parameters (0) drop out with their slot."""
    return tuple([substitute(size, values) if isinstance(size, Sym) else size for size in shape])


def at_size(graph: Graph, height: int, width: int, batch: int = 1) -> dict[Symbol, Number]:
    """The values of the root's symbols at one input size."""
    return {**graph.defaults(), N: batch, H: height, W: width}


def instances(graph: Graph, values: Values | None = None) -> Iterator[Instance]:
    """Every instance in the order of execution, each block before its contents.

    ``values`` are those of the root's symbols; by default its parameters', the sizes left symbolic.
    """
    return iter(_unrolled(graph) if values is None else _unrolled_at(graph, frozen(values)))


@lru_cache(maxsize=64)
def _unrolled(graph: Graph) -> list[Instance]:
    return _Unroller(graph, graph.defaults()).found


@lru_cache(maxsize=16)
def _unrolled_at(graph: Graph, values: Frozen) -> list[Instance]:
    """At one size: whoever asks what holds there asks more than once."""
    return _Unroller(graph, thawed(values)).found


class _Unroller:
    """Lists a graph's instances. A prefix is what precedes a node's name in its path, and in its owner's."""

    def __init__(self, graph: Graph, values: Values) -> None:
        self.found: list[Instance] = []
        self.known: dict[object, tuple[Shape, ...]] = {}
        self.values: dict[Frozen, Values] = {}
        self.passed: dict[tuple[int, int], Values] = {}
        self._module(graph.root, ("", ""), values, False)

    def _module(self, module: Module, prefix: tuple[str, str], values: Values, training: bool) -> None:
        path, owner = prefix
        for node in module.nodes:
            target = node.call.target if isinstance(node.call, ApplyCall) else node.name
            self._call(node.call, path + node.name, owner + target, values, node, "", training or node.training)

    def _call(self, call: Call, path: str, owner: str, values: Values, node: Node, inside: str, training: bool) -> None:
        self.found.append(Instance(path, owner, call, values, node, inside, training, self.known))
        held = call.call if isinstance(call, ApplyCall) else call
        if isinstance(held, OpCall):
            if held is not call:
                self.found.append(Instance(path, owner, held, values, node, inside, training, self.known))
        elif isinstance(held, SequenceCall):
            for index, element in enumerate(held.elements):
                place = f"{inside}.{index}" if inside else str(index)
                self._call(element, f"{path}.{index}", f"{owner}.{index}", values, node, place, training)
        elif isinstance(held, BlockCall):
            self._module(held.module, (f"{path}.", f"{owner}."), self._passed(held, values), training)

    def _passed(self, call: BlockCall, values: Values) -> Values:
        """The values of a block's symbols."""
        key = id(call), id(values)
        if key not in self.passed:
            own = {symbol: substitute(value, values) for symbol, value in call.values.items()}
            self.passed[key] = self.values.setdefault(frozen(own), own)
        return self.passed[key]


def parameters(graph: Graph) -> int:
    """The number of trainable elements."""
    total = substitute(_parameters(graph.root), graph.defaults())
    assert isinstance(total, int)
    return total


@lru_cache(maxsize=4_096)
def _parameters(module: Module) -> Number:
    """The number of a class's trainable elements, in its own symbols."""
    total: Number = 0
    for node in module.nodes:
        for _, call in elements_of(node.call):
            if isinstance(call, OpCall):
                total = total + sum(product(slot.shape) for slot in call.op.slots(call.inputs) if slot.trainable)
            elif isinstance(call, BlockCall):
                total = total + substitute(_parameters(call.module), call.values)
    return total


def misfits(graph: Graph) -> Iterator[Problem]:
    """What the ops have against their attributes at the values that the network's parameters have."""
    if not any(_objections(op, values) for op, values in _settings(graph)):
        return
    for instance in instances(graph):
        if isinstance(instance.call, OpCall):
            for message in _objections(instance.call.op, instance.values):
                yield Problem("attribute", message, instance.node.place, instance.path)


def _settings(graph: Graph) -> Iterator[tuple[Op, Values]]:
    """Every op with symbolic attributes, with each of the values that its class's parameters have somewhere."""
    seen = set()
    waiting: list[tuple[Module, Values]] = [(graph.root, graph.defaults())]
    while waiting:
        module, values = waiting.pop()
        key = id(module), tuple(sorted((symbol.name, str(value)) for symbol, value in values.items()))
        if key in seen:
            continue
        seen.add(key)
        for node in module.nodes:
            for _, call in elements_of(node.call.call if isinstance(node.call, ApplyCall) else node.call):
                if isinstance(call, OpCall) and call.op.symbolic:
                    yield call.op, values
                elif isinstance(call, BlockCall):
                    given = {symbol: item for symbol, item in call.values.items() if not symbol.size}
                    own = {symbol: substitute(item, values) for symbol, item in given.items()}
                    waiting.append((call.module, own))


def _objections(op: Op, values: Values) -> list[str]:
    """What an op has against its attributes at these values, each by itself and together."""
    found: list[str] = []
    given: dict[str, Any] = {}
    for name, value in _settled_attributes(op, values):
        try:
            given[name] = kind_of(type(op), name).read(value)
        except ValueError as error:
            found.append(f"{name}: {error}")
    if given:
        try:
            replace(op, **given).validate()  # type: ignore[type-var]
        except ValueError as error:
            found.append(f"{op.name}: {error}")
    return found


def settled(op: Op, values: Values) -> Op:
    """The op with the attributes that it has at these values of its symbols."""
    found = {name: kind_of(type(op), name).read(value) for name, value in _settled_attributes(op, values)}
    return replace(op, **found) if found else op  # type: ignore[type-var]


def _settled_attributes(op: Op, values: Values) -> Iterator[tuple[str, Any]]:
    """The attributes that depend on symbols, at these values."""
    for name, written in op.symbolic.items():
        items = written if isinstance(written, tuple) else (written,)
        found: list[Any] = [substitute(item, values) for item in items]
        if isinstance(written, Sym) and {symbol.high for symbol in symbols_of(written)} == {1}:
            found = [bool(item) for item in found]
        yield name, found if isinstance(written, tuple) else found[0]
