"""How errors are distributed: counts by power of ten, beside the limits that hold for them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segspec.parity.compare import Comparison
from segspec.parity.words import number

WIDTH, HEIGHT = 340, 150
SIDE, TOP, BOTTOM = 10, 24, 34
"""The picture's size and the margins of its bars, in pixels."""
EQUAL, NONE = "equal", "none"
"""Where errors are counted that have no power of ten: there is no difference, or nothing to compare."""
NARROW = 24
"""In bars of less than these pixels not every power of ten has its label."""


@dataclass(frozen=True)
class Bar:
    """The errors of one power of ten: how many agree and how many differ, and where they are drawn."""

    name: str
    x: float
    width: float
    fine: int
    wrong: int
    fine_height: float
    wrong_height: float

    @property
    def count(self) -> int:
        """All of them."""
        return self.fine + self.wrong


@dataclass(frozen=True)
class Limits:
    """Where the smallest and the largest limit are drawn, and where what they are is written."""

    text: str
    least: float
    most: float
    middle: float


@dataclass(frozen=True)
class Histogram:
    """The errors of one check in one dtype; ``ticks`` are labels and where they stand.

    A check that ``gates`` has a verdict; one that must be exact has no limit that could be drawn.
    """

    check: str
    dtype: str
    count: int
    wrong: int
    text: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[str, float], ...]
    limits: Limits | None
    gates: bool
    size: tuple[int, int] = (WIDTH, HEIGHT)
    base: int = HEIGHT - BOTTOM


def histograms(comparisons: Sequence[Comparison]) -> list[Histogram]:
    """A histogram for every check and dtype."""
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for item in comparisons:
        groups.setdefault((item.check, item.dtype), []).append(item)
    return [_histogram(check, dtype, held) for (check, dtype), held in groups.items()]


def _histogram(check: str, dtype: str, held: Sequence[Comparison]) -> Histogram:
    errors = sorted(item.error for item in held if item.error and math.isfinite(item.error))
    limits = [item.limit for item in held if item.gates and item.error is not None and item.limit]
    fine = Counter(_slot(item) for item in held if item.ok)
    wrong = Counter(_slot(item) for item in held if not item.ok)
    decades = [_decade(value) for value in [*errors, *limits]]
    span = list(range(min(decades), max(decades) + 1)) if decades else []
    slots: list[int | str] = [EQUAL] * (EQUAL in fine) + span + [NONE] * (NONE in wrong)
    width = (WIDTH - 2 * SIDE) / len(slots)
    tallest = max((fine + wrong).values())

    def height(count: int) -> float:
        # What is there at all is seen.
        return max(3.0, (HEIGHT - TOP - BOTTOM) * count / tallest) if count else 0.0

    bars = tuple(
        Bar(_name(slot), SIDE + index * width, width, fine[slot], wrong[slot], height(fine[slot]), height(wrong[slot]))
        for index, slot in enumerate(slots)
    )
    origin = SIDE + width * (slots[0] == EQUAL) - width * (span[0] if span else 0)
    text = f"median {number(errors[len(errors) // 2])}, largest {number(errors[-1])}" if errors else "no error at all"
    shown = _limits(limits, origin, width) if limits else None
    gates = any(item.gates for item in held)
    return Histogram(check, dtype, len(held), wrong.total(), text, bars, tuple(_ticks(slots, width)), shown, gates)


def _limits(limits: Sequence[float], origin: float, width: float) -> Limits:
    least, most = min(limits), max(limits)
    text = f"limit {number(least)}" + (f" to {number(most)}" if most > least else "")
    first, last = (origin + width * math.log10(limit) for limit in (least, most))
    # The text stays inside the picture.
    return Limits(text, first, last, min(max((first + last) / 2, 70.0), WIDTH - 70.0))


def _ticks(slots: Sequence[int | str], width: float) -> Iterator[tuple[str, float]]:
    """Powers of ten at the left edges of their bars, words below the middle of theirs."""
    for index, slot in enumerate(slots):
        if isinstance(slot, str):
            yield slot, SIDE + (index + 0.5) * width
        elif (width > NARROW or slot % 3 == 0) and EQUAL not in slots[max(index - 1, 0) : index]:
            yield str(slot).replace("-", "−"), SIDE + index * width


def _decade(value: float) -> int:
    return math.floor(math.log10(value))


def _slot(item: Comparison) -> int | str:
    if item.error is None or not math.isfinite(item.error):
        return NONE
    return _decade(item.error) if item.error else EQUAL


def _name(slot: int | str) -> str:
    return {EQUAL: "no error at all", NONE: "nothing to compare"}.get(str(slot), f"from 1e{slot}")
