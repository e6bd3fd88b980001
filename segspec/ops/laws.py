"""The distributions that elements of a tensor start from: moments, distribution function and its inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias


@dataclass(frozen=True)
class Point:
    """One value, for sure."""

    value: float

    @property
    def mean(self) -> float:
        """The value."""
        return self.value

    @property
    def std(self) -> float:
        """None at all."""
        return 0.0

    def cdf(self, value: float) -> float:
        """The probability of at most ``value``."""
        return float(value >= self.value)

    def quantile(self, probability: float) -> float:
        """The value."""
        return self.value


@dataclass(frozen=True)
class Gaussian:
    """The normal distribution."""

    mean: float
    std: float

    def cdf(self, value: float) -> float:
        """The probability of at most ``value``."""
        return 0.5 * math.erfc((self.mean - value) / (self.std * math.sqrt(2)))

    def quantile(self, probability: float) -> float:
        """What is exceeded with 1 − ``probability``, which lies between 0 and 1."""
        return NormalDist(self.mean, self.std).inv_cdf(probability)


@dataclass(frozen=True)
class Interval:
    """The uniform distribution between two numbers."""

    low: float
    high: float

    @property
    def mean(self) -> float:
        """Midway between them."""
        return (self.low + self.high) / 2

    @property
    def std(self) -> float:
        """Their distance by √12."""
        return (self.high - self.low) / math.sqrt(12)

    def cdf(self, value: float) -> float:
        """The probability of at most ``value``."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def quantile(self, probability: float) -> float:
        """What is exceeded with 1 − ``probability``."""
        return self.low + probability * (self.high - self.low)


Law: TypeAlias = Point | Gaussian | Interval
