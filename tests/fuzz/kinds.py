"""What may stand in an attribute: one strategy for each kind of attribute that ops declare.

The ranges hold what networks use, its edges, and what is beyond: dilations larger than the map, padding that leaves
more border than map. Numbers repeat others of the node or the input's sizes, since that is where rules meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

from hypothesis import strategies as st

from segspec.ops import attributes
from segspec.ops.attributes import Kind

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[Any]], Any]
Shape = tuple[int, ...]


def drawn(draw: Draw, kind: Kind, shape: Shape, seen: list[int]) -> Any:
    """A value of a kind, for an op that reads a tensor of this shape; ``seen`` are the node's numbers so far."""
    if words := words_of(kind):
        return draw(st.sampled_from(words))
    return _KINDS[_name(kind)](draw, shape, seen)


def words_of(kind: Kind) -> list[str]:
    """The words of a choice; none for any other kind."""
    return kind.expected.split(" or ") if kind.word and not kind.reference and not is_pattern(kind) else []


def is_pattern(kind: Kind) -> bool:
    """Whether it is a pattern of axes, which is drawn together with what its op reads."""
    return any(part is kind for part in get_args(attributes.Pattern))


def _name(kind: Kind) -> str:
    """The name of the alias in :mod:`segspec.ops.attributes` whose kind this is."""
    for name, alias in vars(attributes).items():
        if any(part is kind for part in get_args(alias)):
            return name
    raise LookupError(f"no strategy draws {kind.expected}")


def _one(draw: Draw, items: Sequence[T]) -> T:
    return draw(st.sampled_from(items))  # type: ignore[no-any-return]


def _count(draw: Draw, shape: Shape, seen: list[int]) -> int:
    channels = shape[1] if len(shape) > 1 else 1
    return _noted(_one(draw, [1, 2, 3, 4, 5, 6, channels, channels, 2 * channels, *seen]), seen)


def _small(draw: Draw, seen: list[int], values: Sequence[int]) -> int:
    return _noted(_one(draw, [*values, *seen]), seen)


def _noted(value: int, seen: list[int]) -> int:
    if value not in seen:
        seen.append(value)
    return value


def _pair(draw: Draw, seen: list[int], values: Sequence[int]) -> int | list[int]:
    first = _small(draw, seen, values)
    return first if draw(st.integers(0, 2)) < 2 else [first, _small(draw, seen, values)]


def _sides(draw: Draw, shape: Shape, seen: list[int]) -> int | list[int]:
    values = (1, 0, 2, 3, 6, 12)
    return _pair(draw, seen, values) if draw(st.integers(0, 3)) < 3 else [_small(draw, seen, values) for _ in range(4)]


def _axes(draw: Draw, shape: Shape, seen: list[int]) -> int | list[int]:
    rank = max(len(shape), 1)
    found = draw(st.lists(st.integers(-rank, rank - 1), min_size=1, max_size=3, unique_by=lambda axis: axis % rank))
    return found[0] if len(found) == 1 and draw(st.booleans()) else found


def _sizes(draw: Draw, shape: Shape, seen: list[int]) -> list[int]:
    """Sizes that meet the tensor's: its own without the first, some of them 1."""
    kept = [1 if axis in (0, 2, 3) or draw(st.booleans()) else size for axis, size in enumerate(shape)]
    return (
        kept
        if draw(st.integers(0, 3)) < 3
        else [_one(draw, [1, 2, 3, 5, *shape]) for _ in range(_one(draw, (2, 1, 3, 4)))]
    )


def _values(draw: Draw, shape: Shape, seen: list[int]) -> Any:
    def filled(sizes: Sequence[int]) -> Any:
        return [filled(sizes[1:]) for _ in range(sizes[0])] if sizes else _one(draw, (0.5, -1.0, 2.25, 3.0, -0.75, 1))

    sizes = _sizes(draw, shape, seen)
    return filled(sizes if math.prod(sizes) <= 24 else [1] * len(sizes))


_NUMBERS = (0.5, 1, -1, 2, 0.1, -0.25, 3, 1.5, 0, -2.0)

_KINDS: dict[str, Callable[[Draw, Shape, list[int]], Any]] = {
    "Count": _count,
    "Natural": lambda draw, shape, seen: _small(draw, seen, (0, 1, 2, 3)),
    "Axis": lambda draw, shape, seen: _one(draw, list(range(-len(shape), len(shape))) or [0]),
    "Real": lambda draw, shape, seen: _one(draw, _NUMBERS),
    "Positive": lambda draw, shape, seen: _one(draw, (1e-5, 1e-3, 0.1, 1e-2, 1, 1e-7)),
    "Probability": lambda draw, shape, seen: _one(draw, (0.5, 0.1, 0.3, 0, 1, 0.9)),
    "Flag": lambda draw, shape, seen: draw(st.booleans()),
    "Switch": lambda draw, shape, seen: draw(st.booleans()),
    "Pair": lambda draw, shape, seen: _pair(draw, seen, (1, 2, 3, 3, 4, 5, 7, 12, 30, *shape[2:])),
    "Margin": lambda draw, shape, seen: _pair(draw, seen, (0, 1, 2, 3)),
    "Factor": lambda draw, shape, seen: _factor(draw),
    "Sides": _sides,
    "Sizes": _sizes,
    "Axes": _axes,
    "Values": _values,
}


def _factor(draw: Draw) -> Any:
    values = (2, 0.5, 1, 3, 0.25, 1.5, 4, 0.75, 2.3, 0.1)
    return _one(draw, values) if draw(st.booleans()) else [_one(draw, values), _one(draw, values)]


def pattern(
    draw: Draw, shapes: Sequence[Shape], *, splits: bool, maps: Sequence[Shape] = ()
) -> tuple[str, dict[str, int], Shape | None]:
    """A pattern of axes for these tensors: its text, the lengths it needs, and the map that gives h and w if one does.

    With ``splits`` every axis is kept, and axes may be split and joined; else the output lacks some.
    """
    spare = iter("abdefgijkmopqrstuvxyz")
    sizes: dict[str, int] = {}
    sides: list[list[str]] = []
    lengths: dict[str, int] = {}
    like: Shape | None = None
    for index, shape in enumerate(shapes):
        side: list[str] = []
        for axis, size in enumerate(shape):
            shared = [name for name, held in sizes.items() if held == size and name not in side]
            if index and shared and draw(st.integers(0, 9)) < 8:
                side.append(_one(draw, shared))
                continue
            own = {4: "nchw", 3: "ncl", 2: "nc"}.get(len(shape), "")
            name = own[axis] if index == 0 and own else next(spare)
            sizes[name] = size
            side.append(name)
        sides.append(side)
    names = list(dict.fromkeys(name for side in sides for name in side))
    left = [" ".join(side) for side in sides]
    if not all(left):
        return "", {}, None  # there is none for a number without axes
    if not splits:
        kept = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
        return f"{', '.join(left)} -> {' '.join(kept)}", {}, None
    parts: list[str] = []
    inner: list[str] = []
    for name in sides[0]:
        size = sizes[name]
        held = [shape for shape in maps if shape[2] * shape[3] == size and not {"h", "w"} & set(sides[0])]
        if size == 1 and draw(st.booleans()):
            parts.append("1")
        elif held and like is None and draw(st.booleans()):
            like = _one(draw, held)
            parts.append("(h w)")
            inner += ["h", "w"]
        elif size > 1 and draw(st.integers(0, 3)) == 3:
            under = _one(draw, [part for part in range(1, size + 1) if size % part == 0])
            other, given = next(spare), draw(st.booleans())
            lengths[other] = under
            parts.append(f"({other} {name})" if given else f"({name} {other})")
            inner += [name, other]
        else:
            parts.append(name)
            inner.append(name)
    order = draw(st.permutations(inner)) if inner else []
    right: list[str] = []
    while order:
        joined, order = order[: _one(draw, (1, 1, 1, 2, 3))], order[1 if len(order) == 1 else 0 :]
        order = [item for item in order if item not in joined]
        right.append(f"({' '.join(joined)})" if len(joined) > 1 else joined[0])
        if draw(st.integers(0, 9)) == 9:
            right.append("1")
    return f"{' '.join(parts)} -> {' '.join(right) or '1'}", lengths, like
