"""Which image sizes a network can take: found from what its nodes require, stated in words.

Every requirement left open by elaboration is a comparison of forms in H and W made of floor divisions.
One that asks a growing form to be large enough has a least size, which is searched for. Any other is
eventually periodic along an axis; the period is the least common multiple of the divisors.
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from segspec.algebra.symbols import (
    Column,
    Floor,
    Function,
    Number,
    Sym,
    Symbol,
    evaluate,
    number,
    substitute,
    symbols_of,
)
from segspec.errors import Problem, fail
from segspec.graph.instances import at_size
from segspec.graph.model import Graph, H, N, Requirement, W

MAX_SIZE = 2**20
"""No image is larger; what needs a larger one has no size that suits it."""

MAX_REACH = 10_000
MAX_WORK = 1_000_000


@dataclass(frozen=True)
class AxisRule:
    """The sizes of one axis: from ``minimum`` on those that leave one of ``residues`` modulo ``period``; ``others``."""

    minimum: int = 1
    period: int = 1
    residues: tuple[int, ...] = (0,)
    others: tuple[int, ...] = ()

    def allows(self, size: int) -> bool:
        """Whether the rule has this size."""
        return (size >= self.minimum and size % self.period in self.residues) or size in self.others

    @property
    def empty(self) -> bool:
        """Whether no size is allowed, or a single pixel alone, which nobody means."""
        return not self.residues and max(self.others, default=0) <= 1

    def __str__(self) -> str:
        listed = " or ".join(map(str, self.others[:MAX_LISTED])) + (" …" if len(self.others) > MAX_LISTED else "")
        if not self.residues:
            return f"exactly {listed}" if self.others else "no size"
        if self.period == 1:
            text = "any size" if self.minimum <= 1 else f"at least {self.minimum}"
        elif self.residues == (0,):
            text = f"divisible by {self.period}"
        else:
            text = f"{' or '.join(map(str, self.residues))} modulo {self.period}"
        if self.period > 1 and self.minimum > self.period:
            text = f"{text}, at least {self.minimum}"
        return f"{text}, or {listed}" if self.others else text


MAX_LISTED = 6


@dataclass(frozen=True)
class SizeRule:
    """The sizes that a network can take."""

    height: AxisRule
    width: AxisRule
    joint: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether no image suits."""
        return self.height.empty or self.width.empty

    def __str__(self) -> str:
        if self.height == self.width:
            text = "any H and W" if str(self.height) == "any size" else f"H and W {self.height}"
        else:
            text = f"H {self.height}; W {self.width}"
        return "; ".join([text, *self.joint] if text != "any H and W" else self.joint or [text])


@lru_cache(maxsize=64)
def size_rule(graph: Graph) -> SizeRule:
    """The rule that the graph's requirements amount to."""
    return _rule(_open(graph))


def conflict(graph: Graph) -> Requirement | None:
    """The requirement that no image size satisfies together with those before it; None if there are sizes for all."""
    held = _open(graph)
    if not _rule(held).empty:
        return None
    count = bisect_left(range(len(held) + 1), True, key=lambda count: _rule(held[:count]).empty)
    return held[count - 1]


def _open(graph: Graph) -> list[Requirement]:
    """What the network requires of the image's size."""
    values = graph.defaults()
    return [item.under(values) for item in graph.root.requirements if not item.training]


def _rule(requirements: list[Requirement]) -> SizeRule:
    by_axis = {axis: [item for item in requirements if _sizes(item) == {axis}] for axis in (H, W)}
    joint: dict[frozenset[Any], str] = {}
    for item in requirements:
        if {H, W} <= _sizes(item):
            # What must be equal is so from either side.
            joint.setdefault(frozenset([item.left, item.right] if item.kind == "==" else [item]), str(item))
    return SizeRule(_axis_rule(by_axis[H], H), _axis_rule(by_axis[W], W), tuple(joint.values()))


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
    gaps = dict.fromkeys((item.kind, substitute(item.left - item.right, {axis: _SIZE})) for item in requirements)
    rule = _rule_of(tuple(gaps))
    if isinstance(rule, int):
        message = f"which image sizes suit the network follows no pattern that repeats within {rule:,}"
        raise fail("limit", message, requirements[0].place, node=requirements[0].node)
    return rule


_SIZE = number(H)


@lru_cache(maxsize=256)
def _rule_of(gaps: tuple[tuple[str, Number], ...]) -> AxisRule | int:
    """The sizes, called H on either axis, at which every gap is 0 or (``>=``) not below; the period if there is none.

    Height and width mostly have one rule, and so have the presets of a network.
    """
    growing = [gap for kind, gap in gaps if kind == ">=" and _grows(gap)]
    others = [(kind, gap) for kind, gap in gaps if not (kind == ">=" and _grows(gap))]

    def large_enough(size: int) -> bool:
        return all(evaluate(gap, {H: size, N: 1}) >= 0 for gap in growing)

    first = 1 + bisect_left(range(1, MAX_SIZE + 1), True, key=large_enough)
    if first > MAX_SIZE:
        return AxisRule(residues=())
    if not others:
        return AxisRule(first)
    period = math.lcm(*(_period(gap) for _, gap in others))
    last = first + min(max(_reach(gap) for _, gap in others), MAX_REACH) + 3 * period
    if (last - first) * len(others) > MAX_WORK:
        return period

    sizes = range(first, last + 1)
    column = Column(H, sizes)
    valid = [True] * len(sizes)
    for kind, gap in others:
        found = column.of(substitute(gap, {N: 1}))
        holds = operator.eq if kind == "==" else operator.ge
        valid = [held and holds(there, 0) for held, there in zip(valid, found, strict=True)]
    rule = _pattern([size for size, held in zip(sizes, valid, strict=True) if held], first, last, period)
    return period if rule is None else rule


def _pattern(sizes: list[int], first: int, last: int, period: int) -> AxisRule | None:
    """The rule of the sizes that are allowed from ``first`` to ``last``, whose last periods tell how they go on."""
    allowed = set(sizes)
    tail = range(last - 2 * period + 1, last + 1)
    for step in (divisor for divisor in range(1, period + 1) if period % divisor == 0):
        if any((size in allowed) is not (size - step in allowed) for size in tail):
            continue
        start = tail.start
        while start > first and (start - 1 in allowed) is (start - 1 + step in allowed):
            start -= 1
        regular = [size for size in sizes if size >= start]
        residues = tuple(sorted({size % step for size in regular}))
        others = tuple(size for size in sizes if size < start)
        return AxisRule(regular[0] if regular else 1, step, residues, others)
    return None


def _grows(value: Number) -> bool:
    """Whether the form is sure never to fall as the size grows."""
    if not isinstance(value, Sym):
        return True
    for monomial, coefficient in value.terms:
        if not monomial:
            continue
        if coefficient < 0 or len(monomial) != 1 or monomial[0][1] != 1:
            return False
        atom = monomial[0][0]
        if isinstance(atom, Floor) and not (_grows(atom.over) and isinstance(atom.under, int) and atom.under > 0):
            return False
        if isinstance(atom, Function) and not (atom.name in ("min", "max") and all(map(_grows, atom.args))):
            return False
    return True


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
    rule = size_rule(graph)
    for size in sorted(range(1, 2 * wanted), key=lambda size: (abs(size - wanted), size)):
        allowed = rule.height.allows(size) and rule.width.allows(size)
        if allowed and size_problem(graph, size, size, 1, training=False) is None:
            return size, size
    return wanted, wanted
