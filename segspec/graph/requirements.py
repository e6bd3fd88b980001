"""What must hold at a node: refused at once where it cannot, kept where that depends on symbols."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from segspec.algebra.symbols import Number, Symbol, Undecided, show, symbols_of
from segspec.errors import Place, Problem, SpecError, shown
from segspec.graph.frame import Frame, NeedsValue
from segspec.graph.model import BlockCall, Graph, Module, Requirement, elements_of


class Require:
    """Collects what must hold at one node of a ``frame``; what cannot hold is a problem at once."""

    def __init__(self, kept: list[Requirement], place: Place, node: str, frame: Frame | None = None) -> None:
        self.kept = kept
        self.place = place
        self.node = node
        self.frame = frame

    def equal(self, left: Number, right: Number, message: str, remedy: str = "") -> None:
        self.add(Requirement("==", left, right, message, remedy, self.place, self.node))

    def at_least(self, value: Number, minimum: int, message: str, remedy: str = "", *, training: bool = False) -> None:
        self.add(Requirement(">=", value, minimum, message, remedy, self.place, self.node, training))

    def add(self, requirement: Requirement) -> None:
        """Keep a requirement that is open; raise for one that cannot hold."""
        try:
            if requirement.holds():
                return
        except Undecided:
            self.kept.append(requirement)
            return
        if self.frame and (ones := unseen_ones([requirement], self.frame)):
            raise NeedsValue(self.frame, ones)
        raise SpecError(requirement.problem())


def settle(frame: Frame, module: Module) -> None:
    """Hold the network's own parameters to what its forms left open and no image size can decide.

    Parameters that must be equal are bound, since code that takes others would be wrong for most; one that
    only has to be large enough stays an argument.
    """
    problems = []
    for requirement in module.requirements:
        symbols = symbols_of(requirement.left) | symbols_of(requirement.right)
        if any(symbol.size for symbol in symbols):
            continue
        if ones := unseen_ones([requirement], frame):
            raise NeedsValue(frame, ones, by_form=False)
        if not requirement.under(frame.actual).holds():
            values = ", ".join(f"{symbol.name} = {shown(frame.actual[symbol])}" for symbol in _ordered(symbols))
            problem = requirement.problem()
            problems.append(replace(problem, message=f"{problem.message} (with {values})"))
        elif requirement.kind == "==":
            raise NeedsValue(frame, symbols, by_form=False)
    if problems:
        raise SpecError(problems)


def sized(graph: Graph) -> Iterator[Problem]:
    """The blocks that are given the image's size for what their layers are made with."""
    for module in graph.modules:
        for node in module.nodes:
            for path, call in elements_of(node.call):
                if not isinstance(call, BlockCall):
                    continue
                for argument in call.module.arguments:
                    value = call.argument(argument.name)
                    if any(symbol.size for symbol in symbols_of(value)):
                        message = f"{call.module.name}'s weights would depend on the image's size: "
                        message += f"its {argument.name} is {show(value)}"
                        where = f"{node.name}.{path}" if path else node.name
                        yield Problem("shape", message, node.place, where, "pool to a fixed size before")


def unseen_ones(requirements: Iterable[Requirement], frame: Frame) -> set[Symbol]:
    """The symbols of sides that are 1 in equations that need not hold: rules are others for a size known to be 1."""
    found: set[Symbol] = set()
    for item in requirements:
        # What is compared with 0 is a remainder, and no size.
        if item.kind == "==" and item.right != 0 and not item.under(frame.actual).surely():
            for side in (item.left, item.right):
                if frame.settled(side) == 1:
                    found |= symbols_of(side) & frame.actual.keys()
    return found


def _ordered(symbols: Iterable[Symbol]) -> list[Symbol]:
    return sorted(symbols, key=lambda symbol: symbol.name)
