"""Which image sizes a network can take: found from what its nodes require, stated in words.

Every requirement left open by elaboration is a comparison of forms in H and W made of floor divisions,
so along an axis it is eventually periodic; the period is the least common multiple of the divisors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from segspec.algebra.symbols import Floor, Function, Number, Sym, Symbol, symbols_of
from segspec.errors import Problem
from segspec.graph.instances import at_size
from segspec.graph.model import Graph, H, Requirement, W

MAX_PERIOD = 512


@dataclass(frozen=True)
class AxisRule:
    """The sizes of one axis: from ``minimum`` on, those that leave one of ``residues`` modulo ``period``."""

    minimum: int
    period: int
    residues: tuple[int, ...]

    def allows(self, size: int) -> bool:
        """Whether the rule has this size."""
        return size >= self.minimum and size % self.period in self.residues

    def __str__(self) -> str:
        if not self.residues:
            return "no size"
        if self.period == 1:
            return "any size" if self.minimum <= 1 else f"at least {self.minimum}"
        if self.residues == (0,):
            text = f"divisible by {self.period}"
        else:
            text = f"{' or '.join(map(str, self.residues))} modulo {self.period}"
        return text if self.minimum <= self.period else f"{text}, at least {self.minimum}"


@dataclass(frozen=True)
class SizeRule:
    """The sizes that a network can take."""

    height: AxisRule
    width: AxisRule
    joint: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.height == self.width:
            text = "any H and W" if str(self.height) == "any size" else f"H and W {self.height}"
        else:
            text = f"H {self.height}; W {self.width}"
        return "; ".join([text, *self.joint])


@lru_cache(maxsize=64)
def size_rule(graph: Graph) -> SizeRule:
    """The rule that the graph's requirements amount to.

    Raises :class:`ValueError` where no size up to the period satisfies them.
    """
    held = [item for item in graph.root.requirements if not item.training]
    open_ = [item.under(graph.defaults()) for item in held]
    by_axis = {axis: [item for item in open_ if _sizes(item) == {axis}] for axis in (H, W)}
    joint = dict.fromkeys(str(item) for item in open_ if {H, W} <= _sizes(item))
    return SizeRule(_axis_rule(by_axis[H], H), _axis_rule(by_axis[W], W), tuple(joint))


def size_problem(graph: Graph, height: int, width: int, batch: int, *, training: bool) -> Problem | None:
    """What the network has against an input of this size; None if it takes it."""
    values = at_size(graph, height, width, batch)
    for requirement in graph.root.requirements:
        if requirement.training and not training:
            continue
        here = requirement.under(values)
        if not here.holds():
            rule = f"the network takes {size_rule(graph)}"
            problem = here.problem()
            message = f"{graph.name} cannot take {height}x{width} (batch {batch}): {problem.message}"
            remedy = requirement.remedy if requirement.training else rule
            return Problem("size", message, problem.place, problem.node, remedy)
    return None


def _sizes(requirement: Requirement) -> set[Symbol]:
    found = symbols_of(requirement.left) | symbols_of(requirement.right)
    return {symbol for symbol in found if symbol.size and symbol.name in ("H", "W")}


def _axis_rule(requirements: list[Requirement], axis: Symbol) -> AxisRule:
    forms = {(item.kind, item.left, item.right): item for item in requirements}
    if not forms:
        return AxisRule(1, 1, (0,))
    period = min(
        math.lcm(1, *(_period(side) for item in forms.values() for side in (item.left, item.right))),
        MAX_PERIOD,
    )
    reach = max((_reach(side) for item in forms.values() for side in (item.left, item.right)), default=0)
    last = min(reach, 2_048) + 3 * period
    valid = [False] + [all(item.under({axis: size}).holds() for item in forms.values()) for size in range(1, last + 1)]
    for step in (divisor for divisor in range(1, period + 1) if period % divisor == 0):
        start = last - 2 * period
        if any(valid[size] != valid[size + step] for size in range(start, last - step + 1)):
            continue
        while start > 1 and valid[start - 1] == valid[start - 1 + step]:
            start -= 1
        residues = tuple(sorted({size % step for size in range(start, start + step) if valid[size]}))
        minimum = next((size for size in range(start, last + 1) if valid[size]), start)
        return AxisRule(minimum, step, residues)
    return AxisRule(1, 1, ())


def _period(value: Number) -> int:
    if not isinstance(value, Sym):
        return 1
    periods = [1]
    for monomial, _ in value.terms:
        for atom, _ in monomial:
            if isinstance(atom, Floor):
                under = atom.under if isinstance(atom.under, int) else 1
                periods.append(abs(under) * _period(atom.over))
            elif isinstance(atom, Function):
                periods += [_period(arg) for arg in atom.args]
    return math.lcm(*periods)


def _reach(value: Number) -> int:
    """From which size on the requirement is periodic at the latest: a bound from its constants."""
    if not isinstance(value, Sym):
        return math.ceil(value if value > 0 else -value) + 1
    total = 1
    for monomial, coefficient in value.terms:
        inner = 1
        for atom, _ in monomial:
            if isinstance(atom, Floor):
                inner *= _reach(atom.over) * (atom.under if isinstance(atom.under, int) else 1)
            elif isinstance(atom, Function):
                inner *= sum(_reach(arg) for arg in atom.args)
        total += _reach(coefficient) * inner
    return total


def nearest_size(graph: Graph, wanted: int) -> tuple[int, int]:
    """The allowed square nearest to ``wanted``; ``wanted`` itself where there is none nearby."""
    for size in sorted(range(1, 2 * wanted), key=lambda size: (abs(size - wanted), size)):
        if size_problem(graph, size, size, 1, training=False) is None:
            return size, size
    return wanted, wanted
