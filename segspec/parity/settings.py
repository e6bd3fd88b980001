"""How networks are verified: what a command line, a plugin, or a task on another machine is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from segspec.parity.plan import Size
from segspec.parity.process import TIMEOUT

BATCH = 3
"""Three images: batch normalisation of two 1×1 maps has only ±1 to return, and its rounding to show."""
STEPS = 2
"""Steps of each optimiser."""


@dataclass(frozen=True)
class Settings:
    """How networks are verified: by default at sizes chosen for each, three images at a time, at the last size four.

    ``small`` takes the first of these sizes alone, at which as little as can be is coarse.
    ``python`` gives backends interpreters of their own; ``timeout`` is in seconds, for each pass. ``jobs`` is how many
    networks run at a time; the memory that they need adds up.
    """

    sizes: tuple[Size, ...] = ()
    batch: int | None = None
    steps: int = STEPS
    starts: bool = True
    small: bool = False
    python: Mapping[str, str] = field(default_factory=dict)
    timeout: float = TIMEOUT
    jobs: int = 1
