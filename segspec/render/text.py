"""Text of generated code: values as Python, shapes as comments, prose as docstrings.

Nothing that a user wrote reaches the output but through here: as an identifier checked before, a literal,
or escaped prose.
"""

from __future__ import annotations

import ast
import math
import textwrap
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from segspec.algebra.symbols import Floor, Number, Sym, Symbol, show, substitute, symbols_of
from segspec.ops import Shape

WIDTH = 100


class Code(str):
    """Text that is Python already."""

    __slots__ = ()


class Inputs(tuple[Code, ...]):
    """The expressions that a node reads; as one argument of :func:`call` they stand for all of them."""

    __slots__ = ()


class _Omitted:
    """The value of an argument that is left out."""


OMITTED = _Omitted()


def unless(value: Any, default: Any) -> Any:
    """Leave an argument out where it has the framework's default."""
    if value is OMITTED or isinstance(value, bool) is not isinstance(default, bool):
        return value
    return OMITTED if not isinstance(value, Code) and value == default else value


def literal(value: Any) -> str:
    """A value as Python writes it."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return show(value)


def call(function: str, *args: Any, **options: Any) -> Code:
    """A call in Python, without the arguments that are omitted."""
    spread = [item for arg in args for item in (arg if isinstance(arg, Inputs) else (arg,))]
    parts = [literal(arg) for arg in spread if arg is not OMITTED]
    parts += [f"{name}={literal(value)}" for name, value in options.items() if value is not OMITTED]
    return Code(f"{function}({', '.join(parts)})")


@lru_cache(maxsize=4_096)
def operand(code: str) -> str:
    """Code as an operand: in parentheses where it is itself an operation."""
    return f"({code})" if isinstance(ast.parse(code, mode="eval").body, ast.BinOp | ast.IfExp) else code


def receiver(code: str) -> Code:
    """Code whose method is called: in parentheses where it is an operation."""
    body = ast.parse(code, mode="eval").body
    return Code(code if isinstance(body, ast.Name | ast.Call | ast.Attribute | ast.Subscript) else f"({code})")


def affine(x: str, scale: Any, shift: Any) -> Code:
    """The code of scale · x + shift as a person writes it; ``x`` is an operand."""
    scale, shift = 1 if scale is None else scale, shift or 0
    if shift and scale == -1:
        return Code(f"{literal(shift)} - {x}")
    negated = scale == -1 and not x.startswith("-")  # two signs read as a decrement
    product = x if scale == 1 else f"-{x}" if negated else f"{literal(scale)} * {x}"
    if 0 < abs(scale) < 1 and len(literal(abs(scale))) > 6 and math.isclose(1 / scale, round(1 / scale), rel_tol=1e-15):
        product = f"{'-' if scale < 0 else ''}{x} / {literal(abs(round(1 / scale)))}"
    return Code(f"{product} {'+' if shift > 0 else '-'} {literal(abs(shift))}" if shift else product)


def lengths(sizes: list[Any], like: str) -> Any:
    """The lengths that an axis is split into, of which h and w are those of another map."""
    if sizes == ["h", "w"]:
        return Code(f"{like}.shape[-2:]")
    named = {"h": f"{like}.shape[-2]", "w": f"{like}.shape[-1]"}
    return tuple(Code(named[size]) if isinstance(size, str) else size for size in sizes)


def reshaped(x: str, axes: list[list[Any]], like: str) -> Code | None:
    """The sizes to which ``x`` is reshaped when its axes are split, a 0 for one that stays where it is.

    None if there is no such list, because nothing is split, or an axis that moves would have to be read off
    what has no name.
    """
    if not any(len(lengths_) > 1 for lengths_ in axes):
        return None
    parts: list[str] = []
    for index, held in enumerate(axes):
        if held == [-1]:
            stays = len(parts) == index and all(len(before) == 1 for before in axes[:index])
            parts.append("0" if stays else f"{x}.shape[{index}]")
        elif held == ["h", "w"]:
            parts.append(f"*{like}.shape[-2:]")
        else:
            named = {"h": f"{like}.shape[-2]", "w": f"{like}.shape[-1]"}
            known = math.prod(size for size in held if isinstance(size, int) and size > 0)
            rest = "-1" if "-1" not in parts else f"{x}.shape[{index}] // {known}"
            parts += [named[size] if isinstance(size, str) else rest if size == -1 else literal(size) for size in held]
    if not x.isidentifier() and any(part.startswith(f"{x}.shape") for part in parts):
        return None
    return Code(f"[{', '.join(parts)}]")


def sizes(inputs: Inputs, places: list[dict[str, int]]) -> Code:
    """The product of some axes' lengths, as a divisor."""
    parts = [f"{receiver(inputs[place['input']])}.shape[{place['axis']}]" for place in places]
    return Code(parts[0] if len(parts) == 1 else f"({' * '.join(parts)})")


def value_of(value: Any) -> Any:
    """An attribute's value for a template: symbolic numbers as code, equal pairs as one number."""
    if isinstance(value, tuple):
        items = tuple(value_of(item) for item in value)
        return items[0] if all(item == items[0] for item in items) else items
    if isinstance(value, Sym):
        return Code(show(value))
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, float):
        return _tidy(value)
    return value


def _tidy(value: float) -> float:
    """The number that was meant where arithmetic has left the last bit wrong: 0.3 for 0.1 + 0.2."""
    short = float(f"{value:.15g}")
    return short if math.isclose(short, value, rel_tol=3e-16) else value


def shape_text(shape: Shape, even: int = 1) -> str:
    """A shape as a comment writes it: ``(N, 2 * width, ⌈H/2⌉, ⌈W/2⌉)``.

    ``even`` is a number that H and W are known to be multiples of.
    """
    return "(" + ", ".join(size_text(size, even) for size in shape) + ("," if len(shape) == 1 else "") + ")"


def size_text(size: Number, even: int = 1) -> str:
    """One axis of a shape as a comment writes it."""
    if not isinstance(size, Sym) or not any(symbol.size for symbol in symbols_of(size)):
        return show(size)
    if even > 1 and all(symbol.name in ("H", "W") for symbol in symbols_of(size)):
        units = {symbol: even * _unit(symbol) for symbol in symbols_of(size) if symbol.name in ("H", "W")}
        if (text := _divided(substitute(size, units), even)) is not None:
            return text
    return _rounded_up(size) or " + ".join(_term(*term) for term in size.terms).replace("+ -", "- ")


def _rounded_up(size: Sym) -> str:
    """``(H - 1) // stride + 1`` as ``⌈H/stride⌉``; empty for any other form."""
    constants = [coefficient for monomial, coefficient in size.terms if not monomial]
    others = [(monomial, coefficient) for monomial, coefficient in size.terms if monomial]
    if constants != [1] or len(others) != 1 or others[0][1] != 1 or len(others[0][0]) != 1:
        return ""
    ((atom, power),) = others[0][0]
    if power != 1 or not isinstance(atom, Floor) or isinstance(atom.under, int):
        return ""
    whole = atom.over + 1
    single = isinstance(whole, Sym) and all(monomial for monomial, _ in whole.terms)
    return f"⌈{_over(whole)}/{_over(atom.under)}⌉" if single else ""


def _unit(symbol: Symbol) -> Sym:
    return Sym(((((Symbol(symbol.name, size=True), 1),), 1),))


def _divided(size: Number, even: int) -> str | None:
    """``c·h`` as ``H/(even/c)``, where H = even·h."""
    if not isinstance(size, Sym) or len(size.terms) != 1:
        return None
    ((monomial, coefficient),) = size.terms
    if len(monomial) != 1 or not isinstance(monomial[0][0], Symbol) or not isinstance(coefficient, int):
        return None
    ratio = Fraction(coefficient, even)
    name = monomial[0][0].name
    if ratio >= 1:
        return name if ratio == 1 else f"{show(ratio)} * {name}" if ratio.denominator == 1 else None
    return f"{name}/{ratio.denominator}" if ratio.numerator == 1 else None


def _term(monomial: Any, coefficient: Any) -> str:
    factors = [_factor(atom, power) for atom, power in monomial]
    if not factors:
        return show(coefficient)
    if coefficient == -1:
        return "-" + " * ".join(factors)
    return " * ".join(factors if coefficient == 1 else [show(coefficient), *factors])


def _factor(atom: Any, power: int) -> str:
    if isinstance(atom, Floor) and isinstance(atom.under, int):
        over, under = atom.over, atom.under
        whole = over - (under - 1)
        if isinstance(whole, Sym) and len(whole.terms) == 1:
            text = f"⌈{_over(whole)}/{under}⌉"
        else:
            text = f"⌊{_over(over)}/{under}⌋"
    else:
        text = show(Sym((((((atom, 1),), 1)),)))
    return text if power == 1 else f"{text}**{power}"


def _over(value: Number) -> str:
    text = size_text(value)
    return text if text.isidentifier() else f"({text})"


def paragraph(text: str, indent: int) -> str:
    """Prose, escaped for a docstring and wrapped; paragraphs are kept."""
    width = WIDTH - indent
    parts = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    return "\n\n".join(_filled(_escaped(part), width) for part in parts)


def entry(name: str, text: str, indent: int) -> str:
    """One entry of a docstring's list: ``name: text``, wrapped with a hanging indent."""
    line = f"{name}: {_escaped(' '.join(text.split()))}"
    return _filled(line, WIDTH - indent, "    ")


def _filled(text: str, width: int, later: str = "") -> str:
    """Text in lines of at most this width; an address is never broken, so that it can be followed."""
    hyphens = "://" not in text
    return textwrap.fill(text, width, subsequent_indent=later, break_long_words=False, break_on_hyphens=hyphens)


def docstring(parts: Iterable[str], indent: int) -> str:
    """A docstring of these parts, an empty line between them, indented but for its first line."""
    text = "\n\n".join(part for part in parts if part)
    margin = " " * indent
    lines = [margin + line if line else "" for line in text.split("\n")]
    body = "\n".join(lines).lstrip()
    if body.endswith('"'):
        body = body[:-1] + '\\"'
    return f'"""{body}\n{margin}"""' if "\n" in body else f'"""{body}"""'


def printable(text: str) -> str:
    """The text on one line: what could end a comment is a space."""
    return "".join(char if char.isprintable() else " " for char in text)


def _escaped(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


@lru_cache(maxsize=4_096)
def names_in(source: str) -> frozenset[str]:
    """Every name that a piece of Python reads."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:  # in no order, and so quicker than ast.walk
        node = waiting.pop()
        if isinstance(node, ast.Name):
            found.add(node.id)
            continue
        for held in vars(node).values():
            if isinstance(held, ast.AST):
                waiting.append(held)
            elif isinstance(held, list):
                waiting += [item for item in held if isinstance(item, ast.AST)]
    return frozenset(found)


def agreed(forms: Iterable[Number]) -> Number | None:
    """The one form that all are, or None."""
    different = set(forms)
    return different.pop() if len(different) == 1 else None


def under(size: Number, values: Mapping[Symbol, Number]) -> Number:
    """A size with the parameters of one instance, its image sizes left symbolic."""
    return substitute(size, {symbol: value for symbol, value in values.items() if not symbol.size})
