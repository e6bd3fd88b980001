"""What is in a checkpoint, and how two of them differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from segspec.weights.tensors import Tensor


@dataclass(frozen=True)
class Statistics:
    """One tensor: its type and shape, and what its finite elements are; none of these if there are none."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    least: float | None
    greatest: float | None
    mean: float | None
    deviation: float | None
    nonfinite: int


def statistics(tensor: Tensor) -> Statistics:
    """A tensor's statistics, computed in float64 over its finite elements."""
    count, total, squares, nonfinite = 0, 0.0, 0.0, 0
    least, greatest = math.inf, -math.inf
    for piece in tensor.numbers():
        finite = piece[np.isfinite(piece)]
        nonfinite += piece.size - finite.size
        if finite.size:
            numbers = finite.astype(np.float64)
            least, greatest = min(least, float(numbers.min())), max(greatest, float(numbers.max()))
            # Chan, Golub, LeVeque (1979): the squares about the mean, piece by piece.
            mean = float(numbers.mean())
            shift = mean - total / count if count else 0.0
            squares += float(np.square(numbers - mean).sum()) + shift**2 * count * finite.size / (count + finite.size)
            total, count = total + mean * finite.size, count + finite.size
    if not count:
        return Statistics(tensor.key, tensor.dtype, tensor.shape, None, None, None, None, nonfinite)
    deviation = math.sqrt(squares / count)
    return Statistics(tensor.key, tensor.dtype, tensor.shape, least, greatest, total / count, deviation, nonfinite)


@dataclass(frozen=True)
class Difference:
    """How one tensor differs: ``what`` in words; the errors where both have it in one shape, in float64.

    ``relative`` is ‖a − b‖ / ‖a‖, infinite where only one side is finite.
    """

    key: str
    what: str
    absolute: float | None = None
    relative: float | None = None


def differences(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Iterator[Difference]:
    """Each tensor in which two checkpoints differ, by key; what only one has, other shapes, other values."""
    for key, tensor in first.items():
        other = second.get(key)
        if other is None:
            yield Difference(key, "only in the first")
        elif other.shape != tensor.shape:
            shapes = ["×".join(map(str, shape)) or "a single number" for shape in (tensor.shape, other.shape)]
            yield Difference(key, f"{shapes[0]} and {shapes[1]}")
        else:
            yield from _values(key, tensor, other)
    yield from (Difference(key, "only in the second") for key in second if key not in first)


def _values(key: str, first: Tensor, second: Tensor) -> Iterator[Difference]:
    absolute, squares, norm = 0.0, 0.0, 0.0
    equal = True
    for one, other in zip(first.numbers(), second.numbers(), strict=True):
        same = (one == other) | ((one != one) & (other != other))
        if same.all():
            norm += float(np.square(one.astype(np.float64)).sum())
            continue
        equal = False
        a, b = one.astype(np.float64), other.astype(np.float64)
        with np.errstate(invalid="ignore"):
            gap = np.where(same, 0.0, np.abs(a - b))
        gap[np.isnan(gap)] = math.inf
        absolute = max(absolute, float(gap.max()))
        squares, norm = squares + float(np.square(gap).sum()), norm + float(np.square(a[np.isfinite(a)]).sum())
    if not equal:
        relative = math.sqrt(squares / norm) if norm else math.inf
        yield Difference(key, "other values", absolute, relative)
    elif first.dtype != second.dtype:
        yield Difference(key, f"{first.dtype} and {second.dtype}, equal values", 0.0, 0.0)
