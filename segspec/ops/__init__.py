"""The vocabulary: every op, declared once. Importing this package fills :data:`OPS`."""

from segspec.ops import (
    activation,
    combination,
    contraction,
    convolution,
    elementwise,
    normalization,
    pooling,
    reduction,
    regularization,
    reshaping,
    resizing,
    tensors,
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
    "contraction",
    "convolution",
    "elementwise",
    "normalization",
    "pooling",
    "reduction",
    "regularization",
    "reshaping",
    "resizing",
    "tensors",
]
