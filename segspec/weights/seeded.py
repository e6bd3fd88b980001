"""Weights and inputs drawn by NumPy, each from its own name: the same for every backend and every run.

They are scaled so that activations stay near one, never zero and never symmetric, and rounded to float32,
so that float32 and float64 runs have the same weights to the bit.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from segspec.weights.state import Entry

GAIN = 8
"""How much larger weights are where batch normalisation follows.

It divides by √(variance + ε), and some frameworks round ε to float32. A deep network in train mode amplifies
that rounding a thousandfold; against a variance of 64 it stays far below the limit.
"""

FEW = 9
"""Up to how many weights a sum has that are kept away from zero.

Where dilation is larger than the map, one tap of a depthwise convolution is left. Near zero, it would leave a channel
without variance, and of that channel's normalisation nothing but the rounding of ε.
"""


def weight(entry: Entry) -> np.ndarray:
    """The values of one parameter or statistic, in its canonical layout."""
    draw, gain = generator(entry.name), GAIN if entry.normalised else 1
    if len(entry.shape) > 1:
        fan_in = math.prod(entry.shape[1:])
        values: np.ndarray = draw.standard_normal(entry.shape, dtype=np.float32)
        if fan_in <= FEW:
            values += np.copysign(np.float32(0.5), values)
        values *= gain * math.sqrt(2 / fan_in)
    elif entry.slot == "running_var":
        values = draw.uniform(0.5, 1.5, entry.shape) * gain**2
    elif entry.slot == "running_mean":
        values = draw.standard_normal(entry.shape) * (0.2 * gain)
    elif entry.slot == "weight":
        values = draw.uniform(0.5, 1.5, entry.shape)
    else:
        values = draw.standard_normal(entry.shape) * 0.2
    return values.astype(np.float32)


def unit(entry: Entry) -> float:
    """How much of a statistic's value is owed to the scale of the weights before it: 1 where they have none."""
    gain = GAIN if entry.normalised else 1
    return float(gain**2 if entry.slot == "running_var" else gain)


def image(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An input of this shape: noise, each image with a brightness and a contrast of its own.

    Without these, the images' means would agree, and batch normalisation of their 1×1 maps would divide
    by a variance near zero, where all that is left is the rounding of its epsilon.
    """
    draw = generator(f"input {name} {shape}")
    each = (*shape[:2], *(1 for _ in shape[2:]))
    contrast, brightness = draw.uniform(0.5, 2.0, each), draw.standard_normal(each)
    return (draw.standard_normal(shape) * contrast + brightness).astype(np.float32)


def generator(name: str) -> np.random.Generator:
    """NumPy's generator for a name."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
