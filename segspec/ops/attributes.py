"""The types that an op's attributes can have: what an author may write, and what it then means.

Each alias (:data:`Count`, :data:`Pair`, …) is the static type of the resolved value together with a
:class:`Kind`, which says how the value reads in YAML and checks it. A number may be symbolic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, ClassVar, TypeAlias, get_args, get_type_hints

from segspec.algebra.symbols import Number, Sym, bounds, is_whole, show
from segspec.errors import shown

Written: TypeAlias = bool | int | float | str
"""What stands in YAML where one value is expected: a literal, or the text of an expression."""


@dataclass(frozen=True)
class Kind:
    """How one type of attribute is written and read."""

    expected: str
    read: Callable[[Any], Any]
    written: Any = Written
    word: bool = False
    """Whether its text is a word rather than an expression."""

    known: bool = False
    """Whether the code's form depends on it, so that it must have a value when the code is written."""

    named: bool = False
    """Whether it is a mapping from names to values."""

    plural: bool = False
    """Whether it is a list of any length, which equal items do not shorten to one."""

    reference: bool = False
    """Whether it names a node, which comes after the op's own inputs."""

    pads: ClassVar[str] = "one amount, [height, width] or [top, bottom, left, right]"
    factors: ClassVar[str] = "a number or [height, width]"


def kind_of(owner: type, name: str) -> Kind:
    """The kind of an attribute of an op class."""
    hints = _hints(owner)
    for part in (hints[name], *get_args(hints[name])):
        for item in getattr(part, "__metadata__", ()):
            if isinstance(item, Kind):
                return item
    raise TypeError(f"{owner.__name__}.{name} is declared without a kind")


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(owner: type) -> dict[str, Any]:
    if owner not in _HINTS:
        _HINTS[owner] = get_type_hints(owner, include_extras=True)
    return _HINTS[owner]


LARGEST = 2**31 - 1
"""The largest size that every framework can count to."""


def whole(minimum: int | None) -> Callable[[Any], Number]:
    """A reader of whole numbers of at least ``minimum``."""

    def read(value: Any) -> Number:
        if isinstance(value, bool):
            raise ValueError(f"expected a whole number, found {shown(value)}")
        if isinstance(value, float | Fraction) and math.isfinite(value) and value == int(value):
            value = int(value)
        if isinstance(value, Sym) and not is_whole(value):
            raise ValueError(f"expected a whole number, found {shown(value)}: use // to divide")
        if not isinstance(value, int | Sym):
            raise ValueError(f"expected a whole number, found {shown(value)}")
        if minimum is not None and bounds(value)[1] < minimum:
            raise ValueError(f"expected at least {minimum}, found {shown(value)}")
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError(f"expected at most {LARGEST:,}, found {shown(value)}")
        return value

    return read


def _real(low: float | None = None, high: float | None = None) -> Callable[[Any], Number]:
    def read(value: Any) -> Number:
        if isinstance(value, bool) or not isinstance(value, int | float | Fraction | Sym):
            raise ValueError(f"expected a number, found {shown(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"expected a finite number, found {shown(value)}")
        if isinstance(value, Fraction):
            value = float(value)
        if low is not None and bounds(value)[1] < low:
            raise ValueError(f"expected at least {low}, found {shown(value)}")
        if high is not None and bounds(value)[0] > high:
            raise ValueError(f"expected at most {high}, found {shown(value)}")
        return value  # type: ignore[no-any-return]

    return read


def _flag(value: Any) -> bool | Sym:
    if not isinstance(value, bool | Sym):
        raise ValueError(f"expected true or false, found {shown(value)}")
    return value


def _known(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A reader of what must have a value when the code is written."""

    def held(value: Any) -> Any:
        if isinstance(value, Sym):
            raise ValueError(f"the code's form depends on it, so it cannot be the parameter {show(value)}")
        return read(value)

    return held


def _factor(value: Any) -> Number:
    if isinstance(value, Sym) and not is_whole(value):
        raise ValueError(f"only a whole scale can be a parameter, and {show(value)} may have a fraction")
    return _real(0)(value)


def _tuple(item: Callable[[Any], Number], *lengths: int) -> Callable[[Any], tuple[Number, ...]]:
    def read(value: Any) -> tuple[Number, ...]:
        if not isinstance(value, list | tuple):
            return (item(value),) * lengths[0]
        if len(value) not in lengths:
            allowed = " or ".join(map(str, lengths))
            raise ValueError(f"expected one number or a list of {allowed}, found {len(value)} items")
        return tuple(item(part) for part in value)

    return read


def _sides(item: Callable[[Any], Number]) -> Callable[[Any], tuple[Number, ...]]:
    def read(value: Any) -> tuple[Number, ...]:
        sides = _tuple(item, 2, 4)(value)
        return sides if len(sides) == 4 else (sides[0], sides[0], sides[1], sides[1])

    return read


def choice(*words: str) -> Kind:
    """The kind of an attribute that is one of these words."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"expected one of {', '.join(words)}, found {shown(value)}")
        return str(value)

    return Kind(" or ".join(words), read, str, word=True)


def _reference(value: Any) -> str:
    return str(value)


def _sizes(value: Any) -> tuple[Number, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"expected a list of sizes, found {shown(value)}")
    return tuple(whole(1)(item) for item in value)


def _axes(value: Any) -> tuple[int, ...]:
    axes = value if isinstance(value, list | tuple) else [value]
    if not axes:
        raise ValueError("expected an axis or a list of axes, found none")
    return tuple(whole(None)(axis) for axis in axes)  # type: ignore[misc]  # known, so no symbol


def _numbers(value: Any) -> Any:
    """Numbers in lists of equal length, as tuples."""
    if isinstance(value, list | tuple):
        items = tuple(map(_numbers, value))
        if not items or len({_lengths(item) for item in items}) > 1:
            raise ValueError("expected numbers in lists of equal lengths")
        return items
    return float(_real()(value))  # type: ignore[arg-type]  # known, so no symbol


def _lengths(value: Any) -> tuple[int, ...]:
    return (len(value), *_lengths(value[0])) if isinstance(value, tuple) else ()


def _lengths_by_name(value: Any) -> tuple[tuple[str, Number], ...]:
    if not isinstance(value, dict):
        raise ValueError(f"expected names and their lengths, found {shown(value)}")
    return tuple((str(name), whole(1)(length)) for name, length in value.items())


_LIST = Written | list[Written]

Count: TypeAlias = Annotated[Number, Kind("a whole number of at least 1", whole(1))]
Natural: TypeAlias = Annotated[Number, Kind("a whole number of at least 0", whole(0))]
Axis: TypeAlias = Annotated[int, Kind("a whole number", _known(whole(None)), known=True)]
Real: TypeAlias = Annotated[Number, Kind("a number", _real())]
Positive: TypeAlias = Annotated[Number, Kind("a number of at least 0", _real(0))]
Probability: TypeAlias = Annotated[Number, Kind("a number from 0 to 1", _real(0, 1))]
Flag: TypeAlias = Annotated[bool | Sym, Kind("true or false", _flag)]
Switch: TypeAlias = Annotated[bool, Kind("true or false", _known(_flag), known=True)]
Pair: TypeAlias = Annotated[
    tuple[Number, Number], Kind("a whole number or [height, width]", _tuple(whole(1), 2), _LIST)
]
Margin: TypeAlias = Annotated[
    tuple[Number, Number], Kind("a whole number or [height, width]", _tuple(whole(0), 2), _LIST)
]
Factor: TypeAlias = Annotated[tuple[Number, Number], Kind(Kind.factors, _tuple(_factor, 2), _LIST)]
Sides: TypeAlias = Annotated[tuple[Number, Number, Number, Number], Kind(Kind.pads, _sides(whole(0)), _LIST)]
Sizes: TypeAlias = Annotated[tuple[Number, ...], Kind("a list of sizes", _sizes, _LIST, plural=True)]
Axes: TypeAlias = Annotated[
    tuple[int, ...], Kind("an axis or a list of axes", _known(_axes), _LIST, known=True, plural=True)
]
Values: TypeAlias = Annotated[Any, Kind("numbers in nested lists", _known(_numbers), known=True, plural=True)]
Lengths: TypeAlias = Annotated[
    tuple[tuple[str, Number], ...], Kind("the lengths of axes by name", _lengths_by_name, named=True, plural=True)
]
Pattern: TypeAlias = Annotated[str, Kind("a pattern such as 'n c h w -> n (h w) c'", _reference, str, word=True)]
Node: TypeAlias = Annotated[str, Kind("a node's name", _reference, str, word=True, reference=True)]
