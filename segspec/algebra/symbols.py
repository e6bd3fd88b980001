"""Symbolic numbers: polynomials over parameters and image sizes, with exact floor division.

A channel count is ``2 * width`` until someone asks for a width; a height is ``(H + 1) // 2`` for every
H at once. Two rules keep such forms small and make most comparisons decidable without numbers:

* ``(n·a + b) // n = a + b // n`` for whole a, and
* ``((p + a) // m + b) // n = (p + a + b·m) // (m·n)`` (Graham, Knuth, Patashnik, *Concrete Mathematics*,
  eq. 3.11), so a chain of strides is one floor division.

Arithmetic returns a plain ``int`` (or ``float``) as soon as no symbol is left.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

Plain: TypeAlias = int | float | Fraction

MAX_TERMS = 2_000
MAX_DEPTH = 40
MAX_DEGREE = 64
MAX_BITS = 512
"""A form with more terms or atoms, deeper, of a higher degree or of larger numbers is no channel count.

It is refused (:class:`TooLarge`), so that whatever is done with a form ends soon.
"""


class TooLarge(OverflowError):
    """A form or a number that no network needs."""


class Undecided(Exception):
    """A comparison (or a loop bound) depends on symbols that have no value yet."""

    def __init__(self, symbols: Iterable[Symbol]) -> None:
        self.symbols = frozenset(symbols)
        super().__init__(", ".join(sorted(symbol.name for symbol in self.symbols)))


@dataclass(frozen=True)
class Symbol:
    """A number without a value: a parameter, or (``size``) an axis of an input.

    ``low`` and ``high`` bound it; they are what makes ``width != 4 * width`` decidable. A parameter that
    is not ``whole`` can be no count.
    """

    name: str
    low: float = 1
    high: float = math.inf
    size: bool = False
    whole: bool = True

    def __post_init__(self) -> None:
        held = (self.name, self.low, self.high, self.size, self.whole)
        object.__setattr__(self, "_hash", hash(held))

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined,no-any-return]


@dataclass(frozen=True)
class Floor:
    """The atom ``over // under`` that no rule could simplify."""

    over: Number
    under: Number


@dataclass(frozen=True)
class Function:
    """An atom that names a function: ``max``, ``min``, ``pow``, ``/``."""

    name: str
    args: tuple[Number, ...]


Atom: TypeAlias = "Symbol | Floor | Function"
Monomial: TypeAlias = "tuple[tuple[Atom, int], ...]"


class Sym:
    """An immutable polynomial with at least one symbol; terms keep the order in which they came."""

    __slots__ = ("_exact", "_hash", "_key", "depth", "size", "terms")

    size: int
    depth: int

    def __init__(self, terms: tuple[tuple[Monomial, Plain], ...]) -> None:
        self.terms = terms
        size, depth = len(terms), 0
        for monomial, _ in terms:
            for atom, _ in monomial:
                if not isinstance(atom, Symbol):
                    for part in _parts(atom):
                        size += part.size
                        depth = max(depth, part.depth)
        if size > MAX_TERMS or depth >= MAX_DEPTH:
            raise TooLarge("the form is too large")
        self.size = size
        self.depth = depth + 1
        self._key: Any = None
        self._exact: Exact | None = None

    def __hash__(self) -> int:
        if self._key is None:
            self._key = frozenset((frozenset(monomial), coefficient) for monomial, coefficient in self.terms)
            self._hash = hash(self._key)
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Sym) and hash(self) == hash(other) and bool(self._key == other._key)

    @property
    def exact(self) -> Exact:
        """A key that tells apart what is equal and yet written in another order."""
        if self._exact is None:
            self._exact = Exact(self)
        return self._exact

    def __add__(self, other: Number) -> Number:
        return _total([*self.terms, *_terms(other)])

    def __radd__(self, other: Plain) -> Number:
        return _total([*_terms(other), *self.terms])

    def __neg__(self) -> Number:
        return self * -1

    def __sub__(self, other: Number) -> Number:
        return self + -1 * other

    def __rsub__(self, other: Plain) -> Number:
        return other + -self

    def __mul__(self, other: Number) -> Number:
        return _product(self, other)

    def __rmul__(self, other: Plain) -> Number:
        return _product(other, self)

    def __truediv__(self, other: Number) -> Number:
        if isinstance(other, int | Fraction) and other != 0:
            return _product(Fraction(1) / other, self)
        if isinstance(other, float) and other != 0:
            return _product(1 / other, self)
        return _divide(self, other)

    def __rtruediv__(self, other: Plain) -> Number:
        return _divide(other, self)

    def __floordiv__(self, other: Number) -> Number:
        return _floor(self, other)

    def __rfloordiv__(self, other: Plain) -> Number:
        return _floor(other, self)

    def __mod__(self, other: Number) -> Number:
        return self - other * (self // other)

    def __rmod__(self, other: Plain) -> Number:
        return other - self * (other // self)

    def __pow__(self, other: Number) -> Number:
        if isinstance(other, int) and 0 <= other <= 16:
            result: Number = 1
            for _ in range(other):
                result = result * self
            return result
        return _atom(Function("pow", (self, other)))

    def __rpow__(self, other: Plain) -> Number:
        return _atom(Function("pow", (other, self)))

    def __repr__(self) -> str:
        return show(self)


Number: TypeAlias = int | float | Fraction | Sym


class Exact:
    """A form as a key, equal to those of the same terms in the same order and of the same types alone."""

    __slots__ = ("_hash", "form", "key")

    def __init__(self, form: Sym) -> None:
        self.form = form
        self.key = tuple(
            (tuple((_exact_atom(atom), power) for atom, power in monomial), _exact(coefficient))
            for monomial, coefficient in form.terms
        )
        self._hash = hash(self.key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Exact) and self._hash == other._hash and self.key == other.key)


def _exact(value: Number) -> object:
    if isinstance(value, Sym):
        return value.exact
    return value if type(value) is int else (type(value), value)


def _exact_atom(atom: Atom) -> object:
    if isinstance(atom, Symbol):
        return atom
    if isinstance(atom, Floor):
        return _exact(atom.over), _exact(atom.under)
    return (atom.name, *map(_exact, atom.args))


def number(symbol: Symbol) -> Sym:
    """The symbol as a number to calculate with."""
    return _atom(symbol)


def ceil_div(over: Number, under: Number) -> Number:
    """``over / under`` rounded up, exactly."""
    return (over + under - 1) // under


def maximum(*values: Number) -> Number:
    """The largest of the values; symbolic where the forms do not decide."""
    return _extreme("max", values)


def minimum(*values: Number) -> Number:
    """The smallest of the values; symbolic where the forms do not decide."""
    return _extreme("min", values)


def power(base: Number, exponent: Number) -> Number:
    """``base ** exponent``; ``TooLarge`` for one too large to be written."""
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1:
        if abs(exponent) * base.bit_length() > 4 * MAX_BITS:
            raise TooLarge("the power is too large")
        if exponent < 0:
            return Fraction(1, base**-exponent)
    if base == 0 and not isinstance(exponent, Sym) and exponent < 0:
        raise ZeroDivisionError("division by zero")
    result = operator.pow(base, exponent)
    if isinstance(result, complex):
        raise ValueError(f"{show(base)} ** {show(exponent)} is no real number")
    return result  # type: ignore[no-any-return]


def make_divisible(value: Number, divisor: int = 8) -> int:
    """The nearest multiple of ``divisor``, never more than 10 % below ``value``.

    As in MobileNet's reference implementation. Python has no such function, so generated code cannot call it:
    :class:`Undecided` where symbols stand in the way.
    """
    if not isinstance(divisor, int) or divisor < 1:
        raise ValueError("make_divisible() takes a number and a whole number of at least 1")
    plain = concrete(value)
    rounded = max(divisor, int(plain + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * plain else rounded


def compare(operator: str, left: Number, right: Number) -> bool:
    """Decide ``left operator right`` from the forms alone.

    Raises :class:`Undecided` where different values of the symbols would give different answers.
    """
    answer, symbols = _compared(operator, left, right)
    if answer is None:
        raise Undecided(symbols)
    return answer


def decided(operator: str, left: Number, right: Number) -> bool | None:
    """What :func:`compare` answers, or None where it would raise."""
    return _compared(operator, left, right)[0]


@lru_cache(maxsize=65_536)
def _compared(operator: str, left: Number, right: Number) -> tuple[bool | None, frozenset[Symbol]]:
    """The answer, or None with the symbols that it depends on."""
    difference = left - right
    low, high = bounds(difference)
    answers = {
        "==": (low == high == 0, low > 0 or high < 0),
        "!=": (low > 0 or high < 0, low == high == 0),
        "<": (high < 0, low >= 0),
        "<=": (high <= 0, low > 0),
        ">": (low > 0, high <= 0),
        ">=": (low >= 0, high < 0),
    }
    yes, no = answers[operator]
    return (None if yes == no else yes), symbols_of(difference)


def bounds(value: Number) -> tuple[float, float]:
    """The least and the greatest value that the symbols' own bounds allow (not always reached)."""
    if not isinstance(value, Sym):
        return float(value), float(value)
    low = high = 0.0
    for monomial, coefficient in value.terms:
        term = (1.0, 1.0)
        for atom, power in monomial:
            for _ in range(power):
                term = _interval_product(term, _atom_bounds(atom))
        term = _interval_product(term, (float(coefficient), float(coefficient)))
        low, high = low + term[0], high + term[1]
    return low, high


@lru_cache(maxsize=65_536)
def _symbols(value: Sym) -> frozenset[Symbol]:
    found: set[Symbol] = set()
    for monomial, _ in value.terms:
        for atom, _ in monomial:
            if isinstance(atom, Symbol):
                found.add(atom)
            elif isinstance(atom, Floor):
                found |= symbols_of(atom.over) | symbols_of(atom.under)
            else:
                found |= frozenset().union(*(symbols_of(arg) for arg in atom.args))
    return frozenset(found)


def symbols_of(value: object) -> frozenset[Symbol]:
    """Every symbol in a number, or in nested tuples, lists and dicts of numbers."""
    if isinstance(value, Sym):
        return _symbols(value)
    if isinstance(value, tuple | list):
        return frozenset().union(*(symbols_of(item) for item in value))
    if isinstance(value, dict):
        return symbols_of(list(value.values()))
    return frozenset()


def constant_of(value: Number) -> Plain:
    """The number's part that depends on no symbol."""
    if not isinstance(value, Sym):
        return value
    return next((coefficient for monomial, coefficient in value.terms if not monomial), 0)


def is_whole(value: Sym) -> bool:
    """Whether the form is a whole number for all whole values of its symbols."""
    plain = all(isinstance(coefficient, int) for _, coefficient in value.terms)
    ratio = any(isinstance(atom, Function) and atom.name == "/" for term, _ in value.terms for atom, _ in term)
    return plain and not ratio and all(symbol.whole for symbol in _symbols(value))


def concrete(value: Number) -> Plain:
    """The plain number, or :class:`Undecided` with the symbols that stand in the way."""
    if isinstance(value, Sym):
        raise Undecided(symbols_of(value))
    return value


def whole(value: Number) -> int:
    """The plain whole number; :class:`Undecided` if symbols stand in the way, ``ValueError`` if it is none."""
    plain = concrete(value)
    if plain != int(plain):
        raise ValueError(f"{show(value)} is not a whole number")
    return int(plain)


def substitute(value: Number, values: Mapping[Symbol, Number]) -> Number:
    """The number with every symbol in ``values`` replaced, simplified anew."""
    if not isinstance(value, Sym):
        return value
    given = {symbol: values[symbol] for symbol in _symbols(value) if symbol in values}
    return _substitute(value.exact, frozen(given)) if given else value


Frozen: TypeAlias = "tuple[tuple[Symbol, Any], ...]"


def frozen(values: Mapping[Symbol, Number]) -> Frozen:
    """Values of symbols as a key, which :func:`thawed` turns back into them."""
    return tuple(
        [(symbol, value.exact if isinstance(value, Sym) else (value, type(value))) for symbol, value in values.items()]
    )


def thawed(key: Frozen) -> dict[Symbol, Number]:
    """The values that a key was made of."""
    return {symbol: item.form if isinstance(item, Exact) else item[0] for symbol, item in key}


@lru_cache(maxsize=65_536)
def _substitute(exact: Exact, given: Frozen) -> Number:
    values = thawed(given)
    result: Number = 0
    for monomial, coefficient in exact.form.terms:
        term: Number = coefficient
        for atom, exponent in monomial:
            factor = _substitute_atom(atom, values)
            if exponent != 1:
                factor = power(factor, exponent)
            term = factor if type(term) is int and term == 1 else term * factor
        result = term if type(result) is int and result == 0 else result + term
    return result


def evaluate(value: Number, values: Mapping[Symbol, Plain]) -> Plain:
    """The plain number at these values, which must be all that it depends on; quicker than :func:`substitute`."""
    if not isinstance(value, Sym):
        return value
    total: Any = 0
    for monomial, coefficient in value.terms:
        term: Any = coefficient
        for atom, exponent in monomial:
            term *= _evaluate_atom(atom, values) ** exponent
        total += term
    return total  # type: ignore[no-any-return]


def _evaluate_atom(atom: Atom, values: Mapping[Symbol, Plain]) -> Any:
    if isinstance(atom, Symbol):
        return values[atom]
    if isinstance(atom, Floor):
        return evaluate(atom.over, values) // evaluate(atom.under, values)
    return _apply(atom.name, [evaluate(arg, values) for arg in atom.args])


class Column:
    """Evaluates forms of one symbol at many values, what they share once."""

    def __init__(self, symbol: Symbol, values: Sequence[int]) -> None:
        self.values = values
        self.known: dict[Atom, list[Any]] = {symbol: list(values)}

    def of(self, value: Number) -> list[Any]:
        """The form's value at each of the values."""
        if not isinstance(value, Sym):
            return [value] * len(self.values)
        total: list[Any] = [0] * len(self.values)
        for monomial, coefficient in value.terms:
            term = [coefficient] * len(self.values)
            for atom, exponent in monomial:
                column = self._atom(atom)
                factors = column if exponent == 1 else [item**exponent for item in column]
                term = list(map(operator.mul, term, factors))
            total = list(map(operator.add, total, term))
        return total

    def _atom(self, atom: Atom) -> list[Any]:
        if atom not in self.known:
            if isinstance(atom, Floor):
                made = list(map(operator.floordiv, self.of(atom.over), self.of(atom.under)))
            else:
                assert isinstance(atom, Function)
                made = [_apply(atom.name, list(args)) for args in zip(*map(self.of, atom.args), strict=True)]
            self.known[atom] = made
        return self.known[atom]


def _substitute_atom(atom: Atom, values: Mapping[Symbol, Number]) -> Number:
    if isinstance(atom, Symbol):
        return values[atom] if atom in values else _atom(atom)
    if isinstance(atom, Floor):
        return substitute(atom.over, values) // substitute(atom.under, values)
    return _apply(atom.name, [substitute(arg, values) for arg in atom.args])


def _apply(name: str, args: list[Number]) -> Number:
    functions: dict[str, Callable[..., Number]] = {
        "max": maximum,
        "min": minimum,
        "pow": power,
        "/": lambda over, under: over / under,
    }
    return functions[name](*args)


def show(value: object) -> str:
    """The number as a person writes it in Python: ``2 * width``, ``skip_channels + channels``."""
    if isinstance(value, Fraction):
        return str(value.numerator) if value.denominator == 1 else f"{value.numerator} / {value.denominator}"
    if not isinstance(value, Sym):
        return repr(value)
    pieces: list[tuple[bool, str]] = []
    for monomial, coefficient in value.terms:
        size = -coefficient if coefficient < 0 else coefficient
        pieces.append((coefficient < 0, _show_term(monomial, size)))
    pieces.sort(key=lambda piece: piece[0])  # stable: a sum starts with what is added
    negative, text = pieces[0]
    if negative:
        text = f"-({text})" if " // " in text and len(value.terms[0][0]) == 1 else f"-{text}"
    return text + "".join(f" {'-' if minus else '+'} {piece}" for minus, piece in pieces[1:])


def _show_term(monomial: Monomial, coefficient: Plain) -> str:
    factors = [_show_atom(atom, power) for atom, power in monomial]
    if not factors:
        return show(coefficient)
    quotient = ""
    if isinstance(coefficient, Fraction):
        quotient = f" / {coefficient.denominator}" if coefficient.denominator != 1 else ""
        coefficient = coefficient.numerator
    if coefficient != 1:
        factors.insert(0, show(coefficient))
    if len(factors) > 1 or quotient:
        factors = [f"({factor})" if " // " in factor or " / " in factor else factor for factor in factors]
    return " * ".join(factors) + quotient


def _show_atom(atom: Atom, power: int) -> str:
    if isinstance(atom, Symbol):
        text = atom.name
    elif isinstance(atom, Floor):
        over = show(atom.over)  # a product before // needs no parentheses
        plain = isinstance(atom.over, Sym) and len(atom.over.terms) == 1 and " / " not in over and " // " not in over
        text = f"{over if plain else _grouped(atom.over)} // {_grouped(atom.under)}"
    elif atom.name in ("pow", "/"):
        operator = "**" if atom.name == "pow" else " / "
        text = operator.join(_grouped(arg) for arg in atom.args)
    else:
        text = f"{atom.name}({', '.join(show(arg) for arg in atom.args)})"
    if power == 1:
        return text
    return f"{text}**{power}" if text.isidentifier() else f"({text})**{power}"


def _grouped(value: Number) -> str:
    text = show(value)
    return text if text.isidentifier() or text.isdigit() else f"({text})"


def _parts(atom: Atom) -> list[Sym]:
    """The forms inside an atom."""
    if isinstance(atom, Symbol):
        return []
    args = (atom.over, atom.under) if isinstance(atom, Floor) else atom.args
    return [arg for arg in args if isinstance(arg, Sym)]


def _terms(value: Number) -> tuple[tuple[Monomial, Plain], ...]:
    if isinstance(value, Sym):
        return value.terms
    return (((), value),) if value else ()


def _atom(atom: Atom) -> Sym:
    return Sym(((((atom, 1),), 1),))


def _total(terms: Iterable[tuple[Monomial, Plain]]) -> Number:
    merged: dict[frozenset[tuple[Atom, int]], tuple[Monomial, Plain]] = {}
    for monomial, coefficient in terms:
        key = frozenset(monomial)
        held = merged.get(key)
        merged[key] = (held[0], held[1] + coefficient) if held else (monomial, coefficient)
    left = [(monomial, _whole(coefficient)) for monomial, coefficient in merged.values() if coefficient]
    if not left:
        return 0
    if len(left) == 1 and not left[0][0]:
        return left[0][1]
    return Sym(tuple(left))


def _product(left: Number, right: Number) -> Number:
    result = []
    a, b = _terms(left), _terms(right)
    if len(a) * len(b) > MAX_TERMS:
        raise TooLarge("the form has too many terms")
    for first, first_coefficient in a:
        for second, second_coefficient in b:
            powers = dict(first)
            for atom, power in second:
                powers[atom] = powers.get(atom, 0) + power
            if sum(powers.values()) > MAX_DEGREE:
                raise TooLarge("the form is of too high a degree")
            result.append((tuple(powers.items()), first_coefficient * second_coefficient))
    return _total(result)


def _whole(value: Plain) -> Plain:
    if isinstance(value, Fraction) and value.denominator == 1:
        value = value.numerator
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise TooLarge("the number is too large")
    return value


def _divide(over: Number, under: Number) -> Number:
    if under == 0:
        raise ZeroDivisionError("division by zero")
    if over == under:
        return 1
    return _atom(Function("/", (over, under)))


def _floor(over: Number, under: Number) -> Number:
    if under == 0:
        raise ZeroDivisionError("division by zero")
    if over == under:
        return 1
    if not isinstance(under, int) or under < 0:
        if isinstance(under, int):
            return _floor(-over, -under)
        return _atom(Floor(over, under))
    if under == 1 and all(isinstance(coefficient, int) for _, coefficient in _terms(over)):
        return over
    shared = math.lcm(*(item.denominator for _, item in _terms(over) if isinstance(item, Fraction)))
    if shared > 1:
        return _floor(over * shared, under * shared)
    outside: list[tuple[Monomial, Plain]] = []
    inside: list[tuple[Monomial, Plain]] = []
    constant: Plain = 0
    for monomial, coefficient in _terms(over):
        if not isinstance(coefficient, int):
            return _atom(Floor(over, under))
        if not monomial:
            constant = coefficient
        elif coefficient % under == 0:
            outside.append((monomial, coefficient // under))
        else:
            inside.append((monomial, coefficient))
    whole, constant = divmod(constant, under)
    outside.append(((), whole))
    if not inside:
        return _total(outside)
    shared = math.gcd(under, *(int(coefficient) for _, coefficient in inside))
    inside = [(monomial, int(coefficient) // shared) for monomial, coefficient in inside]
    constant, under = int(constant) // shared, under // shared
    if len(inside) == 1 and inside[0][1] == 1 and len(inside[0][0]) == 1:
        atom, power = inside[0][0][0]
        if power == 1 and isinstance(atom, Floor) and isinstance(atom.under, int):
            return _total(outside) + _floor(atom.over + constant * atom.under, atom.under * under)
    remainder = _total([*inside, ((), constant)])
    return _total(outside) + _atom(Floor(remainder, under))


def _extreme(name: str, values: tuple[Number, ...]) -> Number:
    if not values:
        raise ValueError(f"{name}() of nothing")
    kept: list[Number] = []
    better = ">=" if name == "max" else "<="
    for value in values:
        if any(_surely(better, other, value) for other in kept):
            continue
        kept = [other for other in kept if not _surely(better, value, other)]
        kept.append(value)
    return kept[0] if len(kept) == 1 else _atom(Function(name, tuple(kept)))


def _surely(operator: str, left: Number, right: Number) -> bool:
    try:
        return compare(operator, left, right)
    except Undecided:
        return False


def _atom_bounds(atom: Atom) -> tuple[float, float]:
    if isinstance(atom, Symbol):
        return atom.low, atom.high
    if isinstance(atom, Floor):
        if isinstance(atom.under, int) and atom.under > 0:
            low, high = bounds(atom.over)
            return _floored(low, atom.under), _floored(high, atom.under)
        return -math.inf, math.inf
    if atom.name in ("max", "min"):
        choose = max if atom.name == "max" else min
        pairs = [bounds(arg) for arg in atom.args]
        return choose(low for low, _ in pairs), choose(high for _, high in pairs)
    return -math.inf, math.inf


def _floored(value: float, under: int) -> float:
    return math.floor(value / under) if math.isfinite(value) else value


def _interval_product(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    products = [0.0 if 0 in (x, y) else x * y for x in a for y in b]
    return min(products), max(products)
