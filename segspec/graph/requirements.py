"""What must hold at a node: refused at once where it cannot, kept where that depends on symbols."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from segspec.algebra.symbols import Number, Symbol, Undecided, symbols_of
from segspec.errors import Place, SpecError, shown
from segspec.graph.frame import Frame, NeedsValue
from segspec.graph.model import Module, Requirement


class Require:
    """Collects what must hold at one node; what cannot hold is a problem at once."""

    def __init__(self, kept: list[Requirement], place: Place, node: str) -> None:
        self.kept = kept
        self.place = place
        self.node = node

    def equal(self, left: Number, right: Number, message: str, remedy: str = "") -> None:
        self.add(Requirement("==", left, right, message, remedy, self.place, self.node))

    def at_least(self, value: Number, minimum: int, message: str, remedy: str = "", *, training: bool = False) -> None:
        self.add(Requirement(">=", value, minimum, message, remedy, self.place, self.node, training))

    def add(self, requirement: Requirement) -> None:
        """Keep a requirement that is open; raise for one that cannot hold."""
        try:
            if not requirement.holds():
                raise SpecError(requirement.problem())
        except Undecided:
            self.kept.append(requirement)


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
        if ones := unseen_ones([requirement], frame.actual):
            raise NeedsValue(frame, ones, by_form=False)
        if not requirement.under(frame.actual).holds():
            values = ", ".join(f"{symbol.name} = {shown(frame.actual[symbol])}" for symbol in _ordered(symbols))
            problem = requirement.problem()
            problems.append(replace(problem, message=f"{problem.message} (with {values})"))
        elif requirement.kind == "==":
            raise NeedsValue(frame, symbols, by_form=False)
    if problems:
        raise SpecError(problems)


def unseen_ones(requirements: Iterable[Requirement], actual: Mapping[Symbol, Number]) -> set[Symbol]:
    """The symbols that are 1 in equations that need not hold here: rules are others where a size is known to be 1."""
    found: set[Symbol] = set()
    for item in requirements:
        if item.kind == "==" and not item.under(actual).surely():
            symbols = symbols_of(item.left) | symbols_of(item.right)
            found |= {symbol for symbol in symbols if actual.get(symbol) == 1}
    return found


def _ordered(symbols: Iterable[Symbol]) -> list[Symbol]:
    return sorted(symbols, key=lambda symbol: symbol.name)
