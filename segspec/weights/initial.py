"""Fresh weights: the declared initialisers drawn by NumPy, so that every framework starts from the same bits.

A tensor's values follow from the seed and its path alone: not from the order of the tensors, nor from what else the
network holds. They are float32, in canonical layout; statistics and given tensors stand at their defaults.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segspec.graph.model import Graph
from segspec.ops.laws import Gaussian, Interval, Point
from segspec.weights import seeded
from segspec.weights.state import Entry, entries


def draw(graph: Graph, seed: int) -> Iterator[tuple[Entry, np.ndarray]]:
    """Every tensor of the network's state with its fresh values, in the order of execution, one at a time.

    The array is of ``entry.shape`` and float32, and nothing here holds on to it. A writer with an order of its own
    takes :func:`~segspec.weights.state.entries` for the file's header, and :func:`values` of each when it comes to it.
    """
    for entry in entries(graph):
        yield entry, values(entry, seed)


def values(entry: Entry, seed: int) -> np.ndarray:
    """The fresh values of one tensor."""
    if isinstance(entry.law, Point):
        return np.full(entry.shape, entry.law.value, np.float32)
    if entry.law is None:
        return bilinear(entry.shape)
    generator = seeded.generator(f"start {seed} {entry.name}")
    match entry.law:
        case Gaussian(mean, std):
            drawn = generator.standard_normal(entry.shape, np.float32)
            drawn *= np.float32(std)
            drawn += np.float32(mean)
        case Interval(low, high):
            drawn = generator.random(entry.shape, np.float32)
            drawn *= np.float32(high - low)
            drawn += np.float32(low)
    return drawn


def bilinear(shape: tuple[int, ...]) -> np.ndarray:
    """The (in, out / groups, kH, kW) weight that enlarges each channel by itself (Long, Shelhamer, Darrell 2015).

    In float32 throughout, as the frameworks compute it: their thirds and fifths are these.
    """
    rows, columns = (1 - np.abs(np.arange(k, dtype=np.float32) - (k - 1) / 2) / ((k + 1) // 2) for k in shape[2:])
    filled = np.zeros(shape, np.float32)
    channels = np.arange(shape[0])
    filled[channels, channels % shape[1]] = np.outer(rows, columns)
    return filled
