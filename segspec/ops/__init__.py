"""The vocabulary: every op, declared once. Importing this package fills :data:`OPS`."""

from segspec.ops import (
    activation,
    combination,
    convolution,
    normalization,
    pooling,
    regularization,
    reshaping,
    resizing,
)
from segspec.ops.base import OPS, Op, Require, Shape, Slot

__all__ = [
    "OPS",
    "Op",
    "Require",
    "Shape",
    "Slot",
    "activation",
    "combination",
    "convolution",
    "normalization",
    "pooling",
    "regularization",
    "reshaping",
    "resizing",
]
