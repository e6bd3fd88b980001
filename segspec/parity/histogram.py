"""How errors are distributed: counts by power of ten, beside the limits that hold for them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from segspec.parity.compare import Comparison

WIDTH, HEIGHT = 340, 150
LEFT, TOP, BOTTOM = 10, 22, 34
"""The picture's size and the margins of its bars, in pixels."""


@dataclass(frozen=True)
class Bar:
    """The errors of one power of ten: how many agree and how many differ, and where they are drawn."""

    name: str
    label: str
    centred: bool
    fine: int
    wrong: int
    x: float
    width: float
    fine_height: float
    wrong_height: float
    top: float


@dataclass(frozen=True)
class Histogram:
    """One check's; ``limits`` are where the smallest and the largest limit are drawn."""

    check: str
    dtype: str
    count: int
    wrong: int
    gates: bool
    text: str
    bars: tuple[Bar, ...]
    limits: tuple[float, float]
    limits_text: str
    limits_x: float
    base: float = HEIGHT - BOTTOM
    size: tuple[int, int] = (WIDTH, HEIGHT)


def histograms(comparisons: Sequence[Comparison]) -> list[Histogram]:
    """A histogram for every check and dtype."""
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for item in comparisons:
        groups.setdefault((item.check, item.dtype), []).append(item)
    return [_histogram(check, dtype, held) for (check, dtype), held in groups.items()]


def _histogram(check: str, dtype: str, held: Sequence[Comparison]) -> Histogram:
    errors = [item.error for item in held if item.error and math.isfinite(item.error)]
    limits = [item.limit for item in held if item.limit > 0]
    decades = [*map(_decade, errors), *map(_decade, limits)] or [0]
    span = range(min(decades), max(decades) + 1)
    slots: list[int | str] = ["equal", *span, "none"]
    fine = Counter(_slot(item) for item in held if item.ok)
    wrong = Counter(_slot(item) for item in held if not item.ok)
    counts = fine + wrong
    slots = [slot for slot in slots if not isinstance(slot, str) or counts[slot]]
    width = (WIDTH - 2 * LEFT) / len(slots)
    tallest = max(counts.values())
    bars = tuple(
        _bar(slot, fine[slot], wrong[slot], LEFT + index * width, width, tallest) for index, slot in enumerate(slots)
    )
    start = LEFT + width * (slots[0] == "equal")

    def place(limit: float) -> float:
        return start + width * (math.log10(limit) - span.start)

    marks = (place(min(limits)), place(max(limits))) if limits else (0.0, 0.0)
    # The text stays inside the picture.
    middle_of_limits = min(max(sum(marks) / 2, 70.0), WIDTH - 70.0)
    text = "limit" if not limits else f"limit {min(limits):.1e}"
    text += f" to {max(limits):.1e}" if limits and max(limits) > min(limits) else ""
    middle = f"median {sorted(errors)[len(errors) // 2]:.1e}, largest {max(errors):.1e}" if errors else "all equal"
    gates = any(item.gates for item in held)
    return Histogram(check, dtype, len(held), wrong.total(), gates, middle, bars, marks, text, middle_of_limits)


def _decade(value: float) -> int:
    return math.floor(math.log10(value))


def _slot(item: Comparison) -> int | str:
    if item.error is None or not math.isfinite(item.error):
        return "none"
    return _decade(item.error) if item.error else "equal"


def _bar(slot: int | str, fine: int, wrong: int, x: float, width: float, tallest: int) -> Bar:
    full = HEIGHT - TOP - BOTTOM
    # What is there at all is seen.
    fine_height, wrong_height = (max(3.0, full * count / tallest) if count else 0.0 for count in (fine, wrong))
    top = HEIGHT - BOTTOM - fine_height - wrong_height
    # Labels of neighbours would touch.
    label = slot if isinstance(slot, str) else f"{slot}".replace("-", "−") if width > 24 or slot % 3 == 0 else ""
    name = {"equal": "no error at all", "none": "no error to say"}.get(str(slot), f"from 1e{slot}")
    return Bar(name, label, isinstance(slot, str), fine, wrong, x, width, fine_height, wrong_height, top)
