"""What elaboration yields: immutable classes of modules, and the calls of which they consist.

A :class:`Module` is one class of the generated code: a block specialised by its structural parameters.
Its shapes are written in its own symbols (its parameters, its inputs' channels and sizes); a
:class:`BlockCall` says what those symbols are in terms of the module that makes the call. So each class
is inferred once, and any instance of it by substitution.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from segspec.algebra.symbols import (
    Frozen,
    Number,
    Symbol,
    compare,
    constant_of,
    decided,
    frozen,
    show,
    substitute,
    symbols_of,
    thawed,
)
from segspec.errors import Place, Problem
from segspec.ops import Op, Shape
from segspec.ops.initializers import Initializer
from segspec.spec.load import Definition

N, H, W = (Symbol(name, size=True) for name in "NHW")
"""The batch and the image's height and width."""


@dataclass(frozen=True)
class Tensor:
    """What a node reads: an input, an output of an earlier node, or what a sequence holds after ``upto`` elements."""

    node: str
    output: int = 0
    upto: int | None = None


@dataclass(frozen=True, eq=False)
class OpCall:
    """One op on inputs of known shape; networks that share a block share its calls."""

    op: Op
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    init: tuple[tuple[str, Initializer], ...] = ()


@dataclass(frozen=True)
class BlockCall:
    """One instance of a module; ``values`` gives every symbol of the module in the caller's terms."""

    module: Module
    values: Mapping[Symbol, Number]
    outputs: tuple[Shape, ...]

    def argument(self, name: str) -> Number:
        """What the constructor's argument ``name`` gets."""
        return next(value for symbol, value in self.values.items() if symbol.name == name and not symbol.size)


@dataclass(frozen=True)
class SequenceCall:
    """Calls one after another: the framework's Sequential."""

    elements: tuple[Call, ...]

    @property
    def outputs(self) -> tuple[Shape, ...]:
        """The last element's outputs."""
        return self.elements[-1].outputs


@dataclass(frozen=True)
class ApplyCall:
    """Another node's module once more, with the same weights."""

    target: str
    call: Call

    @property
    def outputs(self) -> tuple[Shape, ...]:
        """What the shared module returns for this input."""
        return self.call.outputs


Call: TypeAlias = OpCall | BlockCall | SequenceCall | ApplyCall


@dataclass(frozen=True)
class Node:
    """A named step of a module's forward pass; ``training`` if only outputs of train mode need it.

    One that is ``idle`` is no step: nothing reads its value, and it is there for its module, which others apply.
    """

    name: str
    call: Call
    sources: tuple[Tensor, ...]
    place: Place
    training: bool = False
    idle: bool = False


@dataclass(frozen=True)
class Argument:
    """An argument of a module's constructor: a value parameter, or the channels of an input."""

    name: str
    symbol: Symbol
    type: str
    default: Any = None
    required: bool = True
    doc: str = ""


@dataclass(frozen=True)
class ModuleInput:
    """An input with its shape in the module's symbols."""

    name: str
    shape: Shape
    doc: str = ""


@dataclass(frozen=True)
class ModuleOutput:
    """An output with its shape in the module's symbols."""

    name: str
    tensor: Tensor
    shape: Shape
    training: bool = False
    loss_weight: float = 1.0
    doc: str = ""


@dataclass(frozen=True)
class Requirement:
    """Something that must hold and that the forms alone leave open."""

    kind: str
    left: Number
    right: Number
    message: str
    remedy: str
    place: Place
    node: str
    training: bool = False

    def under(self, values: Mapping[Symbol, Number]) -> Requirement:
        """The requirement with symbols replaced."""
        left, right = substitute(self.left, values), substitute(self.right, values)
        return Requirement(self.kind, left, right, self.message, self.remedy, self.place, self.node, self.training)

    def within(self, node: str) -> Requirement:
        """The requirement as seen from the block that holds ``node``."""
        path = f"{node}.{self.node}" if self.node else node
        return Requirement(
            self.kind,
            self.left,
            self.right,
            self.message,
            self.remedy,
            self.place,
            path,
            self.training,
        )

    def holds(self) -> bool:
        """Whether it holds; raises :class:`~segspec.algebra.symbols.Undecided` where that depends on symbols."""
        return compare(self.kind, self.left, self.right)

    def surely(self) -> bool:
        """Whether it holds for all values of its symbols."""
        return decided(self.kind, self.left, self.right) is True

    def never(self) -> bool:
        """Whether it holds for no values of its symbols."""
        return decided(self.kind, self.left, self.right) is False

    def problem(self) -> Problem:
        """The problem that its violation is, the two sides filled into its message."""
        message = self.message.replace("{left}", show(self.left)).replace("{right}", show(self.right))
        return Problem("shape", message, self.place, self.node, self.remedy)

    def __str__(self) -> str:
        return f"{show(self.left)} {self.kind} {show(self.right)}"


def strictest(requirements: Iterable[Requirement]) -> tuple[Requirement, ...]:
    """The same requirements without what holds anyway and what another implies: of H ≥ 5 and H ≥ 7 the second."""
    kept: dict[Any, tuple[Number, Requirement]] = {}
    for item in requirements:
        if item.surely():
            continue
        gap = item.left - item.right
        constant = constant_of(gap) if item.kind == ">=" else 0
        key = (item.kind, item.training, gap - constant)
        held = kept.get(key)
        if held is None or bool(constant < held[0]):  # type: ignore[operator]  # both are plain
            kept[key] = (constant, item)
    return tuple(item for _, item in kept.values())


@dataclass(frozen=True, eq=False)
class Module:
    """One class: a definition at one choice of its structural parameters and used outputs."""

    name: str
    definition: Definition
    arguments: tuple[Argument, ...]
    inputs: tuple[ModuleInput, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[ModuleOutput, ...]
    own: tuple[Requirement, ...]
    """What its own nodes require; ``requirements`` are these and what the blocks inside require."""

    requirements: tuple[Requirement, ...]
    choices: tuple[tuple[str, Any], ...]
    instances: int
    key: Any = field(repr=False, default=None)

    def node(self, name: str) -> Node:
        """The node of this name."""
        return next(node for node in self.nodes if node.name == name)


def called(module: Module, values: Mapping[Symbol, Number]) -> tuple[tuple[Shape, ...], tuple[Requirement, ...]]:
    """A module's outputs in its caller's terms, and what it requires there but for what surely holds."""
    return _called(module, frozen(values))


@lru_cache(maxsize=8_192)
def _called(module: Module, key: Frozen) -> tuple[tuple[Shape, ...], tuple[Requirement, ...]]:
    values = thawed(key)
    outputs = tuple(tuple(substitute(size, values) for size in output.shape) for output in module.outputs)
    required = (item.under(values) for item in module.requirements)
    return outputs, tuple(item for item in required if not item.surely())


@dataclass(frozen=True, eq=False)
class Graph:
    """A whole network: its classes, the root's last, and the values its parameters have."""

    root: Module
    modules: tuple[Module, ...]
    parameters: Mapping[str, Any]
    settings: Mapping[str, Any]
    preset: str = ""

    @property
    def definition(self) -> Definition:
        """The spec."""
        return self.root.definition

    @property
    def name(self) -> str:
        """The name of the generated module: the spec's, with the preset's."""
        return self.definition.name + (f"_{self.preset}" if self.preset else "")

    def defaults(self) -> dict[Symbol, Number]:
        """The values of the root's symbolic parameters, also of one that only says an input's channels."""
        stated = symbols_of([item.shape for item in self.root.inputs])
        held = {symbol: self.parameters[symbol.name] for symbol in stated if not symbol.size}
        return held | {argument.symbol: argument.default for argument in self.root.arguments}


def elements_of(call: Call) -> Iterator[tuple[str, Call]]:
    """The calls inside a call, with their path below it: itself, or a sequence's elements, nested ones too."""
    if isinstance(call, SequenceCall):
        for index, element in enumerate(call.elements):
            for path, inner in elements_of(element):
                yield f"{index}.{path}" if path else str(index), inner
    else:
        yield "", call
