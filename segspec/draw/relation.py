"""A declared relation as mathematics, known numbers put in: ``0.9·before + 0.1·(n − 1)·value / n``."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from segspec.algebra.expressions import Expression, Scope
from segspec.render.backend import FUNCTIONS_OF_FACTS

SUM, PRODUCT, ATOM = range(3)
"""How tightly a text holds together."""

_NAMES = {"count": "n"}
_WORDS = {ast.And: " and ", ast.Or: " or "}
_SIGNS = {ast.Eq: "=", ast.NotEq: "≠", ast.Lt: "<", ast.LtE: "≤", ast.Gt: ">", ast.GtE: "≥"}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


@dataclass(frozen=True)
class _Part:
    text: str
    holds: int = ATOM
    over: tuple[_Part, ...] = ()
    under: tuple[_Part, ...] = ()
    value: float | None = None

    def within(self, holds: int) -> str:
        return self.text if self.holds >= holds else f"({self.text})"


def relation_text(relation: str, known: Mapping[str, Any]) -> str:
    """The relation with the ``known`` names' values put in, and without what these leave no part in."""
    return _Writer(known).part(ast.parse(relation.strip(), mode="eval").body).text


class _Writer:
    def __init__(self, known: Mapping[str, Any]) -> None:
        self.known = known

    def part(self, node: ast.expr) -> _Part:
        """A part of the relation; one whose value is known is that number."""
        if isinstance(node, ast.IfExp):
            return self._choice(node)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return self._arithmetic(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self.part(node.operand)
            return _Part(f"−{inner.within(PRODUCT)}", SUM) if inner.value is None else _number(-inner.value)
        if isinstance(node, ast.Constant) and _is_number(node.value):
            return _number(node.value)
        if isinstance(node, ast.Name):
            if _is_number(self.known.get(node.id)):
                return _number(self.known[node.id])
            return _Part(_NAMES.get(node.id, node.id))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._call(node.func.id, [self.part(item) for item in node.args])
        return _Part(self._condition(node), SUM)

    def _choice(self, node: ast.IfExp) -> _Part:
        if Expression(ast.unparse(node.test)).names <= set(self.known):
            return self.part(node.body if self._evaluated(node.test) else node.orelse)
        yes, no = self.part(node.body), self.part(node.orelse)
        return _Part(f"{yes.text} where {self._condition(node.test)}, else {no.text}", -1)

    def _condition(self, node: ast.expr) -> str:
        if isinstance(node, ast.BoolOp):
            return _WORDS[type(node.op)].join(map(self._condition, node.values))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _SIGNS:
            left, right = self.part(node.left), self.part(node.comparators[0])
            return f"{left.text} {_SIGNS[type(node.ops[0])]} {right.text}"
        return node.id if isinstance(node, ast.Name) else ast.unparse(node)

    def _call(self, name: str, args: list[_Part]) -> _Part:
        if name == "float32" and len(args) == 1 and args[0].value is not None:
            rounded = FUNCTIONS_OF_FACTS[name](args[0].value)
            if rounded == args[0].value:
                return args[0]
        return _Part(f"{name}({', '.join(item.text for item in args)})")

    def _arithmetic(self, node: ast.BinOp) -> _Part:
        left, right = self.part(node.left), self.part(node.right)
        if left.value is not None and right.value is not None:
            return _number(_ARITHMETIC[type(node.op)](left.value, right.value))
        if isinstance(node.op, ast.Add | ast.Sub):
            if right.value == 0:
                return left
            if left.value == 0 and isinstance(node.op, ast.Add):
                return right
            sign, tight = ("+", SUM) if isinstance(node.op, ast.Add) else ("−", PRODUCT)
            return _Part(f"{left.within(SUM)} {sign} {right.within(tight)}", SUM)
        if left.value == 0 or (right.value == 0 and isinstance(node.op, ast.Mult)):
            return _number(0)
        over, under = (left.over or (left,)), left.under
        if isinstance(node.op, ast.Mult):
            over, under = (*over, *(right.over or (right,))), (*under, *right.under)
        else:
            over, under = (*over, *right.under), (*under, *(right.over or (right,)))
        return _fraction(over, under)

    def _evaluated(self, node: ast.expr) -> bool:
        return bool(Expression(ast.unparse(node)).evaluate(Scope(self.known, functions=FUNCTIONS_OF_FACTS)))


def _fraction(over: tuple[_Part, ...], under: tuple[_Part, ...]) -> _Part:
    over, under = (tuple(item for item in side if item.value != 1) for side in (over, under))
    top = "·".join(item.within(PRODUCT) for item in over) or "1"
    if not under:
        return over[0] if len(over) == 1 else _Part(top, PRODUCT, over)
    bottom = "·".join(item.within(ATOM if len(under) == 1 else PRODUCT) for item in under)
    return _Part(f"{top} / {bottom if len(under) == 1 else f'({bottom})'}", PRODUCT, over, under)


def _number(value: float) -> _Part:
    text = f"{value:.10g}".replace("-", "−")
    return _Part(text, ATOM if value >= 0 else SUM, value=value)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
