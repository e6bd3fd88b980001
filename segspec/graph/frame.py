"""One block while it is being elaborated: what its names mean, how it was called, what it holds so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from segspec.algebra.expressions import (
    Budget,
    Expression,
    ExpressionError,
    Loop,
    Reference,
    References,
    Scope,
    Template,
    UnknownName,
    Value,
    iterate,
    truth,
    unpack,
)
from segspec.algebra.symbols import Number, Symbol, Undecided, compare, show, substitute
from segspec.errors import Place, Problem, SpecError, fail, suggest
from segspec.graph.model import Node, Requirement
from segspec.ops import Shape
from segspec.spec.load import Definition

MAX_NODES = 20_000
MAX_PROBLEMS = 500


@dataclass
class Limits:
    """What elaborating one spec may cost: steps of its expressions, and nodes."""

    budget: Budget = field(default_factory=Budget)
    nodes: int = MAX_NODES

    def spend_node(self, place: Place, node: str) -> None:
        """Count one node; :class:`~segspec.errors.SpecError` past the limit."""
        self.nodes -= 1
        if self.nodes < 0:
            raise fail("limit", f"the spec makes more than {MAX_NODES:,} nodes", place, node=node)


class NeedsValue(Exception):
    """A frame's symbols must have values before its block can be elaborated.

    That is so ``by_form``, whatever the values, but for what depends on whether they are right.
    """

    def __init__(self, frame: Frame, symbols: Iterable[Symbol], *, by_form: bool = True) -> None:
        super().__init__()
        self.frame = frame
        self.by_form = by_form
        self.symbols = frozenset(symbols)


class Skipped(Exception):
    """A node reads one that has a problem of its own, which is reported already."""


@dataclass(frozen=True)
class Decision:
    """A comparison of a block's symbols that its caller's forms decided."""

    operator: str
    left: Number
    right: Number
    answer: bool

    def __str__(self) -> str:
        return f"{show(self.left)} {self.operator} {show(self.right)}"


@dataclass
class Frame:
    """One attempt at one block: its names, and how it was called."""

    definition: Definition
    names: dict[str, Any]
    actual: dict[Symbol, Any]
    caller: Frame | None
    bound: dict[str, Any]
    limits: Limits
    decisions: list[Decision] = field(default_factory=list)
    parameters: dict[str, Symbol] = field(default_factory=dict)
    nodes: dict[str, Node | None] = field(default_factory=dict)
    inputs: dict[str, Shape] = field(default_factory=dict)
    requirements: list[Requirement] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    gaps: bool = False
    """Whether there are nodes of unknown names, since what makes them has a problem."""

    previous: str = ""
    """What a node reads that does not say: the node before, at first the block's only input."""

    def decide(self, operator: str, left: Number, right: Number) -> bool:
        """Decide a comparison from the forms: here, else in the caller's terms."""
        try:
            return compare(operator, left, right)
        except Undecided as undecided:
            if any(symbol.size for symbol in undecided.symbols):
                raise ExpressionError("a condition cannot depend on the image's size") from None
            if self.caller is None:
                raise NeedsValue(self, undecided.symbols) from None
        answer = self.caller.decide(operator, substitute(left, self.actual), substitute(right, self.actual))
        self.decisions.append(Decision(operator, left, right, answer))
        return answer

    def settled(self, value: Number) -> Number:
        """A number of this block's in the network's own terms, its parameters at their values."""
        value = substitute(value, self.actual)
        return self.caller.settled(value) if self.caller else value

    def agrees(self, decisions: Iterable[Decision]) -> bool:
        """Whether this call decides all of them the same; not so if it cannot, of which elaborating it says where."""
        try:
            return all(self.decide(item.operator, item.left, item.right) is item.answer for item in decisions)
        except ExpressionError:
            return False

    def note(self, error: SpecError) -> None:
        """Keep problems and go on to look for more, unless that would cost too much."""
        self.problems += error.problems
        if error.final or len(self.problems) > MAX_PROBLEMS:
            raise SpecError(self.problems)

    def contradicts(self, symbol: Symbol, value: Any) -> bool:
        """Whether a parameter of this value would have been decided otherwise than this call's was."""
        given = {symbol: value}
        for item in self.decisions:
            try:
                if (
                    compare(item.operator, substitute(item.left, given), substitute(item.right, given))
                    is not item.answer
                ):
                    return True
            except Undecided:
                continue
        return False

    def shape_of(self, reference: str) -> Shape:
        """The shape of an input or of a node's one output."""
        if reference in self.inputs:
            return self.inputs[reference]
        node = self.nodes.get(reference)
        if node is None:
            raise Skipped
        return node.call.outputs[0]

    def callers(self) -> list[Definition]:
        """The blocks being elaborated, this one first."""
        return [self.definition, *(self.caller.callers() if self.caller else [])]

    def scope(self, names: Mapping[str, Any]) -> Scope:
        """Where this block's expressions are evaluated."""

        def channels(name: str) -> Number:
            if name not in self.inputs and name not in self.nodes:
                raise UnknownName(name, [*self.inputs, *self.nodes])
            return self.shape_of(name)[1]

        return Scope(names, self.limits.budget, self.decide, channels)

    def guard(self, place: Place, run: Callable[[], Any], node: str = "") -> Any:
        """Run an evaluation and give what can go wrong in it its place."""
        try:
            return run()
        except UnknownName as error:
            remedy = suggest(error.name, error.known, what="names here")
            raise fail(error.code, str(error), place, node=node, remedy=remedy) from None
        except ExpressionError as error:
            raise fail(error.code, str(error), place, node=node, remedy=error.remedy) from None
        except Undecided as undecided:
            if any(symbol.size for symbol in undecided.symbols):
                raise fail("expression", "this cannot depend on the image's size", place, node=node) from None
            raise NeedsValue(self, undecided.symbols) from None

    def evaluate(self, value: Value, place: Place, names: Mapping[str, Any], node: str = "") -> Any:
        """A value, with its place where it has none."""
        return self.guard(place, lambda: value.evaluate(self.scope(names)), node)

    def test(self, condition: Expression, place: Place, names: Mapping[str, Any]) -> bool:
        """Whether a condition holds."""
        scope = self.scope(names)
        return bool(self.guard(place, lambda: truth(condition.evaluate(scope), scope)))

    def loop(self, loop: Loop, place: Place, names: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What a loop's variables are, in each of its turns."""
        scope = self.scope(names)
        for item in self.guard(place, lambda: iterate(loop.items.evaluate(scope))):
            self.guard(place, self.limits.budget.spend)
            yield self.guard(place, partial(unpack, loop.target, item))

    def fill(self, template: Template, place: Place, names: Mapping[str, Any]) -> str:
        """A name with its braces filled."""
        return str(self.guard(place, lambda: template.fill(self.scope(names))))

    def resolve(
        self, references: References, place: Place, names: Mapping[str, Any], node: str = ""
    ) -> list[Reference]:
        """The references that an entry of ``from`` stands for."""
        found: list[Reference] = self.guard(place, lambda: references.resolve(self.scope(names)), node)
        return found
